"""The core's report: its claims, its seal, and the digest of the core."""

import hashlib
import os
import sys
from binascii import unhexlify

import fake_boot
from harness import cases, raises


class Installer:
    def __init__(self, refused=None, **state):
        self.refused = refused
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


def private(found):
    return found[-70001]


def test_claims_say_what_runs():
    from gatehouse import VERSION, cbor, status

    index = fake_boot.slot()
    boot = fake_boot.Boot()
    found = status.claims(boot, Installer())
    assert found[256] == b"\x01" + b"D" * 16
    assert found[258] == b"V" * 16
    assert (found[259], found[260]) == (b"UNIX", ["1.0"])
    assert found[265] == "tag:gatehouse.example,2026:r1"
    assert (found[267], found[268]) == (7, b"S" * 16)
    assert (found[270], found[271]) == ("example", ["1.0.0", 16384])
    assert found[6] == boot.clock
    assert 10 not in found
    [[content_format, component], [other, core]] = found[273]
    assert content_format == other == 295
    core = cbor.loads(core)
    assert core[1] == ["gatehouse", [VERSION, 16384]] and core[2][0] == 1 and len(core[2][1]) == 32
    assert cbor.loads(component) == {1: ["example", ["1.0.0", 16384]], 2: [1, hashlib.sha256(index).digest()]}
    inner = private(found)
    assert [inner[key] for key in (1, 2, 3, 4)] == ["a", "active", b"M" * 32, 1000]
    assert (inner[5], inner[6], inner[7]) == ([0, 1], {"app": [1000, 0]}, 1)
    assert inner[8] == {1: "idle"}
    assert 9 not in inner
    assert (inner[10], inner[11], inner[12]) == ([1], 4, VERSION)
    assert inner[14] > 0 and inner[15] > 0
    assert inner[17] == [] and 18 not in inner
    assert cbor.loads(cbor.dumps(found)) == found


def test_tag_of_the_slot_is_passed_on_as_it_is():
    from gatehouse import measure, status

    fake_boot.slot()
    for data, told in ((b"t" * (measure.MAX_TAG + 1), False), (b"", False), (b"t" * measure.MAX_TAG, True)):
        with open("slot/app.coswid", "wb") as file:
            file.write(data)
        status._component = None
        found = status.claims(fake_boot.Boot())
        assert found.get(272) == ([[258, data]] if told else None)
    assert 272 not in status.claims(fake_boot.Boot("recovery"))


def test_store_for_development_is_a_reason_to_be_degraded():
    from gatehouse import status

    fake_boot.slot()
    boot = fake_boot.Boot()
    assert private(status.claims(boot))[17] == []
    boot.trust.dev = True
    assert private(status.claims(boot))[17] == ["dev"]


def test_journal_is_told_once_there_is_one():
    from gatehouse import status

    fake_boot.slot()
    boot = fake_boot.Boot()
    assert 19 not in private(status.claims(boot))
    boot.journal = [1, 4000, 41, b"T" * 16, 0, 39]
    assert private(status.claims(boot))[19] == [41, b"T" * 16, 39]


def test_nonce_is_answered():
    from gatehouse import status

    fake_boot.slot()
    assert status.claims(fake_boot.Boot(), None, b"N" * 8)[10] == b"N" * 8


def test_nonces_wait_for_their_answer_in_order():
    from gatehouse import status

    assert status.asked() is None and not status.answered(None)
    for wrong in (b"", b"7 bytes", b"x" * 65):
        assert not status.ask(wrong)
    assert status.asked() is None
    for number in range(4):
        assert status.ask(memoryview(b"nonce %d?" % number))
    assert not status.ask(b"x" * 64)  # no room
    assert status.ask(b"nonce 2?")  # it is there, and so it will be answered
    assert status.asked() == b"nonce 0?"
    assert status.answered(b"nonce 0?")
    assert status.asked() == b"nonce 1?"
    assert status.ask(b"x" * 64)
    assert status.answered(b"nonce 1?") and status.answered(b"nonce 2?") and status.answered(b"nonce 3?")
    assert not status.answered(b"x" * 64)
    assert status.asked() is None
    assert status.ask(b"again 0?") and status.ask(b"again 0?")  # the broker may bring one twice
    assert not status.answered(b"again 0?")


