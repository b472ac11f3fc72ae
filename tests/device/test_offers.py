"""Offers that wait: their order, their room, their pauses; none lost, none in the way of the others."""

import asyncio

from test_app import Installer, envelope, some_time, until

HEAP = "96wK"


def waiting(**times):
    from gatehouse import offers

    class Quick(offers.Offers):
        LOOK_MS = GATHER_MS = FIRST_RETRY_MS = 1
        WAY_MS = PAUSE_MS = 0

    for name, value in times.items():
        setattr(Quick, name, value)
    renewed = []
    made = Quick(Installer(None, lambda: None), lambda: renewed.append(1))
    made.renewed = renewed
    made.installer = made._installer
    return made


def served(made, may=lambda: True):
    return asyncio.create_task(made.serve(may))


def data(item):
    return item and item.data


def test_sequence_number_is_read_from_the_heads():
    from gatehouse import cbor, offers

    for number in (0, 23, 24, 1_800_000_000, 1 << 62):
        assert offers.sequence(envelope(number, b"x" * 300)) == number
    whole = envelope(5)
    for end in range(len(whole) - 3):
        assert offers.sequence(whole[:end]) in (-1, 5)
    odd = [b"\xff", b"", cbor.dumps({}), cbor.dumps(cbor.Tag(107, [1])), cbor.dumps(cbor.Tag(107, {3: 5}))]
    odd.append(cbor.dumps(cbor.Tag(107, {2: b"", 3: cbor.dumps({2: 5})})))
    for inner in ({1: 1, 2: "x"}, {1: 1, 2: -1}, {1: 1, 2: 1.5}, {1: 1, 2: float("inf")}, {1: 2, 2: []}, []):
        odd.append(cbor.dumps(cbor.Tag(107, {2: b"", 3: cbor.dumps(inner)})))
    for item in odd:
        assert offers.sequence(item) == -1, item


def test_offer_of_many_small_items_takes_no_memory_to_read():
    import gc

    from gatehouse import cbor, offers

    for inner in (b"\xa2\x01\x01\x02" + b"\x98\xff" + 255 * b"\x80", b"\x99\x04\x00" + 1024 * b"\x80"):
        # The whole is as large as an envelope may be; decoded, its thousands of empty lists fill the heap.
        bomb = cbor.dumps(cbor.Tag(107, {2: b"", 3: inner}))
        gc.collect()
        free = gc.mem_free()
        assert offers.sequence(bomb) == -1
        assert free - gc.mem_free() < 2048


def test_highest_first_and_the_newest_of_each_topic():
    made = waiting()
    made.put(envelope(1), b"a")
    made.put(envelope(3), b"b")
    made.put(envelope(2), b"c")
    made.put(envelope(9), b"c")
    made.put(envelope(2), b"c")
    made.put(envelope(3), b"d")
    assert [data(made.take()) for _ in range(4)] == [envelope(3), envelope(2), envelope(1), None]


def test_what_finds_no_room_is_asked_for_again():
    async def run():
        made = waiting()
        made._renewed -= 60000
        big = b"x" * 8150
        made.put(envelope(1, b"honest"), b"device")
        made.put(envelope(1 << 60, big), b"group")
        assert len(made) == 1
        made.installer.answers[envelope(1 << 60, big)] = ["refused"]
        task = served(made)
        await until(lambda: made.renewed, "renewal")
        made.installer.known.append(envelope(1 << 60, big))
        made.put(envelope(1, b"honest"), b"device")
        made.put(envelope(1 << 60, big), b"group")
        await until(lambda: envelope(1, b"honest") in made.installer.offered, "the honest one")
        await some_time()
        assert made.renewed == [1] and made.installer.offered.count(envelope(1 << 60, big)) == 1
        task.cancel()

    asyncio.run(run())


