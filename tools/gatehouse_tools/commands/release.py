"""`gatehouse release`: build and sign."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from .. import build, keys, product, ui
from . import build as build_command


@click.command("release")
@click.option("--version", required=True, metavar="X.Y.Z", help="The release's version; each is signed once.")
@click.option("--sequence", type=click.IntRange(1), metavar="N", help="Sequence number. Default: now, in Unix seconds.")
@click.option("--expires", type=click.FloatRange(0, min_open=True), metavar="DAYS", help="No device installs it later.")
@click.option("--board", metavar="NAME", help="The board it is for. Default: the product's first.")
@click.option("--key", type=click.Path(path_type=Path), metavar="PATH", help="Signing key. Default: keys/release.pem.")
@click.option("--description", metavar="TEXT", help="A sentence for people, in the manifest's text.")
@click.option("--source", type=click.Path(path_type=Path), metavar="DIR", help="Other source than the product's.")
@ui.product_option
@ui.json_option
def command(
    version: str,
    sequence: int | None,
    expires: float | None,
    board: str | None,
    key: Path | None,
    description: str | None,
    source: Path | None,
    product_dir: str | None,
) -> None:
    """Build the application and sign it: dist/NAME-X.Y.Z.suit, the manifest that devices are offered, and the pack
    beside it, which any HTTP server can hold. The sequence number only grows: devices go no other way.

    \b
    Example:
    $ gatehouse release --version 1.1.0 --expires 90 --description "Fixes the frost alarm"
    """
    item = product.find(product_dir)
    product.check_version(version)
    chosen = item.board(board)
    signer = keys.load(key) if key else item.signer("release")
    if signer.key not in item.public_keys().values():
        ui.warn(f"{key} is no key of {item.name}: its devices will refuse this release")
    made = build.release(
        item,
        build_command.run(item, version, source),
        version,
        board=chosen,
        sequence=sequence,
        expires_days=expires,
        signer=signer,
        description=description,
    )
    build_command.show(made.built, made.pack)
    ui.show()
    ui.show(f"Signed {made.envelope}", "bold")
    ui.rows(
        [
            ("sequence", f"{made.sequence} ({ui.when(made.sequence)})"),
            ("manifest", f"sha-256:{made.digest.hex()}"),
            ("signer", f"key id {made.signer.kid.hex()}"),
            ("board", f"{made.board.model}, class id {item.class_id(made.board)}"),
            ("use before", ui.when(made.until) if made.until else "no limit"),
        ],
        "  ",
    )
    ui.show()
    ui.show(f"Next: gatehouse publish {made.envelope.relative_to(item.root)} --device ID")
    ui.result(
        {
            "ok": True,
            "envelope": str(made.envelope),
            "pack": str(made.pack),
            "sequence": made.sequence,
            "digest": made.digest.hex(),
            "signer": made.signer.kid.hex(),
            "board": made.board.name,
            "class_id": str(item.class_id(made.board)),
            "use_before": made.until,
            **build_command.facts(made.built),
        }
    )
