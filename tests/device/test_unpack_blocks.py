"""Files over 64 KiB: kept, copied and fetched block by block, also after a power cut at any moment."""

import asyncio
import io
import os
from binascii import unhexlify

import deflate

import fake_chip as chip
from fake_device import MemoryPack
from gatehouse import Refused, tree, unpack
from harness import cases, raises

HEAP = "16M"  # the flash is in RAM here
BLOCK = 65536
SIZE = 2 * BLOCK + 20000
BIG = "/slots/a/big.bin"
SMALL = 5 + 900  # bytes of the other files

_packs = {}


def packs(name):
    if not _packs:
        _packs.update(cases("unpack_blocks"))
    case = _packs[name]
    if isinstance(case["pack"], str):
        case["pack"] = deflate.DeflateIO(io.BytesIO(unhexlify(case["pack"])), deflate.ZLIB).read()
        case["digest"] = unhexlify(case["digest"])
    return case


def fill(case, root="/slots/a", active=None, pack=None):
    pack = pack or MemoryPack(case["pack"])
    pack.progress = []
    asyncio.run(unpack.fill(pack, root, active, case["digest"], case["size"], lambda *done: pack.progress.append(done)))
    return pack


def check(case, root="/slots/a"):
    tree.verify(root, case["digest"], case["size"])
    at = 4 + case["size"]
    for path, data in sorted(chip.tree_of(root).items()):
        if path.endswith(".bin"):
            at = case["pack"].find(data[:100], at)
            assert case["pack"][at : at + len(data)] == data, path


def body(case):
    """Where the bodies begin, and where the large file's does."""
    return 4 + case["size"], 4 + case["size"] + 5


def break_off(case, count):
    """A try that ends after `count` bytes of the large file came."""
    with raises(Refused, "network"):
        fill(case, pack=MemoryPack(case["pack"][: body(case)[1] + count]))


def damage(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_full_update_is_one_range_and_progress_is_told_after_each_block():
    chip.install(blocks=128)
    case = packs("large")
    pack = fill(case)
    check(case)
    assert pack.ranges == [(0, None)] and pack.fetched == len(case["pack"])
    assert pack.progress == [(0, 4), (1, 4), (1, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert fill(case).fetched == 0


def test_goes_on_at_the_block_where_it_was():
    for came, kept in ((100, 0), (BLOCK - 1, 0), (BLOCK, 1), (BLOCK + 5, 1), (2 * BLOCK + 19999, 2)):
        chip.install(blocks=128)
        case = packs("large")
        break_off(case, came)
        pack = fill(case)
        check(case)
        assert pack.ranges == [(body(case)[1] + kept * BLOCK, len(case["pack"]))], (came, pack.ranges)
        assert pack.fetched == SIZE + 900 - kept * BLOCK


def test_what_is_here_is_verified_before_it_is_kept():
    case = packs("large")
    for at, kept in ((0, 0), (BLOCK - 1, 0), (BLOCK, 1), (2 * BLOCK + 19999, 2)):
        chip.install(blocks=128)
        fill(case)
        damage(BIG, at)
        pack = fill(case)
        check(case)
        assert pack.fetched == SIZE - kept * BLOCK
    chip.install(blocks=128)
    fill(case)
    with open(BIG, "ab") as file:
        file.write(b"more")  # what is longer cannot be shortened, so it goes
    assert fill(case).fetched == SIZE
    check(case)


def test_blocks_of_the_running_slot_are_copied():
    for name, fetched, ranges in (("middle", BLOCK, 1), ("ends", SIZE - BLOCK + 900, 2), ("shorter", 5000, 1)):
        chip.install(blocks=256)
        old, new = packs("large"), packs(name)
        fill(old)
        pack = fill(new, "/slots/b", "/slots/a")
        check(new, "/slots/b")
        check(old)
        assert pack.fetched == 4 + new["size"] + fetched, (name, pack.fetched)
        assert len(pack.ranges) == 1 + ranges, (name, pack.ranges)


def test_block_that_has_gone_bad_in_the_running_slot_is_fetched():
    old, new = packs("large"), packs("middle")
    chip.install(blocks=256)
    fill(old)
    damage(BIG, 2 * BLOCK + 7)
    pack = fill(new, "/slots/b", "/slots/a")
    check(new, "/slots/b")
    assert pack.fetched == 4 + new["size"] + SIZE - BLOCK
    # Nor is one copied that is not there any more.
    chip.install(blocks=256)
    fill(old)
    os.remove(BIG)
    fill(new, "/slots/b", "/slots/a")
    check(new, "/slots/b")


def test_a_wrong_block_is_refused_as_it_comes_and_the_ones_before_it_stay():
    case = packs("large")
    chip.install(blocks=128)
    bad = bytearray(case["pack"])
    bad[body(case)[1] + BLOCK + 77] ^= 1
    pack = MemoryPack(bytes(bad))
    with raises(Refused, "digest"):
        fill(case, pack=pack)
    assert pack.fetched <= body(case)[1] + 2 * BLOCK, "nothing was fetched behind it"
    assert fill(case).fetched == SIZE + 900 - BLOCK
    check(case)


def test_what_another_release_left_is_used():
    chip.install(blocks=128)
    fill(packs("large"))
    pack = fill(packs("middle"))
    check(packs("middle"))
    assert pack.fetched == len(packs("middle")["pack"]) - BLOCK - SMALL, "the first block and the small files stayed"


def test_deflated_file_comes_whole():
    chip.install(blocks=128)
    case = packs("deflated")
    with raises(Refused, "network"):
        fill(case, pack=MemoryPack(case["pack"][:-10]))
    assert fill(case).fetched == len(case["pack"]) - 4 - case["size"]
    check(case)


def test_empty_file_needs_no_range():
    chip.install()
    case = packs("empty")
    fill(case)
    os.remove("/slots/a/c.txt")
    pack = fill(case)
    check(case)
    assert pack.ranges == []


def test_tree_that_no_flash_of_this_size_can_hold():
    chip.install(blocks=64)
    with raises(Refused, "full"):
        fill(packs("three"))
    chip.install(blocks=128)
    fill(packs("three"))


def test_resume_needs_no_more_room_than_the_first_try():
    case = packs("large")
    for blocks in range(40, 80):
        chip.install(blocks=blocks)
        try:
            fill(case)
            break
        except Refused as error:
            assert error.reason == "full", error
    for came in (BLOCK - 1, 2 * BLOCK - 1, 2 * BLOCK + 10000):
        chip.install(blocks=blocks)
        break_off(case, came)
        fill(case)
        check(case)


def test_power_cut_at_any_moment_keeps_every_finished_block():
    case = packs("large")
    chip.install(blocks=128)
    fill(packs("empty"))
    saved = chip.snapshot()
    seen = set()
    for cut in range(40, 5000, 61):
        chip.restore(saved)
        chip.power.on(cut)
        pack = MemoryPack(case["pack"])
        try:
            fill(case, pack=pack)
            break
        except chip.PowerCut:
            pass
        chip.power.on()
        chip.mount()
        came = max(0, pack.fetched - body(case)[1])
        again = fill(case)
        check(case)
        finished = came // BLOCK if came % BLOCK else max(0, came // BLOCK - 1)  # the last may not be closed yet
        assert again.fetched <= len(case["pack"]) - finished * BLOCK, (cut, came, again.fetched)
        seen.add(min(2, finished))
    assert seen == {0, 1, 2}, seen
