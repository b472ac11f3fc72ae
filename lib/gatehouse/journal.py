"""The event log: append-only, on flash, each entry chained by HMAC to the one before it.

A ring of segment files /state/journal-N; the oldest goes when there are more than _SEGMENTS. A segment begins with
number (4 bytes) and tag (16) of the entry before its first; then come for each entry its length (2), the entry and its
tag (16): entry = CBOR [number, Unix seconds or null, boot count, event, details...], tag = HMAC-SHA256(key, tag before
|| entry), cut to 16 bytes; key = HKDF of the device key for "journal". An append is one LittleFS commit: a power cut
leaves it whole or leaves it out. Loaded for an append and unloaded again; what it has to remember is in Boot.journal.
"""

import os

from micropython import const

from gatehouse import cbor, mac

FOLDER = "/state"
_NAME = "journal-"
_SEGMENT = const(4096)  # bytes: an append rewrites the flash block that it ends in, so a segment is one
_SEGMENTS = const(4)  # some 150 entries
_TAG = const(16)  # bytes
_HEADER = const(20)
_MAX_ENTRY = const(256)  # bytes; a longer one loses its details

_ACKNOWLEDGED = "acked"  # NVS: number of the last entry that a broker is known to have; firmware/events.py writes it

# Boot.journal: a list, because an object of a class would keep this module in memory.
_WHERE, _SIZE, _NUMBER, _LAST, _LOST, _ACKED = const(0), const(1), const(2), const(3), const(4), const(5)


def append(boot, event, *details):
    """Add an event, a short text, with details of texts, numbers and bytes. Whether it is on flash.

    An event for which there is no room is counted, and the next entry that is written tells how many.
    """
    state = boot.journal = boot.journal or _end(boot)
    item = [state[_NUMBER] + 1, boot.now(), boot.boot_count, event]
    lost = ["lost", state[_LOST]] if state[_LOST] else []
    entry = cbor.dumps(item + list(details) + lost)
    if len(entry) > _MAX_ENTRY:
        entry = cbor.dumps(item + lost)
    tag = mac.hmac_sha256(boot.store.derive("journal"), state[_LAST], entry)[:_TAG]
    data = len(entry).to_bytes(2, "big") + entry + tag
    try:
        if not state[_SIZE] or state[_SIZE] + len(data) > _SEGMENT:
            _begin(state)
        with open(_path(state[_WHERE]), "ab") as file:
            file.write(data)
    except OSError as error:
        print("gatehouse: journal:", error)
        boot.journal = _end(boot)  # what the flash really holds
        boot.journal[_LOST] = state[_LOST] + 1
        boot.journal[_ACKED] = state[_ACKED]  # NVS may be behind
        return False
    state[_SIZE] += len(data)
    state[_NUMBER] += 1
    state[_LAST] = tag
    state[_LOST] = 0
    return True


def turn(boot):
    """Start a new segment: what follows will be under another key, because the owner epoch moves."""
    state = boot.journal = boot.journal or _end(boot)
    _begin(state)


def segments():
    """The numbers of the segments, oldest first."""
    return sorted(int(name[len(_NAME) :]) for name in os.listdir(FOLDER) if name.startswith(_NAME))


def start(segment):
    """The number of the last entry before a segment."""
    with open(_path(segment), "rb") as file:
        return int.from_bytes(file.read(_HEADER)[:4], "big")


def entries(segment):
    """The entries of one segment, as (bytes, tag, tag before); ends where the segment does, or is damaged."""
    with open(_path(segment), "rb") as file:
        before = file.read(_HEADER)[4:]
        while True:
            size = int.from_bytes(file.read(2), "big")
            if not 0 < size <= _MAX_ENTRY:
                return
            entry, tag = file.read(size), file.read(_TAG)
            if len(tag) < _TAG:
                return
            yield entry, tag, before
            before = tag


def _path(segment):
    return "%s/%s%d" % (FOLDER, _NAME, segment)


def _end(boot):
    """Where the journal on flash ends.

    A segment whose chain does not hold is left as it is: a new one goes on behind what holds. Its numbers are above
    all that are on flash or that a broker acknowledged: one number for two entries would hide one of them.
    """
    known = segments()
    while known and os.stat(_path(known[-1]))[6] < _HEADER:
        os.remove(_path(known.pop()))  # a cut left it empty
    acked = boot.store.number(_ACKNOWLEDGED)
    if not known:
        return [0, 0, acked, bytes(_TAG), 0, acked]
    with open(_path(known[-1]), "rb") as file:
        header = file.read(_HEADER)
    number, last, size = int.from_bytes(header[:4], "big"), header[4:], _HEADER
    key = boot.store.derive("journal")
    holds = True
    for entry, tag, before in entries(known[-1]):
        number += 1
        holds = holds and tag == mac.hmac_sha256(key, before, entry)[:_TAG]
        if holds:
            last = tag
            size += 2 + len(entry) + _TAG
    whole = number >= acked and size == os.stat(_path(known[-1]))[6]
    return [known[-1], size if whole else 0, max(number, acked), last, 0, acked]


def _begin(state):
    """Start the next segment; the oldest goes first, so that there is always room for the newest."""
    known = segments()
    while len(known) >= _SEGMENTS:
        os.remove(_path(known.pop(0)))
    with open(_path(state[_WHERE] + 1), "wb") as file:
        file.write(state[_NUMBER].to_bytes(4, "big") + state[_LAST])
    state[_WHERE] += 1
    state[_SIZE] = _HEADER
