"""What a slot needs of a pack: what it holds already, what the running slot has, and what has to be fetched.

The unit of the plan is a file, or a 64 KiB block of a file that is stored raw and larger than that. A digest for each
block stands in the index.
"""

import hashlib
import os
from array import array
from binascii import crc32

from micropython import const

from gatehouse import Refused, tree

_HERE = const(1)  # as in unpack.py; 0 is missing
_COPY = const(2)
_MARGIN = const(32768)  # bytes of flash left for the boot record, the journal and the file system itself
_FLASH_BLOCK = const(4096)
_MAX_DEPTH = const(4)  # of folders, as tree.check_path allows
_NOTHING, _FILES, _PARTS = const(0), const(1), const(2)  # what is kept of what is here


def make(root, active, buffer, platform=None, keep=_PARTS):
    """(what to do with each unit, where the body of each starts and the last ends, files that are here, files).

    The index on flash at `root` has the signed digest by now. Removes from there what the index does not list, and what
    cannot be gone on with. What is to be copied block by block is judged by the running slot's index, a whole file
    by its bytes. Where it does not fit beside what is here, the verified parts of large files are given up (`keep`
    _FILES), then all that is here (_NOTHING), so that what fitted once fits after each power cut.
    Refused("core"|"mpy"|"full").
    """
    free = os.statvfs(root)
    with open(root + "/index.cbor", "rb") as file:
        index = tree.Index(file)
        index.check_needs(platform)
        if keep == _NOTHING:
            _clear(root, ())
            free = os.statvfs(root)
        room = index.count + free[0] * free[2] // tree.BLOCK  # more blocks than the flash holds make no plan
        plan = bytearray(room)
        offsets = array("I", bytes(4 * (room + 1)))
        names = array("I", bytes(4 * index.count))
        have = _entries(active)
        other = next(have, None)
        need = unit = done = 0
        for number, entry in enumerate(index):
            path = root + "/" + entry[0]
            names[number] = crc32(entry[0].encode())
            while other and other[0] < entry[0]:
                other = next(have, None)
            same = other if other and other[0] == entry[0] else None
            count = tree.units(entry)
            if unit + count + index.count - number - 1 > room:
                raise Refused("full", "%s is one file too many for this flash" % entry[0])
            for block in range(count):
                length = entry[3] if count == 1 else min(tree.BLOCK, entry[1] - block * tree.BLOCK)
                offsets[unit + block + 1] = offsets[unit + block] + length
            if count > 1:
                kept, size = _prefix(path, entry, buffer, keep == _PARTS)
                for block in range(count):
                    if block < kept:
                        plan[unit + block] = _HERE
                    elif same and len(same) > 5 and entry[5][block] in same[5][block : block + 1]:
                        plan[unit + block] = _COPY
                done += kept == count
                if kept < count:
                    # What is here beyond the verified blocks is freed only once the first block over it is written.
                    left = entry[1] - kept * tree.BLOCK
                    need += _rounded(max(entry[1] - size, min(left, tree.BLOCK)))
            elif tree.file_matches(path, entry[1], entry[2], buffer):
                plan[unit] = _HERE
                done += 1
            else:
                if (
                    same
                    and same[:3] == entry[:3]
                    and tree.file_matches(active + "/" + entry[0], entry[1], entry[2], buffer)
                ):
                    plan[unit] = _COPY
                need += _rounded(entry[1])
                _remove(path)
            unit += count
    _clear(root, names)
    free = os.statvfs(root)
    if need + _MARGIN > free[0] * free[3]:
        if keep:  # going on can need more than starting anew: a part of a file, and folders, take blocks of their own
            return make(root, active, buffer, platform, keep - 1)
        raise Refused("full", "needs %d bytes of flash, %d are free" % (need + _MARGIN, free[0] * free[3]))
    return memoryview(plan)[:unit], offsets, done, len(names)


def _clear(root, names):
    """Remove what is not the index and not among these CRC-32s of paths."""
    for _ in range(_MAX_DEPTH):  # a folder is empty, and so found, once what it held is gone
        for path in list(tree.walk(root)):
            if path != "index.cbor" and not _listed(names, path):
                _remove(root + "/" + path)


def _prefix(path, entry, buffer, resume):
    """(blocks from the start of the file at `path` that are those of the entry, its size). Without any it goes."""
    kept = size = 0
    try:
        size = os.stat(path)[6]
        if size <= entry[1]:
            with open(path, "rb") as file:
                while kept < len(entry[5]) and _block_matches(file, entry, kept, buffer):
                    kept += 1
    except OSError:
        pass  # absent, or flash that cannot be read: what was verified so far is what is kept
    if not kept or (kept < len(entry[5]) and not resume):
        _remove(path)
        kept = size = 0
    return kept, size


def _block_matches(file, entry, block, buffer):
    left = min(tree.BLOCK, entry[1] - block * tree.BLOCK)
    hasher = hashlib.sha256()
    while left:
        count = file.readinto(buffer[: min(left, len(buffer))])
        if not count:
            return False
        hasher.update(buffer[:count])
        left -= count
    return hasher.digest() == entry[5][block]


def _rounded(size):
    return -(-size // _FLASH_BLOCK) * _FLASH_BLOCK


def _listed(names, path):
    wanted = crc32(path.encode())
    for name in names:
        if name == wanted:
            return True
    return False


def _entries(active):
    """The entries of the running slot's index, which boot has verified."""
    if active:
        with open(active + "/index.cbor", "rb") as file:
            yield from tree.Index(file)


def _remove(path):
    try:
        os.remove(path)  # a folder too, when it is empty
    except OSError:
        try:
            os.rmdir(path.rstrip("/"))
        except OSError:
            pass  # absent, or a folder with files: the verification of the slot has the last word