def tree():
    """A running slot that is as its index says: the Boot."""
    from gatehouse import VERSION, cbor, tree

    os.mkdir("slot")
    body = b"x = 1\n"
    entry = ["app.py", len(body), hashlib.sha256(body).digest(), len(body), tree.RAW]
    mpy = sys.implementation._mpy & 0xFF
    index = cbor.dumps({1: 1, 2: "example", 3: "1.0.0", 4: VERSION, 5: mpy, 6: [entry]})
    for name, data in (("index.cbor", index), ("app.py", body)):
        with open("slot/" + name, "wb") as file:
            file.write(data)
    boot = fake_boot.Boot()
    boot.release.index = hashlib.sha256(index).digest(), len(index)
    return boot


def comparison(found):
    [[system, [[name, result]]]] = found[274]
    assert (system, name) == ("gatehouse", "app")
    return result


def test_a_nonce_has_the_slot_compared_now():
    from gatehouse import status

    boot = tree()
    assert comparison(status.claims(boot)) == 1
    found = status.claims(boot, None, b"N" * 8)
    assert comparison(found) == 1 and private(found)[17] == []
    assert boot.fed  # a large slot takes its time
    with open("slot/app.py", "wb") as file:
        file.write(b"x = 2\n")
    assert comparison(status.claims(boot, None, b"N" * 8)) == 1  # not for each nonce of a flood
    status._compared_ms = -10000
    found = status.claims(boot, Installer(state="downloading"), b"N" * 8)
    assert comparison(found) == 1  # an update goes first
    found = status.claims(boot, Installer(), b"N" * 8)
    assert comparison(found) == 2 and private(found)[17] == ["slot"]
    assert comparison(status.claims(boot)) == 2  # and so it stays
    status._compared_ms = -10000
    os.remove("slot/index.cbor")
    found = status.claims(boot, None, b"N" * 8)
    assert comparison(found) == 2 and found[273]


def test_comparison_that_finds_no_memory_is_none():
    from gatehouse import measure, memory, status

    def full(*arguments):
        raise MemoryError

    boot = tree()
    again, measure.again = measure.again, full
    unload, memory.unload = memory.unload, lambda *names: None  # so that it stays replaced
    try:
        found = status.claims(boot, None, b"N" * 8)
        assert comparison(found) == 3 and private(found)[17] == []
        status._result, status._compared_ms = 2, -10000
        assert comparison(status.claims(boot, None, b"N" * 8)) == 2  # it was found changed, and that is not over
    finally:
        measure.again, memory.unload = again, unload
    status._result, status._compared_ms = 3, -10000
    assert comparison(status.claims(boot, None, b"N" * 8)) == 1


def test_recovery_compares_nothing():
    from gatehouse import status

    assert comparison(status.claims(fake_boot.Boot("recovery"), None, b"N" * 8)) == 4


def test_update_policy_in_force():
    from gatehouse import status

    fake_boot.slot()
    boot = fake_boot.Boot()
    assert private(status.claims(boot))[20] == {1: True, 2: True, 3: True, 4: True}
    boot.config.updates, boot.config.auto_download = False, False
    boot.config.auto_install, boot.config.notify, boot.config.window = False, False, [60, 30]
    assert private(status.claims(boot))[20] == {1: False, 2: False, 3: False, 4: False, 5: [60, 30]}
    boot.config = None
    assert private(status.claims(boot))[20] is None


# Flash encryption, secure boot, download mode, JTAG: two words, the last in both.
WORDS = [[16, 0x70], [20, 0x30], [16, 0x100], [16, 0x200, 20, 0x40]]


def burned(first, second):
    """The claims of a device whose chip has these words of eFuses."""
    from gatehouse import status

    class Machine:
        mem32 = {16: first, 20: second}

    sys.modules["machine"] = Machine
    status._fuses = None
    boot = fake_boot.Boot("recovery")
    boot.identity.fuses = WORDS
    return status.claims(boot)


