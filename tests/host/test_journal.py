"""The journal on the host: what a device wrote, and each way to tamper with it by its name, beside the honest twin."""

import json
import queue
import sqlite3
import threading

import cbor2
import pytest
import shop
from pki import Authority
from test_broker import Client

from cases import journal as made
from cases import report as reported
from cases.journal import chain, message, messages, segment
from gatehouse_tools import cose, journal, journal_live, product
from gatehouse_tools.broker import Broker
from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.image import flash, littlefs, partitions

KEYS = {0: made.key()}
EVENTS = [("boot", "active", 1, ""), *[("did", "console", number) for number in range(40)]]
ROWS = chain(EVENTS)


def records(rows):
    return [journal.Record(*row) for row in rows]


def verify(rows, keys=KEYS, *known):
    return journal.verify(records(rows), keys, known)


def faults(found):
    return [(fault.reason, fault.number) for fault in found.faults]


def altered(row, **changes):
    """A row with another event's name, or other bytes as they are given."""
    number, entry, tag, before = row
    if "event" in changes:
        item = cbor2.loads(entry)
        item[3] = changes["event"]
        entry = cbor2.dumps(item, canonical=True)
    return number, changes.get("entry", entry), changes.get("tag", tag), changes.get("before", before)


def known(rows, number, where="the collector"):
    return journal.Known(number, rows[number - rows[0][0]][2], where)


# What is honest.


def test_whole_journal_in_order_and_its_head():
    found = verify(ROWS)
    assert found.faults == [] and found.notes == []
    assert [entry.number for entry in found.entries] == list(range(1, 42))
    first = found.entries[0]
    assert (first.time, first.boot, first.event, first.details, first.epoch) == (
        *(made.NOW + 1, 1, "boot", ["active", 1, ""]),
        0,
    )
    assert found.head == journal.Known(41, ROWS[-1][2], "it")


def test_entries_that_come_twice_and_out_of_order_count_once():
    found = verify([*reversed(ROWS), *ROWS[3:9]])
    assert found.faults == [] and len(found.entries) == 41


def test_empty_journal():
    found = verify([])
    assert (found.entries, found.faults, found.head) == ([], [], None)


def test_ring_that_lost_its_beginning_is_told_and_not_wrong():
    found = verify(ROWS[12:], KEYS, known(ROWS, 12), known(ROWS, 20))
    assert found.faults == [] and found.notes == ["it begins with entry 13: what was before is not here"]


def test_what_the_device_says_it_dropped_is_told_and_not_wrong():
    rows = [*ROWS[:10], *chain([("boot",), ("dropped", 11, 20)], first=31, before=ROWS[29][2])]
    found = verify(rows)
    assert found.faults == []
    assert found.notes == ["entries 11 to 30 are dropped by the device, as it says: its ring was full"]


def test_owner_epochs_follow_each_other():
    later = chain([("owner-epoch", 1), ("boot",)], 1, 42, ROWS[-1][2])
    found = verify([*ROWS, *later], {0: made.key(0), 1: made.key(1)})
    assert found.faults == [] and found.notes == ["owner epoch 1 begins with entry 42"]
    assert [entry.epoch for entry in found.entries[-3:]] == [0, 1, 1]


# What is not.


def test_each_flipped_bit_of_an_entry_is_a_change():
    for at in range(len(ROWS[7][1])):
        data = bytearray(ROWS[7][1])
        data[at] ^= 1 << at % 8
        found = verify([*ROWS[:7], altered(ROWS[7], entry=bytes(data)), *ROWS[8:]])
        assert faults(found) == [("change", 8)] and len(found.entries) == 40
        assert found.head is None


def test_changed_tag_and_changed_link():
    assert faults(verify([*ROWS[:7], altered(ROWS[7], tag=bytes(16)), *ROWS[8:]])) == [("change", 8)]
    assert faults(verify([*ROWS[:7], altered(ROWS[7], before=bytes(16)), *ROWS[8:]])) == [("change", 8)]
    assert faults(verify([*ROWS[:7], *ROWS[7:]])) == []


