"""Reports as a verifier sees them: honest ones in words, every forged, foreign, old or malformed one refused."""

import hashlib
import json
import re
import uuid
from pathlib import Path

import pytest

from cases import report as made
from cases.report import claims, sealed
from gatehouse_tools import cbor, core, cose, fleet, report_words, reports, suit_report
from gatehouse_tools.errors import GatehouseError
from servers import device

KEY = made.report_key(0)
DEVICES = {"gh-1": reports.Device(KEY, b"D" * 16), "gh-2": reports.Device(b"2" * 32)}
IDLE = {"state": "idle", "reason": None, "detail": "", "digest": "", "sequence": 0, "done": 0, "total": 0}
TESTS = Path(__file__).resolve().parents[1]
APPLICATION, CORE = claims()[273]


def refused(reason, *arguments):
    with pytest.raises(GatehouseError) as caught:
        reports.verify(*arguments)
    assert caught.value.reason == reason, str(caught.value)
    return str(caught.value)


# Honest reports.


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A function that gives two reports in a row from the device's own code."""

    def run(**job):
        before = [str(TESTS / "device"), str(TESTS.parent / "firmware")]
        folder = str(tmp_path_factory.mktemp("report"))
        result = device.run("report.py", {"folder": folder, "update": dict(IDLE), **job}, before=before)
        return [bytes.fromhex(item) for item in result]

    return run


def test_report_of_the_device_in_words(real):
    first, second = real(clock=1_800_000_000)
    report = reports.verify(first, DEVICES, "gh-1")
    assert report.device == "gh-1"
    assert report.counter == (7, 1)
    assert report.nonce is None
    words = report.claims
    assert words["name"] == "example" and words["version"] == "1.0.0"
    assert (words["slot"], words["mode"], words["sequence"]) == ("a", "active", 1000)
    assert words["manifest"] == (b"M" * 32).hex()
    assert words["index_digest"] == hashlib.sha256(b"index").hexdigest()
    assert words["floors"] == {"app": {"install": 1000, "boot": 0}}
    assert words["update"] == {"state": "idle"}
    assert words["reset"] == "power-on"
    assert words["time"] == 1_800_000_000
    assert words["core"] == core.version()
    assert words["sensor"] == {"name": "temperature", "unit": "°C", "value": 21.5, "time": 1_800_000_000}
    assert words["link"] == {
        "connects": 2, "dropped": 0, "wifi_losses": 4, "left_out": 5, "oversize": 1,
        "failures": {"network": 3, "timeout": 1},
    }  # fmt: skip
    assert words["wifi"] == {"address": "192.0.2.7", "signal": -61}
    assert words["policy"] == {"updates": True, "auto_download": True, "auto_install": True, "notify": True}
    assert words["fuses"] == {"flash_encryption": None, "secure_boot": None, "download_mode": None, "jtag": None}
    assert (words["comparison"], words["intended_use"]) == ("success", "generic")
    assert "debug" not in words and "oem_boot" not in words
    assert report.degraded == []
    assert reports.verify(second, DEVICES, "gh-1").counter == (7, 2)


def test_answer_to_a_nonce_has_the_slot_compared(real):
    """The device script's slot is an index without files: what boot would never have started is told as changed."""
    data, _ = real(clock=1_800_000_000, nonce="00112233445566778899")
    report = reports.verify(data, DEVICES, "gh-1")
    assert report.nonce == bytes.fromhex("00112233445566778899")
    assert (report.degraded, report.claims["comparison"]) == (["slot"], "failure")


def test_troubles_of_the_device_in_words(real):
    refusal = {"reason": "sequence", "detail": "below", "digest": "cc" * 32, "sequence": 9, "count": 3}
    update = {**IDLE, "state": "failed", "reason": "http", "detail": "404", "digest": "bb" * 32, "sequence": 2000}
    data, _ = real(fault=True, update={**update, "done": 3, "total": 40}, refused=refusal)
    report = reports.verify(data, DEVICES, "gh-1")
    assert report.degraded == ["clock", "sensor"]
    assert report.claims["sensor"]["value"] is None
    assert "time" not in report.claims
    assert report.claims["update"] == {
        "state": "failed", "reason": "http", "detail": "404", "digest": "bb" * 32, "sequence": 2000,
        "files": {"done": 3, "total": 40},
    }  # fmt: skip
    assert report.claims["refused"] == refusal
    assert report.claims["outcome"] == {
        "manifest": "bb" * 32, "result": "failure", "reason": "operation-failed", "code": made.REASONS["http"][0],
    }  # fmt: skip


