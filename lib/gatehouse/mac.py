"""HMAC and HKDF with SHA-256, and the one form of COSE_Mac0 that a device writes and takes commands in.

What is needed all the time: this module stays loaded. cose.py opens what others may have written otherwise.
"""

import hashlib

from micropython import const

from gatehouse import Refused, cbor

_KID = const(4)  # header label, RFC 9052 section 3.1
_MAC0 = const(17)  # CBOR tag
_BLOCK = const(64)  # bytes of a SHA-256 block
_TAG = const(32)  # bytes of an HMAC 256/256
_DEPTH = const(3)  # a tag, an array, the map of the unprotected header

CWT = b"\xd8\x3d"  # in front of a COSE message: tag 61, CBOR Web Token (RFC 8392 section 6)
HMAC_256 = b"\xa1\x01\x05"  # the protected header {alg: HMAC 256/256} (RFC 9053 section 3.1)


def mac0(key, kid, payload, external=b""):
    """An encoded, tagged COSE_Mac0 with HMAC 256/256 over the attached `payload`.

    external: the externally supplied data (RFC 9052 section 4.3), what both sides know and the message does not carry.
    """
    return cbor.dumps(cbor.Tag(_MAC0, [HMAC_256, {_KID: kid}, payload, tag_of(key, payload, external)]))


def mac0_parts(data):
    """(kid, payload, tag) of what mac0() writes, and nothing of it proved: for that compare equal(tag, tag_of(...)).

    Raises Refused("format") on any other form.
    """
    try:
        message = cbor.loads(data, _DEPTH)
        if message.tag != _MAC0:
            raise ValueError("tag")
        protected, unprotected, payload, tag = message.value
        kid = unprotected[_KID]
        if protected != HMAC_256 or len(unprotected) != 1 or len(tag) != _TAG:
            raise ValueError("header or tag")
        if not (isinstance(kid, bytes) and isinstance(payload, bytes) and isinstance(tag, bytes)):
            raise ValueError("type")
    except (ValueError, TypeError, LookupError, AttributeError):
        raise Refused("format", "no COSE_Mac0 with HMAC 256/256 and a key id")
    return kid, payload, tag


def tag_of(key, payload, external=b""):
    """The 32-byte tag of a COSE_Mac0 with HMAC 256/256 (RFC 9052 section 6.3)."""
    return hmac_sha256(key, cbor.dumps(["MAC0", HMAC_256, external, payload]))


def hmac_sha256(key, *parts):
    """HMAC (RFC 2104) with SHA-256 over `parts` one after the other: 32 bytes."""
    if len(key) > _BLOCK:
        key = hashlib.sha256(key).digest()
    pad = bytearray(_BLOCK)
    pad[: len(key)] = key
    for i in range(_BLOCK):
        pad[i] ^= 0x36
    inner = hashlib.sha256(pad)
    for part in parts:
        inner.update(part)
    for i in range(_BLOCK):
        pad[i] ^= 0x36 ^ 0x5C
    outer = hashlib.sha256(pad)
    outer.update(inner.digest())
    return outer.digest()


def hkdf(key, info, length=32):
    """`length` bytes (at most 8160) derived from the secret `key` for the purpose `info`: HKDF (RFC 5869), no salt."""
    return expand(hmac_sha256(b"", key), info, length)


def expand(key, info, length=32):
    """The second half of HKDF (RFC 5869 section 2.3), for a `key` that is uniformly random already."""
    out = block = b""
    while len(out) < length:
        block = hmac_sha256(key, block, info, bytes([len(out) // 32 + 1]))
        out += block
    return out[:length]


def equal(a, b):
    """Whether two byte strings are the same, in a time that tells only their lengths."""
    if len(a) != len(b):
        return False
    difference = 0
    for i in range(len(a)):
        difference |= a[i] ^ b[i]
    return difference == 0
