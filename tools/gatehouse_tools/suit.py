"""SUIT envelopes on the host (draft-ietf-suit-manifest-37): written by `release`, printed by `inspect`.

`build_envelope()` writes what Gatehouse's releases are. `Manifest` and `wrap()` below it write any manifest at all,
the attacks of the tests and of the demo included. `parse()`, `verify()` and `describe()` read.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import cbor, cose, keys
from .errors import GatehouseError

ENVELOPE_TAG = 107
AUTHENTICATION, MANIFEST = 2, 3  # members of the envelope
VERSION, SEQUENCE, COMMON, REFERENCE_URI, TEXT = 1, 2, 3, 4, 23  # members of the manifest
COMPONENTS, SHARED = 2, 4  # members of common
SECTIONS = {"payload-fetch": 16, "install": 20, "validate": 7, "load": 8, "invoke": 9}
SEVERABLE = {"payload-fetch": 16, "install": 20, "text": TEXT}
SHA256 = -16
MAX_BLOCKS = 4  # authentication blocks that a device looks at

# Commands: conditions ask, directives do.
VENDOR, CLASS, IMAGE_MATCH, USE_BEFORE, SLOT, ABORT, DEVICE = 1, 2, 3, 4, 5, 14, 24
SET_COMPONENT_INDEX, TRY_EACH, WRITE, OVERRIDE, FETCH, COPY, INVOKE, RUN_SEQUENCE = 12, 15, 18, 20, 21, 22, 23, 32
# Parameters; those of a condition have its number.
SOFT_FAILURE, IMAGE_DIGEST, IMAGE_SIZE, CONTENT, URI, SOURCE_COMPONENT = 13, 3, 14, 18, 21, 22
NO_RETURN = -256  # ours, from the private range: the release before this one must not run again

# Reporting policies (section 8.4.4): everything about a condition, the failure of a directive.
_CONDITION, _DIRECTIVE = 15, 2

_IN_ENVELOPE = {AUTHENTICATION, MANIFEST, *SEVERABLE.values()}
_IN_MANIFEST = {VERSION, SEQUENCE, COMMON, REFERENCE_URI, TEXT, *SECTIONS.values()}

Commands = list[Any]  # code, argument, code, argument ...


def vendor_uuid(domain: str) -> uuid.UUID:
    """The vendor id: the version 5 UUID of the vendor's domain name."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, domain)


def class_uuid(domain: str, board: str) -> uuid.UUID:
    """The class id: the version 5 UUID of the board's name under the vendor's."""
    return uuid.uuid5(vendor_uuid(domain), board)


def encode_sequence(commands: Commands) -> bytes:
    """A command sequence as it stands in a manifest, and as an argument of try-each and run-sequence."""
    return cbor.dumps(commands)


def decode_sequence(data: Any, name: str) -> Commands:
    """The commands of an encoded sequence. GatehouseError("format") naming it."""
    value = cbor.loads(data, f"sequence {name}") if isinstance(data, bytes) else None
    if not isinstance(value, list) or not value or len(value) % 2 or any(type(code) is not int for code in value[::2]):
        raise GatehouseError(f"sequence {name} is not a list of commands and arguments", "format")
    return value


def suit_digest(content: bytes) -> list[Any]:
    """The SUIT_Digest of a member of the manifest or of the manifest itself: over the byte string, head included."""
    return [SHA256, hashlib.sha256(cbor.dumps(content)).digest()]


def image_digest(digest: bytes) -> bytes:
    """The value of parameter image-digest for a SHA-256 of the image's own bytes."""
    return cbor.dumps([SHA256, digest])


