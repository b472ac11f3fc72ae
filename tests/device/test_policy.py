"""Update policy (NIST IR 8259A, Software Update 5 and 6), and what refused offers may cost."""

import asyncio

import fake_device as device
from harness import cases

HEAP = "8M"  # the flash is in RAM here


def start(configuration=None):
    """A device on 1.0.0, perhaps with another configuration confirmed."""
    case = device.decode(cases("components"), "pack")
    device.provision(case)
    boot = device.boot()
    device.clock(case["now"])
    if configuration:
        installer, _ = device.offer(boot, case["offers"][configuration])
        assert installer.due, installer.state
        boot = device.boot()
        boot.confirm()
        boot = device.boot()
        device.clock(case["now"])
    assert boot.mode == "active", boot.failure
    return case, boot


def application(case):
    """An application that is newer than the configurations."""
    return case["offers"]["app by the old key, later"]


def test_updating_can_be_disabled_and_enabled_again():
    case, boot = start("updates off")
    installer, pack = device.offer(boot, application(case))
    assert (installer.state["state"], installer.state["reason"]) == ("failed", "disabled") and not pack.ranges
    installer, _ = device.offer(boot, case["offers"]["updates on"])
    assert installer.due, "the configuration is not governed by it"
    boot = device.boot()
    boot.confirm()
    device.clock(case["now"])
    installer, _ = device.offer(boot, application(case))
    assert installer.due


def test_on_command_nothing_is_downloaded_or_installed_by_itself():
    from gatehouse import policy

    case, boot = start("manual")
    installer, pack = device.offer(boot, application(case))
    assert not installer.due and not pack.ranges and not installer.ready(application(case)["envelope"])
    assert (installer.state["state"], installer.state["detail"]) == ("available", "download on command")
    assert installer.approve(policy.DOWNLOAD) and installer.ready(application(case)["envelope"])
    installer, pack = device.offer(boot, application(case), found=installer)
    assert not installer.due and pack.ranges and boot.record.trial is None
    assert installer.state["state"] == "downloaded" and not installer.ready(application(case)["envelope"])
    assert installer.approve(policy.INSTALL) and installer.ready(application(case)["envelope"])
    installer, pack = device.offer(boot, application(case), found=installer)
    assert installer.due and not pack.ranges, "it was there"
    assert device.boot().mode == "trial"


def test_approval_is_for_what_was_offered():
    from gatehouse import policy

    case, boot = start("manual")
    installer, _ = device.offer(boot, application(case))
    installer.approve(policy.INSTALL)
    other = case["offers"]["app by the new key"]
    installer, _ = device.offer(boot, other, found=installer)
    assert installer.refused["reason"] == "key"
    installer, _ = device.offer(boot, application(case), found=installer)
    assert installer.due
    fresh, _ = device.offer(device.boot(), application(case))
    assert not fresh.approve(policy.INSTALL), "nothing is held back"


def test_available_update_is_told_unless_that_is_off():
    case, boot = start("manual, not told")
    installer, pack = device.offer(boot, application(case))
    assert installer.state["state"] == "confirmed" and not pack.ranges  # of the configuration
    assert not installer.ready(application(case)["envelope"])


def test_installed_only_within_the_maintenance_window():
    case, boot = start("window")
    installer, pack = device.offer(boot, application(case))
    assert (
        installer.state["state"] == "downloaded" and pack.ranges and not installer.ready(application(case)["envelope"])
    )
    device.clock(case["now"] + 9 * 60)
    assert not installer.ready(application(case)["envelope"])
    device.clock(case["now"] + 15 * 60 + 59)
    assert not installer.ready(application(case)["envelope"])
    device.clock(case["now"] + 10 * 60 + 59)
    assert installer.ready(application(case)["envelope"])
    installer, _ = device.offer(boot, application(case), found=installer)
    assert installer.due


def test_bounds_of_the_window():
    from gatehouse import Refused, cbor, config

    for window in ([0, 1], [1439, 1440], []):
        assert config.parse(cbor.dumps({17: window})).window == window
    for window in ([1440, 5], [-1, 5], [0, 0], [0, 1441], [0], [0, 1, 2], [True, 5], "ab", 5):
        try:
            config.parse(cbor.dumps({17: window}))
        except Refused as error:
            assert error.reason == "format"
        else:
            raise AssertionError(window)


def test_a_thousand_bogus_offers_cost_few_signature_checks_and_no_flash():
    import fake_chip as chip
    from gatehouse import trust

    case, boot = start()
    honest = case["offers"]["app"]["envelope"]
    at = honest.index(b"\x58\x40") + 2
    checks = []
    real = trust.Key.verify

    def counted(self, message, signature):
        checks.append(1)
        return real(self, message, signature)

    trust.Key.verify = counted
    installer, _ = device.offer(boot, case["offers"]["app by the new key"])  # an unknown key: no check at all
    assert installer.refused["reason"] == "key" and not checks
    installer._wait_for_budget, wait = _no_wait, installer._wait_for_budget
    operations = chip.power.count
    waited = []

    async def flood():
        for number in range(1000):
            bogus = honest[:at] + number.to_bytes(64, "big") + honest[at + 64 :]
            if installer._budget <= 0:
                waited.append(number)  # here a device waits until it may check another
                break
            await installer.offer(bogus)

    import sys

    asyncio.run(flood())
    assert len(sys.modules) and waited == [8], "the ninth has to wait"
    assert chip.power.count - operations < 60, "few of them are journaled"
    installer._wait_for_budget = wait
    installer._budget_ms -= 5000  # the time in which one more is checked
    device.offer(boot, case["offers"]["app"], found=installer)
    assert installer.due


async def _no_wait():
    pass
