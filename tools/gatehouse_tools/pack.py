"""An application tree as it travels: the index that is signed, and the pack that any static HTTP server can hold.

Index, deterministic CBOR: {1: format 1, 2: name, 3: version, 4: core version needed, 5: .mpy version, 6: [entry...]};
entry = [path, size, SHA-256, stored size, encoding] and, for a file over 64 KiB, the SHA-256 of each 64 KiB block.
Pack: 4-byte big-endian length of the index, the index, the stored bodies in index order.

An ESP32 application image travels the same way, as the only entry "firmware.bin", raw; fields 4 and 5 of its index are
the core version inside it and the .mpy version that it runs.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import cbor, core
from .errors import GatehouseError

RAW, DEFLATE = 0, 1
ENCODINGS = {RAW: "raw", DEFLATE: "deflate"}
BLOCK = core.limit("BLOCK")  # bytes of a file that get a digest of their own
MPY_VERSION = 6
FIRMWARE = "firmware.bin"  # the one entry of a firmware's index
_WINDOW_BITS = 10  # what a device has memory for: 1 KiB
_MAX_TEXT = 32  # characters of name and version, as the device's index reader takes them


@dataclass(frozen=True)
class Entry:
    """One file of an index. `offset` is where its stored body starts, counted from the end of the index."""

    path: str
    size: int
    digest: bytes
    stored: int
    encoding: int
    blocks: tuple[bytes, ...]
    offset: int

    def fields(self) -> list[Any]:
        """The entry as it stands in the index."""
        fields = [self.path, self.size, self.digest, self.stored, self.encoding]
        return [*fields, list(self.blocks)] if self.blocks else fields


@dataclass(frozen=True)
class Index:
    """A parsed index. `data` is its bytes; their SHA-256 is what a manifest signs for its component.

    core, mpy: what an application needs, or what a firmware provides.
    """

    data: bytes
    name: str
    version: str
    core: str
    mpy: int
    entries: tuple[Entry, ...]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the index, 32 bytes."""
        return hashlib.sha256(self.data).digest()

    @property
    def component(self) -> str:
        """The component that it is for: "app" or "firmware"."""
        return "firmware" if [entry.path for entry in self.entries] == [FIRMWARE] else "app"


def build(
    files: Mapping[str, bytes], name: str, version: str, needs_core: str | None = None, squeeze: bool = True
) -> tuple[Index, bytes]:
    """The index and the pack of `files` (path -> plain bytes). The same input gives the same bytes.

    Each body is raw deflate with a 1 KiB window where that makes it smaller, else raw; `squeeze=False` keeps all raw.
    A file over 64 KiB is always raw: only so can a device verify, keep and share it block by block.
    GatehouseError("path" | "module" | "size" | "format" | "mpy") where a device would refuse the tree.
    """
    entries, bodies = [], []
    for path in sorted(files, key=str.encode):
        core.check_path(path)
        data = files[path]
        if path.endswith(".mpy"):
            check_mpy(path, data)
        body = _deflate(data) if squeeze and len(data) <= BLOCK else data
        encoding = DEFLATE if len(body) < len(data) else RAW
        bodies.append(body if encoding == DEFLATE else data)
        entries.append(_entry(path, data, len(bodies[-1]), encoding))
    needs = core.version() if needs_core is None else needs_core
    index = parse_index(cbor.dumps({1: 1, 2: name, 3: version, 4: needs, 5: MPY_VERSION, 6: entries}))
    return index, len(index.data).to_bytes(4, "big") + index.data + b"".join(bodies)


def build_firmware(image: bytes, name: str, version: str, has_core: str, mpy: int = MPY_VERSION) -> tuple[Index, bytes]:
    """The index and the pack of an ESP32 application image, which has the core `has_core` frozen inside."""
    entries = [_entry(FIRMWARE, image, len(image), RAW)]
    index = parse_index(cbor.dumps({1: 1, 2: name, 3: version, 4: has_core, 5: mpy, 6: entries}))
    return index, len(index.data).to_bytes(4, "big") + index.data + image


def check_fit(app: Index, firmware: Index) -> None:
    """GatehouseError("core" | "mpy") unless an application can run on the firmware that comes with it."""
    needs, has = _numbers(app.core), _numbers(firmware.core)
    if needs > has or needs[0] != has[0]:
        raise GatehouseError(f"the application needs core {app.core}; the firmware has {firmware.core}", "core")
    if app.mpy != firmware.mpy:
        told = f"the application is compiled for .mpy version {app.mpy}; the firmware runs {firmware.mpy}"
        raise GatehouseError(told, "mpy")


def check_mpy(path: str, data: bytes) -> None:
    """GatehouseError("mpy") unless `data` is portable bytecode of the version that devices run."""
    if len(data) < 4 or data[:1] != b"M" or data[1] != MPY_VERSION:
        raise GatehouseError(f"{path} is not .mpy version {MPY_VERSION}: compile it with this mpy-cross", "mpy")
    if data[2] >> 2:
        raise GatehouseError(f"{path} holds native code for one processor; a release must run on every board", "mpy")