def test_access_of_the_device_in_words(real):
    rows = [["uart", True, True, True, ""], ["wifi-ap", False, True, False, "x"], ["mdns", False, None, True, ""]]
    locks = {"https/owner": [4, 2]}
    access = {"rows": rows, "sessions": 2, "fresh": False, "lockouts": locks, "repl": 59}
    data, _ = real(clock=1_800_000_000, access=access)
    report = reports.verify(data, DEVICES, "gh-1")
    assert report.degraded == ["interface:wifi-ap", "repl"]
    assert report.claims["interfaces"] == {
        "uart": {"wanted": True, "active": True},
        "wifi-ap": {"wanted": False, "active": True},
        "mdns": {"wanted": False, "active": None},
    }
    assert report.claims["access"] == {
        "sessions": 2, "label_password": False, "repl_seconds": 59,
        "lockouts": {"https/owner": {"level": 4, "seconds": 2}},
    }  # fmt: skip
    data, _ = real(clock=1_800_000_000)
    report = reports.verify(data, DEVICES, "gh-1")
    assert report.degraded == [] and report.claims["access"]["label_password"] is True


def test_lock_of_the_chip_in_words():
    fuses = {1: True, 2: True, 3: False, 4: False}
    policy = {1: True, 2: False, 3: True, 4: False, 5: [60, 30], 6: 12}
    found = claims(c262=True, c263=1, c274=[["gatehouse", [["app", 2]]]], p20=policy, p21=fuses)
    words = reports.verify(sealed(found), DEVICES).claims
    assert words["fuses"] == {"flash_encryption": True, "secure_boot": True, "download_mode": False, "jtag": False}
    assert (words["oem_boot"], words["debug"], words["comparison"]) == (True, "disabled", "failure")
    assert words["policy"] == {
        "updates": True, "auto_download": False, "auto_install": True, "notify": False,
        "window": {"start": 60, "minutes": 30}, "postponed_seconds": 12,
    }  # fmt: skip


BAD_ACCESS: dict[str, dict] = {
    "interfaces no map": {"p35": []},
    "interface no pair": {"p35": {"uart": [True]}},
    "interface of numbers": {"p35": {"uart": [1, 0]}},
    "wanted unknown": {"p35": {"uart": [None, True]}},
    "sessions no number": {"p36": {1: True, 2: True, 3: {}, 4: 0}},
    "label no truth value": {"p36": {1: 0, 2: 1, 3: {}, 4: 0}},
    "lockouts no map": {"p36": {1: 0, 2: True, 3: [], 4: 0}},
    "lockout of one": {"p36": {1: 0, 2: True, 3: {"https/owner": [4]}, 4: 0}},
    "REPL missing": {"p36": {1: 0, 2: True, 3: {}}},
}


@pytest.mark.parametrize("name", BAD_ACCESS)
def test_malformed_access_is_refused(name):
    good: dict = {"p35": {"uart": [True, None]}, "p36": {1: 0, 2: True, 3: {"https/owner": [4, 0]}, 4: 0}}
    assert reports.verify(sealed(claims(**good)), DEVICES)
    refused("format", sealed(claims(**(good | BAD_ACCESS[name]))), DEVICES)


def test_journal_of_the_device_in_words(real):
    data, _ = real(journal=41)
    told = {"last": 41, "tag": (b"T" * 16).hex(), "acknowledged": 39}
    assert reports.verify(data, DEVICES, "gh-1").claims["journal"] == told
    data, _ = real()
    assert "journal" not in reports.verify(data, DEVICES, "gh-1").claims


def test_recovery_in_words():
    found = claims(c270=None, c271=None, c273=[CORE], p2="recovery", p8=None, p18="digest: /slots/a", p17=["recovery"])
    for label in (1, 3, 4, 11):
        found[-70001][label] = None
    report = reports.verify(sealed(found), DEVICES)
    assert report.claims["slot"] is None
    assert report.claims["failure"] == "digest: /slots/a"
    assert "name" not in report.claims and report.claims["core_digest"] == (b"C" * 32).hex()
    del found[273]  # a frozen core has no files to measure
    assert reports.verify(sealed(found), DEVICES).claims["core_digest"] is None


def test_keys_may_be_plain_bytes():
    assert reports.verify(sealed(claims()), {"gh-1": KEY}).counter == (7, 1)


def test_unknown_labels_are_left_out():
    report = reports.verify(sealed(claims(p99="new", c999=1)), DEVICES)
    assert "new" not in json.dumps(report.claims)


