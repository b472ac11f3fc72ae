"""An update that comes through the door instead of from a server: envelope and pack into the flash, then offered.

The pack lies in a file from which the one installer reads it as from any other source (gatehouse.filesource).
"""

import hashlib
import os

from micropython import const

from gatehouse import Refused, record

_FOLDER = "/state"
_ENVELOPE = _FOLDER + "/upload.suit"
_PART = _FOLDER + "/upload.part"
_CHUNK = const(512)
_RESERVE = const(65536)  # bytes that stay free: journal, records, and what a release has more than its slot
_BUSY = ("downloading", "installing", "pending-reboot", "trial")


def clean():
    """Remove what earlier uploads left."""
    for name in os.listdir(_FOLDER):
        if name.startswith("upload"):
            os.remove(_FOLDER + "/" + name)


async def update_receive(operations, session, values):
    """Make room for an upload of so many bytes. Refused("busy") while an update is under way, "full" without room."""
    if operations.application.installer.state["state"] in _BUSY:
        raise Refused("busy", "an update is under way")
    clean()
    found = os.statvfs(_FOLDER)
    free = found[1] * found[4]
    if values["envelope"] + values["pack"] + _RESERVE > free:
        raise Refused("full", "%d bytes are free, and %d have to stay so" % (free, _RESERVE))
    return {}


async def receive(wire, envelope, pack):
    """Read so many bytes of an envelope and a pack from a connection into the flash. On any failure nothing stays."""
    view = memoryview(bytearray(_CHUNK))
    try:
        await _store(wire, _ENVELOPE, envelope, view)
        if pack:
            await _store(wire, _PART, pack, view)
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


async def update_offer(operations, session, values):
    """Offer what was received to the installer, which takes it like any other. Refused("state") where nothing was."""
    data = record.load(_ENVELOPE)
    if data is None:
        raise Refused("state", "nothing was uploaded")
    os.remove(_ENVELOPE)
    try:
        os.rename(_PART, record.upload_path(hashlib.sha256(data).digest()))
    except OSError:
        pass  # an envelope that brings all by itself, or names a server
    operations.application.offers.put(data)
    return {}
