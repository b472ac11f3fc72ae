"""Replaces what the unix port has by what the chip has. Nothing of this module is left when it is done."""

import os
import sys

import vfs
from micropython import const
from shims import host

_TERMINAL = const(1)  # made: its UART has input, as in sim/process.py

_SHIMS = ("time", "os", "vfs", "select", "socket", "machine", "ussl", "micropython")
_ALSO_WITH_U = ("time", "os", "select", "socket", "machine")  # the unix port's are under these names, too
_REMOTE = ("esp32", "network")


def board():
    """Become the board. Returns the way to the supervisor (shims.host), which nobody else has, and how it was made."""
    image, numbers, channel, address, size, made = (int(text) for text in sys.argv[1:])
    if made & _TERMINAL:
        from shims.held import HeldDisk as Disk
    else:
        from shims.flash import Disk
    host.numbers, host.channel, host.system = open(numbers, "r+b"), open(channel, "r+b"), os.system
    for name in _SHIMS:
        sys.modules[name] = __import__("shims." + name, None, None, ("*",))
    for name in _ALSO_WITH_U:
        sys.modules["u" + name] = sys.modules[name]
    for name in _REMOTE:
        sys.modules[name] = host.Remote(name)
    try:
        __import__("umqtt.simple")  # frozen into stock firmware, so that it is there without a file
    except ImportError:
        pass
    for name in list(sys.modules):
        if name.startswith("shims"):
            del sys.modules[name]
    del sys.argv[:]
    sys.path[:] = ("", ".frozen", "/lib")
    for path in ("/rom", "/"):
        try:
            os.umount(path)
        except OSError:  # this code came from files
            pass
    try:
        os.mount(vfs.VfsLfs2(Disk(open(image, "r+b"), address, size), progsize=32, readsize=32), "/")
    except OSError:
        print("The filesystem appears to be corrupted.")
        host.end(b"repl")
    os.chdir("/")
    return host, made
