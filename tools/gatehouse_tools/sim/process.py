"""The MicroPython process of one boot of a simulated board."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import pty
import signal
import socket
import subprocess
import termios
import tty
from pathlib import Path

from . import runtime

_MAX_PACKET = 65536
_RECEIVE_BUFFER = 260  # bytes that MicroPython on ESP32 keeps until the program reads them

# How a board was made, for start.py.
TERMINAL, PRODUCTION, RAW_REPL, SLOW_START = 1, 2, 4, 8


class Process:
    """A running board process: `uart` gives what it prints, `channel` its events and calls, a packet each.

    It must be started by a thread that outlives it: when that thread ends, the kernel ends the process (launch.py).
    `made`: TERMINAL, when the UART has input, PRODUCTION, RAW_REPL, when that was open before a soft reset, SLOW_START,
    when scripts begin as late as on a chip.
    """

    def __init__(self, files: Path, heap: str, flash: int, numbers: int, disk: tuple[int, int], made: int) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # What the device reads from is a terminal, because MicroPython sets its mode: that tells whether code runs.
        self._keyboard, self._keys = pty.openpty() if made & TERMINAL else (-1, -1)
        if made & TERMINAL:
            # Its number may have been another one's port until now, which a program still looks for.
            fcntl.flock(self._keys, fcntl.LOCK_EX)
            tty.setraw(self._keys)
            self._settings(0)
        with theirs:
            descriptors = (flash, numbers, theirs.fileno())
            line, environment = runtime.command(heap, files, (*descriptors, *disk, made), bool(made & TERMINAL))
            self._process = subprocess.Popen(
                line,
                cwd="/",
                env=environment,
                pass_fds=descriptors,
                stdin=self._keys if made & TERMINAL else subprocess.PIPE,  # an idle UART: reading from it waits
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,  # Ctrl-C at the supervisor's terminal is not for the device
            )
        assert self._process.stdout  # noqa: S101 it is a pipe
        self.uart = self._process.stdout
        os.set_blocking(self.uart.fileno(), False)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def printed(self) -> bytes | None:
        """What it has printed since the last time: None for nothing, b"" when it has closed its end."""
        return self.uart.read(_MAX_PACKET)

    def type(self, data: bytes) -> None:
        """Bytes for the device to read. What finds its buffer full is lost."""
        unread = array.array("i", [0])
        fcntl.ioctl(self._keys, termios.FIONREAD, unread)
        os.write(self._keyboard, data[: max(0, _RECEIVE_BUFFER - unread[0])])

    def prompt(self) -> None:
        """The device is about to open its REPL, whose readline switches ISIG off and, to run code, on again."""
        self._settings(termios.ISIG)

    def at_prompt(self) -> bool:
        """Whether the REPL waits for a line, and runs nothing."""
        return not termios.tcgetattr(self._keys)[3] & termios.ISIG

    def effort(self) -> tuple[bool, int]:
        """(whether it waits for something, the processor time that it has taken, in the system's clock ticks)."""
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return state[0] == "S", int(state[11]) + int(state[12])

    def interrupt(self) -> None:
        """KeyboardInterrupt, as launch.py has it; of a program that it does not know, wherever its C code is."""
        self._process.send_signal(signal.SIGUSR1 if os.path.isdir(runtime.micropython()) else signal.SIGINT)

    def _settings(self, local: int) -> None:
        settings = termios.tcgetattr(self._keys)
        settings[3] = local
        settings[6][termios.VINTR] = settings[6][termios.VQUIT] = settings[6][termios.VSUSP] = b"\0"  # no key does it
        termios.tcsetattr(self._keys, termios.TCSANOW, settings)

    def receive(self, size: int = _MAX_PACKET) -> bytes:
        """The next packet; b"" when there is no other end any more."""
        try:
            return self.channel.recv(size)
        except OSError:
            return b""

    def send(self, packet: bytes) -> None:
        """Answer a call. When nobody is there to hear it, `receive` says so next."""
        with contextlib.suppress(OSError):
            self.channel.send(packet)

    def kill(self) -> tuple[bytes, int]:
        """End it with SIGKILL, if it has not ended: (what it printed last, its exit status)."""
        self._process.kill()
        status = self._process.wait()
        os.set_blocking(self.uart.fileno(), True)  # to its end, which has come
        rest = b"".join(iter(lambda: self.printed() or b"", b""))
        self.uart.close()
        self.channel.close()
        if self._process.stdin:
            self._process.stdin.close()
        else:
            os.close(self._keyboard)
            os.close(self._keys)
        return rest, status
