"""What boot does not run, whoever wrote it into the flash: each attack, and that the honest twin runs."""

import os

import fake_chip as chip
import fake_device as device
from harness import cases

HEAP = "8M"  # the flash is in RAM here


def boot_of(case, version="honest"):
    device.provision(case, version)
    return device.boot()


def test_release_that_the_boot_record_names_is_verified_all_the_same():
    case = device.decode(cases("boot"))
    boot = boot_of(case)
    assert (boot.mode, boot.failure) == ("active", None)
    wrong = []
    for name, reason in case["reasons"].items():
        boot = boot_of(case, name)
        found = boot.failure and boot.failure.reason
        if boot.mode != "recovery" or boot.release is not None or found != reason:
            wrong.append("%s: %s, %s instead of %s" % (name, boot.mode, found, reason))
    assert not wrong, "\n".join(wrong)


def test_everything_of_a_thief_but_the_root_digest():
    case = device.decode(cases("boot"))
    thief = case["thief"]
    case["trust"], case["config"], case["releases"]["honest"] = thief["trust"], thief["config"], thief["release"]
    boot = boot_of(case)
    assert boot.mode == "recovery" and boot.release is None and boot.failure.reason == "key"


def test_configuration_is_verified_at_every_boot():
    case = device.decode(cases("boot"))
    assert boot_of(case).config.trial_s == 78
    for name, data in case["configs"].items():
        device.write("/state/config-1.suit", data)
        boot = device.boot()
        boot.healthy()
        assert boot.mode == "active" and boot.config.trial_s != 78, name
        assert boot.failure.reason == case["config_reasons"][name], "%s: %s" % (name, boot.failure)


def provisioned():
    case = device.decode(cases("device"))
    device.provision(case)
    return case


def updated(case):
    """Take a release, and leave the device before the reset into its trial."""
    boot = device.boot()
    device.clock(case["now"])
    installer, _ = device.offer(boot, case["releases"]["1.1.0"])
    assert installer.due, installer.state


def fill(folder):
    """Files of falling size, until not even the smallest fits."""
    number = 0
    for size in (4096, 1024, 100):
        try:
            while True:
                with open("%s/filler%d" % (folder, number), "wb") as file:
                    file.write(bytes(size))
                number += 1
        except OSError:
            pass


def test_slot_with_another_signed_release_than_the_record_names():
    case = provisioned()
    assert device.boot().mode == "active"
    for path in chip.tree_of("/slots/a"):
        os.remove("/slots/a/" + path)
    device.put_release(case["releases"]["1.0.5"], "/slots/a")
    boot = device.boot()
    assert boot.mode == "recovery" and boot.failure.reason == "digest"


def test_trial_that_cannot_be_counted_does_not_run():
    case = provisioned()
    updated(case)
    fill("/state")
    boot = device.boot()
    assert (boot.mode, boot.release.version) == ("active", "1.0.0")
    for name in os.listdir("/state"):
        if name.startswith("filler"):
            os.remove("/state/" + name)
    boot = device.boot()
    assert (boot.mode, boot.release.version) == ("trial", "1.1.0")


def test_failed_release_is_nothing_to_fall_back_to():
    case = provisioned()
    updated(case)
    for _ in range(4):  # three tries, and the boot that ends them
        boot = device.boot()
    assert (boot.mode, boot.release.version) == ("active", "1.0.0")
    device.write("/slots/a/app.mpy", b"rot")
    boot = device.boot()
    assert boot.mode == "recovery" and boot.failure.reason == "digest"


def test_trial_has_the_deadline_of_the_configuration():
    import time

    case = provisioned()
    updated(case)
    boot = device.boot()
    assert boot.mode == "trial"
    left = time.ticks_diff(boot._deadline, time.ticks_ms())
    assert (case["trial_s"] - 60) * 1000 < left <= case["trial_s"] * 1000
    boot.confirm()
    assert boot._deadline is None
    assert device.boot()._deadline is None


def test_only_a_trial_is_confirmed_and_only_an_active_release_is_healthy():
    case = provisioned()
    boot = device.boot()
    before = boot.record.dumps()
    boot.confirm()
    assert boot.record.dumps() == before
    updated(case)
    boot = device.boot()
    before = boot.record.dumps()
    boot.healthy()
    assert boot.record.dumps() == before and boot.record.quiet == 3


def test_slot_comes_last_on_the_path():
    import sys

    provisioned()
    device.boot()
    from gatehouse import slots

    class App:
        run = staticmethod(lambda boot: ran.append((boot, list(sys.path))))

    ran = []
    before = list(sys.path)
    sys.modules["app"] = App
    try:
        slots.run()
    finally:
        del sys.modules["app"]
        sys.path[:] = before
    assert ran == [(slots.current, before + ["/slots/a"])]
