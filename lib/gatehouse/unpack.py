"""Fill a slot from a pack: what the slot or the active slot already has is kept or copied, the rest is fetched.

A pack is one file: 4-byte big-endian length of the index, the index, the stored bodies in index order.
"""

import asyncio
import hashlib
import io
import os
from array import array
from binascii import crc32

import deflate
from micropython import const

from gatehouse import Refused, tree

_CHUNK = const(1024)
_STEP = const(512)  # bytes of deflate input that are added at once
_AHEAD = const(700)  # bytes of deflate input that 256 bytes of output can need, the block's tables included
_OUT = const(256)
_GAP = const(2048)  # bytes of the pack read and thrown away rather than asking for another range
_WINDOW_BITS = const(10)
_MARGIN = const(32768)  # bytes of flash left for the boot record, the journal and the file system itself
_BLOCK = const(4096)
_MAX_DEPTH = const(4)  # of folders, as tree.check_path allows

_MISSING = const(0)
_HERE = const(1)
_COPY = const(2)


async def fill(pack, root, active, digest, size, progress, buffer=None, platform=None):
    """Bring the slot at `root` to the tree whose index has SHA-256 `digest` and `size` bytes.

    pack: a source; active: root of the running slot or None; progress(done, total) after each file;
    buffer: a scratch memoryview of 1 KB; platform: see tree.Index.check_needs(). Raises Refused, or OSError from the
    file system. The caller verifies the whole slot afterwards.
    """
    buffer = buffer or memoryview(bytearray(_CHUNK))
    queue = io.BytesIO(_STEP + _AHEAD)  # once, and before the heap is used by anything else
    at = 0  # position in the pack
    if not tree.file_matches(root + "/index.cbor", size, digest, buffer):
        at = await _fetch_index(pack, root, digest, size, buffer, bool(active))
    plan, offsets = _plan(root, active, buffer, platform)
    total = len(plan)
    done = sum(1 for step in plan if step == _HERE)
    progress(done, total)
    with open(root + "/index.cbor", "rb") as file:
        for number, entry in enumerate(tree.Index(file)):
            if plan[number] == _HERE:
                continue
            path = root + "/" + entry[0]
            _make_folder(path)
            if plan[number] == _COPY:
                _copy(active + "/" + entry[0], path, buffer)
            else:
                start = 4 + size + offsets[number]
                if at and 0 <= start - at <= _GAP:
                    await pack.skip(start - at)
                else:
                    await pack.open(start, 4 + size + _run_end(plan, offsets, number))
                with open(path, "wb") as out:
                    await _body(pack, out, entry, buffer, queue)
                at = start + entry[3]
            done += 1
            progress(done, total)
            await asyncio.sleep_ms(0)


async def _read(pack, view):
    """Fill `view` from the pack. Refused("network") when the pack ends early."""
    while view:
        count = await pack.readinto(view)
        if not count:
            raise Refused("network", "the pack ends early")
        view = view[count:]


async def _fetch_index(pack, root, digest, size, buffer, alone):
    """Returns where the open range stands: behind the index, or 0 when the index was asked for `alone`."""
    if size > tree.MAX_INDEX:
        raise Refused("size", "index of %d bytes" % size)
    # With a running slot to copy from, little of the rest may be needed; without one, all of it comes in one stream.
    await pack.open(0, 4 + size if alone else None)
    await _read(pack, buffer[:4])
    if int.from_bytes(buffer[:4], "big") != size:
        raise Refused("size", "the pack's index is not %d bytes" % size)
    hasher = hashlib.sha256()
    left = size
    with open(root + "/index.new", "wb") as out:
        while left:
            part = buffer[: min(left, len(buffer))]
            await _read(pack, part)
            hasher.update(part)
            out.write(part)
            left -= len(part)
    if hasher.digest() != digest:
        raise Refused("digest", "index of the pack")
    os.rename(root + "/index.new", root + "/index.cbor")
    return 0 if alone else 4 + size


