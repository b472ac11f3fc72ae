"""The component ["trust"]: rotation and revocation, what must not strand a device, and cuts in the middle of it."""

import fake_chip as chip
import fake_device as device
from gatehouse import cbor
from harness import cases

HEAP = "8M"  # the flash is in RAM here
TIMEOUT = 180  # a cut at each operation: half a minute where other programs run beside it


def start():
    case = device.decode(cases("components"), "pack")
    device.provision(case)
    boot = device.boot()
    device.clock(case["now"])
    assert (boot.mode, boot.trust.version) == ("active", 1), boot.failure
    return case, boot


def offer(case, boot, name):
    installer, _ = device.offer(boot, case["offers"][name])
    return installer


def rotated(case, boot, name):
    installer = offer(case, boot, name)
    assert installer.due, installer.state
    boot = device.boot()
    device.clock(case["now"])
    return boot


def test_revoked_key_signs_nothing_more_while_its_release_runs_on():
    case, boot = start()
    boot = rotated(case, boot, "trust: new release key")
    assert (boot.mode, boot.trust.version, boot.release.version) == ("active", 2, "1.0.0")
    assert boot.record.outcome[0] == "confirmed"
    for name in ("app", "app by the old key, later"):
        assert offer(case, boot, name).refused["reason"] == "key", name
    assert offer(case, boot, "app by the new key").due
    boot = device.boot()
    boot.confirm()
    assert device.boot().mode == "active"


def test_root_revokes_without_a_clock():
    case, boot = start()
    device.clock(None)
    assert offer(case, boot, "app").refused["reason"] == "clock"
    assert offer(case, boot, "trust: new release key").due
    assert boot.record.floors[1]["trust"][0] == 2, "with the same write that tells of it"


def test_date_of_what_is_here_already_is_not_asked_again():
    case, boot = start()
    assert offer(case, boot, "trust: expires").due
    boot = device.boot()
    device.clock(case["now"])
    assert (boot.mode, boot.trust.version) == ("active", 2), boot.failure
    assert offer(case, boot, "config that expires").due
    boot = device.boot()
    boot.confirm()
    device.clock(case["now"])
    assert offer(case, boot, "app, expires").due
    boot = device.boot()
    assert (boot.mode, boot.config.trial_s) == ("trial", 88), boot.failure
    boot.confirm()
    device.clock(None)  # as after a power-on
    boot = device.boot()
    assert (boot.mode, boot.config.trial_s, boot.failure) == ("active", 88, None)


def test_date_is_asked_when_it_is_offered():
    case, boot = start()
    for name in ("trust: expires", "config that expires", "app, expires"):
        device.clock(case["now"] + 11)
        assert offer(case, boot, name).refused["reason"] == "expired", name
    device.clock(case["now"])
    assert offer(case, boot, "config that expires").due


def test_release_signed_by_a_revoked_key_is_not_installed_by_the_keep_list():
    case, boot = start()
    boot = rotated(case, boot, "trust: new release key")
    boot.release = None  # as in recovery: the kept release is not there any more
    installer, _ = device.offer(boot, case["releases"]["1.0.0"])
    assert installer.refused["reason"] == "key"


def test_each_refusal_and_its_honest_twin():
    for name, reason in (
        ("trust: new release key, strands", "strands"),
        ("trust: another keep list", "strands"),
        ("trust: no operator", "strands"),
        ("trust: no release key", "strands"),
        ("trust: a set that nobody can sign", "strands"),
        ("trust: no authority", "strands"),
        ("trust: by the release key", "right"),
        ("trust: by a stranger", "key"),
        ("trust: new root, old signature only", "key"),
        ("trust: new root, new signature only", "key"),
        ("trust: malformed", "format"),
        ("trust with config", "component"),
    ):
        case, boot = start()
        refused = offer(case, boot, name).refused
        assert refused["reason"] == reason, (name, refused)
        with open("/state/trust.suit", "rb") as file:
            assert file.read() == case["trust"], "a refused store touches nothing"
        assert chip.NVS("gatehouse").values["root"] == case["nvs"]["root"]
        twin = "trust: new root" if "root" in name else "trust: new release key"
        assert rotated(case, boot, twin).trust.version == 2, name


def production(sort):
    """Make the core that is loaded now one that is frozen into the image, or the chip one with secure boot on."""
    import sys

    import gatehouse

    if sort == "frozen":
        gatehouse.__file__ = "gatehouse/__init__.py"
    else:
        sys.modules["machine"].mem32 = {16: 1}


# The eFuses of measure.fuses(): one bit of a word each.
FUSES = [[16, 2], [16, 1], [16, 4], [16, 8]]


def with_fuses(case, burned=0):
    import sys

    values = chip.NVS("gatehouse").values
    fields = cbor.loads(case["nvs"]["identity"])
    fields[11] = FUSES
    values["identity"] = cbor.dumps(fields)
    sys.modules["machine"].mem32 = {16: burned}


