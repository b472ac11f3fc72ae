"""Operations of an upload: one before its bytes come, and one after (upload.py)."""

import hashlib
import os

from micropython import const

from access import upload
from gatehouse import Refused, record

_RESERVE = const(65536)  # bytes that stay free: journal, records, and what a release has more than its slot
_BUSY = ("downloading", "installing", "pending-reboot", "trial")


async def update_receive(operations, session, values):
    """Make room for an upload of so many bytes. Refused("busy") while an update is under way, "full" without room."""
    if operations.application.installer.state["state"] in _BUSY:
        raise Refused("busy", "an update is under way")
    upload.clean()
    found = os.statvfs(upload.FOLDER)
    free = found[1] * found[4]
    if values["envelope"] + values["pack"] + _RESERVE > free:
        raise Refused("full", "%d bytes are free, and %d have to stay so" % (free, _RESERVE))
    return {}


async def update_offer(operations, session, values):
    """Offer what was received to the installer, which takes it like any other. Refused("state") where nothing was."""
    data = record.load(upload.ENVELOPE)
    if data is None:
        raise Refused("state", "nothing was uploaded")
    if operations.application.installer.knows(data):
        upload.clean()
        raise Refused("state", "refused in this boot already, or nothing new")
    os.remove(upload.ENVELOPE)
    try:
        os.rename(upload.PART, record.upload_path(hashlib.sha256(data).digest()))
    except OSError:
        pass  # an envelope that brings all by itself, or names a server
    operations.application.offers.put(data)
    return {}
