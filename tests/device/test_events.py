"""The journal on its way to the broker: in order, until it is acknowledged, and honest about what was lost."""

import asyncio

import fake_chip as chip
import fake_device as device
from harness import cases

HEAP = "8M"  # the flash is in RAM here
TOPIC = "gatehouse/gh-test/journal"


class Link:
    """A broker that acknowledges what it takes; `answers` are exceptions from that, for the next messages."""

    def __init__(self):
        self.connected = True
        self.followed = []
        self.messages = []  # that reached it
        self.answers = []  # False: lost; None: it came, but the acknowledgement did not

    def follow(self, topic, wanted):
        self.followed.append((topic, wanted))

    async def publish_acked(self, topic, payload, retain=False, timeout_ms=0):
        if chip.power.off:
            raise chip.PowerCut
        assert topic.endswith("/journal") and retain is False
        answer = self.answers.pop(0) if self.answers else True
        if answer is not False:
            self.messages.append(payload)
        return answer is True


class Installer:
    def __init__(self):
        self.state = {"state": "idle"}


class Clock:
    now = 100


def start(entries=0):
    """(boot, Events) of a new device with so many entries beside that of its boot."""
    case = device.decode(cases("components"), "pack")
    device.provision(case)
    boot = device.boot()
    device.clock(case["now"])
    for number in range(entries):
        assert boot.note("test", number)
    return boot, sender(boot)


def sender(boot, link=None):
    import events
    from gatehouse import status

    status.uptime = lambda: Clock.now
    events.status = status
    return events.Events(boot, Installer(), link or Link())


def again():
    """A restart: (boot, Events)."""
    import sys

    sys.modules.pop("events", None)
    sys.modules.pop("batch", None)
    boot = device.boot()
    return boot, sender(boot)


def send(found):
    """Do all that there is to do. How many messages the broker acknowledged."""
    count = 0
    for _ in range(200):
        done = asyncio.run(found._step())
        if done is None:
            return count
        count += done is True
    raise AssertionError("it never ends")


def arrived(messages, key):
    """All entries of messages as lists, as they came; each is by the device, and each message hangs together."""
    from gatehouse import cbor, mac

    found = []
    for payload in messages:
        assert len(payload) <= 2048
        boots, items, before = cbor.loads(payload)
        assert boots and 0 < len(items) <= 8
        for entry, tag in items:
            assert tag == mac.hmac_sha256(key, before, entry)[:16]
            before = tag
            found.append(cbor.loads(entry))
    return found


def numbers(found, boot):
    return [item[0] for item in arrived(found._link.messages, boot.store.derive("journal"))]


def test_all_entries_arrive_once_and_in_order():
    boot, found = start(100)
    assert found._link.followed == [("gatehouse/%s/journal/ack" % boot.identity.id, True)]
    assert send(found) == 13
    assert numbers(found, boot) == list(range(1, 102))
    assert send(found) == 0, "nothing new"
    boot.note("test", "one more")
    assert send(found) == 1
    assert numbers(found, boot) == list(range(1, 103))
    assert boot.journal[5] == 102


def test_message_is_small_whatever_is_in_it():
    boot, found = start()
    for _ in range(20):
        boot.note("test", bytes(200))
    send(found)
    assert numbers(found, boot) == list(range(1, 22))
    assert max(len(payload) for payload in found._link.messages) <= 1024 + 32


def test_what_is_not_acknowledged_is_sent_again():
    boot, found = start(30)
    found._link.answers = [True, False, False, True, None]
    for done in (True, False, False, True, False):
        assert asyncio.run(found._step()) is done
    assert boot.journal[5] == 16
    send(found)
    assert numbers(found, boot) == list(range(1, 25)) + list(range(17, 32)), "the lost acknowledgement: twice"
    assert boot.journal[5] == 31


def test_restart_loses_nothing_and_repeats_few():
    boot, found = start(100)
    send(found)
    for _ in range(3):
        boot.note("test")
    writes = boot.store.number("acked")
    assert 101 - 16 < writes <= 101
    boot, later = again()
    send(later)
    came = numbers(later, boot)
    assert came == list(range(came[0], 106)) and writes + 1 == came[0] and 105 - came[0] < 16 + 5


