"""Where payload bytes come from: an HTTP/1.1 server, plain or TLS (MQTT: blocks.py, a local file: filesource.py).

Nothing here is trusted: the caller checks every byte against a signed digest. What this module owes the caller is
bounds: never a byte beyond the asked range, one buffer whatever the payload's size, and an end to a server that stalls.
Standards: RFC 9110 (ranges, redirects), RFC 9112 (messages).
"""

from micropython import const

from gatehouse import VERSION, Refused, connection, uri

_MAX_HEAD = const(8192)  # bytes of status line and headers, those of interim responses included
_MAX_REDIRECTS = const(3)
_MAX_LENGTH = const(0x3FFFFFFF)  # of anything that a server announces: the largest small int of the chip
_MAX_DIGITS = const(10)
_FIELDS = (b"content-length", b"content-range", b"transfer-encoding", b"content-encoding", b"connection", b"location")


def open_source(reference, base="", authorities=(), link=None, digest=b""):
    """The source that a URI reference names, relative to `base`; it connects at open().

    authorities: certificates in DER, of which an https server must show one. Where the URI or its base is `mqtt:`, the
    pack comes as blocks of `digest` over `link`. Refused("unsupported") for other schemes, Refused("format") for what
    is no URI.
    """
    absolute = uri.resolve(reference, base)
    if absolute == uri.MQTT:
        from gatehouse import blocks

        return blocks.BlockSource(link, digest)
    return HttpSource(absolute, authorities)


