"""What an NVS partition holds, read from its bytes alone."""

from __future__ import annotations

import struct
import zlib

from ..errors import GatehouseError

Value = int | str | bytes

KEY_SIZE = 64  # bytes: AES-256 key and tweak key

_PAGE = 4096
_HEAD, _ENTRY = 64, 32
_ENTRIES = 126
_IN_USE = {0xFFFFFFFE: "active", 0xFFFFFFFC: "full", 0xFFFFFFF8: "freeing"}
_NUMBERS = {
    0x01: "<B", 0x11: "<b", 0x02: "<H", 0x12: "<h", 0x04: "<I", 0x14: "<i", 0x08: "<Q", 0x18: "<q",
}  # fmt: skip
_STRING, _OLD_BLOB, _BLOB_DATA, _BLOB_INDEX = 0x21, 0x41, 0x42, 0x48


def key_partition(key: bytes, size: int) -> bytes:
    """A partition of type nvs_keys: the key, its CRC-32, erased flash."""
    return (key + struct.pack("<I", zlib.crc32(key, 0xFFFFFFFF))).ljust(size, b"\xff")


def decrypt(data: bytes, keys: bytes) -> bytes:
    """An encrypted NVS partition in the clear, with the partition that has its key.

    GatehouseError("digest") when that one is damaged. Each entry is a sector of AES-256-XTS, whose number is its place
    in the partition; headers are never encrypted, and what was never written stays erased.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = keys[:KEY_SIZE]
    if keys[KEY_SIZE : KEY_SIZE + 4] != struct.pack("<I", zlib.crc32(key, 0xFFFFFFFF)):
        raise GatehouseError("the partition with the NVS keys is damaged: its CRC does not match", "digest")
    clear = bytearray(data)
    for at in range(0, len(data), _ENTRY):
        entry = data[at : at + _ENTRY]
        if at % _PAGE >= _HEAD and entry.strip(b"\xff"):
            context = Cipher(algorithms.AES(key), modes.XTS(at.to_bytes(16, "little"))).decryptor()
            clear[at : at + _ENTRY] = context.update(entry)
    return bytes(clear)


def read_nvs(data: bytes) -> dict[str, dict[str, Value]]:
    """{namespace: {key: value}} of an NVS partition: numbers as int, strings as str, blobs as bytes.

    Reads what ESP-IDF's generator and devices write (format 1 and 2, not encrypted). Entries without a right checksum
    count as not there, as for the device. GatehouseError("format") when no page is one of NVS.
    """
    if len(data) % _PAGE or not data:
        raise GatehouseError(f"an NVS partition has whole pages of {_PAGE} bytes, not {len(data)} bytes", "format")
    pages = []
    for at in range(0, len(data), _PAGE):
        page = data[at : at + _PAGE]
        state, sequence = struct.unpack_from("<II", page)
        if state in _IN_USE and struct.unpack_from("<I", page, 28)[0] == zlib.crc32(page[4:28], 0xFFFFFFFF):
            pages.append((sequence, page))
    if not pages and data.strip(b"\xff"):
        raise GatehouseError("no page of it is one of NVS", "format")
    names: dict[int, str] = {}
    values: dict[tuple[int, str], Value] = {}
    chunks: dict[tuple[int, str, int], bytes] = {}
    indexes: dict[tuple[int, str], bytes] = {}
    for _, page in sorted(pages):
        for space, kind, chunk, key, value, body in _items(page):
            if space == 0:
                names[value[0]] = key
            elif kind == _BLOB_DATA:
                chunks[space, key, chunk] = body
            elif kind == _BLOB_INDEX:
                indexes[space, key] = value
                values.pop((space, key), None)
            elif kind == _STRING:
                values[space, key] = body.rstrip(b"\0").decode("utf-8", "replace")
            elif kind == _OLD_BLOB:
                values[space, key] = body
            elif kind in _NUMBERS:
                values[space, key] = struct.unpack_from(_NUMBERS[kind], value)[0]
    for (space, key), value in indexes.items():
        size, count, first = struct.unpack_from("<IBB", value)
        body = b"".join(chunks.get((space, key, first + n), b"") for n in range(count))
        if len(body) == size:
            values[space, key] = body
    found: dict[str, dict[str, Value]] = {name: {} for name in names.values()}
    for (space, key), one in values.items():
        if space in names:
            found[names[space]][key] = one
    return found


def _items(page: bytes) -> list[tuple[int, int, int, str, bytes, bytes]]:
    """(namespace, type, chunk, key, value, bytes behind it) of each item that is written and whole."""
    found = []
    states = int.from_bytes(page[32:64], "little")
    index = 0
    while index < _ENTRIES:
        entry = page[64 + 32 * index : 96 + 32 * index]
        space, kind, span, chunk, crc = struct.unpack_from("<BBBBI", entry)
        written = states >> 2 * index & 3 == 2
        if not written or crc != zlib.crc32(entry[8:], zlib.crc32(entry[:4], 0xFFFFFFFF)) or span == 0:
            index += 1
            continue
        body = b""
        whole = all(states >> 2 * (index + n) & 3 == 2 for n in range(span))
        if kind in (_STRING, _OLD_BLOB, _BLOB_DATA):
            size, _, body_crc = struct.unpack_from("<HHI", entry, 24)
            body = page[96 + 32 * index : 96 + 32 * index + size]
            whole = whole and len(body) == size and zlib.crc32(body, 0xFFFFFFFF) == body_crc
        if whole:
            key = entry[8:24].split(b"\0")[0].decode("ascii", "replace")
            found.append((space, kind, chunk, key, entry[24:], body))
        index += span
    return found
