"""What a demonstration can do to a board, of whichever kind it is: the scenes do not know. And the simulated kind."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import GatehouseError
from ..sim.board import Board, BoardStopped

if TYPE_CHECKING:
    from .act import Act

_HEAP = "160wK"  # so that whoever guesses passwords behind an update gets an answer each time (docs/http.md)
_CUT_AT = 250  # flash operations: some of the extra files are written by then, most are not
_OFF_S = 2.0  # without power


@dataclass(frozen=True)
class Kind:
    """What terminal and page say of the boards. notes: what is not as at a customer's, or cannot be done.

    left_out: names of the buttons that these boards cannot do; resets: whether "back to the start" may be ordered.
    """

    label: str
    notes: tuple[str, ...]
    left_out: frozenset[str] = frozenset()
    resets: bool = True
    caption: str = ""  # below the table: what of its verdicts is somebody's word


SIMULATED = Kind(
    "simulated boards",
    (
        "The boards: MicroPython's unix port runs the very files that a chip would, from a real flash image. "
        "No chip has run them yet.",
        "Power, Wi-Fi and temperature: the bench of the simulated board gives and takes them.",
        "The house: broker, pack server and time server are real programs, on this machine's loopback.",
    ),
)


class Bench(Protocol):
    """One board, and whoever stands beside it."""

    label: str  # of this one, for the terminal
    patience: float  # by what the seconds that scenes wait are multiplied
    first_boots: int  # the first report is of this boot at the latest

    def start(self) -> None:
        """Let it run for the first time, where it does not yet."""

    def cut_in_update(self, act: Act, offer: Callable[[], None]) -> float:
        """`offer` an update, take the power away in the middle of it and give it back: the Unix time of that.

        GatehouseError where the power did not go in time.
        """

    def cut_now(self, act: Act) -> None:
        """Take the power away, whatever the device is doing, and give it back."""

    def restore(self) -> None:
        """Give the power back where a scene has ended without."""

    def warm(self, celsius: float) -> None:
        """Make its sensor show this, where somebody can."""

    def https(self, claims: dict[str, Any]) -> tuple[str, int]:
        """Address and port of the web interface of the device with this newest report. GatehouseError for none."""

    def last_line(self) -> str:
        """What it has printed last on its UART."""

    def close(self) -> None:
        """Leave it."""


class Simulated:
    """A simulated board: power is taken and given by order."""

    label = "simulated"
    patience = 1.0
    first_boots = 1

    def __init__(self, image: Path, log: Path) -> None:
        self.board = Board(image, heap=os.environ.get("DEMO_HEAP", _HEAP), log=log)

    def start(self) -> None:
        """Power on."""
        self.board.power_on()

    def cut_in_update(self, act: Act, offer: Callable[[], None]) -> float:
        """In the middle of a flash operation. An idle device writes nothing, so those counted now are the update's."""
        board = self.board
        board.auto_power = False
        board.cut_at(_CUT_AT)
        offer()
        with contextlib.suppress(BoardStopped):
            board.wait(lambda board: not board.running, 20)
        if board.running:
            raise GatehouseError("the device did not begin the update, so its power was not cut", "timeout")
        act.bench("the power is gone in the middle of a flash write; now it comes back")
        back = time.time()
        board.power_on()
        return back

    def cut_now(self, act: Act) -> None:
        """For two seconds."""
        self.board.power_off()
        act.bench(f"the power is gone, for {_OFF_S:.0f} s")
        time.sleep(_OFF_S)
        self.board.power_on()

    def restore(self) -> None:
        """Power on, if it is off."""
        with contextlib.suppress(GatehouseError):  # the page may have been faster
            if not self.board.running:
                self.board.power_on()

    def warm(self, celsius: float) -> None:
        """The bench's own temperature."""
        self.board.set_sensor(celsius)

    def https(self, claims: dict[str, Any]) -> tuple[str, int]:
        """The loopback's port that stands for 443."""
        return "127.0.0.1", self.board.https_port

    def last_line(self) -> str:
        """Of the UART."""
        return self.board.lines[-1] if self.board.lines else ""

    def close(self) -> None:
        """Power off, and forget it."""
        self.board.close()
