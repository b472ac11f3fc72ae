"""Flash of a board with a terminal, whose Ctrl-C may come at any moment."""

from . import host
from .flash import Disk


class HeldDisk(Disk):
    """The same on a board that a Ctrl-C can reach: none tears a step of it apart, as none does what a chip has in C."""

    def readblocks(self, block, buffer, offset=0):
        try:
            host.hold()
            Disk.readblocks(self, block, buffer, offset)
        finally:
            host.release()

    def writeblocks(self, block, buffer, offset):
        try:
            host.hold()
            Disk.writeblocks(self, block, buffer, offset)
        finally:
            host.release()

    def ioctl(self, command, argument):
        try:
            host.hold()
            return Disk.ioctl(self, command, argument)
        finally:
            host.release()
