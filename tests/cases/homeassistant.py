"""Envelopes of releases with a version for people, as the host signs them: what Home Assistant is told of them."""

import hashlib

from gatehouse_tools import cbor, keys, suit

VENDOR, CLASS = b"V" * 16, b"C" * 16


def envelope(sequence, *components, description=None, strip=False, text=None):
    """[envelope, digest of its manifest]. strip: without its text; text: another in its place, as a broker could."""
    parts = [suit.Component(name, b"I" * 32, 10, "a.pack", version=version) for name, version in components]
    manifest = suit.release_manifest(sequence, parts, VENDOR, CLASS, description)
    data, members = manifest.encode(), manifest.members()
    if strip:
        members = {}
    elif text:
        members = {23: cbor.dumps({"en": {(b"app",): {6: text}}})}
    digest = hashlib.sha256(cbor.dumps(data)).digest()
    return [suit.wrap(data, [keys.generate()], members=members), digest]


def make():
    return {
        "app": envelope(2000, ("app", "1.1.0"), description='Better in "every" way.\n'),
        "long": envelope(2001, ("app", "1.2.0"), description="x" * 300),
        "both": envelope(2002, ("firmware", "1.27.0"), ("app", "1.3.0")),
        "firmware": envelope(2003, ("firmware", "1.27.0")),
        "none": envelope(2004, ("app", None)),
        "stripped": envelope(2005, ("app", "1.5.0"), strip=True),
        "altered": envelope(2006, ("app", "1.6.0"), text="6.6.6"),
    }
