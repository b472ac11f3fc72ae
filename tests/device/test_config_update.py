"""The component ["config"]: tried and confirmed like an application, with a way back to the last good one."""

import os

import fake_chip as chip
import fake_device as device
from harness import cases, raises

HEAP = "8M"  # the flash is in RAM here

FACTORY, NEW, NEWER = "http://factory.example/", "http://new.example/", "http://newer.example/"


def start():
    case = device.decode(cases("components"), "pack")
    device.provision(case)
    boot = device.boot()
    device.clock(case["now"])
    assert (boot.mode, boot.config.base, boot.generation) == ("active", FACTORY, 1), boot.failure
    return case, boot


def offer(case, boot, name):
    installer, _ = device.offer(boot, case["offers"][name])
    return installer


def take(case, boot, name):
    """Offer, and the boot that follows."""
    installer = offer(case, boot, name)
    assert installer.due, installer.state
    boot = device.boot()
    device.clock(case["now"])
    return boot


def confirmed(case, boot, name):
    boot = take(case, boot, name)
    assert boot.mode == "trial", boot.failure
    boot.confirm()
    return boot


def configs():
    return sorted(name for name in os.listdir("/state") if name.startswith("config"))


def test_configuration_is_tried_and_confirmed():
    case, boot = start()
    boot = take(case, boot, "config")
    assert (boot.mode, boot.config.base, boot.config.trial_s) == ("trial", NEW, 88)
    assert boot.release.version == "1.0.0" and boot.release.slot == "a"
    boot.confirm()
    floors = boot.record.floors
    assert floors[1]["config"] == [case["offers"]["config"]["sequence"], case["offers"]["config"]["manifest"]]
    assert floors[1]["app"][0] == case["releases"]["1.0.0"]["sequence"], "an application's floor is not its business"
    boot = device.boot()
    assert (boot.mode, boot.config.base, boot.record.last) == ("active", NEW, 1)


def test_configuration_that_shows_no_health_comes_back_by_itself():
    case, boot = start()
    boot = take(case, boot, "config")
    for _ in range(2):
        boot = device.boot()
        assert (boot.mode, boot.config.base) == ("trial", NEW)
    boot = device.boot()
    assert (boot.mode, boot.config.base, boot.release.version) == ("active", FACTORY, "1.0.0")
    assert boot.record.outcome[:2] == ["rolled-back", "health"]
    device.clock(case["now"])
    assert offer(case, boot, "config").refused["reason"] == "failed-before"
    assert offer(case, boot, "config 2").due


def test_each_refusal_and_its_honest_twin():
    for name, reason in (
        ("config out of bounds", "format"),
        ("config unknown field", "format"),
        ("config by the release key", "right"),
        ("config by a stranger", "key"),
        ("config with another payload", "digest"),
        ("both by the release key", "right"),
        ("both by the operator", "right"),
        ("both, configuration out of bounds", "format"),
    ):
        case, boot = start()
        assert offer(case, boot, name).refused["reason"] == reason, name
        boot = device.boot()
        assert (boot.mode, boot.config.base, boot.release.version) == ("active", FACTORY, "1.0.0")
        device.clock(case["now"])
        assert offer(case, boot, "both" if name.startswith("both") else "config").due, name


def test_older_configuration_is_refused():
    case, boot = start()
    boot = confirmed(case, boot, "config 2")
    for name in ("config", "config older"):
        assert offer(case, boot, name).refused["reason"] == "sequence"
    installer = offer(case, boot, "config 2")
    assert not installer.due and not installer.refused, "it is there already"