def test_few_writes_of_nvs():
    boot, found = start()
    store, written = boot.store, []
    real = store.put_number

    def put_number(key, value):
        written.append(value)
        real(key, value)

    store.put_number = put_number
    for number in range(100):
        boot.note("test", number)
        send(found)
    assert len(written) == 6, written
    Clock.now += 3599
    send(found)
    assert len(written) == 6
    Clock.now += 1
    send(found)
    assert len(written) == 7 and written[-1] == 101, "what is acknowledged does not wait for ever"
    Clock.now += 3600
    send(found)
    assert len(written) == 7, "nothing new"


def test_days_offline_up_to_the_size_of_the_ring():
    boot, found = start()
    send(found)
    for number in range(150):
        boot.note("test", number)
    send(found)
    assert numbers(found, boot) == list(range(1, 152))


def test_what_the_ring_lost_is_told_in_the_chain():
    boot, found = start(7)
    send(found)
    for number in range(800):
        boot.note("test", number)
    boot.store.put_number("acked", 8)
    boot, found = again()
    send(found)
    came = arrived(found._link.messages, boot.store.derive("journal"))
    assert came[-1][3] == "dropped"
    first, count = came[-1][4:]
    kept = [item[0] for item in came]
    assert first == 9 and first + count == kept[0] > 9, "just those that nobody has"
    assert kept == list(range(kept[0], 811)), "and all others"
    boot, found = again()
    send(found)
    assert [item[3] for item in arrived(found._link.messages, boot.store.derive("journal"))].count("dropped") <= 1
    assert read_events(boot).count("dropped") == 1, "told once"


def test_loss_is_told_once_whatever_comes_then():
    boot, found = start(800)
    assert asyncio.run(found._step()) is True
    boot, found = again()
    send(found)
    assert read_events(boot).count("dropped") == 1


def read_events(boot):
    from gatehouse import cbor, journal

    return [cbor.loads(entry)[3] for segment in journal.segments() for entry, _, _ in journal.entries(segment)]


def test_what_was_acknowledged_and_then_left_the_ring_is_not_called_lost():
    boot, found = start()
    for number in range(80):
        for _ in range(10):
            boot.note("test", number)
        send(found)
    assert "dropped" not in read_events(boot)
    assert numbers(found, boot) == list(range(1, 802))
    found.received(b"\0")
    send(found)
    assert "dropped" not in read_events(boot), "nor when somebody asks for it"


def test_loss_that_cannot_be_told_is_told_later():
    boot, found = start(800)
    real, boot.note = boot.note, lambda *_: False
    for _ in range(3):
        assert asyncio.run(found._step()) is False
    assert boot.journal[5] == 0 and not found._link.messages
    boot.note = real
    send(found)
    assert "dropped" in read_events(boot)


def test_who_asks_has_it_sent_again():
    boot, found = start(30)
    send(found)
    del found._link.messages[:]
    found.received(memoryview(b"\x14"))  # has 20
    assert asyncio.run(found._step()) and boot.journal[5] == 31
    send(found)
    assert numbers(found, boot) == list(range(21, 32))
    assert boot.journal[5] == 31


def test_of_several_who_ask_each_gets_what_it_lacks():
    boot, found = start(30)
    send(found)
    del found._link.messages[:]
    for payload in (b"\x16", b"\x14", b"\x18\x19"):
        found.received(payload)
    send(found)
    assert numbers(found, boot) == list(range(21, 32))


def test_requests_move_nothing_forward():
    boot, found = start(30)
    for payload in (b"\x18\x1f", b"\x19\xff\xff"):
        found.received(payload)
    send(found)
    found.received(b"\x18\x1f")  # all
    send(found)
    boot.note("test")
    send(found)
    assert numbers(found, boot) == list(range(1, 33))
    found.received(b"\x19\xff\xff")
    send(found)
    found.received(b"\x18\x1e")
    send(found)
    assert numbers(found, boot)[32:] == [31, 32], "a number that was never sent holds no honest request back"


def test_malformed_requests_do_nothing():
    _, found = start(3)
    send(found)
    for payload in (
        b"",
        b"\xff",
        b"\xf5",
        b"\xf4",
        b"\x20",
        b"\x61x",
        b"\x80",
        b"\xf9\0\0",
        b"\0\0",
        b"\x18\1",
        b"\0" * 10,
    ):
        found.received(payload)
        assert found._asked is None, payload
    assert send(found) == 0
    found.received(b"\0")
    assert send(found) == 1