def test_changed_entries_in_a_row_are_one_fault():
    rows = [altered(row, event="quiet") if 8 <= row[0] <= 10 or row[0] == 20 else row for row in ROWS]
    assert faults(verify(rows)) == [("change", 8), ("change", 20)]


def test_entry_moved_to_another_place():
    number, entry, tag, before = ROWS[7]
    assert faults(verify([*ROWS, (42, entry, tag, before)])) == [("change", 42)]
    assert number == 8


def test_missing_entries_are_a_gap():
    assert faults(verify([*ROWS[:7], *ROWS[8:]])) == [("gap", 8)]
    found = verify([*ROWS[:7], *ROWS[9:20], *ROWS[30:]])
    assert faults(found) == [("gap", 8), ("gap", 21)]
    assert "entries 8 to 9 are missing" in found.faults[0].detail


def test_dropped_explains_no_more_than_it_says():
    rows = [*ROWS[:10], *chain([("boot",), ("dropped", 13, 4), ("dropped", 20, 5)], first=31, before=ROWS[29][2])]
    found = verify(rows)
    assert faults(found) == [("gap", 11), ("gap", 17), ("gap", 25)]
    assert "entries 17 to 19 are" in found.faults[1].detail


def test_dropped_that_the_device_did_not_write_explains_nothing():
    rows = [*ROWS[:10], *chain([("dropped", 11, 20)], first=31, before=ROWS[29][2], device_key=b"?" * 32)]
    assert faults(verify(rows)) == [("change", 31), ("gap", 11)]


def test_truncation_shows_against_what_is_known():
    assert faults(verify(ROWS[:30])) == [], "no key shows what is missing at the end"
    found = verify(ROWS[:30], KEYS, known(ROWS, 41, "its report 7.3"))
    assert faults(found) == [("truncated", 30)]
    assert found.faults[0].detail == "it ends with entry 30, but its report 7.3 knows entry 41"
    assert found.head is None
    assert faults(verify([], KEYS, known(ROWS, 41))) == [("truncated", 0)]
    assert faults(verify(ROWS[:30], KEYS, journal.Known(31, None, "NVS"))) == [("truncated", 30)]
    assert faults(verify(ROWS[:30], KEYS, known(ROWS, 30))) == []


def test_head_that_does_not_extend_an_anchor():
    other = chain([*EVENTS[:19], *[("did", "https", number) for number in range(30)]])
    found = verify(other, KEYS, known(ROWS, 30))
    assert faults(found) == [("anchor", 30)]
    assert faults(verify(other, KEYS, known(ROWS, 19))) == []
    assert faults(verify(other[30:], KEYS, known(ROWS, 30))) == [("anchor", 30)], "the entry before the first is told"
    assert faults(verify(ROWS[30:], KEYS, known(ROWS, 30))) == []


def test_anchor_long_before_the_first_entry_is_told():
    found = verify(ROWS[30:], KEYS, known(ROWS, 10))
    assert found.faults == [] and "between entry 10, which the collector knows, and entry 31" in found.notes[1]


def test_device_that_was_set_back_is_a_fork():
    again = chain([("boot", "set back")], first=31, before=ROWS[29][2])
    assert faults(verify([*ROWS, *again])) == [("fork", 31)]
    later = chain([("boot",)], first=42, before=ROWS[39][2])
    found = verify([*ROWS, *later])
    assert faults(found) == [("fork", 42)] and "follows another entry 41" in found.faults[0].detail


def test_forged_second_form_is_named_and_the_honest_one_kept():
    found = verify([altered(ROWS[7], event="quiet"), *ROWS])
    assert faults(found) == [("change", 8)] and len(found.entries) == 41


def test_device_that_goes_on_behind_altered_entries():
    """As lib/gatehouse/journal.py does: behind what holds, above all numbers that are there."""
    later = chain([("boot",)], first=13, before=ROWS[7][2])
    rows = [*ROWS[:8], altered(ROWS[8], event="quiet"), *ROWS[9:12], *later]
    assert faults(verify(rows)) == [("change", 9)]
    rows[8] = ROWS[8]
    assert faults(verify(rows)) == [("fork", 13)], "twin: nothing was altered in between"


