"""Offers to a device: every attack is refused with its reason and leaves all as it was; the honest twin is taken."""

import fake_chip as chip
import fake_device as device
from harness import cases

HEAP = "8M"  # the flash is in RAM here


def start():
    case = device.decode(cases("installer"))
    device.provision(case)
    boot = device.boot()
    device.clock(case["now"])
    assert boot.mode == "active", boot.failure
    return case, boot


def test_every_attack_is_refused_for_its_reason():
    case, boot = start()
    running = chip.tree_of("/slots/a")
    record = boot.record.dumps()
    wrong = []
    early = ("key", "signature", "digest", "format")  # nothing of an unauthenticated manifest is reported
    saved = chip.snapshot()
    for name, item in case["offers"].items():
        chip.restore(saved)  # so that nothing that an earlier offer left in slot b helps or hides
        installer, _ = device.offer(boot, item)
        found = installer.refused and installer.refused["reason"]
        if found != item["reason"] or installer.due:
            wrong.append("%s: %s instead of %s (%s)" % (name, found, item["reason"], installer.state["detail"]))
        assert chip.tree_of("/slots/a") == running, name
        told = installer.refused["sequence"]
        assert told == item["sequence"] or (told == 0 and found in early), name
        assert boot.record.dumps() == record, name
        assert "manifest.suit" not in chip.tree_of("/slots/b"), name
    assert not wrong, "\n".join(wrong)
    # After all of them the honest release is taken.
    installer, _ = device.offer(boot, case["twins"]["honest"])
    assert installer.due, installer.state
    assert device.boot().release.sequence == case["twins"]["honest"]["sequence"]


def test_honest_twins_are_taken():
    for name in ("honest", "equal to the day", "not expired", "this device", "two signers"):
        case, boot = start()
        installer, _ = device.offer(boot, case["twins"][name])
        assert installer.due, "%s: %s" % (name, installer.state)
        boot = device.boot()
        assert boot.mode == "trial", name


def test_unset_clock_takes_nothing():
    case, boot = start()
    device.clock(None)
    installer, _ = device.offer(boot, case["twins"]["honest"])
    assert installer.refused["reason"] == "clock" and installer.state["state"] == "failed"
    device.clock(case["now"])
    installer, _ = device.offer(boot, case["twins"]["honest"])
    assert installer.due


def test_number_ahead_of_a_wrong_clock_may_be_right_later():
    case, boot = start()
    honest = case["twins"]["honest"]
    device.clock(honest["sequence"] - 86401)
    installer, _ = device.offer(boot, honest)
    assert installer.refused["reason"] == "sequence" and installer.again
    device.clock(case["now"])
    device.offer(boot, honest, found=installer)
    assert installer.due


def test_clock_before_the_last_release_does_not_make_an_expired_one_fresh():
    case, boot = start()
    device.clock(boot.not_before - 1)
    installer, _ = device.offer(boot, case["twins"]["not expired"])
    assert not installer.due and installer.refused["reason"] in ("expired", "sequence")
    device.clock(case["now"])
    installer, _ = device.offer(boot, case["twins"]["not expired"])
    assert installer.due


def test_required_set_of_two_keys():
    case, boot = start()
    device.write("/state/trust.suit", case["trust_both"])
    boot = device.boot()
    # The running release has one signature only, so under such a store it does not run.
    assert boot.mode == "recovery" and boot.failure.reason == "right"
    device.clock(case["now"])
    installer, _ = device.offer(boot, case["twins"]["honest"])
    assert installer.refused["reason"] == "right"
    installer, _ = device.offer(boot, case["twins"]["two signers"])
    assert installer.due, installer.state


def test_refused_envelope_is_not_looked_at_again():
    import asyncio

    case, boot = start()
    item = case["offers"]["flipped signature"]
    installer, _ = device.offer(boot, item)
    checked = []
    real, installer._admit = installer._admit, checked.append
    for _ in range(5):
        asyncio.run(installer.offer(item["envelope"]))
    assert not checked and installer.refused["count"] == 6
    installer._admit = real
    # The bad signature does not lock out the good one over the same manifest.
    assert item["manifest"] == case["twins"]["honest"]["manifest"]
    device.offer(boot, case["twins"]["honest"], found=installer)
    assert installer.due, installer.state


