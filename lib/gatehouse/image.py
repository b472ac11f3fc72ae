"""The ESP32 application image of component ["firmware"]: into the next OTA partition, block by block.

It travels as a pack of one entry, "firmware.bin", stored raw: index length, index, image. What its index says it
provides (field 4, the core that is frozen inside; field 5, the .mpy version that it runs) is for the installer.

ESP-IDF's bootloader starts any partition with a valid image when the one that otadata names is damaged. So the first
bytes of the partition are erased before anything is written, and come back last, when every block has been verified.
"""

import asyncio
import hashlib

import esp32
from micropython import const

from gatehouse import Refused, cbor

MAX_INDEX = const(8192)  # bytes, held as they are: 34 for each block, so that an image of 14 MB fits
_BLOCK = const(65536)  # bytes of the image that have a digest of their own
_SECTOR = const(4096)  # what the flash erases at once
_HEADER = const(32)  # bytes that come last: the unit of flash encryption on the first ESP32
_MAGIC = const(0xE9)  # first byte of an application image
_MAX_IMAGE = const(0x1000000)  # bytes: the largest flash of a module
_MAX_TEXT = const(32)  # as in an application's index
_PATH = "firmware.bin"
_ERASE = const(6)  # ioctl

_verified = None  # (digest, size) of the index whose image the last fill() of this boot has verified


def _partitions():
    """(the partition that runs, the one that an update may write), or None on a board without a second one."""
    try:
        own = esp32.Partition(esp32.Partition.RUNNING)
        other = own.get_next_update()
    except OSError:
        return None
    # With a single OTA partition ESP-IDF names that one, although it is running.
    return None if own.info()[2] == other.info()[2] else (own, other)


def target():
    """The esp32.Partition that an update may write. Refused("component") on a board without one."""
    found = _partitions()
    if not found:
        raise Refused("component", "this board has no second application partition")
    return found[1]


def running():
    """The label of the partition that runs, None on a board without OTA partitions."""
    found = _partitions()
    return found[0].info()[4] if found else None


def boot_label():
    """The label of the partition that the bootloader would take next, None on a board without OTA partitions."""
    if not _partitions():
        return None
    try:
        return esp32.Partition(esp32.Partition.BOOT).info()[4]
    except OSError:
        return None  # no otadata


def switch(label):
    """Have the next reset try the partition `label`; nothing is written when it would be taken anyway.

    ESP-IDF gives it one try: the reset after that goes back, unless keep() was called. OSError when the bootloader
    would not take what is there, or there is no such partition.
    """
    if boot_label() != label:
        esp32.Partition(label).set_boot()


def keep():
    """Confirm the running image, so that the next reset does not go back. Writes nothing when that is so already.

    False when otadata does not name what runs, because the bootloader could not start what it names: then that other
    image must not be confirmed. True otherwise, also on a board without OTA partitions.
    """
    label = running()
    if label is None:
        return True
    if label != boot_label():
        return False
    try:
        esp32.Partition.mark_app_valid_cancel_rollback()
    except OSError:
        return False  # otadata names nothing: what runs is what the bootloader takes when it knows nothing
    return True


def matches(digest, size):
    """Whether the last fill() of this boot has verified just the image of this index."""
    return _verified == (digest, size)


