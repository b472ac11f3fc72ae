"""The application image in its OTA partition: fetched by blocks, resumed, verified by reading back, switched, kept."""

import asyncio
from binascii import unhexlify

import fake_chip as chip
import fake_image
from fake_device import MemoryPack
from harness import cases, raises

HEAP = "16M"  # the flash is in RAM here
BLOCKS = 64  # of each partition: 256 KB
BLOCK = 65536

_cases = {}


def case(name):
    """A pack by name; each is made once."""
    if name not in _cases:
        image = fake_image.data()
        _cases[name] = fake_image.packed(
            {
                "honest": image,
                "small": fake_image.data("small", 8192),
                "changed": fake_image.changed(image, 1),
                "tiny": image[:4080],
                "sector": image[:4096],
                "no image": b"\x00" + image[1:],
                "contradiction": image,
            }[name],
            core="1.2.0",
            row=contradiction(image) if name == "contradiction" else None,
        )
    return _cases[name]


def contradiction(image):
    row = fake_image.entry(image)
    row[2] = bytes(32)
    return row


def board(ota_blocks=BLOCKS):
    """A new chip, and the module under test as a boot finds it."""
    chip.install(ota_blocks=ota_blocks)
    return module()


def module():
    chip.forget()
    from gatehouse import image

    return image


def fill(image, found, pack=None, buffer=1024, feed=None):
    """Fill the other partition. Returns (what fill() returned, the source, progress)."""
    pack = pack or MemoryPack(found["pack"])
    seen = []
    told = asyncio.run(
        image.fill(
            pack,
            found["digest"],
            found["size"],
            lambda done, total: seen.append((done, total)),
            feed or (lambda: None),
            memoryview(bytearray(buffer)),
        )
    )
    return told, pack, seen


def refused(image, found, reason, pack=None):
    from gatehouse import Refused

    with raises(Refused, reason) as caught:
        fill(image, found, pack)
    assert not image.matches(found["digest"], found["size"])
    return caught.value


def flash(size, part=1):
    return bytes(chip.ota.parts[part].data[:size])


def bootable(part=1):
    return chip.ota.parts[part].data[0] == 0xE9


def holds(found, part=1):
    return flash(len(found["image"]), part) == found["image"]


# The honest way.


def test_the_image_comes_and_is_verified():
    image = board()
    found = case("honest")
    told, pack, seen = fill(image, found)
    assert told == ("ota_1", "1.2.0", 6)
    assert holds(found)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert image.matches(found["digest"], found["size"])
    assert not image.matches(found["digest"], found["size"] + 1) and not image.matches(bytes(32), found["size"])
    # The index alone, then what follows the first block in one stream, then the first block: each byte once.
    start = 4 + found["size"]
    end = start + len(found["image"])
    assert pack.ranges == [(0, start), (start + BLOCK, end), (start, start + BLOCK)]
    assert pack.fetched == end


def test_what_the_host_makes_is_taken():
    for name, core in (("small", "1.1.0"), ("listed", "1.2.0")):
        image = board()
        found = cases("firmware")[name]
        found["pack"], found["digest"] = unhexlify(found["pack"]), unhexlify(found["digest"])
        found["image"] = found["pack"][4 + found["size"] :]
        assert fill(image, found)[0] == ("ota_1", core, 6)
        assert holds(found)


def test_any_buffer_that_divides_a_sector_will_do():
    for size in (256, 1024, 4096):
        image = board()
        fill(image, case("honest"), buffer=size)
        assert holds(case("honest"))


def test_an_image_of_one_block_has_no_list():
    image = board()
    _, _, seen = fill(image, case("small"))
    assert holds(case("small")) and seen == [(0, 1), (1, 1)]


def test_what_is_there_is_not_fetched_again():
    image = board()
    fill(image, case("honest"))
    operations = chip.power.count
    image = module()
    told, pack, seen = fill(image, case("honest"))
    assert told[0] == "ota_1" and seen == [(3, 3)] and pack.ranges == [(0, 4 + case("honest")["size"])]
    assert chip.power.count == operations, "nothing is written"
    assert image.matches(case("honest")["digest"], case("honest")["size"])


def test_a_block_that_differs_is_fetched_with_the_first_and_no_other():
    image = board()
    fill(image, case("honest"))
    found = case("changed")
    _, pack, seen = fill(image, found)
    start = 4 + found["size"]
    assert holds(found)
    assert pack.ranges[1:] == [(start + BLOCK, start + 2 * BLOCK), (start, start + BLOCK)]
    assert seen[0] == (1, 3)


def test_the_watchdog_is_fed_at_least_once_a_sector():
    image = board()
    fed = []
    fill(image, case("honest"), feed=lambda: fed.append(chip.power.count))
    gaps = [fed[at + 1] - fed[at] for at in range(len(fed) - 1)]
    assert max(gaps) <= 6, "an erase and five writes"