def test_broker_is_not_asked_again_where_all_found_room_nor_all_the_time():
    async def run():
        made = waiting()
        made._renewed -= 60000
        made.put(envelope(1), b"device")
        task = served(made)
        await until(lambda: made.installer.offered, "offer")
        await some_time()
        assert not made.renewed
        for _ in range(3):
            made.put(envelope(1, b"y" * 5000), b"device")
            made.put(envelope(2, b"x" * 5000), b"group")
            await until(lambda: not len(made), "empty")
            await some_time()
        await some_time()
        assert made.renewed == [1]
        task.cancel()

    asyncio.run(run())


def test_offer_that_fails_waits_longer_each_time_and_lets_others_through():
    async def run():
        made = waiting(FIRST_RETRY_MS=20)
        made.installer.answers[envelope(9)] = ["failed"]
        made.put(envelope(9), b"a")
        made.put(envelope(2), b"b")
        task = served(made)
        await until(lambda: made.installer.offered.count(envelope(9)) == 3, "third try")
        assert made.installer.offered[:2] == [envelope(9), envelope(2)]
        assert made.installer.offered.count(envelope(2)) == 1
        assert [item.tries for item in made._waiting] == [3]
        task.cancel()

    asyncio.run(run())


def test_pauses_double_up_to_an_hour():
    from time import ticks_diff, ticks_ms

    made = waiting(FIRST_RETRY_MS=15000)
    made.installer.again = True
    made.put(envelope(1))
    item = made.take()
    pauses = []
    for _ in range(10):
        made._later(item)
        pauses.append(round(ticks_diff(item.due, ticks_ms()) / 1000))
        made._waiting.clear()
    assert pauses == [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_offer_that_is_held_back_stays_when_another_one_follows():
    async def run():
        made = waiting()
        made.installer.answers[envelope(5)] = ["available", None]
        task = served(made)
        made.put(envelope(5), b"device")
        await until(lambda: made.installer.offered, "offer")
        made.put(envelope(3), b"group")  # it brings nothing new
        await until(lambda: len(made.installer.offered) == 2, "the other")
        await some_time()
        assert len(made.installer.offered) == 2 and len(made) == 1
        made.installer.may = True
        await until(lambda: len(made.installer.offered) == 3, "the one that was held back")
        assert made.installer.offered[-1] == envelope(5)
        await some_time()
        assert len(made.installer.offered) == 3 and not len(made)
        task.cancel()

    asyncio.run(run())


def test_newer_offer_of_a_topic_replaces_one_that_waits_for_its_next_try():
    made = waiting(FIRST_RETRY_MS=60000)
    made.installer.again = True
    made.put(envelope(9), b"a")
    item = made.take()
    made.put(envelope(2), b"a")
    made._later(item)
    assert data(made.take()) == envelope(2) and not len(made)


def test_failing_one_is_tried_at_once_when_what_was_missing_is_there():
    made = waiting(FIRST_RETRY_MS=60000)
    made.installer.again = True
    made.put(envelope(9), b"a")
    made._later(made.take())
    assert made.take() is None
    made.soon()
    assert data(made.take()) == envelope(9)


def test_who_holds_memory_for_less_sees_an_offer_before_it_takes_memory():
    async def run():
        made = waiting(WAY_MS=20)
        assert not made.busy()
        made.put(envelope(1))
        task = served(made)
        await until(made.busy, "sight")
        assert not made.installer.offered
        await until(lambda: made.installer.offered, "offer")
        await until(lambda: not made.busy(), "end")
        task.cancel()

    asyncio.run(run())


def test_nothing_is_given_while_it_may_not_be():
    async def run():
        made = waiting()
        may = []
        made.put(envelope(1))
        task = served(made, lambda: bool(may))
        await some_time()
        assert not made.installer.offered
        may.append(1)
        made.soon()
        await until(lambda: made.installer.offered, "offer")
        made.installer.answers[envelope(2)] = [True]
        made.put(envelope(2))
        await asyncio.wait_for(task, 5)  # a restart is due

    asyncio.run(run())
