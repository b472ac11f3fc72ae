"""What a measurement says beside its limit: rows for the terminal, for JSON and for docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plugin import interpreter


@dataclass(frozen=True)
class Row:
    """One measurement. `limit` None: nothing is demanded of it. `least`: the limit is one from below."""

    what: str
    measured: float
    unit: str
    limit: float | None = None
    least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """ "OK", "" where there is no limit, else by how much the limit is missed."""
        if self.limit is None:
            return ""
        if self.measured >= self.limit if self.least else self.measured <= self.limit:
            return "OK"
        if not self.limit or not self.measured:
            return f"{number(abs(self.measured - self.limit))} off"
        off = self.limit / self.measured if self.least else self.measured / self.limit
        return f"{off:.2f} times off" if off >= 2 else f"{(off - 1) * 100:.0f} % off"

    @property
    def bound(self) -> str:
        """The limit in words."""
        return "" if self.limit is None else f"{'≥' if self.least else '≤'} {number(self.limit)} {self.unit}".strip()

    def json(self) -> dict[str, Any]:
        """The row for machines."""
        return asdict(self) | {"verdict": self.verdict}


def number(value: float) -> str:
    """A number for people: three digits that count, whole above a hundred."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def machine() -> dict[str, str]:
    """Where all this was measured."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "CPU": f"{cpu[1].strip() if cpu else platform.processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "MicroPython": f"{interpreter.version()} (unix port)",
        "host": f"CPython {platform.python_version()}",
    }


def markdown(groups: Iterable[tuple[str, str, list[Row], str]], date: str, load: float) -> str:
    """docs/benchmarks.md: (title, how it was measured, rows, what holds back) of each group."""
    where = ", ".join(f"{name}: {text}" for name, text in machine().items())
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench ARGS=--write`. Ratios are of medians within one run on one machine; on another machine",
        "they hold better than the times. **Nothing here was measured on a chip.**",
        "",
        f"{date}. {where}. Load of the machine when it began: {load:.1f}.",
    ]
    for title, how, rows, why in groups:
        lines += ["", f"## {title}", "", how.strip(), "", "| what | measured | limit | |", "| --- | --- | --- | --- |"]
        for row in rows:
            what = f"{row.what} ({row.note})" if row.note else row.what
            lines.append(f"| {what} | {number(row.measured)} {row.unit} | {row.bound} | {row.verdict} |")
        if why:
            lines += ["", why.strip()]
    return "\n".join(lines) + "\n"
