"""Packs with files over 64 KiB for the unpacking tests, as the host makes them, and a deflated one, as it does not."""

import hashlib
import random
import zlib

from cases.unpack import deflate, pack
from gatehouse_tools import pack as packs

SIZE = 2 * 65536 + 20000


def of(files: dict[str, bytes]) -> dict:
    index, data = packs.build(files, "demo", "1.0.0", "1.0.0")
    return {"pack": data, "digest": index.digest, "size": len(index.data)}


def make(rng: random.Random) -> dict:
    def noise(size: int) -> bytes:
        return (rng.randbytes(4099) * 16)[:size]

    large = noise(65536) + noise(65536) + noise(20000)
    files = {"a.txt": b"small", "big.bin": large, "c.txt": b"", "d.bin": rng.randbytes(900)}
    middle = large[:65536] + noise(65536) + large[2 * 65536 :]
    ends = noise(65536) + large[65536 : 2 * 65536] + noise(20000)
    cases = {
        "large": of(files),
        "middle": of(files | {"big.bin": middle}),
        "ends": of(files | {"big.bin": ends, "d.bin": rng.randbytes(900)}),
        "shorter": of(files | {"big.bin": large[: 65536 + 5000]}),
        "empty": of({"a.txt": b"small", "c.txt": b""}),
        "three": of({f"{n}.bin": bytes([n]) * 140000 for n in range(3)}),
        "deflated": squeezed(b"%d of many lines that deflate well\n" * 2000),
    }
    # As text in JSON half a megabyte takes seconds to read.
    return {name: case | {"pack": zlib.compress(case["pack"], 9)} for name, case in cases.items()}


def squeezed(data: bytes) -> dict:
    """A large file, deflated: devices take it, but without blocks to resume at."""
    body = deflate(data)
    blocks = [hashlib.sha256(data[at : at + 65536]).digest() for at in range(0, len(data), 65536)]
    entry = ["big.txt", len(data), hashlib.sha256(data).digest(), len(body), 1, blocks]
    return pack([entry], [body])
