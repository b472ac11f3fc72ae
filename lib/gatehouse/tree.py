"""An application tree: its index, the rules for its paths, and the check that a slot is exactly what the index says.

The index is deterministic CBOR, read from flash a few hundred bytes at a time:
{1: format 1, 2: name, 3: version, 4: core version needed, 5: .mpy version, 6: [entry...]}, entries sorted by path;
entry = [path, size, SHA-256, stored size, encoding] and, for a file over 64 KiB, a list of its blocks' SHA-256.
"""

import hashlib
import os
import sys

from micropython import const

from gatehouse import VERSION, Refused, cbor

BLOCK = const(65536)  # bytes of a large file that have a digest of their own in the index
RAW = const(0)
DEFLATE = const(1)

MAX_INDEX = const(65536)  # bytes: 256 entries of the longest path fit, blocks of a few large files too
MAX_FILES = const(256)  # a slot of 400 KB does not hold more files than this in LittleFS blocks of 4 KB
MAX_FILE = const(1048576)  # bytes: more than the file system of a 4 MB board
_WINDOW = const(704)  # bytes read ahead: an entry of the longest path and the largest file, of 16 blocks, fits
_CHUNK = const(1024)
_MAX_PATH = const(64)
_MAX_DEPTH = const(4)
_PATH = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
_DIRECTORY = const(0x4000)
_OWN = ("manifest.suit", "index.cbor")

# Names that a slot must not bring: the core, what the chip's firmware has built in or frozen, and what boot runs.
_RESERVED = (
    " "
    "gatehouse boot main _boot micropython machine network esp32 esp espnow bluetooth neopixel dht onewire ds18x20 "
    "aioespnow umqtt upysh urequests requests ntptime webrepl webrepl_setup mip inisetup flashbdev apa106 asyncio "
    "uasyncio array binascii builtins cmath collections cryptolib deflate errno framebuf gc hashlib heapq io json "
    "math os platform random re select socket ssl struct sys time tls uctypes vfs websocket _thread _asyncio _onewire "
    "_webrepl btree uarray ubinascii ucollections ucryptolib uerrno uhashlib uheapq uio ujson uos uplatform urandom "
    "ure uselect usocket ussl ustruct usys utime uwebsocket lwip i2s romfs "
)


def check_path(path):
    """Refused("path"|"module") unless `path` may stand in a tree: relative, plain ASCII parts, no name of another's."""
    parts = path.split("/")
    if len(path) > _MAX_PATH or len(parts) > _MAX_DEPTH:
        raise Refused("path", "too long or too deep: %s" % path[:_MAX_PATH])
    for part in parts:
        if not part or part[0] == ".":
            raise Refused("path", "empty or hidden part: %s" % path)
        for character in part:
            if character not in _PATH:
                raise Refused("path", "character not allowed in: %s" % path)
    if path in _OWN or path.endswith(".new"):
        raise Refused("path", "reserved: %s" % path)
    if " %s " % parts[0].split(".")[0] in _RESERVED:
        raise Refused("module", "would shadow a module of the system: %s" % path)


class Index:
    """Reads an index from an open file, strictly, in one pass; hashes what it reads.

    Iterating gives entries as lists, in order. Refused("format"|"size"|"path"|"module") on anything but the format
    above. `digest()` is SHA-256 of the whole file, once the iteration has ended.
    """

    def __init__(self, file):
        self._file = file
        self._window = memoryview(bytearray(_WINDOW))
        self._at = self._end = 0  # what is read ahead and not used yet
        self._hash = hashlib.sha256()
        self._total = 0
        major, pairs = self._head()
        if major != 5 or pairs != 6:
            raise Refused("format", "index is not a map of six")
        fields = []
        for key in range(1, 6):
            if self._head() != (0, key):  # the encoded key: 1.0 and true are equal to 1, too
                raise Refused("format", "index field %d" % key)
            fields.append(self._item())
        if fields[0] != 1 or type(fields[0]) is not int or type(fields[4]) is not int:
            raise Refused("format", "index version")
        for field in fields[1:4]:
            if not isinstance(field, str) or len(field) > 32:
                raise Refused("format", "index name or version")
        self.name, self.version, self.core, self.mpy = fields[1:5]
        if self._head() != (0, 6):
            raise Refused("format", "index field 6")
        major, self.count = self._head()
        if major != 4 or not 0 < self.count <= MAX_FILES:
            raise Refused("size", "index of %d files" % self.count)

    def _more(self):
        left = self._end - self._at
        self._window[:left] = self._window[self._at : self._end]
        count = self._file.readinto(self._window[left:])
        if not count:
            raise Refused("format", "index ends early or has an entry that is too long")
        self._at, self._end = 0, left + count
        self._hash.update(self._window[left : self._end])
        self._total += count
        if self._total > MAX_INDEX:
            raise Refused("size", "index over %d bytes" % MAX_INDEX)

    def _next(self, read):
        while True:
            try:
                found = read(self._window[: self._end], self._at)
                self._at = found[-1]
                return found
            except cbor.Truncated:
                self._more()
            except ValueError as error:
                raise Refused("format", "index: %s" % error)

    def _item(self):
        return self._next(cbor.decode)[0]

    def _head(self):
        return self._next(cbor.head)[:2]

    def __iter__(self):
        last = ""
        for _ in range(self.count):
            entry = self._item()
            check_entry(entry)
            # Compared as UTF-8 bytes; paths are ASCII, for which text order is the same.
            if entry[0] <= last:
                raise Refused("format", "index not sorted at %s" % entry[0])
            last = entry[0]
            yield entry
        if self._at != self._end or self._file.read(1):
            raise Refused("format", "bytes after the index")

    def digest(self):
        """SHA-256 of the index, valid after the last entry."""
        return self._hash.digest()

    def check_needs(self, platform=None):
        """Refused("core"|"mpy") unless `platform` runs the tree: (core version, .mpy version), by default this one."""
        core, mpy = platform or (VERSION, sys.implementation._mpy & 0xFF)
        if _version(self.core) > _version(core) or _version(self.core)[0] != _version(core)[0]:
            raise Refused("core", "needs core %s, this is %s" % (self.core, core))
        if self.mpy != mpy:
            raise Refused("mpy", "compiled for .mpy %d, this is %d" % (self.mpy, mpy))


