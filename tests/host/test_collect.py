"""`gatehouse collect`: what is stored, what is refused and counted, and that nothing is lost or there twice."""

import contextlib
import hmac
import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import types
import uuid
from pathlib import Path
from typing import Any

import cbor2
import pytest
import shop
from pki import Authority
from test_broker import Client
from test_watch_attacks import better

from cases.report import claims, report_key, sealed
from gatehouse_tools import broker as brokers
from gatehouse_tools import cbor, collector, journal, journal_live, product, publish, reports, topics
from gatehouse_tools.broker import Broker, free_port
from gatehouse_tools.collector import Message
from gatehouse_tools.commands import collect as collect_command
from gatehouse_tools.database import Database, Unavailable
from gatehouse_tools.errors import GatehouseError, UsageError

ROOT = Path(__file__).resolve().parents[2]
WAIT = 60
DEVICES = {"gh-1": reports.Device(report_key(0), b"D" * 16), "gh-2": reports.Device(b"2" * 32)}


def soon(predicate):
    end = time.monotonic() + WAIT
    while not predicate():
        assert time.monotonic() < end, "never"
        time.sleep(0.02)


# Databases.


def answers(url):
    try:
        Database(url).close()
    except GatehouseError:
        return False
    return True


@pytest.fixture(scope="module")
def server():
    """The URL of a PostgreSQL server of our own; skips where there is none."""
    found = shutil.which("postgres")
    if not found or not shutil.which("initdb"):
        pytest.skip("no PostgreSQL")
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []  # not for root
    # Not below pytest's own folder, which each pytest that starts on this machine closes to others again.
    with tempfile.TemporaryDirectory(prefix="gatehouse-postgres-", ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, 65534, 65534)
        data, port = f"{folder}/data", free_port()
        made = subprocess.run(
            [*user, "initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync"],
            capture_output=True,
            text=True,
            cwd="/",
        )
        if made.returncode:
            pytest.skip(f"initdb: {made.stderr.strip().splitlines()[-1]}")
        command = [*user, "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/") as process:
            url = f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
            try:
                soon(lambda: answers(url))
                yield url
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(WAIT)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'reports.db'}")
    else:
        made = Database(request.getfixturevalue("server"))
        for table in ("reports", "journal", "summaries", "refusals"):
            query(made, f"TRUNCATE {table}")
    yield made
    made.close()


def query(database, text):
    """The rows of an SQL query, as tuples."""
    with database._engine.begin() as connection:
        found = connection.exec_driver_sql(text)
        return [tuple(row) for row in found] if found.returns_rows else []


def stored(database, *messages, judge=None, at=1000.0):
    """Judge and store (topic, payload) pairs; the batch."""
    judge = judge or collector.Judge(DEVICES, newest=database.newest)
    batch = judge.batch([Message(topic, payload, at) for topic, payload in messages])
    database.store(batch)
    return batch


REPORT = "gatehouse/gh-1/report"


def test_report_is_stored_with_what_it_says(database):
    data = sealed(claims(3, p17=["sensor"]))
    stored(database, (REPORT, data))
    columns = "device, boots, number, received, time, version, mode, degraded, alarm, message"
    assert query(database, "SELECT " + columns + " FROM reports") == [  # noqa: S608 the test's own columns
        ("gh-1", 7, 3, 1000.0, 1_800_000_000, "1.0.0", "active", '["sensor"]', None, data)
    ]
    [(told,)] = query(database, "SELECT claims FROM reports")
    assert json.loads(told) == reports.verify(data, DEVICES).claims
    assert (database.new, database.known) == (1, 0)


def test_same_message_again_changes_nothing(database):
    data, other = sealed(claims(3)), sealed(claims(4))
    stored(database, (REPORT, data))
    stored(database, (REPORT, data), (REPORT, other), (REPORT, other), at=2000.0)
    assert query(database, "SELECT number, received FROM reports ORDER BY number") == [(3, 1000.0), (4, 2000.0)]
    assert (database.new, database.known) == (2, 2)
    assert query(database, "SELECT * FROM refusals") == []


def test_two_reports_with_one_counter_are_told(database):
    first, second = sealed(claims(3)), sealed(claims(3, c261=13))
    stored(database, (REPORT, first), (REPORT, second))
    assert query(database, "SELECT message FROM reports") == [(first,)]
    assert query(database, "SELECT reason, count, message FROM refusals") == [("counter", 1, second)]


def test_order_of_arrival_does_not_matter(database):
    """Several collectors share the messages, and one may be slower."""
    for number in (5, 3, 4):
        stored(database, (REPORT, sealed(claims(number))))
    assert query(database, "SELECT number, alarm FROM reports ORDER BY number") == [(3, None), (4, None), (5, None)]
    [mark] = query(database, "SELECT DISTINCT key FROM reports")[0]
    assert database.newest("gh-1", mark) == sealed(claims(5))
    assert database.newest("gh-1", "another key") is None


def test_forged_reports_are_counted_and_not_stored(database):
    good = sealed(claims(3, p2="trial"))
    stored(database, (REPORT, better(good)), (REPORT, b"x"), (REPORT, better(good)))
    last = sealed(claims(4), key=b"?" * 32)
    stored(database, (REPORT, last), ("gatehouse/gh-2/report", good), at=2000.0)
    assert query(database, "SELECT * FROM reports") == []
    assert query(database, "SELECT device, reason, count, first, last, message FROM refusals ORDER BY 1, 2") == [
        ("gh-1", "format", 1, 1000.0, 1000.0, b"x"),
        ("gh-1", "signature", 3, 1000.0, 2000.0, last),
        ("gh-2", "device", 1, 2000.0, 2000.0, good),
    ]


def test_what_a_refused_message_says_cannot_stop_a_database(database):
    """PostgreSQL takes no NUL in a text: a message that is told in its own words would come again for ever."""
    batch = collector.Judge(DEVICES).batch([Message(REPORT, sealed(claims(3), kid=b"gh-1\0"), 1000.0)])
    batch.refuse("gh-1", "key", "of \0\x1b[2J here", b"\0", 1000.0)
    database.store(batch)
    stored(database, (REPORT, sealed(claims(4))))
    assert query(database, "SELECT reason, detail FROM refusals ORDER BY 1") == [
        ("format", "report with a key id that is no device's"),
        ("key", "of \ufffd\ufffd[2J here"),
    ]
    assert query(database, "SELECT number FROM reports") == [(4,)]


