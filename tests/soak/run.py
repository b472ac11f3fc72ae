"""Lets the incidents of a soak happen, one after the other, and judges what is there in the end."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import checks, plan
from .console import PowerGone, Stuck
from .site import Site

BURST = (2, 6)  # operations of the owner that an incident finds under way
FLOOD = 190  # entries: more than the ring holds of this size (docs/journal.md)
LOOK_EACH = 30  # entries of a flood between two looks at the flash: the ring must not forget one that nobody saw
SETTLING = 24  # reports in which the last entries must arrive: a device that was not heard tries every 8 minutes
HEALTH_S = 15.0  # of the device's clock: ten heartbeats of the application
_TAKEN_S = 2.0  # of real time for a broker to take what was just written
_OPERATIONS = 40  # flash operations of a burst, about: where one is cut
_MINUTES = 60.0


@dataclass
class Outcome:
    """What a soak found and counted."""

    faults: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, Any] = field(default_factory=dict)
    heaps: list[checks.Heap] = field(default_factory=list)


class Soak:
    """One run on a site."""

    def __init__(self, site: Site, chance: random.Random, step: Callable[[], None]) -> None:
        self._site, self._chance, self._step = site, chance, step
        self.outcome = Outcome()

    def run(self, incidents: list[plan.Incident], rest: float) -> Outcome:
        """Everything; the faults of the outcome are empty where all is well."""
        site, started = self._site, time.monotonic()
        kind = "the start"
        try:
            for incident in incidents:
                kind = incident.kind
                site.live(incident.after)
                getattr(self, "_" + kind.replace("-", "_"))()
                self.outcome.happened[kind] += 1
                if kind not in ("collector", *plan.POWER_CUTS):  # these are seen to come back by themselves
                    site.back()
                site.look()
                self._step()
            kind = "the end"
            site.live(rest)
        except (Stuck, PowerGone) as error:
            self.outcome.faults.append(f"stuck after {kind!r}, incident {self.outcome.happened.total()}: {error}")
        self._judge(started)
        return self.outcome

    def _judge(self, started: float) -> None:
        site, outcome = self._site, self.outcome
        if not outcome.faults:
            self._settle()
        board = site.board
        kinds = [event.kind for event in board.events]
        boots = board.boots
        board.power_off()
        site.leave()
        site.look()
        stored, written = site.stored(), site.written
        outcome.faults += checks.arrived(written, stored) + checks.chain(written, stored, site.keys())
        outcome.faults += checks.resets(kinds, site.powered, boots)
        outcome.heaps = checks.heaps(site.heap())
        outcome.faults += checks.leaks(outcome.heaps)
        told = site.told()
        outcome.faults += [f"report: {alarm}" for alarm in told["alarms"]]
        outcome.faults += [f"refused: {reason}: {detail}" for reason, _, detail in told["refused"]]
        dropped = written.dropped()
        first, last = (outcome.heaps[0], outcome.heaps[-1]) if outcome.heaps else (None, None)
        outcome.numbers = {
            "days": round(site.now() / 86400, 2),
            "boots": boots,
            "reports": site.database.reports,
            "written": len(written.entries),
            "stored": len(stored),
            "came": site.database.came,
            "dropped": len(dropped),
            "dropped_and_stored": len(dropped & {record.number for record in stored}),
            "events": dict(written.events()),
            "looks": written.looks,
            "heap_start": first and first.start,
            "heap_end": last and last.end,
            "heap_worst_fall": max((one.start - one.end for one in outcome.heaps), default=None),
            "link_of_the_last_boot": told["link"],
            "real_seconds": round(time.monotonic() - started),
        }

    def _settle(self) -> None:
        """Wait until all that the device wrote is at the collector."""
        site = self._site
        for _ in range(SETTLING):
            site.look()
            if not checks.missing(site.written, (record.number for record in site.stored())):
                return
            with contextlib.suppress(Stuck):
                site.live(0)

    def _write(self, least: int = 0) -> None:
        count = self._chance.randint(*BURST) + least
        with self._site.console() as console:
            console.write(count)

    def _later(self, most: float) -> None:
        """Some real time, so that what was begun is at any point of it."""
        time.sleep(self._chance.random() * most)

    # The broker.

    def _stopped(self) -> None:
        self._write()
        self._restart(kill=False)

    def _killed(self) -> None:
        self._write()
        self._later(0.5)
        self._restart(kill=True)

    def _killed_unheard(self) -> None:
        self._site.leave()
        self._write()
        time.sleep(_TAKEN_S)
        self._restart(kill=True)
        self._site.collect()

    def _restart(self, kill: bool) -> None:
        self._site.stop(kill)
        self._site.pass_by(self._chance.uniform(1, 2 * _MINUTES), 15)
        self._site.broker.start()

    def _outage(self) -> None:
        self._site.stop(kill=True)
        for _ in range(self._chance.randint(1, 3)):
            self._write()
            self._site.pass_by(60 * _MINUTES, 5 * _MINUTES)
        self._site.broker.start()

    def _flood(self) -> None:
        self._site.stop(kill=True)
        for _ in range(FLOOD // LOOK_EACH + 1):
            self._write(LOOK_EACH)
            self._site.look()
            self._site.pass_by(6 * 60 * _MINUTES, 30 * _MINUTES)
        self._site.broker.start()

    # The link.

    def _cut(self) -> None:
        self._write()
        self._site.link.cut()

    def _silence(self) -> None:
        self._site.link.silence(True)
        self._write()
        self._site.pass_by(self._chance.uniform(1, 10) * _MINUTES, 10)  # in it a ping or an answer is missed
        self._site.link.silence(False)

    def _refused(self) -> None:
        self._site.link.refuse(True)
        self._write()
        self._site.pass_by(15 * _MINUTES, _MINUTES)
        self._site.link.refuse(False)

    def _wifi(self) -> None:
        self._site.board.wifi(False)
        self._write()
        self._site.pass_by(10 * _MINUTES, 10)
        self._site.board.wifi(True)

    def _collector(self) -> None:
        self._write()
        self._later(0.2)
        self._site.way.cut()
        self._site.live(0)  # the device has not noticed, and says nothing by itself

    # The power.

    def _operation(self) -> None:
        board = self._site.board
        board.cut_at(self._chance.randint(1, _OPERATIONS))
        with contextlib.suppress(PowerGone):
            while board.running:
                self._write()
        self._again()

    def _moment(self) -> None:
        self._write()
        self._later(1.0)
        self._site.board.power_off()
        self._again()

    def _again(self) -> None:
        """Power comes back after a while, in which the device's clock stood still; it lives until it shows health.

        Three starts in a row without a sign of health lead to recovery, by design, and recovery sends no journal.
        """
        self._site.look()
        self._site.stepped += self._chance.uniform(1, 600)
        self._site.power_on()
        self._site.back()
        self._site.pass_by(HEALTH_S, 1)