def test_journal_of_another_device_or_epoch():
    found = verify(chain(EVENTS, 3))
    assert faults(found) == [("key", 1)] and "owner epoch 0" in found.faults[0].detail
    assert faults(verify(chain(EVENTS, device_key=b"?" * 32))) == [("key", 1)]


def test_entries_of_an_owner_epoch_whose_key_is_not_here():
    later = chain([("owner-epoch", 1), ("boot",)], 1, 42, ROWS[-1][2])
    found = verify([*ROWS, *later])
    assert faults(found) == [("epoch", 42)] and "entries 42 to 43" in found.faults[0].detail


def test_former_owner_cannot_go_on_writing():
    later = chain([("owner-epoch", 1)], 1, 42, ROWS[-1][2])
    forged = chain([("did", "nothing")], 0, 43, later[-1][2])
    keys = {0: made.key(0), 1: made.key(1)}
    assert faults(verify([*ROWS, *later, *forged], keys)) == [("epoch", 43)]
    honest = chain([("did", "nothing")], 1, 43, later[-1][2])
    assert faults(verify([*ROWS, *later, *honest], keys)) == []


# Messages.


def test_messages_are_read():
    found = [record for data in messages(ROWS) for record in journal.parse_message(data)]
    assert found == records(ROWS)


def test_altered_entry_of_a_message_keeps_its_place():
    rows = list(ROWS[8:16])
    rows[0] = altered(rows[0], entry=cbor2.dumps([9999, None, 1, "x"]))
    rows[3] = altered(rows[3], entry=b"\xff")
    assert [record.number for record in journal.parse_message(message(rows))] == list(range(9, 17))


