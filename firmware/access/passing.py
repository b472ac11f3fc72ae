"""Modules of this package that are loaded for one call and forgotten after it: a small heap does not hold all of it."""

import sys

_PACKAGE = "access"
_ALL = "gate lockout password pbkdf2 tuned rows command catalogue dispatch act_look act_policy act_users act_update "
_ALL += "act_device console line show"


def settle():
    """Load them all once, before the heap is in use: see gatehouse.memory.settle()."""
    for name in _ALL.split(" "):
        __import__(_PACKAGE + "." + name)
    forget(*_ALL.split(" "))


def forget(*names):
    """Forget modules of this package. They load again on demand; what runs in them goes on."""
    package = sys.modules[_PACKAGE]
    for name in names:
        sys.modules.pop(_PACKAGE + "." + name, None)
        if hasattr(package, name):
            delattr(package, name)
