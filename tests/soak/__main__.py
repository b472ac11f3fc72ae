"""`python -m tests.soak`: a device lives for weeks, while its network and its power come and go (docs/soak.md)."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import rich_click as click

from gatehouse_tools import ui
from gatehouse_tools.house import ended_by_signals

from . import plan
from .run import Outcome, Soak
from .site import Site

ROOT = Path(__file__).resolve().parents[2]
KEEP = ROOT / "failed" / "soak"
_KEPT = ("uart.log", "collected.sqlite", "stage/product/devices/gh-soak-1/flash.bin")


@click.command()
@click.option("--days", type=click.FloatRange(0.1), default=30, show_default=True, metavar="N", help="Of its clock.")
@click.option("--restarts", type=click.IntRange(0), default=100, show_default=True, metavar="N", help="Of the broker.")
@click.option("--cuts", type=click.IntRange(0), default=60, show_default=True, metavar="N", help="Of links.")
@click.option("--power-cuts", type=click.IntRange(0), default=20, show_default=True, metavar="N", help="Of the device.")
@click.option("--flood/--no-flood", default=True, help="One restart after which the ring has lost entries.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, metavar="N", help="Of what is random.")
@click.option("--keep", type=click.Path(path_type=Path), default=KEEP, metavar="DIR", help="Where a failure is kept.")
@ui.json_option
def main(days: float, restarts: int, cuts: int, power_cuts: int, flood: bool, seed: int, keep: Path) -> None:
    """Let a simulated device live through restarts of Mosquitto, link cuts and power cuts, with a collector on it.

    Each entry of its journal must be at the collector exactly once, and the chain whole; its heap must be as free at
    the end as at the start; and it must not have restarted by itself. Exit code 1 where one of them does not hold.

    \b
    Example:
    $ python -m tests.soak --days 2 --restarts 3 --cuts 2 --power-cuts 1 --seed 7
    """
    chance = random.Random(seed)
    incidents, rest = plan.draw(plan.Wanted(days, restarts, cuts, power_cuts, flood and restarts > 0), chance)
    ui.say(f"seed {seed}: {len(incidents)} incidents in {days:g} days")
    with ended_by_signals(), _scratch() as folder, ui.bar("incidents", len(incidents)) as step:
        with Site(folder, seed, lambda _: None) as site:
            outcome = Soak(site, chance, step).run(incidents, rest)
        if outcome.faults:
            _save(folder, keep)
    _tell(outcome, seed, keep)
    if outcome.faults:
        sys.exit(1)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gatehouse-soak-") as folder:
        yield Path(folder)


def _save(folder: Path, keep: Path) -> None:
    shutil.rmtree(keep, ignore_errors=True)
    keep.mkdir(parents=True)
    for name in _KEPT:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, keep / Path(name).name)


def _tell(outcome: Outcome, seed: int, keep: Path) -> None:
    for kind, count in sorted(outcome.happened.items()):
        ui.show(f"{count:4} {kind}: {plan.WHAT[kind]}")
    for name, value in outcome.numbers.items():
        ui.show(f"{name.replace('_', ' '):>24}  {value}")
    for fault in outcome.faults:
        ui.show(f"FAULT: {fault}")
    if outcome.faults:
        ui.show(f"seed {seed}; flash image, log and database are kept in {keep}")
    ui.result(
        {
            "ok": not outcome.faults,
            "seed": seed,
            "happened": dict(outcome.happened),
            "counts": _counts(outcome.happened),
            "heaps": [vars(one) for one in outcome.heaps],
            "faults": outcome.faults,
            **outcome.numbers,
        }
    )


def _counts(happened: Counter[str]) -> dict[str, int]:
    groups = {"restarts": (*plan.RESTARTS, "flood"), "cuts": plan.CUTS, "power_cuts": plan.POWER_CUTS}
    return {name: sum(happened[kind] for kind in kinds) for name, kinds in groups.items()}


if __name__ == "__main__":
    main()
