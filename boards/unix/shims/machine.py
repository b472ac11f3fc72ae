"""The chip's `machine`: what must work without the heap, or fast; the supervisor models the rest."""

from time import ticks_us as _ticks_us

from . import host


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
        host.put(host.WDT_TIMEOUT, timeout)
        host.tell(b"wdt")

    def feed(self):
        host.put(host.WDT_FED, _ticks_us())


def __getattr__(name):
    return host.ask(("machine", name))
