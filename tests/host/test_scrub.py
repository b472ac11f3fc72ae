"""The device's own code that overwrites erased entries of NVS, on a partition of ESP-IDF's format."""

from __future__ import annotations

import random
import runpy
import sys
import types
from typing import Any

import pytest

from gatehouse_tools import core
from gatehouse_tools.image import flash as images
from gatehouse_tools.image import nvs as reader
from gatehouse_tools.sim.chip import OnePartition, Partitions
from gatehouse_tools.sim.nvs import Nvs

SIZE = 0x6000
KEPT: dict[str, bytes | int] = {"identity": b"I" * 100, "device_key": bytes(range(32)), "boots": 7}
SECRETS: dict[str, bytes | int] = {
    "wifi": b"the network's password",
    "users": b"verifier" * 40,
    "broker": b"secret of the broker",
}


class Ram:
    """A flash whose operations are counted; `cut` raises at that one, half of it done."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.count, self.cut = 0, 0

    def read(self, at: int, size: int) -> bytes:
        return bytes(self.data[at : at + size])

    def program(self, at: int, data: bytes) -> None:
        self.count += 1
        half = self.count == self.cut
        for offset, byte in enumerate(data[: len(data) // 2] if half else data):
            assert byte & ~self.data[at + offset] == 0, "a bit was programmed back to 1"
            self.data[at + offset] &= byte
        if half:
            raise KeyboardInterrupt

    def erase(self, at: int) -> None:
        self.data[at : at + 4096] = b"\xff" * 4096


class Part(OnePartition):
    """esp32.Partition of the whole of it."""

    def __init__(self, ram: Ram) -> None:
        self._ram = ram

    def readblocks(self, page: int, buffer: bytearray, offset: int = 0) -> None:  # type: ignore[override]
        at = page * 4096 + offset
        buffer[:] = self._ram.read(at, len(buffer))

    def writeblocks(self, page: int, data: bytes, offset: int | None = None) -> None:
        assert offset is not None, "without an offset the chip erases first"
        self._ram.program(page * 4096 + offset, data)

    def ioctl(self, command: int, argument: int) -> int:
        assert command == 4
        return SIZE // 4096


def scrub(ram: Ram, monkeypatch: pytest.MonkeyPatch) -> int:
    esp32 = types.ModuleType("esp32")
    finder: Any = types.SimpleNamespace(TYPE_DATA=Partitions.TYPE_DATA, find=lambda kind, label: [Part(ram)])
    esp32.Partition = finder  # type: ignore[attr-defined]
    micropython = types.ModuleType("micropython")
    micropython.const = lambda value: value  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "esp32", esp32)
    monkeypatch.setitem(sys.modules, "micropython", micropython)
    return int(runpy.run_path(str(core.source("firmware", "access", "scrub.py")))["scrub"]())


def used(rng: random.Random) -> Ram:
    """A partition with a history: values written again and again over several pages, secrets erased at the end."""
    ram = Ram(images.nvs_image({**KEPT, **SECRETS}, SIZE))
    nvs: Any = Nvs(ram, 0, SIZE)  # type: ignore[arg-type]
    space = nvs.open("gatehouse")
    for number in range(60):
        nvs.set_blob(space, "wifi", b"former password %d " % number + rng.randbytes(60))
        nvs.set_blob(space, "users", b"former verifier %d " % number + rng.randbytes(200))
        nvs.set_i32(space, "boots", number)
    for key, value in SECRETS.items():
        nvs.set_blob(space, key, value)
    for key in SECRETS:
        nvs.erase_key(space, key)
    nvs.set_i32(space, "boots", 7)
    return ram


def live(ram: Ram) -> dict[str, Any]:
    return reader.read_nvs(bytes(ram.data))["gatehouse"]


def secrets_in(ram: Ram) -> bool:
    return any(text in ram.data for text in (b"former", b"password", b"verifier", b"secret"))


def test_nothing_of_an_erased_value_is_left_and_the_others_are_as_they_were(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    ram = used(random.Random(seed))
    assert secrets_in(ram) and live(ram) == KEPT
    assert scrub(ram, monkeypatch) > 100
    assert not secrets_in(ram)
    assert live(ram) == KEPT
    assert scrub(ram, monkeypatch) == 0, "once is enough"
    nvs: Any = Nvs(ram, 0, SIZE)  # type: ignore[arg-type]
    space = nvs.open("gatehouse")
    assert nvs.get_blob(space, "device_key") == KEPT["device_key"]
    for number in range(200):
        nvs.set_blob(space, "wifi", b"another one %d" % number * 10)  # its pages go round
    assert nvs.get_blob(space, "identity") == KEPT["identity"]


def test_a_page_that_was_given_up_is_overwritten_too(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    ram = Ram(images.nvs_image({**KEPT, **SECRETS}, SIZE))
    page = ram.read(0, 4096)
    ram = Ram(images.nvs_image(KEPT, SIZE))
    free = next(at for at in range(0, SIZE, 4096) if ram.read(at, 4096) == b"\xff" * 4096)
    ram.data[free : free + 4096] = bytes(4) + page[4:]  # its entries are marked as written
    assert secrets_in(ram) and live(ram) == KEPT
    scrub(ram, monkeypatch)
    assert not secrets_in(ram) and live(ram) == KEPT
    nvs: Any = Nvs(ram, 0, SIZE)  # type: ignore[arg-type]
    space = nvs.open("gatehouse")
    for number in range(300):
        nvs.set_blob(space, "wifi", b"another one %d" % number * 10)
    assert nvs.get_blob(space, "identity") == KEPT["identity"]


def test_it_may_be_cut_at_any_write(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    ram = used(random.Random(seed))
    whole = Ram(bytes(ram.data))
    scrub(whole, monkeypatch)
    for cut in range(1, whole.count + 1, 7):
        cutted = Ram(bytes(ram.data))
        cutted.cut = cut
        with pytest.raises(KeyboardInterrupt):
            scrub(cutted, monkeypatch)
        assert live(cutted) == KEPT
        cutted.cut = 0
        scrub(cutted, monkeypatch)
        assert live(cutted) == KEPT and not secrets_in(cutted)
