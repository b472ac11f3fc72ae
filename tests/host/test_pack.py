"""Packs and indexes: their format as the contract of device and host has it, and every way in which one can lie."""

import hashlib
import random
import zlib

import cbor2
import pytest

from gatehouse_tools import core, pack
from gatehouse_tools.errors import GatehouseError

MPY = b"M\x06\x00\x1f"
FILES = {"app.mpy": MPY + b"code " * 300, "data/noise.bin": random.Random(1).randbytes(700), "data/empty": b""}


def refused(reason, function, *arguments, **more):
    with pytest.raises(GatehouseError) as caught:
        function(*arguments, **more)
    assert caught.value.reason == reason, caught.value
    return str(caught.value)


def build(files=None, **more):
    return pack.build(FILES if files is None else files, "shop", "1.2.3", **more)


def packed(entries, *bodies, **fields):
    """A pack made by hand, with cbor2 alone."""
    index = {1: 1, 2: "shop", 3: "1.2.3", 4: "1.0.0", 5: 6, 6: entries} | {int(key[1:]): fields[key] for key in fields}
    data = cbor2.dumps(index)
    return len(data).to_bytes(4, "big") + data + b"".join(bodies)


def entry(path="app.bin", plain=b"x", **changes):
    digest = hashlib.sha256(plain).digest()
    row = {"path": path, "size": len(plain), "digest": digest, "stored": len(plain), "encoding": 0}
    return list((row | changes).values())


# The format.


def test_index_is_the_map_that_devices_read():
    index, data = build(needs_core="1.0.0")
    fields = cbor2.loads(index.data)
    assert [fields[key] for key in (1, 2, 3, 4, 5)] == [1, "shop", "1.2.3", "1.0.0", 6]
    assert [item[0] for item in fields[6]] == ["app.mpy", "data/empty", "data/noise.bin"]
    for path, size, digest, stored, encoding in fields[6]:
        assert (size, digest) == (len(FILES[path]), hashlib.sha256(FILES[path]).digest())
        assert encoding == (path == "app.mpy")
        assert stored < size if encoding else stored == size
    assert data[:4] == len(index.data).to_bytes(4, "big")
    assert data[4 : 4 + len(index.data)] == index.data
    assert index.digest == hashlib.sha256(index.data).digest()
    assert index.core == "1.0.0"
    assert build()[0].core == core.version()


def test_bodies_follow_in_order_and_inflate_in_a_window_of_1_kib():
    index, data = build()
    at = 4 + len(index.data)
    for one in index.entries:
        stored = data[at : at + one.stored]
        plain = zlib.decompress(stored, -10) if one.encoding == pack.DEFLATE else stored
        assert plain == FILES[one.path]
        assert one.offset == at - 4 - len(index.data)
        at += one.stored
    assert at == len(data)


def test_same_input_same_bytes_whatever_the_order():
    backwards = dict(reversed(FILES.items()))
    assert build()[1] == build(backwards)[1]
    assert build()[1] != build(FILES | {"data/empty": b"1"})[1]


def test_nothing_is_squeezed_on_request():
    index, _ = build(squeeze=False)
    assert {one.encoding for one in index.entries} == {pack.RAW}


def test_large_files_have_a_digest_for_each_block():
    data = random.Random(2).randbytes(3 * 65536 + 1)
    index, packed_bytes = build({"big.bin": data, "edge.bin": data[:65536], "over.bin": data[:65537]})
    blocks = {one.path: one.blocks for one in index.entries}
    assert blocks["edge.bin"] == ()
    assert [len(blocks[path]) for path in ("big.bin", "over.bin")] == [4, 2]
    assert blocks["big.bin"][3] == hashlib.sha256(data[-1:]).digest()
    assert len(cbor2.loads(index.data)[6][0]) == 6
    assert pack.unpack(packed_bytes)[1]["big.bin"] == data


def test_large_files_are_raw_so_that_their_blocks_can_be_fetched_alone():
    index, packed_bytes = build({"big.bin": bytes(65537), "edge.bin": bytes(65536)})
    assert {one.path: one.encoding for one in index.entries} == {"big.bin": pack.RAW, "edge.bin": pack.DEFLATE}
    assert pack.unpack(packed_bytes)[1] == {"big.bin": bytes(65537), "edge.bin": bytes(65536)}


def test_unpack_gives_what_was_packed():
    index, files = pack.unpack(build()[1])
    assert files == FILES
    assert index == build()[0]


# What a device would refuse is refused here.

PATHS = {
    "path": [
        "../app.mpy",
        "/app.mpy",
        "a//b",
        "a/",
        ".hidden",
        "a/.b",
        "a b",
        "caf\u00e9",
        "x" * 65,
        "a/b/c/d/e",
        "a.new",
    ],
    "module": ["gatehouse/x.mpy", "os.mpy", "machine.py", "umqtt/simple.mpy", "main.py", "boot.py"],
}


@pytest.mark.parametrize(("reason", "path"), [(reason, path) for reason, paths in PATHS.items() for path in paths])
def test_paths_by_the_rules_of_the_device(reason, path):
    refused(reason, build, {path: b"x"})
    refused(reason, pack.split, packed([entry(path)], b"x"))
    build({"x" * 64: b"x", "lib/os.mpy": MPY, "a/b/c/d.txt": b"x"})


