"""`gatehouse collect`: what devices report, verified and kept in a database."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import rich_click as click

from .. import collector, journal, product, publish, reports, ui
from ..database import Database
from ..errors import GatehouseError, UsageError

CONNECT_S = 10.0
TELL_S = 60.0  # between lines that say how much there was
GROUP = "collect"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")


@click.command("collect")
@click.option("--database", "url", metavar="URL", default="sqlite:///reports.db", show_default=True,
              help="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.")  # fmt: skip
@click.option("--broker", metavar="HOST[:PORT]", help="The MQTT broker, for MQTT 5. Default: product.toml.")
@click.option("--group", metavar="NAME", default=GROUP, show_default=True,
              help="Collectors of one group share the messages.")  # fmt: skip
@click.option("--name", metavar="NAME", default="1", show_default=True,
              help="This one among them; the broker keeps what comes for it while it is away.")  # fmt: skip
@click.option("--idle", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="End when nothing has come for so long: to take what is kept for a NAME that is gone.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="End after this time.")
@ui.product_option
@ui.json_option
def command(
    url: str,
    broker: str | None,
    group: str,
    name: str,
    idle: float | None,
    timeout: float | None,
    product_dir: str | None,
) -> None:
    """Keep the reports, journals and summaries of all devices in a database. Each report is verified first, as by
    `gatehouse watch`; what is refused is counted with its reason. A message is acknowledged to the broker after the
    commit: start several with one --group and names of their own, and none of them loses anything when it is killed.

    \b
    Example:
    $ gatehouse collect --database sqlite:///reports.db
    $ gatehouse collect --database postgresql+psycopg://gatehouse@db/reports --name b
    """
    for text, what in ((group, "--group"), (name, "--name")):
        if not _NAME.fullmatch(text):
            raise UsageError(f"{what} {text!r}: letters, digits, '-', '_' and '.', at most 32")
    item = product.find(product_dir)
    host, port = publish.broker_address(item, broker)
    database = Database(url)
    try:
        devices = reports.known_devices(item.devices)
        if not devices:
            ui.warn(f"{item.name} has no device yet: its reports are refused until gatehouse provision has made one")
        judge = collector.Judge(devices, _devices_anew(item, devices), database.newest)
        where = f"broker {host}:{port}"
        inbox = collector.Inbox(group, name, publish.tls_context(item), lambda text: ui.say(f"{where}: {text}"),
                                secret=product.session_secret(item.ca))  # fmt: skip
        taker = collector.Collector(inbox, judge, database, ui.say, keys=_journal_keys(item))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: taker.stop.set())
        try:
            inbox.open(host, port, CONNECT_S)
            taker.run(idle, timeout, _teller(taker, database))
        except (OSError, ValueError) as error:
            raise GatehouseError(f"{where}: {publish.network_words(error)}", "network") from None
        finally:
            inbox.close()
    finally:
        database.close()
    refused = sum(taker.refused.values())
    ui.show(f"{database.new} new reports, {database.known} known ones, {refused} messages refused: {database.shown}")
    ui.result({"ok": True, "messages": taker.messages, "reports": database.new, "known": database.known,
               "refused": refused, "database": database.shown})  # fmt: skip


def _devices_anew(
    item: product.Product, held: Mapping[str, reports.Device]
) -> Callable[[], Mapping[str, reports.Device]]:
    """The devices as they are now; of one whose files are damaged meanwhile, which is told once, what they said before.

    What it reports, and what others do, must not be refused for it: the broker would not bring it again.
    """
    told: set[str] = set()

    def devices() -> Mapping[str, reports.Device]:
        nonlocal held
        kept = {}

        def damaged(device: str, error: GatehouseError) -> None:
            if device in held:
                kept[device] = held[device]
            if str(error) not in told:
                told.add(str(error))
                ui.warn(f"{error}" + ("; what it said before holds" if device in held else ""))

        held = reports.known_devices(item.devices, damaged) | kept
        return held

    return devices


def _journal_keys(item: product.Product) -> Callable[[str], Mapping[int, bytes]]:
    """The journal keys of a device as they are now: a file that has changed is read again, a bad one is told once."""
    held: dict[str, tuple[tuple[int, ...], Mapping[int, bytes]]] = {}

    def keys(device: str) -> Mapping[int, bytes]:
        stamp = tuple(_changed(item.devices / device / name) for name in ("secrets.json", "flash.bin"))
        if device not in held or held[device][0] != stamp:
            found: Mapping[int, bytes] = {}
            try:
                found = journal.keys_of(item, device)
            except GatehouseError as error:
                if error.reason != journal.KEY:  # without one they are kept elsewhere, or come later
                    ui.warn(f"journal entries of {device} are kept, but not looked at: {error}")
            held[device] = stamp, found
        return held[device][1]

    return keys


def _changed(path: Path) -> int:
    """When a file was changed, in nanoseconds; 0 where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _teller(taker: collector.Collector, database: Database) -> Callable[[], None]:
    told = [time.monotonic(), 0.0]

    def tell() -> None:
        if time.monotonic() - told[0] >= TELL_S:
            if taker.messages > told[1]:
                ui.say(f"{database.new} new reports, {database.known} known ones")
            told[:] = time.monotonic(), taker.messages

    return tell