def test_fuses_as_the_chip_shows_them():
    found = burned(0, 0)
    assert private(found)[21] == {1: False, 2: False, 3: True, 4: True}
    assert (found[262], found[263]) == (False, 0)
    assert private(burned(0x10, 0x10))[21] == {1: True, 2: True, 3: True, 4: True}
    assert private(burned(0x30, 0x20))[21] == {1: False, 2: True, 3: True, 4: True}  # encryption switched off again
    assert private(burned(0x70, 0))[21][1] is True
    assert private(burned(0x300, 0))[21] == {1: False, 2: False, 3: False, 4: True}  # one way to JTAG is left
    found = burned(0x300, 0x40)
    assert private(found)[21] == {1: False, 2: False, 3: False, 4: False}
    assert found[263] == 1
    assert burned(0x200, 0x40)[263] == 0  # the ROM still takes commands
    assert burned(0x100, 0)[263] == 0


def test_secure_boot_covers_a_frozen_core_only():
    import gatehouse

    here = gatehouse.__file__
    gatehouse.__file__ = "gatehouse/__init__.py"
    assert burned(0, 0x10)[262] is True
    assert burned(0, 0)[262] is False
    gatehouse.__file__ = here
    assert burned(0, 0x10)[262] is False
    assert burned(0, 0)[262] is False


def test_fuses_that_nobody_looked_up_are_unknown():
    from gatehouse import status

    fake_boot.slot()
    found = status.claims(fake_boot.Boot())
    assert private(found)[21] == {1: None, 2: None, 3: None, 4: None}
    assert 262 not in found and 263 not in found
    assert found[275] == 1


def test_recovery_names_no_software():
    from gatehouse import Refused, status

    boot = fake_boot.Boot("recovery")
    boot.failure = Refused("digest", "/slots/a/app.mpy" + "x" * 200)
    found = status.claims(boot)
    assert not [label for label in (270, 271) if label in found]
    assert [kind for kind, _ in found[273]] == [295], "the core alone is measured"
    inner = private(found)
    assert [inner[key] for key in (1, 2, 3, 4)] == [None, "recovery", None, None]
    assert inner[17] == ["recovery", "boot:digest"]
    assert inner[18].startswith("digest: /slots/a/app.mpy") and len(inner[18]) == 96
    assert 8 not in inner


def test_unset_clock_is_a_degradation():
    from gatehouse import status

    fake_boot.slot()
    found = status.claims(fake_boot.Boot(clock=None))
    assert 6 not in found
    assert private(found)[17] == ["clock"]


def test_update_and_refusal():
    from gatehouse import status

    fake_boot.slot()
    refused = {"reason": "sequence", "detail": "x" * 200, "digest": b"R" * 32, "sequence": 999, "count": 2}
    state = {"state": "downloading", "digest": b"U" * 32, "sequence": 2000, "done": 3, "total": 40}
    inner = private(status.claims(fake_boot.Boot(), Installer(refused, **state)))
    assert inner[8] == {1: "downloading", 3: b"U" * 32, 4: 2000, 6: [3, 40]}
    assert inner[9] == {1: "sequence", 3: b"R" * 32, 4: 999, 5: "x" * 96, 6: 2}
    state = {"state": "failed", "reason": "http", "detail": "status 404", "digest": b"U" * 32, "sequence": 2000}
    inner = private(status.claims(fake_boot.Boot(), Installer(**state)))
    assert inner[8] == {1: "failed", 2: "http", 3: b"U" * 32, 4: 2000, 5: "status 404"}


def test_floor_of_a_component_that_only_one_list_names():
    from gatehouse import status

    fake_boot.slot()
    boot = fake_boot.Boot()
    boot.record.floors = {1: {"app": [9, b""]}, 2: {"app": 8, "config": 3}, 3: b"", 4: []}
    assert private(status.claims(boot))[6] == {"app": [9, 8], "config": [0, 3]}


