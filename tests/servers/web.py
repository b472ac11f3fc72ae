"""An HTTP server that can do everything wrong: each case is a function that gets the raw socket."""

import contextlib
import re
import socket
import threading

PAYLOAD = bytes(i * 7 % 251 for i in range(20000))


class Peer:
    """One connection, seen from the server: request() gives the next head, send() writes, rest() waits for the end."""

    def __init__(self, connection, number):
        self.connection = connection
        self.number = number  # of this connection, from 1
        self.sent = 0
        self._buffer = b""

    def request(self):
        """(path, start, end) of the next request, with None for an open end, or start for no range; None at the end."""
        while b"\r\n\r\n" not in self._buffer:
            data = self.connection.recv(4096)
            if not data:
                return None
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self.head = head
        found = re.search(rb"\r\nRange: bytes=(\d+)-(\d*)", head)
        path = head.split()[1].decode()
        if not found:
            return path, None, None
        return path, int(found[1]), int(found[2]) + 1 if found[2] else None

    def send(self, *parts):
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            self.connection.sendall(data)
            self.sent += len(data)

    def partial(self, start, end, total=None, body=None, extra=""):
        """An honest 206, unless told otherwise."""
        body = PAYLOAD[start:end] if body is None else body
        self.send(
            f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{end - 1}/{total or len(PAYLOAD)}\r\n"
            f"Content-Length: {len(body)}\r\n{extra}\r\n",
            body,
        )

    def rest(self):
        """Keep silent until the other side goes away."""
        with contextlib.suppress(OSError):
            while self.connection.recv(4096):
                pass


class WebServer:
    """Runs `case(peer)` in a thread for each connection; as a context manager. `context`: an ssl.SSLContext for TLS."""

    def __init__(self, case, context=None):
        self._case = case
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.peers = []
        self.errors = []
        self._threads = []

    def __enter__(self):
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            peer = Peer(connection, len(self.peers) + 1)
            self.peers.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer):
        with peer.connection:
            try:
                self._case(peer)
            except OSError:
                pass  # the device went away: often what is being tested
            except Exception as error:  # noqa: BLE001 shown by the test that reads `errors`
                self.errors.append(error)

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.connection.shutdown(socket.SHUT_RDWR)
        for thread in (self._accepting, *self._threads):
            thread.join(5)
        assert not self.errors, self.errors