@pytest.mark.parametrize(
    "changes",
    [
        {"boots": 1 << 63},
        {"c6": 1 << 64},
        {"p14": 1 << 20000},
        {"p19": [1, b"T" * 16, 1 << 64]},
        {"p32": {1: "t", 2: "C", 3: float("nan"), 4: None}},
    ],
)
def test_one_device_cannot_stop_the_collector_with_a_number(database, changes):
    """A report that no database takes would come again for ever: none of the others would be stored."""
    stored(database, (REPORT, sealed(claims(3, **changes))))
    most = (1 << 63) - 1
    value = {1: "t", 2: "C", 3: -0.5, 4: None}
    stored(database, (REPORT, sealed(claims(most, boots=most, c6=most, p19=[most, b"T" * 16, most], p32=value))))
    assert query(database, "SELECT boots, number, time FROM reports") == [(most, most, most)]
    assert query(database, "SELECT reason, count FROM refusals") == [("format", 1)]
    assert database.lacks("gh-1", most - 1, most) == [most - 1, most]


def test_impossible_jump_is_kept_as_an_alarm_over_a_restart(database):
    stored(database, (REPORT, sealed(claims(3))))
    judge = collector.Judge(DEVICES, newest=database.newest)  # another collector, later
    copy = sealed(claims(4, c268=b"T" * 16))
    stored(database, (REPORT, copy), (REPORT, sealed(claims(5))), judge=judge)
    found = query(database, "SELECT number, alarm FROM reports ORDER BY number")
    assert found == [(3, None), (4, "two boots have the number 7"), (5, None)]


def test_stored_report_that_is_not_taken_any_more_keeps_no_newer_one_out():
    old = sealed(claims(3, p32={1: "t", 2: "C", 3: float("nan"), 4: None}))
    judge = collector.Judge(DEVICES, newest=lambda device, key: old)
    batch = judge.batch([Message(REPORT, sealed(claims(number)), 1000.0) for number in (4, 5)])
    assert [row["number"] for row in batch.reports] == [4, 5] and not batch.refusals


def test_new_owner_begins_counting_anew(database):
    stored(database, (REPORT, sealed(claims(9, boots=500))))
    later = {"gh-1": reports.Device(report_key(1), b"D" * 16)}
    judge = collector.Judge(later, newest=database.newest)
    stored(database, (REPORT, sealed(claims(1, boots=1), key=report_key(1))), judge=judge)
    assert query(database, "SELECT boots, alarm FROM reports ORDER BY boots") == [(1, None), (500, None)]
    assert len(query(database, "SELECT DISTINCT key FROM reports")) == 2


def test_device_that_was_provisioned_meanwhile(database):
    now, known = [100.0], dict(DEVICES)
    judge = collector.Judge({"gh-2": DEVICES["gh-2"]}, lambda: known, clock=lambda: now[0])
    stored(database, (REPORT, sealed(claims(1))), judge=judge)
    assert query(database, "SELECT reason FROM refusals") == [("key",)]  # it looked a moment ago
    now[0] += collector.RELOAD_S
    stored(database, (REPORT, sealed(claims(2))), judge=judge)
    assert query(database, "SELECT number FROM reports") == [(2,)]


def message(*entries, boots=7, before=b"0" * 16):
    return cbor2.dumps([boots, list(entries), before])


def entry(number, tag, event="boot"):
    return [cbor2.dumps([number, 1_800_000_000, 7, event, "active"]), tag]


JOURNAL = "gatehouse/gh-1/journal"


def test_journal_is_stored_as_it_comes(database):
    first, second, third = (entry(number, bytes([number]) * 16) for number in (1, 2, 3))
    stored(database, (JOURNAL, message(first, second)))
    stored(database, (JOURNAL, message(second, third, before=b"\1" * 16)), at=2000.0)  # sent again, and one more
    assert query(
        database, "SELECT device, number, before, entry, tag, boots, received FROM journal ORDER BY number"
    ) == [
        ("gh-1", 1, b"0" * 16, first[0], first[1], 7, 1000.0),
        ("gh-1", 2, b"\1" * 16, second[0], second[1], 7, 1000.0),
        ("gh-1", 3, b"\2" * 16, third[0], third[1], 7, 2000.0),
    ]
    forked = entry(3, b"?" * 16)
    stored(database, (JOURNAL, message(forked, before=b"\2" * 16)))
    assert query(database, "SELECT tag FROM journal WHERE number = 3 ORDER BY tag") == [(b"\3" * 16,), (b"?" * 16,)]


@pytest.mark.parametrize("forged", ["entry", "before"])
def test_forged_entry_under_an_honest_tag_does_not_keep_the_honest_one_out(database, forged):
    """A report tells the tag of the last entry before that entry is sent: who may publish can be there first."""
    honest = entry(2, b"\2" * 16)
    other, before = (entry(2, b"\2" * 16, "bott"), b"\1" * 16) if forged == "entry" else (honest, b"?" * 16)
    stored(database, (JOURNAL, message(other, before=before)))
    stored(database, (JOURNAL, message(honest, before=b"\1" * 16)))
    stored(database, (JOURNAL, message(honest, before=b"\1" * 16)))  # once more, and that is nothing new
    found = query(database, "SELECT entry, before FROM journal ORDER BY received")
    assert len(found) == 2 and (honest[0], b"\1" * 16) in found


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        cbor2.dumps({}),
        message(),
        message(entry(1, b"1" * 15)),
        message(entry(1, b"1" * 16), before=b"0" * 15),
        message(entry(1, b"1" * 16), boots=-1),
        message(entry(1, b"1" * 16), boots=True),
        message(entry(-1, b"1" * 16)),
        message(entry(1 << 63, b"1" * 16)),
        message(entry(1, b"1" * 16, 5)),
        message([b"\xff", b"1" * 16]),
        message([cbor2.dumps([1, None]), b"1" * 16]),
        message(*(entry(number, b"1" * 16) for number in range(9))),
        message(entry(1, b"1" * 16, "x" * 256)),
        message(entry(1, b"1" * 16, "x" * 2048)),
        message(*(entry(number, b"1" * 16, "x" * 236) for number in range(8))),  # each is short enough, all are not
        message(entry(1, b"1" * 16)) + b"\0",
    ],
)
def test_malformed_journal_is_refused(payload, tmp_path):
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        stored(database, (JOURNAL, payload))
        assert query(database, "SELECT * FROM journal") == []
        assert query(database, "SELECT reason, count FROM refusals") == [("format", 1)]
        stored(database, (JOURNAL, message(*(entry(number, bytes([number]) * 16) for number in range(8)))))
        assert query(database, "SELECT count(*) FROM journal") == [(8,)]


