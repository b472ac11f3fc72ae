"""`gatehouse init DIR`: a new product."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import rich_click as click

from .. import ca, product, ui
from ..errors import UsageError


@click.command("init")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="The product's name, in file names and releases. Default: the folder's.")
@click.option(
    "--domain",
    metavar="DOMAIN",
    default="gatehouse.example",
    show_default=True,
    help="The vendor's domain; vendor and class ids follow from it, for ever.",
)
@click.option("--board", "boards", metavar="BOARD", multiple=True, help="A folder of boards/; repeat for several.")
@click.option("--contact", metavar="MAIL", help="Where to report vulnerabilities. Default: security@DOMAIN.")
@click.option("--broker-host", "hosts", metavar="HOST", multiple=True, help="A name of the broker besides localhost.")
@ui.json_option
def command(
    directory: Path, name: str | None, domain: str, boards: tuple[str, ...], contact: str | None, hosts: tuple[str, ...]
) -> None:
    """Make a new product in DIR: signing keys (ECDSA P-256) for root, release and operator, a certificate authority
    with the certificates of the broker and of the host tools, and product.toml. Nothing is ever overwritten.

    \b
    Example:
    $ gatehouse init shop --name door-sensor --domain example.com --board unix
    """
    if name is None:
        name = re.sub(r"[^a-z0-9-]+", "-", directory.resolve().name.lower()).strip("-")[: product.MAX_NAME].strip("-")
        if not name:
            raise UsageError(f"{directory}: no product name can be made of the folder's; give --name")
    made = product.create(directory, name, domain, list(boards or ("unix",)), contact)
    made += ca.create(directory / "ca", name, hosts)
    item = product.Product(directory.resolve())
    authority = ca.load_certificate(item.ca / "ca.pem").not_valid_after_utc.date()
    tools = ca.load_certificate(item.ca / "host.pem").not_valid_after_utc.date()
    _tell(item, directory, made, authority, tools)
    ui.result(
        {
            "ok": True,
            "product": str(item.root),
            "name": item.name,
            "vendor_id": str(item.vendor_id),
            "classes": {board: str(item.class_id(item.board(board))) for board in item.boards},
            "keys": {role: key.kid.hex() for role, key in item.public_keys().items()},
            "authority_until": authority.isoformat(),
            "broker_and_host_until": tools.isoformat(),
            "files": [str(path) for path in made],
        }
    )


def _tell(
    item: product.Product, directory: Path, made: list[Path], authority: datetime.date, tools: datetime.date
) -> None:
    ui.show(f"Product {item.name} in {directory}", "bold")
    ui.rows([("vendor id", f"{item.vendor_id} (from {item.domain})")], "  ")
    for name in item.boards:
        board = item.board(name)
        ui.rows([("class id", f" {item.class_id(board)} (board {board.model})")], "  ")
    ui.show()
    words = {
        "product.toml": "settings; keep under version control",
        ".gitignore": "keeps keys and devices out of git",
        "root.pem": "SECRET signs trust anchors; keep it offline",
        "release.pem": "SECRET signs releases",
        "operator.pem": "SECRET signs configurations",
        "ca.pem": f"certificate authority, valid until {authority}",
        "ca-key.pem": "SECRET issues the certificates of devices",
        "broker.pem": f"the broker's certificate (localhost), valid until {tools}",
        "broker-key.pem": "SECRET the broker's key",
        "host.pem": f"the certificate of these tools, valid until {tools}",
        "host-key.pem": "SECRET its key",
    }
    ui.rows([(str(path.relative_to(directory)), words[path.name]) for path in made], "  ")
    ui.show()
    ui.show("Back up keys/ and ca/ now, encrypted and somewhere else: without root.pem no device can ever be given")
    ui.show("new keys, without release.pem none can be updated. Certificates of broker and host expire; keys do not.")
    ui.show()
    ui.show(f"Next: cd {directory} && gatehouse release --version 1.0.0")
