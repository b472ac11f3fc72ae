"""What the soak's checks find, and what they leave alone; the network that it plays; the plan that it draws."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from gatehouse_tools import cbor, journal
from tests.soak import checks, plan
from tests.soak.proxy import Proxy

KEY = b"k" * 32


def chained(*events: tuple, start: int = 1) -> list[journal.Record]:
    """A device's journal with these events and their details."""
    made, before = [], bytes(16)
    for number, event in enumerate(events, start):
        entry = cbor.dumps([number, 1_800_000_000 + number, 1, *event])
        tag = hmac.digest(KEY, before + entry, hashlib.sha256)[:16]
        made.append(journal.Record(number, entry, tag, before))
        before = tag
    return made


def written(records: list[journal.Record]) -> checks.Written:
    return checks.Written({record.number: record for record in records})


def judged(flash: list[journal.Record], stored: list[journal.Record]) -> list[str]:
    return checks.arrived(written(flash), stored) + checks.chain(written(flash), stored, {0: KEY})


EVENTS = [("boot", "active", 1, ""), *[("did", "console", "owner", "update.postpone")] * 9]


def test_all_that_was_written_is_there_once() -> None:
    flash = chained(*EVENTS)
    assert judged(flash, flash) == []
    assert judged(flash, flash[::-1]) == [], "in any order"


@pytest.mark.parametrize("number", [1, 5, 10])
def test_a_lost_entry_is_found_wherever_it_is(number: int) -> None:
    flash = chained(*EVENTS)
    faults = judged(flash, [record for record in flash if record.number != number])
    assert f"entry {number} never arrived" in faults


def test_a_doubled_entry_is_found() -> None:
    flash = chained(*EVENTS)
    assert "entry 5 is at the collector 2 times" in judged(flash, [*flash, flash[4]])
    other = journal.Record(5, flash[4].entry, bytes(16), flash[4].before)
    faults = judged(flash, [*flash, other])
    assert "entry 5 is at the collector 2 times" in faults and "entry 5 is another one at the collector" in faults
    assert any(fault.startswith("chain: ") for fault in faults)


def test_an_entry_that_was_never_written_is_found() -> None:
    flash = chained(*EVENTS)
    assert "entry 10 is at the collector, and was never seen on the flash" in judged(flash[:9], flash)


def test_dropped_entries_may_be_missing_and_no_others() -> None:
    flash = chained(*EVENTS, ("dropped", 4, 3))
    assert written(flash).dropped() == {4, 5, 6}
    assert judged(flash, [record for record in flash if not 4 <= record.number <= 6]) == []
    assert judged(flash, flash) == [], "the device may count some that did arrive"
    assert "entry 7 never arrived" in judged(flash, [record for record in flash if not 4 <= record.number <= 7])


def test_looks_at_the_flash_must_come_before_the_ring_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    records = chained(*EVENTS)
    found = checks.Written()

    def look(some: list[journal.Record]) -> None:
        monkeypatch.setattr(journal, "from_image", lambda _: journal.Image("gh-1", some, [], [], None, 0))
        found.look(b"")

    look(records[:5])
    look(records[3:8])
    assert found.faults == [] and len(found.entries) == 8
    look([journal.Record(8, b"other", bytes(16), bytes(16))])
    assert found.faults == ["entry 8 on flash is another one now"]
    look(records[9:])
    assert found.faults[1:] == ["entries 9 to 9 were written and lost between two looks"]


def reports(*boots: list[int]) -> list[checks.Heap]:
    return checks.heaps([(boot, free) for boot, told in enumerate(boots, 1) for free in told])


def test_a_leak_is_found_and_noise_is_none() -> None:
    chance = random.Random(1)
    noise = [80_000 + chance.randint(-500, 500) for _ in range(100)]
    assert checks.leaks(reports(noise, noise)) == []
    once = [*noise[:50], 40_000, *noise[50:]]
    assert checks.leaks(reports(once)) == [], "one report in the middle of something"
    slow = [free - 50 * number for number, free in enumerate(noise)]
    assert "boot 2" in checks.leaks(reports(noise, slow))[0], "50 bytes a report"
    assert checks.leaks(reports(noise, [free - 3000 for free in noise])) != [], "less in each boot"
    assert checks.leaks(reports(noise[: checks.LEAST - 1])) == ["heap: no boot was long enough to judge"]


def test_only_resets_that_were_caused_pass() -> None:
    good = ["power-on", "boot", "wdt", "cut", "power-on", "boot", "power-off"]
    assert checks.resets(good, 2, 2) == []
    for kind in checks.RESETS:
        assert f"reset: 1 times {kind}" in checks.resets([*good, kind, "boot"], 2, 3)
    assert checks.resets(good, 2, 3) == ["reset: it booted 3 times, and was given power 2 times"]


def test_plan_is_the_seeds_and_has_what_was_asked_for(seed: int) -> None:
    wanted = plan.Wanted(30, 100, 60, 20, True)
    incidents, rest = plan.draw(wanted, random.Random(seed))
    assert (incidents, rest) == plan.draw(wanted, random.Random(seed))
    kinds = [incident.kind for incident in incidents]
    counts = Counter(kinds)
    assert set(counts) == set(plan.WHAT)
    assert sum(counts[kind] for kind in (*plan.RESTARTS, "flood")) == 100 and counts["flood"] == 1
    assert sum(counts[kind] for kind in plan.CUTS) == 60
    assert sum(counts[kind] for kind in plan.POWER_CUTS) == 20
    assert not set(kinds[-53:]) & set(plan.POWER_CUTS), "no power cut in the last third of the others"
    assert abs(sum(incident.after for incident in incidents) + rest - 30 * 86400) < 1


@contextlib.contextmanager
def echo() -> Iterator[Proxy]:
    """A proxy before a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(one: socket.socket) -> None:
        with one, contextlib.suppress(OSError):
            while data := one.recv(100):
                one.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    proxy = Proxy(server.getsockname()[1])
    try:
        yield proxy
    finally:
        proxy.close()
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def dial(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 5)


def test_link_is_cut_silent_and_refused() -> None:
    with echo() as proxy:
        with dial(proxy) as one:
            one.sendall(b"a")
            assert one.recv(10) == b"a"
            proxy.cut()
            assert one.recv(10) == b"", "cut"
        with dial(proxy) as one:
            one.sendall(b"b")
            assert one.recv(10) == b"b"
            proxy.silence(True)
            one.sendall(b"c")
            one.settimeout(0.1)
            with pytest.raises(TimeoutError):
                one.recv(10)
            one.settimeout(5)
            proxy.silence(False)
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(10) == b"", "what was sent into the silence never arrives"
        proxy.refuse(True)
        with dial(proxy) as one, contextlib.suppress(ConnectionResetError):
            assert one.recv(10) == b"", "refused"
        proxy.refuse(False)
        with dial(proxy) as one:
            one.sendall(b"d")
            assert one.recv(10) == b"d"
