"""PBKDF2 with HMAC-SHA-256, by `cryptography`: lengths around the block of SHA-256, counts around a slice."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC


def make(rng):
    """[(password, salt, iterations, 32 bytes)]."""
    made = []
    for size in (0, 1, 8, 32, 63, 64, 65, 200):
        for iterations in (1, 2, 200, 201, 402):
            password, salt = rng.randbytes(size), rng.randbytes(rng.choice((1, 16, 40)))
            kdf = PBKDF2HMAC(hashes.SHA256(), 32, salt, iterations)
            made.append((password, salt, iterations, kdf.derive(password)))
    return made