def test_newest_summary_stays(database):
    topic = "gatehouse/gh-1/summary"
    stored(database, (topic, b'{"a": 1}'), (topic, '{"a": "\u00fc"}'.encode()), at=2000.0)
    stored(database, (topic, b'{"a": 3}'), at=1500.0)  # by a slower collector
    [(received, payload)] = query(database, "SELECT received, payload FROM summaries")
    assert (received, json.loads(payload)) == (2000.0, {"a": "\u00fc"})
    stored(database, (topic, b"[]"), (topic, b"{"), (topic, b'{"a": "' + b"x" * 4096 + b'"}'), (topic, b"[" * 4000))
    stored(database, (topic, b'{"a": NaN}'), (topic, b'{"a": 1e999}'))  # one that is no JSON spoils a query of them all
    assert query(database, "SELECT reason, count FROM refusals") == [("format", 6)]
    assert json.loads(query(database, "SELECT payload FROM summaries")[0][0]) == {"a": "\u00fc"}


def test_other_topics_and_removed_messages_are_nothing(database):
    batch = stored(database, (REPORT, b""), ("gatehouse/group/report", b"x"), ("other", b"x"))
    assert not batch.reports and not batch.refusals


# When the database is not there.


class Script:
    """An inbox that gives what the test wrote, and notes what is acknowledged."""

    def __init__(self, *batches):
        self.batches = [[Message(REPORT, data, 1000.0, mid, 1) for mid, data in batch] for batch in batches]
        self.acknowledged = []
        self.asked = []

    def take(self, wait):
        return self.batches.pop(0) if self.batches else []

    def acknowledge(self, messages):
        self.acknowledged.append([one.mid for one in messages])

    def ask(self, device, number):
        self.asked.append((device, number))


def with_head(number, last, acknowledged):
    """A report whose journal ends at entry `last`, of which a broker acknowledged some."""
    found = claims(number)
    found[-70001][19] = [last, b"t" * 16, acknowledged]
    return sealed(found)


def test_entries_that_a_broker_took_and_nobody_has_are_asked_for(tmp_path):
    clock = [1000.0]
    numbers = iter(range(1, 100))
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        inbox = Script()
        taker = collector.Collector(inbox, collector.Judge(DEVICES), database, print, lambda: clock[0])

        def asked(last, acknowledged, later=collector.ASK_S):
            clock[0] += later
            inbox.batches = [[Message(REPORT, with_head(next(numbers), last, acknowledged), 1000.0, 1, 1)]]
            inbox.asked = []
            taker._store(inbox.take(0))
            return inbox.asked

        def comes(*entries):
            stored(database, (JOURNAL, message(*(entry(one, bytes([one]) * 16) for one in entries))))

        comes(1, 2, 3)
        assert asked(3, 3) == [], "all there"
        assert asked(5, 3) == [], "the rest is on its way"
        comes(6)
        assert asked(6, 6) == [("gh-1", 3)]
        comes(8)
        assert asked(8, 8, 1) == [], "it needs its time"
        comes(5)
        assert asked(8, 8) == [("gh-1", 6)], "4 is in its ring no more"
        comes(7)
        assert asked(8, 8) == []
        assert asked(900, 900) == [("gh-1", 900 - collector.RING)], "what a ring can hold"


def test_no_ring_is_longer_than_what_a_collector_looks_at():
    """A device keeps as many as fit. Entries that a broker took are lost where nobody looks as far back as that."""
    source = (ROOT / "lib" / "gatehouse" / "journal.py").read_text()
    told = {name: int(value) for name, value in re.findall(r"^_([A-Z]+) = const\((\d+)\)", source, re.MULTILINE)}
    least = cbor.dumps([1, None, 1, "x"])  # number, no clock yet, boot, event
    size = 2 + len(least) + told["TAG"]
    assert size >= 24
    assert told["SEGMENTS"] * (told["SEGMENT"] - told["HEADER"]) // size <= collector.RING
    assert collector.MOST > collector.RING, "one of each number at the least"


@pytest.mark.parametrize("forged", ["tag", "entry", "before"])
def test_forged_entry_does_not_stand_for_the_honest_one(tmp_path, forged):
    """Who may publish puts an entry of any number into the database: the honest one is asked for all the same."""
    clock, key, numbers = [1000.0], b"k" * 32, iter(range(1, 100))

    def sealed_entry(number, before, event="boot"):
        data = entry(number, b"", event)[0]
        return [data, hmac.digest(key, before + data, "sha256")[:16]]

    first = sealed_entry(1, b"0" * 16)
    second = sealed_entry(2, first[1])
    lies = {
        "tag": ([second[0], b"?" * 16], first[1]),
        "entry": ([entry(2, b"", "bott")[0], second[1]], first[1]),
        "before": (second, b"?" * 16),
    }
    lie, before = lies[forged]
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:

        def asked(keys):
            clock[0] += collector.ASK_S
            inbox = Script()
            taker = collector.Collector(
                inbox, collector.Judge(DEVICES), database, print, lambda: clock[0], keys={"gh-1": keys}.__getitem__
            )
            inbox.batches = [[Message(REPORT, with_head(next(numbers), 2, 2), 1000.0, 1, 1)]]
            taker._store(inbox.take(0))
            return inbox.asked

        stored(database, (JOURNAL, message(first)), (JOURNAL, message(lie, before=before)))
        assert asked({0: key}) == [("gh-1", 1)]
        assert asked({0: b"x" * 32, 1: key}) == [("gh-1", 1)], "of whatever owner epoch"
        assert asked({}) == [], "without a key nobody can tell"
        stored(database, (JOURNAL, message(second, before=first[1])))
        assert asked({0: key}) == [], "it came"


