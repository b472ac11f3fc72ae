"""The UART of a simulated board, seen from outside: a terminal to open, and a wire on which bytes take their time."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import termios
import time
import tty

BAUD = 115200
_STEP_S = 0.01
_PER_STEP = int(BAUD / 10 * _STEP_S)  # bytes: ten bits each
_MAX_WIRE = 1 << 20  # bytes that may wait to be sent: a bench that types more has a fault
_LONE_NEWLINE = re.compile(rb"(?<!\r)\n")


class Terminal:
    """A pseudo-terminal in raw mode, for mpremote or a terminal program: `path` is what to open.

    It stays while the board loses power, as an USB serial adapter does. Nobody has to read it.
    """

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._last = b""

    def fileno(self) -> int:
        return self._master

    def typed(self) -> bytes:
        """What has been typed since the last time."""
        with contextlib.suppress(OSError):
            return os.read(self._master, 4096)
        return b""

    def show(self, data: bytes) -> None:
        """Show what the board sends. A line feed brings the carriage return with it, as MicroPython does on a chip."""
        shown = _LONE_NEWLINE.sub(b"\r\n", self._last + data)[len(self._last) :]
        self._last = data[-1:] if data[-1:] == b"\r" else b""
        while shown:
            try:
                shown = shown[os.write(self._master, shown) :]
            except BlockingIOError:  # nobody reads: on a wire it would be gone, too
                termios.tcflush(self._slave, termios.TCIFLUSH)

    def close(self) -> None:
        os.close(self._master)
        os.close(self._slave)


class Wire:
    """Bytes under way to the board, at the speed of the UART: a chip whose buffer is full loses what comes next."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._due = 0.0

    def put(self, data: bytes) -> None:
        """Send bytes."""
        if not self._bytes:
            self._due = time.monotonic()
        self._bytes += data[: _MAX_WIRE - len(self._bytes)]

    def left(self) -> float | None:
        """Seconds until bytes arrive; None while none are under way."""
        return max(0.0, self._due - time.monotonic()) if self._bytes else None

    def take(self) -> bytes:
        """The bytes that have arrived, if it is time."""
        if self.left() != 0:
            return b""
        self._due += _STEP_S
        piece = bytes(self._bytes[:_PER_STEP])
        del self._bytes[:_PER_STEP]
        return piece

    def back(self, data: bytes) -> None:
        """These could not be taken yet: they come again very soon."""
        self._bytes[:0] = data
        self._due = time.monotonic() + _STEP_S / 10
