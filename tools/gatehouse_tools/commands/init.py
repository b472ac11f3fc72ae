"""`gatehouse init DIR`: a new product."""

from __future__ import annotations

import datetime
import re
import shlex
from pathlib import Path

import rich_click as click

from .. import ca, lms_keys, product, ui
from ..errors import UsageError

_KINDS = {"ecdsa": ("ecdsa",), "lms": ("lms",), "both": ("ecdsa", "lms")}


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
@click.option(
    "--root", type=click.Choice(list(_KINDS)), default="lms", show_default=True, help="Algorithm of the root key."
)
@click.option(
    "--release", type=click.Choice(list(_KINDS)), default="ecdsa", show_default=True,
    help="Algorithm of the release key; with both, devices ask for both.",
)  # fmt: skip
@click.option(
    "--lms", "lms_set", default="H10/W4", show_default=True, metavar="SET",
    help="Height, width and hash length of HSS/LMS keys: 2 to the height is how many signatures there are.",
)  # fmt: skip
@click.option("--broker-host", "hosts", metavar="HOST", multiple=True, help="A name of the broker besides localhost.")
@ui.json_option
def command(
    directory: Path,
    name: str | None,
    domain: str,
    boards: tuple[str, ...],
    contact: str | None,
    root: str,
    release: str,
    lms_set: str,
    hosts: tuple[str, ...],
) -> None:
    """Make a new product in DIR: signing keys for root (HSS/LMS), release and operator (ECDSA P-256), a certificate
    authority with the certificates of the broker and of the host tools, and product.toml. Nothing is ever overwritten.

    \b
    Example:
    $ gatehouse init shop --name door-sensor --domain example.com --board unix
    """
    if name is None:
        name = re.sub(r"[^a-z0-9-]+", "-", directory.resolve().name.lower()).strip("-")[: product.MAX_NAME].strip("-")
        if not name:
            raise UsageError(f"{directory}: no product name can be made of the folder's; give --name")
    parameters = lms_keys.Parameters.parse(lms_set)
    for host in hosts:
        ca.check_host(host)  # before anything is made
    kinds = {"root": _KINDS[root], "release": _KINDS[release]}
    trees = sum("lms" in kind for kind in kinds.values())
    with ui.bar("making HSS/LMS keys", max(1, trees * parameters.leaves)) as step:
        made = product.create(directory, name, domain, list(boards or ("unix",)), contact, kinds, parameters, step)
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
        "ca.pem": f"certificate authority, valid until {authority}",
        "ca-key.pem": "SECRET issues the certificates of devices",
        "broker.pem": f"the broker's certificate (localhost), valid until {tools}",
        "broker-key.pem": "SECRET the broker's key",
        "host.pem": f"the certificate of these tools, valid until {tools}",
        "host-key.pem": "SECRET its key",
    }
    ui.rows([(str(path.relative_to(directory)), words.get(path.name) or _key_words(path)) for path in made], "  ")
    ui.show()
    ui.show("Back up keys/ and ca/ now, encrypted and somewhere else: without a root key no device can ever be given")
    ui.show("new keys, without a release key none can be updated. Certificates of broker and host expire; keys do not.")
    if any(path.suffix == ".lms" for path in made):
        ui.show("An HSS/LMS key never signs from an old copy: before a restored one is used, read docs/keys.md.")
    ui.show()
    ui.show(f"Next: cd {shlex.quote(str(directory))} && gatehouse release --version 1.0.0")


def _key_words(path: Path) -> str:
    """What a signing key's file is for."""
    role = path.name.partition(".")[0]
    signs = {"root": "signs trust anchors; keep it offline", "release": "signs releases"}
    told = {".state": "how many of its signatures are used; never restore an old one", ".pub": "its public half"}
    return told.get(path.suffix) or f"SECRET {signs.get(role, 'signs configurations')}"
