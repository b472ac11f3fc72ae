"""The chip's `select`, whose waits are short enough for a stepped clock to be seen."""

from select import POLLERR, POLLHUP, POLLIN, POLLOUT  # noqa: F401 the module's own names
from select import poll as _poll

from micropython import const

_SLICE_MS = const(20)


class poll:
    """As on the chip, but ipoll() and poll() may come back early with nothing."""

    def __init__(self):
        poll = _poll()
        self.register = poll.register
        self.unregister = poll.unregister
        self.modify = poll.modify
        self._poll = poll

    def ipoll(self, timeout=-1, flags=0):
        return self._poll.ipoll(timeout if 0 <= timeout < _SLICE_MS else _SLICE_MS, flags)

    def poll(self, timeout=-1):
        return self._poll.poll(timeout if 0 <= timeout < _SLICE_MS else _SLICE_MS)