def test_texts_cannot_drive_the_terminal():
    report = reports.verify(sealed(claims(p17=["\x1b[2Jwell"])), DEVICES)
    assert report.degraded == ["\ufffd[2Jwell"]


def test_unverified_is_read_without_a_key():
    assert reports.unverified(sealed(claims(), key=b"?" * 32)).claims["name"] == "example"


# Forged, foreign and malformed ones.


def test_another_key_made_the_mac():
    refused("signature", sealed(claims(), key=b"?" * 32), DEVICES)


def test_device_key_is_not_the_report_key():
    refused("signature", sealed(claims(), key=made.DEVICE_KEY), DEVICES)


def test_key_of_a_former_owner():
    refused("signature", sealed(claims(), key=made.report_key(1)), DEVICES)


def test_every_flipped_bit_is_refused():
    data = bytearray(sealed(claims()))
    for at in range(len(data)):
        data[at] ^= 1 << at % 8
        with pytest.raises(GatehouseError) as caught:
            reports.verify(bytes(data), DEVICES, "gh-1")
        assert caught.value.reason in ("signature", "format", "unsupported", "device", "key")
        data[at] ^= 1 << at % 8
    assert reports.verify(bytes(data), DEVICES, "gh-1")


def test_every_truncation_is_refused():
    data = sealed(claims())
    for size in range(len(data)):
        refused("format", data[:size], DEVICES)
    refused("format", data + b"\0", DEVICES)


def test_device_that_nobody_knows():
    assert "gh-9" in refused("key", sealed(claims(), kid=b"gh-9"), DEVICES)


def test_report_of_one_device_on_the_topic_of_another():
    refused("device", sealed(claims()), DEVICES, "gh-2")


def test_a_device_cannot_report_for_another():
    """gh-2 knows its own key only: under gh-1's name that is a wrong MAC."""
    refused("signature", sealed(claims(), kid=b"gh-1", key=b"2" * 32), DEVICES, "gh-1")


def test_ueid_of_another_device():
    refused("device", sealed(claims(c256=b"\x01" + b"E" * 16)), DEVICES)


def test_other_profile():
    refused("unsupported", sealed(claims(c265="tag:gatehouse.example,2026:report-2")), DEVICES)


def test_too_large():
    refused("format", sealed(claims(p99="x" * reports.MAX_REPORT)), DEVICES)


@pytest.mark.parametrize("wrap", [lambda body: body, lambda body: cbor.Tag(62, body), lambda body: [body]])
def test_not_a_web_token(wrap):
    body = cbor.loads(cose.mac0(KEY, b"gh-1", cbor.dumps(claims())))
    refused("format", cbor.dumps(wrap(body)), DEVICES)


def test_key_id_that_is_no_text():
    refused("format", sealed(claims(), kid=b"\xff"), DEVICES)


@pytest.mark.parametrize("kid", [b"gh-1\x1b[2J", "gh-1\u009b2J".encode(), b"gh-1\0", b"gh/1", b"x" * 33, b""])
def test_key_id_that_is_no_devices_writes_nothing_into_terminal_or_database(kid):
    told = refused("format", sealed(claims(), kid=kid), DEVICES, "gh-1")
    assert told.isprintable() and len(told) < 100


def test_claims_that_are_no_map():
    refused("format", sealed([1, 2]), DEVICES)


@pytest.mark.parametrize("label", [c for c in report_words.CLAIMS if report_words.CLAIMS[c][2] and c != 265])
def test_a_claim_is_missing(label):
    found = claims()
    del found[label]
    assert "missing" in refused("format", sealed(found), DEVICES)


@pytest.mark.parametrize("label", [c for c in report_words.GATEHOUSE if report_words.GATEHOUSE[c][2]])
def test_a_private_claim_is_missing(label):
    found = claims()
    del found[-70001][label]
    assert "missing" in refused("format", sealed(found), DEVICES)


