"""One HTTPS request: who asks, Microdot's routes, and the call of an operation. Loaded while it is needed.

Microdot's server is not used: it falls back to plaintext on a TypeError. Nor are its session and login modules: they
neither revoke nor expire. Standard: RFC 6265bis (cookies).
"""

import asyncio
import hashlib
import json
import os
from binascii import hexlify

import microdot
from micropython import const

from access import message
from gatehouse import Refused, mac

_MAX_JSON = const(1024)  # bytes of a request's body; the longest are passwords
_MAX_BODY = const(0x400000)  # of an upload: as much as a small chip's whole flash
_COOKIE = "__Host-session"  # the prefix has browsers take it only with Secure, Path=/ and from this host itself
_KNOWN = "__Host-known"
_KNOWN_S = const(31536000)  # a year
_PAGE = "/access/page.html"
_STATUS = {
    "password": 401,
    "session": 401,
    "denied": 403,
    "fresh": 403,
    "operation": 404,
    "argument": 400,
    "format": 400,
    "timeout": 408,
    "size": 413,
    "locked": 429,
    "busy": 409,
    "memory": 503,
    "full": 507,
}


async def serve(server, wire):
    """Read one request, answer it. Refused or OSError for a peer that breaks off or stalls, without an answer."""
    app = application(server, wire)
    request = None
    try:
        request = await asyncio.wait_for_ms(message.head(app, wire), server.HEAD_MS)
    except message.Bad as bad:
        response = microdot.Response(_told("format", bad.args[1]), bad.args[0])
    else:
        response = await app.dispatch_request(request)
    await asyncio.wait_for_ms(message.write(wire, response), server.ANSWER_MS)
    await asyncio.wait_for_ms(message.drain(wire, request.content_length if request else _MAX_BODY), server.HEAD_MS)


def application(server, wire):
    """The Microdot application of one request: every route there is."""
    app = microdot.Microdot()
    app.options_handler = None
    microdot.Request.max_content_length = _MAX_BODY
    found = (
        ("/", "GET", lambda request: _page(server)),
        ("/api/login", "POST", lambda request: _login(server, wire, request)),
        ("/api/session", "GET", lambda request: _session(server, request)),
        ("/api/call", "POST", lambda request: _call(server, wire, request)),
        ("/api/upload", "PUT", lambda request: _upload(server, wire, request)),
    )
    for path, method, handler in found:
        app.route(path, methods=[method])(handler)
    app.error_handlers[404] = app.error_handlers[405] = lambda request: (_told("operation", "no such path"), 404)
    app.error_handlers[413] = lambda request: (_told("size", "body"), 413)
    app.error_handlers[MemoryError] = lambda request, error: (_told("memory", "try again"), 503)
    app.error_handlers[500] = lambda request: (_told("state", "the device failed at it"), 500)
    return app


def _told(reason, detail=""):
    return {"reason": reason, "detail": detail}


def _page(server):
    return microdot.Response(open(server.boot.release.root + _PAGE, "rb"), 200, {"Content-Type": "text/html"})


async def _answered(coroutine):
    """What a handler returns, a refusal as its status and reason."""
    try:
        return await coroutine
    except Refused as error:
        headers = {"Retry-After": error.detail.split(" ")[0]} if error.reason == "locked" else {}
        return _told(error.reason, error.detail), _STATUS.get(error.reason, 422), headers


async def _login(server, wire, request):
    async def login():
        _check_origin(request)
        given = await _json(server, wire, request)
        user, password = given.get("user"), given.get("password")
        if not isinstance(user, str) or not isinstance(password, str):
            raise Refused("argument", "user and password are texts")
        session = await server.auth.login("https", user, password, _has_been_here(server, request, user))
        server.know()
        old = _find(server, request)
        if old:  # this browser's former one
            server.auth.logout(old[2])
        cookie, csrf = hexlify(os.urandom(32)).decode(), hexlify(os.urandom(16)).decode()
        _forget_closed(server)
        server.sessions.append([hashlib.sha256(cookie.encode()).digest(), csrf, session])
        return _who(server.sessions[-1]), 200, {"Set-Cookie": [_cookie(_COOKIE, cookie), _token(server, user)]}

    return await _answered(login())


async def _session(server, request):
    async def session():
        return _who(_required(server, request))

    return await _answered(session())


async def _call(server, wire, request):
    async def call():
        entry = _may_change(server, request)
        given = await _json(server, wire, request)
        arguments = given.get("arguments", {})
        if not isinstance(arguments, dict):
            raise Refused("argument", "arguments are a map")
        if given.get("name") in ("update.receive", "update.offer"):
            raise Refused("operation", "an upload is one request of its own")  # or it took the files of one under way
        result = await server.operations.call(entry[2], given.get("name"), arguments)
        _forget_closed(server)
        gone = entry not in server.sessions
        return _plain(result), 200, {"Set-Cookie": _cookie(_COOKIE, "", 0)} if gone else {}

    return await _answered(call())