@pytest.mark.parametrize("forgeries", [5, 40])
def test_flood_of_forged_entries_is_not_read_into_memory(tmp_path, monkeypatch, forgeries):
    """They can crowd the honest one out of what is looked at: then it is asked for once more than needed, no worse."""
    monkeypatch.setattr(collector, "MOST", 20)
    key, read = b"k" * 32, []
    data = entry(1, b"")[0]
    honest = [data, hmac.digest(key, b"0" * 16 + data, "sha256")[:16]]
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        for number in range(forgeries):
            stored(database, (JOURNAL, message([data, b"%016d" % number], before=b"0" * 16)))
        stored(database, (JOURNAL, message(honest, before=b"0" * 16)))
        real = database.entries

        def entries(*arguments):
            found = real(*arguments)
            read.append(len(found))
            return found

        monkeypatch.setattr(database, "entries", entries)
        inbox = Script([(1, with_head(1, 1, 1))])
        taker = collector.Collector(inbox, collector.Judge(DEVICES), database, print, keys=lambda _: {0: key})
        taker._store(inbox.take(0))
    assert max(read) <= 20
    assert inbox.asked == ([] if forgeries < 20 else [("gh-1", 0)])


def test_what_a_device_said_it_dropped_ends_with_its_keys(tmp_path):
    """Provisioned anew under its id, it is another device, which may have what that one dropped."""

    def sealed_by(key, *item):
        data = cbor2.dumps(item)
        return [data, hmac.digest(key, b"0" * 16 + data, "sha256")[:16]]

    keys = {0: b"k" * 32}
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        for item in ((1, None, 1, "boot"), (6, None, 1, "dropped", 2, 1 << 40)):
            stored(database, (JOURNAL, message(sealed_by(keys[0], *item), before=b"0" * 16)))
        taker = collector.Collector(Script(), collector.Judge(DEVICES), database, print, keys=lambda _: keys)
        assert taker._lacks("gh-1", 1, 8) == [7, 8], "it says so of older ones than itself"
        keys = {0: b"n" * 32}
        assert taker._lacks("gh-1", 1, 8) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_former_owner_is_known_by_the_entries_that_are_there(tmp_path):
    """A collector that has the device key has the keys of epochs to come, too: docs/journal.md."""
    keys = journal.derived(b"d" * 32, 0)

    def sealed_by(epoch, *item):
        data = cbor2.dumps(item)
        return [data, hmac.digest(keys[epoch], b"0" * 16 + data, "sha256")[:16]]

    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        taker = collector.Collector(Script(), collector.Judge(DEVICES), database, print, keys=lambda _: keys)
        for item in ((1, None, 1, "boot"), (6, None, 1, "dropped", 2, 3)):
            stored(database, (JOURNAL, message(sealed_by(0, *item), before=b"0" * 16)))
        for _ in range(3):
            assert taker._lacks("gh-1", 1, 6) == [5]
        assert len(taker._gone["gh-1"]) == 1
        stored(database, (JOURNAL, message(sealed_by(1, 7, None, 1, "boot"), before=b"0" * 16)))
        assert taker._lacks("gh-1", 1, 7) == [2, 3, 4, 5], "the owner has changed"


@pytest.mark.parametrize("by", ["the device", "a former owner", "somebody else"])
def test_entries_that_the_device_says_it_dropped_are_not_asked_for(tmp_path, by):
    """Each request would have it send its whole ring again. Who forges that word hides nothing with it."""
    key, old, clock = b"k" * 32, b"o" * 32, [1000.0]
    data = cbor2.dumps([6, None, 1, "dropped", 2, 3])
    by_whom = {"the device": key, "a former owner": old}.get(by, b"?" * 32)
    told = [data, hmac.digest(by_whom, b"0" * 16 + data, "sha256")[:16]]
    first = entry(1, b"")[0]
    honest = [first, hmac.digest(key, b"0" * 16 + first, "sha256")[:16]]
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        stored(database, (JOURNAL, message(honest, before=b"0" * 16)), (JOURNAL, message(told, before=b"0" * 16)))
        inbox = Script(*([(1, with_head(number, 6, 6))] for number in range(1, 4)))
        taker = collector.Collector(
            inbox, collector.Judge(DEVICES), database, print, lambda: clock[0], keys=lambda _: {0: old, 1: key}
        )
        asked = []
        for _ in range(2):
            taker._store(inbox.take(0))
            asked.append(inbox.asked[-1:])
            clock[0] += collector.ASK_S
    # Entry 5 is neither here nor said to be dropped.
    assert asked == ([[("gh-1", 4)]] if by == "the device" else [[("gh-1", 1)]]) * 2
    assert len(inbox.asked) == 2


def test_journal_keys_are_those_of_now_and_a_damaged_file_is_told_once(tmp_path, capsys):
    item = shop.make(tmp_path / "shop")
    folder = item.devices / "gh-9"
    folder.mkdir(parents=True)
    facts = dict.fromkeys(("uuid", "vendor_id", "class_id"), str(uuid.uuid4()))
    (folder / "device.json").write_text(json.dumps(facts | {"id": "gh-9", "release": {"sequence": 1}, "groups": []}))
    keys = collect_command._journal_keys(item)

    times = iter(range(1, 10))

    def write(text):
        (folder / "secrets.json").write_text(text)
        os.utime(folder / "secrets.json", ns=(0, next(times)))

    assert keys("gh-9") == {} and capsys.readouterr().err == "", "kept elsewhere"
    write(json.dumps({"journal_keys": {"0": "aa" * 32}}))
    assert keys("gh-9") == {0: b"\xaa" * 32}
    write(json.dumps({"journal_keys": {"0": "aa" * 32, "1": "bb" * 32}}))
    assert keys("gh-9")[1] == b"\xbb" * 32, "a new owner"
    write("{ damaged")
    assert keys("gh-9") == keys("gh-9") == {}
    told = capsys.readouterr().err
    assert told.count("secrets.json") == 1 and "not looked at" in told
    write(json.dumps({"journal_keys": {"0": "aa" * 32}}))
    assert keys("gh-9") == {0: b"\xaa" * 32} and capsys.readouterr().err == ""