def measured(label, value):
    """The application's measured component with one label changed or added."""
    return [295, cbor.dumps(cbor.loads(APPLICATION[1]) | {label: value})]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"c6": -1}, "time"),
        ({"c10": b"short"}, "nonce"),
        ({"c256": b"D" * 16}, "ueid"),
        ({"c259": b"x" * 33}, "model"),
        ({"c259": b"\xff"}, "model"),
        ({"c260": "1"}, "hardware"),
        ({"c261": True}, "uptime"),
        ({"c271": ["1.0.0", 1]}, "version"),
        ({"c273": []}, "measurements"),
        ({"c273": [[295, b"\xff"]]}, "measurements"),
        ({"c273": [[295, cbor.dumps({1: ["x", ["1", 16384]], 2: [-16, b"I" * 32]})]]}, "measurements"),
        ({"c273": [APPLICATION, CORE, [60, b""]]}, "measurements"),
        ({"c273": [CORE]}, "index_digest"),
        ({"c273": [made.component("example", "1.0.1", b"I" * 32), CORE]}, "index_digest"),
        ({"c273": [made.component("other", "1.0.0", b"I" * 32), CORE]}, "index_digest"),
        ({"c273": [APPLICATION, made.component("gatehouse", "0.9.0", b"C" * 32)]}, "core_digest"),
        ({"c273": [APPLICATION, made.component("other", "1.0.0", b"C" * 32)]}, "core_digest"),
        ({"c273": [APPLICATION, CORE, CORE]}, "core_digest"),
        ({"p1": "c"}, "slot"),
        ({"p2": "fine"}, "mode"),
        ({"p3": b"M" * 31}, "manifest"),
        ({"p5": [0]}, "record"),
        ({"p6": {"app": 1}}, "floors"),
        ({"p7": 6}, "reset"),
        ({"p8": {1: "perfect"}}, "update.state"),
        ({"p8": {}}, "update.state"),
        ({"p8": []}, "update"),
        ({"p9": {1: "key", 3: b"", 4: 0, 6: -1}}, "refused.count"),
        ({"p16": [1]}, "counter"),
        ({"p16": [1, 2.0]}, "counter"),
        ({"p17": "ok"}, "degraded"),
        ({"p19": [1, b"T" * 15, 0]}, "journal"),
        ({"p19": [1, b"T" * 16]}, "journal"),
        ({"p19": [-1, b"T" * 16, 0]}, "journal"),
        ({"p32": {1: "t", 2: "C", 3: "21", 4: None}}, "sensor.value"),
        ({"p33": {1: 1}}, "link.dropped"),
        ({"p33": {1: 1, 2: 0, 3: -1}}, "link.wifi_losses"),
        ({"p33": {1: 1, 2: 0, 6: ["network"]}}, "link.failures"),
        ({"p33": {1: 1, 2: 0, 6: {"network": None}}}, "link.failures"),
        ({"p34": {1: None, 2: 0.5}}, "wifi.signal"),
        ({"p34": {1: "192.0.2.7", 2: -60}}, "wifi.address"),
        ({"p34": {1: b"\xc0\x00\x02", 2: -60}}, "wifi.address"),
        ({"p20": {1: True, 2: True, 3: True}}, "policy.notify"),
        ({"p20": {1: True, 2: True, 3: True, 4: True, 5: [1]}}, "policy.window"),
        ({"p21": {1: None, 2: None, 3: None, 4: 1}}, "fuses.jtag"),
        ({"c262": 1}, "oem_boot"),
        ({"c263": 5}, "debug"),
        ({"c274": [["gatehouse", [["app", 5]]]]}, "comparison"),
        ({"c274": [["gatehouse", [["app", True]]]]}, "comparison"),
        ({"c275": 2}, "intended_use"),
        ({"c261": 1 << 63}, "uptime"),
        ({"p14": 1 << 50000}, "heap_free"),
        ({"p16": [1, 1 << 63]}, "counter"),
        ({"p34": {1: None, 2: -(1 << 63) - 1}}, "wifi.signal"),
        ({"p32": {1: "t", 2: "C", 3: 1 << 50000, 4: None}}, "sensor.value"),
        ({"p32": {1: "t", 2: "C", 3: float("nan"), 4: None}}, "sensor.value"),
        ({"p32": {1: "t", 2: "C", 3: float("inf"), 4: None}}, "sensor.value"),
        ({"c271": ["1.0.0", 16384.0]}, "version"),
        ({"c272": [[258.0, b""]]}, "manifests"),
        ({"c273": [[295.0, APPLICATION[1]], CORE]}, "measurements"),
        ({"c273": [measured(2, [True, b"I" * 32]), CORE]}, "measurements"),
        ({"c273": [measured(1, ["example", ["1.0.0", 16384.0]]), CORE]}, "measurements"),
        ({"c273": [measured(3, []), CORE]}, "authorities"),
        ({"c273": [measured(4, bytes(8)), CORE]}, "flags"),
        ({"p8": {1: "idle", 3: b"U" * 32}}, "update"),
        ({"p8": {1: "idle", 4: 1}}, "update"),
        ({"p8": {1: "idle", 5: "x" * 385}}, "update.detail"),
        ({"p9": {1: "key", 3: b"", 4: 0, 5: "\u00fc" * 193, 6: 1}}, "refused.detail"),
        ({"p9": {1: "key", 3: b"U", 4: 0, 6: 1}}, "refused.digest"),
        ({"p18": "x" * 385}, "failure"),
    ],
)
def test_a_claim_of_the_wrong_kind(change, where):
    assert where in refused("format", sealed(claims(**change)), DEVICES)


