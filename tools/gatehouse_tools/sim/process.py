"""The MicroPython process of one boot of a simulated board."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path

from . import runtime

_MAX_PACKET = 65536


class Process:
    """A running board process: `uart` gives what it prints, `channel` its events and calls, a packet each.

    It must be started by a thread that outlives it: when that thread ends, the kernel ends the process (launch.py).
    """

    def __init__(self, files: Path, heap: str, flash: int, numbers: int, disk: tuple[int, int]) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            descriptors = (flash, numbers, theirs.fileno())
            line, environment = runtime.command(heap, files, (*descriptors, *disk))
            self._process = subprocess.Popen(
                line,
                cwd="/",
                env=environment,
                pass_fds=descriptors,
                stdin=subprocess.PIPE,  # an idle UART: reading from it waits
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,  # Ctrl-C at the supervisor's terminal is not for the device
            )
        assert self._process.stdout  # noqa: S101 it is a pipe
        self.uart = self._process.stdout
        os.set_blocking(self.uart.fileno(), False)

    def printed(self) -> bytes | None:
        """What it has printed since the last time: None for nothing, b"" when it has closed its end."""
        return self.uart.read(_MAX_PACKET)

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
        assert self._process.stdin  # noqa: S101 it is a pipe
        self._process.stdin.close()
        return rest, status