@pytest.mark.parametrize("name", ["manifest.suit", "index.cbor"])
def test_the_slots_own_files_are_reserved(name):
    refused("path", build, {name: b"x"})
    build({"data/" + name: b"x"})


def test_limits():
    refused("size", build, {})
    build({f"f{number:03}": b"" for number in range(256)})
    refused("size", build, {f"f{number:03}": b"" for number in range(257)})
    build({"big": b"\0" * 1048576})
    refused("size", build, {"big": b"\0" * 1048577})
    refused("format", build, needs_core="1" * 33)


@pytest.mark.parametrize("data", [b"", b"M", b"x = 1\n", b"M\x05\x00\x1f", b"M\x06\x18\x1f", b"M\x06\x2c\x1f"])
def test_bytecode_of_another_version_or_for_one_processor(data):
    refused("mpy", build, {"app.mpy": data})
    build({"app.mpy": b"M\x06\x03\x1f"})  # .mpy 6.3: the sub-version matters to native code only
    build({"app.bin": data})


# Packs that lie.


def test_honest_hand_made_pack():
    good = packed([entry("a"), entry("b", b"yy")], b"x", b"yy")
    assert pack.unpack(good)[1] == {"a": b"x", "b": b"yy"}


BAD = {
    "other format": ("format", packed([entry()], b"x", k1=2)),
    "seventh field": ("format", packed([entry()], b"x", k7=0)),
    "name is a number": ("format", packed([entry()], b"x", k2=1)),
    "version too long": ("format", packed([entry()], b"x", k3="1" * 33)),
    "mpy is a text": ("format", packed([entry()], b"x", k5="6")),
    "entries are a text": ("format", packed("x", b"x")),
    "entry is a text": ("format", packed(["x"], b"x")),
    "no entry": ("size", packed([])),
    "not sorted": ("format", packed([entry("b"), entry("a")], b"x", b"x")),
    "twice": ("format", packed([entry("a"), entry("a")], b"x", b"x")),
    "digest too short": ("format", packed([entry(digest=b"x")], b"x")),
    "negative size": ("format", packed([entry(size=-1)], b"x")),
    "raw, other stored size": ("format", packed([entry(stored=2)], b"xx")),
    "unknown encoding": ("format", packed([entry(encoding=2)], b"x")),
    "blocks of a small file": ("format", packed([[*entry(), [b"x" * 32]]], b"x")),
    "larger than any flash": ("size", packed([entry(size=1 << 21, stored=1 << 21)], b"x")),
    "bytes after the end": ("size", packed([entry()], b"xy")),
    "too few bytes": ("size", packed([entry(size=2, stored=2)], b"x")),
    "another file": ("digest", packed([entry()], b"y")),
    "does not inflate": ("digest", packed([entry(plain=b"x" * 9, encoding=1, stored=3)], b"abc")),
    "empty": ("size", b""),
    "length only": ("size", b"\0\0\0\x09"),
    "endless index": ("size", b"\xff\xff\xff\xff" + b"x" * 20),
    "index is a list": ("format", b"\0\0\0\x01\x80"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_lying_pack_is_refused(name):
    reason, data = BAD[name]
    refused(reason, pack.unpack, data)


def test_a_bomb_stops_at_the_size_that_was_signed():
    packer = zlib.compressobj(9, zlib.DEFLATED, -10)
    bomb = packer.compress(b"\0" * 5_000_000) + packer.flush()
    row = entry("a", b"\0" * 10_000, stored=len(bomb), encoding=1)
    assert "another length" in refused("digest", pack.unpack, packed([row], bomb))
    packer = zlib.compressobj(9, zlib.DEFLATED, -10)
    honest = packer.compress(b"\0" * 10_000) + packer.flush()
    row = entry("a", b"\0" * 10_000, stored=len(honest), encoding=1)
    assert pack.unpack(packed([row], honest))[1] == {"a": b"\0" * 10_000}


def test_a_wrong_block_is_told():
    plain = b"\1" * 65537
    row = entry("a", plain)
    blocks = [hashlib.sha256(plain[:65536]).digest(), hashlib.sha256(b"other").digest()]
    assert "block 1" in refused("digest", pack.unpack, packed([[*row, blocks]], plain))


def test_every_cut_and_every_flipped_bit_is_noticed(seed):
    index, data = build()
    good = pack.unpack(data)[1]
    for length in range(len(data)):
        with pytest.raises(GatehouseError):
            pack.unpack(data[:length])
    chance = random.Random(seed)
    for _ in range(300):
        at = chance.randrange(len(data))
        bad = bytearray(data)
        bad[at] ^= 1 << chance.randrange(8)
        try:
            found, files = pack.unpack(bytes(bad))
        except GatehouseError as error:
            assert error.reason
        else:
            # A name or a version of the index, whose digest is signed; or one of the bits that fill the last byte of a
            # deflate stream and say nothing.
            within = 4 <= at < 4 + len(index.data)
            assert found.digest != index.digest if within else files == good
