"""The component ["firmware"]: all or nothing switches, a trial has one try, and the power may go at each operation."""

import asyncio
import sys

import fake_chip as chip
import fake_device as device
import fake_ota
from harness import cases

HEAP = "8M"  # the flash is in RAM here


def start(ota_blocks=8):
    case = device.decode(cases("firmware_update"))
    device.provision(case, ota_blocks=ota_blocks)
    boot = device.boot()
    device.clock(case["now"])
    assert boot.mode == "active", boot.failure
    return case, boot


def offer(case, boot, name):
    """Offer a manifest whose packs lie under their URIs."""
    import gatehouse
    from gatehouse import installer

    packs = case["offers"][name]["packs"]

    class Source:
        @staticmethod
        def open_source(uri, *_):
            return device.MemoryPack(packs[uri])

    sys.modules["gatehouse.source"] = gatehouse.source = Source
    found = installer.Installer(boot)
    found.due = asyncio.run(found.offer(case["offers"][name]["envelope"]))
    return found


def booted(cause=chip.HARD):
    """Boot as after a reset, and again for each reset that the boot itself makes."""
    for _ in range(6):
        try:
            return device.boot(cause)
        except chip.Reset:
            cause = chip.HARD
    raise AssertionError("a boot that never ends")


def running():
    return "ota_%d" % chip.ota.running


def take(case, boot, name):
    installer = offer(case, boot, name)
    assert installer.due, installer.state
    boot = booted()
    device.clock(case["now"])
    return boot


def test_image_alone_is_tried_and_confirmed():
    case, boot = start()
    boot = take(case, boot, "image")
    assert (boot.mode, running(), boot.release.slot) == ("trial", "ota_1", "a")
    assert bytes(chip.ota.parts[1].data[: len(case["image"])]) == case["image"]
    boot.confirm()
    item = case["offers"]["image"]
    assert boot.record.floors[1]["firmware"] == [item["sequence"], item["manifest"]]
    for cause in (chip.PWRON, chip.HARD, chip.WATCHDOG):
        boot = booted(cause)
        assert (boot.mode, running(), boot.record.active.partition) == ("active", "ota_1", "ota_1")
    device.clock(case["now"])
    installer = offer(case, boot, "image")
    assert not installer.due and not installer.refused, "it is there already"


def test_all_switch_together():
    case, boot = start()
    boot = take(case, boot, "image, app and config")
    assert (boot.mode, running(), boot.release.slot, boot.config.trial_s) == ("trial", "ota_1", "b", 99)
    boot.confirm()
    boot = booted()
    assert (boot.mode, running(), boot.release.slot, boot.config.trial_s) == ("active", "ota_1", "b", 99)


def test_all_roll_back_together():
    for cause in (chip.WATCHDOG, chip.HARD):
        case, boot = start()
        take(case, boot, "image, app and config")
        boot = booted(cause)  # the bootloader gives the image up at its first reset
        assert (boot.mode, running(), boot.release.slot, boot.config.trial_s) == ("active", "ota_0", "a", 77)
        assert boot.record.outcome[:2] == ["rolled-back", "health"]
        device.clock(case["now"])
        assert offer(case, boot, "image, app and config").refused["reason"] == "failed-before"


def test_power_cut_in_a_trial_does_not_condemn_the_image_but_hanging_for_ever_does():
    case, boot = start()
    take(case, boot, "image")
    for _ in range(2):
        boot = booted(chip.PWRON)
        assert (boot.mode, running()) == ("trial", "ota_1")
    boot = booted(chip.PWRON)
    assert (boot.mode, running()) == ("active", "ota_0")
    assert boot.record.outcome[:2] == ["rolled-back", "health"]


def test_slot_that_rots_takes_the_image_back_with_it():
    case, boot = start()
    installer = offer(case, boot, "image, app and config")
    assert installer.due
    device.write("/slots/b/app.mpy", b"rotten")
    boot = booted()
    assert (boot.mode, running(), boot.release.slot, boot.config.trial_s) == ("active", "ota_0", "a", 77)
    assert boot.record.outcome[1] == "digest"


def test_application_is_judged_by_the_image_that_comes_with_it():
    import gatehouse

    case, boot = start()
    assert offer(case, boot, "app for a later core").refused["reason"] == "core"
    assert offer(case, boot, "app behind its image").refused["reason"] == "core", "the image has to come first"
    assert offer(case, boot, "image that the app cannot run on").refused["reason"] == "core"
    installer = offer(case, boot, "image and app")
    assert installer.due, installer.state
    # The new image brings core 1.1.0; here the same core runs, so that the slot cannot start: both go back.
    boot = booted()
    assert gatehouse.VERSION == "1.0.0" and boot.record.outcome[1] == "core"
    assert (boot.mode, running(), boot.release.slot) == ("active", "ota_0", "a")


def test_board_with_one_partition_refuses_clearly_and_takes_an_application():
    case, boot = start(ota_blocks=None)
    refused = offer(case, boot, "image").refused
    assert refused["reason"] == "component" and "second application partition" in refused["detail"]
    case, boot = start()
    assert offer(case, boot, "image").due


def test_image_that_rots_after_its_confirmation_leaves_a_device_that_runs():
    case, boot = start()
    boot = take(case, boot, "image")
    boot.confirm()
    chip.ota.parts[1].data[0] = 0  # the bootloader takes the other one
    boot = booted()
    assert (boot.mode, running(), boot.failure.reason) == ("active", "ota_0", "state")


