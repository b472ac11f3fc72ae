"""A static HTTP/1.1 server for packs, with TLS and the ranges that Python's own lacks (RFC 9110 section 14)."""

from __future__ import annotations

import contextlib
import email.utils
import os
import pathlib
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .errors import GatehouseError

IDLE_S = 30  # a kept connection without a request, so that threads do not pile up
_BLOCK = 65536  # bytes sent at once
_PIECES = 4  # a second, where the rate is limited: often enough that no device takes it for a stall
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True)
class Request:
    """One answered request. `head` and `body` are the bytes that were sent; `span` is the byte range, end excluded.

    began: when its answer did, in Unix seconds.
    """

    client: str
    method: str
    path: str
    status: int
    span: tuple[int, int] | None
    head: int
    body: int
    began: float = 0.0


class StaticServer:
    """Serves the files below a folder; a thread per connection. `log` holds the requests in the order of their answers.

    Use it as a context manager, or start() and stop(). `port` 0 takes a free one.
    GatehouseError: the folder is not there, or the port is not to be had.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        host: str = "127.0.0.1",
        port: int = 0,
        on_request: Callable[[Request], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.tls = tls
        self.directory = pathlib.Path(directory).resolve()
        if not self.directory.is_dir():
            raise GatehouseError(f"{directory} is no folder: name the one that holds the packs")
        self.log: list[Request] = []
        self.rate = 0  # bytes a second of each answer, as over a slow network; 0: no limit. It can change at any time
        self._on_request = on_request
        self._thread: threading.Thread | None = None
        try:
            self._server = _Server((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise GatehouseError(f"cannot listen on {host}:{port} ({reason}): choose another with --port") from None
        self._server.owner = self

    @property
    def url(self) -> str:
        """The base URL, with the slash at its end."""
        host, port = self._server.server_address[:2]
        return f"{'https' if self.tls else 'http'}://{host!s}:{port}/"

    def start(self) -> StaticServer:
        """Serve in a thread from now on."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port and every connection."""
        if self._thread:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.close_connections()
        self._server.server_close()  # waits for the threads of the connections, so the log is complete then

    def __enter__(self) -> StaticServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def record(self, request: Request) -> None:
        """Keep one answered request, and tell who wants to know."""
        self.log.append(request)
        if self._on_request:
            self._on_request(request)

    def find(self, target: str) -> pathlib.Path | None:
        """The file that a request target names: one below the folder, links followed; folders have no listing."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(target).path)
        parts = path.split("/")[1:]
        if not path.startswith("/") or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            return None
        try:
            found = self.directory.joinpath(*parts).resolve()
            return found if found.is_relative_to(self.directory) and found.is_file() else None
        except (OSError, RuntimeError):  # a name too long, links in a circle
            return None


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    owner: StaticServer

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.owner.tls:
            # The handshake happens in the connection's own thread, with the first read.
            connection = self.owner.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event of this server."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "gatehouse"
    sys_version = ""
    timeout = IDLE_S
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def _answer(self, with_body: bool) -> None:
        path = self.server.owner.find(self.path)
        try:
            if path is None:
                raise FileNotFoundError
            file = path.open("rb")
        except OSError:
            self._send(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return
        with file:
            stat = os.fstat(file.fileno())
            size = stat.st_size
            fields = {
                "Accept-Ranges": "bytes",
                "ETag": f'"{stat.st_mtime_ns:x}-{size:x}"',
                "Last-Modified": email.utils.formatdate(stat.st_mtime, usegmt=True),
                "Content-Type": "application/octet-stream",
            }
            if self.headers.get("If-None-Match") in (fields["ETag"], "*"):
                self._send(HTTPStatus.NOT_MODIFIED, fields)
                return
            span = self._span(size, fields)
            if span is None:
                status, start, end = HTTPStatus.OK, 0, size
            elif span[0] >= span[1]:
                refusal = {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
                self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, refusal)
                return
            else:
                status, (start, end) = HTTPStatus.PARTIAL_CONTENT, span
                fields["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            fields["Content-Length"] = str(end - start)
            self._send(status, fields, span, (file, start, end) if with_body else None)

    def _span(self, size: int, fields: dict[str, str]) -> tuple[int, int] | None:
        """The one range that is asked for, end excluded; empty if it cannot be; None for the whole file.

        What is malformed, in another unit or a set of several ranges may be answered by the whole file.
        """
        match = RANGE.fullmatch(self.headers.get("Range", "").replace(" ", ""))
        if not match or self.command != "GET":
            return None
        condition = self.headers.get("If-Range")
        if condition is not None and condition not in (fields["ETag"], fields["Last-Modified"]):
            return None
        first, last = match.groups()
        if first:
            if last and int(last) < int(first):
                return None
            return int(first), min(int(last) + 1, size) if last else size
        return (max(size - int(last), 0), size) if last else None

    def _send(
        self,
        status: HTTPStatus,
        fields: dict[str, str],
        span: tuple[int, int] | None = None,
        body: tuple[Any, int, int] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        head = len(b"".join(self._headers_buffer)) + 2  # type: ignore[attr-defined]
        sent, began = 0, time.time()
        try:
            self.end_headers()
            if body:
                file, start, end = body
                sent = self._send_file(file, start, end - start)
        finally:
            client = f"{self.client_address[0]}:{self.client_address[1]}"
            self.server.owner.record(Request(client, self.command, self.path, status, span, head, sent, began))

    def _send_file(self, file: Any, start: int, count: int) -> int:
        file.seek(start)
        sent = 0
        while sent < count:
            rate = self.server.owner.rate
            block = file.read(min(max(1, rate // _PIECES) if rate else _BLOCK, count - sent))
            if not block:  # cut short while it was being sent: the client must see that
                self.close_connection = True
                break
            self.connection.sendall(block)
            sent += len(block)
            if rate:
                time.sleep(len(block) / rate)
        return sent

    def log_message(self, format: str, *arguments: Any) -> None:
        """The owner records; nothing is printed here."""
