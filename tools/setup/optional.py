"""Programs that a few tests use: present, or installed through apt for root; else those tests skip and say so.

Chromium opens the pages and prints the statement. PyPI's browsers download themselves from elsewhere when they first
run; Debian's comes from where apt gets everything. nmap looks at the device's ports from outside.
"""

import os
import shutil
from dataclasses import dataclass

import mosquitto


@dataclass(frozen=True)
class Program:
    """A program that has the name of its Debian package; `title` is how people write it."""

    name: str
    title: str

    def present(self) -> bool:
        """Whether the program is there."""
        return shutil.which(self.name) is not None

    def settled(self) -> bool:
        """Whether there is nothing to do: it is there, or this user cannot install it."""
        return self.present() or os.geteuid() != 0 or shutil.which("apt-get") is None

    def install(self) -> None:
        """Install it, which takes root. Raises mosquitto.InstallError when that is not possible."""
        mosquitto.apt_install(self.name, self.title, self.present)


CHROMIUM = Program("chromium", "Chromium")
NMAP = Program("nmap", "nmap")
