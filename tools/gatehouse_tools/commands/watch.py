"""`gatehouse watch`: the fleet, live, every report verified."""

from __future__ import annotations

import contextlib
import json
import queue
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import rich_click as click
from paho.mqtt import client as mqtt
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .. import fleet, product, publish, reports, topics, ui
from ..errors import GatehouseError

CONNECT_S = 10.0
KEEPALIVE_S = 30
ONCE_S = 330.0  # a device reports every 300 s unless it is told otherwise
PIPE_WIDTH = 300  # where nobody sees a line break, none is made
TICK_S = 1.0  # between drawings, so that "5 s ago" goes on
WAITING = 5000  # messages; at most 82 MB. A fleet's retained reports come at once
BURST = 200  # messages taken between two drawings

Message = tuple[str, bytes, bool]  # topic, payload, retained


class Inbox(queue.Queue["Message | str"]):
    """The reports and status messages of all devices; a text in it says what happened to the connection."""

    def __init__(self, client: mqtt.Client) -> None:
        super().__init__()
        self._client = client
        self._left_out = 0

    def arrived(self, topic: str, payload: bytes, retained: bool) -> None:
        """Keep a message until it is judged. In a flood those are left out that find no room, and that is told."""
        if self.qsize() >= WAITING:
            self._left_out += 1
            return
        if self._left_out:
            told, self._left_out = self._left_out, 0
            self.put(f"{told} messages came faster than they could be verified, and were left out")
        self.put((topic, payload[: reports.MAX_REPORT + 1], retained))

    def publish(self, topic: str, payload: bytes) -> None:
        """Send at QoS 1, if the broker is there now: what waited for it would come too late."""
        if self._client.is_connected():
            self._client.publish(topic, payload, 1)


@click.command("watch")
@click.option("--device", "devices", metavar="ID", multiple=True, help="Only this device; repeatable.")
@click.option("--broker", metavar="HOST[:PORT]", help="The MQTT broker. Default: product.toml.")
@click.option("--once", is_flag=True, help="End as soon as each device has been verified; exit 1 if one could not be.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help=f"End after this time. Default: {ONCE_S:.0f} with --once, else never.",
)
@click.option("--passive", is_flag=True, help="Send no nonces: only listen.")
@ui.product_option
@click.option(
    "--json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda _context, _parameter, value: ui.set_json(value),
    help="Print one JSON object per event on stdout, as they come.",
)
def command(
    devices: tuple[str, ...],
    broker: str | None,
    once: bool,
    timeout: float | None,
    passive: bool,
    product_dir: str | None,
) -> int:
    """Watch the devices of the product. Only what a device has proved is shown as its state: each report is verified
    with the device's own report key, must come from the device's own topic and be newer than the one before. A report
    that the broker had kept, or that is not dated now, proves nothing about now: what it says stands in brackets. So
    each device is asked to answer a nonce; what has answered is "fresh", and nobody can have played it from a record.

    \b
    Example:
    $ gatehouse watch
    $ gatehouse watch --once --timeout 20 --device gh-1f3a90c2
    """
    item = product.find(product_dir)
    host, port = publish.broker_address(item, broker)
    for device in devices:
        item.device_facts(device)
    known = reports.known_devices(item.devices)
    if not known:
        if once:
            raise GatehouseError(f"{item.name} has no device yet: gatehouse provision makes one", "device")
        ui.warn(f"{item.name} has no device yet, so nothing that comes can be verified: gatehouse provision makes one")
    watched = fleet.Fleet(reports.Verifier(known, time.time), known, devices)
    limit = timeout if timeout is not None else ONCE_S if once else None
    with contextlib.suppress(KeyboardInterrupt), messages(item, host, port) as inbox:
        _watch(watched, inbox, once, limit, passive)
    left = watched.unverified()
    if once and not ui.json_mode():
        console = ui.out()
        if not console.is_terminal:
            console.width = PIPE_WIDTH
        console.print(table(watched))
    if once and left:
        told = "; ".join(f"{entry.device}: {fleet.proof(entry)}" for entry in left)
        reason = left[0].refusal[0] if left[0].refusal else "timeout"
        raise GatehouseError(f"not verified: {told}", reason)
    return 0


