"""A small SNTP server (RFC 4330) for the loopback network of simulated devices, with a clock that can be set."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

from .errors import GatehouseError

_DELTA = 2208988800  # seconds from 1900, where NTP counts, to 1970
_PACKET = 48


class Server:
    """Answers in a thread of its own between start() and stop(), or in a with block. `offset`: seconds it is off by."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.offset = 0.0
        self.answers = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise GatehouseError(f"time server: cannot listen on {host}:{port}: {error.strerror}", "busy") from None
        self.port: int = self._socket.getsockname()[1]
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="sntp", daemon=True)

    def start(self) -> Server:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread and free the port."""
        if self._thread.is_alive():
            self._stopping = True
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wake:
                wake.sendto(b"", self._socket.getsockname())
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def set(self, unix: float) -> None:
        """Tell this time (Unix seconds) from now on."""
        self.offset = unix - time.time()

    def _serve(self) -> None:
        while not self._stopping:
            request, sender = self._socket.recvfrom(1024)
            if len(request) < _PACKET or request[0] & 7 != 3:
                continue  # not a client's
            now = time.time() + self.offset + _DELTA
            stamp = struct.pack(">II", int(now) & 0xFFFFFFFF, int(now % 1 * (1 << 32)))
            # Leap 0, version 4, server; stratum 1. The client's transmit timestamp goes back as the originate one.
            head = bytes([0x24, 1, 0, 0xEC]) + bytes(8) + b"LOCL"
            with contextlib.suppress(OSError):
                self._socket.sendto(head + stamp + request[40:48] + stamp + stamp, sender)
                self.answers += 1
