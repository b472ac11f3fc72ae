"""Cases for HSS/LMS: one leaf and a path of random nodes make a tree of any height, since a verifier sees no more.

The one-time signatures are pyhsslms's, the path is written down here from RFC 8554, and each verdict is pyhsslms's too
where it reads the input as strictly as we do, or make() fails.
"""

import hashlib
import random
from typing import Any

import pyhsslms

HEIGHTS = (5, 10, 15, 20)
WIDTHS = (1, 2, 4, 8)
LENGTHS = (32, 24)
_LMS = {32: 4, 24: 9}  # RFC 8554 section 5.1 and RFC 9858: type = base + height / 5
_OTS = {32: 1, 24: 5}  # section 4.1: type = base + log2(w)


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def types(n: int, height: int, w: int) -> tuple[bytes, bytes]:
    """The type codes of LMS and LM-OTS, encoded."""
    return u32(_LMS[n] + height // 5), u32(_OTS[n] + w.bit_length() - 1)


class Leaf:
    """One leaf of a tree that has no others. `number` may lie outside of the tree: a verifier has to notice."""

    def __init__(self, rng: random.Random, n: int, height: int, w: int, number: int) -> None:
        self.n, self.height, self.number = n, height, number
        self.lms, self.ots = types(n, height, w)
        self.identifier = rng.randbytes(16)
        self._key = pyhsslms.LmotsPrivateKey(self.identifier, u32(number), rng.randbytes(n), self.ots)
        self.path = [rng.randbytes(n) for _ in range(height)]
        node = number + (1 << height)
        value = self._hash(u32(node), b"\x82\x82", self._key.publicKey().K)
        for sibling in self.path:
            pair = [sibling, value] if node % 2 else [value, sibling]
            node //= 2
            value = self._hash(u32(node), b"\x83\x83", *pair)
        self.public = u32(1) + self.lms + self.ots + self.identifier + value

    def _hash(self, *parts: bytes) -> bytes:
        return hashlib.sha256(b"".join((self.identifier, *parts))).digest()[: self.n]

    def sign(self, message: bytes) -> bytes:
        """The HSS signature of one level: number of signed keys 0, leaf number, one-time signature, type, path."""
        return u32(0) + u32(self.number) + self._key.sign(message) + self.lms + b"".join(self.path)


def accepted(public: bytes, message: bytes, signature: bytes) -> bool:
    """pyhsslms's verdict on an HSS signature of one level."""
    try:
        return pyhsslms.LmsPublicKey.deserialize(public[4:]).verify(message, signature[4:])
    except ValueError:
        return False


def row(name: str, leaf: Leaf, message: bytes, verdict: bool) -> list[Any]:
    signature = leaf.sign(message)
    if accepted(leaf.public, message, signature) != verdict:
        raise AssertionError(f"pyhsslms disagrees: {name}")
    return [name, leaf.public, message, signature, verdict]


def every_type(rng: random.Random) -> list[list[Any]]:
    """A genuine signature of every type, from any leaf."""
    rows = []
    for n in LENGTHS:
        for height in HEIGHTS:
            for w in WIDTHS:
                leaf = Leaf(rng, n, height, w, rng.randrange(1 << height))
                rows.append(row(f"M{n} H{height} W{w}", leaf, rng.randbytes(rng.randrange(200)), True))
    return rows


def leaves(rng: random.Random) -> list[list[Any]]:
    """The first and the last leaf, and the owner's own signature from one that the tree does not have."""
    rows = []
    for n in LENGTHS:
        for height in HEIGHTS:
            for number, verdict in ((0, True), ((1 << height) - 1, True), (1 << height, False)):
                rows.append(row(f"M{n} H{height} leaf {number}", Leaf(rng, n, height, 4, number), b"leaf", verdict))
    return rows


def digests(rng: random.Random) -> list[list[Any]]:
    """Many messages at the widths with a checksum of odd size, so that every digit takes many values."""
    rows = []
    for n in LENGTHS:
        for w in (1, 2, 4):
            for number in range(6):
                rows.append(row(f"M{n} W{w} message {number}", Leaf(rng, n, 5, w, number), u32(number), True))
    return rows


def twin(rng: random.Random, n: int, height: int, w: int) -> dict[str, Any]:
    """A genuine signature that a test takes apart, and one of the same key's over another message."""
    leaf, message = Leaf(rng, n, height, w, rng.randrange(1 << height)), b"the message of the twins"
    public, signature = row("twin", leaf, message, True)[1:4:2]
    return {"public": public, "message": message, "signature": signature}


def neighbours(rng: random.Random) -> list[list[bytes]]:
    """Signatures by the owner whose sizes are right for what the numbers next to our types would mean."""
    rows = []
    for n in LENGTHS:
        for height in (0, 25, 30):  # types 4 and 9 and 10 (M32); 9, 14 and 15 (M24)
            leaf = Leaf(rng, n, height, 8, 0)
            rows.append([leaf.public, b"n", leaf.sign(b"n")])
        for w in (1, 8):  # the numbers of the other length: digits of 2**-1 and of 16 bits
            leaf = Leaf(rng, n, 5, w, 0)
            for ots in (_OTS[n] - 1, _OTS[n] + 4):
                public, signature = bytearray(leaf.public), bytearray(leaf.sign(b"n"))
                public[11] = signature[11] = ots
                rows.append([bytes(public), b"n", bytes(signature)])
                leaf = Leaf(rng, n, 5, w, 0)
    return rows


def wide(rng: random.Random) -> list[list[bytes]]:
    """Types whose lower byte is ours and whose upper ones are not, in key and signature alike; nothing hashes them."""
    rows = []
    for n in LENGTHS:
        for in_key, in_signature in ((9, 9), (5, -4 - 5 * n + 1)):
            leaf = Leaf(rng, n, 5, 8, 3)
            public, signature = bytearray(leaf.public), bytearray(leaf.sign(b"wide"))
            public[in_key] = signature[in_signature] = 1
            rows.append([bytes(public), b"wide", bytes(signature)])
    return rows


def cose(rng: random.Random) -> dict[str, Any]:
    """A COSE_Sign1 with HSS/LMS (RFC 8778), made with the host's own tools, and what it signs."""
    from gatehouse_tools import cbor
    from gatehouse_tools import cose as host

    leaf, payload = Leaf(rng, 32, 10, 4, 7), b"a detached payload"
    protected = cbor.dumps({1: -46})
    signature = leaf.sign(host.sig_structure(protected, payload))
    kid = hashlib.sha256(leaf.public).digest()[:8]
    block = cbor.dumps(cbor.Tag(18, [protected, {4: kid}, None, signature]))
    return {"public": leaf.public, "kid": kid, "payload": payload, "block": block, "signature": signature}


def make(rng: random.Random) -> dict[str, Any]:
    return {
        "types": every_type(rng),
        "leaves": leaves(rng),
        "digests": digests(rng),
        "twins": [twin(rng, 32, 5, 8), twin(rng, 24, 10, 4), twin(rng, 32, 10, 4)],
        "neighbours": neighbours(rng),
        "wide": wide(rng),
        "cose": cose(rng),
    }
