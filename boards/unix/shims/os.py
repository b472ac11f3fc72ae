"""The chip's `os`: the names that MicroPython on ESP32 has, and no way to the host."""

import os as _host

from . import host

_NAMES = (
    "chdir",
    "getcwd",
    "ilistdir",
    "listdir",
    "mkdir",
    "mount",
    "remove",
    "rename",
    "rmdir",
    "sep",
    "stat",
    "statvfs",
    "umount",
    "unlink",
    "urandom",
    "VfsFat",
    "VfsLfs2",
)


def __getattr__(name):
    return getattr(_host, name) if name in _NAMES else host.ask(("os", name))
