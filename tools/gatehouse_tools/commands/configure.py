"""`gatehouse configure`: sign a configuration."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from .. import build, identity, product, ui
from . import release


@click.command("configure")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--board", metavar="NAME", help="The board it is for. Default: the product's first.")
@click.option("--description", metavar="TEXT", help="A sentence for people, in the manifest's text.")
@ui.product_option
@ui.json_option
def command(file: Path, board: str | None, description: str | None, product_dir: str | None) -> None:
    """Sign the configuration in FILE for devices that are out there: dist/NAME-config-SEQUENCE.suit, by the operator's
    key. Devices try it and go back by themselves when it does not work. It takes the place of the whole configuration
    before: what FILE does not name takes the device's own default.

    \b
    Example:
    $ cat winter.toml
    broker = "broker.example.com"
    base_url = "http://packs.example.com/"
    groups = ["all"]
    report_seconds = 600
    updates = true
    window = [120, 60]   # from 02:00 UTC, for an hour
    $ gatehouse configure winter.toml
    $ gatehouse publish dist/shop-config-1790000000.suit --group all
    """
    item = product.find(product_dir)
    config = identity.load_config(file)
    if config.broker is None:
        ui.warn(f"{file} names no broker: devices would take localhost, not reach it, and go back")
    release.show(item, build.configure(item, item.board(board), config.payload(), description))
