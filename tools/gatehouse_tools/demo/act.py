"""One thing that is done to one device, told step by step to whoever watches: the terminal, the page, a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .stage import Device, Stage

# Who tells a step, and with it what it is worth.
ATTACKER, VENDOR, BENCH, DEVICE, VERIFIER = "attacker", "vendor", "bench", "device", "verifier"
YOU = "you"  # whom the demonstration asks to do something
WHO = (ATTACKER, VENDOR, BENCH, DEVICE, VERIFIER, YOU)


@dataclass(frozen=True)
class Bytes:
    """Bytes that mattered. `mark`: the range of them to look at, end excluded."""

    label: str
    data: bytes
    mark: tuple[int, int] = (0, 0)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"label": self.label, "hex": self.data.hex(), "mark": list(self.mark)}


@dataclass(frozen=True)
class Step:
    """What happened. DEVICE: the device said it in a message whose MAC was checked; BENCH: seen on the board or on
    the network around it, which a customer's server would not see; YOU: what somebody is asked to do now."""

    who: str
    text: str
    shown: tuple[Bytes, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What came of it. `told` is what the device's verified report said, `good` whether that was right.

    counter: of that report, (boot count, number in that boot); None where none came.
    """

    tried: str
    expected: str
    told: str
    good: bool
    counter: tuple[int, int] | None = None


class Act:
    """What an act works with: the stage, the device that it is done to, and the audience."""

    def __init__(self, stage: Stage, device: Device, tell: Callable[[Step], None]) -> None:
        self.stage = stage
        self.device = device
        self._tell = tell

    def step(self, who: str, text: str, *shown: Bytes) -> None:
        """Tell what happens."""
        self._tell(Step(who, text, shown))

    def bench(self, text: str) -> None:
        """Tell what was seen or done at the bench."""
        self.step(BENCH, text)

    def reported(self, text: str) -> None:
        """Tell what a verified report of the device said."""
        self.step(DEVICE, text)

    def ask(self, text: str) -> None:
        """Ask whoever stands beside the board to do something."""
        self.step(YOU, text)

    def within(self, seconds: float) -> float:
        """How long to wait for something that takes a simulated board at most `seconds`."""
        return seconds * self.device.board.patience

    def publish(self, envelope: Path, force: bool = False) -> None:
        """Offer a release, or with `force` an attack."""
        self.stage.publish(self.device, envelope, force)

    def running(self) -> Path | None:
        """The envelope of what the device runs, by its newest verified report."""
        return self.stage.by_digest.get(self.device.claims["manifest"] or "")