def test_the_heap_that_it_takes_does_not_grow_with_the_image():
    import gc

    def most(name):
        image, found = board(), case(name)
        gc.collect()
        used = [gc.mem_alloc()] * 2

        def feed():
            gc.collect()
            used[1] = max(used[1], gc.mem_alloc())

        fill(image, found, feed=feed)
        return used[1] - used[0]

    small, large = most("small"), most("honest")
    print("bytes of heap:", small, large)
    # The index is held, and garbage collection is conservative; a single block would be 64 KB.
    assert large - small < 4096, (small, large)


# What lies.


class Tampered(MemoryPack):
    """A source that flips a bit at `at`, counted from the end of the index."""

    def __init__(self, found, at):
        data = bytearray(found["pack"])
        data[4 + found["size"] + at] ^= 1
        super().__init__(bytes(data))


def test_a_tampered_block_is_refused_and_the_honest_one_taken():
    for at in (0, 40, BLOCK - 1, BLOCK, 2 * BLOCK + 5000):
        image = board()
        found = case("honest")
        refused(image, found, "digest", Tampered(found, at))
        assert not bootable(), "the bootloader could start it"
        fill(image, found)
        assert holds(found)


def test_what_was_refused_leaves_no_image_that_could_start():
    image = board()
    fill(image, case("honest"))
    assert bootable()
    found = case("changed")
    refused(image, found, "digest", Tampered(found, BLOCK + 7))
    assert not bootable(), "its end is somebody else's now"


def test_a_tampered_index_is_refused():
    image = board()
    found = case("honest")
    data = bytearray(found["pack"])
    data[4 + found["size"] - 1] ^= 1
    before = flash(len(found["image"]))
    refused(image, found, "digest", MemoryPack(bytes(data)))
    assert flash(len(found["image"])) == before


def test_an_index_of_another_length_is_refused():
    image = board()
    found = case("honest")
    data = bytearray(found["pack"])
    data[3] += 1
    assert "not %d bytes" % found["size"] in refused(image, found, "size", MemoryPack(bytes(data))).detail


def test_an_index_that_is_too_large_is_not_fetched():
    for size in (8193, 0):
        image = board()
        pack = MemoryPack(bytes(9000))
        refused(image, {"digest": bytes(32), "size": size}, "size", pack)
        assert not pack.ranges
    image = board()
    pack = MemoryPack(bytes(9000))
    refused(image, {"digest": bytes(32), "size": 8192}, "size", pack)  # of another length than it says
    assert pack.ranges == [(0, 8196)]


def test_malformed_indexes_are_refused_before_anything_is_written():
    image = board()
    for name, found in fake_image.indexes(fake_image.data()):
        operations = chip.power.count
        try:
            refused(image, found, "format")
        except AssertionError as error:
            raise AssertionError("%s: %s" % (name, error))
        assert chip.power.count == operations


def test_a_pack_that_ends_early_is_refused_and_continued():
    image = board()
    found = case("honest")
    end = 4 + found["size"] + 2 * BLOCK + 100
    refused(image, found, "network", MemoryPack(found["pack"][:end]))
    assert not bootable()
    _, pack, seen = fill(image, found)
    assert seen[0] == (1, 3) and pack.fetched < end


def test_an_image_that_does_not_fit_is_refused():
    image = board(32)  # 128 KB; the image has 133 KB
    operations = chip.power.count
    assert "ota_1 has 131072" in refused(image, case("honest"), "size").detail
    assert chip.power.count == operations
    image = board(34)
    fill(image, case("honest"))
    assert holds(case("honest"))


def test_an_image_smaller_than_a_sector_is_refused():
    image = board()
    refused(image, case("tiny"), "size")
    fill(image, case("sector"))


def test_what_is_no_image_is_refused():
    image = board()
    refused(image, case("no image"), "format")
    assert not bootable() and flash(1) == b"\xff"


def test_an_index_that_contradicts_itself_is_refused():
    assert "not that of its index" in refused(board(), case("contradiction"), "digest").detail
    assert not bootable()


def test_flash_that_does_not_give_back_what_was_written():
    image = board()
    flash_ = chip.ota.parts[1]
    honest = flash_.writeblocks

    def worn(block, buffer, offset=0):
        honest(block, buffer, offset)
        if block == 20 and not offset:
            flash_.data[block * 4096] = 0 if flash_.data[block * 4096] else 1

    flash_.writeblocks = worn
    refused(image, case("honest"), "state")
    assert not bootable()


def test_a_new_fill_forgets_what_the_last_one_verified():
    image = board()
    found = case("honest")
    fill(image, found)
    other = case("changed")
    refused(image, other, "digest", Tampered(other, BLOCK))
    assert not image.matches(found["digest"], found["size"])


# Power.