# The SUIT Report inside: it and the private claim of the update are told by one device, and alike.

UPDATED = {1: "confirmed", 3: b"U" * 32, 4: 2000}
REFUSED = {1: "refused", 2: "digest", 3: b"U" * 32, 4: 2000}
TRIAL = {1: "trial", 3: b"U" * 32, 4: 2000}


def inner(update, told):
    """A report that claims `update`, with the bytes `told` as its SUIT Report."""
    return sealed(claims(p8=update), inner=told)


@pytest.mark.parametrize(
    ("update", "words"),
    [
        (UPDATED, {"result": "success"}),
        (TRIAL, {"result": "pending", "reason": "invoke-pending", "code": 0}),
        (REFUSED, {"result": "failure", "reason": "condition-failed", "code": 10}),
        (REFUSED | {2: "key"}, {"result": "failure", "reason": "unauthorised", "code": 3}),
        (REFUSED | {2: "right"}, {"result": "failure", "reason": "component-unauthorised", "code": 5}),
        (REFUSED | {1: "rolled-back", 2: "health"}, {"result": "failure", "reason": "operation-failed", "code": 31}),
    ],
)
def test_suit_report_in_words(update, words):
    found = reports.verify(sealed(claims(p8=update)), DEVICES).claims["outcome"]
    assert found == {"manifest": (b"U" * 32).hex(), **words}


def test_suit_report_says_where_the_manifest_failed():
    record = {5: 10, 6: [[], 20, 14, 1, {}], 7: 10}
    found = reports.verify(inner(REFUSED, made.suit_report(REFUSED, r4=record)), DEVICES).claims
    assert found["outcome"]["section"] == "install" and found["outcome"]["component"] == 1
    assert found["outcome"]["offset"] == 14
    assert fleet.update_words(found) == "refused (digest, install of component 1)"


def test_suit_report_of_a_success_beside_an_update_that_was_refused():
    told = refused("outcome", inner(REFUSED, made.suit_report(UPDATED)), DEVICES)
    assert "refused" in told and "success" in told
    assert reports.verify(inner(UPDATED, made.suit_report(UPDATED)), DEVICES)
    assert reports.verify(inner(REFUSED, made.suit_report(REFUSED)), DEVICES)


@pytest.mark.parametrize(
    ("update", "told"),
    [
        (UPDATED, REFUSED),
        (TRIAL, UPDATED),
        (UPDATED, TRIAL),
        (REFUSED, TRIAL),
        (REFUSED, REFUSED | {2: "signature"}),
        (REFUSED, REFUSED | {2: "size"}),  # the same reason of the draft, another code
        (REFUSED, REFUSED | {3: b"V" * 32}),
        (UPDATED, UPDATED | {3: b"V" * 32}),
        ({1: "idle"}, UPDATED),
        ({1: "downloading", 3: b"U" * 32, 4: 2000}, UPDATED),
        ({1: "refused", 2: REFUSED[2]}, REFUSED),
    ],
)
def test_suit_report_that_says_something_else(update, told):
    update = {label: value for label, value in update.items() if value is not None}
    refused("outcome", inner(update, made.suit_report(told)), DEVICES)
    assert reports.verify(sealed(claims(p8=update)), DEVICES)


def test_suit_report_of_an_update_that_is_not_told():
    refused("outcome", sealed(claims(p8=None), inner=made.suit_report(UPDATED)), DEVICES)


@pytest.mark.parametrize("update", [UPDATED, REFUSED, TRIAL])
def test_suit_report_is_missing(update):
    refused("outcome", inner(update, b""), DEVICES)


def test_reason_of_a_later_core_is_no_contradiction():
    update = REFUSED | {2: "a later one"}
    found = made.suit_report(update, r4={5: 99, 6: [[], 0, 0, 0, {}], 7: 10})
    assert reports.verify(inner(update, found), DEVICES).claims["outcome"]["code"] == 99


def test_suit_report_of_another_device():
    refused("device", inner(UPDATED, made.suit_report(UPDATED, kid=b"gh-2")), DEVICES)


