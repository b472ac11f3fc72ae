"""Runs a script of bench/device as a chip: its flash image, its pack server, its process."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpremote.romfs import VfsRomWriter

from cases import device
from gatehouse_tools import build, core, pack, suit
from gatehouse_tools.image import littlefs
from gatehouse_tools.serve import StaticServer
from gatehouse_tools.sim import runtime

ROOT = Path(__file__).resolve().parents[1]
SIZE = 0xF0000  # of the file system, as in boards/unix/partitions.csv
SCRIPTS = ROOT / "bench" / "device"
HEAP = "80wK"  # the board's
_LIMIT_S = 120
_STOP = "MemoryError"  # what a script ends with that has found no memory


class BenchError(Exception):
    """A measurement that could not be made."""


@dataclass
class Release:
    """A signed release: its tree, index, pack and envelope."""

    files: dict[str, bytes]
    index: pack.Index
    pack: bytes
    envelope: bytes
    sequence: int


@dataclass
class Chip:
    """A folder with what a chip has, and a server of packs beside it. Each run() begins with a fresh image."""

    folder: Path
    server: StaticServer
    product: device.Product = field(default_factory=device.Product)
    size: int = SIZE

    def release(self, files: dict[str, bytes], number: int, squeeze: bool) -> Release:
        """A release of `files`; its pack is on the server."""
        index, data = pack.build(files, "bench", f"{number}.0.0", squeeze=squeeze)
        (self.folder / "www" / f"{number}.pack").write_bytes(data)
        component = suit.Component("app", index.digest, len(index.data), f"{self.server.url}{number}.pack")
        sequence = device.SEQUENCE + number
        return Release(files, index, data, self.product.sign(sequence, component, self.product.release), sequence)

    def image(self, active: Release, more: dict[str, bytes] | None = None) -> tuple[bytes, dict[str, bytes]]:
        """(the file system of a device that leaves the factory with `active` in slot a, its NVS)."""
        made = device.release(active.envelope, {"pack": active.pack, "digest": b"", "size": 0}, active.sequence)
        files = build.core_files() | {
            "/state/trust.suit": self.product.trust(),
            "/state/config-1.suit": self.product.config({}),
            "/state/boot.cbor": made["record"],
            "/slots/a/manifest.suit": active.envelope,
            "/slots/a/index.cbor": active.index.data,
            **{f"/slots/a/{path}": data for path, data in active.files.items()},
            **(more or {}),
        }
        nvs = device.nvs(self.product) | {"floors": made["floors"]}
        return littlefs.build(files, ["/slots/a", "/slots/b"], self.size), nvs

    def run(
        self, script: str, image: bytes, heap: str = HEAP, cut: int = 0, keep: Path | None = None, **options: Any
    ) -> dict[str, Any]:
        """What a script found out on a fresh copy of `image`; {"end": ...} when it had no memory or was cut.

        cut: the flash operation at which the power goes; keep: a file for the image as it is afterwards.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            target = keep or Path(name) / "flash"
            with target.open("wb") as file:  # by sectors: large pages are slower to write later
                for at in range(0, len(image), 4096):
                    file.write(image[at : at + 4096])
                    file.flush()
            numbers = Path(name) / "numbers"
            numbers.write_bytes(cut.to_bytes(8, "little") + bytes(64))
            line, environment = runtime.command(heap, self.firmware, ())
            result = numbers.with_suffix(".json")
            told = json.dumps({"size": self.size, "now": device.NOW, "threshold": threshold(), **options})
            result.write_text(told)
            done = subprocess.run(
                [*line, script, str(target), str(numbers)],
                env=environment,
                capture_output=True,
                text=True,
                timeout=_LIMIT_S,
                check=False,
            )
            found = result.read_text()
        if found and found != told:
            return dict(json.loads(found))
        if _STOP in done.stdout + done.stderr:
            return {"end": _STOP}
        raise BenchError(f"{script}: {(done.stdout + done.stderr)[-1500:]}")

    @property
    def firmware(self) -> Path:
        """The folder whose `rom` has the scripts, the flash model, and the core for runs with `rom`."""
        target = self.folder / "firmware"
        if not (target / "rom").exists():
            sources = {path.name: path for path in SCRIPTS.glob("*.py")}
            sources |= {f"shims/{name}.py": runtime.SOURCES / "shims" / f"{name}.py" for name in ("flash", "host")}
            sources |= {f"gatehouse/{path.name}": path for path in core.source("lib", "gatehouse").glob("*.py")}
            rom = VfsRomWriter()
            made = target / "mpy"
            for name, path in sources.items():
                out = (made / name).with_suffix(".mpy")
                out.parent.mkdir(parents=True, exist_ok=True)
                runtime.compile_file(path, out, name)
            runtime._add(rom, made)
            (target / "rom").write_bytes(rom.finalise())
        return target


@contextmanager
def chip() -> Iterator[Chip]:
    """A chip in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="gatehouse-bench-"))
    try:
        (folder / "www").mkdir()
        with StaticServer(folder / "www") as server:
            yield Chip(folder, server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tree(number: int, count: int = 40, size: int = 200 * 1024) -> dict[str, bytes]:
    """`count` files of `size` bytes in all, in four folders: no two alike, and about as compressible as bytecode."""
    rng = random.Random(number)  # noqa: S311 the same at every run
    words = [rng.randbytes(rng.randrange(2, 9)) for _ in range(300)]
    sizes = [rng.randrange(5, 15) for _ in range(count)]
    files = {}
    for at, share in enumerate(sizes):
        wanted = size * share // sum(sizes)
        data = b"".join(rng.choice(words) if rng.random() < 0.8 else rng.randbytes(4) for _ in range(wanted // 3))
        files[f"pkg{at * 4 // count}/file{at:03}.bin"] = data[:wanted]
    return files


def threshold() -> int:
    """Bytes between two collections of garbage, as the core sets it (memory.settle())."""
    text = core.source("lib", "gatehouse", "memory.py").read_text()
    found = re.search(r"^_THRESHOLD = const\((\d+)\)", text, re.MULTILINE)
    if not found:
        raise BenchError("lib/gatehouse/memory.py has no _THRESHOLD any more")
    return int(found[1])


def nvs_hex(values: dict[str, bytes]) -> dict[str, str]:
    """NVS values for run()."""
    return {key: value.hex() for key, value in values.items()}


def median(values: Sequence[float]) -> float:
    """The middle one."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def digest(data: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()