async def fill(pack, digest, size, progress, feed, buffer):
    """Bring the next OTA partition to the image whose index has SHA-256 `digest` and `size` bytes.

    pack: a source; progress(done, total) after each block; feed() at least once a flash sector; buffer: a scratch
    memoryview whose length divides 4096, so that no second one is needed. What the partition holds already is not
    fetched. Returns (label of the partition, core version inside the image, .mpy version that it runs). Raises Refused,
    or OSError from the flash.
    """
    global _verified
    _verified = None
    part = target()
    index = await _fetch_index(pack, digest, size, buffer)
    core, mpy, length, whole, listed = _parse(index)
    info = part.info()
    if not _SECTOR <= length <= info[3]:
        raise Refused("size", "an image of %d bytes; %s has %d" % (length, info[4], info[3]))
    count = -(-length // _BLOCK)
    here = bytearray(count)
    for number in range(count):
        wanted = _wanted(index, listed, whole, number)
        here[number] = await _hash(part, number, number + 1, length, buffer, feed) == wanted
    if not all(here):
        _erase_header(part)
        here[0] = 0
    progress(sum(here), count)
    at = -1  # of the image, where the open range stands
    for number in range(1, count + 1):
        number %= count  # the first block last
        if here[number]:
            continue
        start = number * _BLOCK
        if at != start:
            await pack.open(4 + size + start, 4 + size + _run_end(here, number, length))
        at = min(start + _BLOCK, length)
        wanted = _wanted(index, listed, whole, number)
        header = await _write(pack, part, start, at, buffer, feed, wanted)
        if not number:
            if header[0] != _MAGIC:
                raise Refused("format", "not an ESP32 application image")
            part.writeblocks(0, header, 0)
        if await _hash(part, number, number + 1, length, buffer, feed) != wanted:
            raise Refused("state", "block %d of %s does not read back" % (number, info[4]))
        here[number] = 1
        progress(sum(here), count)
    if await _hash(part, 0, count, length, buffer, feed) != whole:
        _erase_header(part)  # nothing that is refused may be startable
        raise Refused("digest", "the image is not that of its index")
    _verified = (digest, size)
    return info[4], core, mpy


def _erase_header(part):
    part.ioctl(_ERASE, 0)


async def _read(pack, view):
    """Fill `view` from the pack. Refused("network") when the pack ends early."""
    while view:
        count = await pack.readinto(view)
        if not count:
            raise Refused("network", "the pack ends early")
        view = view[count:]


async def _fetch_index(pack, digest, size, buffer):
    """The bytes of the index, which has the signed digest."""
    if not 0 < size <= MAX_INDEX:
        raise Refused("size", "index of %d bytes" % size)
    await pack.open(0, 4 + size)
    await _read(pack, buffer[:4])
    if int.from_bytes(buffer[:4], "big") != size:
        raise Refused("size", "the pack's index is not %d bytes" % size)
    index = bytearray(size)
    await _read(pack, memoryview(index))
    if hashlib.sha256(index).digest() != digest:
        raise Refused("digest", "index of the pack")
    return index


def _parse(index):
    """(core, .mpy version, bytes of the image, its SHA-256, where the list of block digests begins or 0).

    Refused("format") on anything but one raw entry "firmware.bin" (see tree.py for the format).
    """
    try:
        _, at = _field(index, 0, b"\xa6\x01\x01\x02", str)
        _, at = _field(index, at, b"\x03", str)
        core, at = _field(index, at, b"\x04", str)
        mpy, at = _field(index, at, b"\x05", int)
        many = index[at + 2 : at + 3] == b"\x86"
        path, at = _field(index, at, b"\x06\x81\x86" if many else b"\x06\x81\x85", str)
        length, at = _field(index, at, b"", int)
        whole, at = _field(index, at, b"", bytes)
        stored, at = _field(index, at, b"", int)
        encoding, at = _field(index, at, b"", int)
        if path != _PATH or len(whole) != 32 or stored != length or encoding or not 0 < length <= _MAX_IMAGE:
            raise ValueError("entry")
        if many != (length > _BLOCK):
            raise ValueError("blocks")
        listed = 0
        if many:
            major, count, listed = cbor.head(index, at)
            at = listed + 34 * count
            if major != 4 or count != -(-length // _BLOCK) or at > len(index):
                raise ValueError("blocks")
            for place in range(listed, at, 34):
                if index[place : place + 2] != b"\x58\x20":
                    raise ValueError("blocks")
        if at != len(index):
            raise ValueError("trailing bytes")
    except ValueError as error:
        raise Refused("format", "index of the image: %s" % error)
    return core, mpy, length, whole, listed


def _field(index, at, before, kind):
    """The item of type `kind` behind the bytes `before` at `at`, and where it ends. ValueError when it is not so."""
    end = at + len(before)
    if index[at:end] != before:
        raise ValueError("fields")
    value, end = cbor.decode(index, end)
    if type(value) is not kind or (kind is str and len(value) > _MAX_TEXT):
        raise ValueError("field")
    return value, end


def _wanted(index, listed, whole, number):
    """The SHA-256 of block `number`; an image of one block has only its own."""
    at = listed + 34 * number + 2
    return bytes(index[at : at + 32]) if listed else whole


def _run_end(here, number, length):
    """Where the range that starts with block `number` ends: before the next one that is here."""
    end = number + 1
    while number and end < len(here) and not here[end]:
        end += 1
    return min(end * _BLOCK, length)


async def _hash(part, first, end, length, buffer, feed):
    """SHA-256 of the blocks `first` to `end` of an image of `length` bytes, as the flash gives them back."""
    hasher = hashlib.sha256()
    at = first * _BLOCK
    end = min(end * _BLOCK, length)
    while at < end:
        if not at % _SECTOR:
            feed()
        piece = buffer[: min(len(buffer), end - at)]
        part.readblocks(at // _SECTOR, piece, at % _SECTOR)
        hasher.update(piece)
        at += len(piece)
    await asyncio.sleep_ms(0)
    return hasher.digest()


async def _write(pack, part, at, end, buffer, feed, wanted):
    """Write one block as it arrives, but for the header of the image. Returns the first bytes of the block.

    Refused("digest") when it is not the one that was signed.
    """
    hasher = hashlib.sha256()
    header = b""
    while at < end:
        if not at % _SECTOR:
            feed()
            await asyncio.sleep_ms(0)  # an erase stops the whole chip for some 50 ms
            part.ioctl(_ERASE, at // _SECTOR)
        piece = buffer[: min(len(buffer), end - at)]
        await _read(pack, piece)
        hasher.update(piece)
        header = header or bytes(piece[:_HEADER])
        kept = 0 if at else _HEADER
        part.writeblocks(at // _SECTOR, piece[kept:], at % _SECTOR + kept)
        at += len(piece)
    if hasher.digest() != wanted:
        raise Refused("digest", "a block that ends at %d" % end)
    return header
