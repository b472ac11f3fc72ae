"""What happens in a soak, and when: drawn by a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

RESTARTS = ("killed-unheard", "stopped", "killed", "outage")
CUTS = ("silence", "cut", "refused", "wifi", "collector")
POWER_CUTS = ("operation", "moment")
WHAT = {
    "stopped": "the broker is stopped and started",
    "killed": "the broker is killed while entries are under way",
    "killed-unheard": "it has acknowledged entries that no collector was there to take, and is killed with them",
    "outage": "it is away for one to three hours, in which the device writes entries",
    "flood": "it is away for days, until the ring has lost entries",
    "cut": "the connection of the device is closed by both sides",
    "silence": "half-open: it is there, and nothing comes through",
    "refused": "it is closed, and each new one at once, for a quarter of an hour",
    "wifi": "the access point is gone for ten minutes",
    "collector": "the connection of the collector is closed",
    "operation": "power goes in the middle of a flash operation of an entry that is written",
    "moment": "power goes at any other moment",
}


@dataclass(frozen=True)
class Incident:
    """One thing that happens, `after` so many seconds of the device's clock since the one before."""

    kind: str
    after: float


@dataclass(frozen=True)
class Wanted:
    """How much of what."""

    days: float
    restarts: int
    cuts: int
    power_cuts: int
    flood: bool


def draw(wanted: Wanted, chance: random.Random) -> tuple[list[Incident], float]:
    """(the incidents in order, seconds that are left after the last).

    Every kind is there where the number allows it. No power cut comes in the last third: the heap of that boot is what
    a leak would show in.
    """
    others = [*_spread(RESTARTS, wanted.restarts - wanted.flood), *_spread(CUTS, wanted.cuts)]
    others += ["flood"] * wanted.flood
    chance.shuffle(others)
    early = len(others) * 2 // 3
    kinds = [*others[:early], *_spread(POWER_CUTS, wanted.power_cuts)]
    chance.shuffle(kinds)
    kinds += others[early:]
    # In each third of the days a third of the incidents would be a rhythm; so the pauses are by lot.
    pauses = [chance.expovariate(1) + 0.1 for _ in range(len(kinds) + 1)]
    each = wanted.days * 86400 / sum(pauses)
    return [Incident(kind, pause * each) for kind, pause in zip(kinds, pauses[:-1], strict=True)], pauses[-1] * each


def _spread(kinds: tuple[str, ...], count: int) -> list[str]:
    return [kinds[number % len(kinds)] for number in range(count)]
