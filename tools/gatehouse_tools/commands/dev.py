"""`gatehouse dev`: the working copy on a board at a cable, in seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import rich_click as click

from .. import devloop, product, ui
from ..cable import Cable
from ..errors import GatehouseError
from . import build as build_command


@click.command("dev")
@click.option("--port", required=True, metavar="PORT", help="The board's serial port, such as /dev/ttyUSB0.")
@click.option("--source", type=click.Path(path_type=Path), metavar="DIR", help="Other source than the product's.")
@click.option("--no-log", is_flag=True, help="End after the restart, instead of showing the log until Ctrl-C.")
@ui.product_option
@ui.json_option
def command(port: str, source: Path | None, no_log: bool, product_dir: str | None) -> None:
    """Put the working copy of the application on a board that is at a cable, run it, and show its log.

    The device takes it as an update, signed by the developer's key for this one device, with all of its checks: only a
    device whose trust anchors are flagged dev does. Over the cable goes what its running slot does not have. A stock
    build of MicroPython is stopped by Ctrl-C at its start; a production build is not.

    \b
    Example:
    $ gatehouse trust next --dev --new-key dev
    $ gatehouse dev --port /dev/ttyUSB0
    """
    item = product.find(product_dir)
    devloop.signers(item)  # before a board is stopped in vain
    built = build_command.run(item, devloop.version(item), source)
    started = time.monotonic()
    with Cable(port) as cable:
        cable.interrupt(ui.say)
        try:
            device = devloop.greet(cable)
            outcome, offer = _bring(cable, item, device, built)
            with contextlib.suppress(GatehouseError):  # what is installed begins at the next restart, whosever it is
                cable.restart()
        except BaseException:  # whatever it is, Ctrl-C too: the board goes on
            cable.abandon(devloop.CLEAN)
            raise
        if not outcome.restart:
            raise GatehouseError(_refusal(device, outcome), outcome.reason)
        seconds = time.monotonic() - started
        ui.show(f"{device.id} has {offer.version}, {ui.size(offer.size)} over the cable, and starts it", "bold")
        ui.result(
            {
                "ok": True,
                "device": device.id,
                "version": offer.version,
                "state": outcome.state,
                "sent": offer.size,
                "pack": len(offer.pack),
                "seconds": round(seconds, 1),
            }
        )
        if no_log or ui.json_mode():
            return
        ui.say("Its log; Ctrl-C ends it, and the device goes on.")
        with contextlib.suppress(KeyboardInterrupt):
            for line in cable.log():
                ui.show(ui.printable(line))


def _bring(
    cable: Cable, item: product.Product, device: devloop.Device, built: build_command.build.Built
) -> tuple[devloop.Outcome, devloop.Offer]:
    if not device.dev:
        ui.warn(f"{device.id} has trust anchors that take no developer's key, and will refuse this: gatehouse trust")
    if devloop.set_clock(cable, device):
        ui.say(f"{device.id} had no time: it has this machine's now")
    offer = devloop.prepare(item, device, built)
    with ui.bar(f"to {device.id}", offer.size, in_bytes=True) as step:
        outcome = devloop.bring(cable, offer, step, _dots)
    return outcome, offer


def _dots(byte: bytes) -> None:
    """Half a second of the installation for each dot; the rest is an answer for programs."""
    if byte == b"." and sys.stderr.isatty():
        sys.stderr.write(".")
        sys.stderr.flush()


def _refusal(device: devloop.Device, outcome: devloop.Outcome) -> str:
    """What the device's installer said, and what to do."""
    state = "refused" if outcome.state == "trial" else outcome.state  # that is the other one's
    told = f"{device.id} {state}: {outcome.reason or 'held back'}"
    told += f" ({outcome.detail})" if outcome.detail else ""
    advice = {
        "key": "its trust anchors know no developer's key: gatehouse trust next --dev --new-key dev, and publish it",
        "right": "its trust anchors are not flagged dev: gatehouse trust next --dev, and publish it",
        "busy": "another release is on trial: wait until it has confirmed, or rolled back",
        "disabled": "its policy takes no updates",
        "mpy": "mpy-cross and the board's MicroPython do not fit each other",
    }.get(outcome.reason or "", "it runs what it ran before")
    return f"{told}; {advice}"