def test_seal_is_what_the_host_expects():
    from gatehouse import status

    first, later = cases("report")["sealed"]
    for epoch, expected in ((0, first), (3, later)):
        boot = fake_boot.Boot()
        boot.store = fake_boot.Store(epoch)
        status._key, status._sent = None, 0
        assert status.seal(boot, {265: status.PROFILE, status.PRIVATE: {}}) == unhexlify(expected)


def test_seal_opens_with_the_report_key_only():
    from gatehouse import Refused, cose, mac, status

    case = cases("report")
    report = status.seal(fake_boot.Boot(), {status.PRIVATE: {}})
    message = report[len(mac.CWT) :]
    assert cose.mac0_open(unhexlify(case["report_key"]), message)[0] == b"gh-1"
    with raises(Refused, "signature"):
        cose.mac0_open(unhexlify(case["device_key"]), message)


def test_each_report_has_a_counter_of_its_own():
    from gatehouse import cbor, mac, status

    boot = fake_boot.Boot()
    seen = []
    for _ in range(3):
        report = status.seal(boot, {status.PRIVATE: {}})
        seen.append(cbor.loads(cbor.loads(report).value.value[2])[-70001][16])
    assert seen == [[7, 1], [7, 2], [7, 3]]
    assert report.startswith(mac.CWT)


def test_core_digest_is_the_documented_one():
    from gatehouse import measure

    case = cases("report")
    os.mkdir("core")
    for name, content in case["files"].items():
        with open("core/" + name, "wb") as file:
            file.write(unhexlify(content))
    expected = unhexlify(case["core_digest"])
    assert measure.folder("core") == expected
    # Whatever is added, renamed or changed shows.
    os.mkdir("core/more")
    assert measure.folder("core") != expected
    os.rmdir("core/more")
    assert measure.folder("core") == expected
    os.rename("core/Z.py", "core/Y.py")
    assert measure.folder("core") != expected
    os.rename("core/Y.py", "core/Z.py")
    with open("core/Z.py", "wb") as file:
        file.write(b"x = 2\n")
    assert measure.folder("core") != expected


def loaded_from(path):
    """The core as it would be if its files had been loaded from `path`; a report of the core alone with eFuses read."""
    import gatehouse

    gatehouse.__file__ = path
    return burned(0, 0x10)


def test_frozen_core_is_not_measured_whatever_lies_in_its_folder():
    import gatehouse
    from gatehouse import cbor, measure

    here = gatehouse.__file__
    folder = here.rsplit("/", 1)[0]
    found = loaded_from("gatehouse/__init__.py")  # as MicroPython names what is frozen
    assert measure.frozen() and 273 not in found and found[262] is True
    # The same folder is there in both cases: a planted one makes no frozen core look like one of files.
    found = loaded_from(here)
    assert not measure.frozen() and found[262] is False
    [[_, component]] = found[273]
    assert cbor.loads(component)[2] == [1, measure.folder(folder)]


def test_core_whose_folder_is_gone_does_not_look_frozen():
    from gatehouse import cbor, measure

    found = loaded_from("/absent/gatehouse/__init__.mpy")
    assert not measure.frozen() and found[262] is False
    [[_, component]] = found[273]
    assert cbor.loads(component)[2] == [1, hashlib.sha256(b"").digest()], "a core without files is a wrong one"


def test_uptime_goes_on_over_a_wrap_of_the_ticks():
    from gatehouse import status

    ticks = [2**30 - 5000]  # the period of the ticks on the chip

    class Time:
        @staticmethod
        def ticks_ms():
            return ticks[0] % 2**30

        @staticmethod
        def ticks_diff(end, start):
            return (end - start + 2**29) % 2**30 - 2**29

    real, status.time = status.time, Time
    try:
        status._uptime_ms, status._seen_ms = 0, ticks[0]
        for _ in range(3):
            ticks[0] += 5 * 86400 * 1000
            status.uptime()
        assert status.uptime() == 15 * 86400
    finally:
        status.time = real