@contextlib.contextmanager
def messages(item: product.Product, host: str, port: int) -> Iterator[Inbox]:
    """The inbox of all devices' reports and status messages.

    GatehouseError when the broker cannot be reached or does not take us.
    """
    where = f"broker {host}:{port}"
    answer: queue.Queue[str | None] = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"gatehouse-{uuid.uuid4().hex[:8]}")
    client.tls_set_context(publish.tls_context(item))
    client.connect_timeout = CONNECT_S
    inbox = Inbox(client)

    def connected(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            answer.put(str(reason))
        else:
            client.subscribe([(topics.topic(name, id="+"), 1) for name in ("report", "status")])

    def subscribed(_client: Any, _data: Any, _id: Any, _codes: Any, _properties: Any) -> None:
        """From now on nothing is missed; before that nobody is told that we are there."""
        answer.put(None)
        inbox.put(f"connected to {where}")

    def disconnected(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        answer.put(f"it closed the connection ({reason}); is ca/host.pem by the authority that it trusts?")
        inbox.put(f"{where} is gone ({publish.closed_words(reason)}); trying again")

    client.on_connect, client.on_disconnect, client.on_subscribe = connected, disconnected, subscribed
    client.on_message = lambda _client, _data, one: inbox.arrived(topics.of(one), bytes(one.payload), one.retain)
    try:
        client.connect(host, port, KEEPALIVE_S)
    except (OSError, ValueError) as error:
        raise GatehouseError(f"{where}: {publish.network_words(error)}", "network") from None
    client.loop_start()
    try:
        try:
            refusal = answer.get(timeout=CONNECT_S)
        except queue.Empty:
            raise GatehouseError(
                f"{where}: no answer within {CONNECT_S:.0f} s; is it an MQTT broker?", "timeout"
            ) from None
        if refusal:
            raise GatehouseError(f"{where}: {refusal}", "network")
        yield inbox
    finally:
        client.on_disconnect = None
        client.disconnect()
        client.loop_stop()


def table(watched: fleet.Fleet) -> Table:
    """The fleet as a table."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in fleet.COLUMNS:
        shown.add_column(name, overflow="fold")
    for entry in watched.entries.values():
        style = "red" if entry.refusal else "" if entry.report else "dim"
        shown.add_row(*(Text(ui.printable(cell)) for cell in fleet.row(entry, time.time())), style=style)
    return shown


def line(event: dict[str, Any], entry: fleet.Entry) -> str:
    """One event in one line, for a pipe or a log."""
    if event["event"] == "status":
        return f"{entry.device}: {entry.link}, says the broker"
    if event["verdict"] == "refused":
        return f"{entry.device}: refused: {event['detail']} [{event['reason']}]"
    cells = dict(zip(fleet.COLUMNS, fleet.row(entry, event["time"]), strict=True))
    told = ", ".join(cells[name] for name in ("version", "slot", "health", "update") if cells[name])
    return f"{entry.device}: {told}; {fleet.proof(entry)}"


def _watch(watched: fleet.Fleet, inbox: Inbox, once: bool, limit: float | None, passive: bool) -> None:
    end = None if limit is None else time.monotonic() + limit
    console = ui.out()
    live = console.is_terminal and not ui.json_mode() and not once
    with Live(table(watched), console=console, auto_refresh=False) if live else contextlib.nullcontext() as screen:
        while True:
            left = TICK_S if end is None else min(TICK_S, end - time.monotonic())
            if left <= 0 or (once and not watched.unverified()):
                return
            for topic, nonce in () if passive else watched.challenges():
                inbox.publish(topic, nonce)
            with contextlib.suppress(queue.Empty):
                _take(watched, inbox.get(timeout=left), quiet=live or once)
                for _ in range(BURST):
                    _take(watched, inbox.get_nowait(), quiet=live or once)
            if screen:
                screen.update(table(watched), refresh=True)


def _take(watched: fleet.Fleet, message: Message | str, quiet: bool) -> None:
    if isinstance(message, str):
        if ui.json_mode():
            _print({"event": "connection", "detail": message, "time": time.time()})
        elif not quiet:
            ui.say(message)
        return
    event = watched.take(*message)
    if event is None:
        return
    if ui.json_mode():
        _print(event)
    elif not quiet:
        ui.show(line(event, watched.entries[event["device"]]))


def _print(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
    sys.stdout.flush()
