"""The boot record: the one authority over what runs. Its fields and states are in docs/boot.md."""

import binascii
import os

from micropython import const

from gatehouse import Refused, cbor

PATH = "/state/boot.cbor"
TRUST = "/state/trust.suit"
CONFIG = "/state/config-%d.suit"
OFFER = "/state/offer.suit"  # an envelope that the application has no room to install: the core alone will

TRIES = const(3)  # so that two power cuts during a trial do not condemn a good release
TRIES_FIRMWARE = const(5)  # the same: after each cut the bootloader goes back once, and that boot counts too
QUIET_LIMIT = const(3)  # boots without a sign of health before the core stays alone
FACTORY = const(1)  # the configuration generation that provisioning wrote
_MAX_FAILED = const(8)  # digests remembered; the install floor keeps older ones out anyway
_MAX_FILE = const(8192)  # bytes; the largest envelope


def load(path, limit=_MAX_FILE):
    """The bytes of a small file, or None when it is absent or larger than `limit`."""
    try:
        if os.stat(path)[6] > limit:
            return None
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def save(path, data):
    """Replace a small file by `data` in one atomic step: write new, read back, rename in the same directory.

    OSError when the file system refuses it; then the old file stands. Refused("state") when the flash does not give
    back what was written.
    """
    new = path[: path.rindex(".")] + ".new"
    with open(new, "wb") as file:
        file.write(data)
    if load(new, len(data)) != data:
        raise Refused("state", "%s does not read back" % new)
    os.rename(new, path)


class Release:
    """One release: slot "a" or "b", its manifest's digest and sequence, OTA partition or None, configuration generation.

    partition is a label; None while no image was ever installed: then the bootloader's choice stands.
    """

    def __init__(self, fields):
        self.slot, self.digest, self.sequence, self.partition, self.config = fields
        self.name = self.version = None  # known once the slot has been verified

    def fields(self):
        return [self.slot, self.digest, self.sequence, self.partition, self.config]

    @property
    def root(self):
        return "/slots/" + self.slot


class Update:
    """What is on trial: the manifest's digest and sequence, the components that it brings, whether there is a way back.

    A restored configuration has no manifest: its digest is empty and it brings no component.
    """

    def __init__(self, digest, sequence, components, no_return=False):
        self.digest = digest
        self.sequence = sequence
        self.components = components
        self.no_return = no_return

    def fields(self):
        return [self.digest, self.sequence, self.components, self.no_return]


class Record:
    """The boot record in memory. `save()` is the one atomic switch."""

    def __init__(self, data=None, floors=None):
        """From the file's bytes, or a new one over `floors` (from NVS). ValueError when the bytes are not a record."""
        self.active = self.trial = self.outcome = self.update = None
        self.tries = self.quiet = 0
        self.configs = {}  # generation -> [sequence, manifest digest] of the configurations that are kept
        self.last = FACTORY  # the configuration generation that was confirmed before the active one
        self.floors = floors or {1: {}, 2: {}, 3: b"", 4: []}
        if data is None:
            return
        if len(data) < 5 or int.from_bytes(data[:4], "big") != binascii.crc32(data[4:]):
            raise ValueError("boot record: checksum")
        fields = cbor.loads(data[4:])
        try:
            self.active = fields[1] and Release(fields[1])
            self.trial = fields[2] and Release(fields[2])
            self.tries, self.quiet, self.floors, self.outcome = fields[3], fields[4], fields[5], fields[6]
            self.update = fields[7] and Update(*fields[7])
            self.configs, self.last = fields[8], fields[9]
        except (LookupError, TypeError):
            raise ValueError("boot record: fields")

    def dumps(self):
        """The file's bytes."""
        body = cbor.dumps(
            {
                1: self.active and self.active.fields(),
                2: self.trial and self.trial.fields(),
                3: self.tries,
                4: self.quiet,
                5: self.floors,
                6: self.outcome,
                7: self.update and self.update.fields(),
                8: self.configs,
                9: self.last,
            }
        )
        return binascii.crc32(body).to_bytes(4, "big") + body

    def save(self):
        """Write the record: the one atomic switch of every change of release."""
        save(PATH, self.dumps())

    def begin(self):
        """Rows 1 to 5 of the table: count this boot and choose. Returns "active", "trial", "recovery" or "rebuild"."""
        self.quiet += 1
        if self.trial:
            if self.tries:
                self.tries -= 1
                return "trial"
            self.fail_trial("health")
        if not self.active:
            return "rebuild"
        return "recovery" if self.quiet > QUIET_LIMIT else "active"

    def fail_trial(self, reason):
        """Row 3 of the table: the trial is over, and its manifest is not tried again."""
        update = self.update
        self.trial = self.update = None
        self.tries = 0
        self.quiet = 1
        if update.digest:
            kept = [digest for digest in self.floors[4] if digest != update.digest]
            self.floors[4] = (kept + [update.digest])[-_MAX_FAILED:]
        self.outcome = ["rolled-back", reason, update.digest, update.sequence]

    def start_trial(self, release, update):
        """The switch of an update: the next boot runs `release` on trial. Saved by the caller."""
        moved = release.partition and not (self.active and release.partition == self.active.partition)
        self.trial = release
        self.update = update
        self.tries = TRIES_FIRMWARE if moved else TRIES
        if "config" in update.components:
            self.configs[release.config] = [update.sequence, update.digest]
        self.outcome = ["pending-reboot", None, update.digest, update.sequence]

    def confirm_trial(self):
        """The trial becomes the active release and the floors move. Saved by the caller."""
        release, before, update = self.trial, self.active, self.update
        self.active, self.trial, self.update, self.tries, self.quiet = release, None, None, 0, 0
        install, lowest = self.floors[1], self.floors[2]
        for component in update.components:
            floor = install.get(component)
            if floor is None or floor[0] <= update.sequence:
                install[component] = [update.sequence, update.digest]
        if "app" in update.components:
            if before:
                lowest["app"] = max(before.sequence, lowest.get("app", 0))
            if update.no_return:
                lowest["app"] = release.sequence
        if before and before.config != release.config:
            self.last = before.config
            if "config" in update.components and before.config in self.configs:
                lowest["config"] = max(self.configs[before.config][0], lowest.get("config", 0))
        self.configs = {key: self.configs[key] for key in (release.config, self.last) if key in self.configs}
        self.floors[3] = release.digest
        self.floors[4] = [digest for digest in self.floors[4] if digest != update.digest]
        self.outcome = ["confirmed", None, update.digest, update.sequence]

    def fall_back(self, release, reason):
        """The active release does not verify: `release`, in the other slot, takes its place. Saved by the caller."""
        bad = self.active
        self.active = release
        self.floors[3] = release.digest
        self.outcome = ["rolled-back", reason, bad.digest, bad.sequence]

    def merge(self, other):
        """Take the higher of each floor from `other` (the NVS copy); the record's own failures and digest stand."""
        for component, floor in other[1].items():
            if component not in self.floors[1] or self.floors[1][component][0] < floor[0]:
                self.floors[1][component] = floor
        for component, sequence in other[2].items():
            self.floors[2][component] = max(sequence, self.floors[2].get(component, 0))
