"""The simulated board's NVS: ESP-IDF's format, its errors, and a power cut at every program and erase."""

import argparse
import os
import random

import pytest
from esp_idf_nvs_partition_gen import nvs_partition_gen

from gatehouse_tools.image.flash import nvs_image
from gatehouse_tools.image.nvs import read_nvs
from gatehouse_tools.sim.flash import SECTOR, Flash, PowerCut
from gatehouse_tools.sim.nvs import CHUNK_MAX, Nvs, NvsError

PAGES = 4


class Chance(random.Random):
    """Of the Flash: what a cut erase leaves is chosen by `outcome`, 0 to 3."""

    outcome = 0
    asked = False

    def shuffle(self, halves):
        self.asked = True
        if self.outcome & 1:
            halves.reverse()

    def random(self):
        return 0.0 if self.outcome & 2 else 1.0


class Chip:
    """An NVS partition in memory behind one sector of other data, with a power switch."""

    def __init__(self, seed=0, pages=PAGES, content=None):
        self.chance = Chance(seed)
        self.size = pages * SECTOR
        self.descriptor = os.memfd_create("nvs")
        os.pwrite(self.descriptor, b"\x55" * SECTOR + (content or b"\xff" * self.size), 0)
        self.flash = Flash(self.descriptor, self.count, self.chance)
        self.operations = 0
        self.cut = 0

    def count(self):
        self.operations += 1
        return self.operations == self.cut

    def start(self, cut=0):
        """Load the partition; the power goes at operation `cut` from here."""
        self.operations, self.cut = 0, cut
        return Nvs(self.flash, SECTOR, self.size)

    @property
    def content(self):
        return os.pread(self.descriptor, self.size, SECTOR)

    def restore(self, content):
        os.pwrite(self.descriptor, content, SECTOR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert os.pread(self.descriptor, SECTOR, 0) == b"\x55" * SECTOR, "wrote outside the partition"
        os.close(self.descriptor)


def test_values_are_kept():
    with Chip() as chip:
        nvs = chip.start()
        space = nvs.open("gatehouse")
        nvs.set_i32(space, "least", -(1 << 31))
        nvs.set_i32(space, "most", (1 << 31) - 1)
        nvs.set_blob(space, "empty", b"")
        nvs.set_blob(space, "blob", bytes(range(256)) * 9)
        nvs = chip.start()
        space = nvs.open("gatehouse")
        assert (nvs.get_i32(space, "least"), nvs.get_i32(space, "most")) == (-(1 << 31), (1 << 31) - 1)
        assert nvs.get_blob(space, "empty") == b""
        assert nvs.get_blob(space, "blob") == bytes(range(256)) * 9
        assert read_nvs(chip.content) == {
            "gatehouse": {
                "least": -(1 << 31),
                "most": (1 << 31) - 1,
                "empty": b"",
                "blob": bytes(range(256)) * 9,
            }
        }


def test_namespaces_are_apart():
    with Chip() as chip:
        nvs = chip.start()
        one, other = nvs.open("one"), nvs.open("other")
        nvs.set_i32(one, "k", 1)
        nvs.set_i32(other, "k", 2)
        assert chip.start().open("one") == one
        assert read_nvs(chip.content) == {"one": {"k": 1}, "other": {"k": 2}}


def test_images_of_the_generator_are_read():
    values: dict[str, bytes | int] = {"identity": b"\x01" * 77, "long": bytes(range(256)) * 12, "none": b""}
    values |= {"number": -7, "boots": 0}
    with Chip(content=nvs_image(values, PAGES * SECTOR)) as chip:
        nvs = chip.start()
        space = nvs.open("gatehouse")
        assert chip.operations == 0
        for key, value in values.items():
            assert (nvs.get_i32 if isinstance(value, int) else nvs.get_blob)(space, key) == value
        nvs.set_i32(space, "boots", 1)
        nvs.set_blob(space, "long", b"short")
        assert read_nvs(chip.content) == {"gatehouse": {**values, "boots": 1, "long": b"short"}}


def test_the_host_parser_reads_what_the_generator_writes(tmp_path):
    source, image = tmp_path / "values.csv", tmp_path / "nvs.bin"
    source.write_text(
        "key,type,encoding,value\n"
        "first,namespace,,\nsmall,data,u8,200\nlow,data,i16,-300\nwide,data,u64,1099511627776\n"
        "text,data,string,häuser\nblob,data,hex2bin,00ff10\nsecond,namespace,,\nsmall,data,i8,-1\n"
    )
    arguments = argparse.Namespace(input=str(source), output=str(image), size="0x4000", version=2, outdir=str(tmp_path))
    nvs_partition_gen.generate(arguments)
    assert read_nvs(image.read_bytes()) == {
        "first": {"small": 200, "low": -300, "wide": 1 << 40, "text": "häuser", "blob": b"\x00\xff\x10"},
        "second": {"small": -1},
    }


def test_writing_the_same_again_costs_nothing():
    with Chip() as chip:
        nvs = chip.start()
        space = nvs.open("gatehouse")
        nvs.set_i32(space, "number", 5)
        nvs.set_blob(space, "blob", b"\xaa" * 5000)
        before = chip.operations
        nvs.set_i32(space, "number", 5)
        nvs.set_blob(space, "blob", b"\xaa" * 5000)
        assert chip.operations == before


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda nvs: nvs.get_i32(1, "nothing"), (0x1102, "ESP_ERR_NVS_NOT_FOUND")),
        (lambda nvs: nvs.get_blob(1, "number"), (0x1102, "ESP_ERR_NVS_NOT_FOUND")),
        (lambda nvs: nvs.erase_key(1, "nothing"), (0x1102, "ESP_ERR_NVS_NOT_FOUND")),
        (lambda nvs: nvs.get_i32(1, "n" * 16), (0x1102, "ESP_ERR_NVS_NOT_FOUND")),
        (lambda nvs: nvs.set_i32(1, "n" * 16, 1), (0x1109, "ESP_ERR_NVS_KEY_TOO_LONG")),
        (lambda nvs: nvs.set_blob(1, "n" * 16, b"1"), (0x1109, "ESP_ERR_NVS_KEY_TOO_LONG")),
        (lambda nvs: nvs.open("n" * 16), (0x1109, "ESP_ERR_NVS_KEY_TOO_LONG")),
        (lambda nvs: nvs.set_blob(1, "b", bytes(3 * CHUNK_MAX + 1)), (0x110E, "ESP_ERR_NVS_VALUE_TOO_LONG")),
        (lambda nvs: nvs.set_blob(1, "b", bytes(3 * CHUNK_MAX)), (0x1105, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")),
    ],
)
def test_errors_are_those_of_esp_idf(call, error):
    with Chip() as chip:
        nvs = chip.start()
        nvs.set_i32(nvs.open("gatehouse"), "number", 5)
        with pytest.raises(NvsError) as caught:
            call(nvs)
        assert caught.value.args == error
        assert read_nvs(chip.content) == {"gatehouse": {"number": 5}}


