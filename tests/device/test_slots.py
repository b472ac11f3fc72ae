"""The rows of docs/boot.md: what each boot record and each damaged slot lead to."""

import os

import fake_chip as chip
import fake_device as device
from harness import cases, raises

HEAP = "8M"  # the flash is in RAM here


def start(version="1.0.0"):
    case = device.decode(cases("device"))
    device.provision(case, version)
    return case


def updated(case, version="1.1.0"):
    """Boot, take a release, and leave the device before the reset into its trial."""
    boot = device.boot()
    device.clock(case["now"])
    installer, _ = device.offer(boot, case["releases"][version])
    assert installer.due, installer.state
    return boot


def record():
    from gatehouse import record

    return record.Record(record.load(record.PATH))


def floors():
    from gatehouse import cbor

    return cbor.loads(chip.NVS("gatehouse").values["floors"])


def test_row_1_active_release_runs():
    start()
    boot = device.boot()
    assert (boot.mode, boot.release.version, boot.release.slot) == ("active", "1.0.0", "a")
    assert record().quiet == 1
    assert boot.boot_count == 1
    assert device.boot().boot_count == 2


def test_sign_of_health_resets_the_count():
    start()
    for _ in range(10):
        boot = device.boot()
        assert boot.mode == "active"
        boot.healthy()
        assert record().quiet == 0


def test_row_4_three_quiet_boots_lead_to_recovery():
    start()
    assert [device.boot().mode for _ in range(4)] == ["active", "active", "active", "recovery"]


def test_row_2_trial_runs_and_confirms():
    case = start()
    updated(case)
    boot = device.boot()
    assert (boot.mode, boot.release.version, boot.release.slot) == ("trial", "1.1.0", "b")
    assert record().tries == 2
    assert record().floors[1]["app"][0] == case["releases"]["1.0.0"]["sequence"], "the floor moves on confirm only"
    boot.confirm()
    assert boot.mode == "active"
    found = record()
    assert found.active.digest == case["releases"]["1.1.0"]["manifest"] and found.trial is None
    assert found.floors[1]["app"] == [case["releases"]["1.1.0"]["sequence"], case["releases"]["1.1.0"]["manifest"]]
    assert found.floors[2]["app"] == case["releases"]["1.0.0"]["sequence"]
    assert floors() == found.floors
    boot = device.boot()
    assert (boot.mode, boot.release.version) == ("active", "1.1.0")


def test_row_3_trial_without_tries_rolls_back():
    case = start()
    updated(case)
    assert [device.boot().mode for _ in range(3)] == ["trial", "trial", "trial"]
    boot = device.boot()
    assert (boot.mode, boot.release.version) == ("active", "1.0.0")
    found = record()
    digest = case["releases"]["1.1.0"]["manifest"]
    assert found.outcome == ["rolled-back", "health", digest, case["releases"]["1.1.0"]["sequence"]]
    assert digest in found.floors[4] and digest in floors()[4]
    # The same digest is not tried again; another release is.
    device.clock(case["now"])
    installer, _ = device.offer(boot, case["releases"]["1.1.0"])
    assert not installer.due and installer.refused["reason"] == "failed-before"
    assert installer.state["state"] == "rolled-back", "a retained offer must not hide how the release failed"
    installer, _ = device.offer(boot, case["releases"]["1.2.0"])
    assert installer.due


def test_trial_that_does_not_verify_is_failed_at_once():
    case = start()
    updated(case)
    device.write("/slots/b/app.mpy", b"rot")
    boot = device.boot()
    assert (boot.mode, boot.release.version) == ("active", "1.0.0")
    assert record().outcome[:2] == ["rolled-back", "digest"]
    assert len(floors()[4]) == 1 and floors() == record().floors, "NVS knows in this boot, not in the next one"


def test_rotten_active_slot_falls_back_to_the_release_before():
    case = start()
    updated(case)
    device.boot().confirm()
    device.write("/slots/b/app.mpy", b"rot")
    boot = device.boot()
    assert (boot.mode, boot.release.version, boot.release.slot) == ("active", "1.0.0", "a")
    assert record().outcome[0] == "rolled-back"
    assert floors()[3] == boot.release.digest and floors() == record().floors
    # The install floor stands: what is older than the lost release is not taken, the lost release itself is.
    device.clock(case["now"])
    installer, _ = device.offer(boot, case["releases"]["1.0.5"])
    assert installer.refused["reason"] == "sequence"
    installer, _ = device.offer(boot, case["releases"]["1.1.0"])
    assert installer.due


def test_slot_below_the_boot_floor_does_not_run():
    case = start()
    updated(case)
    device.boot().confirm()
    updated(case, "1.2.0")  # into slot a
    device.boot().confirm()
    # An attacker with the flash in hand puts the first release into slot b, and the newest one is damaged.
    from gatehouse import unpack  # noqa: F401

    for path in list(chip.tree_of("/slots/b")):
        os.remove("/slots/b/" + path)
    device.put_release(case["releases"]["1.0.0"], "/slots/b")
    device.write("/slots/a/app.mpy", b"rot")
    assert device.boot().mode == "recovery"


