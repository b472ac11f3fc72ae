"""`gatehouse demo`: the whole story on this machine."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from .. import ui
from ..demo import scenes
from ..demo.stage import Stage
from ..reports import Report


@click.command("demo")
@click.option("--once", is_flag=True, help="End after the table, instead of leaving the device running until Ctrl-C.")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, metavar="DIR",
    help="Where product, device and logs are made; replaced at each run.",
)  # fmt: skip
@click.option(
    "--broker", type=click.Choice(["auto", "mosquitto", "amqtt"]), default="auto", show_default=True,
    help="The MQTT broker: Mosquitto where it is installed, else amqtt.",
)  # fmt: skip
@click.option(
    "--svg", type=click.Path(path_type=Path), metavar="FILE", help="Also keep what the terminal showed as SVG."
)
@ui.json_option
def command(once: bool, folder: Path, broker: str, svg: Path | None) -> None:
    """Watch a device take a signed update, refuse four attacks, survive a power cut and roll back a bad release. Each
    verdict is read from the device's own verified report; the exit code is 0 only when every one is as it should be.

    \b
    Example:
    $ gatehouse demo --once
    """
    console = Console(stderr=ui.json_mode(), record=bool(svg), width=_WIDTH if svg else None)
    teller = _Teller(console)
    verdicts: list[scenes.Verdict] = []
    with _stopped_by_signals(), Stage(folder.resolve(), broker, teller.say, teller.command) as stage:
        stage.witness.on_report = teller.report
        teller.say(f"broker: {stage.house.broker.kind} on {stage.house.broker_address}, with client certificates")
        teller.say(f"device: {stage.board.image.parent.name}, simulated, from {stage.board.image.name}")
        for number, scene in enumerate(scenes.SCENES, 1):
            teller.scene(number, len(scenes.SCENES), scene.__doc__ or "")
            verdicts.append(scenes.play(scene, stage))
            teller.verdict(verdicts[-1])
        teller.table(verdicts)
        if svg:
            svg.write_text(_picture(console))
        ui.result({"verdicts": [vars(item) for item in verdicts], "good": all(item.good for item in verdicts)})
        if not once:
            teller.say("The device keeps running; its reports follow. Ctrl-C ends everything.")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
    if not all(item.good for item in verdicts):
        bad = next(item for item in verdicts if not item.good)
        ui.warn(f"{bad.tried}: expected {bad.expected}, the device says: {bad.told}")
        sys.exit(1)  # the result, told above, is the answer; it is no error of this command


_WIDTH = 118  # columns of the picture


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

    def verdict(self, item: scenes.Verdict) -> None:
        mark = "[bold green]as it should be[/]" if item.good else "[bold red]WRONG[/]"
        self._console.print(f"  {mark}: {item.told}", highlight=False)

    def table(self, verdicts: list[scenes.Verdict]) -> None:
        table = Table(title="What was tried, and what the device's verified reports said", title_style="bold")
        for name in ("", "tried", "expected", "the device"):
            table.add_column(name)
        for item in verdicts:
            mark = "[green]yes[/]" if item.good else "[red]NO[/]"
            table.add_row(mark, item.tried, item.expected, item.told)
        self._console.print()
        self._console.print(table)


@contextlib.contextmanager
def _stopped_by_signals() -> Any:
    """SIGTERM and SIGHUP end the demonstration as Ctrl-C does: with everything that it started."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