@dataclass
class Component:
    """What a release says about one component.

    name: of one text part, such as "app". digest, size: SHA-256 and length of the image; left out they are those of
    `payload`, which then travels inside the envelope under `uri` ("#name" unless given). use_before: Unix seconds after
    which it is not to be installed. device_id: 16 bytes, for this one device only. version, description: for people.
    no_return: once this one is confirmed, the one before must not run again, not even where this one goes bad.
    """

    name: str
    digest: bytes = b""
    size: int = 0
    uri: str = ""
    use_before: int | None = None
    payload: bytes | None = None
    device_id: bytes | None = None
    version: str | None = None
    no_return: bool = False
    description: str | None = None

    def __post_init__(self) -> None:
        if self.payload is not None:
            self.digest = self.digest or hashlib.sha256(self.payload).digest()
            self.size = self.size or len(self.payload)
            self.uri = self.uri or "#" + self.name


@dataclass
class Manifest:
    """A manifest before it is encoded. Nothing is checked, so that attacks can be written as well as releases.

    sections: name (see SECTIONS) -> commands. severed: which of SEVERABLE move to the envelope. text: SUIT_Text_Map,
    component ids as tuples. extra: further members, or other values for the ones above.
    """

    sequence: int
    components: list[list[bytes]]
    shared: Commands | None = None
    sections: dict[str, Commands] = field(default_factory=dict)
    text: dict[str, Any] | None = None
    severed: set[str] = field(default_factory=lambda: {"text"})
    extra: dict[Any, Any] = field(default_factory=dict)

    def members(self) -> dict[int, bytes]:
        """The severed members, for the envelope."""
        return {SEVERABLE[name]: data for name, data in self._parts().items() if name in self.severed}

    def encode(self) -> bytes:
        """The manifest's bytes, without the byte string around them."""
        common: dict[int, Any] = {COMPONENTS: self.components}
        if self.shared is not None:
            common[SHARED] = encode_sequence(self.shared)
        fields: dict[Any, Any] = {VERSION: 1, SEQUENCE: self.sequence, COMMON: cbor.dumps(common)}
        for name, data in self._parts().items():
            fields[(SECTIONS | SEVERABLE)[name]] = suit_digest(data) if name in self.severed else data
        return cbor.dumps(fields | self.extra)

    def _parts(self) -> dict[str, bytes]:
        parts = {name: encode_sequence(commands) for name, commands in self.sections.items()}
        return parts if self.text is None else parts | {"text": cbor.dumps(self.text)}


def wrap(
    manifest: bytes,
    signers: Iterable[keys.Signer] = (),
    *,
    members: Mapping[Any, bytes] | None = None,
    payloads: Mapping[str, bytes] | None = None,
    digest: bytes | None = None,
    blocks: Iterable[bytes] = (),
) -> bytes:
    """An envelope around an encoded manifest: one authentication block for each signer, then `blocks` as they are.

    members: severed ones; payloads: integrated ones by URI; digest: an encoded SUIT_Digest in place of the right one.
    """
    digest = cbor.dumps(suit_digest(manifest)) if digest is None else digest
    wrapper = [digest, *(cose.sign1_detached(signer, digest) for signer in signers), *blocks]
    fields: dict[Any, Any] = {AUTHENTICATION: cbor.dumps(wrapper), MANIFEST: manifest}
    return cbor.dumps(cbor.Tag(ENVELOPE_TAG, fields | dict(members or {}) | dict(payloads or {})))


def release_manifest(
    sequence: int,
    components: Sequence[Component],
    vendor_id: bytes,
    class_id: bytes,
    description: str | None = None,
) -> Manifest:
    """The manifest of a release. The sequence number is its signing time in Unix seconds; ids are 16 bytes."""
    shared: Commands = []
    install: Commands = []
    validate: Commands = []
    invoke: Commands = []
    text: dict[Any, Any] = {} if description is None else {1: description}
    for index, item in enumerate(components):
        expected = {VENDOR: vendor_id, CLASS: class_id, IMAGE_DIGEST: image_digest(item.digest), IMAGE_SIZE: item.size}
        identity = [VENDOR, _CONDITION, CLASS, _CONDITION]
        source: dict[int, Any] = {URI: item.uri}
        before: Commands = []
        if item.device_id is not None:
            expected[DEVICE] = item.device_id
            identity += [DEVICE, _CONDITION]
        if item.no_return:
            expected[NO_RETURN] = True
        if item.use_before is not None:
            source[USE_BEFORE] = item.use_before
            before = [USE_BEFORE, _CONDITION]
        select = [SET_COMPONENT_INDEX, index]
        shared += [*select, OVERRIDE, expected, *identity]
        install += [*select, OVERRIDE, source, *before, FETCH, _DIRECTIVE, IMAGE_MATCH, _CONDITION]
        validate += [*select, IMAGE_MATCH, _CONDITION]
        if item.payload is None:  # code; configuration and trust anchors are not invoked
            invoke += [*select, INVOKE, _DIRECTIVE]
        told = {key: words for key, words in ((5, item.description), (6, item.version)) if words is not None}
        if told:
            text[(item.name.encode(),)] = told
    sections = {"install": install, "validate": validate} | ({"invoke": invoke} if invoke else {})
    names = [[item.name.encode()] for item in components]
    return Manifest(sequence, names, shared, sections, {"en": text} if text else None)


