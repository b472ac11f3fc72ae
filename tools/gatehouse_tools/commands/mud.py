"""`gatehouse mud`: the network that devices need."""

from __future__ import annotations

import datetime
from pathlib import Path

import rich_click as click

from .. import mud, product, ui


@click.command("mud")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML: another configuration than new devices'."
)
@click.option("--board", metavar="NAME", help="The board it is for. Default: the product's first.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: dist/NAME.mud.json.")
@ui.product_option
@ui.json_option
def command(config: Path | None, board: str | None, output: Path | None, product_dir: str | None) -> None:
    """Write the Manufacturer Usage Description (RFC 8520): whom devices call, and that nobody else needs to reach them.
    A router that follows it keeps the rest away. Publish it at its mud-url.

    \b
    Example:
    $ gatehouse mud
    """
    item = product.find(product_dir)
    chosen = item.board(board)
    settled = mud.config(item, config)
    made = mud.make(item, chosen, settled, datetime.datetime.now(datetime.UTC))
    here = mud.loopback(settled)
    if here:
        ui.warn(f"{' and '.join(here)} on localhost: such a file is for trying only; set [device] of {product.FILE}")
    suffix = "" if chosen.name == item.boards[0] else f"-{chosen.name}"
    path = output or item.dist / f"{item.name}{suffix}.mud.json"
    product.make_folder(path.parent)
    product.write(path, product.json_bytes(made))
    ui.show(f"{path}", "bold")
    ui.rows(
        [
            (peer.name, f"{peer.host}, {'TCP' if peer.protocol == 6 else 'UDP'} {peer.port}")
            for peer in mud.peers(settled)
        ],
        "  ",
    )
    ui.show(f"Publish it at {mud.url(item)}")
    ui.result({"ok": True, "file": str(path), "mud": made})