@pytest.mark.parametrize("key", [b"2" * 32, made.DEVICE_KEY, made.report_key(1)])
def test_suit_report_under_another_key(key):
    refused("signature", inner(UPDATED, made.suit_report(UPDATED, key=key)), DEVICES)


def test_claims_at_their_limits_are_taken():
    refusal, words = {1: "key", 3: b"U" * 32, 4: 0, 5: "\u00fc" * 192, 6: 1}, "x" * 384
    component = measured(9, "a label of later")
    told = claims(p9=refusal, p18=words, p8={1: "idle", 3: b"U" * 32, 4: 1, 5: words}, c273=[component, CORE])
    found = reports.verify(sealed(told), DEVICES).claims
    assert (found["refused"]["digest"], found["failure"], found["update"]["sequence"]) == ("55" * 32, words, 1)
    assert reports.verify(sealed(claims(p9=refusal | {3: b""})), DEVICES).claims["refused"]["digest"] == ""


def test_each_flipped_bit_of_the_suit_report_is_refused():
    data = bytearray(made.suit_report(UPDATED))
    for at in range(len(data)):
        data[at] ^= 1 << at % 8
        with pytest.raises(GatehouseError) as caught:
            reports.verify(inner(UPDATED, bytes(data)), DEVICES)
        assert caught.value.reason in ("signature", "format", "unsupported", "device"), at
        data[at] ^= 1 << at % 8
    assert reports.verify(inner(UPDATED, bytes(data)), DEVICES)


@pytest.mark.parametrize(
    "changes",
    [
        {"r3": None},
        {"r4": None},
        {"r99": None},
        {"r4": False},
        {"r4": 1},
        {"r4": {5: 1, 7: 11}},
        {"r4": {5: 1, 6: [[], 20, 0, 0, {}], 7: 13}},
        {"r4": {5: 1, 6: [[], 20, 0, 0, {}], 7: 0}},
        {"r4": {5: 1, 6: [[], 20, -1, 0, {}], 7: 11}},
        {"r4": {5: True, 6: [[], 20, 0, 0, {}], 7: 11}},
        {"r4": {5: 1 << 64, 6: [[], 20, 0, 0, {}], 7: 11}},
        {"r4": {5: 1, 6: [[], 20, 0, 0], 7: 11}},
        {"r99": ["", [-16, b"U" * 31]]},
        {"r99": ["", [-44, b"U" * 32]]},
        {"r99": b"U" * 32},
        {"r99": [[-16, b"U" * 32]]},
        {"r99": ["", [-16.0, b"U" * 32]]},
        {"r3": [1]},
        {"r4": {5: 1, 6: [[], 20, 0, 0, {0: b""}], 7: 11}},
    ],
)
def test_suit_report_that_is_none(changes):
    refused("format", inner(REFUSED, made.suit_report(REFUSED, **changes)), DEVICES)


def test_report_and_suit_report_do_not_pass_for_each_other():
    """One key makes both MACs: neither can be taken for the other."""
    told = made.suit_report(UPDATED)
    refused("unsupported", b"\xd8\x3d" + told, DEVICES)
    refused("format", inner(UPDATED, sealed(claims(p8=UPDATED))[2:]), DEVICES)
    assert reports.verify(inner(UPDATED, told), DEVICES)


def test_unverified_shows_what_it_says_without_belief():
    found = reports.unverified(inner(REFUSED, made.suit_report(UPDATED, key=b"?" * 32))).claims
    assert (found["update"]["state"], found["outcome"]["result"]) == ("refused", "success")


def test_labels_of_the_suit_report_are_those_of_the_cddl():
    text = core.source("docs", "report.cddl").read_text()
    assert cddl_map("suit-report") == {suit_report.RECORDS, suit_report.RESULT, suit_report.REFERENCE}
    assert cddl_map("failure") == {suit_report.CODE, suit_report.RECORD, suit_report.REASON}
    device_labels = re.findall(r"^_[A-Z]+ = const\((\d+)\)$", core.source("lib/gatehouse/outcome.py").read_text(), re.M)
    assert {int(label) for label in device_labels} == cddl_map("suit-report") | cddl_map("failure")
    assert f"0..{suit_report.PENDING}" not in text and f"1..{suit_report.PENDING}" in text
    assert len(suit_report.REASONS) == suit_report.PENDING + 1
    assert set(suit_report.SECTIONS.values()) == set(core.module("outcome").SECTIONS)


