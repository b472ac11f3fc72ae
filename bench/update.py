"""A full update beside receiving, hashing and writing the same files; a boot's verification beside hashing them.

    python -m bench.update

40 files of 200 KB in four folders, from a server on loopback to the LittleFS of the simulated board's flash model, a
fresh image and a new process each time, in turn. "Plain" is a socket, SHA-256 and the same files, without an index,
without reading back. The update is all that Installer.offer() does, from the envelope to the boot record: signature,
index, download, hashing, writing, reading every byte back, the atomic switch. Time is CPU time of the device's process,
which waiting and other programs do not lengthen; limits allow one signature on top, which is taken off before the
ratio. "As on the device" loads the core's modules from flash as they are needed and collects garbage as often as
memory.settle() says; "resident" has them in memory, in a large heap, with the collector's own choice of time.
"""

from __future__ import annotations

from typing import Any

from . import chip
from .table import Row

TITLE = "Full update and boot verification"
WHY = """
What holds it back: reading every byte back and hashing it again is what the limit leaves room for, and nothing else
(the last row). On top of that come two passes over the index with 40 entries decoded each, looking up and removing
files that are not there, and a mkdir for each file instead of each folder. "As on the device" is collecting garbage
every few KB: each read of a KB leaves about as much behind. The boot's verification decodes and checks 40 entries.
"""
REPEATS = 9
MODES: dict[str, dict[str, Any]] = {
    "device": {"resident": False},
    "resident": {"resident": True, "heap": "256wK", "threshold": -1},
}


def rows() -> list[Row]:
    """The measurements."""
    with chip.chip() as board:
        old = board.release(chip.tree(1, count=3, size=6000), 1, squeeze=True)
        results: dict[str, list[dict]] = {}
        plain: dict[str, Any] = {}
        for number, squeeze in ((2, False), (3, True)):
            new = board.release(chip.tree(2), number, squeeze)
            image, nvs = board.image(old, {"/offer.suit": new.envelope})
            plain = {
                "port": int(board.server.url.rstrip("/").rpartition(":")[2]),
                "pack": f"{number}.pack",
                "skip": 4 + len(new.index.data),
                "files": [[entry.path, entry.size] for entry in new.index.entries],
            }
            for _ in range(REPEATS):
                if not squeeze:
                    results.setdefault("plain", []).append(board.run("plain", image, **plain))
                for name, more in MODES.items():
                    found = board.run("install", image, nvs=chip.nvs_hex(nvs), **more)
                    if not found.get("due"):
                        raise chip.BenchError(f"the update was not installed: {found}")
                    results.setdefault(f"{name} {number}", []).append(found)
        slot = board.release(chip.tree(2), 4, squeeze=False)
        image, nvs = board.image(slot)
        paths = [entry.path for entry in slot.index.entries]
        boot = board.run(
            "check", image, heap="512wK", nvs=chip.nvs_hex(nvs), paths=paths, repeats=REPEATS, threshold=-1
        )

    def middle(name: str, what: str) -> float:
        return chip.median([found[what] for found in results[name]])

    signature = chip.median(boot["signature"])
    base, operations = middle("plain", "cpu"), middle("plain", "operations")
    made = [Row("plain: receive, hash, write", base / 1000, "ms"), Row("one signature", signature / 1000, "ms")]
    for kind, number in (("raw", 2), ("deflated", 3)):
        limit = 1.3 if kind == "raw" else None
        for name, words in (("resident", "modules resident"), ("device", "as on the device, 80wK")):
            cpu = middle(f"{name} {number}", "cpu")
            made.append(Row(f"{kind} update / plain, time", (cpu - signature) / base, "times", limit, note=words))
        wall = middle(f"resident {number}", "us") / middle("plain", "us")
        made.append(Row(f"{kind} update / plain, by the clock on the wall", wall, "times", note="modules resident"))
        limit = 1.05 if kind == "raw" else None
        made.append(
            Row(
                f"{kind} update / plain, flash operations",
                middle(f"device {number}", "operations") / operations,
                "times",
                limit,
            )
        )
    laps = results["resident 2"][0]["laps"]
    for name, words in (("_admit", "envelope"), ("fill", "download and write"), ("verify", "read back and verify")):
        share = chip.median([found["laps"].get(name, 0) for found in results["resident 2"]])
        if name in laps:
            made.append(Row(f"of a raw update: {words}", share / 1000, "ms", note="modules resident"))
    check, hashed = chip.median(boot["check"]), chip.median(boot["hash"])
    made.append(Row("boot verification / read and hash", (check - signature) / hashed, "times", 1.2))
    made.append(Row("read and hash", hashed / 1000, "ms"))
    made.append(Row("plain, and reading and hashing all of it again / plain", (base + hashed) / base, "times"))
    return made


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what:50} {row.measured:8.2f} {row.unit} {row.bound:12} {row.verdict} {row.note}")
