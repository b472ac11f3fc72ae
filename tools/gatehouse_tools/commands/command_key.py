"""`gatehouse command-key`: the key of one role and client, for a person who must not have the device key."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from .. import product, remote, ui


@click.command("command-key")
@click.argument("device", metavar="ID")
@click.option("--role", type=click.Choice(remote.ROLES), required=True, help="What its holder may do.")
@click.option("--client", metavar="NAME", required=True, help="Whose it is: a name for each person and computer.")
@click.option("--epoch", type=click.IntRange(0), metavar="N", help="The device's owner epoch. Default: its image's.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Default: ID-ROLE-NAME.json, here.")
@ui.product_option
@ui.json_option
def command(device: str, role: str, client: str, epoch: int | None, out: Path | None, product_dir: str | None) -> None:
    """Write the key by which one client commands the device ID in one role, for `gatehouse send --key FILE`. It is
    derived from the device key in devices/ID/flash.bin, opens nothing else, and ends with the owner epoch.

    \b
    Example:
    $ gatehouse command-key gh-1f3a90c2 --role operator --client anna
    """
    item = product.find(product_dir)
    key = remote.derive(item, device, role, client, epoch)
    path = out or Path(f"{device}-{role}-{client}.json")
    key.save(path)
    ui.show(f"{path}  {role} {client} of {device}, owner epoch {key.epoch}")
    ui.say(f"Whoever has this file is {role} of {device}: hand it over on a safe way. A new owner epoch ends it.")
    ui.result({"ok": True, "file": str(path), "device": device, "role": role, "client": client, "epoch": key.epoch})
