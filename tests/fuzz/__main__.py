"""`make fuzz`: mutants of envelopes, indexes and packs inside MicroPython. See docs/fuzzing.md."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import driver


@click.command()
@click.option("--count", default=200_000, show_default=True, help="Mutants in all, divided over the targets.")
@click.option("--seed", type=int, help="Of all chance; a new one unless given. It is printed.")
@click.option("--target", "targets", multiple=True, type=click.Choice(sorted(driver.SHARES)), help="Only this one.")
@click.option("--number", "numbers", multiple=True, type=int, help="Only this mutant of the one target.")
@click.option("--workers", default=0, help="Processes at once; as many as there are cores unless given.")
@click.option("--json", "as_json", is_flag=True, help="Counts and failures as JSON.")
def main(
    count: int, seed: int | None, targets: tuple[str, ...], numbers: tuple[int, ...], workers: int, as_json: bool
) -> None:
    """Mutate real envelopes, indexes and packs; nothing may be taken that was not signed, nothing may break.

    Exit code 1 when a property does not hold.

    \b
    Example: python -m tests.fuzz --seed 7 --target envelope --number 4711
    """
    seed = random.SystemRandom().getrandbits(31) if seed is None else seed
    if numbers and len(targets) != 1:
        raise click.UsageError("--number needs one --target, as a failure prints them")
    jobs = [driver.Job(targets[0], 0, 0, numbers)] if numbers else driver.jobs(count, targets)
    talk = Console(stderr=True)
    talk.print(f"seed {seed}")
    started = time.monotonic()
    with driver.Fuzzer(seed) as fuzzer, Progress(console=talk, disable=not talk.is_terminal) as progress:
        bar = progress.add_task("mutants", total=sum(job.count for job in jobs) or None)
        found = fuzzer.run(jobs, workers, lambda job: progress.advance(bar, job.count))
    took = time.monotonic() - started
    if as_json:
        made = {target: dict(outcomes) for target, outcomes in sorted(found.counts.items())}
        print(json.dumps({"seed": seed, "seconds": round(took, 1), "counts": made, "failures": found.failures}))
    else:
        table = Table("target", "mutants", "outcomes")
        for target, outcomes in sorted(found.counts.items()):
            words = ", ".join(f"{name} {number}" for name, number in outcomes.most_common())
            table.add_row(target, str(sum(outcomes.values())), words)
        Console().print(table)
        print(f"{found.total} mutants in {took:.0f} s, {len(found.failures)} failures, seed {seed}")
        for line in driver.shown(found.failures, seed, 1 << 20 if numbers else 400):
            print(line)
    sys.exit(1 if found.failures else 0)


if __name__ == "__main__":
    main()
