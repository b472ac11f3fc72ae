"""Random CBOR values and damaged encodings, judged by cbor2."""

import io
import math
import struct
from collections.abc import Mapping

import cbor2

MAX_DEPTH = 8  # as gatehouse.cbor
INTEGERS = [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, 2**71, 2**72 - 1, 2**200]
FLOATS = [0.0, -0.0, 1.5, 0.1, 65504.0, 65520.0, 2.0**-24, 2.0**-25, 3.4028234663852886e38, 1e39, 5e-324, math.inf]
CHARACTERS = "aZ0 \x00\x7f\x80ÿĀ߿ࠀ€퟿\ue000\uffff𐀀😀\U0010ffff"


def make(rng):
    """values: [notation, hex] of canonical items; damaged: [hex, whether it is one canonical item within the limits].

    Notation: [kind, content]; integers as decimal text and floats as the hex of 64 bits, because JSON loses both.
    """
    values = [value(rng, 0) for _ in range(400)]
    values = [item for item in values if len(encode(item)) < 600]  # all of it must fit the device's heap at once
    encoded = [encode(item) for item in values]
    for item, data in zip(values, encoded, strict=True):
        assert encode(decode(data)) == data, f"cbor2 does not take back {item!r}"
    short = [data for data in encoded if len(data) < 100]
    damaged = [damage(rng, rng.choice(short)) for _ in range(1500)]
    return {
        "values": [[notation(item), data] for item, data in zip(values, encoded, strict=True)],
        "damaged": [[data, canonical(data)] for data in damaged],
    }


def value(rng, depth):
    """A random value; containers become rarer with depth."""
    kind = rng.choice("iiibtfs" if depth > 4 else "iiibtfsamgamg")
    if kind == "a":
        return [value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 5, 26)) >> depth)]
    if kind == "m":
        return {key(rng): value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 5, 26)) >> depth)}
    if kind == "g":
        return cbor2.CBORTag(rng.choice((0, 1, 17, 18, 61, 107, 55799, 2**64 - 1)), value(rng, depth + 1))
    if kind == "f":
        return rng.choice((*FLOATS, -math.inf, math.nan, rng.uniform(-1e6, 1e6), float(rng.randrange(4096))))
    if kind == "s":
        return rng.choice((None, True, False, cbor2.undefined, cbor2.CBORSimpleValue(rng.choice((0, 19, 32, 255)))))
    return key(rng, kind)


def key(rng, kind=None):
    kind = kind or rng.choice("ibt")
    if kind == "i":
        number = rng.choice((*INTEGERS, rng.randrange(300), rng.getrandbits(rng.randrange(1, 90))))
        return rng.choice((number, -1 - number))
    length = rng.choice((0, 1, 1, 2, 2, 5, 9, 23, 24, 256))
    return rng.randbytes(length) if kind == "b" else "".join(rng.choices(CHARACTERS, k=length))


def encode(item):
    """Deterministic encoding. cbor2's canonical mode is used for leaves only: it sorts keys the RFC 7049 way."""
    if isinstance(item, (list, tuple)):
        return head(4, len(item)) + b"".join(map(encode, item))
    if isinstance(item, Mapping):
        pairs = sorted((encode(key), encode(value)) for key, value in item.items())
        return head(5, len(item)) + b"".join(key + value for key, value in pairs)
    if isinstance(item, cbor2.CBORTag):
        return head(6, item.tag) + encode(item.value)
    return cbor2.dumps(item, canonical=True)


def head(major, argument):
    data = bytearray(cbor2.dumps(argument))  # an unsigned integer has the same head under major type 0
    data[0] |= major << 5
    return bytes(data)


def decode(data):
    """One item by cbor2, with every tag but the bignums left as it is (their content comes frozen)."""

    def tag(number):
        return lambda content, immutable: cbor2.CBORTag(number, content)

    known = (0, 1, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
    file = io.BytesIO(data)
    item = cbor2.CBORDecoder(file, semantic_decoders={number: tag(number) for number in known}, read_size=1).decode()
    if file.read(1):
        raise ValueError("trailing bytes")
    return item


def canonical(data):
    """Whether cbor2 reads `data` and deterministic encoding gives it back, within the limits of gatehouse.cbor."""
    try:
        item = decode(data)
    except (cbor2.CBORDecodeError, ValueError):
        return False
    return allowed(item, 0) and encode(item) == data


def allowed(item, depth):
    if type(item) is int:
        return -(2**64) <= item < 2**64 or depth < MAX_DEPTH
    if isinstance(item, (list, tuple)):
        return depth < MAX_DEPTH and all(allowed(value, depth + 1) for value in item)
    if isinstance(item, Mapping):
        keys = all(type(key) in (int, str, bytes) and allowed(key, depth + 1) for key in item)
        return depth < MAX_DEPTH and keys and all(allowed(value, depth + 1) for value in item.values())
    if isinstance(item, cbor2.CBORTag):
        return depth < MAX_DEPTH and allowed(item.value, depth + 1)
    return True


def damage(rng, data):
    """One to three bytes changed, put in, taken out, or the end cut off; now and then nothing."""
    data = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        # Heads are what the rules are about, so most strange bytes are heads.
        byte = rng.choice(
            (rng.randrange(256), rng.choice(b"\x00\x18\x19\x1b\x1f\x5f\x80\x81\x9f\xa1\xbf\xc2\xc3\xf8\xf9\xff"))
        )
        how = rng.randrange(4)
        if how == 0:
            data[at : at + 1] = bytes([byte])
        elif how == 1:
            data.insert(at, byte)
        elif how == 2:
            del data[at : at + 1]
        elif data[at:]:
            del data[at:]
    return bytes(data)


def notation(item):
    if item is None or item is True or item is False:
        return ["simple", {None: 22, True: 21, False: 20}[item]]
    if item is cbor2.undefined:
        return ["simple", 23]
    if isinstance(item, int):
        return ["int", str(item)]
    if isinstance(item, bytes):
        return ["bytes", item]
    if isinstance(item, str):
        return ["text", item]
    if isinstance(item, float):
        return ["float", struct.pack(">d", item)]
    if isinstance(item, (list, tuple)):
        return ["array", [notation(value) for value in item]]
    if isinstance(item, Mapping):
        return ["map", [[notation(key), notation(value)] for key, value in item.items()]]
    if isinstance(item, cbor2.CBORTag):
        return ["tag", [str(item.tag), notation(item.value)]]
    return ["simple", item.value]
