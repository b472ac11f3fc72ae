"""The partition table of ESP-IDF: from CSV to the binary form in flash at 0x8000 and back, with its rules checked.

The rules are those of ESP-IDF v5.5.1, components/partition_table/gen_esp32part.py.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import struct
from dataclasses import dataclass
from pathlib import Path

from ..errors import GatehouseError

TABLE_OFFSET = 0x8000
TABLE_SIZE = 0x1000  # one flash sector
_MAX_LENGTH = 0xC00  # bytes of the table itself, its MD5 included
_SECTOR = 0x1000
_APP_ALIGN = 0x10000  # the chip maps code in pages of 64 KiB
_OTADATA_SIZE = 0x2000  # two sectors, one for each of its entries
_LEAST_NVS = 0x3000  # what NVS needs to be written: two pages of values, one to move them to
_ENTRY = struct.Struct("<2sBBII16sI")
_MAGIC = b"\xaa\x50"
_MD5 = b"\xeb\xeb" + b"\xff" * 14

APP, DATA = 0, 1
TYPES = {"app": APP, "data": DATA}
_APP_SUBTYPES = {"factory": 0x00, "test": 0x20} | {f"ota_{n}": 0x10 + n for n in range(16)}
_DATA_SUBTYPES = {
    "ota": 0x00, "phy": 0x01, "nvs": 0x02, "coredump": 0x03, "nvs_keys": 0x04, "efuse": 0x05, "undefined": 0x06,
    "fat": 0x81, "spiffs": 0x82, "littlefs": 0x83,
}  # fmt: skip
SUBTYPES = {APP: _APP_SUBTYPES, DATA: _DATA_SUBTYPES}
_FLAGS = {"encrypted": 1, "readonly": 2}


@dataclass(frozen=True)
class Partition:
    """One partition. Offset and size are bytes of flash; type and subtype are ESP-IDF's numbers."""

    name: str
    type: int
    subtype: int
    offset: int
    size: int
    flags: int = 0

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.size

    def kind(self) -> str:
        """Type and subtype in ESP-IDF's words, e.g. "app, ota_0"."""
        kind = next((name for name, number in TYPES.items() if number == self.type), f"0x{self.type:02x}")
        names = {number: name for name, number in SUBTYPES.get(self.type, {}).items()}
        return f"{kind}, {names.get(self.subtype, f'0x{self.subtype:02x}')}"


def load(path: Path, flash_size: int, table_offset: int = TABLE_OFFSET) -> list[Partition]:
    """The partitions of a CSV file, checked. GatehouseError names file and line. `table_offset`: the table's own."""
    try:
        text = path.read_text()
    except OSError as error:
        raise GatehouseError(f"{path}: {error.strerror}; a board needs its partition table") from None
    return parse_csv(text, flash_size, str(path), table_offset)


