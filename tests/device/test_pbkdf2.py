"""PBKDF2-HMAC-SHA-256: the vectors of RFC 7914 section 11, and those that the host makes."""

import asyncio
from binascii import hexlify, unhexlify

from harness import cases

# RFC 7914 section 11: password, salt, iterations, first 32 of the 64 bytes.
VECTORS = (
    (b"passwd", b"salt", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"),
    (b"Password", b"NaCl", 80000, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"),
)


async def test_vectors_of_rfc_7914():
    from access import pbkdf2

    for password, salt, iterations, expected in VECTORS:
        assert hexlify(await pbkdf2.derive(password, salt, iterations)).decode() == expected


async def test_what_the_host_makes():
    from access import pbkdf2

    for password, salt, iterations, expected in cases("pbkdf2"):
        found = await pbkdf2.derive(unhexlify(password), unhexlify(salt), iterations)
        assert hexlify(found).decode() == expected, (len(password) // 2, iterations)


async def test_the_event_loop_turns_in_between():
    from access import pbkdf2

    turns = []

    async def count():
        while True:
            turns.append(1)
            await asyncio.sleep_ms(0)

    task = asyncio.create_task(count())
    await pbkdf2.derive(b"x", b"y", pbkdf2.ITERATIONS)
    task.cancel()
    assert len(turns) >= 50, "ten thousand iterations in one piece would stop the watchdog's feeding"