def test_each_reason_of_an_update_has_one_of_the_draft():
    known = core.module("reasons").REASONS
    mapped = [code for code, _ in core.module("outcome").REASONS]
    assert tuple(mapped) == known[: len(mapped)], "a result code is a place in reasons.py"
    text = core.source("lib/gatehouse/reasons.py").read_text()
    of_interfaces = text[text.index("# Of the interfaces") :]
    assert all(f'"{code}",' in of_interfaces for code in known[len(mapped) :])
    assert not [code for code in mapped if f'"{code}",' in of_interfaces]


# Counters.


def take(verifier, data, retained=False):
    found = verifier.take("gh-1", data, retained)
    return found and (found.verdict, found.reason)


def test_live_report_is_verified():
    assert take(reports.Verifier(DEVICES), sealed(claims())) == ("verified", None)


def test_retained_report_is_unproven_until_a_newer_one_comes():
    verifier = reports.Verifier(DEVICES)
    assert take(verifier, sealed(claims(5)), retained=True) == ("unproven", "retained")
    assert take(verifier, sealed(claims(5))) is None  # the same one again proves no more
    assert take(verifier, sealed(claims(6))) == ("verified", None)


def test_old_report_is_refused():
    verifier = reports.Verifier(DEVICES)
    assert take(verifier, sealed(claims(9, boots=7))) == ("verified", None)
    assert take(verifier, sealed(claims(8, boots=7))) == ("refused", "counter")
    assert take(verifier, sealed(claims(99, boots=6))) == ("refused", "counter")
    assert take(verifier, sealed(claims(1, boots=6)), retained=True) == ("refused", "counter")
    assert take(verifier, sealed(claims(1, boots=8))) == ("verified", None)


def test_two_reports_with_one_counter_are_two_devices():
    verifier = reports.Verifier(DEVICES)
    assert take(verifier, sealed(claims(9))) == ("verified", None)
    assert take(verifier, sealed(claims(9, c261=13))) == ("refused", "counter")


def test_forged_report_moves_no_counter():
    verifier = reports.Verifier(DEVICES)
    assert take(verifier, sealed(claims(99), key=b"?" * 32)) == ("refused", "signature")
    assert take(verifier, sealed(claims(1))) == ("verified", None)


def test_devices_have_counters_of_their_own():
    verifier = reports.Verifier({**DEVICES, "gh-2": b"2" * 32})
    assert take(verifier, sealed(claims(9))) == ("verified", None)
    other = verifier.take("gh-2", sealed(claims(1), b"gh-2", b"2" * 32))
    assert other.verdict == "verified"


# Freshness.

NOW = 1_800_000_000.0


def judged(verifier, data, retained=False):
    found = verifier.take("gh-1", data, retained)
    return found.verdict, found.reason, found.fresh


def test_answer_to_a_nonce_is_fresh_and_so_is_what_follows():
    verifier = reports.Verifier(DEVICES, lambda: NOW)
    assert judged(verifier, sealed(claims(5, c6=12)), True) == ("unproven", "retained", False)
    nonce = verifier.challenge("gh-1")
    assert judged(verifier, sealed(claims(6, c10=bytes(16)))) == ("verified", None, False)
    assert judged(verifier, sealed(claims(7, c10=nonce)), True) == ("verified", None, True)
    assert judged(verifier, sealed(claims(8, c6=12)), True) == ("verified", None, True)
    assert judged(verifier, sealed(claims(6))) == ("refused", "counter", False)


def test_nonce_of_another_device_proves_nothing():
    verifier = reports.Verifier(DEVICES, lambda: NOW)
    assert verifier.challenge("gh-1") != verifier.challenge("gh-1")
    nonce = verifier.challenge("gh-2")
    assert judged(verifier, sealed(claims(6, c10=nonce)), True) == ("unproven", "retained", False)


def test_the_last_eight_nonces_can_be_answered():
    for number, fresh in ((0, False), (1, True), (8, True)):
        verifier = reports.Verifier(DEVICES, lambda: NOW)
        nonces = [verifier.challenge("gh-1") for _ in range(9)]
        assert judged(verifier, sealed(claims(6, c10=nonces[number])))[2] is fresh


def test_live_report_must_be_dated_now():
    for off, expected in ((0, ("verified", None)), (120, ("verified", None)), (-120, ("verified", None)),
                          (121, ("unproven", "stale")), (-121, ("unproven", "stale"))):  # fmt: skip
        verifier = reports.Verifier(DEVICES, [NOW + off].pop)
        assert judged(verifier, sealed(claims()))[:2] == expected
    assert judged(reports.Verifier(DEVICES, lambda: NOW), sealed(claims(c6=None)))[:2] == ("unproven", "undated")


