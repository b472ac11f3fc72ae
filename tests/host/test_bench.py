"""What `make bench` runs on: rows and their verdicts, the search for a heap, the chip that is measured."""

from __future__ import annotations

from typing import Any

import pytest

from bench import chip, heap
from bench.table import Row, markdown, number


def test_verdicts() -> None:
    assert Row("x", 1.2, "times", 1.2).verdict == Row("x", 10, "times", 10, least=True).verdict == "OK"
    assert Row("x", 1.5, "times", 1.2).verdict == "25 % off"
    assert Row("x", 6, "times", 1.2).verdict == "5.00 times off"
    assert Row("x", 1600, "a second", 2000, least=True).verdict == "25 % off"
    assert Row("x", 1, "ms").verdict == Row("x", 1, "ms").bound == ""
    assert Row("x", 3, "of 9", 0).verdict == "3 off"
    assert Row("x", 1, "a second", 2000, least=True).bound == "≥ 2,000 a second"
    assert [number(value) for value in (0.1234, 3.0, 207173.2)] == ["0.123", "3", "207,173"]


def test_page() -> None:
    page = markdown([("Title", "How.", [Row("thing", 2, "times", 1, note="note")], "Why.")], "2026-01-01", 0.5)
    assert (
        "| thing (note) | 2 times | ≤ 1 times | 2.00 times off |" in page
        and "unix port" in page
        and page.endswith("\n\nWhy.\n")
    )


def test_bisection() -> None:
    tried: list[int] = []

    def works(size: int) -> bool:
        tried.append(size)
        return size >= 37

    assert heap.smallest(works, 16, 96) == 37 and len(tried) < 10
    assert heap.smallest(works, 16, 96, 2) == 38
    with pytest.raises(chip.BenchError):
        heap.smallest(works, 16, 30)


def test_chip_installs_resumes_and_runs_out_of_memory() -> None:
    with chip.chip() as board:
        old = board.release(chip.tree(1, count=3, size=6000), 1, squeeze=True)
        new = board.release(chip.tree(2, count=4, size=9000), 2, squeeze=False)
        image, nvs = board.image(old, {"/offer.suit": new.envelope})
        options: dict[str, Any] = {"nvs": chip.nvs_hex(nvs), "resident": False}
        found = board.run("install", image, **options)
        assert (found["due"], found["state"]) == (True, "pending-reboot") and found["operations"] > 80, found
        again = board.run("install", image, **options)
        assert again["operations"] == found["operations"], "each run begins with a fresh image"
        kept = board.folder / "kept"
        assert "cut" in board.run("install", image, cut=40, keep=kept, **options)["end"]
        assert board.run("boot", kept.read_bytes(), nvs=options["nvs"])["mode"] == "active"
        small = board.run("install", image, heap="40wK", **options)
        assert small.get("end") == "MemoryError" or small["reason"] == "memory", small
