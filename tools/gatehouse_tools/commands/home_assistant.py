"""`gatehouse home-assistant`: the certificate by which Home Assistant reaches the product's broker."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from .. import ca, product, topics, ui


@click.command("home-assistant")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("home-assistant"), show_default=True,
              metavar="DIR", help="Where the files go; made when it is not there.")  # fmt: skip
@click.option("--days", type=click.IntRange(1), default=ca.HOST_DAYS, show_default=True, help="How long it is valid.")
@ui.product_option
@ui.json_option
def command(folder: Path, days: int, product_dir: str | None) -> None:
    """Make Home Assistant's certificate for the product's broker, and say what to enter where. With it Home Assistant
    reads the states of devices whose policy opens `home-assistant` to it, and may ask them to install an update that
    they hold back. It reads no reports and sends no commands.

    \b
    Example:
    $ gatehouse home-assistant --dir home-assistant
    """
    item = product.find(product_dir)
    certificate, key = ca.client_files(item.ca, folder, topics.HOME_ASSISTANT, days)
    trusted = item.ca / "ca.pem"
    port = int(item.device.get("port", product.BROKER_PORT))
    ui.say("Settings > Devices & services > Add integration > MQTT, with advanced options:")
    ui.show(f"port                 {port}, of the broker that devices use")
    ui.show(f"client certificate   {certificate}")
    ui.show(f"private key          {key}")
    ui.show(f"broker certificate   {trusted}  (validation: custom)")
    ui.say('Devices appear once their configuration has "home-assistant" in `interfaces`: docs/home-assistant.md.')
    ui.result({"ok": True, "certificate": str(certificate), "key": str(key), "authority": str(trusted), "port": port})
