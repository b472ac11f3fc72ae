"""The boot record by itself: what is no record, and floors that never go down."""

from gatehouse import record, transitions
from harness import raises

OLD, NEW = b"\x01" * 32, b"\x02" * 32


def release(digest, sequence, slot="a"):
    return record.Release([slot, digest, sequence, None, 1])


def made():
    """A device that runs release 100."""
    found = record.Record()
    found.active = release(OLD, 100)
    found.floors = {1: {"app": [100, OLD]}, 2: {"app": 90}, 3: OLD, 4: []}
    return found


def test_round_trip():
    found = made()
    transitions.start_trial(found, release(NEW, 200, "b"), NEW, 200, ["app"])
    again = record.Record(found.dumps())
    assert again.dumps() == found.dumps()
    assert again.trial.fields() == ["b", NEW, 200, None, 1] and again.tries == transitions.TRIES


def test_each_flipped_bit_is_noticed():
    data = made().dumps()
    for at in range(len(data)):
        for bit in range(8):
            bad = bytearray(data)
            bad[at] ^= 1 << bit
            with raises(ValueError):
                record.Record(bytes(bad))
    for size in range(len(data)):
        with raises(ValueError):
            record.Record(data[:size])


def test_sound_bytes_that_are_no_record():
    from binascii import crc32

    from gatehouse import cbor

    for fields in (
        [],
        {},
        {1: None},
        {1: None, 2: None, 3: 0, 4: 0, 5: {}},
        {1: [1], 2: None},
        {1: 7, 2: None},
        7,
        None,
    ):
        body = cbor.dumps(fields)
        with raises(ValueError):
            record.Record(crc32(body).to_bytes(4, "big") + body)


def test_large_file_is_not_read():
    with open("large", "wb") as file:
        file.write(bytes(8192))
    assert record.load("large") == bytes(8192)
    with open("large", "ab") as file:
        file.write(b"x")
    assert record.load("large") is None
    assert record.load("nowhere") is None


def test_confirming_moves_both_floors():
    found = made()
    transitions.start_trial(found, release(NEW, 200, "b"), NEW, 200, ["app"])
    transitions.confirm_trial(found)
    assert found.floors == {1: {"app": [200, NEW]}, 2: {"app": 100}, 3: NEW, 4: []}


def test_floors_never_go_down():
    found = made()
    found.floors[1]["app"] = [300, NEW]
    found.floors[2]["app"] = 150
    transitions.start_trial(found, release(OLD, 200, "b"), OLD, 200, ["app"])  # as after a lost record
    transitions.confirm_trial(found)
    assert found.floors[1]["app"] == [300, NEW]
    assert found.floors[2]["app"] == 150


def test_merge_takes_the_higher_of_each_floor():
    found = made()
    transitions.merge(found, {1: {"app": [99, NEW], "config": [5, NEW]}, 2: {"app": 95, "config": 1}, 3: NEW, 4: [NEW]})
    assert found.floors == {1: {"app": [100, OLD], "config": [5, NEW]}, 2: {"app": 95, "config": 1}, 3: OLD, 4: []}
    transitions.merge(found, {1: {"app": [101, NEW]}, 2: {"app": 94}, 3: b"", 4: []})
    assert found.floors[1]["app"] == [101, NEW] and found.floors[2]["app"] == 95
