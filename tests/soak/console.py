"""Somebody at the device's terminal, who writes journal entries; the power may go in the middle of it."""

from __future__ import annotations

import os
import time
from types import TracebackType

from gatehouse_tools.sim.board import Board

OWNER = "a soaked owner's secret"
_SHOWN = 400
LIMIT_S = 60.0  # a login is 0.3 s where nobody else uses the machine


class Stuck(Exception):
    """The device did not answer."""


class PowerGone(Exception):
    """It has no power any more."""


class Console:
    """Use it in a with block. Raises PowerGone as soon as the board has no power."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._shown = ""
        self._file = os.open(board.terminal, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def say(self, line: str, then: str) -> None:
        """Type a line, and wait until this is shown."""
        os.write(self._file, line.encode() + b"\r")
        end = time.monotonic() + LIMIT_S
        while then not in self._shown:
            if not self._board.running:
                raise PowerGone
            if time.monotonic() > end:
                raise Stuck(f"after {line.split()[0]!r}: no {then!r} in {self._shown[-_SHOWN:]!r}")
            try:
                self._shown += os.read(self._file, 4096).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.005)
        self._shown = self._shown.partition(then)[2]

    def own(self, label: str) -> None:
        """The owner's first login, with the password of the label, and a new password."""
        self.say("login owner", "password: ")
        self.say(label, "owner> ")
        self.say("password.change", ": ")
        self.say(label, ": ")
        self.say(OWNER, ": ")
        self.say(OWNER, "owner> ")
        self.say("logout", "logged out")

    def write(self, count: int) -> None:
        """Have so many entries written, and some more: a login, and operations of the owner."""
        self.say("login owner", "password: ")
        self.say(OWNER, "owner> ")
        for _ in range(count):
            self.say("update.postpone 1", "until: ")
            self.say("", "owner> ")
        self.say("logout", "logged out")
