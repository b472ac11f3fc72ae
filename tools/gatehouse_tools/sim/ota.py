"""Which application partition runs: ESP-IDF's otadata, its bootloader with rollback, and esp_ota_ops.

otadata has two sectors with an entry each: a sequence number, a state and the CRC-32 of the number. The valid entry
with the higher number counts, and (number - 1) modulo the number of OTA partitions is the partition.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass

from ..image.partitions import APP, DATA, SUBTYPES, Partition
from .flash import SECTOR, Flash

NEW, PENDING_VERIFY, VALID, INVALID, ABORTED = range(5)
UNSET = 0xFFFFFFFF
_ENTRY = struct.Struct("<I20sII")
_IMAGE_MAGIC = b"\xe9"  # first byte of an application image
_OTA_0 = SUBTYPES[APP]["ota_0"]


@dataclass
class Entry:
    """One entry of otadata."""

    sequence: int
    state: int
    crc_matches: bool

    @property
    def given_up(self) -> bool:
        """Never set, or found bad."""
        return self.sequence == UNSET or self.state in (INVALID, ABORTED)

    @property
    def valid(self) -> bool:
        """Whether it may decide what boots."""
        return not self.given_up and self.crc_matches


class Ota:
    """The application partitions of `table` in `flash`."""

    def __init__(self, flash: Flash, table: list[Partition]) -> None:
        self._flash = flash
        self._address = next((p.offset for p in table if (p.type, p.subtype) == (DATA, SUBTYPES[DATA]["ota"])), None)
        apps = [p for p in table if p.type == APP]
        self._factory = [p for p in apps if p.subtype == SUBTYPES[APP]["factory"]]
        self._slots = sorted((p for p in apps if _OTA_0 <= p.subtype < _OTA_0 + 16), key=lambda p: p.subtype)

    @property
    def has_otadata(self) -> bool:
        """Whether there is anything to keep a choice in."""
        return self._address is not None

    def _entries(self) -> list[Entry]:
        found = []
        for index in range(2 if self._address is not None else 0):
            sequence, _, state, crc = _ENTRY.unpack(self._flash.read(self._sector(index), _ENTRY.size))
            found.append(Entry(sequence, state, crc == _crc(sequence)))
        return found

    def _sector(self, index: int) -> int:
        assert self._address is not None  # noqa: S101 there are entries only where there is otadata
        return self._address + index * SECTOR

    def _write(self, index: int, sequence: int, state: int) -> None:
        self._flash.erase(self._sector(index))
        self._flash.program(self._sector(index), _ENTRY.pack(sequence, b"\xff" * 20, state, _crc(sequence)))

    def _active(self, entries: list[Entry]) -> int | None:
        usable = [index for index, entry in enumerate(entries) if entry.valid and self._slots]
        return max(usable, key=lambda index: entries[index].sequence, default=None)

    def bootloader(self) -> Partition | None:
        """Choose as ESP-IDF's bootloader does, and write what it writes; None when there is no application partition.

        An image that was pending is given up, one on its first boot becomes pending. Without any image the choice
        stands, since what runs on the simulated board is the host's interpreter.
        """
        entries = self._entries()
        for index, entry in enumerate(entries):
            if entry.state == PENDING_VERIFY:
                entry.state = ABORTED
                self._write(index, entry.sequence, ABORTED)
        active = self._active(entries)
        if active is None:
            order = self._factory + self._slots
        else:
            if entries[active].state == NEW:
                self._write(active, entries[active].sequence, PENDING_VERIFY)
            chosen = (entries[active].sequence - 1) % len(self._slots)
            order = self._slots[chosen::-1] + self._factory + self._slots[chosen + 1 :]
        found = next((part for part in order if self._has_image(part)), None)
        untouched = all(entry.given_up and (entry.sequence == UNSET or not entry.crc_matches) for entry in entries)
        if found and entries and untouched and not self._factory:
            self._write(0, self._slots.index(found) + 1, VALID)
        return found or (order[0] if order else None)

    def _has_image(self, part: Partition) -> bool:
        return self._flash.read(part.offset, 1) == _IMAGE_MAGIC

    def boot_partition(self) -> Partition | None:
        """What the next boot takes, as far as otadata says: esp_ota_get_boot_partition(). None without otadata."""
        if not self.has_otadata:
            return None
        entries = self._entries()
        active = self._active(entries)
        if active is not None:
            return self._slots[(entries[active].sequence - 1) % len(self._slots)]
        return next(iter(self._factory + self._slots), None)

    def next_update(self, start: Partition) -> Partition | None:
        """Where an update goes when `start` runs: esp_ota_get_next_update_partition(). A single one follows itself."""
        if not self._slots:
            return None
        following = self._slots.index(start) + 1 if start in self._slots else 0
        return self._slots[following % len(self._slots)]

    def set_boot(self, part: Partition) -> bool:
        """Have the next boot try `part`: esp_ota_set_boot_partition(). False when no image is there."""
        if part.type != APP or not self._has_image(part):
            return False
        if part in self._factory:
            self._flash.erase(self._sector(0))
            self._flash.erase(self._sector(1))
            return True
        slot, count = self._slots.index(part), len(self._slots)
        entries = self._entries()
        active = self._active(entries)
        if active is None:
            self._write(0, slot + 1, NEW)
        elif (entries[active].sequence - 1) % count == slot:
            self._write(active, entries[active].sequence, NEW)
        else:
            sequence = entries[active].sequence + 1
            sequence += (slot + 1 - sequence) % count
            self._write(1 - active, sequence, NEW)
        return True

    def mark_valid(self) -> bool:
        """Confirm the running image: esp_ota_mark_app_valid_cancel_rollback(). False when otadata names none."""
        entries = self._entries()
        active = self._active(entries)
        if active is None:
            return False
        if entries[active].state != VALID:
            self._write(active, entries[active].sequence, VALID)
        return True


def _crc(sequence: int) -> int:
    return binascii.crc32(sequence.to_bytes(4, "little"), UNSET)
