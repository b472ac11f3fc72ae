"""What this device measures of itself for its reports, once in a boot."""

import hashlib
import os

from micropython import const

from gatehouse import cbor

_SEMVER = const(16384)  # version scheme, RFC 9393
_SHA256 = const(1)  # IANA named information hash algorithms, which RFC 10013 uses
_CHUNK = const(512)  # bytes
_DIRECTORY = const(0x4000)  # the type that os.ilistdir gives a folder


def folder(path):
    """SHA-256 over the files of `path`, in the order of their names' UTF-8 bytes: CBOR [name, size] and the content.

    A folder inside counts as [name + "/", 0]; the core has none. None where `path` is absent: the core is frozen
    into the firmware image, which is measured as a whole. The digest is what the core says of itself: it shows a
    mistaken or partial installation, not a core that lies.
    """
    try:
        entries = sorted((item[0].encode(), item[1]) for item in os.ilistdir(path))
    except OSError:
        return None
    hasher = hashlib.sha256()
    for raw, kind in entries:
        name = raw.decode()
        if kind & _DIRECTORY:
            hasher.update(cbor.dumps([name + "/", 0]))
        else:
            hasher.update(cbor.dumps([name, os.stat(path + "/" + name)[6]]))
            _hash_file(hasher, path + "/" + name)
    return hasher.digest()


def _hash_file(hasher, path):
    buffer = memoryview(bytearray(_CHUNK))
    with open(path, "rb") as file:
        while True:
            count = file.readinto(buffer)
            if not count:
                return
            hasher.update(buffer[:count])


def component(release):
    """The measured component (RFC 10013) of the running slot: its digest is the index's, which covers every file."""
    hasher = hashlib.sha256()
    _hash_file(hasher, release.root + "/index.cbor")
    return cbor.dumps({1: [release.name, [release.version, _SEMVER]], 2: [_SHA256, hasher.digest()]})
