"""Packs of ESP32 application images, into the second of two OTA partitions in RAM."""

import asyncio
import hashlib
from random import choice, getrandbits, randrange

import fake_chip as chip
import fake_image
import mutate
from gatehouse import Refused, cbor
from packs import Source
from run_fuzz import Broken
from sources import Target

_BLOCKS = 20  # of 4 KB: one block of 64 KB and a little
_RUNNING = "ota_0"


class Image(Target):
    """Images against the signed index, and with the index changed and signed again."""

    def read(self, seeds):
        return []

    def honest(self):
        self.packs = [
            fake_image.packed(fake_image.data("small", 8192)),
            fake_image.packed(fake_image.data("large", 65536 + 5008)),
        ]
        chip.install(blocks=8, ota_blocks=_BLOCKS)
        self.saved = chip.snapshot()
        self.first = bytes(chip.ota.parts[0].data)
        self.buffer = memoryview(bytearray(1024))
        for found in self.packs:
            if self.check((found["pack"], found["pack"][4 : 4 + found["size"]], False)) != "accepted":
                raise Broken("an honest image is refused")
            self.after()

    def make(self):
        found = self.packs[0] if randrange(8) else self.packs[1]
        pack, size = found["pack"], found["size"]
        index = pack[4 : 4 + size]
        if randrange(2):
            return mutate.blind(pack, choice(self.packs)["pack"][:2000]), index, not randrange(4)
        image = pack[4 + size :]
        if randrange(3):
            index = mutate.mutate(index, choice(self.packs)["pack"][4:300])
        else:  # well-formed, and wrong
            fields = cbor.loads(index)
            entry = fields[6][0]
            at = randrange(len(entry))
            if at in (1, 3):
                entry[1] = mutate.number_near(entry[1])
                entry[3] = entry[1] if randrange(2) else entry[3]
            elif at == 2:
                image = mutate.blind(image, b"\xe9" * 64)
                fields[6][0] = fake_image.entry(image)
            else:
                entry[at] = choice((0, 1, "app.mpy", b"", [], bytes(getrandbits(8) for _ in range(32))))
            index = cbor.dumps(fields)
        return len(index).to_bytes(4, "big") + index + image, index, not randrange(4)

    def check(self, mutant):
        from gatehouse import image

        pack, index, endless = mutant
        source = Source(pack, endless)
        source.most += 3 * _BLOCKS * chip.BLOCK
        digest = hashlib.sha256(index).digest()
        told = []
        part = chip.ota.parts[1].data
        try:
            label, _, _ = asyncio.run(
                image.fill(source, digest, len(index), lambda *done: told.append(done), lambda: None, self.buffer)
            )
        except Refused:
            if part[0] == 0xE9:
                raise Broken("an image that was refused can be started")
            if image.matches(digest, len(index)):
                raise Broken("an image that was refused counts as verified")
            raise
        entry = cbor.loads(index)[6][0]
        if label == _RUNNING or not image.matches(digest, len(index)):
            raise Broken("what was installed is not what matches")
        if hashlib.sha256(part[: entry[1]]).digest() != entry[2] or part[0] != 0xE9:
            raise Broken("a partition is verified that does not hold what was signed")
        return "accepted"

    def after(self):
        try:
            if chip.ota.parts[0].data != self.first or chip.ota.running != 0 or chip.ota.selected() != 0:
                raise Broken("the image that runs has changed")
        finally:
            chip.restore(self.saved)
