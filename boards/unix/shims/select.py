"""The chip's `select`, whose waits are short enough for a stepped clock to be seen."""

from select import POLLERR, POLLHUP, POLLIN, POLLOUT  # noqa: F401 the module's own names
from select import poll as _poll

from micropython import const

from . import host

_SLICE_MS = const(20)


class poll:
    """As on the chip, but ipoll(), which asyncio waits with, may come back early with nothing."""

    def __init__(self):
        self._poll = _poll()

    def __getattr__(self, name):
        return getattr(self._poll, name)

    def ipoll(self, timeout=-1, flags=0):
        if host.interruptible:
            host.take()
        return self._poll.ipoll(timeout if 0 <= timeout < _SLICE_MS else _SLICE_MS, flags)
