"""Application images and their packs for unit tests, made on the device's side: fast, and with any lie inside."""

import hashlib

from gatehouse import cbor

BLOCK = 65536
_made = {}


def data(label="new", size=2 * BLOCK + 5008):
    """`size` bytes that differ everywhere; two whole blocks and one that ends within a sector."""
    if (label, size) not in _made:
        piece = hashlib.sha256(label.encode()).digest()
        out = bytearray(size)
        for at in range(0, size, 32):
            piece = hashlib.sha256(piece).digest()
            out[at : at + 32] = piece[: size - at]
        out[0] = 0xE9
        _made[label, size] = bytes(out)
    return _made[label, size]


def entry(image):
    """The entry of an image in its index."""
    row = ["firmware.bin", len(image), hashlib.sha256(image).digest(), len(image), 0]
    blocks = [hashlib.sha256(image[at : at + BLOCK]).digest() for at in range(0, len(image), BLOCK)]
    return row + [blocks] if len(blocks) > 1 else row


def packed(image, row=None, core="1.0.0", fields=None, more=b""):
    """{"pack", "digest", "size", "image"} of an image; `row`, `fields` and `more` bytes make an index that lies."""
    whole = {1: 1, 2: "demo", 3: "2.0.0", 4: core, 5: 6, 6: [entry(image) if row is None else row]}
    whole.update(fields or {})
    index = cbor.dumps(whole) + more
    return {
        "pack": len(index).to_bytes(4, "big") + index + image,
        "digest": hashlib.sha256(index).digest(),
        "size": len(index),
        "image": image,
    }


def changed(image, block):
    """`image` with one block of it made new."""
    return image[: block * BLOCK] + data("changed")[1 : BLOCK + 1] + image[(block + 1) * BLOCK :]


def indexes(image):
    """[(what is wrong, a pack whose index is so)]."""
    row = entry(image)
    blocks = row[5]

    def with_(at, value):
        return packed(image, row[:at] + [value] + row[at + 1 :])

    def field(key, value):
        return packed(image, fields={key: value})

    return [
        ("another path", with_(0, "app.mpy")),
        ("stored size", with_(3, len(image) - 1)),
        ("deflated", with_(4, 1)),
        ("short digest", with_(2, row[2][:31])),
        ("negative size", packed(image, ["firmware.bin", -1, row[2], -1, 0])),
        ("huge size", packed(image, ["firmware.bin", 1 << 25, row[2], 1 << 25, 0, blocks])),
        ("no blocks", packed(image, row[:5])),
        ("blocks of one block", packed(image[:8192], entry(image[:8192]) + [[row[2]]])),
        ("a block too few", with_(5, blocks[:-1])),
        ("a block too many", with_(5, blocks + blocks[:1])),
        ("a block that is text", with_(5, blocks[:-1] + ["x" * 32])),
        ("a short block", with_(5, blocks[:-1] + [b"x" * 31])),
        ("two entries", field(6, [row, row])),
        ("no entry", field(6, [])),
        ("another format", field(1, 2)),
        ("number as version", field(3, 2)),
        ("number as core", field(4, 1)),
        ("long name", field(2, "x" * 33)),
        ("text as mpy", field(5, "6")),
        ("truth as mpy", field(5, True)),
        ("one more field", field(7, 0)),
        ("bytes after it", packed(image, more=b"\0")),
    ]
