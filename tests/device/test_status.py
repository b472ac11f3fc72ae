"""The core's report: its claims, its seal, and the digest of the core."""

import hashlib
import os
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
    assert found[265] == "tag:gatehouse.example,2026:report-1"
    assert (found[267], found[268]) == (7, b"S" * 16)
    assert (found[270], found[271]) == ("example", ["1.0.0", 16384])
    assert found[6] == boot.clock
    assert 10 not in found
    [[content_format, component]] = found[273]
    assert content_format == 295
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


def test_recovery_names_no_software():
    from gatehouse import Refused, status

    boot = fake_boot.Boot("recovery")
    boot.failure = Refused("digest", "/slots/a/app.mpy" + "x" * 200)
    found = status.claims(boot)
    assert not [label for label in (270, 271, 273) if label in found]
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


def test_frozen_core_has_no_digest():
    from gatehouse import measure, status

    fake_boot.slot()
    assert measure.folder("absent") is None
    assert private(status.claims(fake_boot.Boot()))[13] is None


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
