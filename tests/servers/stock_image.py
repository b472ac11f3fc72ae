"""A firmware file with the form of MicroPython's, made by hand: valid images by ESP-IDF's rules, with no code in them.

Bootloader, partition table and application of a chip, checksums and SHA-256 right; `esptool image-info` takes both.
"""

import functools
import hashlib
import operator
import struct

from gatehouse_tools.image import partitions

CHIPS = {"esp32": (0, 0x1000, 0x3F400020), "esp32s3": (9, 0, 0x3C000020), "esp32c3": (5, 0, 0x3C000020)}
CHIPS |= {"esp32c6": (13, 0, 0x42000020)}
TABLE = """\
nvs,      data, nvs,     0x9000,   0x6000
phy_init, data, phy,     0xf000,   0x1000
factory,  app,  factory, 0x10000,  0x1f0000
"""


def image(chip: str, project: str = "", size: int = 4096, version: str = "v1.28.0") -> bytes:
    """An application image, or without `project` a bootloader's, of about `size` bytes."""
    number, _, address = CHIPS[chip]
    body = hashlib.shake_128(f"{chip} {project}".encode()).digest(size // 4 * 4)
    if project:
        texts = (version.encode(), project.encode(), b"", b"", b"v5.5.1", bytes(32))
        body = f"3.4.0; {project} {version} on 2026-04-06".encode().ljust(64, b"\0") + body
        body = struct.pack("<II8x32s32s16s16s32s32s80x", 0xABCD5432, 0, *texts) + body
    head = struct.pack("<BBBBIB3xHBHH4xB", 0xE9, 1, 2, 0x20, 0x40080000, 0xEE, number, 0, 0, 0xFFFF, 1)
    data = head + struct.pack("<II", address, len(body)) + body
    data += bytes(-(len(data) + 1) % 16)
    data += bytes([functools.reduce(operator.xor, body, 0xEF)])
    return data + hashlib.sha256(data).digest()


def firmware(
    chip: str = "esp32s3", size: int = 200_000, project: str = "MicroPython", version: str = "v1.28.0"
) -> bytes:
    """The whole file."""
    base = CHIPS[chip][1]
    file = bytearray(image(chip, size=20_000).ljust(0x8000 - base, b"\xff"))
    file += partitions.to_binary(partitions.parse_csv(TABLE, 4 << 20))
    return bytes(file.ljust(0x10000 - base, b"\xff")) + image(chip, project, size, version)
