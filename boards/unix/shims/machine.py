"""The chip's `machine`: what must work without the heap, or fast; the supervisor models the rest."""

from time import ticks_us as _ticks_us

from micropython import const

from . import host

_WDT_TIMEOUT = const(5)  # shared number: milliseconds, 0 while not armed
_WDT_FED = const(6)  # shared number: ticks_us() of the last feed


def reset():
    host.end(b"reset")


def soft_reset():
    host.end(b"soft-reset")


class WDT:
    """The task watchdog: once armed it cannot be stopped, only given another timeout (ms)."""

    def __init__(self, id=0, timeout=5000):
        if id != 0:
            raise ValueError
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        self.feed()
        host.put(_WDT_TIMEOUT, timeout)
        host.channel.write(b"wdt")

    def feed(self):
        host.put(_WDT_FED, _ticks_us())


def __getattr__(name):
    return host.ask(("machine", name))
