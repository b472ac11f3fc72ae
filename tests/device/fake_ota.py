"""The application partitions of the chip in RAM: NOR flash, otadata, ESP-IDF's bootloader with application rollback.

fake_chip.install(ota_blocks=N) makes two partitions of that many blocks, ota_0 with an image; every program and erase
of them and of otadata is an operation of fake_chip.power. tools/gatehouse_tools/sim/ota.py is the same model for whole
simulated boards, and says where the rules are from.
"""

import struct
from binascii import crc32

from fake_chip import BLOCK, Flash, PowerCut, power

NEW, PENDING, VALID, INVALID, ABORTED = range(5)
UNSET = 0xFFFFFFFF
LABELS = ("ota_0", "ota_1")
IMAGE = b"\xe9" + b"the image of the factory " * 200


class Nor(Flash):
    """Flash that only an erase brings back to ones."""

    def writeblocks(self, block, buffer, offset=0):
        at = block * BLOCK + offset
        new = int.from_bytes(bytes(buffer), "little")
        old = int.from_bytes(bytes(self.data[at : at + len(buffer)]), "little")
        assert old & new == new, "programmed a 0 back to 1"
        super().writeblocks(block, buffer, offset)

    def erase(self, block):
        self.ioctl(6, block)


class Ota:
    """Everything that stays without power: two partitions and otadata. `running`: which one runs, an index."""

    def __init__(self, blocks):
        self.parts = [Nor(blocks), Nor(blocks)]
        self.data = Nor(2)
        self.running = 0
        self.parts[0].data[: len(IMAGE)] = IMAGE

    def entry(self, sector):
        """(sequence, state, whether the CRC holds) of one entry of otadata."""
        sequence, _, state, crc = struct.unpack("<I20sII", self.data.data[sector * BLOCK : sector * BLOCK + 32])
        return sequence, state, crc == _crc(sequence)

    def write(self, sector, sequence, state):
        self.data.erase(sector)
        self.data.writeblocks(sector, struct.pack("<I20sII", sequence, b"\xff" * 20, state, _crc(sequence)), 0)

    def active(self):
        """The sector of otadata that counts, or None."""
        best = None
        for sector in (0, 1):
            sequence, state, good = self.entry(sector)
            if good and sequence != UNSET and state not in (INVALID, ABORTED):
                if best is None or sequence > self.entry(best)[0]:
                    best = sector
        return best

    def selected(self):
        """The partition that otadata names, an index; the first where it names none."""
        active = self.active()
        return 0 if active is None else (self.entry(active)[0] - 1) % 2

    def bootloader(self):
        """What ESP-IDF's bootloader does at every reset but a soft one."""
        for sector in (0, 1):
            sequence, state, _ = self.entry(sector)
            if state == PENDING:
                self.write(sector, sequence, ABORTED)
        active = self.active()
        selected = self.selected()
        if active is not None and self.entry(active)[1] == NEW:
            self.write(active, self.entry(active)[0], PENDING)
        self.running = selected if self.parts[selected].data[0] == 0xE9 else 1 - selected
        if active is None and all(not self.entry(n)[2] or self.entry(n)[0] == UNSET for n in (0, 1)):
            self.write(0, self.running + 1, VALID)

    def set_boot(self, index):
        if self.parts[index].data[0] != 0xE9:
            raise OSError(-0x1503, "ESP_ERR_OTA_VALIDATE_FAILED")
        active = self.active()
        if active is None:
            self.write(0, index + 1, NEW)
        elif self.selected() == index:
            self.write(active, self.entry(active)[0], NEW)
        else:
            self.write(1 - active, self.entry(active)[0] + 1, NEW)

    def mark_valid(self):
        active = self.active()
        if active is None:
            raise OSError(-1, "ESP_FAIL")
        if self.entry(active)[1] != VALID:
            self.write(active, self.entry(active)[0], VALID)

    def save(self):
        return [bytes(flash.data) for flash in self.parts + [self.data]], self.running

    def load(self, saved):
        for at, flash in enumerate(self.parts + [self.data]):
            flash.data[:] = saved[0][at]
        self.running = saved[1]


def _crc(sequence):
    return crc32(sequence.to_bytes(4, "little"), UNSET)


def partition_class(ota):
    """esp32.Partition of a board with these partitions, or with a single one where `ota` is None."""

    class Partition:
        BOOT = 0
        RUNNING = 1

        def __init__(self, which):
            if power.off:
                raise PowerCut
            if ota is None:
                if which not in (self.RUNNING, "factory"):
                    raise OSError(2)  # no otadata, no such label
                self._index = None
                return
            names = {self.BOOT: ota.selected(), self.RUNNING: ota.running, "ota_0": 0, "ota_1": 1}
            if which not in names:
                raise OSError(2)
            self._index = names[which]
            self._flash = ota.parts[self._index]

        def info(self):
            if self._index is None:
                return 0, 0, 0x10000, 0x180000, "factory", False
            size = self._flash.blocks * BLOCK
            return 0, 16 + self._index, 0x10000 + self._index * size, size, LABELS[self._index], False

        def get_next_update(self):
            if self._index is None:
                raise OSError(2)
            return Partition(LABELS[1 - self._index])

        def _check(self, at, size):
            if at + size > self._flash.blocks * BLOCK:
                raise OSError(-0x104, "ESP_ERR_INVALID_SIZE")

        def readblocks(self, block, buffer, offset=0):
            self._check(block * BLOCK + offset, len(buffer))
            self._flash.readblocks(block, buffer, offset)

        def writeblocks(self, block, buffer, offset=None):
            self._check(block * BLOCK + (offset or 0), len(buffer))
            if offset is None:
                if len(buffer) % BLOCK:
                    raise OSError(-0x104, "ESP_ERR_INVALID_SIZE")
                for sector in range(block, block + len(buffer) // BLOCK):
                    self._flash.erase(sector)
            self._flash.writeblocks(block, buffer, offset or 0)

        def ioctl(self, request, argument):
            if request == 6:
                self._check(argument * BLOCK, BLOCK)
            return self._flash.ioctl(request, argument)

        def set_boot(self):
            if ota is None:
                raise OSError(0x105, "ESP_ERR_NOT_FOUND")
            ota.set_boot(self._index)

        @staticmethod
        def mark_app_valid_cancel_rollback():
            if ota is None:
                raise OSError(-1, "ESP_FAIL")
            ota.mark_valid()

    return Partition
