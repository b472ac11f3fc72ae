"""An update that comes through the door instead of from a server: envelope and pack into the flash, then offered.

The pack lies in a file from which the one installer reads it as from any other source (gatehouse.filesource).
"""

import hashlib
import os

from micropython import const

from gatehouse import Refused, record

FOLDER = "/state"
_ENVELOPE = FOLDER + "/upload.suit"
_PART = FOLDER + "/upload.part"
_CHUNK = const(512)
_RESERVE = const(65536)  # bytes that stay free: journal, records, and what a release has more than its slot
_BUSY = ("downloading", "installing", "pending-reboot", "trial")


def clean():
    """Remove what earlier uploads left."""
    for name in os.listdir(FOLDER):
        if name.startswith("upload"):
            os.remove(FOLDER + "/" + name)


def prepare(application, size):
    """Make room for an upload of so many bytes. Refused("busy") while an update is under way, "full" without room."""
    if application.installer.state["state"] in _BUSY:
        raise Refused("busy", "an update is under way")
    clean()
    found = os.statvfs(FOLDER)
    free = found[1] * found[4]
    if size + _RESERVE > free:
        raise Refused("full", "%d bytes are free, and %d have to stay so" % (free, _RESERVE))


async def receive(wire, envelope, pack):
    """Read so many bytes of an envelope and a pack from a connection into the flash. On any failure nothing stays."""
    view = memoryview(bytearray(_CHUNK))
    try:
        await _store(wire, _ENVELOPE, envelope, view)
        if pack:
            await _store(wire, _PART, pack, view)
    except BaseException:
        clean()
        raise


async def _store(wire, path, left, view):
    with open(path, "wb") as file:
        while left:
            count = await wire.read(view, min(left, _CHUNK))
            if not count:
                raise Refused("network", "closed within the upload")
            file.write(view[:count])
            left -= count


def offer(application):
    """Offer what was received to the installer, which takes it like any other. Refused("state") where nothing was."""
    try:
        with open(_ENVELOPE, "rb") as file:
            data = file.read()
    except OSError:
        raise Refused("state", "nothing was uploaded")
    os.remove(_ENVELOPE)
    try:
        os.rename(_PART, record.upload_path(hashlib.sha256(data).digest()))
    except OSError:
        pass  # an envelope that brings all by itself, or names a server
    application.offers.put(data)