def parse_csv(
    text: str, flash_size: int, what: str = "partition table", table_offset: int = TABLE_OFFSET
) -> list[Partition]:
    """The partitions of ESP-IDF's CSV (Name, Type, SubType, Offset, Size, Flags), checked against `flash_size` bytes.

    An empty offset means: after the one before, aligned.
    """
    found: list[Partition] = []
    end = table_offset + TABLE_SIZE
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in row]
        if not cells or not cells[0] or cells[0].startswith("#"):
            continue
        where = f"{what}, line {number}"
        if len(cells) < 5:
            raise GatehouseError(f"{where}: name, type, subtype, offset and size are needed", "format")
        kind = _number(cells[1], TYPES, f"{where}: type")
        subtype = _number(cells[2], SUBTYPES.get(kind, {}), f"{where}: subtype")
        align = _APP_ALIGN if kind == APP else _SECTOR
        offset = _size(cells[3], f"{where}: offset") if cells[3] else -(-end // align) * align
        flags = 0
        for word in cells[5].split(":") if len(cells) > 5 and cells[5] else ():
            flags |= _number(word.strip(), _FLAGS, f"{where}: flag")
        found.append(Partition(cells[0], kind, subtype, offset, _size(cells[4], f"{where}: size"), flags))
        end = found[-1].end
    check(found, flash_size, what, table_offset)
    for one, following in itertools.pairwise(found):
        if following.offset < one.offset:
            told = f"{what}: partition {following.name!r} lies before {one.name!r}: rows go by their offset"
            raise GatehouseError(told, "format")
    return found


def check(
    partitions: list[Partition], flash_size: int, what: str = "partition table", table_offset: int = TABLE_OFFSET
) -> None:
    """GatehouseError("format") unless ESP-IDF's rules hold: alignment, no overlap, names, and all within the flash."""
    if not partitions:
        raise GatehouseError(f"{what} has no partition", "format")
    if len(partitions) * _ENTRY.size + 32 >= _MAX_LENGTH:
        raise GatehouseError(f"{what} has more partitions than the table can hold", "format")
    names: set[str] = set()
    kinds: set[tuple[int, int]] = set()
    last_name, last_end = "the partition table", table_offset + TABLE_SIZE
    for item in sorted(partitions, key=lambda one: one.offset):
        align = _APP_ALIGN if item.type == APP else _SECTOR
        problem = ""
        if not 0 < len(item.name) <= 15 or not item.name.isascii() or not item.name.isprintable():
            problem = "a name is 1 to 15 printable ASCII characters"
        elif item.name in names:
            problem = "the name is there twice"
        elif item.offset % align:
            problem = f"offset 0x{item.offset:x} is not a multiple of 0x{align:x}"
        elif item.size <= 0 or item.size % _SECTOR:
            problem = f"size 0x{item.size:x} is not a positive multiple of 0x{_SECTOR:x}"
        elif item.offset < last_end:
            problem = f"starts at 0x{item.offset:x}, inside {last_name}, which ends at 0x{last_end:x}"
        elif item.end > flash_size:
            problem = f"ends at 0x{item.end:x}, beyond the flash of 0x{flash_size:x} bytes"
        elif item.type == DATA:
            problem = _check_data(item, kinds)
        if problem:
            raise GatehouseError(f"{what}: partition {item.name!r}: {problem}", "format")
        names.add(item.name)
        kinds.add((item.type, item.subtype))
        last_name, last_end = item.name, item.end


def _check_data(item: Partition, before: set[tuple[int, int]]) -> str:
    """What is wrong with a data partition; "" for nothing. `before`: types and subtypes of those before it."""
    readonly = item.flags & _FLAGS["readonly"]
    if item.subtype == _DATA_SUBTYPES["nvs"] and item.size < _LEAST_NVS and not readonly:
        return f"size 0x{item.size:x} is under 0x{_LEAST_NVS:x}, the least that NVS can be written in"
    if item.subtype == _DATA_SUBTYPES["ota"]:
        if (item.type, item.subtype) in before:
            return "there is another of type data, ota: one is the choice of all OTA partitions"
        if item.size != _OTADATA_SIZE:
            return f"size 0x{item.size:x} is not 0x{_OTADATA_SIZE:x}, as ESP-IDF has it"
    if item.subtype in (_DATA_SUBTYPES["ota"], _DATA_SUBTYPES["coredump"]) and readonly:
        return "is always written to, and cannot be read-only"
    return ""


def to_binary(partitions: list[Partition]) -> bytes:
    """The table as it stands in flash: entries, their MD5, then 0xFF to the end of the sector."""
    entries = b"".join(
        _ENTRY.pack(_MAGIC, item.type, item.subtype, item.offset, item.size, item.name.encode(), item.flags)
        for item in partitions
    )
    table = entries + _MD5 + hashlib.md5(entries, usedforsecurity=False).digest()  # what ESP-IDF's bootloader checks
    return table.ljust(TABLE_SIZE, b"\xff")


def from_binary(data: bytes, flash_size: int | None = None, what: str = "partition table") -> list[Partition]:
    """The partitions of a binary table, its MD5 and its rules checked; `flash_size` None takes any size."""
    found: list[Partition] = []
    for at in range(0, min(len(data), _MAX_LENGTH), _ENTRY.size):
        row = data[at : at + _ENTRY.size]
        if row.startswith(_MD5):
            if row[16:] != hashlib.md5(data[:at], usedforsecurity=False).digest():
                raise GatehouseError(f"{what}: its MD5 does not match its entries", "digest")
            check(found, flash_size or 1 << 32, what)
            return found
        if len(row) < _ENTRY.size or not row.startswith(_MAGIC):
            break
        _, kind, subtype, offset, size, name, flags = _ENTRY.unpack(row)
        found.append(Partition(name.rstrip(b"\0").decode("ascii", "replace"), kind, subtype, offset, size, flags))
    raise GatehouseError(f"{what}: no MD5 entry after {len(found)} partitions: not a table, or damaged", "format")


def find(partitions: list[Partition], name: str) -> Partition:
    """The partition of that name. GatehouseError when there is none."""
    for item in partitions:
        if item.name == name:
            return item
    raise GatehouseError(f"the partition table has no partition {name!r}", "format")


def _number(text: str, names: dict[str, int], what: str) -> int:
    if text in names:
        return names[text]
    try:
        return int(text, 0)
    except ValueError:
        raise GatehouseError(f"{what} {text!r} is none of {', '.join(names)}, nor a number", "format") from None


def _size(text: str, what: str) -> int:
    factor = {"K": 1024, "M": 1048576}.get(text[-1:].upper(), 1)
    try:
        return int(text[:-1] if factor > 1 else text, 0) * factor
    except ValueError:
        raise GatehouseError(f"{what} {text!r} is not a number such as 0x4000, 16K or 1M", "format") from None
