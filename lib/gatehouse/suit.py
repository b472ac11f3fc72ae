"""The SUIT manifest processor (draft-ietf-suit-manifest-37): envelope in, checked commands out.

It does no I/O and knows no component. An envelope is split, then authenticated; only then its manifest is parsed, and
every command of every sequence checked, of those too that will not run. Manifest.run() yields what is left to do:

    envelope = Envelope(data)
    signers = envelope.authenticate(keys)
    manifest = envelope.manifest()
    for each section: commands = manifest.run(section, device); send() the answer to each command that it yields
    manifest.complete()
"""

import hashlib

from micropython import const

from gatehouse import Refused, cbor, cose, suit_check
from gatehouse.suit_commands import (  # noqa: F401 what run() yields, for its callers
    COMPONENT_SLOT,
    CONTENT,
    COPY,
    FETCH,
    IMAGE_DIGEST,
    IMAGE_MATCH,
    IMAGE_SIZE,
    INVOKE,
    NO_RETURN,
    SLOT,
    SOURCE_COMPONENT,
    URI,
    WRITE,
    Manifest,
    decode,
    digest,
    uint,
)

MAX_ENVELOPE = const(8192)  # a release takes 500 bytes, an HSS/LMS signature up to 5,000, small payloads the rest
MAX_COMPONENTS = const(4)  # as many as there are: app, firmware, config, trust
_MAX_MEMBERS = const(12)  # of an envelope: five with a label, the rest integrated payloads
_MAX_BLOCKS = const(4)  # authentication blocks
_MAX_CHECKS = const(8)  # signatures checked for one envelope: a block without a key id is tried with every key

# Members (sections 11.1 to 11.3).
_ENVELOPE_TAG = const(107)
_AUTHENTICATION = const(2)
_MANIFEST = const(3)
_VERSION = const(1)
_SEQUENCE = const(2)
_COMMON = const(3)
_REFERENCE_URI = const(4)
_TEXT = const(23)
_COMPONENTS = const(2)  # these two of common
_SHARED = const(4)
_SECTIONS = {"payload-fetch": 16, "install": 20, "validate": 7, "load": 8, "invoke": 9}
_SEVERABLE = (16, 20, _TEXT)
_IN_ENVELOPE = (_AUTHENTICATION, _MANIFEST) + _SEVERABLE
_IN_MANIFEST = (_VERSION, _SEQUENCE, _COMMON, _REFERENCE_URI, _TEXT) + tuple(_SECTIONS.values())
_IN_COMMON = (_COMPONENTS, _SHARED)

_ES256 = const(-7)  # COSE algorithms
_ESP256 = const(-9)


def drive(manifest, sections, device, act):
    """Run sections of a Manifest; `act(command, component index, Parameters)` does what they yield, and answers."""
    for section in sections:
        commands = manifest.run(section, device)
        answer = None
        while True:
            try:
                command, index, parameters = commands.send(answer)
            except StopIteration:
                break
            answer = act(command, index, parameters)


