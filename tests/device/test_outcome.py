"""The last update as a SUIT Report: what it says of each state, where a manifest failed, and that it is made once."""

import fake_boot
from fake_manifest import IDENTITY, TWO, Device, drive, image, sequence, taken
from gatehouse import Refused, cbor, cose
from harness import raises

KEY = b"K" * 32
DIGEST = b"U" * 32
NOWHERE = [[], 0, 0, 0, {}]


def opened(data, key=KEY):
    """The SUIT Report in its COSE_Mac0, once the MAC held."""
    kid, payload = cose.mac0_open(key, data)
    assert kid == b"gh-1"
    return cbor.loads(payload)


def told(state, reason=None, at=None, digest=DIGEST):
    """The SUIT Report about an installer's state, or None."""
    from gatehouse import outcome

    data = outcome.report(KEY, b"gh-1", {"state": state, "reason": reason, "digest": digest, "at": at})
    return data and opened(data)


def test_success_is_true_and_names_the_manifest():
    assert told("confirmed") == {3: [], 4: True, 99: ["", [-16, DIGEST]]}


def test_failures_have_the_drafts_reason_and_a_code_of_our_own():
    from gatehouse import outcome

    for state in ("refused", "failed", "rolled-back"):
        for place, (code, reason) in enumerate(outcome.REASONS):
            assert told(state, code)[4] == {5: place + 1, 6: NOWHERE, 7: reason}, code
            assert 0 < reason < 12
    assert told("failed", "a later core's")[4] == {5: 0, 6: NOWHERE, 7: 11}


def test_failure_names_the_command_that_is_known():
    found = told("refused", "digest", ("validate", 7, 1))[4]
    assert found == {5: 10, 6: [[], 7, 7, 1, {}], 7: 10}


def test_trial_is_pending_and_no_success():
    for state in ("pending-reboot", "trial"):
        assert told(state)[4] == {5: 0, 6: NOWHERE, 7: 12}


def test_nothing_is_told_while_nothing_is_known():
    for state in ("idle", "available", "downloading", "installing", "downloaded"):
        assert told(state) is None
    assert told("refused", "format", digest=b"") is None, "there is no manifest to name"


# Where a manifest failed.


def failed(section, answer=None, **parts):
    """where() of a manifest that is refused in `section`, with the number of the command at that offset."""
    found = taken(components=TWO, **parts)
    with raises(Refused):
        drive(found, section, answer=answer)
    name, offset, index = found.where()
    return name, cbor.decode(found.sequences[name], offset, 4)[0], index


def test_failed_condition_is_found_in_its_sequence():
    shared = [12, True] + IDENTITY
    install = [12, 1, 20, {21: "x" * 40}, 21, 2, 14, 15]
    assert failed("install", shared=shared, install=install) == ("install", 14, 1)
    assert failed("install", shared=[12, 0] + IDENTITY, install=[12, 1, 14, 15]) == ("install", 14, 1)
    assert failed("validate", shared=shared, validate=[12, [1, 0], 14, 15]) == ("validate", 14, 1)
    long = [12, 0] + [20, {21: "y"}] * 20 + [14, 15]  # the head of the list takes two bytes
    assert failed("install", shared=shared, install=long) == ("install", 14, 0)


def test_shared_sequence_is_told_as_that():
    found = [12, True, 20, {1: b"X" * 16, 2: b"C" * 16}, 1, 15, 2, 15]
    assert failed("install", shared=found, install=[12, 0, 20, {21: "x"}, 21, 2]) == ("shared", 1, 0)


def test_command_inside_another_is_found_at_the_outer_one():
    install = [12, [0, 1], 20, {21: "x"}, 32, sequence(12, 1, 14, 15)]
    assert failed("install", shared=[12, True] + IDENTITY, install=install) == ("install", 32, 1)


def test_directive_that_the_driver_does_is_found_too():
    def answer(code, index, parameters):
        if code == 21 and index == 1:
            raise Refused("network", "away")
        return True

    shared = [12, True] + IDENTITY + [20, image()]
    install = [12, 0, 20, {21: "x"}, 21, 2, 12, 1, 20, {21: "y"}, 21, 2]
    assert failed("install", answer, shared=shared, install=install) == ("install", 21, 1)


def test_what_is_not_running_is_nowhere():
    shared = [12, True] + IDENTITY + [20, image()]
    found = taken(components=TWO, shared=shared, install=[12, 0, 20, {21: "x"}, 21, 2])
    assert found.where() is None
    drive(found, "install")
    assert found.where() is None, "the section is over"
    for _ in found.run("install", Device()):
        break
    assert found.where()[0] == "install"
    found.idle()
    assert found.where() is None


# In a report.


class Installer:
    refused = None

    def __init__(self, **state):
        self.state = {
            "state": "idle",
            "reason": None,
            "detail": "",
            "digest": b"",
            "sequence": 0,
            "done": 0,
            "total": 0,
        }
        self.state.update(state)


def members(boot, installer):
    """[content format, bytes] of `measurements`."""
    from gatehouse import status

    return status.claims(boot, installer).get(273, [])


def test_report_has_it_after_the_components_and_makes_it_once():
    from gatehouse import mac

    fake_boot.slot()
    boot = fake_boot.Boot()
    installer = Installer(state="confirmed", digest=DIGEST, sequence=2000)
    assert [kind for kind, _ in members(boot, Installer())] == [295, 295]
    made = []
    real, mac.mac0 = mac.mac0, lambda *arguments: made.append(1) or real(*arguments)
    try:
        found = members(boot, installer)
        assert [kind for kind, _ in found] == [295, 295, 270]
        report = opened(found[2][1], boot.store.derive("report"))
        assert report == {3: [], 4: True, 99: ["", [-16, DIGEST]]}
        assert members(boot, installer) == found and len(made) == 1
        installer.state.update({"state": "refused", "reason": "digest", "at": ("install", 3, 0)})
        later = opened(members(boot, installer)[2][1], boot.store.derive("report"))
        assert later[4] == {5: 10, 6: [[], 20, 3, 0, {}], 7: 10} and len(made) == 2
        installer.state["at"] = None
        assert opened(members(boot, installer)[2][1], boot.store.derive("report"))[4][6] == NOWHERE
    finally:
        mac.mac0 = real


def test_new_owner_epoch_makes_it_under_the_new_key():
    from gatehouse import status

    boot = fake_boot.Boot("recovery")
    installer = Installer(state="confirmed", digest=DIGEST, sequence=2000)
    status.claims(boot, installer)
    boot.store = fake_boot.Store(1)
    status.forget_key()
    [_, data] = members(boot, installer)[-1]
    assert opened(data, boot.store.derive("report"))
    with raises(Refused, "signature"):
        opened(data, fake_boot.Store(0).derive("report"))


def test_module_does_not_stay():
    import sys

    fake_boot.slot()
    members(fake_boot.Boot(), Installer(state="confirmed", digest=DIGEST))
    assert "gatehouse.outcome" not in sys.modules and "gatehouse.measure" not in sys.modules
