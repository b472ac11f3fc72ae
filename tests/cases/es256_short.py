"""Keys and signatures whose last number begins with a zero byte: without it they are 63 bytes of the same numbers."""

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

MESSAGE = b"message"


def sign(key: ec.EllipticCurvePrivateKey) -> bytes:
    r, s = decode_dss_signature(key.sign(MESSAGE, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def make() -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    while public(key)[32]:
        key = ec.generate_private_key(ec.SECP256R1())
    signature = sign(key)
    while signature[32]:
        signature = sign(key)
    return {"key": public(key), "message": MESSAGE, "signature": signature}
