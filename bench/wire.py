"""Bytes on the wire, by the server's own log: a delta, a full update, and what the source of it weighs.

    python -m bench.wire

Delta: a device runs 40 files of 200 KB; in the release that it is offered one of them is another. What the server
sent, heads of its answers included, beside that file, the index and 2 KB. Full update: the project's own firmware/ and
lib/, compiled and deflated, envelope included, beside the bytes of their source.
"""

from __future__ import annotations

import random

from gatehouse_tools import build, core, pack

from . import chip
from .table import Row

TITLE = "Bytes on the wire"


def rows() -> list[Row]:
    """The measurements."""
    made = []
    with chip.chip() as board:
        files = chip.tree(1)
        changed = sorted(files)[17]
        later = files | {changed: random.Random(9).randbytes(len(files[changed]))}  # noqa: S311 as everywhere here
        for name, squeeze in (("raw", False), ("deflated", True)):
            old = board.release(files, 1, squeeze)
            new = board.release(later, 2, squeeze)
            image, nvs = board.image(old, {"/offer.suit": new.envelope})
            del board.server.log[:]
            found = board.run("install", image, nvs=chip.nvs_hex(nvs), resident=False)
            if not found.get("due"):
                raise chip.BenchError(f"the delta was not installed: {found}")
            sent = sum(request.head + request.body for request in board.server.log)
            entry = next(entry for entry in new.index.entries if entry.path == changed)
            base = entry.stored + len(new.index.data)
            note = f"{len(board.server.log)} requests, file {entry.stored} and index {len(new.index.data)} bytes"
            made.append(Row(f"delta of 1 file of 40, {name}", sent, "bytes", base + 2048, note=note))
        source, compiled = 0, {}
        for folder, prefix in (("firmware", ""), ("lib/gatehouse", "core/")):
            for path in sorted(core.source(*folder.split("/")).glob("*.py")):
                source += path.stat().st_size
                compiled[f"{prefix}{path.stem}.mpy"] = build.compile_file(path, path.name)
        _, data = pack.build(compiled, "bench", "1.0.0")
        release = board.release(compiled, 3, squeeze=True)
        share = (len(data) + len(release.envelope)) / source
        note = f"{len(compiled)} files, {source} bytes of source, {sum(map(len, compiled.values()))} compiled"
        made.append(Row("full update / source", share, "times", 1 / 3, note=note))
    return made


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what:32} {row.measured:10.2f} {row.unit} {row.bound:16} {row.verdict} ({row.note})")
