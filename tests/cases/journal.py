"""Journals as a device writes them, made with cbor2 and cryptography alone (docs/journal.md a second time)."""

import hmac

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DEVICE_KEY = bytes(range(32))  # as in cases/report.py
NOW = 1_800_000_000


def key(epoch=0, device_key=DEVICE_KEY):
    info = cbor2.dumps(["gatehouse/1", "journal", "", "", epoch], canonical=True)
    return HKDF(hashes.SHA256(), 32, None, info).derive(device_key)


def chain(events, epoch=0, first=1, before=bytes(16), device_key=DEVICE_KEY):
    """[(number, entry, tag, tag before)] of events, each a tuple of name and details."""
    found = []
    for number, event in enumerate(events, first):
        entry = cbor2.dumps([number, NOW + number, 1, *event], canonical=True)
        tag = hmac.digest(key(epoch, device_key), before + entry, "sha256")[:16]
        found.append((number, entry, tag, before))
        before = tag
    return found


def message(rows, boots=1):
    """One message of rows of chain()."""
    return cbor2.dumps([boots, [[entry, tag] for _, entry, tag, _ in rows], rows[0][3]], canonical=True)


def messages(rows):
    return [message(rows[at : at + 8]) for at in range(0, len(rows), 8)]


def segment(rows):
    """A segment file of rows of chain()."""
    body = b"".join(len(entry).to_bytes(2, "big") + entry + tag for _, entry, tag, _ in rows)
    return (rows[0][0] - 1).to_bytes(4, "big") + rows[0][3] + body


def make():
    rows = chain([("boot", "active", 1, ""), ("test", 7, b"x")])
    return {"device_key": DEVICE_KEY, "rows": [list(row[1:]) for row in rows]}
