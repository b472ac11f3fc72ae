"""Deflated bodies: one that ends as it should, one that goes on, one that is never ended."""

import zlib
from typing import Any

from cases import unpack

TEXT = b"a text that deflates well, " * 40


def unended(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -10)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


def make() -> dict[str, Any]:
    return {
        "honest": unpack.one(TEXT, unpack.deflate(TEXT)),
        "longer": unpack.one(TEXT, unpack.deflate(TEXT + b"!")),
        "unended": unpack.one(TEXT, unended(TEXT)),
    }
