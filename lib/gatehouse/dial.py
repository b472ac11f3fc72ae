"""TCP connections: made while other tasks go on, what TLS on them takes for proof, and one that umqtt can use."""

import asyncio
import select
import socket
from errno import ECONNRESET, EINPROGRESS, ETIMEDOUT
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from gatehouse import Refused

BUFFER = const(1400)  # of a Wire: one TLS record in one segment
_POLL_MS = const(10)
_SLICE_MS = const(100)
_IPPROTO_TCP = const(6)  # the unix port has no names for these two
_TCP_NODELAY = const(1)
_CONN_EOF = const(-0x7280)  # mbedTLS: closed without a farewell
_ERRNO = const(-256)  # below it are mbedTLS's own error numbers


def tls_context(authorities, certificate=None, key=None):
    """A client's SSLContext: the peer must show a certificate of one of `authorities`, for its host name.

    All are DER bytes; the client shows `certificate` if given. Refused("state") for what is no certificate or key.
    """
    import tls

    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    try:
        for authority in authorities:
            context.load_verify_locations(authority)
        if certificate:
            context.load_cert_chain(certificate, key)
    except (ValueError, OSError) as error:
        raise Refused("state", "TLS credentials: %s" % error)
    return context


def is_tls(error):
    """Whether an exception of a connection is TLS's own: a certificate that does not hold, or no TLS at all."""
    if isinstance(error, OSError):
        code = error.errno
        return isinstance(code, int) and code < _ERRNO and code != _CONN_EOF
    return isinstance(error, ValueError)  # mbedTLS's reason to refuse a certificate, in words


async def dial(host, port, limit_ms):
    """A connected, non-blocking socket. OSError when there is none to be had, with ETIMEDOUT after `limit_ms`."""
    # Resolving a name blocks; lwIP ends that after a few seconds.
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        try:
            sock.connect(address)
        except OSError as error:
            if error.errno != EINPROGRESS:
                raise
        poller = select.poll()
        poller.register(sock, select.POLLOUT)
        started = ticks_ms()
        while not poller.poll(0):
            if ticks_diff(ticks_ms(), started) > limit_ms:
                raise OSError(ETIMEDOUT)
            await asyncio.sleep_ms(_POLL_MS)
        return sock  # refused connections count as made, and fail at the first write
    except BaseException:
        sock.close()
        raise


class Wire:
    """What umqtt takes for a socket: a connected one, non-blocking, with TLS where there is a context."""

    def __init__(self, raw, context, host, buffer):
        raw.setblocking(False)
        raw.setsockopt(_IPPROTO_TCP, _TCP_NODELAY, 1)  # a message of several segments must not wait for an ACK
        self._raw = raw
        self._sock = raw
        if context:
            # The handshake happens with the first write, so that its time counts too.
            self._sock = context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
        self._poller = select.poll()
        self._poller.register(self._sock, select.POLLIN)
        # Waits for reading ask the raw socket: TLS has nothing left by then, and the raw one can sleep in the kernel.
        self._raw_poller = select.poll()
        self._raw_poller.register(raw, select.POLLIN)
        self._buffer = buffer
        self._used = 0
        self._deadline = ticks_ms()

    def arm(self, limit_ms):
        """Give what follows so much time."""
        self._deadline = ticks_add(ticks_ms(), limit_ms)

    def readable(self):
        """Whether something, or the end, can be read now."""
        self._poller.modify(self._sock, select.POLLIN)
        return bool(self._poller.poll(0))

    def _left(self):
        left = ticks_diff(self._deadline, ticks_ms())
        if left <= 0:
            raise OSError(ETIMEDOUT)
        return left

    def _wait(self, poller):
        poller.poll(min(self._left(), _SLICE_MS))

    def read(self, count):
        """Exactly `count` bytes."""
        self.flush()
        if not count:
            return b""
        self._left()  # who sends without end does not wait, but is not waited for either
        data = None
        while data is None:
            data = self._sock.read(count)
            if data is None:
                self._wait(self._raw_poller)
        if len(data) == count:  # most often: no second copy
            return data
        if not data:
            raise OSError(ECONNRESET)
        whole = bytearray(count)
        whole[: len(data)] = data
        self.readinto(memoryview(whole)[len(data) :])
        return bytes(whole)

    def readinto(self, view):
        """Fill a memoryview."""
        while len(view):
            count = self._sock.readinto(view)
            if count is None:
                self._wait(self._raw_poller)
            elif not count:
                raise OSError(ECONNRESET)
            else:
                view = view[count:]

    def write(self, data, count=-1):
        """Collect `data`; it goes out with the next read or flush, or when the buffer is full."""
        view = memoryview(data)
        if count >= 0:
            view = view[:count]
        while len(view):
            if not self._used and len(view) > BUFFER:
                self._put(view)  # what is left of a large message goes without being copied
                return
            room = min(len(view), BUFFER - self._used)
            self._buffer[self._used : self._used + room] = view[:room]
            self._used += room
            view = view[room:]
            if self._used == BUFFER:
                self.flush()

    def flush(self):
        """Write what was collected."""
        view = self._buffer[: self._used]
        self._used = 0
        self._put(view)

    def _put(self, view):
        while len(view):
            count = self._sock.write(view)
            if count is None:
                self._poller.modify(self._sock, select.POLLOUT)
                self._wait(self._poller)
            else:
                view = view[count:]

    def close(self):
        """Close at once: what was not flushed is lost."""
        if self._sock is not self._raw:
            self._sock.close()
        self._raw.close()

    def settimeout(self, _):
        """Nothing to do: what else umqtt asks of a socket is done, this one is connected and its time limited."""

    connect = setblocking = settimeout
