"""COSE_Sign1 and COSE_Mac0 (RFC 9052) in the one form each that Gatehouse uses, and the HMAC and HKDF behind them.

Headers are strict: the algorithm stands in the protected header, a key id in either, and nothing else is taken.
"""

import hashlib

from micropython import const

from gatehouse import Refused, cbor

_ALG = const(1)  # header labels, RFC 9052 section 3.1
_KID = const(4)
_SIGN1 = const(18)  # CBOR tags
_MAC0 = const(17)
_BLOCK = const(64)  # bytes of a SHA-256 block

CWT = b"\xd8\x3d"  # in front of a COSE message: tag 61, CBOR Web Token (RFC 8392 section 6)
_HMAC_256 = b"\xa1\x01\x05"  # the protected header {alg: HMAC 256/256} (RFC 9053 section 3.1)


def sign1(block):
    """Take an encoded, tagged COSE_Sign1 with detached payload apart: (protected, alg, kid or None, signature).

    `protected` is the encoded header, as signed. Raises Refused("format") on what is no such message, and
    Refused("unsupported") on an attached payload or any header but alg and kid.
    """
    protected, kid, payload, signature, header = _open(block, _SIGN1)
    if payload is not None:
        raise Refused("unsupported", "COSE payload is attached")
    return protected, header[_ALG], kid, signature


def sig_structure(protected, payload):
    """The bytes that a COSE_Sign1 signature covers (RFC 9052 section 4.4), without external data."""
    return cbor.dumps(["Signature1", protected, b"", payload])


def mac0(key, kid, payload):
    """An encoded, tagged COSE_Mac0 with HMAC 256/256 over the attached `payload`."""
    return cbor.dumps(cbor.Tag(_MAC0, [_HMAC_256, {_KID: kid}, payload, _mac(key, payload)]))


def mac0_open(key, data):
    """Check a message of mac0(): (kid or None, payload).

    Raises Refused("signature") when the key is not the one that made it, "format" or "unsupported" as sign1().
    """
    protected, kid, payload, tag, _ = _open(data, _MAC0)
    if protected != _HMAC_256:
        raise Refused("unsupported", "COSE_Mac0 is not HMAC 256/256")
    if payload is None:
        raise Refused("unsupported", "COSE payload is detached")
    if not equal(tag, _mac(key, payload)):
        raise Refused("signature", "COSE_Mac0")
    return kid, payload


def _mac(key, payload):
    return hmac_sha256(key, cbor.dumps(["MAC0", _HMAC_256, b"", payload]))


def _open(data, tag):
    """The parts of a message of four: (protected, kid or None, payload, signature or tag, protected header)."""
    try:
        message = cbor.loads(data)
        if not isinstance(message, cbor.Tag) or message.tag != tag:
            raise ValueError("no COSE tag %d" % tag)
        if not isinstance(message.value, list) or len(message.value) != 4:
            raise ValueError("COSE message is no array of four")
        protected, unprotected, payload, proof = message.value
        if not isinstance(protected, bytes) or not isinstance(proof, bytes):
            raise ValueError("COSE header or signature is no byte string")
        header = cbor.loads(protected) if protected else {}
        if not isinstance(header, dict) or not isinstance(unprotected, dict):
            raise ValueError("COSE header is no map")
        if payload is not None and not isinstance(payload, bytes):
            raise ValueError("COSE payload is no byte string")
    except ValueError as error:
        raise Refused("format", str(error))
    if not isinstance(header.get(_ALG), int):
        raise Refused("unsupported", "COSE algorithm is missing or no integer")
    kid = header.get(_KID, unprotected.get(_KID))
    if len(header) + len(unprotected) != 1 + (kid is not None):
        raise Refused("unsupported", "COSE header with more than alg and kid")
    if kid is not None and not isinstance(kid, bytes):
        raise Refused("format", "COSE key id is no byte string")
    return protected, kid, payload, proof, header


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
