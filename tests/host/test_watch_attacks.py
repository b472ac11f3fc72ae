"""A man in the middle who has the broker: it reads, alters, records, withholds and publishes what it likes.

`gatehouse watch` runs as a program against Mosquitto. Each attack is named and shows no state; the honest device, which
answers nonces, is shown in the same run.
"""

import contextlib
import itertools
import json
import queue
import threading
import time

import cbor2
import pytest
from pki import Authority
from test_broker import Client
from test_watch import WAIT, watch

from cases.report import claims, report_key, sealed, suit_report
from gatehouse_tools import broker as brokers
from gatehouse_tools import product
from gatehouse_tools.broker import Broker

REPORT, NONCE = "gatehouse/gh-1/report", "gatehouse/gh-1/nonce"
LONG_AGO = 1_700_000_000
pytestmark = pytest.mark.skipif(not brokers.mosquitto(), reason="no Mosquitto")


class Device:
    """An honest device whose every report says trial while it is at it: the attacker would like to show `active`."""

    def __init__(self, client):
        self.client = client
        self.numbers = itertools.count(100)
        client.subscribe(NONCE)

    def report(self, nonce=None, **changes):
        given = {"c6": int(time.time()), "p2": "trial", "p17": ["sensor"], **changes}
        if nonce:
            given["c10"] = nonce
        return sealed(claims(next(self.numbers), **given))

    def answer(self):
        """Answer the next nonce as a device does."""
        topic, nonce = self.client.get()
        assert topic == NONCE
        self.client.publish(REPORT, self.report(nonce), retain=True)
        return nonce


class Watcher:
    """The events of a running `gatehouse watch --json`."""

    def __init__(self, process):
        self.process = process
        self.events: list[dict] = []
        self.queue: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for text in self.process.stdout:
            self.queue.put(json.loads(text))

    def next(self, device="gh-1"):
        """The next judgement of a report."""
        while True:
            event = self.queue.get(timeout=WAIT)
            self.events.append(event)
            if event["event"] == "report" and event["device"] == device:
                return event

    def shown(self):
        """The modes that were told as state."""
        return {event["claims"]["mode"] for event in self.events if event.get("claims")}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    root = tmp_path_factory.mktemp("product") / "shop"
    product.create(root, "shop", "gatehouse.example", ["unix"])
    authority = Authority(root)
    for name, number, key in (("gh-1", "44" * 16, report_key(0)), ("gh-2", "32" * 16, b"2" * 32)):
        folder = root / "devices" / name
        folder.mkdir(parents=True)
        (folder / "device.json").write_text(json.dumps({"id": name, "uuid": number}))
        (folder / "secrets.json").write_text(json.dumps({"report_key": key.hex()}))
    with Broker(tmp_path_factory.mktemp("broker"), authority.ca, *authority.broker, kind="mosquitto") as broker:
        yield root, authority, broker


@pytest.fixture
def scene(house):
    """(device, attacker, a function that starts the watcher)."""
    root, authority, broker = house
    with contextlib.ExitStack() as stack:
        honest = Device(stack.enter_context(Client(broker, authority, "gh-1", "gh-1-honest")))
        attacker = stack.enter_context(Client(broker, authority, "host", "attacker"))

        def start():
            watcher = Watcher(stack.enter_context(watch(root, broker, "--json", "--timeout", "60")))
            stack.callback(watcher.process.kill)
            return watcher

        yield honest, attacker, start
        attacker.publish(REPORT, b"", retain=True)


def without(message, place, value):
    """A report with one part of its COSE_Mac0 replaced."""
    parts = list(cbor2.loads(message).value.value)
    parts[place] = value
    return cbor2.dumps(cbor2.CBORTag(61, cbor2.CBORTag(17, parts)))


def better(message):
    """A report whose claims say that all is well, under the tag that it had."""
    found = cbor2.loads(cbor2.loads(message).value.value[2])
    found[-70001][2], found[-70001][17] = "active", []
    return without(message, 2, cbor2.dumps(found, canonical=True))


def bare(message):
    return cbor2.loads(message).value.value[2]


