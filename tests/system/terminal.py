"""Somebody at a board's terminal, and the real mpremote there."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from .conftest import Device


class Terminal:
    """The open terminal of a device's board: type, and wait for what it shows."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._file = os.open(device.board.terminal, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.shown = ""
        self._at = 0  # what was expected has come up to here

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def type(self, text: str) -> None:
        """Type, and press Enter."""
        os.write(self._file, text.encode() + b"\r")

    def expect(self, text: str, within: float = 120) -> str:
        """Wait for a text after what was expected before; what has been shown up to it."""
        deadline = time.monotonic() + within
        while text not in self.shown[self._at :]:
            assert time.monotonic() < deadline, f"no {text!r} in {self.shown[self._at :]!r}"
            try:
                self.shown += os.read(self._file, 4096).decode(errors="replace")
            except BlockingIOError:
                select.select([self._file], [], [], max(deadline - time.monotonic(), 0))
        start, self._at = self._at, self.shown.index(text, self._at) + len(text)
        return self.shown[start : self._at]

    def answers(self, within: float = 120) -> None:
        """Type what nobody who is not logged in may, until the console says so: it is there."""
        deadline = time.monotonic() + within
        while True:
            self.type("?")
            try:
                self.expect("log in first", 1)
                return
            except AssertionError:
                if time.monotonic() > deadline:
                    raise

    def rest(self) -> str:
        """All that has been shown, to the last byte that has come."""
        while True:
            try:
                self.shown += os.read(self._file, 4096).decode(errors="replace")
            except BlockingIOError:
                return self.shown

    def login(self, user: str, password: str) -> None:
        """Log in."""
        self.type(f"login {user}")
        self.expect("password: ")
        self.type(password)
        self.expect(f"{user}> ")


def label_password(device: Device) -> str:
    """What is printed on the device's label."""
    return str(json.loads((device.image.parent / "secrets.json").read_text())["label_password"])


def mpremote(device: Device, *arguments: str, timeout: float = 30) -> tuple[int | None, str]:
    """The real mpremote at the device's terminal: (exit code, None when it had to be ended; what it printed)."""
    program = Path(sys.executable).with_name("mpremote")
    line = [str(program), "connect", device.board.terminal, *arguments]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as waited:  # at a pseudo-terminal it waits for ever
        return None, (waited.stdout or b"").decode() + (waited.stderr or b"").decode()
    return done.returncode, done.stdout + done.stderr
