"""micropython-ota 2.1.0 of PyPI, unchanged, does the same update as Gatehouse, on the same flash model.

    python -m bench.peer

40 text files of 200 KB in one folder (it knows no folders below the root, and decodes what it gets as UTF-8, so that
bytecode cannot travel), raw, from the same server. The unix port lacks `urequests`; bench/device/urequests.py is a
stand-in of micropython-lib's. Power cuts are at every 20th flash operation of the update, half written. A device counts
as lost when neither the old nor the new version is complete afterwards: for micropython-ota the files are compared, for
Gatehouse the core boots and verifies. Tampered: one byte of one file on the server is another. Resumed: after a cut in
the middle of the update, the bytes that the next try asks for, of all.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from gatehouse_tools.build import compile_file
from gatehouse_tools.image import littlefs

from . import chip
from .table import Row

TITLE = "A peer: micropython-ota"
MODULE = chip.ROOT / "build" / "peer" / "micropython_ota.py"
EVERY = 20
REPEATS = 3
_WORDS = ("def", "return", "self", "value", "for", "in", "range(8)", "if", "not", "None", "print(x)", "x = 1", "import")


def texts(number: int, count: int = 40, size: int = 200 * 1024) -> dict[str, bytes]:
    """`count` files of text, `size` bytes in all."""
    rng = random.Random(number)  # noqa: S311 the same at every run
    files = {}
    for at in range(count):
        words = [rng.choice(_WORDS) + str(rng.randrange(1000)) for _ in range(size // count // 4)]
        files[f"file{at:02}.py"] = " ".join(words).encode()[: size // count - 1] + b"\n"
    return files


class Peer:
    """A device with micropython-ota and version 1 of the files; version 2 is on the server."""

    def __init__(self, board: chip.Chip, old: dict[str, bytes], new: dict[str, bytes]) -> None:
        self.board, self.old, self.new = board, old, new
        self.www = board.folder / "www" / "bench"
        (self.www / "2").mkdir(parents=True)
        (self.www / "version").write_text("2\n")
        for name, data in new.items():
            (self.www / "2" / name).write_bytes(data)
        module = {"/lib/micropython_ota.mpy": compile_file(MODULE, MODULE.name)}
        files = {f"/{name}": data for name, data in old.items()}
        self.image = littlefs.build(module | files | {"/version": b"1"}, [], board.size)

    def update(self, image: bytes, cut: int = 0, keep: Path | None = None) -> dict:
        """One call of ota_update()."""
        return self.board.run(
            "peer", image, cut=cut, keep=keep, host=self.board.server.url.rstrip("/"), names=sorted(self.new)
        )

    def files(self, image: bytes) -> dict[str, bytes]:
        """The application's files in an image; none where it cannot be read."""
        found, _ = littlefs.read(image)
        return {path[1:]: data for path, data in found.items() if path[1:] in self.new}


def rows() -> list[Row]:
    """The measurements."""
    with chip.chip() as board:
        board.size = 2 * chip.SIZE  # for both: its files have a little over a block each, and take two
        old, new = texts(1), texts(2)
        first, second = board.release(old, 1, False), board.release(new, 2, False)
        image, nvs = board.image(first, {"/offer.suit": second.envelope})
        options: dict[str, Any] = {"nvs": chip.nvs_hex(nvs), "resident": False}
        peer = Peer(board, old, new)
        log = board.server.log

        def sent() -> int:
            total = sum(request.head + request.body for request in log)
            log.clear()
            return total

        ours: list[dict] = []
        theirs: list[dict] = []
        log.clear()
        for _ in range(REPEATS):
            ours.append(board.run("install", image, **options))
            our_bytes = sent()
            theirs.append(peer.update(peer.image))
            their_bytes = sent()
        if not all(found.get("due") for found in ours) or not all(found["reset"] for found in theirs):
            raise chip.BenchError(f"an update was not installed: {ours[-1]} {theirs[-1]}")

        def middle(found: list[dict], what: str) -> float:
            return chip.median([item[what] for item in found])

        our_operations, their_operations = ours[0]["operations"], theirs[0]["operations"]
        made = [
            Row("time, Gatehouse / micropython-ota", middle(ours, "cpu") / middle(theirs, "cpu"), "times", note="80wK"),
            _share("bytes", our_bytes, their_bytes),
            _share("flash operations", our_operations, their_operations),
        ]
        kept = board.folder / "kept"
        lost = tried = 0
        for cut in range(EVERY, their_operations, EVERY):
            peer.update(peer.image, cut, kept)
            tried += 1
            lost += peer.files(kept.read_bytes()) not in (old, new)
        made.append(Row("micropython-ota, devices lost to a cut", lost, f"of {tried}"))
        begin = board.run("boot", image, nvs=options["nvs"])
        if begin["mode"] != "active":
            raise chip.BenchError(f"the device does not start: {begin}")
        lost = tried = 0
        for cut in range(EVERY, our_operations, EVERY):
            # The boot in front of the update writes, too; all of it is counted from power-on.
            board.run("install", image, cut=cut, keep=kept, **options)
            tried += 1
            lost += board.run("boot", kept.read_bytes(), nvs=options["nvs"])["mode"] == "recovery"
        made.append(Row("Gatehouse, devices lost to a cut", lost, f"of {tried}", 0))

        made += _resumed(board, peer, image, options, sent, our_operations, their_operations)
        made += _tampered(board, peer, image, options)
        left = sum(data == old[name] for name, data in peer.files(peer_after(peer, kept)).items())
        made.append(Row("micropython-ota, files of the old version left to go back to", left, "of 40"))
        return made


def _share(what: str, ours: int, theirs: int) -> Row:
    return Row(f"{what}, Gatehouse / micropython-ota", ours / theirs, "times", note=f"{ours} and {theirs}")


def peer_after(peer: Peer, kept: Path) -> bytes:
    """The image after an update."""
    peer.update(peer.image, 0, kept)
    return kept.read_bytes()


def _resumed(board, peer, image, options, sent, our_operations, their_operations):
    kept = board.folder / "kept"
    found = []
    for name, start, again, half in (
        ("micropython-ota", peer.image, lambda data: peer.update(data), their_operations // 2),
        ("Gatehouse", image, lambda data: board.run("install", data, **options), our_operations // 2),
    ):
        sent()
        again(start)
        whole = sent()
        if name == "Gatehouse":
            board.run("install", start, cut=half, keep=kept, **options)
        else:
            peer.update(start, half, kept)
        sent()
        again(kept.read_bytes())
        found.append(Row(f"{name}, fetched again after a cut in the middle", sent() / whole, "of all"))
    return found


def _tampered(board, peer, image, options):
    kept = board.folder / "kept"
    target = peer.www / "2" / "file07.py"
    honest = target.read_bytes()
    target.write_bytes(honest[:100] + b"X" + honest[101:])
    peer.update(peer.image, 0, kept)
    taken = peer.files(kept.read_bytes())["file07.py"] != honest
    target.write_bytes(honest)
    pack = board.folder / "www" / "2.pack"
    data = pack.read_bytes()
    at = data.index(honest[:64]) + 100
    pack.write_bytes(data[:at] + b"X" + data[at + 1 :])
    result = board.run("install", image, **options)
    pack.write_bytes(data)
    return [
        Row("micropython-ota, installs a tampered file", taken, "of 1"),
        Row("Gatehouse, installs a tampered file", bool(result.get("due")), "of 1", 0, note=str(result.get("reason"))),
    ]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what:62} {row.measured:8.2f} {row.unit} {row.bound:10} {row.verdict} {row.note}")
