"""The boot record: the one authority over what runs. Its fields and states are in docs/boot.md.

What changes it is in transitions.py.
"""

import binascii
import os

from micropython import const

from gatehouse import Refused, cbor

PATH = "/state/boot.cbor"
TRUST = "/state/trust.suit"
CONFIG = "/state/config-%d.suit"
_UPLOAD = "/state/upload-%s.pack"  # what came with an offer, instead of from a server
OFFER = "/state/offer.suit"  # an envelope that the application has no room to install: the core alone will

QUIET_LIMIT = const(3)  # boots without a sign of health before the core stays alone
FACTORY = const(1)  # the configuration generation that provisioning wrote
_MAX_FILE = const(8192)  # bytes; the largest envelope


def upload_path(digest):
    """Where the pack lies that is uploaded with the envelope of this SHA-256."""
    return _UPLOAD % binascii.hexlify(digest[:8]).decode()


def uploaded(digest):
    """The same where there is one, else None."""
    path = upload_path(digest)
    try:
        os.stat(path)
    except OSError:
        return None
    return path


def remove(path):
    """Remove a file that may be gone already."""
    try:
        os.remove(path)
    except OSError:
        pass


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
    """One release: slot "a" or "b", its manifest's digest and sequence, OTA partition, configuration generation.

    partition is a label; None while no image was ever installed: then the bootloader's choice stands.
    """

    def __init__(self, fields):
        self.slot, self.digest, self.sequence, self.partition, self.config = fields
        self.name = self.version = self.index = None  # known once the slot has been verified; index: (digest, size)

    def fields(self):
        return [self.slot, self.digest, self.sequence, self.partition, self.config]

    @property
    def root(self):
        return "/slots/" + self.slot


class Record:
    """The boot record in memory. `save()` is the one atomic switch."""

    def __init__(self, data=None, floors=None):
        """From the file's bytes, or a new one over `floors` (from NVS). ValueError when the bytes are not a record."""
        self.active = self.trial = self.outcome = None
        self.update = None  # what is on trial: [manifest digest, sequence, names of its components, no way back]
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
            self.update = fields[7]
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
                7: self.update,
                8: self.configs,
                9: self.last,
            }
        )
        return binascii.crc32(body).to_bytes(4, "big") + body

    def save(self):
        """Write the record: the one atomic switch of every change of release."""
        save(PATH, self.dumps())