ALTERED = {
    "altered": (better, "signature"),
    "altered in one bit": (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "signature"),
    "under the attacker's key": (lambda data: sealed(claims(999), key=b"?" * 32), "signature"),
    "cross-device": (lambda data: sealed(claims(999, c256=b"\x01" + b"2" * 16), b"gh-2", b"2" * 32), "device"),
    "cross-device under this one's name": (lambda data: sealed(claims(999), b"gh-1", b"2" * 32), "signature"),
    "stripped of its tag": (lambda data: without(data, 3, bytes(32)), "signature"),
    "stripped of its header": (lambda data: without(data, 0, b"\xa0"), "format"),
    "stripped of all but its claims": (bare, "format"),
    "stripped of its web token": (lambda data: data[2:], "format"),
    "cut off": (lambda data: data[:-1], "format"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_altered_report_is_named_and_never_state(scene, name):
    honest, attacker, start = scene
    change, reason = ALTERED[name]
    watcher = start()
    nonce = honest.client.get()[1]  # the answer is on its way, and the attacker replaces it
    attacker.publish(REPORT, change(honest.report(nonce)), retain=True)
    event = watcher.next()
    assert (event["verdict"], event["reason"]) == ("refused", reason)
    assert "claims" not in event and "retained_claims" not in event
    honest.client.publish(REPORT, honest.report(nonce), retain=True)
    event = watcher.next()
    assert (event["verdict"], event["fresh"]) == ("verified", True)
    assert watcher.shown() == {"trial"}


REFUSED = {1: "refused", 2: "digest", 3: b"U" * 32, 4: 2000}
TOLD = suit_report(REFUSED)
INNER = {  # the SUIT Report in a report whose own MAC holds
    "of a success": (suit_report({1: "confirmed", 3: b"U" * 32}), "outcome"),
    "of another update": (suit_report(REFUSED | {3: b"V" * 32}), "outcome"),
    "of another device": (suit_report(REFUSED, b"gh-2", b"2" * 32), "device"),
    "under another device's key": (suit_report(REFUSED, key=b"2" * 32), "signature"),
    "altered": (TOLD[:-1] + bytes([TOLD[-1] ^ 1]), "signature"),
    "cut off": (TOLD[:-1], "format"),
    "missing": (b"", "outcome"),
}


@pytest.mark.parametrize("name", INNER)
def test_suit_report_that_is_not_of_this_update_is_named_and_the_whole_is_no_state(scene, name):
    honest, attacker, start = scene
    inner, reason = INNER[name]
    watcher = start()
    nonce = honest.client.get()[1]
    given = {"c6": int(time.time()), "c10": nonce, "p8": REFUSED}
    attacker.publish(REPORT, sealed(claims(99, **given), inner=inner), retain=True)
    event = watcher.next()
    assert (event["verdict"], event["reason"]) == ("refused", reason)
    assert "claims" not in event and "retained_claims" not in event
    honest.client.publish(REPORT, honest.report(nonce, p8=REFUSED), retain=True)
    event = watcher.next()
    assert (event["verdict"], event["fresh"]) == ("verified", True)
    assert event["claims"]["outcome"]["reason"] == "condition-failed"
    assert watcher.shown() == {"trial"}


def test_record_played_to_a_new_watcher_is_unproven_then_refused(scene):
    """The attacker plays old reports, all of them by the device, as live and in order: each is dated long ago."""
    honest, attacker, start = scene
    record = [sealed(claims(number, c6=LONG_AGO)) for number in (1, 2, 3)]
    undated = sealed(claims(4, c6=None))
    watcher = start()
    nonce = honest.client.get()[1]
    for data, reason in [*((data, "stale") for data in record), (undated, "undated")]:
        attacker.publish(REPORT, data)  # not retained: stripped of the sign that the broker kept it
        event = watcher.next()
        assert (event["verdict"], event["reason"]) == ("unproven", reason) and "claims" not in event
    honest.client.publish(REPORT, honest.report(nonce), retain=True)
    assert watcher.next()["fresh"]
    for data in record:
        attacker.publish(REPORT, data)
        event = watcher.next()
        assert (event["verdict"], event["reason"]) == ("refused", "counter")
    assert watcher.shown() == {"trial"}


def test_retained_report_put_back_is_unproven_until_the_device_answers(scene):
    honest, attacker, start = scene
    attacker.publish(REPORT, sealed(claims(5, c6=int(time.time()))), retain=True)
    watcher = start()
    event = watcher.next()
    assert (event["verdict"], event["reason"]) == ("unproven", "retained")
    honest.answer()
    assert watcher.next()["fresh"]
    assert watcher.shown() == {"trial"}


def test_answer_to_an_earlier_nonce_is_none_to_this_one(scene):
    honest, attacker, start = scene
    first = start()
    honest.client.get()
    attacker.publish(NONCE, b"chosen by the attacker")
    while honest.client.get()[1] != b"chosen by the attacker":
        pass
    record = honest.report(b"chosen by the attacker", c6=LONG_AGO, p2="active")
    attacker.publish(REPORT, record)
    event = first.next()
    assert (event["verdict"], event["reason"], event["fresh"]) == ("unproven", "stale", False)
    assert first.shown() == set()


def test_withheld_answers_are_told(scene):
    """Who lets nothing through shows nothing: the device stays unproven, and the table says for how many nonces."""
    honest, attacker, start = scene
    attacker.publish(REPORT, sealed(claims(5, c6=int(time.time()))), retain=True)
    watcher = start()
    assert watcher.next()["verdict"] == "unproven"
    assert honest.client.get()[0] == NONCE
    with pytest.raises(queue.Empty):
        watcher.queue.get(timeout=0.5)
    assert watcher.shown() == set()


def test_second_device_with_a_copied_key_is_an_impossible_jump(scene):
    honest, attacker, start = scene
    watcher = start()
    honest.answer()
    assert watcher.next()["fresh"]
    copy = sealed(claims(500, c268=b"T" * 16, c6=int(time.time())))
    attacker.publish(REPORT, copy, retain=True)
    event = watcher.next()
    assert (event["verdict"], event["reason"]) == ("refused", "jump") and "claims" not in event
    assert watcher.shown() == {"trial"}
