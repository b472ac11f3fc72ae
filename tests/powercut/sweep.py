"""Cut, look, boot offline, go online: one first cut with its second cuts is one task, and tasks run on all cores."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from .bench import CUT, IDLE, RECORD, WAITS, Bench, Reader, Run, Seen
from .phases import ALL, Phase, journal
from .world import World

SURVIVED, LOST, STUCK, UNCUT = "survived", "lost", "stuck", "uncut"
_PR_SET_PDEATHSIG = 1
_KEPT = 8  # failing cases whose flash images are kept
# NVS values that change in a device's life; all others must stay what the factory wrote.
_CHANGING = ("floors", "boots", "root", "count", "blob")
_STATE = re.compile(r"/state/((boot|trust|offer|config-\d)\.(cbor|suit|new)|journal-\d+)")


@dataclass(frozen=True)
class Task:
    """The first cut of `phase` at operation `first`.

    second: whether the boot after it is cut again at each operation, or at the one operation `only`. way: cut again at
    each way-th operation of all that is left to the target, too; with `only` at just that one.
    """

    phase: str
    first: int
    second: bool = False
    way: int = 0
    only: int = 0


@dataclass(frozen=True)
class Failure:
    """A cut that the device did not survive: `second` 0 for none, `way` when that was on the way to the target."""

    phase: str
    first: int
    second: int
    way: bool
    verdict: str
    why: str
    image: str = ""


@dataclass
class Tally:
    """What came of some cuts. `online`: how often a device was then brought online; the others held the same as one
    that was, and reached the target, after the same first cut.
    """

    phase: str
    tried: int = 0
    second: int = 0
    online: int = 0
    survived: int = 0
    lost: int = 0
    stuck: int = 0
    uncut: int = 0
    boots: int = 0  # the most that the way back to rest took
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count in another one."""
        for name in ("tried", "second", "online", "survived", "lost", "stuck", "uncut"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.boots = max(self.boots, other.boots)
        self.failures += other.failures


class Case:
    """The judge of one phase: what must hold at each stage."""

    def __init__(self, world: World, phase: Phase) -> None:
        self.world, self.phase = world, phase
        self.start = world.start(phase.name)
        self._reader = Reader(self.start)
        self._first = self._reader.read(self.start)
        self._known = {*self._first.files.values(), *world.envelopes().values()}

    def damaged(self, seen: Seen) -> str:
        """What is wrong that no phase may touch: core, state files, identity."""
        if seen.damage:
            return seen.damage
        for path in sorted(seen.files.keys() | self._first.files.keys()):
            if path.startswith("/slots/"):
                continue
            if path.startswith("/state/"):
                if not _STATE.fullmatch(path):
                    return f"extraneous {path}"
                if path.endswith(".suit") and seen.files.get(path) not in self._known:
                    return f"{path} is nothing that was signed"
            elif seen.files.get(path) != self._first.files.get(path):
                return f"{path} is not what it was"
        for key, value in self._first.nvs.items():
            if key not in _CHANGING and seen.nvs.get(key) != value:
                return f"NVS {key} is not what it was"
        wrong, _ = journal(seen)
        if wrong:
            return f"journal: {wrong}"
        boots, before = seen.nvs.get("boots", 0), self._first.nvs.get("boots", 0)
        assert isinstance(boots, int) and isinstance(before, int)
        return "the boot count went back" if boots < before else ""

    def running(self, run: Run, seen: Seen, field: str = "") -> str:
        """What is wrong with what runs: it must be one of the phase's versions, every file of it, and nothing else.

        field: of the record, where it must be named; by default that of the mode in which it was started.
        """
        told = run.running
        if not told:
            return f"nothing runs: {run.end}"
        mode, slot, state = told
        if state not in self.phase.states:
            return f"runs {state}"
        if seen.version(self.world, slot) != state.version:
            return f"slot {slot} is not exactly {state.version}"
        if state.partition != "ota_0" and not seen.apps[state.partition].startswith(self.world.firmware):
            return f"partition {state.partition} is not exactly the firmware"
        named = (seen.record or {}).get(field or mode)
        if not named or named[0] != slot or named[1] != self.world.release(state.version).digest:
            return f"the record does not name what runs: {mode} {slot} {state}"
        return self.damaged(seen)

    def cut(self, image: bytes) -> str:
        """What is wrong with the flash right after a cut: the boot record is the old or the new one, never none."""
        seen = self._reader.read(image, RECORD)
        if not seen.record:
            return f"no boot record after the cut: {seen.damage}"
        return self.phase.check_cut(self.world, seen)

    def offline(self, run: Run, image: bytes) -> tuple[str, object]:
        """What is wrong with a device that was powered on without a network after a cut, and what its flash holds."""
        if run.end != WAITS:
            return f"{run.end} {run.detail}".strip(), None
        seen = self._reader.read(image)
        return self.running(run, seen), seen.content()

    def target(self, run: Run, image: bytes) -> str:
        """What is wrong with a device that had all that it needs to get to the phase's target."""
        if run.end != IDLE:
            return f"{run.end} {run.detail}".strip()
        seen = self._reader.read(image)
        wrong = self.running(run, seen, "active")
        if wrong or run.running is None or seen.record is None:
            return wrong or "no record"
        if run.running[1:] != (self.phase.slot, self.phase.target):
            return f"ends with {run.running[1]} {run.running[2]}"
        active, target = seen.record["active"], self.phase.target
        wanted = [self.phase.slot, self.world.release(target.version).digest, target.config]
        if seen.record["trial"] or seen.record["update"] or [*active[:2], active[4]] != wanted:
            return "the record is not at the target"
        return self.phase.check(self.world, seen)


class Worker:
    """Runs tasks on a board of its own, whose flash lies in memory where there is such a place."""

    def __init__(self, world: World, scratch: Path, keep: Path | None, seed: str) -> None:
        self.world, self._scratch, self._keep, self._seed = world, scratch, keep, seed
        self._cases: dict[str, Case] = {}
        self._reached: list[object] = []  # what the flash held when a device went online that then reached the target

    def operations(self, name: str) -> tuple[int, str]:
        """How many operations a phase has when nothing is cut, and what is wrong with it then."""
        case = self._case(name)
        with self._bench(f"{name} 0") as bench:
            bench.load(case.start)
            run = self._phase(bench, case, None)
            if run.end != case.phase.until:
                return run.operations, f"{run.end} {run.detail} {run.lines}"
            again = bench.run(IDLE, online=True, pins=case.phase.later)
            bench.power_off()
            wrong = case.target(again, bench.image())
            return run.operations, f"{wrong}; {run.lines}; {again.lines}" if wrong else ""

    def run(self, task: Task) -> Tally:
        """One first cut, and its second cuts."""
        case, tally = self._case(task.phase), Tally(task.phase)
        self._reached = []
        with self._bench(f"{task.phase} {task.first}") as bench:
            bench.load(case.start)
            run = self._phase(bench, case, task.first)
            if run.end != CUT:
                # What the phase did before was counted without a cut, so there must have been one.
                self._count(tally, Failure(task.phase, task.first, 0, False, UNCUT, f"{run.end} {run.detail}"))
                return tally
            cut = bench.image()
            if task.only:
                self._second(bench, case, task, tally, cut, task.only, bool(task.way))
                return tally
            recovery = self._recover(bench, case, tally, task, 0, False)
            if not recovery:
                return tally
            for second in range(1, min(recovery[0], case.phase.second) + 1 if task.second else 1):
                self._second(bench, case, task, tally, cut, second, False)
            # The way was one session, offline and then online: its operations are those of an online boot.
            for second in range(1, recovery[1] + 1 if task.way else 1, task.way or 1):
                self._second(bench, case, task, tally, cut, second, True)
        return tally

    def _second(self, bench: Bench, case: Case, task: Task, tally: Tally, cut: bytes, second: int, way: bool) -> None:
        bench.load(cut)
        run = bench.run(IDLE if way else WAITS, online=way, cut_at=second, pins=case.phase.later)
        if run.end == CUT:
            tally.second += 1
            self._recover(bench, case, tally, task, second, way)
        elif run.end not in (IDLE, WAITS):
            self._fail(bench, case, tally, task, second, way, LOST, f"{run.end} {run.detail}")

    def _recover(
        self, bench: Bench, case: Case, tally: Tally, task: Task, second: int, way: bool
    ) -> tuple[int, int] | None:
        """Look at the flash, boot offline, go online. (operations of the boot, of all the way); None if that failed."""

        def fail(verdict: str, why: str) -> None:
            self._fail(bench, case, tally, task, second, way, verdict, why)

        wrong = case.cut(bench.image())
        run = bench.run(WAITS, online=False, pins=case.phase.later)
        broken, content = case.offline(run, bench.image())
        wrong = wrong or broken
        if wrong:
            fail(LOST, f"{wrong}; {run.last}")
            return None
        online = run
        # After a second cut there often is just what the first one left, and from there it has reached the target.
        if way or content not in self._reached:
            online = bench.go_online(IDLE)
            bench.power_off()
            wrong = case.target(online, bench.image())
            if wrong:
                fail(STUCK, f"{wrong}; {online.last}")
                return None
            tally.online += 1
            self._reached.append(content)
        self._count(tally, None)
        tally.boots = max(tally.boots, online.boots)
        return run.operations, online.operations

    def _fail(
        self, bench: Bench, case: Case, tally: Tally, task: Task, second: int, way: bool, verdict: str, why: str
    ) -> None:
        bench.power_off()
        kept = ""
        if self._keep and len(list(self._keep.glob("*.bin"))) < _KEPT:
            self._keep.mkdir(parents=True, exist_ok=True)
            name = f"{task.phase}-{task.first}" + (f"-{'way' if way else 'boot'}{second}" if second else "")
            (self._keep / f"{name}.bin").write_bytes(bench.image())
            kept = str(self._keep / f"{name}.bin")
        self._count(tally, Failure(task.phase, task.first, second, way, verdict, why, kept))

    def _count(self, tally: Tally, failure: Failure | None) -> None:
        tally.tried += 1
        verdict = failure.verdict if failure else SURVIVED
        setattr(tally, verdict, getattr(tally, verdict) + 1)
        if failure:
            tally.failures.append(failure)

    def _phase(self, bench: Bench, case: Case, cut_at: int | None) -> Run:
        told = case.phase
        return bench.run(told.until, online=told.online, cut_at=cut_at, pins=told.pins)

    def _case(self, name: str) -> Case:
        if name not in self._cases:
            self._cases[name] = Case(self.world, ALL[name])
        return self._cases[name]

    def _bench(self, seed: str) -> Bench:
        return Bench(self.world, self._scratch / "flash.bin", f"{self._seed} {seed}")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes away, in memory where there is such a place."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="powercut-", dir=place)


_worker: Worker
_folder: tempfile.TemporaryDirectory[str]


def _begin(world: Path, keep: Path | None, seed: str) -> None:
    global _worker, _folder
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # nothing is left running when the parent is killed
    _folder = scratch()
    _worker = Worker(World(world), Path(_folder.name), keep, seed)


def _run(task: Task) -> Tally:
    return _worker.run(task)


def run(
    world: World, tasks: Iterable[Task], jobs: int, keep: Path | None, seed: str, done: Callable[[Tally], None]
) -> None:
    """Run all tasks; `done` is told the result of each."""
    arguments = (world.folder, keep, seed)
    # Spawned, not forked: the pack server has threads.
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, arguments) as pool:
        for future in as_completed([pool.submit(_run, task) for task in tasks]):
            done(future.result())
