"""The chip's `os`: the names that MicroPython on ESP32 has, and no way to the host."""

from os import (  # noqa: F401 the module's own names
    VfsFat,
    VfsLfs2,
    chdir,
    getcwd,
    ilistdir,
    listdir,
    mkdir,
    mount,
    remove,
    rename,
    rmdir,
    sep,
    stat,
    statvfs,
    umount,
    unlink,
    urandom,
)

from . import host


def __getattr__(name):
    return host.ask(("os", name))
