"""The trusted core of Gatehouse: what decides which code may run on this device.

Nothing here imports from the application. Each module loads when it is first needed.
"""

import gc
import sys

VERSION = "1.0.0"


# Modules that are needed at boot or during an update only, and those that are needed all the time.
_PASSING = (
    "choose",
    "config",
    "trust",
    "suit",
    "suit_commands",
    "es256",
    "tree",
    "unpack",
    "source",
    "connection",
    "uri",
)
_STAYING = ("slots", "status", "installer", "link", "wifi")


_THRESHOLD = 4096  # bytes between collections: garbage is used again before new memory is broken into


def unload(*names):
    """Forget core modules that are not needed for now, all passing ones by default. They load again on demand."""
    package = sys.modules[__name__]
    for name in names or _PASSING:
        sys.modules.pop(__name__ + "." + name, None)
        if hasattr(package, name):
            delattr(package, name)


def settle():
    """Load all modules once, in an order that keeps the heap in one piece. To be called before anything else.

    MicroPython never gives back the memory of a name that it has seen. If a module that comes and goes brought its
    names late, they would lie scattered in the memory that it leaves, and soon no kilobyte would be found in one piece.
    """
    gc.threshold(_THRESHOLD)
    for name in _PASSING:
        __import__(__name__ + "." + name)
    unload()
    gc.collect()
    for name in _STAYING:
        __import__(__name__ + "." + name)


class Refused(Exception):
    """An input that is not taken. `reason` is a code of gatehouse/reasons.py, `detail` says what and where."""

    def __init__(self, reason, detail=""):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self):
        return "%s: %s" % (self.reason, self.detail) if self.detail else self.reason
