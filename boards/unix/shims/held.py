"""Flash of a board with a terminal, whose Ctrl-C may come at any moment."""

from . import host
from .flash import Disk


def _hold():
    """host.hold() without its exception: LittleFS has noted already what its cache will hold, and would believe it."""
    try:
        host.hold()
    except KeyboardInterrupt:  # the supervisor took this process for one that computes
        host.hold()
        host.put_off()


def _release():
    """host.release() without its exception: once its number is written, a signal may come before this returns."""
    try:
        host.release()
    except KeyboardInterrupt:
        host.put_off()


class HeldDisk(Disk):
    """The same on a board that a Ctrl-C can reach: none tears a step of it apart, as none does what a chip has in C."""

    def readblocks(self, block, buffer, offset=0):
        _hold()
        try:
            Disk.readblocks(self, block, buffer, offset)
        finally:
            _release()

    def writeblocks(self, block, buffer, offset):
        _hold()
        try:
            Disk.writeblocks(self, block, buffer, offset)
        finally:
            _release()

    def ioctl(self, command, argument):
        _hold()
        try:
            return Disk.ioctl(self, command, argument)
        finally:
            _release()
