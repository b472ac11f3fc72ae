"""The password on a device's label: random for each device, made to be read and typed, kept by nobody but its owner."""

from __future__ import annotations

import hashlib
import secrets

from . import cbor

# Small letters and digits without those that look alike: no i, l, o, 0, 1.
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
GROUPS, GROUP = 4, 4  # 16 of 31 letters: 79 bits
ITERATIONS = 10_000  # as devices make themselves: firmware/access/pbkdf2.py
_SALT = 16


def new() -> str:
    """A new password in groups, e.g. "k7mq-x2pd-9wfh-rt4e"."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))


def verifier(password: str) -> bytes:
    """What a device holds of it in NVS `label`: CBOR [salt, iterations, PBKDF2-HMAC-SHA-256], over the bare letters."""
    salt = secrets.token_bytes(_SALT)
    plain = password.lower().replace("-", "").replace(" ", "")
    return cbor.dumps([salt, ITERATIONS, hashlib.pbkdf2_hmac("sha256", plain.encode(), salt, ITERATIONS)])
