"""Indexes and packs that a signer's mistake, or his key in wrong hands, could bring: each beside its honest twin."""

import asyncio
import hashlib
import io
import os
from binascii import unhexlify

import fake_chip as chip
from fake_device import MemoryPack
from gatehouse import Refused, cbor, tree, unpack
from harness import cases, raises

HEAP = "8M"  # the flash is in RAM here

EMPTY = hashlib.sha256(b"").digest()
ENTRY = ["a", 0, EMPTY, 0, 0]


def index(entries=(ENTRY,), **changes):
    """An encoded index; _N changes field N, None takes it out."""
    fields = {1: 1, 2: "demo", 3: "1.0.0", 4: "1.0.0", 5: 6, 6: list(entries)}
    for name, value in changes.items():
        fields[int(name[1:])] = value
    return cbor.dumps({key: value for key, value in fields.items() if value is not None})


def read(data):
    found = tree.Index(io.BytesIO(data))
    return found, list(found)


def test_name_version_and_core_are_short_texts():
    for field in ("_2", "_3", "_4"):
        read(index(**{field: "1" * 32}))
        for bad in ("1" * 33, b"1.0.0", 1, [], {}):
            with raises(Refused, "format"):
                read(index(**{field: bad}))


def test_fields_are_one_to_six():
    read(index())
    for key in range(1, 6):
        with raises(Refused, "format"):
            read(index(**{"_%d" % key: None, "_7": "1.0.0"}))  # six fields all the same
        with raises(Refused, "format"):
            read(index(**{"_%d" % key: None}))
    with raises(Refused, "format"):
        read(index(_0=1, _1=None))
    with raises(Refused, "format"):
        read(index(_7=1))


def test_fields_are_integers():
    honest = index()
    for number, text in ((1, b"\xf9\x3c\x00"), (1, b"\xf5"), (5, b"\xf9\x45\x00"), (6, b"\xf9\x46\x00")):
        at = {1: 1, 5: len(honest) - 44, 6: len(honest) - 42}[number]
        assert honest[at] == number
        with raises(Refused, "format"):
            read(honest[:at] + text + honest[at + 1 :])
    for value in (True, 1.0):
        with raises(Refused, "format"):
            read(index(_1=value))
    with raises(Refused, "format"):
        read(index(_5=6.0))


def test_entries_have_one_form():
    read(index([ENTRY]))
    for bad in (
        7,
        "a",
        {1: 2},
        [],
        ENTRY[:4],
        ENTRY + [[]],
        ENTRY + [[], []],
        [b"a"] + ENTRY[1:],
        ["a", "0", EMPTY, 0, 0],
        ["a", -1, EMPTY, -1, 0],
        ["a", 1, EMPTY, -1, 1],
        ["a", 0, EMPTY, 0, -1],
    ):
        with raises(Refused, "format"):
            read(index([bad]))


def large(files):
    """An index of files with a megabyte and so sixteen block digests each: about 600 bytes an entry."""
    blocks = [bytes(32)] * 16
    return index([["f%03d" % number, 1 << 20, bytes(32), 1 << 20, 0, blocks] for number in range(files)])


def test_size_of_an_index_is_bounded():
    honest, endless = large(100), large(120)
    assert len(honest) <= tree.MAX_INDEX < len(endless)
    assert len(read(honest)[1]) == 100
    with raises(Refused, "size"):
        read(endless)


def put(path, data):
    with open(path, "wb") as file:
        file.write(data)


def fill(data, size=None, bodies=b""):
    """Fill slot a from a pack with this index."""
    pack = MemoryPack(len(data).to_bytes(4, "big") + data + bodies)
    digest = hashlib.sha256(data).digest()
    asyncio.run(unpack.fill(pack, "/slots/a", None, digest, size or len(data), lambda done, total: None))
    return pack


def test_index_over_the_limit_is_not_asked_for():
    chip.install()
    data = large(120)
    with raises(Refused, "size"):
        fill(data)
    assert chip.tree_of("/slots/a") == {}


def test_release_that_cannot_run_here_changes_nothing_in_the_slot():
    chip.install()
    put("/slots/a/old.mpy", b"of the release before")
    for changes, reason in (({"_4": "1.0.1"}, "core"), ({"_4": "2.0.0"}, "core"), ({"_5": 7}, "mpy")):
        with raises(Refused, reason):
            fill(index(**changes))
        assert chip.tree_of("/slots/a")["old.mpy"] == b"of the release before"
    fill(index())
    assert set(chip.tree_of("/slots/a")) == {"a", "index.cbor"}


def test_slot_that_this_core_cannot_run_does_not_verify():
    chip.install()
    put("/slots/a/a", b"")
    for changes, reason in (({}, None), ({"_4": "1.0.1"}, "core"), ({"_5": 7}, "mpy")):
        data = index(**changes)
        put("/slots/a/index.cbor", data)
        digest = hashlib.sha256(data).digest()
        if reason:
            with raises(Refused, reason):
                tree.verify("/slots/a", digest, len(data))
        else:
            assert tree.verify("/slots/a", digest, len(data)) == ("demo", "1.0.0")


def test_room_for_the_boot_record_stays():
    for spare, reason in ((9, None), (4, "full")):  # blocks of 4 KiB beside the file; 8 are the margin
        chip.install(blocks=48)
        free = os.statvfs("/slots/a")
        body = bytes((free[3] - spare) * 4096 - 1)
        data = index([["a", len(body), hashlib.sha256(body).digest(), len(body), 0]])
        if len(body) > 65536:
            digests = [hashlib.sha256(body[at : at + 65536]).digest() for at in range(0, len(body), 65536)]
            data = index([["a", len(body), hashlib.sha256(body).digest(), len(body), 0, digests]])
        if reason:
            with raises(Refused, reason):
                fill(data, bodies=body)
            assert "a" not in chip.tree_of("/slots/a")
        else:
            fill(data, bodies=body)
            assert chip.tree_of("/slots/a")["a"] == body


def test_what_fitted_once_fits_again_after_each_cut():
    body = bytes(5000)  # two blocks of flash with much to spare, and each folder takes two more
    entries = [["f%d/g%02d" % (n // 4, n), len(body), hashlib.sha256(body).digest(), len(body), 0] for n in range(16)]
    data = index(entries)
    for blocks in range(40, 120):
        chip.install(blocks=blocks)
        try:
            fill(data, bodies=body * 16)
            break
        except Refused as error:
            assert error.reason == "full", error
    for came in range(17):
        chip.install(blocks=blocks)
        with raises(Refused, "network"):
            fill(data, bodies=(body * 16)[: came * 5000 - (came == 16)])
        assert len(chip.tree_of("/slots/a")) >= came
        fill(data, bodies=body * 16)
        assert len(chip.tree_of("/slots/a")) == 17


def test_body_ends_where_the_signed_file_ends():
    for name, reason in (("honest", None), ("longer", "size"), ("unended", "size")):
        chip.install()
        case = cases("deflated")[name]
        data, size = unhexlify(case["pack"]), case["size"]
        head, body = data[4 : 4 + size], data[4 + size :]
        if reason:
            with raises(Refused, reason):
                fill(head, bodies=body)
        else:
            fill(head, bodies=body)
