"""Signing keys: ECDSA on P-256 in PEM files; HSS/LMS in files of lms_keys.py, which this module opens too."""

from __future__ import annotations

import hashlib
import os
import pathlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from .errors import GatehouseError

ESP256 = -9  # RFC 9864: ECDSA on P-256 with SHA-256; what is written
ES256 = -7  # RFC 9053: the same, the curve left open; accepted in its place
HSS_LMS = -46  # RFC 8778

NAMES = {ESP256: "ESP256", ES256: "ES256", HSS_LMS: "HSS/LMS"}

_SIZE = 32  # bytes of a coordinate, and of r and s


def key_id(public: bytes) -> bytes:
    """The key id (COSE kid, 8 bytes) of a public key: the start of its SHA-256."""
    return hashlib.sha256(public).digest()[:8]


@dataclass(frozen=True)
class PublicKey:
    """A public key: COSE algorithm and the bytes that a trust store holds.

    P-256: x followed by y, 64 bytes. HSS/LMS: the HSS public key of RFC 8554 with one level, 60 or 52 bytes.
    """

    alg: int
    public: bytes

    @property
    def kid(self) -> bytes:
        """Its key id, 8 bytes."""
        return key_id(self.public)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """True when `signature` (P-256: r followed by s, 64 bytes; HSS: RFC 8554) over `message` is by this key."""
        if self.alg == HSS_LMS:
            from . import lms_keys

            return lms_keys.verify(self.public, message, signature)
        if self.alg != ESP256 or len(signature) != 2 * _SIZE:
            return False
        r, s = (int.from_bytes(signature[at : at + _SIZE], "big") for at in (0, _SIZE))
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + self.public)
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """A private key and how it signs, here by ECDSA. `alg`, `kid` and `public` are those of its PublicKey, `key`.

    `warnings`: what whoever signed should be told.
    """

    private: ec.EllipticCurvePrivateKey
    key: PublicKey
    warnings: list[str]

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self.private = private
        self.key = PublicKey(ESP256, public_bytes(private.public_key()))
        self.alg, self.kid, self.public = self.key.alg, self.key.kid, self.key.public
        self.warnings = []

    def sign(self, message: bytes) -> bytes:
        """The signature over `message` (r followed by s), deterministic as in RFC 6979."""
        der = self.private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        return b"".join(part.to_bytes(_SIZE, "big") for part in decode_dss_signature(der))


def public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """x followed by y, 64 bytes."""
    form = serialization.PublicFormat.UncompressedPoint
    return key.public_bytes(serialization.Encoding.X962, form)[1:]


def generate() -> Signer:
    """A new P-256 key."""
    return Signer(ec.generate_private_key(ec.SECP256R1()))


def save(signer: Signer, path: str | os.PathLike[str]) -> None:
    """Write a private key as PEM (PKCS#8), readable by its owner only. A file that is there is never overwritten."""
    pem = signer.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_secret(path, pem)


def write_secret(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a new file that its owner only can read, and sync it. One that is there is never overwritten."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise GatehouseError(f"{path} exists already, and a key is never overwritten: choose another place") from None
    except OSError as error:
        raise GatehouseError(f"{path}: {error.strerror}; choose a folder that can be written") from None
    with open(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)


def load(path: str | os.PathLike[str], ledger: pathlib.Path | None = None) -> Signer:
    """The private key in a file: P-256 in PEM, or HSS/LMS. GatehouseError("key") when it is not there or neither.

    `ledger`: the product's folder where the use of HSS/LMS keys is written down.
    """
    from . import lms_keys

    data = read(path)
    if lms_keys.is_private(data):
        return lms_keys.LmsSigner(pathlib.Path(path), ledger)
    try:
        private = serialization.load_pem_private_key(data, None)
    except TypeError:
        raise GatehouseError(f"{path} has a passphrase; take it off with `openssl pkey`", "key") from None
    except (ValueError, UnsupportedAlgorithm):
        raise GatehouseError(f"{path} is not a private key in PEM", "key") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise GatehouseError(f"{path} is not a P-256 key; `gatehouse init` makes one", "key")
    return Signer(private)


def load_public(path: str | os.PathLike[str]) -> PublicKey:
    """The public key in a file, of the public key itself or of the private one."""
    from . import lms_keys

    data = read(path)
    if lms_keys.is_private(data) or lms_keys.is_public(data):
        return lms_keys.public_of(data, pathlib.Path(path))
    if b"PRIVATE KEY" in data:
        return load(path).key
    try:
        public = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise GatehouseError(f"{path} is not a key in PEM", "key") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise GatehouseError(f"{path} is not a P-256 key", "key")
    return PublicKey(ESP256, public_bytes(public))


def read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a key's file. GatehouseError("key") where it is not there or not readable."""
    try:
        return pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        raise GatehouseError(f"{path}: no such key; `gatehouse init` makes the keys of a product", "key") from None
    except OSError as error:
        raise GatehouseError(f"{path}: {error.strerror}", "key") from None