async def _upload(server, wire, request):
    async def take():
        from access import upload

        entry = _may_change(server, request)
        size = request.headers.get("x-envelope", "")
        if not size.isdigit() or len(size) > 5 or not 0 < int(size) <= request.content_length:
            raise Refused("argument", "x-envelope is the size of the envelope within the body")
        if server.receiving:
            raise Refused("busy", "another upload is under way")
        pack = request.content_length - int(size)
        call = server.operations.call
        server.receiving = True
        try:
            await call(entry[2], "update.receive", {"envelope": int(size), "pack": pack})
            await upload.receive(wire, int(size), pack)
        finally:
            server.receiving = False
        request.content_length = 0  # nothing is left to be thrown away
        return _plain(await call(entry[2], "update.offer", {}))

    return await _answered(take())


# Who asks.


def _check_origin(request):
    """Refused("session") where a page of another origin sent this: no browser sends ours without saying so."""
    headers = request.headers
    site = headers.get("sec-fetch-site", "same-origin")
    if headers.get("origin") != "https://" + headers["host"] or site != "same-origin":
        raise Refused("session", "another origin")


def _required(server, request):
    entry = _find(server, request)
    if not entry or not server.auth.touch(entry[2]):
        _forget_closed(server)
        raise Refused("session", "log in")
    server.know()
    return entry


def _may_change(server, request):
    _check_origin(request)
    entry = _required(server, request)
    if not _same(request.headers.get("x-csrf-token", "").encode(), entry[1].encode()):
        raise Refused("session", "no token of this session")
    return entry


def _find(server, request):
    given = hashlib.sha256(request.cookies.get(_COOKIE, "").encode()).digest()
    found = None
    for entry in server.sessions:
        if _same(given, entry[0]):
            found = entry
    return found


def _same(one, other):
    """Whether two bytes are the same, in a time that tells nothing but their lengths."""
    if len(one) != len(other):
        return False
    different = 0
    for at in range(len(one)):
        different |= one[at] ^ other[at]
    return not different


def _forget_closed(server):
    still = server.auth.sessions()
    server.sessions = [entry for entry in server.sessions if entry[2] in still]


def _who(entry):
    session = entry[2]
    return {"user": session.user, "role": session.role, "fresh": session.fresh, "csrf": entry[1]}


def _cookie(name, value, seconds=None):
    life = "" if seconds is None else "; Max-Age=%d" % seconds
    return "%s=%s; Path=/; Secure; HttpOnly; SameSite=Strict%s" % (name, value, life)


# A browser in which a user has logged in before keeps a token of that, which has delays of its own after wrong
# passwords: so whoever tries passwords all day does not keep that browser's user out. It opens nothing.


def _token(server, user):
    nonce = hexlify(os.urandom(8)).decode()
    return _cookie(_KNOWN, "%s.%s.%s" % (user, nonce, _proof(server, user, nonce)), _KNOWN_S)


def _proof(server, user, nonce):
    key = server.boot.store.derive("browser")  # another one after the end of an ownership
    return hexlify(mac.hmac_sha256(key, ("%s.%s" % (user, nonce)).encode())).decode()


def _has_been_here(server, request, user):
    """Whether the browser shows such a token for this user."""
    parts = request.cookies.get(_KNOWN, "").split(".")
    if len(parts) != 3:
        return False
    return _same(parts[2].encode(), _proof(server, user, parts[1]).encode())  # another user's proves nothing


# Bodies.


async def _json(server, wire, request):
    """The map in the request's body, which has as long as its head had."""
    size = request.content_length
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        raise Refused("format", "content-type must be application/json")
    if size > _MAX_JSON:
        raise Refused("size", "at most %d bytes" % _MAX_JSON)
    view = memoryview(bytearray(size))
    try:
        await asyncio.wait_for_ms(_fill(wire, view), server.HEAD_MS)
    except asyncio.TimeoutError:
        raise Refused("timeout", "the body did not come in time")
    request.content_length = 0
    try:
        given = json.loads(bytes(view))
    except ValueError:
        raise Refused("format", "no JSON")
    if not isinstance(given, dict):
        raise Refused("format", "no map")
    return given


async def _fill(wire, view):
    at = 0
    while at < len(view):
        count = await wire.read(view[at:], len(view) - at)
        if not count:
            raise Refused("network", "closed within the body")
        at += count


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return hexlify(value).decode() if isinstance(value, bytes) else value
