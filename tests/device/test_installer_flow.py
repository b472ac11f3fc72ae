"""The installer over time: two offers at once, another try after a failure, flash that rots while it installs."""

import asyncio

import fake_chip as chip
import fake_device as device
from harness import cases

HEAP = "8M"  # the flash is in RAM here


def start():
    case = device.decode(cases("flow"))
    device.provision(case)
    boot = device.boot()
    device.clock(case["now"])
    assert boot.mode == "active", boot.failure
    return case, boot


def test_second_offer_at_the_same_time_is_left_for_later():
    case, boot = start()
    installer, _ = device.offer(boot, case["honest"], device.MemoryPack(b""))  # fails, but its source stays in place
    from gatehouse import source

    pack = device.MemoryPack(case["honest"]["pack"])
    source.open_source = lambda *_: pack

    async def both():
        first = asyncio.create_task(installer.offer(case["honest"]["envelope"]))
        while not pack.fetched:
            await asyncio.sleep_ms(0)
        assert not await installer.offer(case["other"]["envelope"])
        assert pack.end
        return await first

    assert asyncio.run(both()), installer.state
    assert device.boot().release.digest == case["honest"]["manifest"]


def test_failure_that_may_pass_is_tried_again():
    case, boot = start()
    notes = []
    boot.note = lambda *event: notes.append(event)
    installer, _ = device.offer(boot, case["honest"], device.MemoryPack(case["honest"]["pack"][:-1]))
    assert not notes, "a network that comes and goes must not fill the journal"
    assert installer.refused["reason"] == "network" and installer.state["state"] == "failed"
    device.offer(boot, case["honest"], found=installer)
    assert installer.due, installer.state


def test_damaged_pack_says_nothing_of_the_offer():
    case, boot = start()
    pack = bytearray(case["honest"]["pack"])
    pack[-1] ^= 1
    installer, _ = device.offer(boot, case["honest"], device.MemoryPack(bytes(pack)))
    assert (installer.refused["reason"], installer.state["state"]) == ("digest", "refused")
    assert installer.again and not installer.knows(case["honest"]["envelope"])
    device.offer(boot, case["honest"], found=installer)
    assert installer.due, installer.state


def test_fault_of_the_offer_is_remembered():
    case, boot = start()
    installer, _ = device.offer(boot, case["writes"])
    assert not installer.again and installer.knows(case["writes"]["envelope"])
    assert not installer.knows(case["honest"]["envelope"])


def test_switch_that_cannot_be_written_leaves_the_record_as_it_was():
    case, boot = start()
    from gatehouse import record

    save = record.Record.save

    def full(self):
        if self.trial:
            raise OSError(28)
        save(self)

    record.Record.save = full
    before = boot.record.dumps()
    installer, _ = device.offer(boot, case["honest"])
    assert not installer.due and installer.refused["reason"] == "full" and installer.again
    assert boot.record.dumps() == before
    record.Record.save = save
    device.offer(boot, case["honest"], found=installer)
    assert installer.due, installer.state


def test_write_is_no_way_to_an_application():
    case, boot = start()
    installer, pack = device.offer(boot, case["writes"])
    assert installer.refused["reason"] == "unsupported" and not pack.ranges
    installer, _ = device.offer(boot, case["honest"])
    assert installer.due


def test_what_was_fetched_again_is_verified_again():
    case, boot = start()
    installer, _ = device.offer(boot, case["fetches twice"])
    assert installer.due, installer.state

    case, boot = start()
    closed = []

    class Rotting(device.MemoryPack):
        async def close(self):
            closed.append(1)
            if len(closed) == 2:
                device.write("/slots/b/app.mpy", b"rot")

    installer, _ = device.offer(boot, case["fetches twice"], Rotting(case["honest"]["pack"]))
    assert not installer.due and installer.refused["reason"] == "digest"
    assert boot.record.trial is None


def test_watchdog_is_fed_for_each_file_that_comes_and_each_that_is_verified():
    case, boot = start()
    fed = chip.WDT.fed
    installer, _ = device.offer(boot, case["honest"])
    assert installer.state["total"] == 4
    assert chip.WDT.fed - fed >= 8


def test_refusal_tells_which_command_of_the_manifest_failed_where_one_did():
    case = device.decode(cases("installer"))
    device.provision(case)
    boot = device.boot()
    device.clock(case["now"])
    saved = chip.snapshot()
    for name, section in (
        ("other vendor", "shared"),
        ("tampered pack", "install"),
        ("short pack", "install"),
        ("flipped signature", None),
        ("older", None),
        ("nothing matched", None),  # all commands ran: what is wrong is that one is missing
    ):
        chip.restore(saved)
        installer, _ = device.offer(boot, case["offers"][name])
        at = installer.state["at"]
        assert (at and (at[0], at[2])) == (section and (section, 0)), (name, at)
    installer, _ = device.offer(boot, case["twins"]["honest"])
    assert installer.due


def test_refusal_after_the_first_look_is_none_of_a_command():
    case, boot = start()
    boot.identity.install_alone = True
    boot.record.outcome = ["failed", "state", case["honest"]["manifest"], 1]  # what the core alone left
    from gatehouse import installer

    leave, installer.Installer._leave = installer.Installer._leave, lambda *arguments: False
    try:
        found, _ = device.offer(boot, case["honest"])
    finally:
        installer.Installer._leave = leave
    assert (found.state["reason"], found.state["at"]) == ("state", None)
    boot.identity.install_alone = None
    found, _ = device.offer(boot, case["honest"])
    assert found.due, found.state
