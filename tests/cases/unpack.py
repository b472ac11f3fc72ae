"""Packs for the unpacking tests: raw and deflated bodies, honest and hostile."""

import hashlib
import random
import zlib

import cbor2

VERSION = "1.0.0"  # of the trees made here


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -10)
    return packer.compress(data) + packer.flush()


def pack(entries: list, bodies: list[bytes]) -> dict:
    index = cbor2.dumps({1: 1, 2: "demo", 3: VERSION, 4: "1.0.0", 5: 6, 6: entries})
    return {
        "pack": len(index).to_bytes(4, "big") + index + b"".join(bodies),
        "digest": hashlib.sha256(index).digest(),
        "size": len(index),
    }


def of_files(files: dict[str, bytes], squeeze: bool = False) -> dict:
    entries, bodies = [], []
    for path in sorted(files):
        data = files[path]
        body = deflate(data) if squeeze else data
        smaller = len(body) < len(data)
        body = body if smaller else data
        entries.append([path, len(data), hashlib.sha256(data).digest(), len(body), 1 if smaller else 0])
        bodies.append(body)
    return pack(entries, bodies) | {"files": files}


def one(data: bytes, body: bytes, size: int | None = None) -> dict:
    """A pack of one deflated file whose body may not be what the entry says."""
    size = len(data) if size is None else size
    return pack([["a.bin", size, hashlib.sha256(data).digest(), len(body), 1]], [body])


def make(rng: random.Random) -> dict:
    text = b"".join(b"line %d of a text that deflates well\n" % number for number in range(400))
    noise = rng.randbytes(9000)
    files = {"app.mpy": text, "data/noise.bin": noise, "data/empty.txt": b"", "pkg/mod.mpy": b"m" * 5000}
    changed = files | {"pkg/mod.mpy": b"n" * 5000}
    moved = {"app.mpy": text, "data": b"a file where a folder was", "pkg/mod.mpy/x.mpy": b"x"}
    many = {f"f{number:02}.mpy": rng.randbytes(rng.randrange(1, 3000)) for number in range(40)}
    return {
        "raw": of_files(files),
        "deflated": of_files(files, squeeze=True),
        "changed": of_files(changed),
        "moved": of_files(moved),
        "many": of_files(many),
        "many_changed": of_files(many | {"f20.mpy": rng.randbytes(2500)}),
        "honest": one(text, deflate(text)),
        "bomb": one(text, deflate(text + b"\0" * 1000000)),
        "short": one(text, deflate(text[:-1])),
        "cut": one(text, deflate(text)[:-20]),
        "garbage": one(text, rng.randbytes(500)),
        "padded": one(text, deflate(text) + b"\0" * 5000),
        "other": one(text, deflate(text[::-1])),
    }
