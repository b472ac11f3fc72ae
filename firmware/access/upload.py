"""The files of an update that comes through the door instead of from a server: envelope and pack, into the flash.

The pack lies there for the one installer, which reads it as from any other source (gatehouse.filesource).
"""

import os

from micropython import const

from gatehouse import Refused

FOLDER = "/state"
ENVELOPE = FOLDER + "/upload.suit"
PART = FOLDER + "/upload.part"
_CHUNK = const(512)


def clean():
    """Remove what earlier uploads left."""
    for name in os.listdir(FOLDER):
        if name.startswith("upload"):
            os.remove(FOLDER + "/" + name)


async def receive(wire, envelope, pack):
    """Read so many bytes of an envelope and a pack from a connection into the flash. On any failure nothing stays."""
    view = memoryview(bytearray(_CHUNK))
    try:
        await _store(wire, ENVELOPE, envelope, view)
        if pack:
            await _store(wire, PART, pack, view)
    except BaseException:
        clean()  # also when this task is cancelled: the policy may close the door meanwhile
        raise


async def _store(wire, path, left, view):
    with open(path, "wb") as file:
        while left:
            count = await wire.read(view, min(left, _CHUNK))
            if not count:
                raise Refused("network", "closed within the upload")
            file.write(view[:count])
            left -= count
