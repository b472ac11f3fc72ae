"""The chip's `socket`: the host's, but only while the station is connected, and only for the Internet.

A connection that is open when the link goes hears nothing more, as over the air, and goes on when the link is back.
"""

import errno
import io
import socket as _host
from select import poll as _poll
from socket import AF_INET, SO_REUSEADDR, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET  # noqa: F401 the module's own names

from micropython import const

from . import host
from . import time as _time

IPPROTO_TCP = 6
TCP_NODELAY = 1

_LINKED = const(4)  # shared number: 1 while packets go through the station
_HTTPS = const(11)  # shared number: the host's port that stands for the device's
_HTTPS_PORT = const(443)
_EAI_FAIL = const(-202)
_EAFNOSUPPORT = const(97)
_WAIT_MS = const(10)
_POLL = const(3)
_CLOSE = const(4)
_GET_FILENO = const(10)
_SILENT = ("read", "readline")  # these, readinto and write give None when they would block,
_LOUD = ("recv", "recvfrom", "send", "sendall")  # and these raise


def getaddrinfo(name, port, family=0, type=0, proto=0, flags=0):
    """Resolve a name; OSError(-202), lwIP's EAI_FAIL, without a link."""
    if not host.get(_LINKED):
        raise OSError(_EAI_FAIL)
    return _host.getaddrinfo(name, port, AF_INET, type or SOCK_STREAM)


def _resolved(address):
    """An address as the host's socket takes it, from one of getaddrinfo() or from (host, port)."""
    if not host.get(_LINKED):
        raise OSError(errno.EHOSTUNREACH)
    return getaddrinfo(*address)[0][-1] if isinstance(address, tuple) else address


class socket(io.IOBase):
    """A socket whose reads and writes stand still while there is no link."""

    def __init__(self, family=AF_INET, type=SOCK_STREAM, proto=0, taken=None):
        if family != AF_INET:
            raise OSError(_EAFNOSUPPORT)
        self._socket = taken or _host.socket(family, type, proto)
        self._timeout = None
        self._poll = None

    def settimeout(self, seconds):
        self._timeout = seconds
        self._socket.settimeout(seconds)

    def setblocking(self, flag):
        self.settimeout(None if flag else 0)

    def connect(self, address):
        self._socket.connect(_resolved(address))

    def bind(self, address):
        if isinstance(address, tuple):
            # The network of the board is the host's loopback, where many boards are and 443 takes root.
            port = host.get(_HTTPS) if address[1] == _HTTPS_PORT else address[1]
            address = _host.getaddrinfo("127.0.0.1", port)[0][-1]
        self._socket.bind(address)

    def accept(self):
        taken, address = self._socket.accept()
        _, name, port = _host.sockaddr(address)[:3]
        return socket(taken=taken), (_host.inet_ntop(AF_INET, name), port)

    def sendto(self, data, address):
        return self._socket.sendto(data, _resolved(address))

    def ioctl(self, request, argument):
        if request == _GET_FILENO:
            return self._socket.fileno()
        if request == _CLOSE:
            self._socket.close()
        elif request == _POLL and host.get(_LINKED):
            return self._ready(argument)
        return 0

    def _ready(self, events):
        """Which of these it is ready for. asyncio asks each time that it waits: the poll stays, and nothing is made."""
        if self._poll:
            self._poll.modify(self._socket, events)
        else:
            self._poll = _poll()
            self._poll.register(self._socket, events)
        for _, ready in self._poll.ipoll(0):
            return ready
        return 0

    # Most of what is read and written goes through these two, which make nothing either.

    def readinto(self, buffer, size=None):
        if not host.get(_LINKED) and not self._link_is_back():
            return self._gone()
        if size is None:
            return self._socket.readinto(buffer)
        return self._socket.readinto(buffer, size)

    def write(self, data, *part):
        if not host.get(_LINKED) and not self._link_is_back():
            return self._gone()
        if part:
            return self._socket.write(data, *part)
        return self._socket.write(data)

    def __getattr__(self, name):
        if name in _SILENT + _LOUD and not host.get(_LINKED) and not self._link_is_back():
            self._gone()
            if name in _LOUD:
                raise OSError(errno.EAGAIN)
            return lambda *_: None
        return getattr(self._socket, name)

    def _gone(self):
        """None, as from what would block; a socket that may block for so long and no longer raises."""
        if self._timeout:
            raise OSError(errno.ETIMEDOUT)

    def _link_is_back(self):
        """Wait for it as long as this socket may block."""
        start = _time.ticks_ms()
        while True:
            _time.sleep_ms(_WAIT_MS)  # also for a socket that may not block: its caller would poll without end
            if host.get(_LINKED):
                return True
            if self._timeout is not None and _time.ticks_diff(_time.ticks_ms(), start) >= self._timeout * 1000:
                return False
