"""HTTP/1.1 on one connection: a head within its bounds as Microdot's Request, and a Response with security headers.

Microdot's own reader and writer are not used: they bound neither the number of headers nor the time, and write each
header in a TLS record of its own. Standards: RFC 9110, RFC 9112 (messages), CSP level 3.
"""

import asyncio

import microdot
from micropython import const

from gatehouse import Refused

_MAX_HEADERS = const(40)  # Chromium sends about 20
_MAX_HEAD = const(4096)  # bytes of them all; a line has at most the 1 KB of the connection's buffer
_MAX_DIGITS = const(8)  # of a content-length
_LINGER = const(0x40000)  # bytes that are thrown away after an early answer: about what two kernels hold
_LINGER_MS = const(300)  # without any of them
_CHUNK = const(512)
_KEPT = ("host", "cookie", "origin", "content-length", "content-type", "sec-fetch-site", "x-csrf-token", "x-envelope")
# What the page needs and nothing else: its own style and script by their digests, and calls back to this device.
_SECURITY = (
    "Content-Security-Policy: default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; "
    "style-src 'sha256-lX6FXDupvelM926x8LIxya9Go6tXEOPRVmaZFQoi1rM='; "
    "script-src 'sha256-d+kzvqiNrxAu6gGVKxUoJllo+2xbXESk8T2s7kYUkLg='\r\n"
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n"
    "Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\nConnection: close\r\n"
)


class Bad(Exception):
    """(status, detail) of a head that is answered and not read on."""


async def head(app, wire):
    """The request of a head that keeps to the rules, a Microdot Request."""
    try:
        words = str(await wire.line(), "utf-8").split(" ")
        if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            raise Bad(400, "request line")
        method, target = words[:2]
        if method not in ("GET", "HEAD", "POST", "PUT"):
            raise Bad(501, "method")
        if not target.startswith("/") or "?" in target or "%" in target:
            raise Bad(404, "path")
        headers = {}
        total = count = 0
        while True:
            line = await wire.line()
            if not line:
                break
            total += len(line)
            count += 1
            if count > _MAX_HEADERS or total > _MAX_HEAD:
                raise Bad(431, "headers")
            _keep(headers, str(line, "utf-8"))
    except ValueError:  # no UTF-8
        raise Bad(400, "bytes")
    except Refused as error:
        if error.reason == "http":
            raise Bad(431, "line too long")
        raise
    if "host" not in headers:
        raise Bad(400, "no host")
    length = headers.get("content-length", "0")
    if not length.isdigit() or len(length) > _MAX_DIGITS:
        raise Bad(400, "content-length")
    return microdot.Request(app, None, method, target, words[2], microdot.NoCaseDict(headers), b"", wire)


def _keep(headers, line):
    name, colon, value = line.partition(":")
    name = name.lower()
    if not colon or not name or " " in name or "\t" in name:  # a folded line too
        raise Bad(400, "header")
    if name == "transfer-encoding":  # whoever may disagree with us about where a body ends
        raise Bad(501, name)
    if name in headers:
        raise Bad(400, "two of " + name)
    if name in _KEPT:
        headers[name] = value.strip()


async def write(wire, response):
    """Send a Response: its head in one piece, then its body, a file's in small ones."""
    response.complete()
    head = "HTTP/1.1 %d \r\n" % response.status_code
    for name, value in response.headers.items():
        for one in value if isinstance(value, list) else (value,):
            head += "%s: %s\r\n" % (name, one)
    body = response.body
    is_file = hasattr(body, "readinto")
    try:
        first = (head + _SECURITY + "\r\n").encode()
        whole = not is_file and not response.is_head and body and len(body) <= _CHUNK
        # In one piece, an answer is there whole or not at all: the policy may close the door meanwhile.
        await wire.send(first + body if whole else first)
        if response.is_head or whole:
            return
        if not is_file:
            if body:
                await wire.send(body)
            return
        view = memoryview(bytearray(_CHUNK))
        count = body.readinto(view)
        while count:
            await wire.send(view[:count])
            count = body.readinto(view)
    finally:
        if is_file:
            body.close()


async def drain(wire, left):
    """Throw away what is still on its way of a request that was answered early: a reset would take the answer along."""
    left = min(left, _LINGER)
    while left > 0:
        try:
            count = await asyncio.wait_for_ms(wire.read(None, left), _LINGER_MS)
        except asyncio.TimeoutError:
            return
        if not count:
            return
        left -= count
