"""`gatehouse demo`: the whole story on this machine or on a board at its port, in the terminal and on a page."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from .. import house, ui
from ..demo import live, screen, web, wired
from ..demo.act import Verdict
from ..demo.bench import SIMULATED, Kind
from ..demo.stage import MOST, Stage
from ..errors import GatehouseError, UsageError
from ..reports import Report

RECORDING = Path(__file__).resolve().parents[1] / "demo" / "recording.jsonl"


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the table, without a page, instead of waiting for its buttons.")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, metavar="DIR",
    help="Where product, device and logs are made; replaced at each run.",
)  # fmt: skip
@click.option(
    "--broker", type=click.Choice(["auto", "mosquitto", "amqtt"]), default="auto", show_default=True,
    help="The MQTT broker: Mosquitto where it is installed, else amqtt.",
)  # fmt: skip
@click.option("--devices", type=click.IntRange(1, MOST), default=1, show_default=True, metavar="N", help="How many.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="P", help=f"The page's port; 0: any. Default: {web.PORT}."
)
@click.option("--device", "at", metavar="PORT", help="Play it on the board at this serial port, which is erased.")
@click.option("--host", metavar="ADDRESS", help="With --device: this machine, as the board reaches it over its Wi-Fi.")
@click.option("--firmware", type=click.Path(path_type=Path), metavar="FILE", help="With --device: MicroPython's .bin.")
@click.option(
    "--wifi", type=click.Path(path_type=Path), metavar="FILE",
    help="With --device: TOML with ssid and password. Default: asked for.",
)  # fmt: skip
@click.option("--board", metavar="NAME", help="With --device: its kind. Default: the one with the firmware's chip.")
@click.option("--replace", is_flag=True, help="With --device: also where the board is a device already; it is lost.")
@click.option("--no-story", is_flag=True, help="Begin with the page's buttons, without the scenes of the terminal.")
@click.option("--record", type=click.Path(path_type=Path), metavar="FILE", help="Keep what the page shows.")
@click.option(
    "--replay", "played", is_flag=False, flag_value=str(RECORDING), metavar="[FILE]",
    help="Play a recording on the page, marked as one, with no device. Default: the one that comes with Gatehouse.",
)  # fmt: skip
@click.option(
    "--svg", type=click.Path(path_type=Path), metavar="FILE", help="Also keep what the terminal showed as SVG."
)
@ui.json_option
def command(
    once: bool,
    folder: Path,
    broker: str,
    devices: int,
    port: int | None,
    at: str | None,
    host: str | None,
    firmware: Path | None,
    wifi: Path | None,
    board: str | None,
    replace: bool,
    no_story: bool,
    record: Path | None,
    played: str | None,
    svg: Path | None,
) -> None:
    """Watch a device take a signed update, refuse four attacks, survive a power cut and roll back a bad release. Each
    verdict is read from the device's own verified report; the exit code is 0 only when every one is as it should be.

    Beside the terminal a page on this machine's loopback shows the devices, with a panel on which to try to break them;
    what its buttons do counts for the exit code as well. With --device the device is a board at a serial port: it is
    written by esptool, and the terminal says when to pull its plug.

    \b
    Example:
    $ gatehouse demo
    $ gatehouse demo --no-story --devices 3
    $ gatehouse demo --replay
    $ gatehouse demo --once
    $ gatehouse demo --device /dev/ttyUSB0 --host 192.168.1.20 --firmware ESP32_GENERIC_S3.bin --wifi wifi.toml
    """
    if at is None and (host or firmware or wifi or board or replace):
        raise UsageError("--host, --firmware, --wifi, --board and --replace go with --device PORT")
    if at is not None and (devices > 1 or played):
        raise UsageError("--device plays on one board: leave --devices and --replay out")
    if once and (no_story or played or port is not None):
        raise UsageError("--once plays the story without a page: leave --no-story, --replay and --port out")
    console = Console(stderr=ui.json_mode(), record=bool(svg), width=_WIDTH if svg else None)
    teller = _Teller(console)
    if played:
        _replay(Path(played), port, teller)
        return
    wiring = None
    kind: Kind = SIMULATED
    if at is not None:
        wiring = wired.wiring(at, host, firmware, wifi, board, replace)
        kind = wiring.kind
    shown = screen.Screen(record)
    show = live.Live(shown, teller, kind)
    verdicts: list[Verdict] = []
    with contextlib.ExitStack() as stack:
        stack.callback(shown.close)
        stack.enter_context(house.ended_by_signals())
        if not once:
            _serve(stack, shown, show.take, port, teller)
        story, count = not no_story, devices
        while count:
            show.set(count)
            with _stage(folder, broker, teller, count, wiring) as stage, show.on(stage):
                stage.devices[0].witness.on_report = teller.report
                broker_words = f"{stage.house.broker.kind} on {stage.house.broker_address}"
                teller.say(f"broker: {broker_words}, with client certificates")
                for one in stage.devices:
                    teller.say(f"device: {one.id}, {one.board.label}")
                stage.begin()
                if story:
                    verdicts = show.story(stage)
                    teller.table(verdicts, kind)
                    if svg:
                        svg.write_text(_picture(console))
                    good = all(item.good for item in verdicts)
                    ui.result({"board": kind.label, "verdicts": [_plain(item) for item in verdicts], "good": good})
                else:
                    show.start(stage)
                if once:
                    break
                teller.say("The devices keep running. Press the buttons of the page; Ctrl-C ends everything.")
                try:
                    count, story = show.serve(stage), False
                except KeyboardInterrupt:
                    break
                teller.say("everything goes back to the start")
    verdicts += show.pressed
    if not all(item.good for item in verdicts):
        bad = next(item for item in verdicts if not item.good)
        ui.warn(f"{bad.tried}: expected {bad.expected}, the device says: {bad.told}")
        sys.exit(1)  # the result, told above, is the answer; it is no error of this command


_WIDTH = 118  # columns of the picture


def _plain(item: Verdict) -> dict[str, Any]:
    return {"tried": item.tried, "expected": item.expected, "told": item.told, "good": item.good}


@contextlib.contextmanager
def _stage(folder: Path, broker: str, teller: _Teller, count: int, wiring: wired.Wiring | None) -> Iterator[Stage]:
    """The stage. Where it cannot be set, say that there is a recording."""
    try:
        stage = Stage(folder.resolve(), broker, teller.say, teller.command, count=count, wiring=wiring)
        with contextlib.ExitStack() as stack:
            stack.enter_context(stage)
            yield stage
    except GatehouseError as error:
        if stage.devices:
            raise
        raise GatehouseError(f"{error} (a recorded run: gatehouse demo --replay)", error.reason) from None


def _serve(
    stack: contextlib.ExitStack, shown: screen.Screen, take: web.Taker, port: int | None, teller: _Teller
) -> None:
    """Open the page. Its usual port may be taken: then it takes another, unless this one was asked for."""
    try:
        server = web.Web(shown, take, web.PORT if port is None else port)
    except GatehouseError as error:
        if port is not None or error.reason != "busy":
            raise
        server = web.Web(shown, take, 0)
        ui.warn(f"port {web.PORT} is taken, perhaps by another demonstration: this page is at {server.url}")
    stack.enter_context(server)
    teller.page(server.url)
    screen_here = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.stdout.isatty() and screen_here:  # without one it would start a browser in this terminal
        webbrowser.open(server.url)


def _replay(path: Path, port: int | None, teller: _Teller) -> None:
    """Play a recording until Ctrl-C."""
    recording = screen.Recording(path)
    shown, orders = screen.Screen(), live.Replay()
    with house.ended_by_signals(), contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        _serve(stack, shown, orders.take, port, teller)
        teller.say(f"A recording of {ui.when(recording.made)}, not a live run.")
        live.replay(shown, recording, orders.again, lambda text: teller.say(f"{path.name}: {text}"))


def _picture(console: Console) -> str:
    """What the console showed as SVG, without the fonts that Rich would have the reader fetch from elsewhere."""
    return re.sub(r"\s*@font-face \{.*?\}", "", console.export_svg(title="gatehouse demo"), flags=re.DOTALL)


class _Teller:
    """Narrates in the terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: tuple[Any, ...] = ()

    def say(self, text: str) -> None:
        self._console.print(f"  {text}", style="dim", highlight=False, markup=False)

    def command(self, text: str) -> None:
        self._console.print(f"  $ {text}", style="cyan", highlight=False, markup=False, soft_wrap=True)

    def scene(self, number: int, total: int, text: str) -> None:
        self._console.print()
        self._console.print(Panel(text, title=f"{number} of {total}", title_align="left", border_style="blue"))

    def page(self, url: str) -> None:
        title = "the page, on this machine only"
        self._console.print(Panel(url, title=title, title_align="left", border_style="green"))

    def button(self, title: str, device: str, text: str) -> None:
        self._console.print()
        self._console.print(Panel(text, title=f"{title}, {device}", title_align="left", border_style="magenta"))

    def ask(self, text: str) -> None:
        """Something is to be done by hand."""
        self._console.bell()
        self._console.print(Panel(text, title="you", title_align="left", border_style="yellow", style="bold"))

    def report(self, report: Report) -> None:
        """One line for each verified report that tells something new."""
        claims = report.claims
        update = claims.get("update", {})
        state = update.get("state", "")
        reason = f"({update['reason']})" if update.get("reason") else ""
        files = update.get("files", {})
        refused = claims.get("refused", {})
        told = (claims.get("version"), claims["mode"], state, reason, refused.get("digest"), refused.get("count"))
        if told == self._last:
            return
        self._last = told
        progress = (
            f" {files['done']}/{files['total']} files" if files and state in ("downloading", "installing") else ""
        )
        no = f"  refused: {refused['reason']}" if refused and state not in ("refused",) else ""
        self._console.print(
            f"  report {report.counter[0]}.{report.counter[1]}  verified  {claims.get('version')}"
            f" slot {claims['slot']} {claims['mode']}  update {state}{reason}{progress}{no}",
            style="green", highlight=False, markup=False,
        )  # fmt: skip

    def verdict(self, item: Verdict) -> None:
        mark = "[bold green]as it should be[/]" if item.good else "[bold red]WRONG[/]"
        self._console.print(f"  {mark}: {item.told}", highlight=False)

    def table(self, verdicts: list[Verdict], kind: Kind) -> None:
        title = "What was tried, and what the device's verified reports said"
        table = Table(title=title, title_style="bold", caption=f"{kind.label}. {kind.caption}".strip())
        for name in ("", "tried", "expected", "the device"):
            table.add_column(name)
        for item in verdicts:
            mark = "[green]yes[/]" if item.good else "[red]NO[/]"
            table.add_row(mark, item.tried, item.expected, item.told)
        self._console.print()
        self._console.print(table)
