"""What feeds Home Assistant between announcements: the state of the device, and of its update. Loaded to make them."""

import hashlib
import json

from micropython import const

from gatehouse import cbor, status

_COMING = ("available", "downloading", "installing", "downloaded", "pending-reboot")
_HELD = ("available", "downloaded")
_MAX_SUMMARY = const(120)  # characters of a release's description; Home Assistant shows 255

# Members of an envelope, and SUIT_Text_Map (draft-ietf-suit-manifest-37, sections 11.1 and 11.5).
_MANIFEST, _TEXT = const(3), const(23)
_DESCRIPTION, _VERSION = const(1), const(6)


def state(application):
    """Health, signal and uptime: JSON, a text."""
    reporter, update = application.reporter, application.installer.state
    return json.dumps({
        "problem": "ON" if reporter.health else "OFF",
        "reasons": reporter.health,
        "rssi": reporter.signal(),
        "uptime": status.uptime(),
        "phase": update["state"],  # not "update": in a template that is a dictionary's own method
        "reason": update["reason"],
    })  # fmt: skip


def update(boot, application):
    """The state of the update entity: JSON, a text. It may hold these keys only, or Home Assistant drops it all."""
    told, release = application.installer.state, boot.release
    latest, summary = release.version, ""
    if told["state"] in _COMING:
        version = None
        for data in application.offers.envelopes():
            version = described(data, told["digest"])
            if version:
                break
        if version and version[0]:
            latest, summary = version[0], version[1][:_MAX_SUMMARY]
        elif told["state"] in _HELD:  # nothing but an application or firmware is held back; its text was left out
            latest = str(told["sequence"])
    coming = latest != release.version
    percent = None
    if told["state"] == "downloading" and told["total"] and coming:
        percent = told["done"] * 100 // told["total"]
    return json.dumps({
        "installed_version": release.version,
        "latest_version": latest,
        "title": release.name,
        "release_summary": summary,
        "update_percentage": percent,
        "in_progress": boot.mode == "trial" or (coming and told["state"] not in _HELD),
    })  # fmt: skip


def described(data, digest):
    """(version, description) in the text of an envelope, None where its manifest is not the one with this digest.

    The manifest with that digest was authenticated, and holds the digest of its text: what is told here is signed.
    The version is the application's, else the firmware's, else empty.
    """
    try:
        members = _members(data)
        start, _, end = members[_MANIFEST]
        manifest = memoryview(data)[start:end]
        if hashlib.sha256(manifest).digest() != digest:
            return None
        if _TEXT not in members:
            return "", ""
        start, at, end = members[_TEXT]
        if hashlib.sha256(memoryview(data)[start:end]).digest() not in bytes(manifest):
            return "", ""
        return _text(data, at)
    except (ValueError, KeyError, TypeError):  # another offer that waits, of which nobody knows anything yet
        return None


def _members(data):
    """{label: (head of the byte string, its content, its end)} of an envelope."""
    _, _, at = cbor.head(data, 0)
    _, count, at = cbor.head(data, at)
    found = {}
    for _ in range(count):
        label, start = cbor.decode(data, at, 0)
        _, size, at = cbor.head(data, start)
        found[label] = (start, at, at + size)
        at += size
    return found


def _text(data, at):
    """(version, description) of the first language. Keys are numbers, and component ids, which are lists."""
    versions = {}
    description = ""
    _, _, at = cbor.head(data, at)
    _, at = cbor.decode(data, at, 0)
    _, count, at = cbor.head(data, at)
    for _ in range(count):
        key, at = cbor.decode(data, at, 1)
        value, at = cbor.decode(data, at, 2)
        if key == _DESCRIPTION:
            description = value
        elif isinstance(key, list):
            versions[key[0]] = value.get(_VERSION, "")
    return versions.get(b"app") or versions.get(b"firmware") or "", description
