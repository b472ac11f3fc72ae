"""The page of the demonstration: static files, a stream of what changes, and one place that takes orders.

Whoever can make the browser of this machine send requests must not press buttons: another page (Origin, token), one
whose name was pointed at 127.0.0.1 (Host), one that hides this page in a frame (frame-ancestors). Programs and people
with an account on this machine are not kept out.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import importlib.util
import json
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import build
from ..errors import GatehouseError
from .screen import Message, Screen

HOST, PORT = "127.0.0.1", 8259
MAX_BODY = 1024  # bytes of an order; the longest has 80
MAX_VIEWERS = 8  # streams at once: a projector, a few people; each holds a connection
MAX_CONNECTIONS = 32
HEAD_S = 10.0  # for the whole of a request
BEAT_S = 5.0  # a stream without news says that it is alive
_START_S = 10.0
_BATCH = 500  # changes in one event
PAGE = Path(__file__).with_name("page")
FILES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "plot.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Order = dict[str, Any]
Taker = Callable[[Order], str]  # takes an order; why not, "" when it was taken


def microdot() -> ModuleType:
    """The framework that the device uses too, at the version that set-up pins: a copy of its own for this process."""
    name = "gatehouse_tools.demo.microdot"
    if name not in sys.modules:
        path = build.THIRD_PARTY / "microdot" / "microdot.py"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise GatehouseError(f"{path} is not there: `make demo` fetches it", "state")
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.Request.max_content_length = module.Request.max_body_length = MAX_BODY
        sys.modules[name] = module
    return sys.modules[name]


class Web:
    """The server, in a thread of its own. Use it in a with block; `url` is where the page is.

    port 0 takes a free one. GatehouseError("busy") where the port is taken.
    """

    def __init__(self, screen: Screen, take: Taker, port: int = PORT) -> None:
        self._screen, self._take = screen, take
        self.port = port
        self.token = secrets.token_urlsafe(24)
        self._viewers = self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._app = self._application()
        self._thread = threading.Thread(target=self._loop.run_forever, name="page", daemon=True)
        self._thread.start()
        try:
            self._server = self._call(asyncio.start_server(self._serve, HOST, port, limit=4096))
        except OSError as error:
            self._end()
            if not isinstance(error, PermissionError) and "in use" not in str(error).lower():
                raise GatehouseError(f"port {port} of {HOST}: {error.strerror}; choose another with --port") from None
            told = f"port {port} of {HOST} is taken or not allowed: choose another with --port"
            raise GatehouseError(told, "busy") from None
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.port}/"

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._end()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_START_S)

    def _end(self) -> None:
        async def cancel() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        with contextlib.suppress(TimeoutError):
            self._call(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        wire: Any = writer  # as Microdot wants it
        wire.awrite = lambda data: _write(writer, data)
        module: Any = microdot()
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                peer = writer.get_extra_info("peername")
                async with asyncio.timeout(HEAD_S):
                    request = await module.Request.create(self._app, reader, wire, peer)
                response = await self._app.dispatch_request(request)
                await response.write(wire)
        except (OSError, ValueError, TimeoutError, EOFError):
            pass  # not a request: no answer
        except asyncio.CancelledError:
            pass  # the end of everything
        finally:
            self._connections -= 1
            writer.close()

    def _application(self) -> Any:
        module: Any = microdot()
        app = module.Microdot()
        app.options_handler = None
        app.before_request(self._check_host)
        for name, kind in FILES.items():
            app.get(f"/{name}")(lambda request, name=name, kind=kind: _file(name, kind))
        app.get("/")(self._page)
        app.get("/events")(self._events)
        app.post("/do")(self._do)

        def finish(_request: Any, response: Any) -> Any:
            response.headers.update(HEADERS)
            return response

        app.after_request(finish)
        app.after_error_request(finish)
        return app

    def _names(self) -> tuple[str, ...]:
        """The hosts under which this page is known. Any other name was pointed here by somebody else."""
        return f"{HOST}:{self.port}", f"localhost:{self.port}"

    def _check_host(self, request: Any) -> Any:
        if request.headers.get("host") not in self._names():
            return _no(f"this page is at {self.url} and nowhere else", 421)
        return None

    def _is_own(self, token: Any) -> bool:
        return isinstance(token, str) and hmac.compare_digest(token.encode(), self.token.encode())

    def _page(self, _request: Any) -> Any:
        text = (PAGE / "index.html").read_text().replace("TOKEN", self.token)
        return text, 200, {"Content-Type": "text/html; charset=utf-8"}

    def _events(self, request: Any) -> Any:
        if not self._is_own(request.args.get("token")):
            return _no("this page is of an earlier run: load it again", 403)
        if self._viewers >= MAX_VIEWERS:
            return _no(f"{MAX_VIEWERS} pages watch already: close one", 503)
        return self._stream(), 200, {"Content-Type": "text/event-stream; charset=utf-8"}

    async def _stream(self) -> AsyncIterator[str]:
        inbox: asyncio.Queue[Message] = asyncio.Queue()

        def tell(message: Message) -> None:
            self._loop.call_soon_threadsafe(inbox.put_nowait, message)

        end = self._screen.watch(tell)
        self._viewers += 1
        try:
            yield "retry: 1000\n\n"
            while True:
                try:
                    found = [await asyncio.wait_for(inbox.get(), BEAT_S)]
                except TimeoutError:
                    yield "event: alive\ndata: \n\n"
                    continue
                while not inbox.empty() and len(found) < _BATCH:
                    found.append(inbox.get_nowait())
                yield f"data: {json.dumps(found)}\n\n"
        finally:
            self._viewers -= 1
            end()

    async def _do(self, request: Any) -> Any:
        if request.headers.get("origin") != f"http://{request.headers.get('host')}":
            return _no("orders come from this page alone", 403)
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return _no("orders come from this page alone", 403)
        if not self._is_own(request.headers.get("x-gatehouse-token")):
            return _no("this page is of an earlier run: load it again", 403)
        if request.headers.get("content-type") != "application/json":
            return _no("an order is JSON", 415)
        try:
            order = json.loads(request.body)
        except (ValueError, RecursionError):
            order = None
        if not isinstance(order, dict):
            return _no("an order is a JSON object", 400)
        why = await asyncio.to_thread(self._take, order)
        return _no(why, 409) if why else ({"ok": True}, 202)


def _no(why: str, status: int) -> tuple[dict[str, Any], int]:
    return {"ok": False, "why": why}, status


def _file(name: str, kind: str) -> Any:
    return (PAGE / name).read_bytes(), 200, {"Content-Type": kind}


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
