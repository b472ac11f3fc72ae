"""Boards: one folder of boards/ each, with board.toml and the partition table, held against what its chip has.

docs/new-board.md says what each setting means.
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import core
from .errors import GatehouseError, UsageError
from .image import partitions as tables
from .image.partitions import Partition

FILE = "board.toml"
SENSORS = ("chip", "ds18b20", "dht22")  # what firmware/sensor.py can read
_WIRED = SENSORS[1:]
_PINS = ("led", "button", "sensor_pin")
_OUTPUTS = ("led", "sensor_pin")  # DS18B20 and DHT22 are asked over the line on which they answer
_NAME = re.compile(r"[\w-]+")
LEAST_VFS = 0x60000  # bytes; the core and a state in use take 0x50000 of it, in blocks of 4 KB (a test measures)
_WANTED = {  # partitions that the device's code asks for by name, and of which kinds
    "nvs": ("data, nvs",),
    "otadata": ("data, ota",),
    "phy_init": ("data, phy",),
    "vfs": ("data, fat", "data, littlefs"),
}
_SETTINGS = {  # name: its type
    "name": str, "chip": str, "model": str, "flash_size": int, "partitions": str, "led": int, "button": int,
    "sensor": str, "sensor_pin": int, "interfaces": list, "install_alone": bool, "production": bool, "heap": str,
    "micropython": dict, "build": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Chip:
    """What a chip has: a table of boards/chips.toml. taken: pin -> what has it. heap: bytes MicroPython starts with."""

    name: str
    arch: str
    temperature: str
    heap: int
    interfaces: tuple[str, ...]
    pins: frozenset[int]
    inputs: frozenset[int]
    taken: dict[int, str]


@dataclass(frozen=True)
class Board:
    """One folder of boards/: what a device of this kind is. `data` is the whole board.toml."""

    name: str
    folder: Path
    model: str
    flash_size: int
    data: dict[str, Any] = field(repr=False)

    @property
    def chip(self) -> str:
        """Its chip, as esptool and boards/chips.toml call it."""
        return str(self.data.get("chip"))

    @property
    def sensor(self) -> str:
        """The sensor that a device has unless its product says another: one of SENSORS."""
        return str(self.data.get("sensor", SENSORS[0]))

    def pin(self, setting: str) -> int | None:
        """The number of the pin "led", "button" or "sensor_pin"; None where the board has none."""
        value = self.data.get(setting, False)
        return None if value is False else int(value)

    def partitions(self) -> list[Partition]:
        """Its partition table, checked."""
        return tables.load(self.folder / self.data.get("partitions", "partitions.csv"), self.flash_size)

    def build_partitions(self) -> list[Partition]:
        """The partition table of its production build (docs/production.md), checked."""
        path = self.folder / "micropython" / "partitions.csv"
        return tables.load(path, self.flash_size, self.table_offset)

    @property
    def table_offset(self) -> int:
        """Where the partition table of the production build lies: a bootloader that checks signatures is larger."""
        return int(self.data.get("build", {}).get("table_offset", tables.TABLE_OFFSET))


def load(name: str, root: Path | None = None) -> Board:
    """A board of the product folder `root`, else of the checkout. UsageError says which boards there are.

    GatehouseError names the setting of board.toml that is wrong; the partition table is not read yet.
    """
    places = [root / "boards"] if root else []
    places.append(core.source("boards"))
    for place in places:
        path = place / name / FILE
        if _NAME.fullmatch(name) and path.is_file():
            data = _toml(path)
            try:
                if data.get("name", name) != name:  # of a copy, whose model may be the other board's still
                    raise GatehouseError(f"name is {data['name']!r} in the folder {name}; look at model, too")
                _check(data)
            except GatehouseError as error:
                raise GatehouseError(f"{path}: {error}", error.reason) from None
            return Board(name, path.parent, data["model"], data["flash_size"], data)
    known = sorted({path.parent.name for place in places for path in place.glob(f"*/{FILE}")})
    raise UsageError(f"there is no board {name!r}; boards: {', '.join(known) or 'none'}")


def wired(board: Board, settings: dict[str, Any]) -> tuple[str, int] | None:
    """The sensor on a wire that a device has: (kind, pin), or None for the chip's own.

    `settings`: sensor and sensor_pin of [device] in product.toml, which come before the board's.
    """
    given = {name: settings[name] for name in ("sensor", "sensor_pin") if name in settings}
    if given:
        try:
            _check(board.data | given)
        except GatehouseError as error:
            raise GatehouseError(f"product.toml, [device]: {error}") from None
    chosen = Board(board.name, board.folder, board.model, board.flash_size, board.data | given)
    pin = chosen.pin("sensor_pin")
    return (chosen.sensor, pin) if chosen.sensor in _WIRED and pin is not None else None


def check(board: Board) -> None:
    """GatehouseError for the first thing that keeps devices from being made for `board`: its partition table too."""
    path = board.folder / board.data.get("partitions", "partitions.csv")
    table = board.partitions()
    try:
        check_table(table)
    except GatehouseError as error:
        raise GatehouseError(f"{path}: {error}", error.reason) from None


def check_table(table: list[Partition]) -> None:
    """GatehouseError("format" | "size") unless Gatehouse can live in a partition table.

    One OTA partition alone is possible: the firmware of such a board is updated by cable.
    """
    kinds = {part.name: part.kind() for part in table}
    for name, wanted in _WANTED.items():
        if kinds.get(name) not in wanted:
            told = f"is {kinds[name]}" if name in kinds else "is missing"
            raise GatehouseError(f"partition {name!r} {told}; it is wanted as {' or '.join(wanted)}", "format")
    slots = [part for part in table if part.kind().startswith("app, ota_")]
    if not slots:
        raise GatehouseError("no partition for the firmware: ota_0 and ota_1 are wanted", "format")
    if len({part.size for part in slots}) > 1:
        raise GatehouseError("ota_0 and ota_1 differ in size: an image must fit into either", "size")
    room = tables.find(table, "vfs").size
    if room < LEAST_VFS:
        told = f"vfs has 0x{room:x} bytes; the core alone, with its state and small slots, needs 0x{LEAST_VFS:x}"
        raise GatehouseError(told, "size")


@functools.cache
def chips() -> dict[str, Chip]:
    """The chips of boards/chips.toml by name."""
    found = {}
    for name, one in _toml(core.source("boards", "chips.toml")).items():
        taken = {pin: owner for owner, ranges in one["taken"].items() for pin in _numbers(ranges)}
        found[name] = Chip(
            name, one["arch"], one["temperature"], one["heap"], tuple(one["interfaces"]), _numbers(one["pins"]),
            _numbers(one["inputs"]), taken,
        )  # fmt: skip
    return found


def _numbers(ranges: list[str]) -> frozenset[int]:
    found: set[int] = set()
    for text in ranges:
        first, _, last = text.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _check(data: dict[str, Any]) -> None:
    for name, value in data.items():
        if name not in _SETTINGS:
            raise GatehouseError(f"unknown setting {name!r}; there are {', '.join(_SETTINGS)}")
        # A pin is a number, or false where there is none; nothing else that is a number may be true or false.
        good = isinstance(value, _SETTINGS[name]) and (isinstance(value, bool) == (_SETTINGS[name] is bool))
        if not (good or (name in _PINS and value is False)):
            raise GatehouseError(f"{name} = {value!r} is not {_words(name)}")
    size = data.get("flash_size", 0)
    if size <= 0 or size % 4096:
        raise GatehouseError("flash_size must be the bytes of flash, a multiple of 4096")
    if not data.get("model"):
        raise GatehouseError("model is missing: the name of this kind of device, of which its class id is made")
    chip = chips().get(data.get("chip", ""))
    if not chip:
        told = f"chip {data['chip']!r} is none of" if "chip" in data else "chip is missing; there are"
        raise GatehouseError(f"{told} {', '.join(chips())} (boards/chips.toml)")
    _check_pins(data, chip)
    for name in data.get("interfaces", ()):
        if name not in chip.interfaces:
            raise GatehouseError(f"interface {name!r} is none that the {chip.name} has: {', '.join(chip.interfaces)}")


def _check_pins(data: dict[str, Any], chip: Chip) -> None:
    sensor = data.get("sensor", SENSORS[0])
    if sensor not in SENSORS:
        raise GatehouseError(f"sensor {sensor!r} is none of {', '.join(SENSORS)}")
    for name in ("led", "button"):
        if name not in data:
            raise GatehouseError(f"{name} is missing: the number of its pin, or false where the board has none")
    if sensor in _WIRED and data.get("sensor_pin", False) is False:
        raise GatehouseError(f"sensor_pin is missing: the pin of the {sensor}'s data line")
    used: dict[int, str] = {}
    for name in _PINS:
        pin = data.get(name, False)
        if pin is False:
            continue
        problem = ""
        if pin not in chip.pins:
            problem = f"is no pin of the {chip.name}"
        elif pin in chip.taken:
            problem = f"belongs to the {chip.taken[pin]} on the {chip.name}"
        elif name in _OUTPUTS and pin in chip.inputs:
            problem = f"can only be an input on the {chip.name}"
        elif pin in used:
            problem = f"is {used[pin]}'s already"
        if problem:
            raise GatehouseError(f"{name}: pin {pin} {problem}; choose another")
        used[pin] = name


def _words(name: str) -> str:
    if name in _PINS:
        return "the number of a pin, nor false for none"
    kinds = {str: "a text", int: "a number", bool: "true or false", list: "a list", dict: "a table"}
    return kinds[_SETTINGS[name]]


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise GatehouseError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GatehouseError(f"{path}: {error}") from None
