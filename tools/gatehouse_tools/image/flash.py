"""A whole flash image: composed from its parts, and taken apart again."""

from __future__ import annotations

import binascii
import functools
import hashlib
import io
import operator
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import GatehouseError
from . import partitions as tables
from .partitions import Partition

NAMESPACE = "gatehouse"  # of NVS
_NVS_SPARE = 4096  # ESP-IDF keeps one page free to move entries to
_ERASED = b"\xff"
_OTA_ENTRY = struct.Struct("<I20sII")  # sequence, label, state, CRC-32 of the sequence
_OTA_STATES = {0: "new", 1: "pending verify", 2: "valid", 3: "invalid", 4: "aborted", 0xFFFFFFFF: "undefined"}
_SECTOR = 4096

# ESP-IDF's application image: header, segments, checksum (the last byte of a block of 16), SHA-256.
_APP_HEADER = struct.Struct("<BBBBIB3xHBHH4xB")
_SEGMENT = struct.Struct("<II")  # where it is loaded, bytes
_APP_MAGIC = 0xE9
_APP_ALIGN = 16
_CHECKSUM = 0xEF  # what the XOR of all data begins with
_HASH_APPENDED = 23  # place of the flag in the header
_SHA256 = 32


def compose(partitions: list[Partition], contents: Mapping[str, bytes], flash_size: int) -> bytes:
    """A flash image of `flash_size` bytes: the table, then `contents` by partition name; all else erased (0xFF)."""
    tables.check(partitions, flash_size)
    image = bytearray(_ERASED * flash_size)
    table = tables.to_binary(partitions)
    image[tables.TABLE_OFFSET : tables.TABLE_OFFSET + len(table)] = table
    for name, data in contents.items():
        part = tables.find(partitions, name)
        if len(data) > part.size:
            raise GatehouseError(f"{len(data)} bytes do not fit partition {name} of {part.size} bytes", "full")
        image[part.offset : part.offset + len(data)] = data
    return bytes(image)


def looks_like(data: bytes) -> bool:
    """True for bytes that have a partition table where a flash image has it."""
    return data[tables.TABLE_OFFSET : tables.TABLE_OFFSET + 2] == b"\xaa\x50"


def take_apart(data: bytes) -> dict[str, tuple[Partition, bytes]]:
    """Each partition of a flash image with its bytes. GatehouseError("format" | "size" | "digest") if damaged."""
    table = data[tables.TABLE_OFFSET : tables.TABLE_OFFSET + tables.TABLE_SIZE]
    found = tables.from_binary(table)
    for item in found:
        if item.end > len(data):
            raise GatehouseError(
                f"the image ends at 0x{len(data):x}, inside or before partition {item.name} (to 0x{item.end:x})", "size"
            )
    return {item.name: (item, data[item.offset : item.end]) for item in found}


def nvs_image(values: Mapping[str, bytes | int], size: int, encrypt: bytes | None = None) -> bytes:
    """An NVS partition of `size` bytes with `values` in namespace "gatehouse": bytes as blobs, int as i32.

    encrypt: a key of 64 bytes, to encrypt it as ESP-IDF does (AES-256-XTS). GatehouseError when the name of a value is
    longer than 15 characters or the partition is too small.
    """
    from esp_idf_nvs_partition_gen import nvs_partition_gen as nvs  # slow to import, and needed only here

    out = io.BytesIO()
    try:
        writer = nvs.nvs_open(out, size - _NVS_SPARE, nvs.Page.VERSION2, is_encrypt=encrypt is not None, key=encrypt)
        nvs.write_entry(writer, NAMESPACE, "namespace", "", "")
        for key, value in values.items():
            if len(key) > 15:
                raise GatehouseError(f"NVS key {key!r} is longer than 15 characters", "format")
            if isinstance(value, int):
                nvs.write_entry(writer, key, "data", "i32", str(value))
            else:
                nvs.write_entry(writer, key, "data", "hex2bin", value.hex())
        nvs.nvs_close(writer)
    except nvs.InsufficientSizeError:
        raise GatehouseError(f"{len(values)} values do not fit an NVS partition of {size} bytes", "full") from None
    return out.getvalue()