def parse_index(data: bytes, what: str = "the index") -> Index:
    """Read an index by the device's rules. GatehouseError names `what` and carries the device's reason code."""
    if len(data) > core.limit("MAX_INDEX"):
        raise GatehouseError(f"{what} is over {core.limit('MAX_INDEX')} bytes", "size")
    fields = cbor.loads(data, what)
    if not isinstance(fields, dict) or list(fields) != [1, 2, 3, 4, 5, 6] or fields[1] != 1:
        raise GatehouseError(f"{what} is not one of format 1", "format")
    name, version, needs, mpy, items = (fields[key] for key in range(2, 7))
    if not all(isinstance(text, str) and len(text) <= _MAX_TEXT for text in (name, version, needs)):
        raise GatehouseError(f"{what}: name and versions are texts of at most {_MAX_TEXT} characters", "format")
    if type(mpy) is not int or not isinstance(items, list):
        raise GatehouseError(f"{what} lacks its .mpy version or its entries", "format")
    if not 0 < len(items) <= core.limit("MAX_FILES"):
        raise GatehouseError(f"{what} lists {len(items)} files; a device takes 1 to {core.limit('MAX_FILES')}", "size")
    entries: list[Entry] = []
    offset = 0
    firmware = len(items) == 1 and isinstance(items[0], list) and items[0][:1] == [FIRMWARE]
    if firmware:
        core.check_firmware_index(data)
    for item in items:
        if not firmware:
            core.check_entry(item)
        if entries and item[0].encode() <= entries[-1].path.encode():
            raise GatehouseError(f"{what} is not sorted at {item[0]}", "format")
        blocks = tuple(item[5]) if len(item) == 6 else ()
        entries.append(Entry(item[0], item[1], item[2], item[3], item[4], blocks, offset))
        offset += item[3]
    return Index(data, name, version, needs, mpy, tuple(entries))


def split(data: bytes, what: str = "the pack") -> Index:
    """The index of a pack, whose length must be just that of its bodies; the bodies are not looked at."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 or size > len(data) - 4:
        raise GatehouseError(f"{what} ends inside its index: {len(data)} bytes are here", "size")
    index = parse_index(data[4 : 4 + size], f"{what}'s index")
    wanted = 4 + size + sum(entry.stored for entry in index.entries)
    if wanted != len(data):
        raise GatehouseError(f"{what} has {len(data)} bytes; its index says {wanted}", "size")
    return index


def body(data: bytes, entry: Entry, index: Index) -> bytes:
    """The plain bytes of one file in a pack, verified. GatehouseError("digest" | "size") that names the file."""
    start = 4 + len(index.data) + entry.offset
    stored = data[start : start + entry.stored]
    if len(stored) != entry.stored:
        raise GatehouseError(f"{entry.path}: the pack ends inside it", "size")
    plain = stored if entry.encoding == RAW else _inflate(stored, entry)
    if len(plain) != entry.size or hashlib.sha256(plain).digest() != entry.digest:
        raise GatehouseError(f"{entry.path}: its bytes are not those of the index", "digest")
    for number, digest in enumerate(entry.blocks):
        if hashlib.sha256(plain[number * BLOCK : (number + 1) * BLOCK]).digest() != digest:
            raise GatehouseError(f"{entry.path}: block {number} is not that of the index", "digest")
    return plain


def unpack(data: bytes, what: str = "the pack") -> tuple[Index, dict[str, bytes]]:
    """Index and plain files of a pack, every byte verified. GatehouseError at the first that is wrong."""
    index = split(data, what)
    return index, {entry.path: body(data, entry, index) for entry in index.entries}


def _numbers(version: str) -> tuple[int, ...]:
    """A core version as numbers. GatehouseError("format") for one that is none."""
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError:
        raise GatehouseError(f"core version {version!r} is not three numbers", "format") from None


def _entry(path: str, data: bytes, stored: int, encoding: int) -> list[Any]:
    """The entry of a file with these plain bytes."""
    entry = [path, len(data), hashlib.sha256(data).digest(), stored, encoding]
    blocks = [hashlib.sha256(data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK)]
    return [*entry, blocks] if len(blocks) > 1 else entry


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -_WINDOW_BITS)
    return packer.compress(data) + packer.flush()


def _inflate(stored: bytes, entry: Entry) -> bytes:
    inflater = zlib.decompressobj(-_WINDOW_BITS)
    try:
        plain = inflater.decompress(stored, entry.size + 1)  # never more than was signed, and one byte to notice it
    except zlib.error as error:
        raise GatehouseError(f"{entry.path} does not inflate: {error}", "digest") from None
    if not inflater.eof or inflater.unused_data:
        raise GatehouseError(f"{entry.path} inflates to another length than its {entry.size} bytes", "digest")
    return plain
