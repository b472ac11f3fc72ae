"""Which modules are in memory when: a small heap does not hold the whole core at once."""

import gc
import sys

from micropython import const

# Modules that are needed at boot or during an update only, and those that are needed all the time.
_PASSING = (
    "choose",
    "transitions",
    "config",
    "trust",
    "suit",
    "suit_check",
    "suit_commands",
    "cose",
    "es256",
    "lms",
    "admission",
    "policy",
    "journal",
    "measure",
    "outcome",
    "update",
    "tree",
    "unpack",
    "plan",
    "body",
    "source",
    "connection",
    "uri",
)
# Passing too, but not on every device or only before a restart: their names may come late.
_RARE = ("rotation", "image", "blocks", "alone")
_STAYING = ("slots", "status", "installer", "offers", "link", "wifi")

_THRESHOLD = const(2048)  # bytes between collections: garbage is used again before new memory is broken into
_BUSY_THRESHOLD = const(16384)  # while much garbage is made and nothing stays: collecting would take most of the time
_SHARE = const(8)  # the part of the room that is left in the end in which garbage may lie
_QUARTERS = const(7)  # seven quarters of what the core takes come on top, access control and HTTPS included
_PIECE = const(512)  # bytes that a buffer or a message takes at once, in a heap that is in pieces
_OBJECT = const(16)  # bytes that each takes besides, on a chip
_PACKAGE = "gatehouse"


def unload(*names):
    """Forget core modules that are not needed for now, all passing ones by default. They load again on demand."""
    package = sys.modules[_PACKAGE]
    for name in names or _PASSING + _RARE:
        sys.modules.pop(_PACKAGE + "." + name, None)
        if hasattr(package, name):
            delattr(package, name)


def call(module, name, *arguments):
    """What the function `name` of a passing module returns; the module does not stay."""
    try:
        return getattr(__import__(_PACKAGE + "." + module, None, None, (name,)), name)(*arguments)
    finally:
        unload(module)


def settle():
    """Load all modules once, in an order that keeps the heap in one piece. To be called before anything else.

    MicroPython never gives back the memory of a name that it has seen. If a module that comes and goes brought its
    names late, they would lie scattered in the memory that it leaves, and soon no kilobyte would be found in one piece.
    """
    gc.threshold(_THRESHOLD)
    for name in _PASSING:
        __import__(_PACKAGE + "." + name)
    unload()
    gc.collect()
    for name in _STAYING:
        __import__(_PACKAGE + "." + name)
    gc.collect()
    gc.threshold(threshold(gc.mem_free(), gc.mem_alloc()))


def threshold(free, taken):
    """Bytes between two collections, for a heap of so many free and taken bytes once the core is loaded.

    An application with access control, its connections and an update take not twice what the core does
    (docs/memory.md). What is free beyond that is room for garbage; each collection less is time for the device's work.
    """
    return max(_THRESHOLD, min(_BUSY_THRESHOLD, (free - taken * _QUARTERS // 4) // _SHARE))


def spare(size):
    """Make sure that `size` bytes are free, in pieces of 512 bytes. Raises MemoryError where they are not."""
    gc.collect()
    # A list that grows would want two kilobytes in one piece at its end.
    kept = [bytearray(0)] * (size // (_PIECE + _OBJECT) + 1)
    for number in range(len(kept)):
        kept[number] = bytearray(_PIECE)
    kept.clear()  # a pointer to the list may be left on the stack, where the collector would take it for one in use
    gc.collect()


def busily(function, *arguments):
    """Call a function that makes much garbage and nothing that stays, such as a signature check. Returns its result."""
    before = gc.threshold()
    if 0 < before < _BUSY_THRESHOLD:
        gc.threshold(_BUSY_THRESHOLD)
    try:
        return function(*arguments)
    finally:
        gc.threshold(before)
