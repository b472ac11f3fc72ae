"""COSE on the host (RFC 9052, 9053): signed manifests and MACed reports, on cbor2 and cryptography."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from . import cbor, keys
from .errors import GatehouseError

SIGN1 = 18  # CBOR tag of COSE_Sign1
MAC0 = 17  # CBOR tag of COSE_Mac0
ALG = 1  # header: algorithm
KID = 4  # header: key id
HMAC_256 = 5  # HMAC 256/256
TAG_SIZE = 32


@dataclass(frozen=True)
class Sign1:
    """One COSE_Sign1 with a detached payload: its encoded protected header, algorithm, key id, signature."""

    protected: bytes
    alg: int
    kid: bytes | None
    signature: bytes

    def signed_by(self, known: Iterable[keys.PublicKey], payload: bytes) -> keys.PublicKey | None:
        """The one of the `known` keys that made this signature over the detached payload, or None."""
        message = sig_structure(self.protected, payload)
        for key in known:
            if self.by(key) and key.verify(message, self.signature):
                return key
        return None

    def by(self, key: keys.PublicKey) -> bool:
        """True when it says that `key` made it; the signature is not looked at."""
        alg = keys.ESP256 if self.alg == keys.ES256 else self.alg
        return alg == key.alg and self.kid in (None, key.kid)


def sig_structure(protected: bytes, payload: bytes) -> bytes:
    """What a COSE_Sign1 signs (RFC 9052, section 4.4), without external data."""
    return cbor.dumps(["Signature1", protected, b"", payload])


def sign1_detached(signer: keys.Signer, payload: bytes, alg: int | None = None, kid: bool = True) -> bytes:
    """A tagged COSE_Sign1 over `payload`, which is not inside. `alg` overrides what the header says about the key."""
    protected = cbor.dumps({ALG: signer.alg if alg is None else alg})
    signature = signer.sign(sig_structure(protected, payload))
    return cbor.dumps(cbor.Tag(SIGN1, [protected, {KID: signer.kid} if kid else {}, None, signature]))


def parse_sign1(data: bytes, what: str = "COSE_Sign1") -> Sign1:
    """Take a tagged, detached COSE_Sign1 apart. GatehouseError("format" | "unsupported") naming `what`."""
    block = cbor.loads(data, what)
    if not isinstance(block, cbor.Tag):
        raise GatehouseError(f"{what} is not a tagged COSE structure", "format")
    if block.tag != SIGN1:
        raise GatehouseError(f"{what} is COSE tag {block.tag}, not a COSE_Sign1 (18)", "unsupported")
    protected, unprotected, payload, signature = _four(block.value, what)
    if payload is not None:
        raise GatehouseError(f"{what} carries its payload; SUIT detaches it", "format")
    header = _header(protected, unprotected, what)
    return Sign1(protected, header[ALG], header.get(KID), signature)


def mac0(key: bytes, kid: bytes, payload: bytes, external: bytes = b"") -> bytes:
    """A tagged COSE_Mac0 (HMAC 256/256) that carries `payload`; `external` is under the MAC, but not inside."""
    protected = cbor.dumps({ALG: HMAC_256})
    return cbor.dumps(cbor.Tag(MAC0, [protected, {KID: kid}, payload, _mac(key, protected, payload, external)]))


@dataclass(frozen=True)
class Mac0:
    """One COSE_Mac0 (HMAC 256/256). Nothing of it is proved before check()."""

    protected: bytes
    kid: bytes
    payload: bytes
    tag: bytes

    def check(self, key: bytes, what: str = "COSE_Mac0", external: bytes = b"") -> None:
        """GatehouseError("signature") unless `key` made it."""
        if not hmac.compare_digest(self.tag, _mac(key, self.protected, self.payload, external)):
            raise GatehouseError(f"{what}: the MAC is not by this key", "signature")


def mac0_kid(data: bytes, what: str = "COSE_Mac0") -> bytes:
    """The key id that a COSE_Mac0 names, so that the key can be found. Proves nothing."""
    return parse_mac0(cbor.loads(data, what), what).kid


def mac0_open(key: bytes, data: bytes, what: str = "COSE_Mac0", external: bytes = b"") -> tuple[bytes, bytes]:
    """(key id, payload) of a COSE_Mac0 by `key`. GatehouseError("signature") when it is by another."""
    found = parse_mac0(cbor.loads(data, what), what)
    found.check(key, what, external)
    return found.kid, found.payload


def hkdf(key: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF with SHA-256 and no salt (RFC 5869)."""
    return HKDF(hashes.SHA256(), length, None, info).derive(key)


def report_key(device_key: bytes, epoch: int = 0) -> bytes:
    """The key that a device's reports are MACed with, of one owner epoch. Verifiers get this, never the device key."""
    return hkdf(device_key, cbor.dumps(["gatehouse/1", "report", "", "", epoch]))


def journal_key(device_key: bytes, epoch: int = 0) -> bytes:
    """The key that a device's journal is chained with (docs/journal.md), of one owner epoch."""
    return hkdf(device_key, cbor.dumps(["gatehouse/1", "journal", "", "", epoch]))


def command_key(device_key: bytes, role: str, client: str, epoch: int = 0) -> bytes:
    """The key of one client's commands to a device in one role (docs/commands.md), of one owner epoch."""
    return hkdf(device_key, cbor.dumps(["gatehouse/1", "command", role, client, epoch]))


def _mac(key: bytes, protected: bytes, payload: bytes, external: bytes) -> bytes:
    return hmac.digest(key, cbor.dumps(["MAC0", protected, external, payload]), hashlib.sha256)


def parse_mac0(block: Any, what: str = "COSE_Mac0") -> Mac0:
    """Take a tagged COSE_Mac0, an item of cbor.loads(), apart. GatehouseError("format" | "unsupported")."""
    if not isinstance(block, cbor.Tag) or block.tag != MAC0:
        raise GatehouseError(f"{what} is not a tagged COSE_Mac0", "format")
    protected, unprotected, payload, tag = _four(block.value, what)
    header = _header(protected, unprotected, what)
    if header[ALG] != HMAC_256 or not isinstance(header.get(KID), bytes):
        raise GatehouseError(f"{what} is not HMAC 256/256 with a key id", "unsupported")
    if not isinstance(payload, bytes) or len(tag) != TAG_SIZE:
        raise GatehouseError(f"{what} lacks its payload or its tag", "format")
    return Mac0(protected, header[KID], payload, tag)


def _four(value: Any, what: str) -> tuple[bytes, dict[Any, Any], Any, bytes]:
    match value:
        case [bytes(), dict(), _, bytes()]:
            return value[0], value[1], value[2], value[3]
    raise GatehouseError(f"{what} is not [protected, unprotected, payload, signature]", "format")


def _header(protected: bytes, unprotected: dict[Any, Any], what: str) -> dict[Any, Any]:
    """Both headers in one: the algorithm (protected) and perhaps the key id (either), nothing else."""
    header = cbor.loads(protected, f"{what}, protected header")
    if not isinstance(header, dict) or type(header.get(ALG)) is not int:
        raise GatehouseError(f"{what} does not protect its algorithm", "format")
    if not set(header) <= {ALG, KID} or not set(unprotected) <= {KID} or (KID in header and KID in unprotected):
        raise GatehouseError(f"{what} has headers other than algorithm and key id", "unsupported")
    header |= unprotected
    if not isinstance(header.get(KID, b""), bytes):
        raise GatehouseError(f"{what} has a key id that is not bytes", "format")
    return header