def test_application_and_configuration_take_effect_together_or_not_at_all():
    case, boot = start()
    boot = take(case, boot, "both")
    assert (boot.mode, boot.release.version, boot.config.trial_s) == ("trial", "1.0.0", 88)
    assert boot.release.slot == "b"
    for _ in range(3):
        boot = device.boot()
    assert (boot.mode, boot.release.slot, boot.config.base) == ("active", "a", FACTORY)

    case, boot = start()
    boot = confirmed(case, boot, "both")
    boot = device.boot()
    assert (boot.mode, boot.release.slot, boot.config.trial_s) == ("active", "b", 88)
    sequence = case["offers"]["both"]["sequence"]
    assert [boot.record.floors[1][name][0] for name in ("app", "config")] == [sequence, sequence]


def test_last_good_and_factory_configuration_can_be_restored():
    case, boot = start()
    boot = confirmed(case, boot, "config")
    boot = confirmed(case, boot, "config 2")
    assert configs() == ["config-1.suit", "config-2.suit", "config-3.suit"]
    boot.restore()
    boot = device.boot()
    assert (boot.mode, boot.config.base) == ("trial", NEW)
    boot.confirm()
    boot = device.boot()
    assert (boot.mode, boot.config.base) == ("active", NEW)
    boot.restore(factory=True)
    from gatehouse import Refused  # that of this boot

    with raises(Refused, "busy"):
        boot.restore()
    boot = device.boot()
    assert (boot.mode, boot.config.base) == ("trial", FACTORY)
    for _ in range(3):
        boot = device.boot()  # it shows no health either: back to what worked
    assert (boot.mode, boot.config.base, boot.record.floors[4]) == ("active", NEW, [])


def test_only_what_is_needed_stays():
    case, boot = start()
    for name in ("config", "config 2", "updates off", "updates on"):
        if case["offers"][name]["sequence"] < boot.record.floors[1].get("config", (0,))[0]:
            continue
        boot = confirmed(case, boot, name)
    assert len(configs()) == 3 and "config-1.suit" in configs()


def test_damaged_configuration_falls_back_to_the_last_good_then_to_the_factory():
    case, boot = start()
    boot = confirmed(case, boot, "config")
    boot = confirmed(case, boot, "config 2")
    device.write("/state/config-3.suit", b"rotten")
    boot = device.boot()
    assert (boot.mode, boot.config.base, boot.failure.reason) == ("active", NEW, "format")
    os.remove("/state/config-2.suit")
    boot = device.boot()
    assert (boot.mode, boot.config.base) == ("active", FACTORY)
    device.write("/state/config-1.suit", case["offers"]["config"]["envelope"])
    boot = device.boot()
    assert (boot.mode, boot.config.broker) == ("active", "localhost")
    assert boot.config.base not in (NEW, FACTORY), "another one is not the factory's, signed or not"


def test_older_configuration_put_back_on_flash_is_not_used():
    case, boot = start()
    boot = confirmed(case, boot, "config")
    boot = confirmed(case, boot, "config 2")
    device.write("/state/config-3.suit", case["offers"]["config"]["envelope"])
    boot = device.boot()
    assert boot.failure.reason == "digest"
    boot.record.configs = {}  # whoever writes the flash writes the record too: then the floor in NVS stands
    boot.record.active.config = 3
    boot.record.last = 1
    boot.record.save()
    chip.NVS("gatehouse")  # untouched
    boot.record.floors[2]["config"] = 0
    device.write("/state/config-3.suit", case["offers"]["config that is the factory's age"]["envelope"])
    boot = device.boot()
    assert boot.failure.reason == "sequence" and boot.config.base == FACTORY


def test_lost_record_keeps_the_confirmed_configuration():
    case, boot = start()
    boot = confirmed(case, boot, "config")
    os.remove("/state/boot.cbor")
    boot = device.boot()
    assert (boot.mode, boot.config.base, boot.generation) == ("active", NEW, 2)


def test_release_before_must_not_run_again_where_the_manifest_says_so():
    for name, survives in (("app", True), ("app, no return", False)):
        case, boot = start()
        boot = confirmed(case, boot, name)
        device.write("/slots/b/app.mpy", b"rotten")
        boot = device.boot()
        assert (boot.mode == "active") is survives, name
