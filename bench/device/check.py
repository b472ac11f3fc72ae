"""The boot's verification of a slot beside reading and hashing the same files, and one signature by itself."""

import gc
import hashlib
from time import clock

import start  # noqa: F401 the chip that this runs on

_LOOPS = 5


def run(options):
    """{"check": [...], "hash": [...], "signature": [...]} in microseconds of CPU, `repeats` of each, in turn."""
    from gatehouse import memory, slots

    memory.unload = lambda *names: None
    boot = slots.boot()
    from gatehouse import choose, suit, trust

    if boot.mode != "active":
        raise boot.failure
    with open(boot.release.root + "/manifest.suit", "rb") as file:
        envelope = file.read()
    buffer = memoryview(bytearray(1024))
    found = {"check": [], "hash": [], "signature": []}

    def timed(name, function):
        gc.collect()
        cpu = clock()
        for _ in range(_LOOPS):  # the CPU clock ticks once in a millisecond
            function()
        found[name].append((clock() - cpu) * 1e6 / _LOOPS)

    def check():
        choose.check(boot, boot.release)

    def plain():
        for path in options["paths"]:
            hasher = hashlib.sha256()
            with open(boot.release.root + "/" + path, "rb") as file:
                while True:
                    count = file.readinto(buffer)
                    if not count:
                        break
                    hasher.update(buffer[:count])
            hasher.digest()

    def signature():
        suit.Envelope(envelope).authenticate(trust.keys(boot.trust))

    for _ in range(options["repeats"]):
        timed("check", check)
        timed("hash", plain)
        timed("signature", signature)
    return found
