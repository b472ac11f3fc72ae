"""ESP-IDF's key-value store in its own page format, as nvs_flash of ESP-IDF 5 reads and writes it.

A page is a sector: a header, two bits of state for each of 126 entries, the entries of 32 bytes. An item is an entry,
and for the data of a blob the entries behind it. An entry is written before its state says so, and a new value before
the old one is erased; what a power cut leaves in between is mended at the next start. One page is always free, to
move the items of another to when the rest is full.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .flash import SECTOR, Flash

U8, I32, BLOB_DATA, BLOB_INDEX = 0x01, 0x14, 0x42, 0x48  # types of an item
EMPTY, WRITTEN, ERASED = 3, 2, 0  # states of an entry
ACTIVE, FULL, FREEING, CORRUPT = 0xFFFFFFFE, 0xFFFFFFFC, 0xFFFFFFF8, 0xFFFFFFF0  # states of a page, its first word
ENTRIES = 126
ENTRY = 32
MAX_KEY = 15
CHUNK_MAX = (ENTRIES - 1) * ENTRY

_STATES = 32  # offset of the states in a page
_FIRST = 64  # offset of the first entry
_VERSION = 0xFE  # of the format: the second, counted downwards
_NO_CHUNK = 0xFF  # chunk number of all but BLOB_DATA
_OTHER_VERSION = 0x80  # chunk numbers of every other value of a blob start here
_CHUNK_WORTH = CHUNK_MAX // 10  # a page with less room is closed rather than given a first chunk
_ITEM = struct.Struct("<BBBBI16s8s")  # namespace, type, span, chunk, CRC-32, key, value
_CRC_START = 0xFFFFFFFF


class NvsError(Exception):
    """What ESP-IDF answers: its number and name."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(number, name)


def not_found() -> NvsError:
    """The answer to a key that is not there."""
    return NvsError(0x1102, "ESP_ERR_NVS_NOT_FOUND")


