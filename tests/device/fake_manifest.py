"""Manifests that a test writes itself, under a key that takes every signature: for what comes after authentication.

Commands stand as in the draft, by number: 1 vendor, 2 class, 3 image-match, 4 use-before, 5 component-slot, 12 set-
component-index, 14 abort, 15 try-each, 18 write, 20 override-parameters, 21 fetch, 22 copy, 23 invoke, 24 device-
identifier, 32 run-sequence. Parameters too: 1 to 5 and 24 of those conditions, 13 soft-failure, 14 image-size,
18 content, 21 URI, 22 source-component.
"""

import hashlib
from binascii import unhexlify

from gatehouse import Refused, cbor, suit
from harness import raises

VENDOR = b"V" * 16
CLASS = b"C" * 16
IMAGE = b"an image"

# The two conditions that every manifest has to have, with their parameters.
IDENTITY = [20, {1: VENDOR, 2: CLASS}, 1, 15, 2, 15]
APP = [[b"app"]]
TWO = [[b"app"], [b"config"]]
SECTIONS = {"fetch": 16, "install": 20, "validate": 7, "load": 8, "invoke": 9, "text": 23, "uri": 4}


class AnyKey:
    kid = b"any key."
    alg = -9
    public = bytes(64)

    def verify(self, message, signature):
        return True


class Key:
    """A real P-256 key, given in hex."""

    alg = -9

    def __init__(self, public):
        self.public = unhexlify(public)
        self.kid = hashlib.sha256(self.public).digest()[:8]

    def verify(self, message, signature):
        from gatehouse import es256

        return es256.verify(self.public, message, signature)


class Device:
    """What run() asks of a device."""

    vendor_id = VENDOR
    class_id = CLASS
    device_id = b"D" * 16
    not_before = 1000

    def __init__(self, clock=2000):
        self._clock = clock

    def now(self):
        return self._clock


def digest(data):
    """The SUIT_Digest of a member: over its byte string."""
    return [-16, hashlib.sha256(cbor.dumps(data)).digest()]


def image(data=IMAGE):
    """Parameters image-digest and image-size."""
    return {3: cbor.dumps([-16, hashlib.sha256(data).digest()]), 14: len(data)}


def sequence(*commands):
    return cbor.dumps(list(commands))


def manifest(shared=IDENTITY, components=APP, number=1, version=1, common=None, extra=None, **sections):
    """An encoded manifest. A section is a list of commands, bytes as they are, or a SUIT_Digest where it is severed."""
    fields = {1: version, 2: number}
    fields[3] = cbor.dumps({2: components, 4: _encoded(shared)}) if common is None else common
    for name, commands in sections.items():
        fields[SECTIONS[name]] = _encoded(commands)
    fields.update(extra or {})
    return cbor.dumps(fields)


def _encoded(commands):
    severed = isinstance(commands, list) and commands[:1] == [-16]
    return cbor.dumps(commands) if isinstance(commands, list) and not severed else commands


def envelope(data, members=None):
    """An envelope around an encoded manifest, bytes."""
    signed = cbor.dumps(digest(data))
    block = cbor.dumps(cbor.Tag(18, [b"\xa1\x01\x28", {4: AnyKey.kid}, None, bytes(64)]))
    fields = {2: cbor.dumps([signed, block]), 3: data}
    fields.update(members or {})
    return cbor.dumps(cbor.Tag(107, fields))


def taken(members=None, **parts):
    """The parsed and checked Manifest of these parts (see manifest())."""
    found = suit.Envelope(envelope(manifest(**parts), members))
    found.authenticate([AnyKey()])
    return found.manifest()


def refused(reason, members=None, **parts):
    """These parts are refused before anything runs."""
    with raises(Refused, reason) as caught:
        taken(members, **parts)
    return caught.value


def drive(found, *sections, device=None, answer=None):
    """Run sections of a Manifest and answer what it yields by answer(code, index, parameters), else True.

    Returns [(code, index, copy of the parameters)].
    """
    done = []
    for section in sections:
        commands = found.run(section, device or Device())
        reply = None
        while True:
            try:
                code, index, parameters = commands.send(reply)
            except StopIteration:
                break
            done.append((code, index, dict(parameters.items())))  # dict() of a subclass fails in MicroPython
            reply = answer(code, index, parameters) if answer else True
    return done


def codes(done):
    """[(code, index)] of what drive() returned."""
    return [item[:2] for item in done]
