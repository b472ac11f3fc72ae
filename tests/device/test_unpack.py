"""Filling a slot from a pack: kept, copied, fetched, inflated; and packs that lie."""

import asyncio
import os
from binascii import unhexlify

import fake_chip as chip
from fake_device import MemoryPack
from gatehouse import Refused, tree, unpack
from harness import cases, raises

HEAP = "8M"  # the flash is in RAM here


_packs = []


def packs():
    """The cases, parsed once."""
    if not _packs:
        _packs.append(cases("unpack"))
    return _packs[0]


def fill(case, root="/slots/a", active=None, pack=None):
    pack = pack or MemoryPack(unhexlify(case["pack"]))
    seen = []
    asyncio.run(
        unpack.fill(pack, root, active, unhexlify(case["digest"]), case["size"], lambda *done: seen.append(done))
    )
    pack.progress = seen
    return pack


def check(case, root="/slots/a"):
    tree.verify(root, unhexlify(case["digest"]), case["size"])
    found = chip.tree_of(root)
    found.pop("index.cbor")
    assert found == {path: unhexlify(data) for path, data in case["files"].items()}


def test_raw_and_deflated_packs_fill_a_slot():
    for name in ("raw", "deflated"):
        chip.install()
        case = packs()[name]
        pack = fill(case)
        check(case)
        assert pack.fetched == len(pack.data), "each byte of the pack once"
        assert len(pack.ranges) == 1, "a full update is one streamed request"
        assert pack.progress[0] == (0, 4) and pack.progress[-1] == (4, 4)


def test_heap_that_must_be_left_to_others_is_looked_for_before_the_first_file():
    chip.install()
    case = packs()["raw"]
    pack = MemoryPack(unhexlify(case["pack"]))
    told = []
    with raises(MemoryError):
        asyncio.run(
            unpack.fill(
                pack, "/slots/a", None, unhexlify(case["digest"]), case["size"], lambda *done: told.append(done),
                spare=8 << 20,
            )
        )  # fmt: skip
    assert told == [(0, 4)] and list(chip.tree_of("/slots/a")) == ["index.cbor"]
    fill(case)
    check(case)


def test_what_the_slot_has_is_not_fetched_again():
    chip.install()
    case = packs()["raw"]
    fill(case)
    assert fill(case).fetched == 0
    os.remove("/slots/a/pkg/mod.mpy")
    pack = fill(case)
    check(case)
    assert pack.fetched == 5000
    with open("/slots/a/app.mpy", "r+b") as file:
        file.write(b"rot")
    pack = fill(case)
    check(case)
    assert pack.fetched == len(case["files"]["app.mpy"]) // 2


def test_what_the_running_slot_has_is_copied():
    chip.install(blocks=128)
    old, new = packs()["many"], packs()["many_changed"]
    fill(old)
    pack = fill(new, "/slots/b", "/slots/a")
    check(new, "/slots/b")
    check(old)
    assert pack.fetched <= 4 + new["size"] + 2500, pack.fetched
    # A file of the running slot that has gone bad is not copied.
    chip.install(blocks=128)
    fill(old)
    with open("/slots/a/f00.mpy", "wb") as file:
        file.write(b"bad")
    fill(new, "/slots/b", "/slots/a")
    check(new, "/slots/b")


def test_ranges_are_coalesced():
    chip.install()
    case = packs()["many"]
    fill(case)
    for name in ("f03.mpy", "f04.mpy", "f05.mpy", "f30.mpy"):
        os.remove("/slots/a/" + name)
    pack = fill(case)
    check(case)
    assert len(pack.ranges) == 2, pack.ranges
    assert pack.ranges[0][1] is not None and pack.ranges[1][1] is not None


def test_files_become_folders_and_folders_files():
    chip.install()
    fill(packs()["raw"])
    fill(packs()["moved"])
    check(packs()["moved"])
    fill(packs()["raw"])
    check(packs()["raw"])


def test_extraneous_files_are_removed():
    chip.install()
    os.mkdir("/slots/a/old")
    os.mkdir("/slots/a/old/older")
    for path in ("old/older/x.mpy", "old/y.mpy", "z.mpy"):
        with open("/slots/a/" + path, "wb") as file:
            file.write(b"x")
    case = packs()["raw"]
    fill(case)
    check(case)


def test_packs_that_lie():
    made = packs()
    chip.install()
    fill(made["honest"])
    for name, reason in (
        ("bomb", "size"),
        ("short", "digest"),
        ("cut", "digest"),
        ("garbage", "digest"),
        ("padded", "size"),
        ("other", "digest"),
    ):
        chip.install()
        with raises(Refused, reason):
            fill(made[name])
        size = os.stat("/slots/a/a.bin")[6]
        assert size <= len(made["honest"]["pack"]) * 8, "wrote %d bytes" % size


def test_bomb_writes_no_more_than_was_signed():
    chip.install()
    made = packs()
    fill(made["honest"])
    honest = os.stat("/slots/a/a.bin")[6]
    chip.install()
    with raises(Refused, "size"):
        fill(made["bomb"])
    assert os.stat("/slots/a/a.bin")[6] <= honest


def test_tampered_and_truncated_packs():
    case = packs()["raw"]
    good = unhexlify(case["pack"])
    for position, reason in (
        (0, "size"),
        (3, "size"),
        (20, "digest"),
        (4 + case["size"] + 100, "digest"),
        (len(good) - 1, "digest"),
    ):
        chip.install()
        bad = bytearray(good)
        bad[position] ^= 1
        with raises(Refused, reason):
            fill(case, pack=MemoryPack(bytes(bad)))
    for size in (0, 3, 10, 4 + case["size"], len(good) - 1):
        chip.install()
        with raises(Refused, "network"):
            fill(case, pack=MemoryPack(good[:size]))
    chip.install()
    fill(case)
    check(case)


def test_flash_without_room():
    chip.install(blocks=16)
    case = packs()["many"]
    with raises(Refused, "full"):
        fill(case)
    chip.install(blocks=64)
    fill(case)
    check(case)
