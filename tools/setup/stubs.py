"""Mend two faults of the ESP32 stubs after they are installed, in their folder outside git.

A text that is not found means that the stubs have changed: then look again, do not skip.
"""

from pathlib import Path
from typing import NamedTuple

# One set for each chip of boards/: the ESP32's, the S3's, the C3's and the C6's. Names of lock files and of folders.
FOLDERS = ("typings", "typings-s3", "typings-c3", "typings-c6")


class PatchError(Exception):
    """The stubs are not those that the patches were written for."""


class Patch(NamedTuple):
    """One replacement in one stub file; `old` must occur exactly once."""

    file: str
    old: str
    new: str
    why: str


PATCHES = (
    Patch(
        "esp32.pyi",
        "def __init__(self, id: str, block_size=4096, /) -> None:",
        "def __init__(self, id: str | int, block_size=4096, /) -> None:",
        "Partition(Partition.RUNNING) is refused",
    ),
    Patch(
        "tls.pyi",
        "class SSLContext:\n",
        "class SSLContext:\n    verify_mode: int\n",
        "the attribute that a client sets to CERT_REQUIRED is missing",
    ),
)


def patch(folder: Path, patches: tuple[Patch, ...] = PATCHES) -> None:
    """Apply each patch under `folder`. Raises PatchError when one does not fit exactly once."""
    for each in patches:
        path = folder / each.file
        text = path.read_text() if path.exists() else ""
        if text.count(each.old) != 1:
            raise PatchError(f"stub {each.file} holds {text.count(each.old)} times what a patch replaces ({each.why})")
        path.write_text(text.replace(each.old, each.new))
