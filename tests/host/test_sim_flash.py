"""The flash and the OTA data of the simulated board, as its supervisor changes them."""

import os
import random

import pytest

from gatehouse_tools.image.flash import parse_otadata
from gatehouse_tools.image.partitions import find, parse_csv
from gatehouse_tools.sim.flash import SECTOR, Flash, FlashFault, PowerCut
from gatehouse_tools.sim.ota import Ota

IMAGE = b"\xe9"


class Memory:
    """A flash in memory; `cut` is the operation that is done half."""

    def __init__(self, content, seed=0):
        self.size = len(content)
        self.descriptor = os.memfd_create("flash")
        os.pwrite(self.descriptor, content, 0)
        self.operations = 0
        self.cut = 0
        self.flash = Flash(self.descriptor, self.count, random.Random(seed))

    def count(self):
        self.operations += 1
        return self.operations == self.cut

    @property
    def content(self):
        return os.pread(self.descriptor, self.size, 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.descriptor)


def test_programs_clear_bits_and_erases_set_them():
    with Memory(b"\xff" * 2 * SECTOR) as memory:
        memory.flash.program(10, b"\xf0\x0f")
        memory.flash.program(10, b"\xf0\x00")
        assert memory.content[9:13] == b"\xff\xf0\x00\xff"
        for data in (b"\xf1", b"\xf0\x01", b"\xff" * 3):
            with pytest.raises(FlashFault, match="0xa"):
                memory.flash.program(10, data)
        assert memory.flash.read(9, 4) == b"\xff\xf0\x00\xff"
        memory.flash.program(SECTOR, b"\x00")
        memory.flash.erase(0)
        assert memory.content == b"\xff" * SECTOR + b"\x00" + b"\xff" * (SECTOR - 1)
        with pytest.raises(FlashFault, match="not the start of a sector"):
            memory.flash.erase(100)


def test_a_cut_program_is_done_half():
    with Memory(b"\xff" * SECTOR) as memory:
        memory.cut = 1
        with pytest.raises(PowerCut):
            memory.flash.program(0, bytes(32))
        assert memory.content[:33] == bytes(16) + b"\xff" * 17
        memory.flash.program(0, bytes(32))
        assert memory.operations == 2


def test_a_cut_erase_leaves_half_and_the_rest_old_or_anything():
    old = b"\x5a" * SECTOR
    seen = set()
    for seed in range(30):
        left = []
        for _ in range(2):  # the same again with the same seed
            with Memory(old, seed) as memory:
                memory.cut = 1
                with pytest.raises(PowerCut):
                    memory.flash.erase(0)
                left.append(memory.content)
        assert left[0] == left[1]
        halves = [left[0][: SECTOR // 2], left[0][SECTOR // 2 :]]
        blank = halves.index(b"\xff" * (SECTOR // 2))
        seen.add((blank, halves[1 - blank] == old[: SECTOR // 2]))
    assert seen == {(0, True), (0, False), (1, True), (1, False)}


# OTA. Images are a first byte here; otadata is what the host's own parser says it is.

TABLE = parse_csv(
    "otadata,data,ota,0x9000,0x2000\nota_0,app,ota_0,0x10000,0x10000\nota_1,app,ota_1,,0x10000\n", 0x30000
)
WITH_FACTORY = parse_csv(
    "otadata,data,ota,0x9000,0x2000\nfactory,app,factory,0x10000,0x10000\nota_0,app,ota_0,,0x10000\n", 0x30000
)


class Device(Memory):
    """An otadata and application partitions, of which those named have an image."""

    def __init__(self, table=TABLE, images=("ota_0", "ota_1")):
        content = bytearray(b"\xff" * 0x30000)
        for name in images:
            content[find(table, name).offset] = IMAGE[0]
        super().__init__(bytes(content))
        self.table = table
        self.ota = Ota(self.flash, table)

    def reset(self):
        """The name of the partition that boots."""
        self.running = self.ota.bootloader()
        assert self.running
        return self.running.name

    def update(self, name):
        assert self.ota.set_boot(find(self.table, name))

    @property
    def entry(self):
        return parse_otadata(self.content[0x9000:0xB000])


def test_the_first_boot_records_the_first_slot():
    with Device() as device:
        assert device.reset() == "ota_0"
        assert (device.entry.sequence, device.entry.state) == (1, "valid")
        before = device.operations
        assert device.reset() == "ota_0" and device.operations == before


def test_an_update_is_tried_once_unless_it_is_confirmed():
    with Device() as device:
        device.reset()
        device.update("ota_1")
        assert (device.entry.sequence, device.entry.state) == (2, "new")
        assert device.ota.boot_partition().name == "ota_1"
        assert device.reset() == "ota_1" and device.entry.state == "pending verify"
        assert device.reset() == "ota_0" and device.entry.state == "aborted"
        assert device.reset() == "ota_0"
        device.update("ota_1")
        assert device.reset() == "ota_1"
        assert device.ota.mark_valid()
        before = device.operations
        assert device.ota.mark_valid() and device.operations == before
        for _ in range(3):
            assert device.reset() == "ota_1"
        device.update("ota_0")
        assert device.reset() == "ota_0" and device.ota.mark_valid() and device.reset() == "ota_0"


def test_the_next_update_goes_to_the_other_slot():
    with Device() as device:
        device.reset()
        assert device.ota.next_update(device.running).name == "ota_1"
        device.update("ota_1")
        device.reset()
        assert device.ota.next_update(device.running).name == "ota_0"


def test_without_an_image_a_partition_is_not_booted():
    with Device(images=["ota_0"]) as device:
        device.reset()
        assert not device.ota.set_boot(find(TABLE, "ota_1"))
        assert not device.ota.set_boot(find(TABLE, "otadata"))
        assert device.reset() == "ota_0"
    with Device(images=["ota_1"]) as device:
        assert device.reset() == "ota_1"
        assert device.entry.sequence == 2
    with Device(images=[]) as device:
        assert device.reset() == "ota_0"
        assert device.operations == 0
        assert not device.ota.mark_valid()


def test_a_factory_image_is_what_is_left():
    with Device(WITH_FACTORY, ["factory", "ota_0"]) as device:
        assert device.reset() == "factory" and device.operations == 0
        device.update("ota_0")
        assert device.reset() == "ota_0"
        assert device.reset() == "factory"
        device.update("ota_0")
        device.reset()
        device.ota.mark_valid()
        device.update("factory")
        assert device.reset() == "factory"
        assert device.content[0x9000:0xB000] == b"\xff" * 0x2000


@pytest.mark.parametrize("act", ["update", "boot it", "confirm", "give up"])
def test_a_cut_leaves_the_old_choice_or_the_new(act):
    """Each operation of each change of otadata. A cut while an image is confirmed may lose it: so does ESP-IDF."""
    acts = {
        "update": lambda device: device.update("ota_1"),
        "boot it": lambda device: device.reset(),
        "confirm": lambda device: device.ota.mark_valid(),
        "give up": lambda device: device.reset(),
    }
    for cut in range(1, 10):
        with Device() as device:
            device.reset()
            if act != "update":
                device.update("ota_1")
            if act in ("confirm", "give up"):
                device.reset()
            device.operations, device.cut = 0, cut
            try:
                acts[act](device)
                assert cut > 2
                return
            except PowerCut:
                assert device.reset() in ("ota_0", "ota_1")
                assert device.reset() == "ota_0" or act == "give up"
                device.update("ota_1")
                assert device.reset() == "ota_1"
    raise AssertionError("never ended")
