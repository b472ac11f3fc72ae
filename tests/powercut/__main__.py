"""`python -m tests.powercut`: cut the power at every flash operation of every phase (docs/powercut.md)."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import rich_click as click
from rich.table import Table

from gatehouse_tools import ui
from gatehouse_tools.errors import GatehouseError

from . import phases, sweep, world
from .bench import Bench

ROOT = Path(__file__).resolve().parents[2]
KEEP = ROOT / "failed" / "powercut"
WAY = 97  # of the first cuts, one in so many is cut again on the whole way to the target,
WAY_SHORT = 11  # of a phase with fewer operations than that one in so many,
STRIDE = 29  # at each so manieth operation: primes, so that no rhythm of the file system is in step with them
_BOOT = 17  # operations of a boot, about: where a sample has its second cuts
_SHOWN = 8
_COUNTED = ("tried", "second", "online", "survived", "lost", "stuck", "uncut", "boots")


@click.command()
@click.option("--phase", "names", multiple=True, type=click.Choice(list(phases.ALL)), help="Repeatable. Default: all.")
@click.option("--from", "first", type=int, default=1, metavar="N", help="First operation to cut; -9: ninth to last.")
@click.option("--to", "last", type=click.IntRange(1), metavar="N", help="Last operation to cut.")
@click.option("--step", type=click.IntRange(1), default=1, metavar="N", help="Cut at every N-th operation only.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="So many of a phase, by the seed.")
@click.option("--second", is_flag=True, help="Cut again: the boot after each cut, and a sample of the whole way.")
@click.option("--second-step", type=click.IntRange(1), metavar="N", help="Of every N-th. Default: the phase's own.")
@click.option("--second-at", type=click.IntRange(1), metavar="N", help="Cut again at just this operation of that boot.")
@click.option("--way-at", type=click.IntRange(1), metavar="N", help="Likewise, of the way to the target.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, metavar="N", help="Default: all cores.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, metavar="N", help="Of all that is random."
)
@click.option("--world", "folder", type=click.Path(path_type=Path), metavar="DIR", help="Keys, releases and images of")
@click.option("--keep", type=click.Path(path_type=Path), default=KEEP, metavar="DIR", help="Where failing images go.")
@ui.json_option
def main(
    names: tuple[str, ...],
    first: int,
    last: int | None,
    step: int,
    sample: int | None,
    second: bool,
    second_step: int | None,
    second_at: int | None,
    way_at: int | None,
    jobs: int,
    seed: int,
    folder: Path | None,
    keep: Path,
) -> None:
    """Cut the power in the middle of every flash operation of the phases of a device's life, one after the other.

    After each cut the device must boot without a network into one complete version, and reach the phase's target once
    it has one. Exit code 1 when one did not.

    \b
    Example:
    $ python -m tests.powercut --phase install --from 200 --to 300 --second
    """
    started = time.monotonic()
    chosen = list(names) or list(phases.ALL)
    with contextlib.ExitStack() as stack:
        place, made = _open(stack, folder, chosen)
        stack.enter_context(made.served())
        counts = _count(made, chosen, seed)
        wanted = {name: _wanted(count, first, last, step) for name, count in counts.items()}
        if sample:
            tasks = _sample(wanted, sample, second, seed)
        else:
            tasks = _tasks(wanted, seed, second, second_step, second_at, way_at)
        if not place.is_relative_to(keep):
            _forget(keep)
        tallies = {name: sweep.Tally(name) for name in chosen}
        with ui.bar("cuts", len(tasks)) as step_bar:

            def done(tally: sweep.Tally) -> None:
                tallies[tally.phase].add(tally)
                step_bar()

            sweep.run(made, tasks, jobs, keep, str(seed), done)
        failures = [failure for tally in tallies.values() for failure in tally.failures]
        if failures and not place.is_relative_to(keep):
            shutil.copytree(place, keep / "world", dirs_exist_ok=True)
            place = keep / "world"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the workers, which have ended, and of their devices
    times = (time.monotonic() - started, used.ru_utime + used.ru_stime)
    _tell(tallies, counts, failures, place, seed, times)
    if failures:
        sys.exit(1)


def _forget(keep: Path) -> None:
    """Remove what an earlier run kept, and nothing else."""
    for name in phases.ALL:
        for path in keep.glob(f"{name}-*.bin"):
            path.unlink()
    if world.is_world(keep / "world"):
        shutil.rmtree(keep / "world")


def _open(stack: contextlib.ExitStack, folder: Path | None, chosen: list[str]) -> tuple[Path, world.World]:
    """The world in `folder`, made if it is not there; without a folder one that goes away."""
    place = folder or Path(stack.enter_context(sweep.scratch())) / "world"
    if not world.is_world(place):
        world.check_new(place)
        if not world.quicken():
            ui.warn("lib/gatehouse/memory.py has no _THRESHOLD: boots take twice as long")
        place.mkdir(parents=True, exist_ok=True)
        made = world.create(place)
        phases.make_releases(made)
        with made.served(), _bench(made) as bench:
            for name in chosen:
                (made.images / f"{name}.bin").write_bytes(phases.ALL[name].prepare(made, bench))
        (place / "complete").touch()
    found = world.World(place)
    missing = [name for name in chosen if not (found.images / f"{name}.bin").exists()]
    if missing:
        raise GatehouseError(f"{place} has no phase {missing[0]}: it was made for others; remove it")
    return place, found


@contextlib.contextmanager
def _bench(made: world.World) -> Iterator[Bench]:
    with sweep.scratch() as scratch, Bench(made, Path(scratch) / "flash.bin") as bench:
        yield bench


def _count(made: world.World, chosen: list[str], seed: int) -> dict[str, int]:
    """The operations of each phase. GatehouseError when one does not even work uncut."""
    counts = {}
    with sweep.scratch() as scratch:
        worker = sweep.Worker(made, Path(scratch), None, str(seed))
        for name in chosen:
            counts[name], wrong = worker.operations(name)
            if wrong:
                raise GatehouseError(f"phase {name} fails without any cut: {wrong}")
    return counts


def _wanted(count: int, first: int, last: int | None, step: int) -> range:
    """The operations of a phase of `count` that are to be cut."""
    return range(max(1, first if first > 0 else count + 1 + first), min(count, last or count) + 1, step)


def _sample(wanted: dict[str, range], size: int, second: bool, seed: int) -> list[sweep.Task]:
    """Some of the first cuts, each with one second cut when `second`."""
    chance = random.Random(seed)
    found = []
    for name, numbers in wanted.items():
        for first in chance.sample(numbers, min(size, len(numbers))):
            found.append(sweep.Task(name, first))
            if second:
                found.append(sweep.Task(name, first, way=chance.randrange(2), only=chance.randrange(1, _BOOT)))
    return found


def _tasks(
    wanted: dict[str, range],
    seed: int,
    second: bool,
    second_step: int | None,
    second_at: int | None,
    way_at: int | None,
) -> list[sweep.Task]:
    found = []
    for name, numbers in wanted.items():
        apart = second_step or phases.ALL[name].second_step
        way_apart = WAY if len(numbers) >= WAY else WAY_SHORT
        for first in numbers:
            if second_at or way_at:
                found.append(sweep.Task(name, first, way=int(bool(way_at)), only=second_at or way_at or 0))
            else:
                way = STRIDE if second and first % way_apart == seed % way_apart else 0
                found.append(sweep.Task(name, first, second and first % apart == seed % apart, way))
    return found


def _tell(
    tallies: dict[str, sweep.Tally],
    counts: dict[str, int],
    failures: list[sweep.Failure],
    place: Path,
    seed: int,
    times: tuple[float, float],
) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("phase", "operations", "cuts", "second cuts", "survived", "lost", "stuck", "most boots", ""):
        table.add_column(title, justify="left" if title in ("phase", "") else "right")
    total = sweep.Tally("all")
    for name, tally in tallies.items():
        total.add(tally)
        table.add_row(*_row(name, counts[name], tally), phases.ALL[name].about)
    if len(tallies) > 1:
        table.add_row(
            *_row("all", sum(counts.values()), total), f"{times[0]:.0f} s, {times[1]:.0f} s of processors", style="bold"
        )
    if not ui.json_mode():
        ui.out().print(table)
        for failure in failures[:_SHOWN]:
            ui.show()
            ui.show(f"{failure.verdict}: {_named(failure)}: {failure.why}", "red")
            if failure.image:
                ui.show(f"  flash image: {failure.image}")
            ui.show(f"  again: {_again(failure, place, seed)}")
        if len(failures) > _SHOWN:
            ui.show(f"\n... and {len(failures) - _SHOWN} more")
    ui.result(
        {
            "ok": not failures,
            "seed": seed,
            "seconds": round(times[0], 1),
            "processor_seconds": round(times[1], 1),
            "phases": {
                name: {"operations": counts[name]} | {key: getattr(tally, key) for key in _COUNTED}
                for name, tally in tallies.items()
            },
            "failures": [vars(failure) | {"again": _again(failure, place, seed)} for failure in failures],
        }
    )


def _row(name: str, operations: int, tally: sweep.Tally) -> tuple[str, ...]:
    numbers = (
        operations,
        tally.tried - tally.second,
        tally.second,
        tally.survived,
        tally.lost,
        tally.stuck + tally.uncut,
        tally.boots,
    )
    return (name, *(str(number) for number in numbers))


def _named(failure: sweep.Failure) -> str:
    where = f"{failure.phase}, cut at operation {failure.first}"
    if failure.second:
        where += f", then at operation {failure.second} of {'the way on' if failure.way else 'the boot after it'}"
    return where


def _again(failure: sweep.Failure, place: Path, seed: int) -> str:
    """The command that repeats a failure from the same bytes."""
    words = ["python", "-m", "tests.powercut", "--world", str(place), "--phase", failure.phase]
    words += ["--from", str(failure.first), "--to", str(failure.first), "--seed", str(seed)]
    if failure.second:
        words += ["--way-at" if failure.way else "--second-at", str(failure.second)]
    return shlex.join(words)


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except GatehouseError as error:
        ui.error(str(error), error.reason)
        sys.exit(1)
