"""`gatehouse flash`: write a device onto a board, or into one file."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Any

import rich_click as click

from .. import device_image, firmware_source, flash_plan, product, ui
from ..boards import Board
from ..errors import GatehouseError, UsageError
from ..image import stock

WRITTEN = "flashed.json"  # in a device's folder: which board has its identity
BAUD = 460_800  # what USB-to-serial bridges of dev boards take; a chip's own USB does not care


@click.command("flash")
@click.option("--device", required=True, metavar="ID", help="The device: a folder of devices/.")
@click.option("--port", metavar="PORT", help="The board's serial port, such as /dev/ttyUSB0.")
@click.option("--image", type=click.Path(path_type=Path), metavar="FILE", help="Write one merged image there instead.")
@click.option("--firmware", type=click.Path(path_type=Path), metavar="FILE", help="MicroPython's .bin for the board.")
@click.option("--sha256", metavar="HEX", help="What the SHA-256 of the firmware must be.")
@click.option("--no-firmware", is_flag=True, help="With --image: leave bootloader and MicroPython out.")
@click.option(
    "--dry-run", is_flag=True, help="Print what would be written, and touch no port; MicroPython is fetched and pinned."
)
@click.option("--replace", is_flag=True, help="Also where the board is a device already, or the device has a board.")
@click.option(
    "--baud", type=click.IntRange(9600, 4_000_000), default=BAUD, show_default=True, metavar="N", help="Speed."
)
@ui.product_option
@ui.json_option
def command(
    device: str,
    port: str | None,
    image: Path | None,
    firmware: Path | None,
    sha256: str | None,
    no_firmware: bool,
    dry_run: bool,
    replace: bool,
    baud: int,
    product_dir: str | None,
) -> None:
    """Write a device onto a board in one go: bootloader and MicroPython, partition table, NVS, file system. All else is
    erased, and the flash is read back. MicroPython comes from --firmware, or is fetched from micropython.org and
    pinned by its SHA-256 in the product's folder.

    \b
    Example:
    $ gatehouse flash --device gh-1f3a90c2 --port /dev/ttyUSB0
    $ gatehouse flash --device gh-1f3a90c2 --image out.bin
    """
    if bool(port) == bool(image) and not (dry_run and not port):
        raise UsageError("give the board's --port, or --image FILE to write a file")
    if no_firmware and (firmware or sha256 or port):
        raise UsageError("--no-firmware goes with --image alone: a board without firmware does nothing")
    item = product.find(product_dir)
    facts = item.device_facts(device)
    board = product.load_board(facts["board"], item.root)
    if board.chip == device_image.SIMULATED:
        raise UsageError(f"{device} is a simulated board: gatehouse sim {device} runs it")
    if image and image.exists() and not dry_run:
        raise GatehouseError(f"{image} exists already, and is not overwritten: choose another name")
    folder = item.devices / device
    mine = product.read(folder / "flash.bin", "where its secrets are kept, there is its image")
    parts, told = (None, "none") if no_firmware else _firmware(item, board, firmware, sha256)
    plan = flash_plan.make(board, mine, parts)
    result: dict[str, Any] = {
        "ok": True,
        "device": device,
        "board": board.name,
        "chip": board.chip,
        "flash_size": board.flash_size,
        "firmware_sha256": told,
        "written": [
            {"name": one.name, "offset": one.offset, "size": len(one.data), "sha256": one.sha256}
            for one in plan.segments
        ],
        "dry_run": dry_run,
    }
    _show(device, board, plan, parts)
    if dry_run:
        ui.show("dry run: nothing was written", "yellow")
    elif image:
        product.write_new(image, plan.image, secret=True)
        result["image"] = str(image)
        ui.show(f"{image}, {ui.size(len(plan.image))}, sha256:{hashlib.sha256(plan.image).hexdigest()}")
        ui.show("It holds the device's secrets. esptool writes it at 0x0; gatehouse inspect shows what is in it.")
    else:
        assert port  # noqa: S101 asked for above
        result |= _to_port(item, board, device, port, baud, plan, replace)
        ui.show(f"{device} is on the board {result['mac']}; written, read back, started", "green")
    ui.result(result)


def _firmware(item: product.Product, board: Board, path: Path | None, sha256: str | None) -> tuple[stock.Firmware, str]:
    """MicroPython for the board in its two parts, and its SHA-256."""
    path = path or firmware_source.get(item, board, sha256)
    data = product.read(path)
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256.lower():
        raise GatehouseError(f"{path} has sha256:{found}, not the given one", "digest")
    return stock.split(data, board.chip, str(path)), found


def _show(device: str, board: Board, plan: flash_plan.Plan, parts: stock.Firmware | None) -> None:
    ui.show(f"Device {device} on {board.name}, {flash_plan.size_words(board.flash_size)} of flash", "bold")
    if parts:
        ui.rows([("bootloader", parts.bootloader.words()), ("application", parts.app.words())], "  ")
    ui.show("erased: the whole flash; then written:")
    ui.rows(
        [
            (f"0x{one.offset:06x}", f"{one.name:<16} {len(one.data):>8} bytes  sha256:{one.sha256}")
            for one in plan.segments
        ],
        "  ",
    )


def _to_port(
    item: product.Product, board: Board, device: str, port: str, baud: int, plan: flash_plan.Plan, replace: bool
) -> dict[str, Any]:
    """Write and read back. Returns what the board is."""
    from .. import flasher  # pyserial and esptool: slow to import, and only needed here

    note = item.devices / device / WRITTEN
    before = product.read_json(note) if note.exists() else {}
    with flasher.connect(port, board.chip, board.name, baud) as found:
        if before and before.get("mac") != found.mac and not replace:
            told = f"{device} is on the board {before.get('mac')} already, and no two boards may have one identity"
            raise GatehouseError(f"{told}: provision another device, or --replace where that board is gone", "state")
        found.check(board, replace)
        facts = {
            "mac": found.mac,
            "chip": found.chip,
            "flash_size": found.flash_size,
            "when": datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat(),
        }
        product.write(note, product.json_bytes(facts))  # before: half a device is on a board, too
        total = sum(len(one.data) for one in plan.segments)
        ui.say(f"erasing {port}, then writing {total} bytes")
        with ui.bar("writing", total, in_bytes=True) as step:
            shown = 0
            done = {one.name: 0 for one in plan.segments}
            sizes = {one.name: len(one.data) for one in plan.segments}

            def progress(name: str, part: int, whole: int) -> None:
                nonlocal shown
                done[name] = sizes[name] * part // max(1, whole)
                now = sum(done.values())
                step(now - shown)
                shown = now

            found.write(plan.segments, progress)
        with ui.bar("reading back", len(plan.image), in_bytes=True) as step:
            found.verify(plan.image, step)
        found.start()
    return {"port": port, **facts}
