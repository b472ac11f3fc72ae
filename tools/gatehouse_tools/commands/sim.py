"""`gatehouse sim`: run simulated devices."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
import urllib.parse
from typing import Any

import rich_click as click

from .. import house, identity, product, ui
from ..broker import KINDS
from ..errors import GatehouseError, UsageError
from ..sim.board import Board

POLL_S = 0.1
_LOCAL = ("localhost", "127.0.0.1", "::1")
_EVENT = re.compile(r"\[board\] (\S+) ?(.*)")


@click.command("sim")
@click.argument("devices", metavar="[ID]...", nargs=-1)
@click.option("--heap", default="128wK", show_default=True, metavar="SIZE", help="The device's heap (-X heapsize=).")
@click.option("--no-house", is_flag=True, help="Do not start broker and pack server: they run elsewhere.")
@click.option("--broker", type=click.Choice(KINDS), default="auto", show_default=True, help="The house's broker.")
@click.option(
    "--for",
    "duration",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End after this time. Default: at Ctrl-C.",
)
@ui.product_option
@ui.json_option
def command(
    devices: tuple[str, ...],
    heap: str,
    no_house: bool,
    broker: str,
    duration: float | None,
    product_dir: str | None,
) -> int:
    """Run provisioned devices of the simulated board, all of them unless some are named: each from its flash image,
    which keeps what it does. What they print comes line by line; with --json as objects. Each has a terminal for its
    console, whose name is told; any terminal program opens it. The broker, and the server of
    dist/, run beside them on the ports of product.toml. A board's clock is set when its power comes on.

    \b
    Example:
    $ gatehouse sim
    $ gatehouse sim gh-1f3a90c2 --for 60
    """
    if not re.fullmatch(r"\d+w?[KM]", heap):
        raise UsageError(f"heap {heap!r}: a size such as 80wK or 256K")
    item = product.find(product_dir)
    chosen = _devices(item, devices)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        stack.enter_context(house.ended_by_signals())
        if not no_house:
            _start_house(stack, item, broker, chosen)
        consoles = [_Console(stack, item, facts, heap) for facts in chosen]
        _follow(consoles, None if duration is None else time.monotonic() + duration)
    return 0


def _devices(item: product.Product, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """device.json of each device to run."""
    found = [item.device_facts(name) for name in names or [folder.name for folder in item.device_folders()]]
    if not found:
        raise GatehouseError(f"{item.name} has no device yet: gatehouse provision makes one", "device")
    for facts in found:
        chip = product.load_board(facts["board"], item.root).data.get("chip")
        if chip != identity.SIMULATED:
            raise UsageError(f"{facts['id']} is a {facts['board']}, not a simulated board: flash it instead")
    return found


def _start_house(stack: contextlib.ExitStack, item: product.Product, kind: str, devices: list[dict[str, Any]]) -> None:
    """The house on the ports that product.toml names, which devices were provisioned with."""
    settings = item.device
    url = urllib.parse.urlsplit(str(settings.get("base_url", product.BASE_URL)))
    host, port = identity.host_and_port(
        str(settings.get("broker", "localhost")), settings.get("port", product.BROKER_PORT), "broker"
    )
    time_host, time_port = identity.host_and_port(str(settings.get("ntp", "pool.ntp.org")), 123, "time server")
    for place, what in ((host, "broker"), (url.hostname, "base_url")):
        if place not in _LOCAL:
            raise UsageError(f"{what} of product.toml is on {place}, not on this machine: use --no-house")
    running = stack.enter_context(
        house.House(
            item,
            kind,
            broker_port=port,
            server_port=url.port or 80,
            time_port=time_port if time_host in _LOCAL else 0,
        )
    )
    ui.say(f"broker {running.broker_address} ({running.broker.kind}), packs {running.url}")
    for facts in devices:
        if facts.get("broker") != f"{host}:{port}":
            ui.warn(f"{facts['id']} was provisioned for the broker {facts.get('broker')}, and will look for it there")


class _Console:
    """A running board, and what it has printed since it was last asked."""

    def __init__(self, stack: contextlib.ExitStack, item: product.Product, facts: dict[str, Any], heap: str) -> None:
        self.name = facts["id"]
        folder = item.devices / self.name
        log = folder / "uart.log"
        log.write_bytes(b"")
        production = bool(product.load_board(facts["board"], item.root).data.get("production"))
        self.board = stack.enter_context(
            Board(folder / "flash.bin", heap=heap, log=log, terminal=True, production=production, slow_start=True)
        )
        ui.say(f"{self.name}: its console is {self.board.terminal}: mpremote connect {self.board.terminal} repl")
        self.board.auto_power = True
        self._file = stack.enter_context(log.open("rb"))
        self._partial = b""
        self.board.power_on()
        self.board.set_clock(time.time())

    def lines(self) -> list[str]:
        """The complete lines that came."""
        *lines, self._partial = (self._partial + self._file.read()).split(b"\n")
        return [line.rstrip(b"\r").decode(errors="replace") for line in lines]


def _follow(consoles: list[_Console], end: float | None) -> None:
    """Print what the boards say, until `end` or until none of them runs any more."""
    while end is None or time.monotonic() < end:
        stopped = {console.name: console.board.failure for console in consoles if console.board.failure}
        for console in consoles:
            for line in console.lines():
                _tell(console.name, line)
        if len(stopped) == len(consoles):
            told = "; ".join(f"{name}: {why}" for name, why in stopped.items())
            raise GatehouseError(f"no device runs any more: {told}", "state")
        time.sleep(POLL_S)


def _tell(name: str, line: str) -> None:
    event = _EVENT.fullmatch(line)
    if not ui.json_mode():
        ui.show(f"{name}  {line}", "cyan" if event else "")
        return
    data = {"event": event[1], "detail": event[2]} if event else {"event": "line", "text": line}
    sys.stdout.write(json.dumps({"device": name, **data}, ensure_ascii=False) + "\n")
    sys.stdout.flush()