def test_damaged_file_of_one_device_refuses_the_report_of_none(tmp_path, capsys):
    """Found while a report of a new device is verified: a refusal is acknowledged, so that it would not come again."""
    item = shop.make(tmp_path / "shop")

    def write(device, text):
        (item.devices / device).mkdir(parents=True, exist_ok=True)
        (item.devices / device / "secrets.json").write_text(text)

    secrets = json.dumps({"report_key": report_key(0).hex()})
    write("gh-1", secrets)
    clock = [0.0]
    anew = collect_command._devices_anew(item, reports.known_devices(item.devices))
    judge = collector.Judge(reports.known_devices(item.devices), anew, clock=lambda: clock[0])
    write("gh-1", "{ damaged")
    write("gh-2", secrets)
    for number in (1, 2):
        clock[0] += collector.RELOAD_S
        messages = [
            Message(f"gatehouse/{device}/report", sealed(claims(number), device.encode()), 1.0)
            for device in ("gh-2", "gh-1")
        ]
        batch = judge.batch(messages)
        assert [row["device"] for row in batch.reports] == ["gh-2", "gh-1"] and not batch.refusals
    write("gh-3", "{ damaged, too, and never read before")
    assert sorted(anew()) == sorted(anew()) == ["gh-1", "gh-2"]
    told = capsys.readouterr().err
    assert told.count("gh-1") == 1 and "said before" in told and told.count("gh-3") == 1
    shutil.rmtree(item.devices / "gh-2")
    assert sorted(anew()) == ["gh-1"], "one that is gone is gone"


def test_request_for_entries_that_got_lost_is_made_again(tmp_path):
    """Whoever loses one request (the device may be away by then) must not have the entries left out for ever."""
    clock = [1000.0]
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        inbox = Script(*([(1, with_head(number, 5, 5))] for number in range(1, 20)))
        taker = collector.Collector(inbox, collector.Judge(DEVICES), database, print, lambda: clock[0])
        for _ in range(collector.ASKS + 3):
            clock[0] += collector.ASK_S
            taker._store(inbox.take(0))
        assert len(inbox.asked) > 2, "again, and again: the broker may be killed with the second one too"
        assert inbox.asked == [("gh-1", 0)] * collector.ASKS, "and not for ever: it may have lost them"
        stored(database, (JOURNAL, message(*(entry(one, bytes([one]) * 16) for one in range(1, 6)))))
        clock[0] += collector.ASK_S
        inbox.batches = [[Message(REPORT, with_head(30, 6, 6), 1000.0, 1, 1)]]
        taker._store(inbox.take(0))
        assert inbox.asked[collector.ASKS :] == [("gh-1", 5)], "another entry has its own requests"


def test_acknowledged_after_the_commit_and_not_before(tmp_path, monkeypatch):
    monkeypatch.setattr(collector, "RETRY_S", 0)
    inbox = Script([(1, sealed(claims(1))), (2, b"x")], [(3, sealed(claims(2)))])
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        talk, real, failing = [], database.store, [2]

        def store(batch):
            assert len(inbox.acknowledged) == 2 - len(inbox.batches) - 1, "before the commit"
            if failing[0]:
                failing[0] -= 1
                raise Unavailable("disk full")
            real(batch)

        monkeypatch.setattr(database, "store", store)
        taker = collector.Collector(inbox, collector.Judge(DEVICES), database, talk.append)
        taker.run(idle=0.01)
        assert inbox.acknowledged == [[1, 2], [3]]
        assert query(database, "SELECT number FROM reports ORDER BY number") == [(1,), (2,)]
    assert talk[:2] == ["disk full; trying again", "the database is back"]
    assert talk[2].startswith("gh-1: refused: ") and len(talk) == 3
    assert (taker.messages, taker.refused) == (3, {("gh-1", "format"): 1})


def test_alarm_outlives_a_database_that_was_away(tmp_path, monkeypatch):
    """A later report of the same batch must not make the copy's look like an old one that came late."""
    monkeypatch.setattr(collector, "RETRY_S", 0)
    copy = sealed(claims(4, c268=b"T" * 16))
    inbox = Script([(1, sealed(claims(3))), (2, copy), (3, sealed(claims(5)))])
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        real, failing = database.store, [1]

        def store(batch):
            if failing[0]:
                failing[0] -= 1
                raise Unavailable("database is locked")
            real(batch)

        monkeypatch.setattr(database, "store", store)
        collector.Collector(inbox, collector.Judge(DEVICES), database, lambda text: None).run(idle=0.01)
        found = query(database, "SELECT number, alarm FROM reports ORDER BY number")
    assert found == [(3, None), (4, "two boots have the number 7"), (5, None)]


def test_flood_of_invented_devices_fills_neither_memory_nor_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(collector, "STRANGERS", 3)
    invented = [Message(f"gatehouse/new-{number}/report", b"x", 1.0) for number in range(10)]
    inbox = types.SimpleNamespace(take=lambda wait: None, acknowledge=lambda messages: None)
    talk: list[str] = []
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        taker = collector.Collector(inbox, collector.Judge(DEVICES), database, talk.append)
        taker._store(invented[:5])
        taker._store(invented[5:])
        taker._store([Message(REPORT, b"x", 1.0), invented[0]])
        assert query(database, "SELECT count(*), sum(count) FROM refusals") == [(11, 12)]
    places = [(f"new-{number}", "format") for number in range(3)]
    assert taker.refused == {places[0]: 2, places[1]: 1, places[2]: 1, collector.MORE: 7, ("gh-1", "format"): 1}
    assert len(talk) == 5 and "gh-1" in talk[-1]


def test_database_that_is_away_when_it_is_asked_refuses_nothing():
    def newest(device, key):
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        collector.Judge(DEVICES, newest=newest).batch([Message(REPORT, sealed(claims(1)), 1.0)])


def test_end_while_the_database_is_away_acknowledges_nothing(tmp_path, monkeypatch):
    inbox = Script([(1, sealed(claims(1)))])
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'reports.db'}")) as database:
        taker = collector.Collector(inbox, collector.Judge(DEVICES), database, lambda text: taker.stop.set())

        def store(batch):
            raise Unavailable("away")

        monkeypatch.setattr(database, "store", store)
        taker.run()
    assert inbox.acknowledged == []


def test_a_locked_database_is_away_and_a_broken_one_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("gatehouse_tools.database.BUSY_S", 0.01)
    path = tmp_path / "reports.db"
    with contextlib.closing(Database(f"sqlite:///{path}")) as database:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            stored(database, (REPORT, sealed(claims(1))))
        other.execute("COMMIT")
        stored(database, (REPORT, sealed(claims(1))))
        other.execute("DROP TABLE refusals")
        other.close()
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(GatehouseError, match="not a database") as caught:
        Database(f"sqlite:///{path}")
    assert not isinstance(caught.value, Unavailable)