def test_production_build_takes_no_store_for_development_and_an_open_one_does():
    for sort in ("frozen", "secure boot"):
        case, _ = start()
        with_fuses(case)
        boot = device.boot()
        device.clock(case["now"])
        production(sort)
        refused = offer(case, boot, "trust: dev").refused
        assert refused["reason"] == "dev", (sort, refused)
        assert rotated(case, boot, "trust: new release key").trust.version == 2, sort
        case, _ = start()
        with_fuses(case)
        boot = device.boot()
        device.clock(case["now"])
        boot = rotated(case, boot, "trust: dev")
        assert (boot.mode, boot.trust.version, boot.trust.dev) == ("active", 2, True), sort


def test_production_build_does_not_start_under_a_store_for_development():
    case, _ = start()
    with_fuses(case)
    device.write("/state/trust.suit", case["offers"]["trust: dev"]["envelope"])
    with_fuses(case, 1)
    boot = device.boot()
    assert boot.mode == "recovery" and boot.failure.reason == "dev" and boot.trust is None
    with_fuses(case)
    boot = device.boot()
    assert (boot.mode, boot.trust.dev) == ("active", True)


def test_release_of_a_developer_runs_only_under_a_store_for_development():
    for name, reason in (("trust: dev", None), ("trust: dev key, not flagged", "right")):
        case, boot = start()
        boot = rotated(case, boot, name)
        installer = offer(case, boot, "app by the new key")
        assert bool(installer.due) == (reason is None), (name, installer.refused)
        if reason:
            assert installer.refused["reason"] == reason
        else:
            assert device.boot().mode == "trial"


def test_versions_only_grow():
    case, boot = start()
    old = case["trust"]
    boot = rotated(case, boot, "trust: new root")
    assert offer(case, boot, "trust: same version").refused["reason"] == "key"
    assert offer(case, boot, "trust: third, by the old root").refused["reason"] == "key"
    boot = rotated(case, boot, "trust: third, by the new root")
    assert boot.trust.version == 3
    # Somebody with the flash in hand puts the older ones back.
    for data in (old, case["offers"]["trust: new root"]["envelope"]):
        device.write("/state/trust.suit", data)
        boot = device.boot()
        assert boot.mode == "recovery" and boot.failure.reason in ("key", "sequence"), boot.failure


def test_same_version_is_refused_and_the_same_store_is_there_already():
    case, boot = start()
    assert offer(case, boot, "trust: same version").refused["reason"] == "sequence"
    boot = rotated(case, boot, "trust: new release key")
    installer = offer(case, boot, "trust: new release key")
    assert not installer.due and not installer.refused


def test_running_configuration_of_a_revoked_operator_strands_but_the_factorys_does_not():
    case, boot = start()
    assert rotated(case, boot, "trust: new operator").config.base == "http://factory.example/"
    case, boot = start()
    assert offer(case, boot, "config").due
    boot = device.boot()
    boot.confirm()
    boot = device.boot()
    device.clock(case["now"])
    assert offer(case, boot, "trust: new operator").refused["reason"] == "strands"


def test_no_rotation_while_something_is_on_trial():
    case, boot = start()
    assert offer(case, boot, "app").due
    boot = device.boot()
    device.clock(case["now"])
    assert offer(case, boot, "trust: new release key").refused["reason"] == "busy"


def sweep(case, name, check):
    """Cut the rotation at each operation, and the boot after it at each of its own."""
    saved = chip.snapshot()
    cuts = 0
    while True:
        cuts += 1
        chip.restore(saved)
        chip.forget()
        chip.power.on()
        boot = device.boot()
        boot.healthy()  # or so many boots in a row would end in recovery, as they should
        device.clock(case["now"])
        chip.power.on(cuts)
        try:
            offer(case, boot, name)
            return cuts - 1
        except chip.PowerCut:
            pass
        state = chip.snapshot()
        second = 0
        while True:
            second += 1
            chip.restore(state)
            chip.power.on(second)
            try:
                device.boot()
                break
            except chip.PowerCut:
                chip.power.on()
                check(device.boot(), cuts, second)
        chip.power.on()
        boot = device.boot()
        check(boot, cuts, 0)
        device.clock(case["now"])
        if boot.trust.version == 1:
            boot = rotated(case, boot, name)
        assert boot.trust.version == 2 and boot.mode == "active"
        assert boot.record.floors[1]["trust"][0] == 2
        assert len(boot.store.required("root")) == 32


def test_new_root_stands_alone_after_the_boot_that_follows_a_cut():
    case, boot = start()
    values = chip.NVS("gatehouse").values
    old = values["root"]
    rotated(case, boot, "trust: new root")
    new = values["root"]
    assert len(new) == 32 and new != old
    values["root"] = old + new  # the power went once the new store was on the flash
    boot = device.boot()
    assert (boot.mode, boot.trust.version) == ("active", 2)
    assert chip.NVS("gatehouse").values["root"] == new, "or who has the old root could put the old store back"


def test_cut_during_a_rotation_leaves_the_old_or_the_new_store():
    def check(boot, first, second):
        assert boot.mode == "active" and boot.trust.version in (1, 2), (first, second, boot.failure)

    for name, least in (("trust: new release key", 5), ("trust: new root", 7)):
        case, _ = start()
        cuts = sweep(case, name, check)
        print("cuts during", name, cuts)
        assert cuts >= least
