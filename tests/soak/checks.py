"""What a soak must show: each entry on flash at the collector once, a whole chain, the heap as it was, no reset."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gatehouse_tools import journal

HEAP_LIMIT = 1024  # bytes that the free heap may fall; 128 in the worst boot of 30 days, docs/soak.md
WARM_UP = 3  # reports of a boot before the heap is looked at: modules are loaded, the first session has begun
SPAN = 5  # reports whose median counts: one may come in the middle of something
LEAST = 2 * SPAN + WARM_UP  # of a boot whose heap is judged
RESETS = ("reset", "soft-reset", "wdt-reset", "died", "fault", "repl")  # events of a board that nobody has asked for


@dataclass
class Written:
    """Every entry that was seen on the flash, by number; gathered at many times, for the ring forgets."""

    entries: dict[int, journal.Record] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    looks: int = 0

    def look(self, image: bytes) -> None:
        """Take what the ring in a flash image holds."""
        self.looks += 1
        found = journal.from_image(image)
        self.faults += [f"on flash: {fault.detail}" for fault in found.faults]
        known = max(self.entries, default=0)
        first = min((record.number for record in found.records), default=known + 1)
        if first > known + 1:
            self.faults.append(f"entries {known + 1} to {first - 1} were written and lost between two looks")
        for record in found.records:
            if self.entries.setdefault(record.number, record) != record:
                self.faults.append(f"entry {record.number} on flash is another one now")

    def events(self) -> Counter[str]:
        """How many of each event."""
        return Counter(event for event, _ in self._read())

    def dropped(self) -> set[int]:
        """The numbers that the device has told as dropped."""
        told = [details for event, details in self._read() if event == "dropped"]
        return {number for first, count, *_ in told for number in range(first, first + count)}

    def _read(self) -> Iterable[tuple[str, list]]:
        for record in self.entries.values():
            entry = journal._read(record.entry, 0)
            yield entry.event, entry.details


def arrived(written: Written, stored: Sequence[journal.Record]) -> list[str]:
    """What is wrong with what the collector stored, beside what was written."""
    faults = list(written.faults)
    rows: dict[int, list[journal.Record]] = {}
    for record in stored:
        rows.setdefault(record.number, []).append(record)
    for number, same in sorted(rows.items()):
        if len(same) > 1:
            faults.append(f"entry {number} is at the collector {len(same)} times")
        if number not in written.entries:
            faults.append(f"entry {number} is at the collector, and was never seen on the flash")
        elif any((one.entry, one.tag) != _content(written.entries[number]) for one in same):
            faults.append(f"entry {number} is another one at the collector")
    faults += [f"entry {number} never arrived" for number in missing(written, rows)]
    return faults


def missing(written: Written, stored: Iterable[int]) -> list[int]:
    """The numbers that were written, not told as dropped, and are not at the collector."""
    return sorted(set(written.entries) - set(stored) - written.dropped())


def _content(record: journal.Record) -> tuple[bytes, bytes]:
    return record.entry, record.tag


def chain(written: Written, stored: Sequence[journal.Record], keys: Mapping[int, bytes]) -> list[str]:
    """What `gatehouse journal` would say against what the collector stored, which must reach the last entry."""
    last = max(written.entries.values(), key=lambda record: record.number)
    found = journal.verify(stored, keys, [journal.Known(last.number, last.tag, "the flash")])
    return [f"chain: {fault.reason}: {fault.detail}" for fault in found.faults]


@dataclass(frozen=True)
class Heap:
    """Free heap of one boot, bytes: medians of its first reports after the warm-up and of its last."""

    boot: int
    reports: int
    start: int
    end: int


def heaps(told: Sequence[tuple[int, int]]) -> list[Heap]:
    """Of reports in order, as (boot count, free heap). Boots that were too short to judge are left out."""
    boots: dict[int, list[int]] = {}
    for boot, free in told:
        boots.setdefault(boot, []).append(free)
    return [
        Heap(boot, len(free), _median(free[WARM_UP : WARM_UP + SPAN]), _median(free[-SPAN:]))
        for boot, free in boots.items()
        if len(free) >= LEAST
    ]


def _median(values: Sequence[int]) -> int:
    return round(statistics.median(values))


def leaks(found: Sequence[Heap]) -> list[str]:
    """Boots at whose end less heap is free than at their start; and the last one against the first."""
    faults = [
        f"heap: boot {one.boot} had {one.start} bytes free, and {one.end} after {one.reports} reports"
        for one in found
        if one.start - one.end > HEAP_LIMIT
    ]
    if not found:
        faults.append("heap: no boot was long enough to judge")
    elif found[0].start - found[-1].end > HEAP_LIMIT:
        faults.append(f"heap: {found[0].start} bytes were free at the start, and {found[-1].end} at the end")
    return faults


def resets(kinds: Iterable[str], powered: int, boots: int) -> list[str]:
    """Boots that nobody caused. kinds: the board's events; powered: how often it was given power."""
    faults = [f"reset: {count} times {kind}" for kind, count in Counter(kinds).items() if kind in RESETS]
    if boots != powered:
        faults.append(f"reset: it booted {boots} times, and was given power {powered} times")
    return faults
