"""MicroPython's own firmware file, taken apart: bootloader and application, for a flash image with our partition table.

Such a file is a merged image that begins where the chip's ROM looks for the bootloader: at 0x1000 of flash on the
ESP32, at 0 on the others (MicroPython v1.28.0, ports/esp32/makeimg.py).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import cached_property

from ..errors import GatehouseError
from . import flash
from . import partitions as tables

MAGIC = b"\xe9"  # the first byte of an image
_CHIP_ID = 12  # place of the chip's number in the header of an image, two bytes
_DESCRIPTION = 32  # place of esp_app_desc_t: the begin of the first segment
_DESCRIPTION_MAGIC = 0xABCD5432
_TEXTS = struct.Struct("<II8x32s32s16s16s32s")  # magic, secure version; version, project, time, date, ESP-IDF
# sys.version and the banner of every build: "MicroPython v1.28.0 on 2026-04-06".
VERSION = re.compile(rb"MicroPython (v\d{1,3}\.\d{1,3}[\w.+-]{0,40}) on 20\d\d-")
OLDEST = (1, 24)  # with tls, vfs and deflate built in, and each chip's temperature sensor


@dataclass(frozen=True)
class Image:
    """An application image or a bootloader: its bytes, and what it says of itself."""

    data: bytes
    chip: str
    project: str = ""
    version: str = ""
    idf: str = ""

    @cached_property
    def micropython(self) -> str:
        """The version of MicroPython that it tells, such as v1.28.0; "" where it tells none."""
        found = VERSION.search(self.data)
        return found[1].decode() if found else ""

    def words(self) -> str:
        """In words, for people."""
        told = " ".join(word for word in (self.project, self.version) if word)
        if self.micropython:
            told = f"MicroPython {self.micropython}"
        built = f", ESP-IDF {self.idf}" if self.idf else ""
        return f"{chip_name(self.chip)}, {len(self.data)} bytes, {f'{told}{built}, ' if told else ''}checksums right"


@dataclass(frozen=True)
class Firmware:
    """What of a firmware file goes onto a board: bootloader and application."""

    bootloader: Image
    app: Image


def chip_name(chip: str) -> str:
    """A chip as its maker writes it, such as ESP32-S3."""
    from esptool.targets import CHIP_DEFS

    return str(CHIP_DEFS[chip].CHIP_NAME) if chip in CHIP_DEFS else chip


def bootloader_offset(chip: str) -> int:
    """Where in flash the chip's ROM looks for the bootloader."""
    from esptool.targets import CHIP_DEFS

    return int(CHIP_DEFS[chip].BOOTLOADER_FLASH_OFFSET)


def read_image(data: bytes, what: str) -> Image:
    """The image that `data` begins with, its checksums verified. GatehouseError("format" | "size" | "digest")."""
    from esptool.bin_image import LoadFirmwareImage
    from esptool.targets import CHIP_DEFS
    from esptool.util import FatalError

    size = flash.check_app(data, what)
    number = struct.unpack_from("<H", data, _CHIP_ID)[0]
    names = [name for name, one in CHIP_DEFS.items() if number == one.IMAGE_CHIP_ID and name != "esp8266"]
    if not names:
        raise GatehouseError(f"{what} is for a chip with the number {number}, which this esptool does not know", "chip")
    try:
        LoadFirmwareImage(names[0], data[:size])  # a second opinion, of the one that writes it
    except (FatalError, struct.error) as error:
        raise GatehouseError(f"{what}: {str(error).splitlines()[0]}", "format") from None
    magic, _, version, project, _, _, idf = _TEXTS.unpack_from(data.ljust(_DESCRIPTION + _TEXTS.size), _DESCRIPTION)
    if magic != _DESCRIPTION_MAGIC:
        return Image(data[:size], names[0])
    return Image(
        data[:size], names[0], *(text.split(b"\0")[0].decode("ascii", "replace") for text in (project, version, idf))
    )


def split(data: bytes, chip: str, what: str) -> Firmware:
    """Take a firmware file for `chip` apart. GatehouseError when it is for another, is no such file, or is damaged."""
    base = bootloader_offset(chip)
    boot = read_image(data, f"the bootloader in {what}")
    if boot.chip != chip:
        told = f"{what} is for the {chip_name(boot.chip)}; the board has an {chip_name(chip)}"
        raise GatehouseError(f"{told}: take the firmware of this board", "chip")
    place = tables.TABLE_OFFSET - base
    if len(data) < place + tables.TABLE_SIZE:
        told = f"{what} ends at {len(data)} bytes, before its partition table: a merged image of MicroPython has one"
        raise GatehouseError(f"{told}; is it cut short?", "size")
    if len(boot.data) > place:
        raise GatehouseError(f"the bootloader in {what} reaches into the partition table", "size")
    table = tables.from_binary(data[place : place + tables.TABLE_SIZE], None, f"the partition table in {what}")
    apps = sorted((part for part in table if part.type == tables.APP), key=lambda part: part.offset)
    if not apps:
        raise GatehouseError(f"{what} has no application partition", "format")
    start = apps[0].offset - base
    if len(data) <= start:
        raise GatehouseError(f"{what} ends at {len(data)} bytes, before its application: it is cut short", "size")
    app = read_image(data[start:], f"the application in {what}")
    if app.chip != chip:
        raise GatehouseError(f"the application in {what} is for the {chip_name(app.chip)}", "chip")
    _check_micropython(app, what)
    return Firmware(boot, app)


def _check_micropython(app: Image, what: str) -> None:
    """GatehouseError("format" | "version") unless it is a MicroPython that the core can run on."""
    if not app.micropython:
        raise GatehouseError(f"the application in {what} is no MicroPython: it holds none's version", "format")
    major, minor = re.findall(r"\d+", app.micropython)[:2]
    if (int(major), int(minor)) < OLDEST:
        told = f"{what} has MicroPython {app.micropython}; the core needs v{OLDEST[0]}.{OLDEST[1]} or later"
        raise GatehouseError(f"{told}: take a newer one for this board", "version")
