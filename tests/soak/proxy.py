"""A TCP proxy on loopback, whose connections can be cut, go silent, or be refused: the network between two."""

from __future__ import annotations

import contextlib
import socket
import threading

_PIECE = 16384
_DIAL_S = 5.0


class Proxy:
    """Listens on `port` between start and close(); each connection is led to `target`, a port of 127.0.0.1."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._open = threading.Event()  # bytes are passed on
        self._open.set()
        self._refuses = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """End all connections; both sides hear of it."""
        with self._lock:
            cut, self._sockets = self._sockets, set()
        for one in cut:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def refuse(self, refuse: bool) -> None:
        """End all connections, and each new one at once, until it is told not to."""
        self._refuses = refuse
        self.cut()

    def silence(self, silent: bool) -> None:
        """Pass nothing on: connections are there, new ones too, and nobody hears anything (half-open).

        At its end those connections are cut: what was sent into the silence never arrives.
        """
        if silent:
            self._open.clear()
        else:
            self.cut()
            self._open.set()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._open.set()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            if self._refuses:
                near.close()
                continue
            threading.Thread(target=self._lead, args=(near,), name="proxied", daemon=True).start()

    def _lead(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.target), _DIAL_S)
        except OSError:  # the broker is away
            near.close()
            return
        far.settimeout(None)
        with near, far:
            with self._lock:
                self._sockets |= {near, far}
            back = threading.Thread(target=self._pass, args=(far, near), name="proxied", daemon=True)
            back.start()
            self._pass(near, far)
            back.join()
            with self._lock:
                self._sockets -= {near, far}

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(_PIECE):
                self._open.wait()
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
