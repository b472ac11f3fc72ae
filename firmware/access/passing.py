"""Modules of this package that are loaded for one call and forgotten after it: a small heap does not hold all of it."""

import sys

_PACKAGE = "access"


def forget(*names):
    """Forget modules of this package. They load again on demand; what runs in them goes on."""
    package = sys.modules[_PACKAGE]
    for name in names:
        sys.modules.pop(_PACKAGE + "." + name, None)
        if hasattr(package, name):
            delattr(package, name)
