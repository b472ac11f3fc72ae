"""NOR flash over the image file: programming clears bits, erasing sets a whole sector's, power can go in between.

Every program and erase is one operation, counted together with those that the supervisor does for NVS and otadata.
At the operation whose number the supervisor chose the work is done half and the run ends. sim/flash.py is the same
model for the supervisor's own operations.
"""

from micropython import const

from . import host

_SECTOR = const(4096)
_PIECE = const(128)
_BLANK = b"\xff" * 512

_image = None
_blank = _blank_end = 0  # what is known to be erased: most programs go there and need no look at the old bytes


def attach(image):
    """Take the open image file."""
    global _image
    _image = image


def program(address, data):
    """Clear bits. A bit that would have to become 1 again is a fault of the caller, and ends the run."""
    global _blank
    cut = host.count()
    end = address + len(data)
    if _blank <= address and end <= _blank_end:
        _blank = end
    elif not _only_clears(address, memoryview(data)):
        host.put(host.FAULT, address)
        host.end(b"fault")
    _image.seek(address)
    if cut:
        _image.write(memoryview(data)[: len(data) // 2])
        host.end(b"cut")
    _image.write(data)


def erase(address):
    """Set every bit of the sector at `address`."""
    global _blank, _blank_end
    if host.count():
        host.end(b"cut %d" % address)  # the supervisor leaves it half erased
    _image.seek(address)
    for _ in range(_SECTOR // 512):
        _image.write(_BLANK)
    _blank = address
    _blank_end = address + _SECTOR


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
