"""`gatehouse inspect`: what a file is, in words."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from .. import inspect_files, product, ui
from ..errors import UsageError


@click.command("inspect")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@ui.product_option
@ui.json_option
def command(file: Path, product_dir: str | None) -> int:
    """Print any envelope, pack, index, report, boot record, NVS or flash image in words and verify it: digests, every
    file, and inside a product folder the signatures. Exit code 1 when something is wrong with it.

    \b
    Example:
    $ gatehouse inspect dist/shop-1.0.0.suit
    """
    try:
        item = product.find(product_dir, file)
    except UsageError:
        if product_dir:
            raise
        item = None
    found = inspect_files.inspect(file, item)
    ui.show(f"{file}: {found.kind}", "bold")
    for title, rows in found.sections:
        ui.show()
        ui.show(title, "bold")
        ui.rows(rows, "  ")
    ui.show()
    for note in found.notes:
        ui.show(note, "yellow")
    for problem in found.problems:
        ui.show(f"WRONG: {problem}" + (f" [{problem.reason}]" if problem.reason else ""), "red")
    if not found.problems:
        ui.show("nothing wrong found", "green")
    ui.result(
        {
            "ok": not found.problems,
            "kind": found.kind,
            "problems": [{"error": str(one), "reason": one.reason} for one in found.problems],
            "notes": found.notes,
            **found.facts,
        }
    )
    return 1 if found.problems else 0
