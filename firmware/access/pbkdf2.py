"""PBKDF2 with HMAC-SHA-256 (RFC 8018 section 5.2), 32 bytes, in slices so that the event loop turns in between."""

import asyncio
import hashlib

from micropython import const

from gatehouse import mac, memory

# Of a verifier that is made here. The budget is two seconds of a chip a login. Measured: 10,000 take 38 ms of x86-64
# on the unix port with 130 KB in use, half of it garbage collection. Nothing was measured on a chip; it hashes in
# hardware, and some fifty times slower is a guess. SP 800-132 asks for 1,000 at least, SP 800-63B for what the verifier
# can bear. The count stands in each verifier, so that a measured one can follow without any password lost.
ITERATIONS = const(10000)
_SLICE = const(200)  # iterations at a stretch: 50 ms of a chip, by the same guess
_BLOCK = const(64)  # bytes of a SHA-256 block
LENGTH = const(32)


async def derive(password, salt, iterations):
    """32 bytes from a password (bytes). They are the first block of the RFC's output of any length."""
    if len(password) > _BLOCK:
        password = hashlib.sha256(password).digest()
    # Both pads stand ready in front of what they hash, so that an iteration copies 64 bytes and no more.
    inner, outer = bytearray(_BLOCK + LENGTH), bytearray(_BLOCK + LENGTH)
    for at in range(_BLOCK):
        byte = password[at] if at < len(password) else 0
        inner[at] = byte ^ 0x36
        outer[at] = byte ^ 0x5C
    block = mac.hmac_sha256(password, salt, b"\x00\x00\x00\x01")
    total = int.from_bytes(block, "big")
    left = iterations - 1
    while left > 0:
        count = min(left, _SLICE)
        block, total = memory.busily(_slice, inner, outer, block, total, count)
        left -= count
        await asyncio.sleep_ms(0)
    return total.to_bytes(LENGTH, "big")


def _slice(inner, outer, block, total, count):
    sha256 = hashlib.sha256
    number = int.from_bytes
    first, second = memoryview(inner)[_BLOCK:], memoryview(outer)[_BLOCK:]
    for _ in range(count):
        first[:] = block
        second[:] = sha256(inner).digest()
        block = sha256(outer).digest()
        total ^= number(block, "big")  # as one integer: 32 bytes one by one would take four times as long
    return block, total
