"""What this device measures of itself for its reports: files, the running slot, the chip's eFuses."""

import hashlib
import os

from micropython import const

import gatehouse
from gatehouse import Refused, cbor

_SEMVER = const(16384)  # version scheme, RFC 9393
_SHA256 = const(1)  # IANA named information hash algorithms, which RFC 10013 uses
_CHUNK = const(512)  # bytes
MAX_TAG = const(160)  # bytes: a CoSWID tag with a domain of 60 characters; a report stays within one TCP segment
_DIRECTORY = const(0x4000)  # the type that os.ilistdir gives a folder


def frozen():
    """Whether the core that runs is frozen into the firmware image, by where it was loaded from.

    Not by whether /lib/gatehouse is there: who can write files could make one core look like the other.
    """
    return not gatehouse.__file__.startswith("/")


def core():
    """The measured component of the core's files, b"" where it is frozen: no file of its own can be read."""
    if frozen():
        return b""
    return _component("gatehouse", gatehouse.VERSION, folder(gatehouse.__file__.rsplit("/", 1)[0]))


def folder(path):
    """SHA-256 over the files of `path`, in the order of their names' UTF-8 bytes: CBOR [name, size] and the content.

    A folder inside counts as [name + "/", 0]; the core has none. One that is gone has no files. The digest is what the
    core says of itself: it shows a mistaken or partial installation, not a core that lies.
    """
    try:
        entries = sorted((item[0].encode(), item[1]) for item in os.ilistdir(path))
    except OSError:
        entries = []
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


def again(release, on_file, before):
    """Compare every file of the running slot with the signed index that boot found good.

    Returns (result, measured component): 1 and 2 are success and failure as in RFC 9711 section 4.2.17. Where the index
    cannot be read the component is the one `before`.
    """
    from gatehouse import memory, tree

    try:
        tree.verify(release.root, release.index[0], release.index[1], on_file)
        result = 1
    except (Refused, OSError):
        result = 2
    finally:
        del tree
        memory.unload("tree")
    try:
        return result, component(release)
    except OSError:
        return 2, before


def fuses(words):
    """[flash encryption, secure boot, UART download mode, JTAG]: whether each is on or open; None where unknown.

    `words` has for each of them [address, mask, ...], as provisioning took it from boards/fuses.toml; or it is None.
    """
    if not words:
        return [None, None, None, None]
    import machine

    registers = machine.mem32
    found = []
    for place, pairs in enumerate(words):
        bits = total = 0
        for at in range(0, len(pairs), 2):
            bits += _ones(registers[pairs[at]] & pairs[at + 1])
            total += _ones(pairs[at + 1])
        # Encryption is on while an odd number of its bits is burned; a door is closed when all of its bits are.
        found.append(bits % 2 == 1 if place == 0 else bits > 0 if place == 1 else bits < total)
    return found


def _ones(value):
    count = 0
    while value:
        count += value & 1
        value >>= 1
    return count


def component(release):
    """The measured component (RFC 10013) of the running slot: its digest is the index's, which covers every file."""
    hasher = hashlib.sha256()
    _hash_file(hasher, release.root + "/index.cbor")
    return _component(release.name, release.version, hasher.digest())


def tag(release):
    """The CoSWID tag (RFC 9393) that the maker of the running slot put into it, which boot has verified, or b""."""
    from gatehouse import record

    return record.load(release.root + "/app.coswid", MAX_TAG) or b""


def _component(name, version, digest):
    return cbor.dumps({1: [name, [version, _SEMVER]], 2: [_SHA256, digest]})
