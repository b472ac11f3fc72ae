"""COSE_Sign1 and COSE_Mac0 (RFC 9052) in the one form each that Gatehouse takes; it writes what mac.py writes.

Headers are strict: the algorithm stands in the protected header, a key id in either, and nothing else is taken.
"""

from micropython import const

from gatehouse import Refused, cbor
from gatehouse.mac import HMAC_256, equal, tag_of

_ALG = const(1)  # header labels, RFC 9052 section 3.1
_KID = const(4)
_SIGN1 = const(18)  # CBOR tags
_MAC0 = const(17)
_DEPTH = const(3)  # tag, array, header
_HEADERS = const(2)  # alg and kid; also the depth of the protected one, where a value may be a list


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


def mac0_open(key, data):
    """Check a message of mac0(): (kid or None, payload).

    Raises Refused("signature") when the key is not the one that made it, "format" or "unsupported" as sign1().
    """
    protected, kid, payload, tag, _ = _open(data, _MAC0)
    if protected != HMAC_256:
        raise Refused("unsupported", "COSE_Mac0 is not HMAC 256/256")
    if payload is None:
        raise Refused("unsupported", "COSE payload is detached")
    if not equal(tag, tag_of(key, payload)):
        raise Refused("signature", "COSE_Mac0")
    return kid, payload


def _look(data, tag):
    """Judge the shape of a message by its heads: what nobody has signed yet must not fill the memory with small items.

    ValueError, or Refused("unsupported") on too many headers.
    """
    major, number, at = cbor.head(data, 0)
    if major != 6 or number != tag:
        raise ValueError("no COSE tag %d" % tag)
    major, number, at = cbor.head(data, at)
    if major != 4 or number != 4:
        raise ValueError("COSE message is no array of four")
    major, number, at = cbor.head(data, at)
    if major != 2:
        raise ValueError("COSE header or signature is no byte string")
    _header(data, at + number)


def _header(data, at):
    major, number, at = cbor.head(data, at)
    if major != 5:
        raise ValueError("COSE header is no map")
    if number > _HEADERS:
        raise Refused("unsupported", "COSE header with more than alg and kid")


def _open(data, tag):
    """The parts of a message of four: (protected, kid or None, payload, signature or tag, protected header)."""
    try:
        _look(data, tag)
        message = cbor.loads(data, _DEPTH)
        protected, unprotected, payload, proof = message.value
        if not isinstance(proof, bytes):
            raise ValueError("COSE header or signature is no byte string")
        if protected:
            _header(protected, 0)
        header = cbor.loads(protected, _HEADERS) if protected else {}
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
