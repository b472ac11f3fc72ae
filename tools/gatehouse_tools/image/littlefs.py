"""The file system of a device: LittleFS images that MicroPython's VfsLfs2 mounts, and what is in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from littlefs import LittleFS, LittleFSError, UserContext

from ..errors import GatehouseError

BLOCK = 4096  # a flash sector
# As MicroPython sets them. The cache bounds the size of an inlined file: with a larger one it could not be read there.
_GEOMETRY: dict[str, Any] = {
    "block_size": BLOCK,
    "read_size": 32,
    "prog_size": 32,
    "cache_size": 128,
    "lookahead_size": 32,
}


def build(files: Mapping[str, bytes], folders: Iterable[str], size: int) -> bytes:
    """An image of `size` bytes with `files` (absolute path -> bytes) and the `folders` that may be empty.

    The same input gives the same bytes. GatehouseError("full") when they do not fit.
    """
    context = UserContext(size)
    system = LittleFS(context, mount=False, block_count=size // BLOCK, **_GEOMETRY)
    system.format()
    system.mount()
    made = {"/"}
    try:
        for folder in sorted({*folders, *(path.rpartition("/")[0] or "/" for path in files)}):
            parts = folder.strip("/").split("/")
            for depth in range(1, len(parts) + 1):
                path = "/" + "/".join(parts[:depth])
                if path not in made and path != "/":
                    system.mkdir(path)
                    made.add(path)
        for path in sorted(files):
            with system.open(path, "wb") as file:
                file.write(files[path])
    except LittleFSError as error:
        if error.code == LittleFSError.Error.LFS_ERR_NOSPC:
            total = sum(len(data) for data in files.values())
            told = f"{len(files)} files of {total} bytes do not fit a file system of {size} bytes"
            raise GatehouseError(f"{told}; make the tree smaller", "full") from None
        raise GatehouseError(f"LittleFS: {error}") from None
    system.unmount()
    return bytes(context.buffer)


def read(image: bytes, what: str = "the file system") -> tuple[dict[str, bytes], list[str]]:
    """(files by absolute path, folders) of an image. GatehouseError("format") when it is not a LittleFS or damaged."""
    context = UserContext(buffer=bytearray(image))
    files: dict[str, bytes] = {}
    folders: list[str] = []
    try:
        system = LittleFS(context, mount=False, block_count=len(image) // BLOCK, **_GEOMETRY)
        system.mount()
        for root, names, leaves in system.walk("/"):
            base = root.rstrip("/") + "/"
            folders += [base + name for name in names]
            for leaf in leaves:
                with system.open(base + leaf, "rb") as file:
                    files[base + leaf] = file.read()
        system.unmount()
    except LittleFSError as error:
        raise GatehouseError(f"{what} is not a readable LittleFS: {error}", "format") from None
    return files, folders
