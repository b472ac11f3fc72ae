"""Packs of application images, made by the host's own tool, and indexes that lie."""

import hashlib
import random
from typing import Any

import cbor2

from gatehouse_tools import pack
from gatehouse_tools.image import flash

SIZE = 2 * pack.BLOCK + 5008  # two whole blocks and a short one, which ends within a sector


def image(label: str, size: int = SIZE) -> bytes:
    return flash.stand_in_app(label, size)


def honest(data: bytes, core: str = "1.0.0") -> dict[str, Any]:
    index, whole = pack.build_firmware(data, "demo", "2.0.0", core)
    return made(whole, index.data)


def made(whole: bytes, index: bytes) -> dict[str, Any]:
    return {"pack": whole, "digest": hashlib.sha256(index).digest(), "size": len(index)}


def lying(data: bytes, body: bytes | None = None, entry: list[Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A pack whose index is as given, and signed so."""
    blocks = [hashlib.sha256(data[at : at + pack.BLOCK]).digest() for at in range(0, len(data), pack.BLOCK)]
    row = [pack.FIRMWARE, len(data), hashlib.sha256(data).digest(), len(data), 0]
    row = entry if entry is not None else [*row, blocks] if len(blocks) > 1 else row
    whole: dict[int, Any] = {1: 1, 2: "demo", 3: "2.0.0", 4: "1.0.0", 5: 6, 6: [row]}
    index = cbor2.dumps(whole | {int(key[1:]): value for key, value in fields.items()}, canonical=True)
    body = data if body is None else body
    return made(len(index).to_bytes(4, "big") + index + body, index)


def indexes(data: bytes) -> dict[str, Any]:
    """Each name says what is wrong with the index, which is signed all the same. Their packs end with the index."""
    digest = hashlib.sha256(data).digest()
    blocks = [hashlib.sha256(data[at : at + pack.BLOCK]).digest() for at in range(0, len(data), pack.BLOCK)]
    row = [pack.FIRMWARE, len(data), digest, len(data), 0, blocks]

    def with_(at: int, value: Any) -> dict[str, Any]:
        return lying(data, b"", [*row[:at], value, *row[at + 1 :]])

    longer = lying(data, b"")["pack"][4:] + b"\0"
    return {
        "another path": with_(0, "app.mpy"),
        "stored size": with_(3, len(data) - 1),
        "deflated": with_(4, 1),
        "short digest": with_(2, digest[:31]),
        "negative size": with_(1, -1),
        "no blocks": lying(data, b"", row[:5]),
        "a block too few": with_(5, blocks[:-1]),
        "a block too many": with_(5, [*blocks, blocks[0]]),
        "a block that is text": with_(5, [*blocks[:-1], "x" * 32]),
        "a short block": with_(5, [*blocks[:-1], b"x" * 31]),
        "two entries": lying(data, b"", _6=[row, row]),
        "no entry": lying(data, b"", _6=[]),
        "another format": lying(data, b"", _1=2),
        "number as version": lying(data, b"", _3=2),
        "number as core": lying(data, b"", _4=1),
        "long name": lying(data, b"", _2="x" * 33),
        "text as mpy": lying(data, b"", _5="6"),
        "truth as mpy": lying(data, b"", _5=True),
        "one more field": lying(data, b"", _7=0),
        "bytes after it": made(len(longer).to_bytes(4, "big") + longer, longer),
    }


def make(rng: random.Random) -> dict[str, Any]:
    data, small = image("new"), image("small", 8192)
    blocks = [hashlib.sha256(data[at : at + pack.BLOCK]).digest() for at in range(0, len(data), pack.BLOCK)]
    no_image = bytes([data[0] ^ 1]) + data[1:]
    changed = data[: pack.BLOCK] + rng.randbytes(pack.BLOCK) + data[2 * pack.BLOCK :]
    wrong = [pack.FIRMWARE, len(data), hashlib.sha256(b"other").digest(), len(data), 0, blocks]
    return {
        "honest": honest(data, "1.2.0"),
        "same by hand": lying(data),
        "small": honest(small),
        "changed": honest(changed),
        "tiny": lying(data[:16]),
        "no image": lying(no_image),
        "contradiction": lying(data, entry=wrong),
        "indexes": indexes(data),
    }
