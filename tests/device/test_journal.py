"""The event log: its chain, its ring, what a cut leaves, and that a flood does not push out what was there."""

import os

import fake_chip as chip
import fake_device as device
from harness import cases

HEAP = "8M"  # the flash is in RAM here


def start():
    case = device.decode(cases("components"), "pack")
    device.provision(case)
    boot = device.boot()
    device.clock(case["now"])
    return case, boot


def read(boot):
    """All entries as lists; checks chain, numbers and the links between segments."""
    from gatehouse import cbor, journal, mac

    key = boot.store.derive("journal")
    found = []
    last = None
    for segment in journal.segments():
        for entry, tag, before in journal.entries(segment):
            assert tag == mac.hmac_sha256(key, before, entry)[:16]
            assert last in (None, before), "segments hang together"
            last = tag
            found.append(cbor.loads(entry))
    for number, item in enumerate(found):
        assert item[0] == found[0][0] + number
    return found


def test_life_of_an_update_is_in_it():
    case, boot = start()
    device.offer(boot, case["offers"]["app by the new key"])
    device.offer(boot, case["offers"]["app"])
    boot = device.boot()
    boot.confirm()
    told = [item[3:5] for item in read(boot)]
    assert told == [
        ["boot", "active"],
        ["refused", "key"],
        ["pending-reboot", case["offers"]["app"]["manifest"][:8]],
        ["boot", "trial"],
        ["confirmed", case["offers"]["app"]["manifest"][:8]],
    ]
    assert [item[2] for item in read(boot)] == [1, 1, 1, 2, 2], "the boot count"


def test_roll_back_and_its_reason_are_in_it():
    case, boot = start()
    device.offer(boot, case["offers"]["config"])
    for _ in range(4):
        boot = device.boot()
    assert ["rolled-back", "health", case["offers"]["config"]["manifest"][:8]] in [item[3:] for item in read(boot)]


def test_ring_is_bounded_and_its_segments_hang_together():
    _, boot = start()
    for number in range(800):
        assert boot.note("test", number)
    found = read(boot)
    assert 150 <= len(found) < 801 and found[-1][0] == 801
    names = [name for name in os.listdir("/state") if name.startswith("journal-")]
    assert len(names) == 4 and all(os.stat("/state/" + name)[6] <= 4096 for name in names)
    boot = device.boot()
    assert read(boot)[-1][0] == 802


def test_entry_that_is_too_long_loses_its_details_only():
    _, boot = start()
    assert boot.note("test", "x" * 300)
    assert read(boot)[-1][3:] == ["test"]


def test_changed_entry_breaks_the_chain_and_the_journal_goes_on():
    _, boot = start()
    boot.note("test", "one")
    boot.note("test", "two")
    with open("/state/journal-1", "rb") as file:
        data = file.read()
    device.write("/state/journal-1", data.replace(b"one", b"One"))
    boot = device.boot()
    try:
        read(boot)
    except AssertionError:
        pass
    else:
        raise AssertionError("a changed entry passed")
    from gatehouse import cbor, journal, mac

    first = cbor.loads(next(journal.entries(2))[0])
    assert first[0] == 4 and first[3] == "boot", "a new segment, and no number for a second time"
    _, tag, before = next(journal.entries(2))
    assert before == next(journal.entries(1))[1], "it follows what still holds"
    assert tag == mac.hmac_sha256(boot.store.derive("journal"), before, cbor.dumps(first))[:16]


def test_numbers_go_on_above_what_a_broker_acknowledged():
    _, boot = start()
    boot.note("test", "one")
    boot.store.put_number("acked", 40)
    os.remove("/state/journal-1")
    boot = device.boot()
    assert [item[0] for item in read(boot)] == [41]
    assert boot.journal[5] == 40
    boot.note("test", "two")
    boot = device.boot()
    assert [item[0] for item in read(boot)] == [41, 42, 43], "twin: what is acknowledged is all there"
    boot.store.put_number("acked", 50)
    boot = device.boot()
    from gatehouse import journal

    assert numbers(boot) == [41, 42, 43, 51]
    assert journal.segments() == [1, 2] and journal.start(2) == 50