def _plan(root, active, buffer, platform):
    """For each entry what to do, and where its body starts in the pack. Removes what the index does not list.

    The index on flash has the signed digest by now. Refused("core"|"mpy"|"full").
    """
    with open(root + "/index.cbor", "rb") as file:
        index = tree.Index(file)
        index.check_needs(platform)
        plan = bytearray(index.count)
        offsets = array("I", bytes(4 * (index.count + 1)))
        names = array("I", bytes(4 * index.count))
        have = _entries(active)
        other = next(have, None)
        need = 0
        for number, entry in enumerate(index):
            names[number] = crc32(entry[0].encode())
            offsets[number + 1] = offsets[number] + entry[3]
            while other and other[0] < entry[0]:
                other = next(have, None)
            if tree.file_matches(root + "/" + entry[0], entry[1], entry[2], buffer):
                plan[number] = _HERE
                continue
            if (
                other
                and other[:3] == entry[:3]
                and tree.file_matches(active + "/" + entry[0], entry[1], entry[2], buffer)
            ):
                plan[number] = _COPY
            need += -(-entry[1] // _BLOCK) * _BLOCK
            _remove(root + "/" + entry[0])
    for _ in range(_MAX_DEPTH):  # a folder is empty, and so found, once what it held is gone
        for path in list(tree.walk(root)):
            if path != "index.cbor" and not _listed(names, path):
                _remove(root + "/" + path)
    free = os.statvfs(root)
    if need + _MARGIN > free[0] * free[3]:
        raise Refused("full", "needs %d bytes of flash, %d are free" % (need + _MARGIN, free[0] * free[3]))
    return plan, offsets


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


def _make_folder(path):
    parts = path.split("/")
    for depth in range(4, len(parts)):
        try:
            os.mkdir("/".join(parts[:depth]))
        except OSError:
            pass  # it is there; if not, opening the file says so


def _run_end(plan, offsets, number):
    """Where the range that starts with entry `number` ends: after the last entry before a gap too large to read."""
    end = number + 1
    for later in range(number + 1, len(plan)):
        if plan[later] == _MISSING:
            if offsets[later] - offsets[end] > _GAP:
                break
            end = later + 1
    return offsets[end]


def _copy(old, new, buffer):
    with open(old, "rb") as file, open(new, "wb") as out:
        while True:
            count = file.readinto(buffer)
            if not count:
                return
            out.write(buffer[:count])


async def _body(pack, out, entry, buffer, queue):
    """Write one file from its stored body and check its digest. Output is bounded by the size that was signed."""
    hasher = hashlib.sha256()
    if entry[4] == tree.RAW:
        left = entry[1]
        while left:
            part = buffer[: min(left, len(buffer))]
            await _read(pack, part)
            hasher.update(part)
            out.write(part)
            left -= len(part)
    else:
        await _inflate(pack, out, entry, buffer[:_STEP], hasher, queue)
    if hasher.digest() != entry[2]:
        raise Refused("digest", entry[0])


async def _inflate(pack, out, entry, buffer, hasher, queue):
    left, stored = entry[1], entry[3]
    # DeflateIO reads a native BytesIO fast and a Python stream a byte at a time, so the input is refilled between
    # two reads of output.
    queue.seek(0)
    plain = deflate.DeflateIO(queue, deflate.RAW, _WINDOW_BITS)
    piece = memoryview(bytearray(_OUT))
    waiting = 0  # bytes in the queue that are not read yet
    while left:
        if waiting < _AHEAD and stored:
            rest = queue.read(waiting)
            queue.seek(0)
            queue.write(rest)
            part = buffer[: min(stored, len(buffer))]
            await _read(pack, part)
            queue.write(part)
            stored -= len(part)
            waiting = len(rest) + len(part)
            queue.seek(0)
        before = queue.tell()
        try:
            count = plain.readinto(piece[: min(left, _OUT)])
        except (OSError, EOFError):
            raise Refused("digest", "%s does not inflate" % entry[0])
        waiting -= queue.tell() - before
        if not count or waiting < 0:
            raise Refused("digest", "%s inflates to less than was signed" % entry[0])
        hasher.update(piece[:count])
        out.write(piece[:count])
        left -= count
    before = queue.tell()
    try:
        more = plain.readinto(piece[:1])  # the stream must end here, and nothing may follow it
    except (OSError, EOFError):
        more = 1
    waiting -= queue.tell() - before
    if more or stored or waiting:
        raise Refused("size", "%s is stored longer than it needs" % entry[0])
