"""NOR flash over the image file: programming clears bits, erasing sets a whole sector's, power can go in between.

Every program and erase is one operation, counted together with those that the supervisor does for NVS and otadata.
At the operation whose number the supervisor chose the work is done half and the run ends. sim/flash.py is the same
model for the supervisor's own operations.
"""

import struct

from micropython import const

from . import host

_SECTOR = const(4096)
_PIECE = const(128)
_BLANK = b"\xff" * _PIECE

_CUT = const(0)  # shared number: the operation at which the power goes, 0 for none
_OPERATIONS = const(1)  # shared number: operations since power-on
_FAULT = const(7)  # shared number: the address of an impossible program

_counts = bytearray(16)  # _CUT and _OPERATIONS


class Disk:
    """The partition of `size` bytes at `address` of the open image file, as the block device of the file system."""

    def __init__(self, image, address, size):
        self._image = image
        self._address = address
        self._size = size
        # What is known to be erased: most programs go there, and need no look at the old bytes.
        self._blank = self._blank_end = 0

    def readblocks(self, block, buffer, offset=0):
        try:
            host.hold()
            self._image.seek(self._address + block * _SECTOR + offset)
            self._image.readinto(buffer)
        finally:
            host.release()

    def writeblocks(self, block, buffer, offset):
        """Program. A bit that would have to become 1 again is a fault of the caller, and ends the run."""
        try:
            host.hold()
            self._program(block, buffer, offset)
        finally:
            host.release()

    def _program(self, block, buffer, offset):
        cut = self._cut()
        image = self._image
        address = self._address + block * _SECTOR + offset
        end = address + len(buffer)
        if self._blank <= address and end <= self._blank_end:
            self._blank = end
        elif not self._only_clears(address, memoryview(buffer)):
            host.put(_FAULT, address)
            host.end(b"fault")
        image.seek(address)
        if cut:
            image.write(memoryview(buffer)[: len(buffer) // 2])
            host.end(b"cut")
        image.write(buffer)

    def ioctl(self, command, argument):
        if command == 4:
            return self._size // _SECTOR
        if command == 5:
            return _SECTOR
        if command == 6:
            try:
                host.hold()
                self._erase(self._address + argument * _SECTOR)
            finally:
                host.release()
        return 0

    def _erase(self, address):
        if self._cut():
            host.end(b"cut %d" % address)  # the supervisor leaves it half erased
        self._image.seek(address)
        for _ in range(_SECTOR // _PIECE):
            self._image.write(_BLANK)
        self._blank = address
        self._blank_end = address + _SECTOR

    def _cut(self):
        """Count one operation; true when it is the one to be done half."""
        host.numbers.seek(_CUT * 8)
        host.numbers.readinto(_counts)
        cut, done = struct.unpack("<qq", _counts)
        host.put(_OPERATIONS, done + 1)
        return done + 1 == cut

    def _only_clears(self, address, view):
        """Whether `view` can be programmed over what stands at `address`."""
        self._image.seek(address)
        for at in range(0, len(view), _PIECE):
            piece = view[at : at + _PIECE]
            new = int.from_bytes(piece, "little")
            if int.from_bytes(self._image.read(len(piece)), "little") & new != new:
                return False
        return True
