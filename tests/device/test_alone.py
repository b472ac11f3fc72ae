"""Boards whose heap does not hold the application and an update at once: the core alone installs."""

import os

import fake_chip as chip
import fake_device as device
from harness import cases

HEAP = "8M"  # the flash is in RAM here


def start(alone=True):
    from gatehouse import cbor

    case = device.decode(cases("components"), "pack")
    identity = cbor.loads(case["nvs"]["identity"])
    identity[8] = alone
    case["nvs"]["identity"] = cbor.dumps(identity)
    device.provision(case)
    return case, again(case)


def again(case):
    boot = device.boot()
    device.clock(case["now"])
    return boot


def test_application_leaves_the_offer_to_the_next_boot():
    case, boot = start()
    installer, pack = device.offer(boot, case["offers"]["app"])
    assert installer.due and not pack.ranges and boot.record.trial is None
    assert boot.record.quiet == 0, "a boot that only installs must not bring the release into recovery"
    boot = again(case)
    assert (boot.mode, boot.release.version) == ("install", "1.0.0")
    assert boot.pending == case["offers"]["app"]["envelope"] and "offer.suit" not in os.listdir("/state")
    installer, pack = device.offer(boot, {"envelope": boot.pending, "pack": case["pack"]})
    assert installer.due and pack.ranges
    boot = again(case)
    assert boot.mode == "trial"
    boot.confirm()
    assert again(case).mode == "active"


def test_offer_is_left_once_whatever_comes_of_it():
    case, boot = start()
    device.offer(boot, case["offers"]["app"])
    assert again(case).mode == "install"
    boot = again(case)  # it crashed, or the power went
    assert (boot.mode, boot.pending) == ("active", None)


def test_core_alone_that_crashes_gets_another_try_after_an_hour():
    case, boot = start()
    assert device.offer(boot, case["offers"]["app"])[0].due
    assert again(case).mode == "install"
    boot = again(case)  # it crashed
    assert (boot.mode, boot.record.outcome[:2]) == ("active", ["failed", "state"])
    installer, _ = device.offer(boot, case["offers"]["app"])
    assert not installer.due and installer.again
    from gatehouse import status

    status.uptime = lambda: 3600
    assert device.offer(boot, case["offers"]["app"])[0].due


def test_bogus_offer_does_not_cost_a_restart():
    case, boot = start()
    installer, _ = device.offer(boot, case["offers"]["app by the new key"])
    assert not installer.due and installer.refused["reason"] == "key"
    assert again(case).mode == "active"


def test_other_boards_install_at_once():
    case, boot = start(alone=False)
    installer, pack = device.offer(boot, case["offers"]["app"])
    assert installer.due and pack.ranges
    assert again(case).mode == "trial"


def test_trial_comes_before_an_offer_that_was_left():
    case, boot = start()
    device.offer(boot, case["offers"]["app"])
    boot = again(case)
    device.offer(boot, {"envelope": boot.pending, "pack": case["pack"]})
    device.write("/state/offer.suit", case["offers"]["config"]["envelope"])
    assert again(case).mode == "trial"
    assert chip.power.count


def no_room(*_):
    raise MemoryError


def test_application_that_finds_no_memory_leaves_the_offer_to_the_core_once():
    case, boot = start(alone=False)
    from gatehouse import update

    bring, update.Installation.bring = update.Installation.bring, no_room
    installer, _ = device.offer(boot, case["offers"]["app"])
    assert installer.due and installer.refused is None
    update.Installation.bring = bring
    boot = again(case)
    assert (boot.mode, boot.pending) == ("install", case["offers"]["app"]["envelope"])
    from gatehouse import update

    update.Installation.bring = no_room
    installer, _ = device.offer(boot, case["offers"]["app"])
    assert not installer.due and installer.refused["reason"] == "memory"
    boot = again(case)
    assert boot.mode == "active" and boot.record.outcome[:2] == ["failed", "memory"]
    from gatehouse import update

    update.Installation.bring = no_room
    installer, _ = device.offer(boot, case["offers"]["app"])
    assert not installer.due and installer.refused["reason"] == "memory", "or it would restart for ever"
    from gatehouse import status

    status.uptime = lambda: 3600
    from gatehouse import update

    update.Installation.bring = no_room
    installer, _ = device.offer(boot, case["offers"]["app"])
    assert not installer.due, "it fits no better an hour later"
    installer, _ = device.offer(boot, case["offers"]["config 2"])
    assert installer.due, "another offer gets its own chance"