def numbers(boot):
    from gatehouse import cbor, journal

    return [cbor.loads(entry)[0] for segment in journal.segments() for entry, _, _ in journal.entries(segment)]


def test_what_is_acknowledged_outlives_an_entry_that_found_no_room():
    _, boot = start()
    from gatehouse import journal

    def full(*_):
        raise OSError(28)

    real, journal._begin = journal._begin, full
    boot.journal[1], boot.journal[5] = 4096, 1
    assert not journal.append(boot, "lost one")
    journal._begin = real
    assert boot.journal[5] == 1 and boot.store.number("acked") == 0


def test_cut_at_each_operation_loses_at_most_the_entry_that_was_written():
    _, boot = start()
    while boot.journal[1] < 4096 - 700:
        boot.note("test", bytes(200))  # some of the next ones begin a new segment
    saved = chip.snapshot()
    cut = 0
    while True:
        cut += 1
        chip.restore(saved)
        boot = device.boot()
        before = read(boot)
        chip.power.on(cut)
        try:
            for number in range(7):
                boot.note("cut", number, bytes(150))
            break
        except chip.PowerCut:
            pass
        chip.power.on()
        again = device.boot()
        assert again.mode == "active", again.failure
        found = read(again)
        written = [item[4] for item in found if item[3] == "cut"]
        assert written == list(range(written[0] if written else 0, len(written) + (written[0] if written else 0)))
        assert found[-1][3] == "boot" and found[-1][0] >= before[-1][0] + 1
    assert cut > 40


def test_full_flash_loses_events_and_says_how_many():
    _, boot = start()
    from gatehouse import journal

    def full(*_):
        raise OSError(28)

    real, journal._begin = journal._begin, full
    boot.journal = journal._end(boot)
    boot.journal[1] = 4096
    assert not journal.append(boot, "lost one")
    boot.journal[1] = 4096
    assert not journal.append(boot, "lost two")
    journal._begin = real
    assert journal.append(boot, "next")
    assert read(boot)[-1][3:] == ["next", "lost", 2]


def test_wear_of_the_flash_is_the_documented_one():
    """docs/journal.md computes with it: one erased block an entry, and no block twice as often as the mean."""
    import vfs

    class Counted(chip.Flash):
        def ioctl(self, request, argument):
            if request == 6:
                erased[argument] += 1
            return super().ioctl(request, argument)

    erased = [0] * 64
    _, boot = start()
    for size in (10, 160):
        vfs.umount("/state")
        chip.devices["/state"] = Counted(64)
        vfs.VfsLfs2.mkfs(chip.devices["/state"], progsize=32, readsize=32)
        vfs.mount(vfs.VfsLfs2(chip.devices["/state"], progsize=32, readsize=32), "/state")
        boot.journal = None
        erased[:] = [0] * 64
        for _ in range(1300):
            assert boot.note("test", bytes(size))
        assert 0.9 < sum(erased) / 1300 < 1.1
        assert max(erased) < 2 * sum(erased) / 64


def test_a_thousand_refusals_leave_what_was_there():
    import asyncio

    case, boot = start()
    boot.note("test", "before the flood")
    installer, _ = device.offer(boot, case["offers"]["app by the new key"])

    async def flood():
        for number in range(1000):
            await installer.offer(b"bogus %d" % number)

    asyncio.run(flood())
    told = [item[3:] for item in read(boot)]
    assert ["test", "before the flood"] in told
    assert len(told) <= 2 + 4
    installer._notes._budget._since -= 600000  # ten minutes later
    asyncio.run(installer.offer(b"the last one"))
    assert read(boot)[-1][3:] == ["refused", "format", b"", 997]
