"""`make bench`: every measurement, each beside its limit or a peer.

python -m bench [--only update] [--json] [--write]
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from . import table

NAMES = ("update", "wire", "heap", "lms", "link", "reports", "peer")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


@click.command()
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Only this one; may be given more than once.")
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON.")
@click.option("--write", is_flag=True, help="Write docs/benchmarks.md from all of them.")
def main(only: tuple[str, ...], as_json: bool, write: bool) -> None:
    """Measure what the design aims at. A missed limit is told and is no failure; exit code 1 means no measurement.

    \b
    Example: python -m bench --only update --only wire
    """
    if write and only:
        raise click.UsageError("--write needs all of them: leave out --only")
    talk, load, groups, failed = Console(stderr=True), os.getloadavg()[0], [], []
    for name in only or NAMES:
        module = importlib.import_module(f"bench.{name}")
        try:
            with talk.status(f"{module.TITLE} ..."):
                found = module.rows()
        except Exception as error:  # noqa: BLE001 the others can still be measured
            failed.append(name)
            talk.print(f"{name}: {type(error).__name__}: {error}")
            continue
        how = str(module.__doc__).split("\n\n", 2)
        text = f"{how[0]}\n\n{how[2] if len(how) > 2 else ''}"
        groups.append((module.TITLE, text, found, getattr(module, "WHY", "")))
        if not as_json:
            show(module.TITLE, found)
    if as_json:
        rows = {title: [row.json() for row in found] for title, _, found, _ in groups}
        print(json.dumps({"machine": table.machine(), "load": load, "rows": rows, "failed": failed}))
    if write and not failed:
        PAGE.write_text(table.markdown(groups, datetime.date.today().isoformat(), load))
    sys.exit(1 if failed else 0)


def show(title: str, rows: list[table.Row]) -> None:
    """Print a group."""
    made = Table(title=title, title_justify="left")
    for name in ("what", "measured", "limit", "", "note"):
        made.add_column(name, justify="right" if name == "measured" else "left")
    for row in rows:
        made.add_row(row.what, f"{table.number(row.measured)} {row.unit}", row.bound, row.verdict, row.note)
    Console().print(made)


if __name__ == "__main__":
    main()