@pytest.mark.parametrize("url", ["reports.db", "mysql://host/x", "oracle://x"])
def test_wrong_url_is_one_clear_line(url):
    with pytest.raises(UsageError):
        Database(url)


def test_password_is_not_shown(tmp_path):
    with pytest.raises(GatehouseError) as caught:
        Database(f"postgresql+psycopg://me:secret@127.0.0.1:{free_port()}/x")
    assert "secret" not in str(caught.value) and "127.0.0.1" in str(caught.value)


# The command, against Mosquitto.

needs_mosquitto = pytest.mark.skipif(not brokers.mosquitto(), reason="no Mosquitto")
COUNT = 40  # devices


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    root = tmp_path_factory.mktemp("product") / "shop"
    product.create(root, "shop", "gatehouse.example", ["unix"])
    authority = Authority(root)
    for number in range(COUNT):
        folder = root / "devices" / f"gh-{number}"
        folder.mkdir(parents=True)
        (folder / "secrets.json").write_text(json.dumps({"report_key": report_key(0).hex()}))
    with Broker(tmp_path_factory.mktemp("broker"), authority.ca, *authority.broker, kind="mosquitto") as broker:
        yield root, authority, broker


def collect(house, url, *options, room=None):
    """`room`: bytes that none of its files may exceed."""
    root, _, broker = house
    where = ["--product", str(root), "--broker", f"localhost:{broker.port}", "--database", url]
    process = subprocess.Popen(
        [sys.executable, "-m", "gatehouse_tools", "collect", *where, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    if room:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, room))
    return process


def connected(process):
    assert "connected" in process.stderr.readline()


def numbers(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT device, number FROM reports ORDER BY device, number").fetchall()


@needs_mosquitto
def test_what_comes_is_in_the_database(house, tmp_path):
    _, authority, broker = house
    path = tmp_path / "reports.db"
    with Client(broker, authority, "gh-1") as device, collect(house, f"sqlite:///{path}", "--json") as process:
        connected(process)
        device.publish(REPORT, sealed(claims(1)))
        device.publish(REPORT, b"forged")
        device.publish(JOURNAL, message(entry(1, b"1" * 16)))
        device.publish("gatehouse/gh-1/summary", b"{}")
        soon(lambda: len(numbers(path)) == 1 and query_file(path, "SELECT count(*) FROM summaries") == [(1,)])
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0 and "gh-1: refused" in err
    told = json.loads(out)
    assert (told["messages"], told["reports"], told["known"], told["refused"]) == (4, 1, 0, 1)
    assert query_file(path, "SELECT number FROM journal") == [(1,)]


def query_file(path, text):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(text).fetchall()


@needs_mosquitto
@pytest.mark.parametrize("honest", [False, True])
def test_command_asks_for_what_a_forged_entry_stands_for(house, tmp_path, honest):
    """By the journal keys of secrets.json. The twin: an entry by the device is asked for no more."""
    root, authority, broker = house
    name, key, path = f"gh-{5 + honest}", b"k" * 32, tmp_path / "reports.db"
    folder = root / "devices" / name
    secrets = json.loads((folder / "secrets.json").read_text())
    (folder / "secrets.json").write_text(json.dumps(secrets | {"journal_keys": {"0": key.hex()}}))
    facts = dict.fromkeys(("uuid", "vendor_id", "class_id"), str(uuid.UUID(bytes=claims(1)[256][1:])))
    (folder / "device.json").write_text(json.dumps(facts | {"id": name, "release": {"sequence": 1}, "groups": []}))
    before, data = b"0" * 16, entry(1, b"")[0]
    tag = hmac.digest(key, before + data, "sha256")[:16] if honest else b"?" * 16

    def with_journal(number, acknowledged):
        found = claims(number)
        found[-70001][19] = [acknowledged, b"t" * 16, acknowledged]
        return sealed(found, kid=name.encode())

    with Client(broker, authority, name) as device:
        device.subscribe(topics.topic("journal-ack", id=name))
        with collect(house, f"sqlite:///{path}", "--idle", "10") as process:
            connected(process)
            device.publish(f"gatehouse/{name}/journal", message([data, tag], before=before))
            soon(lambda: query_file(path, "SELECT number FROM journal") == [(1,)])
            device.publish(f"gatehouse/{name}/report", with_journal(1, 1 + honest))
            asked = device.get(15)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=WAIT)
    assert journal_live.request(1 if honest else 0) in asked, "the entry after this one"


@needs_mosquitto
def test_what_came_while_it_was_away_comes_later(house, tmp_path):
    _, authority, broker = house
    path = tmp_path / "reports.db"
    with Client(broker, authority, "host", "publisher") as devices:
        with collect(house, f"sqlite:///{path}", "--group", "away") as process:
            connected(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT) == 0
        for number in range(1, 31):
            devices.publish(REPORT, sealed(claims(number)))
        with collect(house, f"sqlite:///{path}", "--group", "away", "--idle", "1", "--json") as process:
            out, _ = process.communicate(timeout=WAIT)
    assert json.loads(out)["reports"] == 30
    assert numbers(path) == [("gh-1", number) for number in range(1, 31)]


@needs_mosquitto
def test_disk_without_room_loses_nothing(house, tmp_path):
    """What cannot be stored is not acknowledged: whoever has room gets it."""
    _, authority, broker = house
    path = tmp_path / "reports.db"
    url = f"sqlite:///{path}"
    with Client(broker, authority, "host", "publisher") as devices:
        with collect(house, url, "--group", "full", "--json", room=200 * 1024) as process:
            connected(process)
            devices.publish(REPORT, sealed(claims(1)))
            soon(lambda: len(numbers(path)) == 1)  # the others may come as one batch, for which there is no room
            for number in range(2, 401):
                devices._client.publish(REPORT, sealed(claims(number)), 1)
            assert process.stderr.readline().rstrip().endswith("; trying again")
            process.send_signal(signal.SIGTERM)
            first = json.loads(process.communicate(timeout=WAIT)[0])
        assert process.returncode == 0 and 0 < first["reports"] < 400
        assert len(numbers(path)) == first["reports"]
        with collect(house, url, "--group", "full", "--idle", "2", "--json") as process:
            out, _ = process.communicate(timeout=WAIT)
    assert json.loads(out)["reports"] == 400 - first["reports"]
    assert numbers(path) == [("gh-1", number) for number in range(1, 401)]


