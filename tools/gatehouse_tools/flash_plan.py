"""What goes into the flash of a board: the device's own image with MicroPython's bootloader and application in it.

Written to a port or to a file, it is the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from dataclasses import dataclass

from .boards import Board
from .errors import GatehouseError
from .image import flash, stock
from .image import partitions as tables

_ERASED = b"\xff"
_SECTOR = 4096


@dataclass(frozen=True)
class Segment:
    """Bytes that are written: those of one part, without the erased end."""

    name: str
    offset: int
    data: bytes

    @property
    def sha256(self) -> str:
        """For the eye."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Plan:
    """The whole flash, and what of it is written; the rest is erased."""

    image: bytes
    segments: list[Segment]


def make(board: Board, device: bytes, firmware: stock.Firmware | None) -> Plan:
    """The plan for a device: its flash.bin, and a firmware for the board's chip, None for none.

    GatehouseError("full" | "state") when the firmware does not fit, or the image is not of this board.
    """
    if len(device) != board.flash_size:
        raise GatehouseError(f"the device's image has {len(device)} bytes, not the board's {board.flash_size}", "state")
    held = flash.take_apart(device)
    table = board.partitions()
    if [part for part, _ in held.values()] != table:
        raise GatehouseError(f"the device was made for another partition table than {board.name} has now", "state")
    parts = [("partition table", tables.TABLE_OFFSET, device[tables.TABLE_OFFSET :][: tables.TABLE_SIZE])]
    parts += [(part.name, part.offset, data) for part, data in held.values()]
    if firmware:
        first = next(part for part in table if part.kind() == "app, ota_0")
        if len(firmware.app.data) > first.size:
            told = f"the firmware has {len(firmware.app.data)} bytes; {first.name} of {board.name} has {first.size}"
            raise GatehouseError(f"{told}: take a smaller build, or see docs/new-board.md", "full")
        parts = [("bootloader", stock.bootloader_offset(board.chip), firmware.bootloader.data), *parts]
        parts = [(name, at, firmware.app.data if name == first.name else data) for name, at, data in parts]
    written = [(name, at, _trimmed(data)) for name, at, data in parts]
    written = [one for one in written if one[2]]
    image = _merge(board, [(at, data) for _, at, data in written])
    # Cut out of the merged image, where esptool has put the size of the flash into the bootloader's header.
    return Plan(image, [Segment(name, at, image[at : at + len(data)]) for name, at, data in written])


def _trimmed(data: bytes) -> bytes:
    """Without the sectors at its end that are erased."""
    used = len(data.rstrip(_ERASED))
    return data[: min(len(data), -(-used // _SECTOR) * _SECTOR)]


def _merge(board: Board, parts: list[tuple[int, bytes]]) -> bytes:
    """The parts as one image of the size of the flash, by esptool."""
    from esptool.cmds import merge_bin
    from esptool.util import FatalError

    size = size_words(board.flash_size)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            merged = merge_bin(parts, chip=board.chip, flash_size=size, pad_to_size=size)
    except FatalError as error:
        raise GatehouseError(f"esptool: {str(error).splitlines()[0]}", "format") from None
    return bytes(merged or b"")


def size_words(size: int) -> str:
    """A size of flash as esptool has it, such as 8MB."""
    return f"{size >> 20}MB" if size >> 20 else f"{size >> 10}KB"
