"""Fill a slot from a pack: what the slot or the active slot already has is kept or copied, the rest is fetched.

A pack is one file: 4-byte big-endian length of the index, the index, the stored bodies in index order. A file over
64 KiB that is stored raw is written block by block, and closed after each: what was committed before a power cut stays.
"""

import asyncio
import hashlib
import os

from micropython import const

from gatehouse import Refused, memory, tree

_CHUNK = const(1024)
_GAP = const(2048)  # bytes of the pack read and thrown away rather than asking for another range
_MISSING = const(0)  # what plan.py says of a unit; repeated here, because a name in common costs memory for ever
_HERE = const(1)
_COPY = const(2)
_NO_END = const(0x3FFFFFFF)  # of a range that goes on to the pack's end


async def fill(pack, root, active, digest, size, progress, buffer=None, platform=None, spare=0):
    """Bring the slot at `root` to the tree whose index has SHA-256 `digest` and `size` bytes.

    pack: a source; active: root of the running slot or None; progress(done, total) after each file and each block of a
    large one; buffer: a scratch memoryview of 1 KB; platform: see tree.Index.check_needs(); spare: bytes of the heap
    that must be left to others while files come. Raises Refused, MemoryError before the first file where that is not
    so, or OSError from the file system. The caller verifies the whole slot afterwards.
    """
    buffer = buffer or memoryview(bytearray(_CHUNK))
    stream = _Stream(pack, 4 + size)
    if not tree.file_matches(root + "/index.cbor", size, digest, buffer):
        await _fetch_index(stream, root, digest, size, buffer, bool(active))
    plan, stream.offsets, done, total = _plan(root, active, buffer, platform)
    stream.plan = plan
    progress(done, total)
    # Not before the plan is made: the heap does not hold both.
    from gatehouse import body

    inflater = body.Inflater()
    memory.spare(spare)
    with open(root + "/index.cbor", "rb") as file:
        unit = 0
        for entry in tree.Index(file):
            path = root + "/" + entry[0]
            count = tree.units(entry)
            touched = False
            for number in range(count):
                if plan[unit] != _HERE:
                    if not touched:
                        body.make_folder(path)
                        touched = True
                    old = active + "/" + entry[0] if plan[unit] == _COPY else None
                    if count > 1:
                        if not (old and await body.copy_block(old, path, entry, number, buffer)):
                            await body.block(await stream.at(unit), path, entry, number, buffer)
                    elif old:
                        body.copy(old, path, buffer)
                    else:
                        await body.whole(await stream.at(unit), path, entry, buffer, inflater)
                    if number + 1 < count:
                        progress(done, total)
                    await asyncio.sleep_ms(0)
                unit += 1
            if touched:
                done += 1
                progress(done, total)


def _plan(root, active, buffer, platform):
    from gatehouse import plan

    try:
        return plan.make(root, active, buffer, platform)
    finally:
        memory.unload("plan")  # its room is for the download


class _Stream:
    """The pack, read on where that is possible, else asked for by another range."""

    def __init__(self, pack, base):
        self.pack = pack
        self.plan = self.offsets = None
        self.base = base  # where the bodies start
        self.position = self.until = 0  # of the range that is open; 0 where none is

    async def at(self, unit):
        """The source, standing at the body of a unit, which the caller reads to its end."""
        start, end = self.base + self.offsets[unit], self.base + self.offsets[unit + 1]
        if end > start:
            if 0 <= start - self.position <= _GAP and end <= self.until:
                await self.pack.skip(start - self.position)
            else:
                self.until = self.base + self._run_end(unit)
                await self.pack.open(start, self.until)
            self.position = end
        return self.pack

    def _run_end(self, unit):
        """Where the range that starts with a unit ends: after the last one before a gap too large to read."""
        plan, offsets = self.plan, self.offsets
        end = unit + 1
        for later in range(unit + 1, len(plan)):
            if plan[later] == _MISSING:
                if offsets[later] - offsets[end] > _GAP:
                    break
                end = later + 1
        return offsets[end]


async def read(pack, view):
    """Fill `view` from the pack. Refused("network") when the pack ends early."""
    while view:
        count = await pack.readinto(view)
        if not count:
            raise Refused("network", "the pack ends early")
        view = view[count:]


async def _fetch_index(stream, root, digest, size, buffer, alone):
    """Ask for the index, `alone` or with all that follows, and keep it once it has the signed digest."""
    if size > tree.MAX_INDEX:
        raise Refused("size", "index of %d bytes" % size)
    # With a running slot to copy from, little of the rest may be needed; without one, all of it comes in one stream.
    pack = stream.pack
    await pack.open(0, 4 + size if alone else None)
    await read(pack, buffer[:4])
    if int.from_bytes(buffer[:4], "big") != size:
        raise Refused("size", "the pack's index is not %d bytes" % size)
    hasher = hashlib.sha256()
    with open(root + "/index.new", "wb") as out:
        await raw(pack, out, size, hasher, buffer)
    if hasher.digest() != digest:
        raise Refused("digest", "index of the pack")
    os.rename(root + "/index.new", root + "/index.cbor")
    if not alone:
        stream.position, stream.until = stream.base, _NO_END


async def raw(pack, out, left, hasher, buffer):
    """Write `left` bytes of the pack as they are to an open file."""
    while left:
        part = buffer[: min(left, len(buffer))]
        await read(pack, part)
        hasher.update(part)
        out.write(part)
        left -= len(part)