def build_envelope(
    sequence: int,
    components: Sequence[Component],
    vendor_id: bytes,
    class_id: bytes,
    signers: Iterable[keys.Signer],
    description: str | None = None,
) -> bytes:
    """The signed envelope of a release; see release_manifest() and Component."""
    manifest = release_manifest(sequence, components, vendor_id, class_id, description)
    payloads = {item.uri: item.payload for item in components if item.payload is not None}
    return wrap(manifest.encode(), signers, members=manifest.members(), payloads=payloads)


@dataclass
class Envelope:
    """A parsed envelope whose digests hold; its signatures are verify()'s business.

    digest: of the manifest, 32 bytes. signed: the encoded SUIT_Digest that the blocks sign. sections: name -> commands,
    or None where the section was severed and is not here; "shared" is one of them. payloads: URI -> bytes.
    """

    size: int
    digest: bytes
    signed: bytes
    blocks: list[cose.Sign1]
    sequence: int
    components: list[list[bytes]]
    sections: dict[str, Commands | None]
    reference_uri: str | None
    text: dict[str, Any]
    payloads: dict[str, bytes]
    outside: list[str]  # members that no device of ours takes


def parse(data: bytes) -> Envelope:
    """Take an envelope apart. GatehouseError("format" | "digest" | "unsupported") says what is wrong, and where."""
    tagged = cbor.loads(data, "the envelope")
    if not isinstance(tagged, cbor.Tag) or tagged.tag != ENVELOPE_TAG or not isinstance(tagged.value, dict):
        raise GatehouseError("the file is not a SUIT envelope (CBOR tag 107)", "format")
    fields = tagged.value
    for key, value in fields.items():
        if not isinstance(value, bytes):
            raise GatehouseError(f"envelope member {key!r} is not a byte string", "format")
    if AUTHENTICATION not in fields or MANIFEST not in fields:
        raise GatehouseError("the envelope lacks its authentication wrapper or its manifest", "format")
    wrapper = cbor.loads(fields[AUTHENTICATION], "the authentication wrapper")
    if not isinstance(wrapper, list) or not wrapper or not all(isinstance(item, bytes) for item in wrapper):
        raise GatehouseError("the authentication wrapper is not a list of byte strings", "format")
    digest = suit_digest(fields[MANIFEST])
    if cbor.loads(wrapper[0], "the manifest's digest") != digest:
        raise GatehouseError("the manifest is not the one that was signed: its digest differs", "digest")
    blocks = [cose.parse_sign1(item, f"authentication block {n}") for n, item in enumerate(wrapper[1:], 1)]

    manifest = _map(fields[MANIFEST], "the manifest")
    common = _map(manifest.get(COMMON), "the manifest's common part")
    components = common.get(COMPONENTS)
    if manifest.get(VERSION) != 1 or type(manifest.get(SEQUENCE)) is not int:
        raise GatehouseError("the manifest lacks version 1 or its sequence number", "format")
    if not isinstance(components, list) or not all(_is_component(item) for item in components):
        raise GatehouseError("the manifest's components are not lists of byte strings", "format")
    reference = manifest.get(REFERENCE_URI)
    if not isinstance(reference, str | None):
        raise GatehouseError("the manifest's reference URI is not text", "format")
    found: dict[str, bytes | None] = {"shared": common.get(SHARED)} if SHARED in common else {}
    for name, key in (SECTIONS | SEVERABLE).items():
        if key in manifest:
            found[name] = _member(name, manifest[key], fields.get(key))
        elif key in fields:
            raise GatehouseError(f"{name} is in the envelope, but the manifest does not know it", "format")
    text = found.pop("text", None)
    return Envelope(
        size=len(data),
        digest=digest[1],
        signed=wrapper[0],
        blocks=blocks,
        sequence=manifest[SEQUENCE],
        components=components,
        sections={name: None if part is None else decode_sequence(part, name) for name, part in found.items()},
        reference_uri=reference,
        text={} if text is None else _text(text),
        payloads={key: value for key, value in fields.items() if isinstance(key, str)},
        outside=[
            *(f"envelope member {key!r}" for key in fields if not isinstance(key, str) and key not in _IN_ENVELOPE),
            *(f"manifest member {key!r}" for key in manifest if key not in _IN_MANIFEST),
            *(f"member {key!r} of the manifest's common part" for key in common if key not in (COMPONENTS, SHARED)),
        ],
    )