def _version(text):
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError:
        raise Refused("format", "version %s" % text)


def check_entry(entry):
    """Refused("format"|"size"|"path"|"module") unless `entry` is a well-formed entry of an index."""
    if not isinstance(entry, list) or len(entry) not in (5, 6) or not isinstance(entry[0], str):
        raise Refused("format", "index entry")
    check_path(entry[0])
    for number in (entry[1], entry[3], entry[4]):
        if not isinstance(number, int) or number < 0:
            raise Refused("format", "index entry of %s" % entry[0])
    if entry[1] > MAX_FILE or entry[3] > MAX_FILE:
        raise Refused("size", "%s is larger than %d" % (entry[0], MAX_FILE))
    if not isinstance(entry[2], bytes) or len(entry[2]) != 32:
        raise Refused("format", "index entry of %s" % entry[0])
    if entry[4] == RAW:
        good = entry[3] == entry[1]
    else:
        good = entry[4] == DEFLATE and entry[3] < entry[1]  # or it would be stored raw
    if not good:
        raise Refused("format", "encoding of %s" % entry[0])
    blocks = -(-entry[1] // BLOCK)
    if len(entry) - 5 != (blocks > 1):
        raise Refused("format", "blocks of %s" % entry[0])
    if blocks > 1:
        if not isinstance(entry[5], list) or len(entry[5]) != blocks:
            raise Refused("format", "blocks of %s" % entry[0])
        for block in entry[5]:
            if not isinstance(block, bytes) or len(block) != 32:
                raise Refused("format", "blocks of %s" % entry[0])


def units(entry):
    """How many parts of a file are written and verified one by one: its blocks where it is large and stored raw."""
    return len(entry[5]) if len(entry) > 5 and entry[4] == RAW else 1


def file_matches(path, size, digest, buffer):
    """True when the file at `path` has just this size and SHA-256; `buffer` is a scratch memoryview."""
    hasher = hashlib.sha256()
    total = 0
    try:
        with open(path, "rb") as file:
            while True:
                count = file.readinto(buffer)
                if not count:
                    break
                hasher.update(buffer[:count])
                total += count
                if total > size:
                    return False
    except OSError:
        return False  # absent, or flash that cannot be read: either way not the file that was signed
    return total == size and hasher.digest() == digest


def walk(root):
    """Each file under `root` as a path relative to it, the slot's own two included; an empty folder as "path/"."""
    stack = [""]
    while stack:
        folder = stack.pop()
        empty = True
        for item in os.ilistdir(root + "/" + folder if folder else root):
            empty = False
            path = folder + "/" + item[0] if folder else item[0]
            if item[1] & _DIRECTORY:
                if len(stack) >= MAX_FILES:
                    raise Refused("extraneous", "too many folders")
                stack.append(path)
            else:
                yield path
        if empty and folder:
            yield folder + "/"


def verify(root, digest, size, on_file=None, buffer=None, platform=None):
    """Check that the slot at `root` is exactly the tree whose index has SHA-256 `digest` and `size` bytes.

    Returns (name, version). Refused with "digest", "size", "extraneous", "core", "mpy", "path", "module", "format"
    or "state" (no index). `on_file()` is called after each file, to feed the watchdog; `buffer`: a scratch memoryview;
    `platform`: what it is to run on, as Index.check_needs() takes it.
    """
    buffer = buffer or memoryview(bytearray(_CHUNK))
    try:
        if os.stat(root + "/index.cbor")[6] != size:
            raise Refused("size", "index is not %d bytes" % size)
        file = open(root + "/index.cbor", "rb")
    except OSError:
        raise Refused("state", "no index in %s" % root)
    with file:
        index = Index(file)
        count = 0
        for entry in index:
            if not file_matches(root + "/" + entry[0], entry[1], entry[2], buffer):
                raise Refused("digest", "%s/%s" % (root, entry[0]))
            count += 1
            if on_file:
                on_file()
    if index.digest() != digest:
        raise Refused("digest", "index of %s" % root)
    index.check_needs(platform)
    # Each entry has been found as a file of its own, so one file more than entries is one that was not signed.
    for path in walk(root):
        if path not in _OWN:
            count -= 1
    if count:
        raise Refused("extraneous", "%d files in %s that the index does not list" % (-count, root))
    return index.name, index.version