def test_application_keeps_room_for_its_reports_and_the_core_alone_does_not():
    case, boot = start(alone=False)
    from gatehouse import unpack

    fill, asked = unpack.fill, []

    def watched(*arguments):
        asked.append(arguments[8])
        return fill(*arguments)

    unpack.fill = watched
    assert device.offer(boot, case["offers"]["app"])[0].due
    case, boot = start()
    device.offer(boot, case["offers"]["app"])
    boot = again(case)
    from gatehouse import unpack

    unpack.fill = watched
    assert device.offer(boot, {"envelope": boot.pending, "pack": case["pack"]})[0].due
    assert asked == [6144, 0]


def test_offer_that_is_not_admitted_never_costs_a_restart():
    case, boot = start(alone=False)
    from gatehouse import admission

    admission.authenticate = no_room
    installer, _ = device.offer(boot, case["offers"]["app"])
    assert not installer.due and installer.refused["reason"] == "memory"
    assert again(case).mode == "active"


def test_update_that_the_policy_holds_back_costs_no_restart():
    case, boot = start()
    device.offer(boot, case["offers"]["window"])
    boot = again(case)
    device.offer(boot, {"envelope": boot.pending, "pack": case["pack"]})
    boot = again(case)
    boot.confirm()
    boot = again(case)
    installer, pack = device.offer(boot, case["offers"]["app by the old key, later"])
    assert not installer.due and not pack.ranges and installer.state["state"] == "available"
    device.clock(case["now"] + 11 * 60)
    assert installer.ready(case["offers"]["app by the old key, later"]["envelope"])
    installer, _ = device.offer(boot, case["offers"]["app by the old key, later"], found=installer)
    assert installer.due


def alone_and_back(case, boot, name, pack):
    """Offer to the application; how many times the core alone ran in five boots that are offered it again."""
    alone = 0
    for _ in range(5):
        installer, _ = device.offer(boot, case["offers"][name], pack and device.MemoryPack(pack))
        if installer.due:
            boot = again(case)
            assert boot.mode == "install"
            alone += 1
            installer, _ = device.offer(boot, {"envelope": boot.pending, "pack": pack})
            assert not installer.due
        boot = again(case)
        assert boot.mode == "active"
        boot.healthy()
    return alone, installer


def test_what_the_core_alone_could_not_install_is_not_left_to_it_again_at_once():
    case, boot = start()
    pack = case["pack"][:-1] + bytes([case["pack"][-1] ^ 1])
    alone, installer = alone_and_back(case, boot, "app", pack)
    assert alone == 1 and installer.refused["reason"] == "digest"
    boot = again(case)
    from gatehouse import status

    status.uptime = lambda: 3600  # an hour later
    assert device.offer(boot, case["offers"]["app"])[0].due
    boot = again(case)
    assert boot.mode == "install"
    assert device.offer(boot, {"envelope": boot.pending, "pack": case["pack"]})[0].due


def test_offer_for_another_class_or_out_of_date_costs_no_restart():
    case, boot = start()
    for name, reason in (("app for another class", "class"), ("app, expired", "expired")):
        installer, _ = device.offer(boot, case["offers"][name])
        assert not installer.due and installer.refused["reason"] == reason
    assert device.offer(boot, case["offers"]["app"])[0].due


def test_approval_reaches_the_core_alone():
    from gatehouse import policy

    case, boot = start()
    device.offer(boot, case["offers"]["manual"])
    boot = again(case)
    device.offer(boot, {"envelope": boot.pending, "pack": case["pack"]})
    boot = again(case)
    boot.confirm()
    boot = again(case)
    release = case["offers"]["app by the old key, later"]
    installer, _ = device.offer(boot, release)
    assert not installer.due and installer.approve(policy.INSTALL)
    device.offer(boot, release, found=installer)
    assert installer.due
    boot = again(case)
    installer, _ = device.offer(boot, {"envelope": boot.pending, "pack": case["pack"]})
    assert installer.due and again(case).mode == "trial"


def test_flash_that_takes_no_offer_is_no_reason_to_stop():
    for path in ("/state/offer.suit", "/state/boot.cbor"):
        case, boot = start(alone=False)
        from gatehouse import record, update

        update.Installation.bring = no_room
        save = record.save

        def full(where, data, path=path, save=save):
            if where == path:
                raise OSError(28)
            save(where, data)

        record.save = full
        before = boot.record.dumps()
        installer, _ = device.offer(boot, case["offers"]["app"])
        assert not installer.due and installer.refused["reason"] == "memory"
        assert boot.record.dumps() == before


def test_recovery_has_nobody_to_leave_an_offer_to():
    case, boot = start(alone=False)
    from gatehouse import update

    update.Installation.bring = no_room
    boot.mode = "recovery"
    installer, _ = device.offer(boot, case["offers"]["app"])
    assert not installer.due and installer.refused["reason"] == "memory"