def sweep(act, check, step=1):
    """Cut at operation 1, 1 + step, ... of act(), check() after each. Returns how many cuts there were."""
    saved = chip.snapshot()
    cut = cuts = 0
    while True:
        cut += 1 if not cut else step
        chip.restore(saved)
        chip.power.on(cut)
        try:
            act()
            return cuts
        except chip.PowerCut:
            pass
        cuts += 1
        chip.power.on()
        chip.start()
        check(cut)


def test_cut_at_every_operation_and_resumed():
    board()
    found = case("honest")
    whole = 4 + found["size"] + len(found["image"])
    fetched = []

    def check(cut):
        assert chip.ota.running == 0
        if bootable():  # cut in the header, which comes when all else is verified
            assert flash(len(found["image"]))[32:] == found["image"][32:], "cut %d" % cut
        _, pack, seen = fill(module(), found, buffer=4096)
        assert holds(found), "cut %d" % cut
        # What had come whole does not come again: the first block, which comes last, and the one that was cut.
        assert pack.fetched == whole - sum(min(BLOCK, len(found["image"]) - n * BLOCK) for n in had(seen[0][0]))
        fetched.append(pack.fetched)

    def had(count):
        return range(1, 1 + count) if count < 3 else range(3)

    cuts = sweep(lambda: fill(module(), found, buffer=4096), check)
    print("cuts while the image is written:", cuts)
    assert cuts > 60
    assert fetched == sorted(fetched, reverse=True), "the later the cut, the less is left"
    assert fetched[-1] <= 4 + found["size"] + BLOCK


def trial(image, found):
    fill(image, found, buffer=4096)
    image.switch("ota_1")


def test_switch_trial_and_keep():
    image = board()
    assert (image.running(), image.boot_label(), image.target().info()[4]) == ("ota_0", "ota_0", "ota_1")
    trial(image, case("honest"))
    assert (image.running(), image.boot_label()) == ("ota_0", "ota_1")
    operations = chip.power.count
    image.switch("ota_1")
    assert chip.power.count == operations, "written although it would be taken anyway"
    chip.start(chip.HARD)
    assert (image.running(), image.boot_label(), image.target().info()[4]) == ("ota_1", "ota_1", "ota_0")
    assert image.keep()
    operations = chip.power.count
    assert image.keep() and chip.power.count == operations
    chip.start(chip.HARD)
    assert image.running() == "ota_1"


def test_an_image_that_is_not_kept_goes_at_the_next_reset():
    for cause in (chip.PWRON, chip.HARD, chip.WATCHDOG):
        image = board()
        trial(image, case("honest"))
        chip.start(cause)
        assert image.running() == "ota_1"
        chip.start(chip.SOFT)
        assert image.running() == "ota_1", "a soft reset does not pass through the bootloader"
        chip.start(cause)
        assert (image.running(), image.boot_label()) == ("ota_0", "ota_0")
        image.switch("ota_1")  # and can be tried again
        chip.start(cause)
        assert image.running() == "ota_1"


def test_what_the_bootloader_would_not_take_is_refused():
    image = board()
    for label in ("ota_1", "nothing"):
        with raises(OSError):
            image.switch(label)
    assert image.boot_label() == "ota_0"
    fill(image, case("small"))
    image.switch("ota_1")


def test_an_image_that_could_not_start_is_not_kept():
    image = board()
    trial(image, case("honest"))
    chip.ota.parts[1].data[0] = 0  # gone bad
    chip.start()
    assert (image.running(), image.boot_label()) == ("ota_0", "ota_1")
    assert not image.keep()
    assert chip.ota.entry(1)[1] == 1, "still pending: the next reset gives it up"
    chip.start()
    assert (image.running(), image.boot_label()) == ("ota_0", "ota_0") and image.keep()


def test_cut_in_any_write_of_otadata():
    image = board()
    fill(image, case("small"))

    def act():
        module().switch("ota_1")
        chip.start(chip.HARD)
        module().keep()

    def check(cut):
        # Whatever was cut, one of both images runs, and the switch can be made again and kept.
        image = module()
        assert image.running() in ("ota_0", "ota_1")
        image.switch("ota_1")
        if image.running() != "ota_1":
            chip.start(chip.HARD)
        assert image.running() == "ota_1" and image.keep()
        chip.start()
        assert image.running() == "ota_1"

    assert sweep(act, check) == 6


# Boards without a second partition.


def test_a_board_without_ota():
    image = board(None)
    assert "no second application partition" in refused(image, case("small"), "component").detail
    assert image.running() is None and image.boot_label() is None
    assert image.keep() is True
    with raises(OSError):
        image.switch("ota_1")
    pack = MemoryPack(case("small")["pack"])
    refused(image, case("small"), "component", pack)
    assert not pack.ranges, "asked the network for what it cannot take"


def test_a_board_with_one_ota_partition():
    image = board()
    # ESP-IDF names the running one where there is no other.
    import esp32

    esp32.Partition.get_next_update = lambda self: esp32.Partition(esp32.Partition.RUNNING)
    refused(image, case("small"), "component")
    assert image.running() is None
