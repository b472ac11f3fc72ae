"""Write files of a slot, each checked against its digest in the index as it comes: fetched, inflated or copied."""

import gc
import hashlib
import io
import os

import deflate
from micropython import const

from gatehouse import Refused, tree
from gatehouse.unpack import raw, read

_STEP = const(512)  # bytes of deflate input that are added at once
_AHEAD = const(700)  # bytes of deflate input that 256 bytes of output can need, the block's tables included
_OUT = const(256)
_WINDOW_BITS = const(10)
_QUEUE = const(1212)  # _STEP + _AHEAD
_WINDOW = const(1024)  # bytes that deflate takes anew for each file: its window,
_TABLES = const(1344)  # and its tables


def make_folder(path):
    """Make the folders above `path` in a slot."""
    parts = path.split("/")
    for depth in range(4, len(parts)):
        try:
            os.mkdir("/".join(parts[:depth]))
        except OSError:
            pass  # it is there; if not, opening the file says so


def copy(old, new, buffer):
    """Copy a whole file."""
    with open(old, "rb") as file, open(new, "wb") as out:
        while True:
            count = file.readinto(buffer)
            if not count:
                return
            out.write(buffer[:count])


async def copy_block(old, path, entry, number, buffer):
    """Whether one block of a large file could be copied from the running slot, where the index says that it is."""
    try:
        with open(old, "rb") as file:
            file.seek(number * tree.BLOCK)
            await block(_Local(file), path, entry, number, buffer)
        return True
    except (Refused, OSError):
        return False  # it has gone bad there; and if the fault is ours, fetching it will say so


class _Local:
    def __init__(self, file):
        self._file = file

    async def readinto(self, view):
        return self._file.readinto(view)


async def block(pack, path, entry, number, buffer):
    """Write one block of a large file behind those before it, and check its digest."""
    hasher = hashlib.sha256()
    with open(path, "r+b" if number else "wb") as out:
        out.seek(number * tree.BLOCK)
        await raw(pack, out, min(tree.BLOCK, entry[1] - number * tree.BLOCK), hasher, buffer)
    if hasher.digest() != entry[5][number]:
        raise Refused("digest", "block %d of %s" % (number, entry[0]))


class Inflater:
    """What inflating needs for file after file: a queue of input, and a place that is free again when it begins.

    In a used heap pieces of a kilobyte are hard to find. So they are held while nothing inflates.
    """

    def __init__(self):
        self.queue = io.BytesIO(_QUEUE)
        self._place = bytearray(_TABLES), bytearray(_WINDOW)

    def begin(self):
        """A deflate stream over the queue."""
        self._place = None
        gc.collect()
        self.queue.seek(0)
        return deflate.DeflateIO(self.queue, deflate.RAW, _WINDOW_BITS)

    def end(self):
        """To be called when nothing refers to that stream any more."""
        gc.collect()
        self._place = bytearray(_TABLES), bytearray(_WINDOW)


async def whole(pack, path, entry, buffer, inflater):
    """Write one file from its stored body and check its digest. Output is bounded by the size that was signed."""
    hasher = hashlib.sha256()
    with open(path, "wb") as out:
        if entry[4] == tree.RAW:
            await raw(pack, out, entry[1], hasher, buffer)
        else:
            await _inflate(pack, out, entry, buffer[:_STEP], hasher, inflater)
            inflater.end()
    if hasher.digest() != entry[2]:
        raise Refused("digest", entry[0])


async def _inflate(pack, out, entry, buffer, hasher, inflater):
    left, stored = entry[1], entry[3]
    # DeflateIO reads a native BytesIO fast and a Python stream a byte at a time, so the input is refilled between
    # two reads of output.
    queue, plain = inflater.queue, inflater.begin()
    piece = memoryview(bytearray(_OUT))
    waiting = 0  # bytes in the queue that are not read yet
    while left:
        if waiting < _AHEAD and stored:
            rest = queue.read(waiting)
            queue.seek(0)
            queue.write(rest)
            part = buffer[: min(stored, len(buffer))]
            await read(pack, part)
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
