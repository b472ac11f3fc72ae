"""The browser that opens the device's page in the tests: Debian's Chromium, present or installed through apt.

PyPI's browsers download themselves from elsewhere when they first run; Debian's comes from where apt gets everything.
"""

import os
import shutil

import mosquitto


def present() -> bool:
    """Whether the program is there."""
    return shutil.which("chromium") is not None


def settled() -> bool:
    """Whether there is nothing to do: it is there, or this user cannot install it, and the test says that it skips."""
    return present() or os.geteuid() != 0 or shutil.which("apt-get") is None


def install() -> None:
    """Install it, which takes root. Raises mosquitto.InstallError when that is not possible."""
    mosquitto.apt_install("chromium", "Chromium", present)