def test_records_played_as_live_in_order_are_no_state():
    verifier = reports.Verifier(DEVICES, lambda: NOW + 86400)
    for number in range(1, 5):
        assert judged(verifier, sealed(claims(number)))[0] == "unproven"
    nonce = verifier.challenge("gh-1")
    assert judged(verifier, sealed(claims(9, c10=nonce)))[0] == "verified"


JUMPS: dict[str, tuple[dict, dict, dict]] = {  # before, impossible after, possible after
    "boots and counter": ({}, {"c267": 8}, {}),
    "another chip": ({}, {"c259": b"OTHER"}, {}),
    "seed of a boot": ({}, {"c268": b"T" * 16}, {"boots": 8, "c268": b"T" * 16}),
    "uptime": ({"c261": 100}, {"c261": 99}, {"c261": 100}),
    "uptime of a new boot": ({"c261": 100}, {"c261": 99}, {"c261": 0, "boots": 8}),
    "boots": ({}, {"boots": 80, "c6": 1_800_000_000}, {"boots": 80, "c6": 1_800_000_002}),
    "trust": ({"p11": 2}, {"p11": 1}, {"p11": 3}),
    "floor": ({"p6": {"app": [9, 0]}}, {"p6": {"app": [8, 0]}}, {"p6": {"app": [9, 0], "config": [1, 0]}}),
    "no floor": ({"p6": {"app": [9, 0]}}, {"p6": {}}, {"p6": {"app": [9, 0]}}),
}


@pytest.mark.parametrize("name", JUMPS)
def test_impossible_jump(name):
    before, wrong, right = JUMPS[name]
    if name == "boots":
        before = {"c6": 1_800_000_000}
    verifier = reports.Verifier(DEVICES)
    assert take(verifier, sealed(claims(1, **before))) == ("verified", None)
    assert take(verifier, sealed(claims(2, **wrong))) == ("refused", "jump")
    assert take(verifier, sealed(claims(2, **right))) == ("verified", None)


# The product's devices.


def provisioned(folder, name, secrets, facts=None):
    (folder / name).mkdir(parents=True)
    (folder / name / "secrets.json").write_text(secrets)
    if facts is not None:
        (folder / name / "device.json").write_text(facts)


def test_known_devices_of_a_product(tmp_path):
    number = uuid.UUID(bytes=b"D" * 16)
    provisioned(tmp_path, "gh-1", json.dumps({"report_key": KEY.hex()}), json.dumps({"uuid": str(number)}))
    provisioned(tmp_path, "gh-2", json.dumps({"report_key": "32" * 32}))
    assert reports.known_devices(tmp_path) == DEVICES


@pytest.mark.parametrize("secrets", ["{}", "no json", '{"report_key": 5}', '{"report_key": "xy"}', "[]"])
def test_damaged_secrets_are_one_clear_line(tmp_path, secrets):
    provisioned(tmp_path, "gh-1", secrets)
    with pytest.raises(GatehouseError, match="damaged"):
        reports.known_devices(tmp_path)


# One form in three places.


def cddl_map(name):
    """The labels of one map or group of docs/report.cddl."""
    text = core.source("docs", "report.cddl").read_text()
    body = re.search(rf"^{name} = [{{(]\n(.*?)\n[}})]", text, re.MULTILINE | re.DOTALL)[1]
    return {int(label) for label in re.findall(r"^\s*[?(\s]*(-?\d+) =>", body, re.MULTILINE)}


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (("claims", "software"), "CLAIMS"),
        (("gatehouse", "application"), "GATEHOUSE"),
        (("update",), "UPDATE"),
        (("refusal",), "REFUSAL"),
        (("sensor",), "SENSOR"),
        (("link",), "LINK"),
        (("wifi",), "WIFI"),
        (("access",), "ACCESS"),
        (("policy",), "POLICY"),
        (("fuses",), "FUSES"),
    ],
)
def test_tables_are_those_of_the_cddl(names, table):
    assert set.union(*map(cddl_map, names)) == set(getattr(report_words, table))


def test_device_has_the_labels_of_the_cddl():
    text = core.source("lib", "gatehouse", "status.py").read_text() + core.source("firmware", "report.py").read_text()
    private = text[text.index("# Keys of the private map") :]
    labels = {int(label) for label in re.findall(r"^_?[A-Z_]+ = const\((\d+)\)$", private, re.MULTILINE)}
    assert labels == set(report_words.GATEHOUSE)