@needs_mosquitto
def test_two_share_the_load_and_nothing_is_lost_when_one_is_killed(house, tmp_path):
    """SIGKILL in the middle of the stream; its share comes when somebody takes its name, and nothing twice."""
    _, authority, broker = house
    path = tmp_path / "reports.db"
    url, each = f"sqlite:///{path}", 25
    with Client(broker, authority, "host", "publisher") as devices, contextlib.ExitStack() as stack:
        both = [stack.enter_context(collect(house, url, "--group", "pair", "--name", name)) for name in "ab"]
        for one in both:
            stack.callback(one.kill)
            connected(one)
        for number in range(1, each + 1):
            for device in range(COUNT):
                kid = f"gh-{device}"
                devices._client.publish(f"gatehouse/{kid}/report", sealed(claims(number), kid.encode()), 1)
            if number == each // 2:
                soon(lambda: len(numbers(path)) > 100)
                both[0].kill()
                both[0].wait(WAIT)
        devices.publish("gatehouse/gh-0/summary", b"{}")
        soon(lambda: len(numbers(path)) >= COUNT * each * 0.5)
        survivor = len(numbers(path))
        assert survivor < COUNT * each, "the one that was killed had no share"
        late = stack.enter_context(collect(house, url, "--group", "pair", "--name", "a", "--idle", "1.5", "--json"))
        out, err = late.communicate(timeout=WAIT)
        assert late.returncode == 0, err
        soon(lambda: len(numbers(path)) == COUNT * each)
        both[1].send_signal(signal.SIGTERM)
        told, err = both[1].communicate(timeout=WAIT)
    assert numbers(path) == sorted((f"gh-{device}", n) for device in range(COUNT) for n in range(1, each + 1))
    assert json.loads(out)["reports"] > 0 and json.loads(out)["refused"] == 0
    assert "Traceback" not in err and " 0 messages refused" in told


def taken(inbox, count):
    """So many messages, which are not acknowledged."""
    found: list[Message] = []

    def all_came():
        found.extend(inbox.take(0.1))
        return len(found) >= count

    soon(all_came)
    return found


@needs_mosquitto
def test_what_was_received_and_not_acknowledged_comes_again(house):
    root, authority, broker = house
    texts = [b"%d" % number for number in range(5)]

    def again():
        inbox = collector.Inbox("again", "again", publish.tls_context(product.find(str(root))), print)
        inbox.open("localhost", broker.port, WAIT)
        return inbox

    with Client(broker, authority, "gh-1") as device:
        with contextlib.closing(again()) as inbox:
            for text in texts:
                device.publish(REPORT, text)
            assert [one.payload for one in taken(inbox, 5)] == texts
        with contextlib.closing(again()) as inbox:
            found = taken(inbox, 5)
            assert [one.payload for one in found] == texts
            inbox.acknowledge(found)
        with contextlib.closing(again()) as inbox:
            device.publish(REPORT, b"new")
            assert [one.payload for one in taken(inbox, 1)] == [b"new"], "what was acknowledged does not"


def test_messages_of_an_earlier_connection_are_not_acknowledged(monkeypatch):
    """The broker sends them again, perhaps under the numbers of others."""
    inbox = collector.Inbox("group", "name", None, print)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(inbox._client, "ack", lambda mid, qos: told.append((mid, qos)))
    inbox._session = 2
    inbox.acknowledge([Message(REPORT, b"", 0.0, mid, qos, session) for mid, qos, session in
                       ((1, 1, 1), (2, 1, 2), (0, 0, 2), (3, 1, 2))])  # fmt: skip
    assert told == [(2, 1), (3, 1)]


def arrives(inbox, topic, payload, qos):
    one = collector.mqtt.MQTTMessage(1, topic.encode())
    one.payload, one.qos = payload, qos
    inbox._received(None, None, one)


def test_flood_of_what_needs_no_acknowledgement_is_bounded():
    """The broker's window holds back what is sent at QoS 1, and nothing else."""
    inbox = collector.Inbox("group", "name", None, print)
    for _ in range(2 * collector.WINDOW):
        arrives(inbox, "gatehouse/gh-1/summary", b"{}", 0)
    for _ in range(collector.WINDOW):
        arrives(inbox, REPORT, b"x", 1)
    found = [inbox._queue.get_nowait() for _ in range(inbox._queue.qsize())]
    assert [sum(one.qos == qos for one in found) for qos in (0, 1)] == [collector.WINDOW, collector.WINDOW]
    arrives(inbox, "gatehouse/gh-1/summary", b"{}", 0)
    assert inbox.take(0)[0].payload == b"{}", "there is room again"


def test_broker_that_does_not_keep_to_its_window_does_not_fill_the_memory():
    inbox = collector.Inbox("group", "name", None, print)
    for _ in range(10 * collector.WINDOW):
        arrives(inbox, REPORT, b"x", 1)
    assert inbox._queue.qsize() == 10 * collector.WINDOW, "Mosquitto 2.0.11 sends what it has once it heard of some"
    for _ in range(collector.HELD - 10 * collector.WINDOW + 10):
        arrives(inbox, REPORT, b"x", 1)
    assert inbox._queue.qsize() == collector.HELD


def test_large_messages_that_wait_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(collector, "HELD_BYTES", 1 << 20)
    inbox = collector.Inbox("group", "name", None, print)
    dropped = []
    monkeypatch.setattr(inbox, "_drop", lambda: dropped.append(1))

    def fill():
        for _ in range(200):
            arrives(inbox, REPORT, bytes(16384), 1)
        return inbox._queue.qsize()

    def empty():
        return sum(len(found) for found in iter(lambda: inbox.take(0.01), []))

    assert fill() == 63 and empty() == 63 and dropped == [1], "with what a message is beside its payload"
    assert fill() == 63, "there is room again"
    client: Any = types.SimpleNamespace(subscribe=lambda filters: None)
    good = types.SimpleNamespace(is_failure=False)
    inbox._connected(client, None, types.SimpleNamespace(session_present=True), good, None)
    assert fill() == 63 and empty() == 63, "what comes again takes the place of what it was"
    assert dropped == [1, 1] and inbox.take(0) == [] and dropped == [1, 1], "once for what was left out"
    for _ in range(5000):
        arrives(inbox, "gatehouse/" + "x" * 1024 + "/summary", b"", 1)
    assert empty() < 800, "topics are bytes, too"