class HttpSource:
    """A resource at an absolute http or https URI, read by ranges over one connection, which is kept while it can be.

    Its methods raise Refused: "http" for an unusable answer, "size" for one of wrong length, "timeout" for a server
    that stalls or is too slow, "network" for one that cannot be reached or closes early, "tls" where its certificate
    does not hold.
    """

    MAX_SKIP = 8 << 20  # bytes thrown away where a server ignores ranges: no pack is larger than the flash

    def __init__(self, absolute, authorities=()):
        self._uri = absolute
        self._wire = connection.Connection(
            authorities
        )  # its `received` counts what the network brought, heads included
        self._disconnect()

    async def open(self, start, end=None):
        """Ask for bytes [start, end), or from start on."""
        if start < 0 or (end is not None and end <= start):
            raise ValueError("range")
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                location = await self._ask(start, end)
                if location is None:
                    return
                self._disconnect()
                target = uri.resolve(location, self._uri)
                if uri.split(self._uri)[3] and not uri.split(target)[3]:
                    raise Refused("http", "redirect from https to plain http")
                self._uri = target
            raise Refused("http", "redirects")
        except BaseException:  # cancelled too: the connection is in the middle of something
            self._disconnect()
            raise

    async def readinto(self, view):
        """Read into a memoryview what is there; how many bytes, 0 only at the end of the range."""
        return await self._read(view, len(view))

    async def skip(self, count):
        """Read `count` bytes and throw them away. Refused("size") where the range ends before."""
        while count:
            got = await self._read(None, count)
            if not got:
                raise Refused("size", "too short")
            count -= got

    async def close(self):
        """Give up the connection. May be called twice."""
        self._disconnect()

    def _disconnect(self):
        self._wire.close()
        self._left = 0  # bytes of the asked range still to come, _MAX_LENGTH if only their end will tell
        self._chunk = 0  # the same of the body, or of its current chunk
        self._chunked = self._first = self._keep = False

    # The body.

    async def _read(self, view, limit):
        try:
            if self._left and not self._chunk and not (self._chunked and await self._next_chunk()):
                if self._left != _MAX_LENGTH:
                    raise Refused("size", "too short")
                self._left = 0
            limit = min(limit, self._left, self._chunk)
            if not limit:
                return 0
            count = await self._wire.read(view, limit)
            if count:
                self._left -= 0 if self._left == _MAX_LENGTH else count
                self._chunk -= 0 if self._chunk == _MAX_LENGTH else count
            elif self._left == self._chunk == _MAX_LENGTH:
                self._left = 0
            else:
                raise Refused("network", "closed early")
            return count
        except BaseException:
            self._disconnect()
            raise

    async def _next_chunk(self):
        """Read what is between two chunks; the length of the next, 0 when there is none."""
        self._room = _MAX_HEAD
        if not self._first and await self._line():
            raise Refused("http", "chunk")
        self._first = False
        self._chunk = _number((await self._line()).split(b";", 1)[0].strip(), 16)
        if not self._chunk:
            await self._fields()  # trailers, which nobody needs
            self._chunked = False
        return self._chunk

    # One request and the head of its response.

    async def _ask(self, start, end):
        """Send the request; None where the body follows, else the location to go to."""
        host, port, path, secure = uri.split(self._uri)
        request = "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: gatehouse/%s\r\nAccept-Encoding: identity\r\n" % (
            path, host, port, VERSION)  # fmt: skip
        ranged = start or end is not None
        if ranged:
            request += "Range: bytes=%d-%s\r\n" % (start, "" if end is None else end - 1)
        message = (request + "\r\n").encode()
        line = None
        self._room = _MAX_HEAD
        if self._keep and not (self._left or self._chunk or self._chunked or self._wire.buffered()):
            try:
                await self._wire.send(message)
                line = await self._line()
            except Refused as error:
                # A server may end an idle connection at any time; that is no failure yet.
                if error.reason != "network":
                    raise
        if line is None:
            self._disconnect()
            await self._wire.open(host, port, secure)
            await self._wire.send(message)
            line = await self._line()
        status, fields = await self._head(line)
        if status in (301, 302, 303, 307, 308) and b"location" in fields:
            return "".join(chr(char) for char in fields[b"location"])  # whatever it is: uri judges it
        if status != 200 and (status != 206 or not ranged):
            raise Refused("http", "status %d" % status)
        if fields.get(b"content-encoding", b"identity") != b"identity":
            raise Refused("http", "encoding")
        self._frame(fields)
        if status == 206:
            self._left = _content_range(fields.get(b"content-range", b""), start, end)
            if not self._chunked and self._chunk not in (self._left, _MAX_LENGTH):
                raise Refused("size", "range")
            return None
        # The server does not do ranges (or was asked for none): what comes before is skipped.
        if start > self.MAX_SKIP:
            raise Refused("http", "no ranges")
        length = _MAX_LENGTH if self._chunked else self._chunk
        if length < (end or start):
            raise Refused("size", "too short")
        self._left = end or length
        await self.skip(start)
        return None

    async def _head(self, line):
        """(status, fields) of the response that begins with `line`; interim responses are passed over."""
        while True:
            parts = line.split(None, 2)
            if len(parts) < 2 or parts[0] not in (b"HTTP/1.1", b"HTTP/1.0"):
                raise Refused("http", "header")
            self._keep = parts[0] == b"HTTP/1.1"
            status = _number(parts[1])
            fields = await self._fields()
            if status >= 200:
                return status, fields
            line = await self._line()

    async def _fields(self):
        """The header lines up to the empty one, {name: value} for those of _FIELDS."""
        fields = {}
        while True:
            line = await self._line()
            if not line:
                return fields
            name, colon, value = line.partition(b":")
            if not colon or line[0] in b" \t":
                raise Refused("http", "header")
            name = name.lower()
            if name in _FIELDS:
                value = value.strip()
                if fields.get(name, value) != value:
                    raise Refused("http", "header")
                fields[name] = value

    async def _line(self):
        line = await self._wire.line()
        self._room -= len(line) + 2
        if self._room < 0:
            raise Refused("http", "too long")
        return line

    def _frame(self, fields):
        """Where the body ends (RFC 9112 section 6.3)."""
        length = fields.get(b"content-length")
        coding = fields.get(b"transfer-encoding")
        if b"close" in fields.get(b"connection", b"").lower():
            self._keep = False
        if coding is not None:
            # Both together are how a message is smuggled past somebody.
            if coding.lower() != b"chunked" or length is not None:
                raise Refused("http", "encoding")
            self._chunked = self._first = True
            self._chunk = 0
        elif length is not None:
            self._chunk = _number(length)
        else:
            self._keep = False
            self._chunk = _MAX_LENGTH


def _content_range(value, start, end):
    """How many bytes a Content-Range header announces, where they are those that were asked for."""
    unit, _, rest = value.partition(b" ")
    span, _, total = rest.partition(b"/")
    first, _, last = span.partition(b"-")
    if unit != b"bytes" or _number(first) != start:
        raise Refused("http", "range")
    stop = _number(last) + 1
    total = end if total == b"*" else _number(total)
    if stop <= start or (total is not None and stop > total):
        raise Refused("http", "range")
    if stop != (end or total or stop):
        raise Refused("size", "range")
    return stop - start


def _number(text, base=10):
    """The value of header bytes that are digits and nothing else, which int() would not insist on."""
    for char in text.lower():
        if char not in (b"0123456789abcdef" if base == 16 else b"0123456789"):
            raise Refused("http", "header")
    if not 0 < len(text) <= _MAX_DIGITS or int(text, base) >= _MAX_LENGTH:
        raise Refused("http", "header")
    return int(text, base)