def verify(data: bytes, known: Iterable[keys.PublicKey]) -> list[keys.PublicKey]:
    """The known keys that signed an envelope, by the device's rules.

    GatehouseError("key") where none did, ("signature") where a block in a known key's name does not hold.
    """
    envelope = parse(data)
    if envelope.outside:
        raise GatehouseError(f"{envelope.outside[0]} is outside the subset that devices take", "unsupported")
    known = list(known)
    signers: list[keys.PublicKey] = []
    if len(envelope.blocks) > MAX_BLOCKS:
        raise GatehouseError(f"more than {MAX_BLOCKS} authentication blocks", "format")
    for number, block in enumerate(envelope.blocks, 1):
        signer = block.signed_by(known, envelope.signed)
        if signer and signer not in signers:
            signers.append(signer)
        elif not signer and block.kid in {key.kid for key in known}:
            raise GatehouseError(f"authentication block {number} does not verify", "signature")
    if not signers:
        raise GatehouseError("no authentication block is by a known key", "key")
    return signers


def describe(data: bytes, known: Mapping[str, keys.PublicKey] | None = None) -> list[tuple[str, str]]:
    """An envelope in words, as (label, text) rows. `known`: public keys by the name to show. Raises as parse()."""
    from .suit_words import rows  # which reads this module

    return rows(parse(data), known or {})


def _map(data: Any, what: str) -> dict[Any, Any]:
    value = cbor.loads(data, what) if isinstance(data, bytes) else None
    if not isinstance(value, dict):
        raise GatehouseError(f"{what} is not a map in a byte string", "format")
    return value


def _member(name: str, value: Any, severed: bytes | None) -> bytes | None:
    """The bytes of a member of the manifest, from the envelope when it was severed; None when it is not there."""
    if isinstance(value, bytes) and severed is None:
        return value
    if not isinstance(value, list) or name not in SEVERABLE:
        raise GatehouseError(f"member {name} of the manifest is neither a byte string nor the digest of one", "format")
    if severed is not None and suit_digest(severed) != value:
        raise GatehouseError(f"{name} in the envelope is not the one that was signed: its digest differs", "digest")
    return severed


def _text(data: Any) -> dict[str, Any]:
    text = _map(data, "the manifest's text")
    for language, texts in text.items():
        good = isinstance(language, str) and isinstance(texts, dict)
        for key, value in texts.items() if good else ():
            good = good and isinstance(value, str if type(key) is int else dict)
            good = good and (type(key) is int or _is_component(key))
        if not good:
            raise GatehouseError("the manifest's text is not a map of languages and texts", "format")
    return text


def _is_component(item: Any) -> bool:
    return isinstance(item, list | tuple) and all(isinstance(part, bytes) for part in item)