def test_a_key_of_fifteen_characters_fits():
    with Chip() as chip:
        nvs = chip.start()
        nvs.set_i32(nvs.open("s" * 15), "n" * 15, 1)
        assert read_nvs(chip.content) == {"s" * 15: {"n" * 15: 1}}


def test_a_full_partition_says_so_and_keeps_what_it_has():
    with Chip() as chip:
        nvs = chip.start()
        space = nvs.open("gatehouse")
        held = {}
        with pytest.raises(NvsError, match="NOT_ENOUGH_SPACE"):
            for number in range(PAGES * 126):
                nvs.set_i32(space, f"k{number}", number)
                held[f"k{number}"] = number
        assert len(held) == (PAGES - 1) * 126 - 1  # one page is free for moving, one entry is the namespace
        assert read_nvs(chip.content) == {"gatehouse": held}
        nvs = chip.start()
        nvs.erase_key(space, "k7")
        nvs.set_i32(space, "other", 1)
        del held["k7"]
        assert read_nvs(chip.content) == {"gatehouse": {**held, "other": 1}}


def test_a_value_can_change_its_type():
    with Chip() as chip:
        nvs = chip.start()
        space = nvs.open("gatehouse")
        for value in (1, b"one", 2, b"", b"three", 4):
            (nvs.set_i32 if isinstance(value, int) else nvs.set_blob)(space, "k", value)
            assert read_nvs(chip.content) == {"gatehouse": {"k": value}}


def test_wear_is_spread_and_nothing_is_lost_over_many_writes():
    with Chip() as chip:
        nvs = chip.start()
        space = nvs.open("gatehouse")
        nvs.set_blob(space, "old", b"\x11" * 900)
        for number in range(1500):
            nvs.set_i32(space, "count", number)
            if number % 40 == 0:
                nvs.set_blob(space, "blob", bytes([number % 251]) * (number % 700))
        assert read_nvs(chip.content)["gatehouse"] == {
            "old": b"\x11" * 900,
            "count": 1499,
            "blob": bytes([1480 % 251]) * (1480 % 700),
        }


def test_without_a_free_page_it_starts_empty():
    """MicroPython erases the partition then; ESP-IDF needs the page."""
    with Chip(content=nvs_image({"k": 1}, PAGES * SECTOR)[:SECTOR] * PAGES) as chip:
        chip.start()
        assert read_nvs(chip.content) == {}


def test_damaged_pages_are_taken_for_free_ones(seed):
    rng = random.Random(seed)
    for _ in range(50):
        with Chip(content=rng.randbytes(PAGES * SECTOR)) as chip:
            nvs = chip.start()
            nvs.set_i32(nvs.open("gatehouse"), "k", 1)
            assert read_nvs(chip.content) == {"gatehouse": {"k": 1}}