class Envelope:
    """A SUIT envelope, split but not trusted. `digest` is SHA-256 over the byte string of its manifest, 32 bytes."""

    def __init__(self, data):
        """Split `data`. Refused "format" or "unsupported"; what is in the members is not looked at."""
        if len(data) > MAX_ENVELOPE:
            raise Refused("format", "envelope")
        self._data = bytes(data)  # bytes are not copied; anything else is, so that it cannot change after the check
        self._members = {}  # label or URI -> (head of the byte string, its content, its end)
        self._authentic = False
        self.checks = 0  # signatures that authenticate() had to check: what an offer has cost
        try:
            self._split()
        except ValueError as error:
            raise Refused("format", "envelope: %s" % error)
        if _AUTHENTICATION not in self._members or _MANIFEST not in self._members:
            raise Refused("format", "envelope")
        self.digest = self._hash(_MANIFEST)

    def _split(self):
        data = self._data
        major, tag, pos = cbor.head(data, 0)
        if major != 6 or tag != _ENVELOPE_TAG:
            raise ValueError("tag")
        major, count, pos = cbor.head(data, pos)
        if major != 5 or count > _MAX_MEMBERS:
            raise ValueError("map")
        last = b""
        for _ in range(count):
            start = pos
            label, pos = cbor.decode(data, start, 0)
            if not isinstance(label, str) and (type(label) is not int or label not in _IN_ENVELOPE):
                raise Refused("unsupported", "member %s" % label)
            if not last < data[start:pos]:
                raise ValueError("order")
            last = data[start:pos]
            start = pos
            major, size, pos = cbor.head(data, start)
            if major != 2:
                raise ValueError("member")
            self._members[label] = (start, pos, pos + size)
            pos += size
        if pos != len(data):
            raise ValueError("length")

    def _hash(self, label):
        """SHA-256 of a member together with the head of its byte string, as a SUIT_Digest covers it."""
        start, _, end = self._members[label]
        return hashlib.sha256(memoryview(self._data)[start:end]).digest()

    def pin(self, digests):
        """Whether the manifest is one of those whose digests the caller trusts already; then it needs no signature."""
        known = self.digest in digests
        self._authentic = self._authentic or known
        return known

    def authenticate(self, keys):
        """The keys that signed: at least one, each public key once. `keys` have kid, alg, public, verify().

        A block by an unknown key is passed over. Refused: "digest" when the manifest is not the one that was signed,
        "signature" when a block in a known key's name does not hold, "key" when no block is by a known key.
        """
        keys = list(keys)
        # Nobody has signed this list: at depth 1 it holds byte strings and numbers, which take no more room than here.
        wrapper = decode(self.member(_AUTHENTICATION), list, "wrapper", 1)
        if not 0 < len(wrapper) <= 1 + _MAX_BLOCKS:
            raise Refused("format", "wrapper")
        if digest(decode(wrapper[0], list, "digest", 1)) != self.digest:
            raise Refused("digest", "the manifest is not the one that was signed")
        signers = {}
        limit = self.checks + _MAX_CHECKS
        for block in wrapper[1:]:
            if not isinstance(block, bytes):
                raise Refused("format", "wrapper")
            protected, alg, kid, signature = cose.sign1(block)
            if alg == _ES256:
                alg = _ESP256  # the older label of the same algorithm
            message = cose.sig_structure(protected, wrapper[0])
            failed = False
            for key in keys:
                if kid is not None and kid != key.kid:
                    continue
                failed = kid is not None
                if alg != key.alg:
                    continue  # the algorithm is the key's; what the block says can only contradict it
                self.checks += 1
                if self.checks > limit:
                    raise Refused("key", "too many signatures to check")
                if key.verify(message, signature):
                    signers[key.public] = key
                    failed = False
                    break
            if failed:
                raise Refused("signature", "the block of key %s does not verify" % kid.hex())
        if not signers:
            raise Refused("key", "no block by a known key")
        self._authentic = True
        return list(signers.values())

    def manifest(self):
        """The Manifest, once authenticate() has succeeded; before that Refused "signature"."""
        if not self._authentic:
            raise Refused("signature", "the envelope is not authenticated")
        return _manifest(self)

    def payload(self, uri):
        """The integrated payload of that URI (bytes), or None. It is not signed: image-match has to hold for it."""
        return self.member(uri) if isinstance(uri, str) else None

    def payloads(self):
        """All integrated payloads, {URI: bytes}."""
        return {label: self.member(label) for label in self._members if isinstance(label, str)}

    def member(self, label):
        """The content of a member (bytes), or None."""
        if label not in self._members:
            return None
        _, start, end = self._members[label]
        return self._data[start:end]

    def resolve(self, label, value):
        """The content of manifest member `label`, whose value there is `value`: None if it was severed and is gone.

        Refused "digest" when it was severed and the envelope has another in its place.
        """
        if isinstance(value, bytes) and label not in self._members:
            return value
        if not isinstance(value, list) or label not in _SEVERABLE:
            raise Refused("format", "member %d" % label)
        if label in self._members and self._hash(label) != digest(value):
            raise Refused("digest", "member %d is not the one that was signed" % label)
        return self.member(label)


def _manifest(envelope):
    """The Manifest of an authenticated envelope, parsed and checked. Refused when it is not as it should be."""
    fields = decode(envelope.member(_MANIFEST), dict, "manifest")
    _known(fields, _IN_MANIFEST)
    if not uint(fields.get(_VERSION)) or fields[_VERSION] != 1:
        raise Refused("unsupported", "manifest version")
    if not uint(fields.get(_SEQUENCE)) or not isinstance(fields.get(_REFERENCE_URI, ""), str):
        raise Refused("format", "manifest")
    common = decode(fields.get(_COMMON), dict, "common")
    _known(common, _IN_COMMON)
    found = Manifest(envelope.digest, fields[_SEQUENCE], _components(common.get(_COMPONENTS)))
    if _SHARED in common:
        suit_check.add(found, "shared", common[_SHARED])
    for section, label in _SECTIONS.items():
        if label in fields:
            suit_check.add(found, section, envelope.resolve(label, fields[label]))
    if _TEXT in fields:
        envelope.resolve(_TEXT, fields[_TEXT])  # signed, but for people: not read here
    for label in _SEVERABLE:
        if label not in fields and envelope.member(label) is not None:
            raise Refused("format", "member %d" % label)
    return found


def _known(fields, labels):
    for label in fields:
        if label not in labels:
            raise Refused("unsupported", "member %s" % label)


def _components(ids):
    if not isinstance(ids, list) or not ids:
        raise Refused("format", "components")
    if len(ids) > MAX_COMPONENTS:
        raise Refused("component", "%d components" % len(ids))
    for at, parts in enumerate(ids):
        if not isinstance(parts, list) or set(map(type, parts)) != {bytes}:
            raise Refused("format", "components")
        if parts in ids[:at]:
            raise Refused("format", "components")
    return ids
