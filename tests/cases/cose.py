"""COSE messages, HMAC and HKDF results made with cbor2 and cryptography."""

import cbor2
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def make(rng):
    """sign1: detached COSE_Sign1 by fresh P-256 keys; mac0: COSE_Mac0; hmac and hkdf: inputs and result."""
    return {
        "sign1": [sign1(rng) for _ in range(4)],
        "mac0": [mac0(rng) for _ in range(12)],
        "hmac": [hmac_case(rng) for _ in range(60)],
        "hkdf": [hkdf_case(rng) for _ in range(30)],
    }


def sign1(rng):
    key = ec.derive_private_key(rng.randrange(1, 2**255), ec.SECP256R1())
    point = key.public_key().public_numbers()
    alg = rng.choice((-7, -9))
    kid = rng.choice((None, rng.randbytes(8)))
    protected = cbor2.dumps({1: alg})
    payload = rng.randbytes(rng.choice((0, 1, 38, 300)))
    structure = cbor2.dumps(["Signature1", protected, b"", payload])
    signature = key.sign(structure, ec.ECDSA(hashes.SHA256()))
    raw = b"".join(number.to_bytes(32, "big") for number in utils.decode_dss_signature(signature))
    return {
        "block": cbor2.dumps(cbor2.CBORTag(18, [protected, {} if kid is None else {4: kid}, None, raw])),
        "protected": protected,
        "alg": alg,
        "kid": kid,
        "payload": payload,
        "structure": structure,
        "signature": raw,
        "public": point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big"),
    }


def mac0(rng):
    key = rng.randbytes(32)
    kid = rng.randbytes(rng.choice((1, 8, 30)))
    payload = rng.randbytes(rng.choice((0, 1, 23, 24, 700)))
    protected = cbor2.dumps({1: 5})
    tag = hmac_of(key, cbor2.dumps(["MAC0", protected, b"", payload]))
    message = cbor2.dumps(cbor2.CBORTag(17, [protected, {4: kid}, payload, tag]))
    return {"key": key, "kid": kid, "payload": payload, "message": message}


def hmac_case(rng):
    key = rng.randbytes(rng.choice((1, 16, 31, 32, 33, 63, 64, 65, 200)))
    data = rng.randbytes(rng.choice((0, 1, 55, 56, 63, 64, 65, 300)))
    return {"key": key, "data": data, "result": hmac_of(key, data)}


def hmac_of(key, data):
    machine = hmac.HMAC(key, hashes.SHA256())
    machine.update(data)
    return machine.finalize()


def hkdf_case(rng):
    key = rng.randbytes(rng.choice((16, 32, 48)))
    info = rng.randbytes(rng.choice((0, 1, 40, 100)))
    length = rng.choice((1, 16, 31, 32, 33, 64, 100, 8160))
    result = HKDF(hashes.SHA256(), length, salt=None, info=info).derive(key)
    return {"key": key, "info": info, "length": length, "result": result}