# Power cuts. A history is a list of writes; None erases the key.


def write(nvs, key, value):
    space = nvs.open("gatehouse")
    if value is None:
        nvs.erase_key(space, key)
    elif isinstance(value, int):
        nvs.set_i32(space, key, value)
    else:
        nvs.set_blob(space, key, value)


def after(values, key, value):
    changed = {**values, key: value}
    return {name: one for name, one in changed.items() if one is not None}


def sweep(history, seed, pages=PAGES, content=None):
    """Cut at every operation of every write, and then at every operation of the start that follows.

    A cut erase is tried with each half and with either rest. After each cut all values are as before the write or as
    after it, for the device and for the host's parser. Returns (cuts in a write, cuts in a start).
    """
    cuts = starts = 0
    with Chip(seed, pages, content) as chip:
        if content is None:
            write(chip.start(), "fixed", b"\x5a" * 45)
        values = read_nvs(chip.content)["gatehouse"]
        for key, value in history:
            before = chip.content
            wanted = after(values, key, value)
            for left in cut_at_each(chip, before, key, value):
                cuts += 1
                for again in cut_at_each(chip, left):
                    starts += 1
                    chip.restore(again)
                    assert held(chip.start(), chip) in (values, wanted), f"{key}: cut {cuts}, then in the start"
                chip.restore(left)
                nvs = chip.start()
                assert held(nvs, chip) in (values, wanted), f"{key}: cut {cuts}"
                if held(nvs, chip) != wanted:
                    write(nvs, key, value)
                write(nvs, "probe", cuts)  # it takes more
                assert held(nvs, chip) == {**wanted, "probe": cuts}, f"{key}: cut {cuts}, then written again"
            chip.restore(before)
            write(chip.start(), key, value)
            values = wanted
            assert held(chip.start(), chip) == values
    return cuts, starts


def cut_at_each(chip, before, *written):
    """What each cut of a start, and of the write (key, value) after it, leaves of the content `before`."""
    cut = 0
    while True:
        cut += 1
        for outcome in range(4):
            chip.chance.outcome, chip.chance.asked = outcome, False
            chip.restore(before)
            try:
                nvs = chip.start(cut)
                if written:
                    write(nvs, *written)
                return
            except PowerCut:
                was_erase = chip.chance.asked
            yield chip.content
            if not was_erase:
                break


def held(nvs, chip):
    """All values of the namespace, as the device and as the host's parser read them."""
    parsed = read_nvs(chip.content).get("gatehouse", {})
    space = nvs.open("gatehouse")
    for key, value in parsed.items():
        assert (nvs.get_i32 if isinstance(value, int) else nvs.get_blob)(space, key) == value, key
    return parsed


def test_cut_at_every_operation_of_plain_writes(seed):
    blob = random.Random(seed).randbytes
    history = [
        ("n", 1), ("n", 2), ("b", blob(10)), ("b", blob(32)), ("b", blob(300)), ("b", b""), ("n", None), ("b", None),
        ("f", b"\xff" * 100), ("f", b"\xff" * 64), ("n", 3), ("n", b"now a blob"), ("n", 4), ("f", None),
    ]  # fmt: skip
    cuts, starts = sweep(history, seed)
    assert cuts > 60 and starts > 10


def test_cut_at_every_operation_across_pages(seed):
    """Blobs over several pages, pages that fill up, and items that are moved to free one."""
    blob = random.Random(seed).randbytes
    history = [("a", blob(3000)), ("b", blob(3500)), ("a", blob(2900)), ("n", 1), ("b", blob(20)), ("a", blob(3100))]
    history += [("b", blob(2000)), ("a", blob(1500)), ("b", blob(2500)), ("a", None), ("b", blob(5000))]
    cuts, starts = sweep(history, seed)
    assert cuts > 150 and starts > 150


def test_cut_at_every_operation_of_many_small_writes(seed):
    rng = random.Random(seed)
    history = []
    for number in range(60):
        key = rng.choice("abcdefgh")
        history.append((key, rng.choice([number, rng.randbytes(rng.randrange(200)), number])))
    cuts, _ = sweep(history, seed, pages=3)
    assert cuts > 150


def test_cut_at_every_operation_while_a_page_is_freed(seed):
    """The page has items to its end, so that what a half-done erase leaves of it is too little to copy again."""
    with Chip(pages=2) as chip:
        nvs = chip.start()
        space = nvs.open("gatehouse")
        nvs.set_i32(space, "first", 1)
        for number in range(100):
            nvs.set_i32(space, "count", number)
        nvs.set_i32(space, "last", -1)
        for number in range(100):
            before, chip.operations = chip.content, 0
            nvs.set_i32(space, "count", number)
            if chip.operations > 10:  # more than one item: a page was freed
                cuts, starts = sweep([("count", number)], seed, 2, before)
                assert cuts > 15 and starts > 100
                return
        raise AssertionError("no page was freed")