@needs_mosquitto
def test_what_was_left_out_comes_again(house, monkeypatch):
    """With a real broker: nothing of it was acknowledged, and the same connection would not bring it."""
    monkeypatch.setattr(collector, "HELD", 20)
    root, authority, broker = house
    inbox = collector.Inbox("left", "left", publish.tls_context(product.find(str(root))), print)
    inbox.open("localhost", broker.port, 10)
    plain: list[int] = []
    monkeypatch.setattr(ssl.SSLSocket, "shutdown", lambda *_: plain.append(1))
    try:
        with Client(broker, authority, "host") as client:
            for number in range(100):
                client.publish(REPORT, b"%d" % number)
            end, found = time.monotonic() + 30, set()
            soon(lambda: inbox._left_out)  # before the first is taken
            more = 100
            while not found >= set(range(100)) and time.monotonic() < end:
                messages = inbox.take(0.1)
                found |= {int(message.payload) for message in messages}
                inbox.acknowledge(messages)
                client.publish(REPORT, b"%d" % more)  # there is always something
                more += 1
        assert found >= set(range(100))
        assert not plain, "it takes TLS away under the thread that reads, for which ciphertext would be messages"
    finally:
        inbox.close()


def test_topic_that_is_no_text_does_not_end_the_thread():
    inbox = collector.Inbox("group", "name", None, print)
    one = collector.mqtt.MQTTMessage(1, b"gatehouse/\xff/report")
    one.payload, one.qos = b"x", 1
    inbox._received(None, None, one)
    batch = collector.Judge(DEVICES).batch(inbox.take(0))
    assert not batch.reports and not batch.refusals


@pytest.mark.parametrize("kept", [True, False])
def test_messages_that_come_again_are_not_kept_twice(kept):
    """While a database is away, each new connection brings the whole window once more."""
    inbox = collector.Inbox("group", "name", None, print)
    client: Any = types.SimpleNamespace(subscribe=lambda filters: None)
    good = types.SimpleNamespace(is_failure=False)
    for _ in range(3):
        inbox._connected(client, None, types.SimpleNamespace(session_present=kept), good, None)
        arrives(inbox, REPORT, b"x", 1)
    assert inbox._queue.qsize() == (1 if kept else 3), "a broker that forgot the session sends nothing again"


@needs_mosquitto
def test_message_of_any_size_does_not_reach_a_collector(house, tmp_path):
    _, authority, broker = house
    url = f"sqlite:///{tmp_path / 'reports.db'}"
    with Client(broker, authority, "host") as client, collect(house, url, "--name", "big", "--idle", "3") as process:
        connected(process)
        client.publish(REPORT, b"x" * (1 << 20))
        client.publish(REPORT, b"y" * reports.MAX_REPORT)
        process.wait(WAIT)
    found = query_file(tmp_path / "reports.db", "SELECT reason, count, length(message) FROM refusals")
    assert found == [("format", 1, reports.MAX_REPORT)]


@needs_mosquitto
def test_another_client_cannot_end_the_session_of_a_collector(house, tmp_path, monkeypatch):
    """Mosquitto lets whoever has a certificate come under any client id, and forget what waits there."""
    root, authority, broker = house
    ids = []
    real = collector.mqtt.Client

    def noting(version, name, **rest):
        ids.append(name)
        return real(version, name)

    with monkeypatch.context() as patched:
        patched.setattr(collector.mqtt, "Client", noting)
        secret = product.session_secret(root / "ca")
        for group, name, key in (("own", "c", secret), ("own", "d", secret), ("own", "c", b"?" * 16)):
            collector.Inbox(group, name, None, print, secret=key)
    assert len(set(ids)) == 3
    assert product.session_secret(root / "ca") == secret and len(secret) == 16
    database = tmp_path / "reports.db"
    with collect(house, f"sqlite:///{database}", "--group", "own", "--name", "c", "--idle", "1") as process:
        process.communicate(timeout=WAIT)
    with Client(broker, authority, "gh-2") as device:
        device.publish("gatehouse/gh-2/report", sealed(claims(77), kid=b"gh-2"))
    guess = hmac.digest(b"", b"own c", "sha256").hex()[:32]
    for taken in ("gatehouse-own-c", f"gatehouse-own-c-{guess}", ids[2]):
        with Client(broker, authority, "gh-1", taken):
            pass
    with collect(house, f"sqlite:///{database}", "--group", "own", "--name", "c", "--idle", "2") as process:
        process.communicate(timeout=WAIT)
    assert query_file(database, "SELECT device, number FROM reports WHERE number = 77") == [("gh-2", 77)]


@needs_mosquitto
def test_broker_that_restarts(house, tmp_path):
    root, authority, _ = house
    path = tmp_path / "reports.db"
    running = Broker(tmp_path / "broker", authority.ca, *authority.broker, kind="mosquitto", port=free_port()).start()
    try:
        with collect((root, authority, running), f"sqlite:///{path}", "--group", "restart") as process:
            connected(process)
            with Client(running, authority, "gh-1") as device:
                device.publish(REPORT, sealed(claims(1)))
                soon(lambda: len(numbers(path)) == 1)
            running.stop()
            assert "connection lost" in process.stderr.readline()
            running.start()
            connected(process)
            with Client(running, authority, "gh-1") as device:
                device.publish(REPORT, sealed(claims(2)))
                soon(lambda: len(numbers(path)) == 2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT) == 0
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--database", "nonsense"], 2, "no database URL"),
        (["--group", "a/b"], 2, "--group"),
        (["--name", "+"], 2, "--name"),
        (["--broker", "localhost:1"], 1, "nothing listens there"),
    ],
)
@needs_mosquitto
def test_bad_input_is_one_clear_line(house, tmp_path, options, code, words):
    with collect(house, f"sqlite:///{tmp_path / 'x.db'}", *options) as process:
        _, err = process.communicate(timeout=WAIT)
    assert process.returncode == code
    assert words in err and len(err.strip().splitlines()) == 1