def version(case, boot):
    """What runs: all old or all new."""
    found = (running(), boot.release.slot, boot.config.trial_s)
    assert found in (("ota_0", "a", 77), ("ota_1", "b", 99)), found
    return "new" if found[0] == "ota_1" else "old"


def cut_off(act, cut):
    """Run act() with a cut at that operation. Whether it came that far."""
    chip.power.on(cut)
    try:
        act()
        return False
    except chip.PowerCut:
        return True
    finally:
        chip.power.on()


def sweep(act, case, name, step=1):
    saved = chip.snapshot()
    cut = 0
    while True:
        cut += step
        chip.restore(saved)
        if not cut_off(act, cut):
            return cut
        boot = booted(chip.PWRON)
        assert boot.mode != "recovery", (cut, boot.failure)
        version(case, boot)
        if boot.mode == "trial":
            boot.confirm()
        elif boot.record.floors[1].get("firmware", (0,))[0] != case["offers"][name]["sequence"]:
            boot.healthy()
            device.clock(case["now"])
            boot = take(case, boot, name)
            assert boot.mode == "trial", (cut, boot.failure)
            boot.confirm()
        boot = booted(chip.PWRON)
        assert (boot.mode, version(case, boot)) == ("active", "new"), cut


NAME = "image, app and config"


def test_cut_at_each_operation_of_an_install():
    case, _ = start()

    def act():
        boot = device.boot()
        boot.healthy()
        device.clock(case["now"])
        assert offer(case, boot, NAME).due

    cuts = sweep(act, case, NAME, 3)
    print("cuts of an install with an image:", cuts)
    assert cuts > 100


def test_cut_at_each_operation_of_the_switch():
    from gatehouse import update

    case, boot = start()
    boot.healthy()

    def act():
        boot = device.boot()
        device.clock(case["now"])
        from gatehouse import update

        real = update.Installation.switch

        def switch(self, data):
            chip.power.on(cut[0])
            real(self, data)

        update.Installation.switch = switch
        offer(case, boot, NAME)

    assert update
    saved = chip.snapshot()
    cut = [0]
    while True:
        cut[0] += 1
        chip.restore(saved)
        try:
            act()
            break
        except chip.PowerCut:
            pass
        chip.power.on()
        boot = booted(chip.PWRON)
        assert boot.mode != "recovery", (cut, boot.failure)
        version(case, boot)
    assert cut[0] > 10


def test_cut_at_each_operation_of_trial_and_confirm():
    case, boot = start()
    assert offer(case, boot, NAME).due

    def act():
        boot = device.boot(chip.HARD)
        boot.confirm()

    assert sweep(act, case, NAME) > 10


def test_cut_at_each_operation_of_a_roll_back():
    case, boot = start()
    take(case, boot, NAME)
    saved = chip.snapshot()
    cut = 0
    while True:
        cut += 1
        chip.restore(saved)
        if not cut_off(lambda: booted(chip.WATCHDOG), cut):
            break
        boot = booted(chip.PWRON)
        assert boot.mode != "recovery", (cut, boot.failure)
        version(case, boot)
    assert cut > 5


def test_two_power_cuts_right_after_a_confirmation_do_not_lead_to_recovery():
    case, boot = start()
    assert offer(case, boot, NAME).due
    saved = chip.snapshot()
    first = 0
    while True:
        first += 3  # `make powercut` takes every one
        chip.restore(saved)
        boot = device.boot(chip.HARD)
        assert boot.mode == "trial"
        if not cut_off(boot.confirm, first):
            break
        state = chip.snapshot()
        second = 0
        while True:
            second += 1
            chip.restore(state)
            if not cut_off(lambda: booted(chip.PWRON), second):
                break
            boot = booted(chip.PWRON)
            assert boot.mode != "recovery", (first, second, boot.failure)
            assert version(case, boot) == "new"
            otadata = chip.ota.entry(chip.ota.active())[1]
            assert boot.mode == "trial" or otadata == fake_ota.VALID, "or the bootloader would go back at every reset"
    assert first > 5


def test_confirmed_image_that_crashes_before_the_core_runs_ends_in_recovery():
    case, boot = start()
    boot = take(case, boot, NAME)

    def gone():
        raise chip.PowerCut

    from gatehouse import image

    image.keep = gone  # the power goes between the record and otadata
    try:
        boot.confirm()
    except chip.PowerCut:
        pass
    modes = []
    for cause in (chip.PWRON, chip.WATCHDOG, chip.WATCHDOG, chip.WATCHDOG, chip.WATCHDOG):
        try:
            modes.append(device.boot(cause).mode)  # on the old partition, since the bootloader went back
        except chip.Reset:
            chip.start(chip.HARD)  # the new image, which crashes at once
    assert modes and set(modes) == {"recovery"}, modes


def test_image_that_was_written_is_the_one_that_the_manifest_has_verified():
    """A signed manifest whose digest is one to fetch and another to verify: what was fetched does not count as it."""
    from gatehouse import suit, update

    class Done(update.Installation):
        def __init__(self, image):
            self._image = image

    done = Done((b"d" * 32, 5))
    assert done._matches("firmware", {suit.IMAGE_DIGEST: b"d" * 32, suit.IMAGE_SIZE: 5})
    for other in (
        {suit.IMAGE_DIGEST: b"e" * 32, suit.IMAGE_SIZE: 5},
        {suit.IMAGE_DIGEST: b"d" * 32, suit.IMAGE_SIZE: 6},
    ):
        assert not done._matches("firmware", other)
