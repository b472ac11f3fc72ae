"""Power cuts at every flash and NVS operation of the core's own life: the device is always one whole version.

Here the core runs alone on a chip in RAM, so that every operation can be tried in seconds; tests/system cuts whole
simulated devices by SIGKILL.
"""

import fake_chip as chip
import fake_device as device
from harness import cases

HEAP = "8M"  # the flash is in RAM here


def whole(case, boot):
    """The version that runs, after a check of every byte of its slot against the host's tree."""
    version = boot.release.version
    found = chip.tree_of(boot.release.root)
    wanted = dict(case["releases"][version]["files"])
    assert found.pop("manifest.suit") == case["releases"][version]["envelope"]
    assert found.pop("index.cbor") == case["releases"][version]["index"]
    assert found == wanted, "slot of %s is not whole" % version
    return version


def sweep(case, act, after, last=4000):
    """Cut at operation 1, 2, ... of `act()` until it ends uncut; after each cut boot, and check with `after(boot)`.

    Returns the number of cuts.
    """
    saved = chip.snapshot()
    for cut in range(1, last):
        chip.restore(saved)
        chip.forget()
        chip.power.on(cut)
        try:
            act()
            return cut - 1
        except chip.PowerCut:
            pass
        chip.power.on()
        boot = device.boot()
        assert boot.mode != "recovery", "cut %d: %s" % (cut, boot.failure)
        after(boot, cut)
    raise AssertionError("never ended")


def take(case, version):
    boot = device.boot()
    device.clock(case["now"])
    installer, pack = device.offer(boot, case["releases"][version])
    return boot, installer, pack


def test_cut_during_install():
    case = device.decode(cases("device"))
    device.provision(case)
    new = case["releases"]["1.1.0"]
    fetched = []

    def after(boot, cut):
        if boot.mode == "trial":
            assert whole(case, boot) == "1.1.0"
            boot.confirm()
            return
        assert whole(case, boot) == "1.0.0"
        # Online again, the same offer reaches the target, and what was there is not fetched again.
        device.clock(case["now"])
        installer, pack = device.offer(boot, new)
        assert installer.due, "cut %d: %s" % (cut, installer.state)
        fetched.append(pack.fetched)
        boot = device.boot()
        assert boot.mode == "trial" and whole(case, boot) == "1.1.0"

    cuts = sweep(case, lambda: take(case, "1.1.0"), after)
    print("cuts during install:", cuts)
    assert cuts > 20
    assert fetched[-1] == 0 and fetched[0] > 0, "resume fetched again what was there"


def test_cut_during_trial_and_confirm():
    case = device.decode(cases("device"))
    device.provision(case)
    take(case, "1.1.0")

    def act():
        device.boot().confirm()

    def after(boot, cut):
        assert whole(case, boot) == "1.1.0", "cut %d" % cut
        boot.confirm()
        assert device.boot().mode == "active"
        assert boot.record.floors[1]["app"][0] == case["releases"]["1.1.0"]["sequence"]

    cuts = sweep(case, act, after)
    print("cuts during trial and confirm:", cuts)
    assert cuts > 5


def test_cut_during_roll_back():
    case = device.decode(cases("device"))
    device.provision(case)
    take(case, "1.1.0")
    for _ in range(3):
        device.boot()

    def after(boot, cut):
        assert whole(case, boot) == "1.0.0", "cut %d" % cut
        assert boot.record.outcome[0] == "rolled-back"
        assert device.boot().mode == "active"

    cuts = sweep(case, device.boot, after)
    print("cuts during roll back:", cuts)
    assert cuts > 2


def test_second_cut_during_the_recovery_from_the_first():
    case = device.decode(cases("device"))
    device.provision(case)

    def after(boot, cut):
        if cut % 7:
            return  # every seventh first cut; the whole product is in `make powercut`
        state = chip.snapshot()
        for second in range(1, 4):
            chip.restore(state)
            chip.power.on(second)
            try:
                device.boot()
            except chip.PowerCut:
                pass
            chip.power.on()
            again = device.boot()
            assert whole(case, again) in ("1.0.0", "1.1.0")

    sweep(case, lambda: take(case, "1.1.0"), after)


def test_cut_during_sign_of_health():
    case = device.decode(cases("device"))
    device.provision(case)

    def act():
        device.boot().healthy()

    def after(boot, cut):
        assert whole(case, boot) == "1.0.0"

    assert sweep(case, act, after) > 2
