"""`gatehouse provision`: make a device."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import rich_click as click

from .. import identity, mud, product, releases, ui
from ..errors import GatehouseError, UsageError

_POLICY = (  # settings of [device] as they are
    *("updates", "auto_download", "auto_install", "notify", "window"),
    *("interfaces", "lockout", "session", "repl_seconds", "bounds"),
)


@click.command("provision")
@click.option("--board", metavar="NAME", help="Its board. Default: the product's first.")
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="N", help="How many.")
@click.option("--id", "device", metavar="ID", help="Its id. Default: gh- and eight random digits.")
@click.option("--slot-release", type=click.Path(path_type=Path), metavar="FILE", help="Release. Default: the newest.")
@click.option(
    "--wifi", "--credentials", "credentials", type=click.Path(path_type=Path), metavar="FILE",
    help="TOML with ssid and password, perhaps broker_user and broker_password. Default: asked for.",
)  # fmt: skip
@click.option("--production", is_flag=True, help="Also the parts for a production build: encrypted NVS and its keys.")
@click.option("--broker", metavar="HOST[:PORT]", help="Its MQTT broker. Default: product.toml.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="P", help="The broker's port.")
@click.option("--base-url", metavar="URL", help="Where packs are: http://, https:// or mqtt:. Default: product.toml.")
@click.option("--ntp", metavar="HOST[:PORT]", help="Its time server. Default: product.toml.")
@click.option("--group", "groups", metavar="NAME", multiple=True, help="A group whose offers it takes; repeatable.")
@click.option("--report-seconds", type=int, metavar="N", help="Between two reports, where nothing changes.")
@click.option("--sensor-seconds", type=int, metavar="N", help="Between two readings.")
@click.option("--trial-seconds", type=int, metavar="N", help="How long a new release may take to prove its health.")
@click.option("--keepalive-seconds", type=int, metavar="N", help="MQTT keep-alive.")
@click.option("--watchdog-ms", type=int, metavar="N", help="The watchdog's timeout.")
@click.option("--set", "others", metavar="NAME=VALUE", multiple=True, help="Any setting of its configuration.")
@ui.product_option
@ui.json_option
def command(
    board: str | None,
    count: int,
    device: str | None,
    slot_release: Path | None,
    credentials: Path | None,
    production: bool,
    broker: str | None,
    port: int | None,
    base_url: str | None,
    ntp: str | None,
    groups: tuple[str, ...],
    report_seconds: int | None,
    sensor_seconds: int | None,
    trial_seconds: int | None,
    keepalive_seconds: int | None,
    watchdog_ms: int | None,
    others: tuple[str, ...],
    product_dir: str | None,
) -> None:
    """Make a device: a random device key, a certificate for its id, signed trust anchors and configuration, the flash
    image with a release, devices/ID/flash.bin, its label, and its line in inventory.jsonl. Passwords come from a prompt
    or a file, never from arguments.

    \b
    Example:
    $ gatehouse provision --count 3 --broker broker.example.com --group greenhouse
    """
    item = product.find(product_dir)
    if device and count > 1:
        raise UsageError("--id names one device; leave it out with --count")
    kind = item.board(board)
    settings = item.device
    host, host_port = identity.host_and_port(
        broker or str(settings.get("broker", "localhost")), port or settings.get("port", product.BROKER_PORT), "broker"
    )
    time_host, time_port = identity.host_and_port(ntp or str(settings.get("ntp", "pool.ntp.org")), 123, "time server")
    config = identity.Config(
        broker=host,
        port=host_port,
        base_url=identity.folder_url(base_url or str(settings.get("base_url", product.BASE_URL))),
        ntp=time_host,
        ntp_port=time_port,
        groups=list(groups) or settings.get("groups"),
        report_seconds=report_seconds,
        sensor_seconds=sensor_seconds,
        trial_seconds=trial_seconds,
        watchdog_ms=watchdog_ms,
        keepalive_seconds=keepalive_seconds,
    )
    try:
        config.payload()
    except GatehouseError as error:
        raise UsageError(str(error)) from None
    settled = {name: settings[name] for name in _POLICY if name in settings}
    config = identity.change_config(config, settled, f"{product.FILE}, [device]")
    config = identity.change_config(config, dict(map(identity.setting, others)), "--set")
    release = releases.load(item, kind, slot_release)
    joined = joining(kind, credentials)
    here = mud.loopback(config) if kind.chip != identity.SIMULATED else []
    if here:
        told = f"{' and '.join(here)} on localhost, where a board finds only itself"
        ui.warn(f"{told}: set [device] of {product.FILE}, or give --broker and --base-url")
    made: list[identity.Device] = []
    try:
        for _ in ui.progress(range(count), "provisioning"):
            made.append(identity.provision(item, kind, release, config, joined, device, production))
            _show(made[-1])
    except (KeyboardInterrupt, GatehouseError):
        if made:
            ui.warn(f"{len(made)} of {count} devices are made, and complete; for the rest: --count {count - len(made)}")
        raise
    ui.show()
    ui.show("flash.bin, secrets.json and label.* are secret. Keep secrets.json: its key verifies the device's reports,")
    ui.show("and its label_password belongs on the device's label: nobody else knows it, the device neither.")
    if kind.chip != identity.SIMULATED:
        ui.show(f"Next: gatehouse flash --device {made[-1].id} --port PORT")
    ui.result({"ok": True, "devices": [one.facts | {"folder": str(one.folder)} for one in made]})


def joining(board: product.Board, path: Path | None) -> identity.Credentials:
    """How a device joins: of a file, of the simulated network, or asked for at the terminal."""
    if path:
        loaded = identity.load_credentials(path)
        if path.stat().st_mode & 0o077:
            ui.warn(f"{path} can be read by other users of this machine: chmod 600 {shlex.quote(str(path))}")
        return loaded
    if board.data.get("chip") == identity.SIMULATED:
        return identity.Credentials(*identity.SIMULATED_WIFI)
    if not sys.stdin.isatty():
        raise UsageError("the Wi-Fi name and password are asked for at a terminal; elsewhere give --wifi FILE")
    name = click.prompt("Wi-Fi name", err=True)
    password = click.prompt("Wi-Fi password", hide_input=True, default="", show_default=False, err=True)
    joined = identity.Credentials(name, password)  # before more is asked: it tells what is wrong with these
    user = click.prompt("Broker's user (none: the certificate does)", default="", show_default=False, err=True)
    if not user:
        return joined
    return identity.Credentials(name, password, user, click.prompt("Broker's password", hide_input=True, err=True))


def _show(device: identity.Device) -> None:
    facts, release = device.facts, device.facts["release"]
    ui.show(f"Device {device.id}", "bold")
    ui.rows(
        [
            ("uuid", facts["uuid"]),
            ("board", f"{facts['model']}, class id {facts['class_id']}"),
            ("release", f"{release['name']} {release['version']}, sequence {release['sequence']}"),
            ("broker", f"{facts['broker']}, certificate valid until {facts['certificate_until']}"),
            ("groups", ", ".join(facts["groups"]) or "none"),
            ("flash image", str(device.folder / "flash.bin")),
        ],
        "  ",
    )