def test_both_slots_rotten_lead_to_recovery():
    start()
    device.write("/slots/a/app.mpy", b"rot")
    boot = device.boot()
    assert boot.mode == "recovery" and boot.failure.reason == "digest"


def test_extra_file_in_the_slot_is_not_run():
    start()
    device.write("/slots/a/extra.mpy", b"")
    boot = device.boot()
    assert boot.mode == "recovery" and boot.failure.reason == "extraneous"
    os.remove("/slots/a/extra.mpy")
    os.mkdir("/slots/a/empty")
    boot = device.boot()
    assert boot.mode == "recovery" and boot.failure.reason == "extraneous"
    os.rmdir("/slots/a/empty")
    chip.NVS("gatehouse")
    from gatehouse import record as records

    found = record()
    found.quiet = 0
    found.save()
    assert records.PATH
    assert device.boot().mode == "active"


def test_row_6_lost_record_is_rebuilt_from_nvs():
    case = start()
    updated(case)
    device.boot().confirm()
    before = record()
    for damage in (None, b"", b"\x00" * 40, b"\xff" * 200):
        if damage is None:
            os.remove("/state/boot.cbor")
        else:
            device.write("/state/boot.cbor", damage)
        boot = device.boot()
        assert (boot.mode, boot.release.version) == ("active", "1.1.0")
        found = record()
        assert found.floors == before.floors and found.active.digest == before.active.digest


def test_row_7_lost_record_and_confirmed_slot_give_the_other_one_try():
    case = start()
    updated(case)
    device.boot().confirm()
    os.remove("/state/boot.cbor")
    device.write("/slots/b/app.mpy", b"rot")
    boot = device.boot()
    assert (boot.mode, boot.release.version) == ("trial", "1.0.0")
    assert record().tries == 0
    assert device.boot().mode == "recovery", "one try, not two"


def test_row_7_never_a_release_that_failed():
    case = start()
    updated(case)
    for _ in range(4):
        device.boot()
    # Slot b still holds the failed release, the record is gone and slot a is damaged.
    os.remove("/state/boot.cbor")
    device.write("/slots/a/app.mpy", b"rot")
    assert device.boot().mode == "recovery"


def test_row_8_nothing_verifies():
    start()
    os.remove("/state/boot.cbor")
    os.remove("/slots/a/manifest.suit")
    assert device.boot().mode == "recovery"
    assert record().active is None


def test_nvs_follows_the_record():
    start()
    chip.NVS("gatehouse").values["floors"] = b"\xff\xff"
    device.boot()
    assert floors() == record().floors
    # The higher floor wins, whichever side has it.
    from gatehouse import cbor

    higher = floors()
    higher[1]["app"] = [higher[1]["app"][0] + 5, b"\x01" * 32]
    chip.NVS("gatehouse").values["floors"] = cbor.dumps(higher)
    device.boot()
    assert record().floors[1]["app"] == higher[1]["app"] == floors()[1]["app"]


def test_deadline_of_a_trial_ends_the_feeding():
    case = start()
    updated(case)
    boot = device.boot()
    from gatehouse import slots

    now = [0]

    class Time:
        ticks_diff = staticmethod(lambda a, b: a - b)
        ticks_ms = staticmethod(lambda: now[0])

    slots.time, real = Time, slots.time
    try:
        boot._deadline = 1000
        fed = chip.WDT.fed
        boot.feed()
        assert chip.WDT.fed == fed + 1
        now[0] = 1001
        boot.feed()
        assert chip.WDT.fed == fed + 1, "fed beyond the deadline"
        boot.confirm()
        boot.feed()
        assert chip.WDT.fed == fed + 2
    finally:
        slots.time = real


def test_foreign_trust_store_is_not_taken():
    case = start()
    device.write("/state/trust.suit", case["other_trust"])
    boot = device.boot()
    assert boot.mode == "recovery" and boot.failure.reason == "key"
    device.write("/state/trust.suit", case["trust"])
    assert device.boot().mode == "active"


def test_unsigned_configuration_is_not_taken():
    case = start()
    assert device.boot().config.trial_s == case["trial_s"]
    device.write("/state/config-1.suit", case["other_config"])
    boot = device.boot()
    assert boot.mode == "active" and boot.config.trial_s != case["trial_s"]
    assert boot.failure.reason == "key"


def test_record_keeps_the_old_one_when_flash_lies():
    start()
    from gatehouse import Refused, record

    old = record.load(record.PATH)
    # Flash that does not give back what was written is caught before the rename.
    real = record.load
    record.load = lambda path, limit=0: b"something else"
    try:
        with raises(Refused, "state"):
            record.save(record.PATH, b"new")
    finally:
        record.load = real
    assert record.load(record.PATH) == old


def test_full_flash_does_not_keep_the_device_from_starting():
    start()
    filler = open("/state/filler", "wb")
    try:
        while True:
            filler.write(b"\x55" * 1024)
    except OSError:
        pass
    try:
        filler.close()
    except OSError:
        pass
    boot = device.boot()
    assert boot.mode == "active" and boot.release.version == "1.0.0"
    boot.healthy()
    os.remove("/state/filler")
    boot = device.boot()
    assert boot.mode == "active" and boot.failure is None
