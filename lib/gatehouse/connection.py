"""One TCP or TLS connection that is read in lines and blocks, with bounds on memory and time.

The peer is not trusted: it may stall, trickle or never end. Everything raises Refused: "network" for a peer that cannot
be reached or breaks off, "timeout" for one that stalls or is too slow, "tls" for one whose certificate does not hold or
that speaks no TLS, "http" for a line that is too long.
"""

import asyncio
import gc
from errno import ENOMEM, ETIMEDOUT
from time import ticks_diff, ticks_ms

from micropython import const

from gatehouse import Refused
from gatehouse.dial import dial, is_tls, tls_context

_BUFFER = const(1024)  # also the longest line
_YIELD = const(8)  # reads without a wait after which other tasks get their turn


class Connection:
    """A buffered connection. `received` counts the bytes that came over all connections of this object.

    The limits are attributes, so that a test can shorten them.
    """

    CONNECT_MS = 10000
    STALL_MS = 15000  # without any byte; also for sending a request, a whole TLS handshake included
    WINDOW_MS = 30000  # of waiting within responses, after which the rate is judged
    LEAST_RATE = 500  # bytes/s in such a window: slow retrieval must not hold an update up for days
    TICK_MS = 500

    def __init__(self, authorities=()):
        """authorities: certificates in DER, whom TLS connections trust."""
        self._authorities = authorities
        self._context = None
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._raw = self._socket = self._stream = None  # TCP, it or TLS over it, its reader
        self._guard = None  # the task that watches the time
        self._reader = None  # the task that waits for the peer
        self.received = 0
        self.close()

    def close(self):
        """Give up the connection and what watches it. May be called twice."""
        if self._guard:
            self._guard.cancel()
        if self._socket is not self._raw:
            self._socket.close()
        if self._raw:
            self._raw.close()
        self._guard = self._raw = self._socket = self._stream = None
        self._at = self._end = 0  # what the buffer holds and nobody took yet
        self._flowing = False  # within a response, not before it
        self._expired = None  # what the guard found
        self._reads = 0

    async def open(self, host, port, secure=False):
        """Connect, within CONNECT_MS; the TLS handshake happens with the first request."""
        self.close()
        try:
            self._raw = self._socket = await dial(host, port, self.CONNECT_MS)
        except OSError as error:
            raise Refused("timeout" if error.errno == ETIMEDOUT else "network", "%s:%d: %s" % (host, port, error))
        if secure:
            gc.collect()  # TLS takes tens of kilobytes
            if not self._context:
                self._context = tls_context(self._authorities)
            try:
                self._socket = self._context.wrap_socket(self._raw, server_hostname=host, do_handshake_on_connect=False)
            except (OSError, ValueError) as error:
                raise _refused(error)
        self._start()

    def adopt(self, raw, context):
        """Take a peer that has connected, as its TLS server; the handshake happens with the first bytes."""
        self.close()
        self._raw = self._socket = raw
        raw.setblocking(False)
        try:
            # A handshake at once would wait for this peer alone, and the whole device with it.
            self._socket = context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            raise _refused(error)
        self._start()

    def _start(self):
        self._stream = asyncio.StreamReader(self._socket)
        self._guard = asyncio.create_task(self._watch())

    async def send(self, data):
        """Write a request; what comes next is waited for with patience for its first byte."""
        self._flowing = False
        try:
            self._stream.write(data)  # smaller than any send buffer: what waits here is a TLS handshake
            await self._within_time(self._stream.drain)
        except (OSError, ValueError) as error:
            raise _refused(error)

    async def line(self):
        """The next line (bytes) without its end, which is LF or CR LF."""
        while True:
            found = self._buffer.find(b"\n", self._at, self._end)
            if found >= 0:
                line = bytes(self._view[self._at : found])
                self._at = found + 1
                return line[:-1] if line.endswith(b"\r") else line
            length = self._end - self._at
            if length == _BUFFER:
                raise Refused("http", "line too long")
            self._view[:length] = self._view[self._at : self._end]
            self._at = 0
            self._end = length
            count = await self._receive(self._view[length:])
            if not count:
                raise Refused("network", "closed within the head")
            self._end += count
            self._flowing = True

    def buffered(self):
        """How many bytes came that nobody read yet."""
        return self._end - self._at

    async def read(self, view, limit):
        """Read at most `limit` bytes into a memoryview, or away where it is None; how many, 0 when the peer closed."""
        count = min(self._end - self._at, limit)
        if count:
            if view is not None:
                view[:count] = self._view[self._at : self._at + count]
            self._at += count
            return count
        if view is None:  # the empty buffer takes what nobody wants
            view = self._view
        return await self._receive(view[:limit] if limit < len(view) else view)

    async def _receive(self, view):
        self._reads += 1
        if self._reads >= _YIELD:
            self._reads = 0
            await asyncio.sleep_ms(0)
        try:
            count = self._socket.readinto(view)  # there mostly is something: no way round through the event loop
            if count is None:
                self._reads = 0
                count = await self._within_time(self._arrived, view)
        except (OSError, ValueError) as error:
            raise _refused(error)
        self.received += count
        return count

    async def _arrived(self, view):
        count = None
        while count is None:
            count = await self._stream.readinto(view)
        return count

    async def _within_time(self, function, *arguments):
        self._since = ticks_ms()
        self._reader = asyncio.current_task()
        try:
            return await function(*arguments)
        except asyncio.CancelledError:
            if self._expired:
                raise Refused("timeout", self._expired)
            raise
        finally:
            self._reader = None

    async def _watch(self):
        # One task for all reads of a connection: wait_for() around each would make a task for each.
        sampled = mark = 0
        while True:
            await asyncio.sleep_ms(self.TICK_MS)
            if not self._reader:
                continue  # the caller is busy: not the peer's fault
            waited = ticks_diff(ticks_ms(), self._since)
            if self._flowing:  # ranges may be many and small: until the first byte of each only STALL_MS counts
                sampled += self.TICK_MS
            if waited > self.STALL_MS:
                self._expired = "no byte for %d ms" % waited
            elif sampled >= self.WINDOW_MS:
                if (self.received - mark) * 1000 < self.LEAST_RATE * sampled:
                    self._expired = "less than %d bytes a second" % self.LEAST_RATE
                sampled = 0
                mark = self.received
            if self._expired:
                self._reader.cancel()
                return


def _refused(error):
    if isinstance(error, OSError) and error.errno == ENOMEM:
        return Refused("memory", "no room for a TLS connection")  # mbedTLS has a heap of its own on the chip
    return Refused("tls" if is_tls(error) else "network", str(error))
