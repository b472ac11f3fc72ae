"""Runs the fuzzer in several MicroPython processes and gathers what they found."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gatehouse_tools import core
from plugin import interpreter

from . import seeds

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
ROOT = TESTS.parent
LARGE_HEAP = 8 << 20  # to find out what the seeds and the chip's flash take
# Bytes on top of that: what a mutant may take, in a heap that is in pieces by then, of 64-bit words. Where there is
# flash, most of it is for the copies of it.
ROOM = 512 << 10
FLASH_ROOM = 1 << 20
FLASH = ("pack", "repack", "offer", "image", "rotate", "command")
# What else than its own seeds a target needs of seeds.py; keys unless it is named here.
NEEDS = {
    "pack": ("packs",),
    "repack": ("packs",),
    "offer": ("offer",),
    "rotate": ("offer",),
    "image": (),
    "command": (),
}
CHUNK = 500  # mutants of one process
LEAST = 40  # mutants of each target, so that a small run has seen something of each
CHUNK_S = 300  # seconds for one; it takes ten

# target -> its share of the mutants, in thousandths
SHARES = {
    "envelope": 220,
    "manifest": 240,
    "index": 130,
    "trust": 90,
    "config": 40,
    "cbor": 65,
    "pack": 70,
    "repack": 60,
    "offer": 30,
    "image": 10,
    "rotate": 5,
    "command": 40,
}


@dataclass
class Found:
    """What came out: counts by target and outcome, and failures as dicts of target, number, why, mutant, trace."""

    counts: dict[str, collections.Counter[str]] = field(default_factory=dict)
    failures: list[dict] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Mutants that ran."""
        return sum(sum(outcomes.values()) for outcomes in self.counts.values())


@dataclass(frozen=True)
class Job:
    """Some mutants of one target: `count` from number `first` on, or just those of `only`."""

    target: str
    first: int
    count: int
    only: tuple[int, ...] = ()


def jobs(count: int, targets: Sequence[str] = ()) -> list[Job]:
    """`count` mutants divided over the targets, all by default, in pieces of CHUNK."""
    chosen = targets or tuple(SHARES)
    total = sum(SHARES[target] for target in chosen)
    found = []
    for target in chosen:
        share = max(LEAST, -(-count * SHARES[target] // total))
        found += [Job(target, first, min(CHUNK, share - first)) for first in range(0, share, CHUNK)]
    # The targets in turn, so that a run that is stopped has seen something of each.
    return sorted(found, key=lambda job: (job.first, job.target))


class Fuzzer:
    """The compiled device side, ready to run jobs; a context manager. `lib`: another core than the working copy's."""

    def __init__(self, seed: int, lib: Path = ROOT / "lib") -> None:
        self.seed = seed
        self._lib = lib
        self._heaps: dict[str, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Fuzzer:
        self._folder = Path(tempfile.mkdtemp(prefix="gatehouse-fuzz-"))
        self._paths = []
        folders = (HERE / "device", self._lib, TESTS / "device", TESTS / "plugin" / "device", ROOT / "firmware")
        for number, folder in enumerate(folders):
            target = self._folder / str(number)
            interpreter.compile_folder(folder, target)
            self._paths.append(str(target))
        self._seeds = seeds.make()
        self._reasons = core.module("reasons").REASONS
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, wanted: Sequence[Job], workers: int = 0, told: Callable[[Job], None] = lambda job: None) -> Found:
        """Run jobs, `workers` at once (all cores by default); `told` hears of each that has ended."""
        found = Found()
        with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            running = {pool.submit(self._one, job): job for job in wanted}
            try:
                for done in concurrent.futures.as_completed(running):
                    job = running[done]
                    counts, failures = done.result()
                    found.counts.setdefault(job.target, collections.Counter()).update(counts)
                    found.failures += failures
                    told(job)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return found

    def _one(self, job: Job) -> tuple[dict[str, int], list[dict]]:
        with self._lock:
            if job.target not in self._heaps:
                output, ended = self._process(Job(job.target, 0, 0), LARGE_HEAP)
                used = [int(line[1:]) for line in output.splitlines() if line.startswith("#")]
                if not used:
                    return read(job, output, ended)
                self._heaps[job.target] = used[0] + (FLASH_ROOM if job.target in FLASH else ROOM)
        return read(job, *self._process(job, self._heaps[job.target]))

    def _process(self, job: Job, heap: int) -> tuple[str, str]:
        """What a process printed that did a job in a heap of so many bytes, and how it ended."""
        names = NEEDS.get(job.target, (job.target, "keys"))
        told = {
            "target": job.target,
            "first": job.first,
            "count": job.count,
            "only": job.only,
            "seed": self.seed,
            "seeds": {name: self._seeds[name] for name in names},
            "reasons": self._reasons,
        }
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            (folder / "job.json").write_text(json.dumps(told))
            command = [interpreter.find(), "-X", f"heapsize={heap}", "-m", "run_fuzz", "job.json", ".frozen"]
            with open(folder / "out", "wb") as out:
                process = subprocess.Popen(
                    [*command, *self._paths],
                    cwd=folder,
                    env={"MICROPYPATH": self._paths[0]},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                try:
                    ended = f"the process ended with {process.wait(CHUNK_S)}"
                except subprocess.TimeoutExpired:
                    ended = f"not finished after {CHUNK_S} s"
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            return (folder / "out").read_text(errors="replace"), ended


def read(job: Job, output: str, ended: str) -> tuple[dict[str, int], list[dict]]:
    """Counts and failures in the output of run_fuzz.py. Where that has no end, its last mutant has failed."""
    counts: dict[str, int] | None = None
    failures: list[dict] = []
    number = None
    rest: list[str] = []
    for line in output.splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("@"):
            number = int(line[1:])
        elif line.startswith("!"):
            failures.append({"target": job.target, "trace": [], **json.loads(line[1:])})
        elif line.startswith("="):
            counts = json.loads(line[1:])
        elif not line.startswith("gatehouse: "):  # what a device says when it starts
            (failures[-1]["trace"] if failures else rest).append(line)
    if counts is None:
        last = {"target": job.target, "number": number, "why": ended, "mutant": None, "trace": rest[-12:]}
        return {"FAILED": 1}, [*failures, last]
    return counts, failures


def shown(failures: Sequence[dict], seed: int, most: int = 400) -> Iterator[str]:
    """Lines for people: each failure, and the command that repeats it. `most`: characters of a mutant."""
    for failure in failures:
        yield f"{failure['target']} {failure['number']}: {failure['why']}"
        mutant = json.dumps(failure["mutant"])
        yield f"  mutant: {mutant}" if len(mutant) <= most else f"  mutant: {mutant[:most]}... (all of it: again)"
        yield from (f"  {line}" for line in failure["trace"])
        if failure["number"] is not None:
            arguments = f"--seed {seed} --target {failure['target']} --number {failure['number']}"
            yield f'  again: make fuzz ARGS="{arguments}"'