BAD_MESSAGES = {
    "empty": b"",
    "no CBOR": b"\xff",
    "no list": cbor2.dumps({}),
    "two parts": cbor2.dumps([1, [[ROWS[0][1], ROWS[0][2]]]]),
    "no entry": cbor2.dumps([1, [], bytes(16)]),
    "nine entries": message(ROWS[:9]),
    "short tag before": cbor2.dumps([1, [[ROWS[0][1], ROWS[0][2]]], bytes(15)]),
    "short tag": cbor2.dumps([1, [[ROWS[0][1], bytes(15)]], bytes(16)]),
    "long entry": message(chain([("did", bytes(250))])),
    "empty entry": cbor2.dumps([1, [[b"", bytes(16)]], bytes(16)]),
    "no number anywhere": cbor2.dumps([1, [[b"\xff", bytes(16)]], bytes(16)]),
    "too long": message(chain([("did", bytes(240))] * 8)),
    "more behind it": message(ROWS[:1]) + b"\0",
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_what_is_no_message(name):
    assert journal.parse_message(message(ROWS[:1])) and journal.parse_message(message(ROWS[:8]))
    with pytest.raises(GatehouseError) as caught:
        journal.parse_message(BAD_MESSAGES[name])
    assert caught.value.reason == "format"


def test_segments_are_read():
    assert journal.parse_segment(segment(ROWS[5:20]), "journal-2") == (records(ROWS[5:20]), "")
    assert journal.parse_segment(b"", "journal-2") == ([], ""), "a cut left it empty"
    assert journal.parse_segment(segment(ROWS[:1])[:20], "journal-1") == ([], "")
    for size, left in ((len(segment(ROWS[:3])) - 1, 2), (19, 0)):
        found, wrong = journal.parse_segment(segment(ROWS[:3])[:size], "journal-1")
        assert found == records(ROWS[:left]) and "journal-1" in wrong


# The command.


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    """A product with one device of the simulated board."""
    item = shop.make(tmp_path_factory.mktemp("product") / "shop")
    shop.release(item, "1.0.0")
    done = shop.run("provision", "--product", item.root, "--id", "gh-1", "--json")
    assert done.code == 0, done.err
    return item


@pytest.fixture
def device(item):
    """Its device key, with nothing remembered."""
    (item.devices / "gh-1" / "journal.json").unlink(missing_ok=True)
    return journal.from_image((item.devices / "gh-1" / "flash.bin").read_bytes()).device_key


def write_image(item, path, *segments, acked=0):
    """The device's image with these segments, and what a broker acknowledged."""
    data = bytearray((item.devices / "gh-1" / "flash.bin").read_bytes())
    parts = flash.take_apart(bytes(data))
    part, vfs = parts["vfs"]
    files, folders = littlefs.read(vfs)
    for number, body in enumerate(segments, 7):
        files[f"/state/journal-{number}"] = body
    data[part.offset : part.end] = littlefs.build(files, folders, part.end - part.offset)
    if acked:
        table = partitions.from_binary(bytes(data[partitions.TABLE_OFFSET :][: partitions.TABLE_SIZE]))
        place = partitions.find(table, "nvs")
        values = journal.nvs.read_nvs(bytes(data[place.offset : place.end]))[flash.NAMESPACE]
        kept = {name: value for name, value in values.items() if not isinstance(value, str)}
        data[place.offset : place.end] = flash.nvs_image({**kept, "acked": acked}, place.size)
    path.write_bytes(data)
    return path


def look(item, *options):
    return shop.run("journal", "gh-1", "--product", item.root, *options)


def test_image_of_a_device(item, device, tmp_path):
    rows = chain(EVENTS, device_key=device)
    image = write_image(item, tmp_path / "flash.bin", segment(rows[4:20]), segment(rows[20:]), acked=41)
    done = look(item, "--image", image, "--json")
    assert done.code == 0, done.err
    told = done.json
    assert told["ok"] and told["head"] == {"number": 41, "tag": rows[-1][2].hex()}
    assert told["entries"][0] == {
        "number": 5, "time": made.NOW + 5, "boot": 1, "event": "did", "details": ["console", 3], "epoch": 0,
    }  # fmt: skip
    done = look(item, "--image", image, "--last", 2)
    assert done.code == 0 and "nothing wrong found" in done.out
    assert "    41  2027-01-15 08:00:41 UTC  boot 1     did console 39" in done.out
    assert "console 38" in done.out and "console 37" not in done.out


def test_tampering_with_an_image_is_named(item, device, tmp_path):
    rows = chain(EVENTS, device_key=device)
    quiet = [*rows[:9], altered(rows[9], event="boot"), *rows[10:]]
    for segments, acked, reason in (
        ([segment(quiet)], 0, "change"),
        ([segment(rows[:10]), segment(rows[12:])], 0, "gap"),
        ([segment(rows[:30])], 41, "truncated"),
        ([segment(rows) + b"\1"], 0, "format"),
        ([segment(chain(EVENTS))], 0, "key"),
    ):
        done = look(item, "--image", write_image(item, tmp_path / "flash.bin", *segments, acked=acked), "--json")
        assert done.code == 1 and [fault["reason"] for fault in done.json["faults"]] == [reason], done.out
        assert "Traceback" not in done.err
    done = look(item, "--image", tmp_path / "flash.bin")
    assert done.code == 1 and "WRONG: none of its 41 entries" in done.out and "[key]" in done.out
    assert not (item.devices / "gh-1" / "journal.json").exists(), "what is wrong is no anchor"


def test_a_look_is_an_anchor_for_the_next(item, device, tmp_path):
    rows = chain(EVENTS, device_key=device)
    assert look(item, "--image", write_image(item, tmp_path / "a.bin", segment(rows[:30]))).code == 0
    assert look(item, "--image", write_image(item, tmp_path / "b.bin", segment(rows))).code == 0
    assert look(item, "--image", write_image(item, tmp_path / "c.bin", segment(rows[30:]))).code == 0
    done = look(item, "--image", tmp_path / "a.bin", "--json")
    assert done.code == 1 and done.json["faults"][0]["reason"] == "truncated"
    other = chain([*EVENTS, ("did", "https", 1)][1:], device_key=device)
    done = look(item, "--image", write_image(item, tmp_path / "d.bin", segment(other)), "--json")
    assert done.code == 1 and done.json["faults"][0]["reason"] == "anchor"
    (item.devices / "gh-1" / "journal.json").write_text("{}")
    look(item, "--image", tmp_path / "b.bin").refused(1, "journal.json is damaged")


def database(path, rows, *heads, name="gh-1"):
    """As `gatehouse collect` writes it, of entries and of the rows that reports called the last one."""
    with sqlite3.connect(path) as made_here:
        made_here.execute("CREATE TABLE reports (device TEXT, alarm TEXT, claims TEXT)")
        for row in heads:
            claims = json.dumps({"journal": {"last": row[0], "tag": row[2].hex(), "acknowledged": 0}})
            made_here.execute("INSERT INTO reports VALUES (?, NULL, ?)", (name, claims))
            made_here.execute("INSERT INTO reports VALUES (?, 'an alarm', ?)", (name, claims.replace("last", "lost")))
        made_here.execute("INSERT INTO reports VALUES (?, NULL, '{}')", (name,))
        made_here.execute("CREATE TABLE journal (device TEXT, number INTEGER, entry BLOB, tag BLOB, before BLOB)")
        made_here.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", [(name, *row) for row in rows])
    return path


def test_database_of_a_collector_beside_an_image(item, device, tmp_path):
    rows = chain(EVENTS, device_key=device)
    stored = database(tmp_path / "fleet.sqlite", rows[:25])
    assert len(look(item, "--database", stored, "--json").json["entries"]) == 25
    image = write_image(item, tmp_path / "flash.bin", segment(rows[10:]))
    done = look(item, "--database", stored, "--image", image, "--json")
    assert done.code == 0 and len(done.json["entries"]) == 41, done.out
    other = chain([*EVENTS[:19], *[("did", "https", number) for number in range(30)]], device_key=device)
    image = write_image(item, tmp_path / "other.bin", segment(other))
    done = look(item, "--database", stored, "--image", image, "--json")
    assert done.code == 1 and {fault["reason"] for fault in done.json["faults"]} == {"fork", "anchor", "truncated"} - {
        "truncated"
    }, done.json["faults"]


def test_heads_that_a_collector_has_are_anchors(item, device, tmp_path):
    rows = chain(EVENTS, device_key=device)
    held = database(tmp_path / "a.sqlite", rows[:25], rows[9], rows[24])
    done = look(item, "--database", held, "--json")
    assert done.code == 0 and done.json["faults"] == [], done.out
    (item.devices / "gh-1" / "journal.json").unlink()
    done = look(item, "--database", database(tmp_path / "b.sqlite", rows[:25], rows[9], rows[30]), "--json")
    assert done.code == 1 and [fault["reason"] for fault in done.json["faults"]] == ["truncated"]
    other = chain([("did", "https", 1)] * 30, device_key=device)
    done = look(item, "--database", database(tmp_path / "c.sqlite", rows[:25], other[9]), "--json")
    assert done.code == 1 and [fault["reason"] for fault in done.json["faults"]] == ["anchor"]


def test_bad_input_is_one_clear_line(item, device, tmp_path):
    look(item, "--image", tmp_path / "none.bin").refused(1, "none.bin")
    look(item, "--image", database(tmp_path / "fleet.sqlite", [])).refused(1, "[")
    look(item, "--database", tmp_path / "none.sqlite").refused(1, "none.sqlite is not there")
    (tmp_path / "text").write_text("no database")
    look(item, "--database", tmp_path / "text").refused(1, "no database of a collector", "[format]")
    shop.run("journal", "gh-9", "--product", item.root).refused(1, "no device 'gh-9'")
    look(item, "--broker", "localhost:1").refused(1, "nothing listens there", "[network]")
    image = write_image(item, tmp_path / "flash.bin")
    shop.run("provision", "--product", item.root, "--id", "gh-2")
    shop.run("journal", "gh-2", "--product", item.root, "--image", image).refused(2, "is of gh-1, not of gh-2")
    assert "Example:" in shop.run("journal", "--help").out


def test_keys_of_a_device_whose_image_is_not_here(tmp_path):
    root = tmp_path / "shop"
    product.create(root, "shop", "gatehouse.example", ["unix"])
    item = product.Product(root)
    folder = root / "devices" / "gh-1"
    folder.mkdir(parents=True)
    facts = {"id": "gh-1", "uuid": "44" * 16, "vendor_id": "44" * 16, "class_id": "44" * 16}
    (folder / "device.json").write_text(json.dumps({**facts, "release": {"sequence": 1}, "groups": []}))
    with pytest.raises(GatehouseError, match="no journal key of gh-1"):
        journal.keys_of(item, "gh-1")
    (folder / "secrets.json").write_text(json.dumps({"journal_keys": {"0": made.key(0).hex(), "2": made.key(2).hex()}}))
    assert journal.keys_of(item, "gh-1") == {0: made.key(0), 2: made.key(2)}
    for wrong in ({"0": "xy"}, [], {"a": ""}):
        (folder / "secrets.json").write_text(json.dumps({"journal_keys": wrong}))
        with pytest.raises(GatehouseError, match="damaged"):
            journal.keys_of(item, "gh-1")


def test_journal_keys_are_the_documented_ones():
    assert cose.journal_key(made.DEVICE_KEY, 3) == made.key(3)
    assert journal.derived(made.DEVICE_KEY, 1) == {epoch: made.key(epoch) for epoch in range(4)}


# Live.


@pytest.fixture(scope="module")
def house(item, tmp_path_factory):
    class Product(Authority):
        """The product's own authority."""

        def __init__(self):
            from gatehouse_tools import ca

            self.folder = tmp_path_factory.mktemp("certificates")
            self._authority = ca.Authority(item.ca)
            self.ca = item.ca / "ca.pem"

    authority = Product()
    files = (item.ca / "ca.pem", item.ca / "broker.pem", item.ca / "broker-key.pem")
    with Broker(tmp_path_factory.mktemp("broker"), *files) as broker:
        yield authority, broker


class Answering:
    """A device on the broker that answers a request with these messages."""

    def __init__(self, house, head, *payloads):
        self.head, self.payloads = head, payloads
        self.asked = queue.Queue()
        self._client = Client(house[1], house[0], "gh-1")

    def __enter__(self):
        self._client.subscribe("gatehouse/gh-1/journal/ack")
        self._client.publish("gatehouse/gh-1/status", b"online", retain=True)
        if self.head:
            self._client.publish("gatehouse/gh-1/report", self.head, retain=True)
        threading.Thread(target=self._answer, daemon=True).start()
        return self

    def _answer(self):
        self.asked.put(self._client.get()[1])
        for payload in self.payloads:
            self._client.publish("gatehouse/gh-1/journal", payload)

    def __exit__(self, *_):
        self._client.publish("gatehouse/gh-1/report", b"", retain=True)
        self._client.close()


def report(item, device, rows):
    """A report of the device whose journal ends with the last of these rows."""
    facts = item.device_facts("gh-1")
    found = reported.claims(
        1, c256=b"\x01" + bytes.fromhex(facts["uuid"].replace("-", "")), p19=[rows[-1][0], rows[-1][2], 0]
    )
    return reported.sealed(found, key=cose.report_key(device))


def live(item, house, *options):
    return look(item, "--broker", f"localhost:{house[1].port}", "--json", *options)


def test_device_is_asked_and_answers(item, device, house, monkeypatch):
    monkeypatch.setattr(journal_live, "QUIET_S", 0.3)
    rows = chain(EVENTS, device_key=device)
    with Answering(house, report(item, device, rows), b"no journal", *messages(rows)) as answering:
        done = live(item, house)
    assert done.code == 0, done.out + done.err
    assert len(done.json["entries"]) == 41 and answering.asked.get_nowait() == b"\0"
    assert done.json["notes"] == ["1 message on its topic left out: no journal"]


def test_end_that_somebody_keeps_back_is_named(item, device, house, monkeypatch):
    monkeypatch.setattr(journal_live, "QUIET_S", 0.3)
    rows = chain(EVENTS, device_key=device)
    with Answering(house, report(item, device, rows), *messages(rows)[:-1]):
        done = live(item, house, "--timeout", "1.5")
    assert done.code == 1 and done.json["faults"][0]["reason"] == "truncated", done.out
    with Answering(house, None, *messages(rows)[:-1]):
        done = live(item, house, "--timeout", "5")
    assert done.code == 0 and "entries may be missing at the end" in done.json["notes"][-1]


def test_device_that_does_not_answer(item, device, house):
    with Answering(house, None):
        done = look(item, "--broker", f"localhost:{house[1].port}", "--timeout", "0.5")
    assert done.code == 1 and "the broker says it is online" in done.err and "[timeout]" in done.err