def _no_space() -> NvsError:
    return NvsError(0x1105, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")


class Item(NamedTuple):
    """A written item and where it is."""

    page: int
    entry: int
    span: int
    space: int
    kind: int
    chunk: int
    key: bytes
    value: bytes  # 8 bytes: the number, or size and CRC-32 of a chunk, or size, count and first number of the chunks


class Nvs:
    """The store in the partition at `address`."""

    def __init__(self, flash: Flash, address: int, size: int) -> None:
        self._flash = flash
        if not self._load(address, size):
            for page in range(address, address + size, SECTOR):  # what MicroPython does without a free page
                flash.erase(page)
            self._load(address, size)

    # What MicroPython calls.

    def open(self, namespace: str) -> int:
        """The number of a namespace, which is made when it is not there."""
        name = _checked(namespace)
        found = self._find(0, name, U8)
        if found:
            return found.value[0]
        taken = {item.value[0] for item in self._items() if item.space == 0}
        number = min(set(range(1, 255)) - taken, default=0)
        if not number:
            raise _no_space()
        self._put_entry(0, name, U8, bytes([number]).ljust(8, b"\xff"))
        return number

    def get_i32(self, space: int, key: str) -> int:
        """A number."""
        return int(struct.unpack_from("<i", self._need(space, key, I32).value)[0])

    def set_i32(self, space: int, key: str, value: int) -> None:
        """Store a number."""
        name, new = _checked(key), struct.pack("<i", value) + b"\xff" * 4
        old = self._find(space, name)
        if old and old.kind == I32 and old.value == new:
            return
        self._put_entry(space, name, I32, new)
        if old:
            self._erase_older(space, name)

    def get_blob(self, space: int, key: str) -> bytes:
        """A blob."""
        return self._blob(self._need(space, key, BLOB_INDEX))

    def set_blob(self, space: int, key: str, data: bytes) -> None:
        """Store a blob."""
        name = _checked(key)
        old = self._find(space, name)
        version = 0
        if old and old.kind == BLOB_INDEX:
            if self._blob(old) == data:
                return
            version = old.value[5] ^ _OTHER_VERSION
        self._put_blob(space, name, data, version)
        if old:
            self._erase_older(space, name)

    def erase_key(self, space: int, key: str) -> None:
        """Forget a key."""
        if not self._find(space, _name(key)):
            raise not_found()
        self._erase_older(space, _name(key))

    # Items.

    def _items(self, page: int | None = None) -> Iterator[Item]:
        """The written items of a page, or of all pages from the oldest."""
        for at in self._pages if page is None else [page]:
            states = self._states(at)
            index = 0
            while index < ENTRIES:
                span = 1
                if states[index] == WRITTEN:
                    data = self._flash.read(_address(at, index), ENTRY)
                    if _is_whole(data):
                        space, kind, span, chunk, _, key, value = _ITEM.unpack(data)
                        yield Item(at, index, span, space, kind, chunk, key, value)
                index += max(span, 1)

    def _states(self, page: int) -> list[int]:
        bits = int.from_bytes(self._flash.read(page + _STATES, 32), "little")
        return [bits >> 2 * index & 3 for index in range(ENTRIES)]

    def _find(self, space: int, name: bytes, kind: int | None = None, chunk: int = _NO_CHUNK) -> Item | None:
        """The first item of this name, which is the older one when there are two."""
        for item in self._items():
            if (item.space, item.key, item.chunk) == (space, name, chunk) and kind in (None, item.kind):
                return item
        return None

    def _need(self, space: int, key: str, kind: int) -> Item:
        found = self._find(space, _name(key), kind)
        if not found:
            raise not_found()
        return found

    def _blob(self, index: Item) -> bytes:
        _, count, version = struct.unpack_from("<IBB", index.value)
        data = b""
        for chunk in range(version, version + count):
            item = self._find(index.space, index.key, BLOB_DATA, chunk)
            if not item:
                raise not_found()
            size, _, crc = struct.unpack("<HHI", item.value)
            part = self._flash.read(_address(item.page, item.entry + 1), size)
            if binascii.crc32(part, _CRC_START) != crc:
                raise not_found()
            data += part
        return data

    def _mark(self, page: int, start: int, end: int, state: int) -> None:
        """Set the state of entries, a word at a time and the last word first, as ESP-IDF does."""
        bits = int.from_bytes(self._flash.read(page + _STATES, 32), "little")
        for index in range(start, end):
            bits = bits & ~(3 << 2 * index) | state << 2 * index
        for word in range((end - 1) // 16, start // 16 - 1, -1):
            self._flash.program(page + _STATES + 4 * word, (bits >> 32 * word & 0xFFFFFFFF).to_bytes(4, "little"))

    def _erase(self, item: Item) -> None:
        self._mark(item.page, item.entry, item.entry + item.span, ERASED)

    def _erase_older(self, space: int, name: bytes) -> None:
        """Forget the older of two items of this name, or the only one; of a blob first the index, then its chunks."""
        old = self._find(space, name)
        assert old  # noqa: S101 the caller has seen it
        self._erase(old)
        if old.kind == BLOB_INDEX:
            _, count, version = struct.unpack_from("<IBB", old.value)
            self._erase_chunks(space, name, version, count)

    def _erase_chunks(self, space: int, name: bytes, version: int, count: int) -> None:
        for chunk in range(version, version + count):
            item = self._find(space, name, BLOB_DATA, chunk)
            if item:
                self._erase(item)

    # Writing.

    def _free_entry(self) -> int:
        """The first entry of the page in use behind all that was written."""
        if not self._pages:
            self._start_page()
        return self._end(self._pages[-1])

    def _end(self, page: int) -> int:
        """The first entry of a page behind all that have a state."""
        return max((index + 1 for index, state in enumerate(self._states(page)) if state != EMPTY), default=0)

    def _room(self) -> int:
        """Bytes of data that an item on the page in use can have."""
        return max(0, ENTRIES - self._free_entry() - 1) * ENTRY

    def _write(self, space: int, name: bytes, kind: int, chunk: int, value: bytes, data: bytes = b"") -> None:
        """Append an item to the page in use, which has room for it."""
        page, index = self._pages[-1], self._free_entry()
        span = 1 + -(-len(data) // ENTRY)
        item = _ITEM.pack(space, kind, span, chunk, 0, name, value)
        self._flash.program(_address(page, index), item[:4] + _crc(item).to_bytes(4, "little") + item[8:])
        self._mark(page, index, index + 1, WRITTEN)
        whole = len(data) // ENTRY
        if whole:
            self._flash.program(_address(page, index + 1), data[: whole * ENTRY])
            self._mark(page, index + 1, index + 1 + whole, WRITTEN)
        if len(data) % ENTRY:
            self._flash.program(_address(page, index + 1 + whole), data[whole * ENTRY :].ljust(ENTRY, b"\xff"))
            self._mark(page, index + 1 + whole, index + span, WRITTEN)

    def _put_entry(self, space: int, name: bytes, kind: int, value: bytes) -> None:
        if self._free_entry() == ENTRIES:
            self._next_page()
            if self._free_entry() == ENTRIES:
                raise _no_space()
        self._write(space, name, kind, _NO_CHUNK, value)

    def _put_blob(self, space: int, name: bytes, data: bytes, version: int) -> None:
        """Append the chunks of a blob, and then the index that makes them count."""
        if len(data) > (len(self._pages) + len(self._free) - 1) * CHUNK_MAX:
            raise NvsError(0x110E, "ESP_ERR_NVS_VALUE_TOO_LONG")
        done = count = 0
        try:
            while count == 0 or done < len(data):
                room = self._room()
                if room == 0 or (count == 0 and room < min(len(data), _CHUNK_WORTH)):
                    self._next_page()
                    if self._room() <= room:
                        raise _no_space()
                    continue
                part = data[done : done + room]
                value = struct.pack("<HHI", len(part), 0xFFFF, binascii.crc32(part, _CRC_START))
                self._write(space, name, BLOB_DATA, version + count, value, part)
                done += len(part)
                count += 1
            self._put_entry(space, name, BLOB_INDEX, struct.pack("<IBBH", len(data), count, version, 0xFFFF))
        except NvsError:
            self._erase_chunks(space, name, version, count)
            raise

    # Pages.

    def _start_page(self) -> None:
        """Take a free page into use."""
        page = self._free.pop(0)
        if self._flash.read(page, SECTOR) != b"\xff" * SECTOR:
            self._flash.erase(page)
        header = struct.pack("<IB19s", self._sequence, _VERSION, b"\xff" * 19)
        crc = binascii.crc32(header, _CRC_START)
        self._flash.program(page, struct.pack("<I24sI", ACTIVE, header, crc))
        self._pages.append(page)
        self._sequence += 1

    def _next_page(self) -> None:
        """Close the page in use and start another; when only one is free, move the emptiest page there."""
        self._set_state(self._pages[-1], FULL)
        if len(self._free) > 1:
            self._start_page()
            return
        used = {page: sum(item.span for item in self._items(page)) for page in self._pages}
        emptiest = min(self._pages, key=lambda page: used[page])
        if used[emptiest] == ENTRIES:
            raise _no_space()
        self._set_state(emptiest, FREEING)
        self._start_page()
        self._move(emptiest)

    def _move(self, page: int) -> None:
        """Copy the items of a page to the one in use, and free it."""
        for item in self._items(page):
            for index in range(item.entry, item.entry + item.span):
                to = self._free_entry()
                self._flash.program(_address(self._pages[-1], to), self._flash.read(_address(page, index), ENTRY))
                self._mark(self._pages[-1], to, to + 1, WRITTEN)
        # ESP-IDF erases at once. If the power goes half-way through that, the next start finds the page still being
        # freed and copies again, from what is left of it. This one program more makes the copy count from here on;
        # ESP-IDF reads a corrupt page as a free one, too.
        self._set_state(page, CORRUPT)
        self._flash.erase(page)
        self._pages.remove(page)
        self._free.append(page)

    def _set_state(self, page: int, state: int) -> None:
        self._flash.program(page, state.to_bytes(4, "little"))

    # Start-up.

    def _load(self, address: int, size: int) -> bool:
        """Find the pages and mend them; false when none is free."""
        used = []
        self._free: list[int] = []
        for page in range(address, address + size, SECTOR):
            header = self._flash.read(page, 32)
            state, sequence = struct.unpack_from("<II", header)
            if state in (ACTIVE, FULL, FREEING) and header[28:] == binascii.crc32(header[4:28], _CRC_START).to_bytes(
                4, "little"
            ):
                used.append((sequence, page, state))
            else:
                self._free.append(page)
        used.sort()
        self._pages = [page for _, page, _ in used]
        self._sequence = used[-1][0] + 1 if used else 0
        for _, page, state in used:
            if state == ACTIVE:
                self._mend(page)
        for _, page, state in used:
            if state == FREEING:
                self._finish_move(page, used[-1][1] if used[-1][2] == ACTIVE else None)
                break
        self._drop_older()
        self._drop_orphans()
        return bool(self._free)

    def _mend(self, page: int) -> None:
        """Give up entries that were programmed and have no state yet: they cannot be programmed again."""
        end = self._end(page)
        data = self._flash.read(_address(page, end), (ENTRIES - end) * ENTRY).rstrip(b"\xff")
        if data:
            self._mark(page, end, end - (-len(data) // ENTRY), ERASED)

    def _finish_move(self, page: int, target: int | None) -> None:
        """The power went while `page` was moved to `target`: what is there may not be all, so move it again."""
        if target is not None:
            self._flash.erase(target)
            self._pages.remove(target)
            self._free.append(target)
        self._start_page()
        self._move(page)

    def _drop_older(self) -> None:
        """The power went between writing a value and erasing the one before: only the last item can be such."""
        newest = list(self._items(self._pages[-1])) if self._pages else []
        if newest and newest[-1].chunk == _NO_CHUNK:
            while self._find(newest[-1].space, newest[-1].key) != newest[-1]:
                self._erase_older(newest[-1].space, newest[-1].key)

    def _drop_orphans(self) -> None:
        """Chunks without an index that names them, and an index without all of its chunks."""
        chunks: dict[tuple[int, bytes, int], Item] = {}
        indexes = []
        for item in self._items():
            if item.kind == BLOB_DATA:
                chunks[item.space, item.key, item.chunk] = item
            elif item.kind == BLOB_INDEX:
                indexes.append(item)
        for index in indexes:
            size, count, version = struct.unpack_from("<IBB", index.value)
            names = [(index.space, index.key, chunk) for chunk in range(version, version + count)]
            if sum(struct.unpack_from("<H", chunks[name].value)[0] for name in names if name in chunks) == size:
                for name in names:
                    chunks.pop(name, None)
            else:
                self._erase(index)
        for orphan in chunks.values():
            self._erase(orphan)


def _address(page: int, index: int) -> int:
    return page + _FIRST + index * ENTRY


def _crc(item: bytes) -> int:
    return binascii.crc32(item[8:ENTRY], binascii.crc32(item[:4], _CRC_START))


def _is_whole(item: bytes) -> bool:
    return _crc(item) == int.from_bytes(item[4:8], "little")


def _name(key: str) -> bytes:
    return key.encode().ljust(MAX_KEY + 1, b"\0")


def _checked(key: str) -> bytes:
    if len(key.encode()) > MAX_KEY:
        raise NvsError(0x1109, "ESP_ERR_NVS_KEY_TOO_LONG")
    return _name(key)
