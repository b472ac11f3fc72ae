"""`gatehouse statement`: what customers are told."""

from __future__ import annotations

import datetime
from pathlib import Path

import rich_click as click

from .. import product, statement, ui


@click.command("statement")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Default: dist/ of the product.")
@ui.product_option
@ui.json_option
def command(output: Path | None, product_dir: str | None) -> None:
    """Write the security statement for customers, from product.toml and what was released: NAME-statement.html, which
    prints well, NAME-statement.md, and security.txt (RFC 9116). It is refused while a field is missing or still says
    FILL IN.

    \b
    Example:
    $ gatehouse statement
    """
    item = product.find(product_dir)
    today = datetime.datetime.now(datetime.UTC).date()
    made = statement.make(item, today)
    for text in made.warnings:
        ui.warn(text)
    folder = output or item.dist
    product.make_folder(folder)
    files = {
        folder / f"{item.name}-statement.html": statement.page(made),
        folder / f"{item.name}-statement.md": statement.markdown(made),
        folder / "security.txt": statement.security_txt(item, today),
    }
    for path, text in files.items():
        product.write(path, text.encode())
        ui.show(str(path))
    ui.show(f"Publish security.txt at https://{item.domain}/.well-known/security.txt, anew within a year.")
    ui.result({"ok": True, "files": [str(path) for path in files], "warnings": made.warnings})
