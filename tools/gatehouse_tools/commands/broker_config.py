"""`gatehouse broker-config`: a Mosquitto configuration in which each device has its own topics only."""

from __future__ import annotations

import shlex
from pathlib import Path

import rich_click as click

from .. import broker, product, ui
from ..errors import GatehouseError


@click.command("broker-config")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("mosquitto"), show_default=True,
              metavar="DIR", help="Where mosquitto.conf and acl.txt go; made when it is not there.")  # fmt: skip
@click.option("--listen", metavar="ADDRESS", help="The address to listen on. Default: all.")
@click.option("--port", type=click.IntRange(1, 65535), help="TLS port. Default: that of product.toml.")
@click.option(
    "--cert", type=click.Path(path_type=Path), metavar="FILE", help="Its certificate. Default: ca/broker.pem."
)
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Its key. Default: ca/broker-key.pem.")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR",
              help="Keep retained offers there over a restart. Default: in memory only.")  # fmt: skip
@click.option("--user", metavar="NAME", help="Who Mosquitto becomes when root starts it; has to read key and list.")
@click.option("--acl-plugin", "plugin", type=click.Path(path_type=Path), metavar="FILE",
              help="mosquitto_acl_file.so of Mosquitto 2.1, which calls the option acl_file deprecated.")  # fmt: skip
@ui.product_option
@ui.json_option
def command(
    folder: Path,
    listen: str | None,
    port: int | None,
    cert: Path | None,
    key: Path | None,
    data: Path | None,
    user: str | None,
    plugin: Path | None,
    product_dir: str | None,
) -> None:
    """Write the configuration of a Mosquitto (2.0 or 2.1) for the product: TLS only, the common name of a client's
    certificate is who it is, and the access list lets a device touch its own topics and nothing else. The list comes
    from the table of topics that devices use. Files that are there are replaced.

    \b
    Example:
    $ gatehouse broker-config --dir mosquitto
    $ mosquitto -c mosquitto/mosquitto.conf
    """
    item = product.find(product_dir)
    files = [item.ca / "ca.pem", cert or item.ca / "broker.pem", key or item.ca / "broker-key.pem"]
    for path in files:
        if not path.is_file():
            raise GatehouseError(f"{path} is missing: restore it, or name another file", "key")
    product.make_folder(folder)
    acl, config = folder.resolve() / "acl.txt", folder.resolve() / "mosquitto.conf"
    broker.write_acl(acl)
    listeners = [(port or int(item.device.get("port", product.BROKER_PORT)), "mqtt")]
    trusted, shown, secret = [path.resolve() for path in files]
    lines = broker.mosquitto_config(listeners, listen, trusted, shown, secret, acl, plugin, data, user)
    product.write(config, "\n".join(["# By `gatehouse broker-config`, which replaces it.", *lines, ""]).encode())
    for path in (config, acl):
        ui.show(str(path))
    ui.say(f"mosquitto has to read {secret} and {acl}; then: mosquitto -c {shlex.quote(str(config))}")
    ui.result({"ok": True, "config": str(config), "acl": str(acl), "port": listeners[0][0]})