def test_refusals_that_are_remembered_are_bounded():
    import asyncio

    case, boot = start()
    installer, _ = device.offer(boot, case["offers"]["truncated"])
    for number in range(200):
        asyncio.run(installer.offer(b"bogus %d" % number))
    assert len(installer._remembered) <= 8
    device.offer(boot, case["twins"]["honest"], found=installer)
    assert installer.due, installer.state


def test_same_release_again_changes_nothing():
    case, boot = start()
    from gatehouse import installer as module

    before = chip.power.count
    installer, pack = device.offer(boot, case["releases"]["1.0.0"])
    assert not installer.due and installer.refused is None and installer.state["state"] == "idle"
    assert chip.power.count == before and not pack.ranges
    found, checked = module.Installer(boot), []
    found._admit = checked.append
    device.offer(boot, case["releases"]["1.0.0"], found=found)
    assert not checked, "it comes at every connect, and a signature check takes a quarter of a second"


def test_refused_envelope_is_not_looked_at_again():
    import asyncio

    case, boot = start()
    item = case["offers"]["flipped signature"]
    installer, _ = device.offer(boot, item)
    checked = []
    real, installer._admit = installer._admit, checked.append
    for _ in range(5):
        asyncio.run(installer.offer(item["envelope"]))
    assert not checked and installer.refused["count"] == 6
    installer._admit = real
    # The bad signature does not lock out the good one over the same manifest.
    assert item["manifest"] == case["twins"]["honest"]["manifest"]
    device.offer(boot, case["twins"]["honest"], found=installer)
    assert installer.due, installer.state


def test_refusals_that_are_remembered_are_bounded():
    import asyncio

    case, boot = start()
    installer, _ = device.offer(boot, case["offers"]["truncated"])
    for number in range(200):
        asyncio.run(installer.offer(b"bogus %d" % number))
    assert len(installer._remembered) <= 8
    device.offer(boot, case["twins"]["honest"], found=installer)
    assert installer.due, installer.state


def test_same_release_again_changes_nothing():
    case, boot = start()
    before = chip.power.count
    installer, pack = device.offer(boot, case["releases"]["1.0.0"])
    assert not installer.due and installer.refused is None and installer.state["state"] == "idle"
    assert chip.power.count == before and not pack.ranges
    checked = []
    installer._admit = checked.append
    device.offer(boot, case["releases"]["1.0.0"], found=installer)
    assert not checked, "it comes at every connect, and a signature check takes a quarter of a second"


def test_second_offer_while_one_waits_is_busy():
    case, boot = start()
    installer, _ = device.offer(boot, case["twins"]["honest"])
    assert installer.state["state"] == "pending-reboot"
    again, _ = device.offer(boot, case["twins"]["this device"])
    assert not again.due and again.refused["reason"] == "busy"
    assert device.boot().release.digest == case["twins"]["honest"]["manifest"]


def test_flash_fault_is_reported_and_nothing_is_lost():
    import errno

    case, boot = start()

    class Broken(device.MemoryPack):
        async def readinto(self, view):
            raise OSError(errno.EIO)

    installer, _ = device.offer(boot, case["twins"]["honest"], Broken(b""))
    assert installer.state["state"] == "failed" and installer.refused["reason"] == "state"
    assert device.boot().release.version == "1.0.0"


def test_progress_is_reported():
    case, boot = start()
    from gatehouse import installer as module

    states = []
    real = module.Installer

    class Watched(real):
        def __init__(self, boot):
            real.__init__(self, boot, lambda: states.append((self.state["state"], self.state["done"])))

    module.Installer = Watched
    try:
        device.offer(boot, case["twins"]["honest"])
    finally:
        module.Installer = real
    assert states[0] == ("downloading", 0) and states[-1][0] == "pending-reboot"
    assert ("installing", 4) in states
