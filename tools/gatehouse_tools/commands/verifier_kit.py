"""`gatehouse verifier-kit`: what somebody needs who may see what devices report, and command nothing."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from cryptography.hazmat.primitives.serialization import Encoding

from .. import ca, keys, product, topics, ui
from ..errors import GatehouseError

KEYS = ("report_key", "journal_keys")  # of secrets.json: they verify, and open nothing


@click.command("verifier-kit")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--days", type=click.IntRange(1), default=ca.HOST_DAYS, show_default=True, help="How long it is valid.")
@ui.product_option
@ui.json_option
def command(folder: Path, days: int, product_dir: str | None) -> None:
    """Write a folder for `gatehouse watch --product DIR` and `gatehouse collect --product DIR` on another machine: the
    keys that verify each device's reports, and a certificate with which the broker lets its holder read them and send
    nonces. No signing key, no device key, no command key, no password of a label is in it.

    A kit that is there gets the devices that it lacks, and the keys of a new owner.

    \b
    Example:
    $ gatehouse verifier-kit kit
    """
    item = product.find(product_dir)
    fresh = not (folder / product.FILE).exists()
    if fresh and folder.exists() and any(folder.iterdir()):
        raise GatehouseError(f"{folder} holds something else: choose a new folder")
    if not fresh and ((folder / "keys").exists() or folder.resolve() == item.root):
        raise GatehouseError(f"{folder} is a product, and no kit: choose a new folder")
    product.make_folder(folder, secret=True)
    product.make_folder(folder / "ca")
    product.write(folder / "ca" / "ca.pem", product.read(item.ca / "ca.pem"))
    if not (folder / "ca" / "host.pem").exists():
        issued = ca.Authority(item.ca).issue(topics.VERIFIER, days=days)
        keys.save(keys.Signer(issued.key), folder / "ca" / "host-key.pem")
        product.write_new(folder / "ca" / "host.pem", issued.certificate.public_bytes(Encoding.PEM))
    product.session_secret(item.ca)
    (folder / "ca" / product.SESSION_KEY).unlink(missing_ok=True)
    product.write_new(folder / "ca" / product.SESSION_KEY, product.read(item.ca / product.SESSION_KEY), secret=True)
    devices = [path for path in item.device_folders() if (path / "secrets.json").is_file()]
    for path in devices:
        made = folder / "devices" / path.name
        product.make_folder(made, secret=True)
        private = product.read_json(path / "secrets.json")
        (made / "secrets.json").unlink(missing_ok=True)
        kept = {name: private[name] for name in KEYS if name in private}
        product.write_new(made / "secrets.json", product.json_bytes(kept), secret=True)
        product.write(made / "device.json", product.read(path / "device.json"))
    product.write(folder / product.FILE, product.read(item.root / product.FILE))  # last: with it the kit is complete
    ui.show(f"{folder}  {len(devices)} devices")
    ui.say(f"Whoever has it sees the fleet: gatehouse watch --product {folder}")
    ui.result({"ok": True, "folder": str(folder), "devices": [path.name for path in devices]})
