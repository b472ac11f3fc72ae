"""The chip's `micropython`: the host's, but its keyboard is the UART."""

import micropython as _host

from . import host


def kbd_intr(character):
    """Which character on the UART raises KeyboardInterrupt; -1 for none."""
    host.interrupts(character)


def __getattr__(name):
    return getattr(_host, name)