def test_long_request_takes_no_memory():
    _, found = start(3)
    import events

    class Cbor:
        @staticmethod
        def loads(data, depth):
            assert len(data) <= 9
            return real.loads(data, depth)

    real, events.cbor = events.cbor, Cbor
    found.received(memoryview(bytes(8192)))
    found.received(memoryview(b"\x1b\0\0\0\1\0\0\0\0"))
    assert found._asked == 1 << 32


def test_flood_of_requests_sends_once_in_a_while():
    boot, found = start(30)
    send(found)
    for _ in range(100):
        found.received(b"\0")
        send(found)
    assert len(numbers(found, boot)) == 62
    boot.note("test", "between")
    send(found)
    assert numbers(found, boot)[-1] == 32, "what is new goes on"
    Clock.now += 10
    send(found)
    assert len(numbers(found, boot)) == 63 + 32, "the request is not forgotten"


def test_flood_of_requests_on_a_slow_link_lets_a_pass_come_to_its_end():
    boot, found = start(60)
    for _ in range(12):
        found.received(b"\0")
        Clock.now += 10
        asyncio.run(found._step())
    assert max(numbers(found, boot)) == 61


def test_message_ends_where_the_chain_is_broken():
    start(6)
    with open("/state/journal-1", "rb") as file:
        data = file.read()
    at = data.index(b"dtest\x03")
    device.write("/state/journal-1", data[: at + 5] + b"\x17" + data[at + 6 :])
    _, found = again()
    send(found)
    from gatehouse import cbor

    whole = [cbor.loads(payload) for payload in found._link.messages]
    told = [[cbor.loads(entry)[0] for entry, _ in items] for _, items, _ in whole]
    assert told == [[1, 2, 3, 4, 5, 6, 7], [8]], told
    assert whole[1][2] == whole[0][1][3][1], "behind the last that holds"


def test_service_waits_for_link_memory_and_update():
    boot, found = start(3)
    asyncio.run(wait_for_them(boot, found))


async def wait_for_them(boot, found):
    found.LOOK_MS = found.PAUSE_MS = 1
    found._link.connected = False
    task = asyncio.create_task(found.run())
    await asyncio.sleep_ms(20)
    assert not found._link.messages
    found._installer.state["state"] = "downloading"
    found._link.connected = True
    await asyncio.sleep_ms(20)
    assert not found._link.messages, "an update needs the memory"
    import events

    real, left = events._message, [MemoryError(), OSError(5)]

    def message(*arguments):
        if left:
            raise left.pop(0)
        return real(*arguments)

    events._message = message
    found._installer.state["state"] = "idle"
    await asyncio.sleep_ms(60)
    assert not left and numbers(found, boot) == [1, 2, 3, 4]
    assert found._failures == 0
    task.cancel()


def test_broker_that_ends_each_session_for_it_is_left_alone_for_longer():
    _, found = start(3)
    asyncio.run(be_left_alone(found))


async def be_left_alone(found):
    found.LOOK_MS = 1
    found._link.answers = [False] * 100
    task = asyncio.create_task(found.run())
    await asyncio.sleep_ms(600)
    left = len(found._link.answers)
    assert 88 <= left <= 94, left
    task.cancel()


def test_modules_do_not_stay():
    import sys

    _, found = start(3)
    import events

    events.settle()
    send(found)
    assert "batch" not in sys.modules and "gatehouse.journal" not in sys.modules


def test_cut_at_each_operation_loses_nothing_that_was_not_told():
    boot, found = start(5)
    send(found)
    for _ in range(90):
        boot.note("test", bytes(200))
    key = boot.store.derive("journal")
    saved = chip.snapshot()
    had = list(found._link.messages)
    cut = 0
    while True:
        cut += 1
        chip.restore(saved)
        _, found = again()
        link = found._link
        link.messages = list(had)
        chip.power.on(cut)
        try:
            send(found)
            done = True
        except chip.PowerCut:
            done = False
        chip.power.on()
        boot, found = again()
        found._link = link
        send(found)
        came = {item[0]: item for item in arrived(link.messages, key)}
        gone = set()
        for item in came.values():
            if item[3] == "dropped":
                gone |= set(range(item[4], item[4] + item[5]))
        missing = set(range(1, boot.journal[2] + 1)) - set(came)
        assert missing <= gone and boot.journal[5] == boot.journal[2]
        if done:
            break
    assert cut > 3