@dataclass(frozen=True)
class OtaEntry:
    """One of the two entries of otadata. `slot` is the n of ota_n with two application partitions."""

    sequence: int
    state: str

    @property
    def slot(self) -> int:
        return (self.sequence - 1) % 2


def parse_otadata(data: bytes) -> OtaEntry | None:
    """ESP-IDF's choice of application partition, or None while there is none: then the bootloader takes the first."""
    best = None
    for at in (0, _SECTOR):
        sequence, _, state, crc = _OTA_ENTRY.unpack_from(data, at)
        if sequence != 0xFFFFFFFF and crc == binascii.crc32(sequence.to_bytes(4, "little"), 0xFFFFFFFF):
            entry = OtaEntry(sequence, _OTA_STATES.get(state, f"0x{state:x}"))
            if best is None or entry.sequence > best.sequence:
                best = entry
    return best


def stand_in_app(label: str, size: int | None = None) -> bytes:
    """A minimal valid ESP32 application image that does nothing: the simulated board runs the unix port instead.

    It has a header, one segment with an application descriptor that says what it is, the checksum and the SHA-256, so
    that esptool and ESP-IDF's rules for images accept it. With `size` (a multiple of 16) it is filled up to that many
    bytes, which depend on `label`.
    """
    described = struct.pack(
        "<II8x32s32s16s16s32s32s80x",
        0xABCD5432,  # magic of esp_app_desc_t
        0,  # secure version
        b"0.0.0-stand-in",
        label.encode()[:31],
        b"",
        b"",
        b"none: simulator's stand-in",
        bytes(32),
    )
    if size is not None:
        room = (size - _APP_HEADER.size - _SEGMENT.size - 1 - _SHA256) // 4 * 4
        if size % _APP_ALIGN or room < len(described):
            raise ValueError("size of an image")
        described += hashlib.shake_128(label.encode()).digest(room - len(described))
    # Segment count, mode DIO, flash of 4 MB; entry point; no write-protect pin; chip, revisions; a SHA-256 follows.
    header = _APP_HEADER.pack(_APP_MAGIC, 1, 2, 0x20, 0x40080000, 0xEE, 0, 0, 0, 0xFFFF, 1)
    body = header + _SEGMENT.pack(0x3F400020, len(described)) + described
    body += bytes(-(len(body) + 1) % _APP_ALIGN)
    body += bytes([functools.reduce(operator.xor, described, _CHECKSUM)])
    return body + hashlib.sha256(body).digest()


def check_app(data: bytes, what: str) -> int:
    """The bytes of an application image or bootloader, its checksum and SHA-256 included.

    GatehouseError("format" | "size" | "digest") unless ESP-IDF's bootloader would start it. What follows the image,
    such as the signature of secure boot, is not looked at.
    """
    if data[:1] != bytes([_APP_MAGIC]):
        raise GatehouseError(f"{what} is not an ESP32 application image (it does not begin with 0xE9)", "format")
    end, checksum = _APP_HEADER.size, _CHECKSUM
    for _ in range(data[1]):
        if end + _SEGMENT.size > len(data):
            raise GatehouseError(f"{what} ends inside its segments", "size")
        size = _SEGMENT.unpack_from(data, end)[1]
        end += _SEGMENT.size
        if end + size > len(data):
            raise GatehouseError(f"{what} ends inside its segments", "size")
        checksum = functools.reduce(operator.xor, data[end : end + size], checksum)
        end += size
    end += -(end + 1) % _APP_ALIGN
    hashed = data[_HASH_APPENDED] == 1
    if end + 1 + hashed * _SHA256 > len(data):
        raise GatehouseError(f"{what} ends before its checksum", "size")
    if data[end] != checksum:
        raise GatehouseError(f"{what} is damaged: its checksum does not match", "digest")
    end += 1
    if hashed and hashlib.sha256(data[:end]).digest() != data[end : end + _SHA256]:
        raise GatehouseError(f"{what} is damaged: its SHA-256 does not match", "digest")
    return end + hashed * _SHA256
