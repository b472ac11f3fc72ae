"""NOR flash over the image file: programming clears bits, erasing sets a whole sector's, power can go in between.

Every program and erase is one operation, counted together with those that the supervisor does for NVS and otadata.
At the operation whose number the supervisor chose the work is done half and the run ends. sim/flash.py is the same
model for the supervisor's own operations.
"""

import struct

from micropython import const

from . import host

_SECTOR = const(4096)
_PIECE = const(128)  # what LittleFS programs at once
_BLANK = b"\xff" * _PIECE

_image = None
_old = bytearray(_PIECE)
_counts = bytearray(16)  # the shared numbers OPERATIONS and CUT
_done = memoryview(_counts)[:8]


def attach(image):
    """Take the open image file."""
    global _image
    _image = image


def program(address, data):
    """Clear bits. A bit that would have to become 1 again is a fault of the caller, and ends the run."""
    cut = _cut()
    blank = False
    if len(data) == _PIECE:
        _image.seek(address)
        _image.readinto(_old)
        blank = _old == _BLANK
    if not blank and not _only_clears(address, memoryview(data)):
        host.put(host.FAULT, address)
        host.end(b"fault")
    _image.seek(address)
    if cut:
        _image.write(memoryview(data)[: len(data) // 2])
        host.end(b"cut")
    _image.write(data)


def erase(address):
    """Set every bit of the sector at `address`."""
    if _cut():
        host.end(b"cut %d" % address)  # the supervisor leaves it half erased
    _image.seek(address)
    for _ in range(_SECTOR // _PIECE):
        _image.write(_BLANK)


def _cut():
    """Count one operation; true when it is the one to be done half."""
    numbers = host._numbers
    numbers.seek(host.OPERATIONS * 8)
    numbers.readinto(_counts)
    done, cut = struct.unpack("<qq", _counts)
    struct.pack_into("<q", _counts, 0, done + 1)
    numbers.seek(host.OPERATIONS * 8)
    numbers.write(_done)
    return done + 1 == cut


def _only_clears(address, view):
    """Whether `view` can be programmed over what stands at `address`."""
    _image.seek(address)
    for at in range(0, len(view), _PIECE):
        piece = view[at : at + _PIECE]
        new = int.from_bytes(piece, "little")
        if int.from_bytes(_image.read(len(piece)), "little") & new != new:
            return False
    return True


class Disk:
    """The partition that starts at `address`, as the block device of the file system."""

    def __init__(self, address, size):
        self._address = address
        self._size = size

    def readblocks(self, block, buffer, offset=0):
        _image.seek(self._address + block * _SECTOR + offset)
        _image.readinto(buffer)

    def writeblocks(self, block, buffer, offset):
        program(self._address + block * _SECTOR + offset, buffer)

    def ioctl(self, command, argument):
        if command == 4:
            return self._size // _SECTOR
        if command == 5:
            return _SECTOR
        if command == 6:
            erase(self._address + argument * _SECTOR)
        return 0
