"""NOR flash over an open image file, for what the supervisor does in it: boards/unix/shims/flash.py is the device's."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

SECTOR = 4096


class PowerCut(BaseException):
    """The power went in the middle of a flash operation; nothing of the device goes on."""


class FlashFault(Exception):
    """An operation that flash cannot do: the code that asked for it is wrong."""


class Flash:
    """The flash behind the file descriptor `image`.

    count: called before each operation; true when that one is to be done half, and then PowerCut is raised.
    chance: decides what a half-done erase leaves behind.
    """

    def __init__(self, image: int, count: Callable[[], bool], chance: random.Random) -> None:
        self._image = image
        self._count = count
        self._chance = chance

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at `address`."""
        return os.pread(self._image, size, address)

    def program(self, address: int, data: bytes) -> None:
        """Clear bits. FlashFault when a bit would have to become 1 again."""
        cut = self._count()
        old = int.from_bytes(self.read(address, len(data)), "little")
        new = int.from_bytes(data, "little")
        if old & new != new:
            raise FlashFault(f"programmed a 0 back to 1 at 0x{address:x}")
        if cut:
            os.pwrite(self._image, data[: len(data) // 2], address)
            raise PowerCut
        os.pwrite(self._image, data, address)

    def erase(self, address: int) -> None:
        """Set every bit of the sector at `address`."""
        if address % SECTOR:
            raise FlashFault(f"erased at 0x{address:x}, which is not the start of a sector")
        if self._count():
            self.half_erase(address)
            raise PowerCut
        os.pwrite(self._image, b"\xff" * SECTOR, address)

    def half_erase(self, address: int) -> None:
        """What an erase leaves that was cut: one half done, the other as it was, or anything."""
        halves = [address, address + SECTOR // 2]
        self._chance.shuffle(halves)
        os.pwrite(self._image, b"\xff" * (SECTOR // 2), halves[0])
        if self._chance.random() < 0.5:
            os.pwrite(self._image, self._chance.randbytes(SECTOR // 2), halves[1])
