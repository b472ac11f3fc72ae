"""NOR flash over the image file: programming clears bits, erasing sets a whole sector's, power can go in between.

Every program and erase is one operation, counted together with those that the supervisor does for NVS and otadata.
At the operation whose number the supervisor chose the work is done half and the run ends. sim/flash.py is the same
model for the supervisor's own operations.
"""

from array import array

from micropython import const

from . import host

_SECTOR = const(4096)
_PIECE = const(128)
_BLANK = b"\xff" * _PIECE

_CUT = const(0)  # shared number: the operation at which the power goes, 0 for none
_OPERATIONS = const(1)  # shared number: operations since power-on
_FAULT = const(7)  # shared number: the address of an impossible program

_counts = array(host.WORD, (0, 0))  # _CUT and _OPERATIONS
_done = memoryview(_counts)[1:]


class Disk:
    """The partition of `size` bytes at `address` of the open image file, as the block device of the file system.

    A chip's is in C and leaves no garbage, which the device's collector would have to run for: so what is called for
    each piece of a file has as few variables as fit on MicroPython's stack, 11 words, and makes no object.
    """

    def __init__(self, image, address, size):
        self._image = image
        self._address = address
        self._size = size
        # What is known to be erased: most programs go there, and need no look at the old bytes.
        self._blank = self._blank_end = 0

    def readblocks(self, block, buffer, offset=0):
        self._image.seek(self._address + block * _SECTOR + offset)
        self._image.readinto(buffer)

    def writeblocks(self, block, buffer, offset):
        """Program. A bit that would have to become 1 again is a fault of the caller, and ends the run."""
        self._program(self._address + block * _SECTOR + offset, buffer, self._cut())

    def _program(self, address, buffer, cut):
        if self._blank <= address and address + len(buffer) <= self._blank_end:
            self._blank = address + len(buffer)
        elif not self._only_clears(address, memoryview(buffer)):
            host.put(_FAULT, address)
            host.end(b"fault")
        self._image.seek(address)
        if cut:
            self._image.write(memoryview(buffer)[: len(buffer) // 2])
            host.end(b"cut")
        self._image.write(buffer)

    def ioctl(self, command, argument):
        if command == 4:
            return self._size // _SECTOR
        if command == 5:
            return _SECTOR
        if command == 6:
            self._erase(self._address + argument * _SECTOR)
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
        _counts[1] += 1
        host.numbers.seek(_OPERATIONS * 8)
        host.numbers.write(_done)
        return _counts[1] == _counts[0]

    def _only_clears(self, address, view):
        """Whether `view` can be programmed over what stands at `address`."""
        self._image.seek(address)
        for at in range(0, len(view), _PIECE):
            piece = view[at : at + _PIECE]
            new = int.from_bytes(piece, "little")
            if int.from_bytes(self._image.read(len(piece)), "little") & new != new:
                return False
        return True
