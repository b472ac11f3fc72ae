"""SUIT on the host: what is written, what is read, what is said about damage."""

import hashlib
import os
import pathlib
import uuid

import cbor2
import pytest

from gatehouse_tools import cbor, cose, keys, suit
from gatehouse_tools.errors import GatehouseError

SEQUENCE = 1_795_473_000  # 2026-11-23 22:30:00 UTC
VENDOR = suit.vendor_uuid("maker.example").bytes
CLASS = suit.class_uuid("maker.example", "unix").bytes
INDEX = b"the index of an application"
SHARED_FOLDER = pathlib.Path(os.environ.get("GATEHOUSE_SHARED", pathlib.Path(__file__).parents[3] / "shared"))
DRAFT = SHARED_FOLDER / "vectors/suit-manifest/draft-37"

RELEASE = keys.generate()
ROOT = keys.generate()
STRANGER = keys.generate()


def app(**more):
    return suit.Component("app", hashlib.sha256(INDEX).digest(), len(INDEX), "demo-1.1.0.pack", **more)


def release(signers=(RELEASE,), **more):
    return suit.build_envelope(SEQUENCE, [app(**more)], VENDOR, CLASS, signers, "The first release")


def refused(reason, function, *arguments):
    with pytest.raises(GatehouseError) as caught:
        function(*arguments)
    assert caught.value.reason == reason, caught.value
    assert "\n" not in str(caught.value)
    return str(caught.value)


def text(data, known=None):
    return "\n".join(f"{label}: {words}" for label, words in suit.describe(data, known))


# Writing


def test_release_is_what_the_draft_and_the_device_want():
    data = release(use_before=SEQUENCE + 86400)
    assert data.startswith(b"\xd8\x6b")
    fields = cbor2.loads(data).value
    assert list(fields) == [2, 3, 23]  # the wrapper stands before the manifest
    digest, block = cbor2.loads(fields[2])
    # Facts of the draft: the digest covers the head of the byte string, the signature covers the digest.
    assert cbor2.loads(digest) == [-16, hashlib.sha256(cbor2.dumps(fields[3])).digest()]
    assert cose.parse_sign1(block).alg == -9
    assert cose.parse_sign1(block).signed_by([RELEASE.key], digest) == RELEASE.key
    manifest = cbor2.loads(fields[3])
    assert manifest[1] == 1
    assert manifest[2] == SEQUENCE
    common = cbor2.loads(manifest[3])
    assert common[2] == [[b"app"]]
    expected = {1: VENDOR, 2: CLASS, 3: cbor2.dumps([-16, hashlib.sha256(INDEX).digest()]), 14: len(INDEX)}
    assert cbor2.loads(common[4]) == [12, 0, 20, expected, 1, 15, 2, 15]
    source = {4: SEQUENCE + 86400, 21: "demo-1.1.0.pack"}
    assert cbor2.loads(manifest[20]) == [12, 0, 20, source, 4, 15, 21, 2, 3, 15]
    assert cbor2.loads(manifest[7]) == [12, 0, 3, 15]
    assert cbor2.loads(manifest[9]) == [12, 0, 23, 2]
    assert manifest[23] == [-16, hashlib.sha256(cbor2.dumps(fields[23])).digest()]
    assert cbor2.loads(fields[23]) == {"en": {1: "The first release"}}


def test_envelope_manifest_and_sequences_are_deterministic():
    data = release(version="1.1.0", use_before=1)
    fields = cbor.loads(data).value
    for part in (fields[2], fields[3], fields[23]):
        cbor.loads(part)
    # A text map has integer and array keys: the case where shorter-first and bytewise order part.
    assert data == release(version="1.1.0", use_before=1)


def test_integrated_payload_and_device_id():
    device = uuid.UUID(int=7).bytes
    component = suit.Component("config", payload=b"\xa1\x01\x02", device_id=device)
    data = suit.build_envelope(SEQUENCE, [component], VENDOR, CLASS, [RELEASE])
    envelope = suit.parse(data)
    assert envelope.payloads == {"#config": b"\xa1\x01\x02"}
    assert envelope.text == {}
    shared, install = envelope.sections["shared"], envelope.sections["install"]
    assert shared[3][3] == suit.image_digest(hashlib.sha256(b"\xa1\x01\x02").digest())
    assert (shared[3][14], shared[3][24]) == (3, device)
    assert shared[-2:] == [24, 15]
    assert install[3] == {21: "#config"}
    assert "invoke" not in envelope.sections  # a configuration is not run


def test_several_components_each_begin_with_their_index():
    data = suit.build_envelope(SEQUENCE, [app(), suit.Component("config", payload=b"x")], VENDOR, CLASS, [RELEASE])
    sections = suit.parse(data).sections
    assert sections["validate"] == [12, 0, 3, 15, 12, 1, 3, 15]
    assert sections["invoke"] == [12, 0, 23, 2]
    for commands in sections.values():
        assert commands[:2] == [12, 0]


def test_identifiers():
    # The vendor id that the draft's own examples use.
    assert str(suit.vendor_uuid("arm.com")) == "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe"
    assert suit.class_uuid("a.example", "unix") == uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_DNS, "a.example"), "unix")


# Reading


def test_verify_names_the_signers():
    assert suit.verify(release(), [STRANGER.key, RELEASE.key]) == [RELEASE.key]
    assert suit.verify(release([RELEASE, ROOT]), [ROOT.key, RELEASE.key]) == [RELEASE.key, ROOT.key]
    assert suit.verify(release([RELEASE, RELEASE]), [RELEASE.key]) == [RELEASE.key]  # two blocks, one signer
    assert suit.verify(release([STRANGER, RELEASE]), [RELEASE.key]) == [RELEASE.key]
    refused("key", suit.verify, release([STRANGER]), [RELEASE.key])
    refused("key", suit.verify, release([]), [RELEASE.key])
    suit.verify(release([STRANGER] * 3 + [RELEASE]), [RELEASE.key])
    refused("format", suit.verify, release([STRANGER] * 4 + [RELEASE]), [RELEASE.key])


def test_block_in_a_known_keys_name_that_does_not_hold():
    manifest = suit.release_manifest(SEQUENCE, [app()], VENDOR, CLASS)
    foreign = cose.sign1_detached(RELEASE, b"another manifest's digest")
    refused("signature", suit.verify, suit.wrap(manifest.encode(), [ROOT], blocks=[foreign]), [RELEASE.key, ROOT.key])
    digest = cbor.dumps(suit.suit_digest(manifest.encode()))
    confused = cose.sign1_detached(RELEASE, digest, alg=keys.HSS_LMS)
    refused("signature", suit.verify, suit.wrap(manifest.encode(), blocks=[confused]), [RELEASE.key])
    honest = cose.sign1_detached(RELEASE, digest, alg=keys.ES256)
    assert suit.verify(suit.wrap(manifest.encode(), blocks=[honest]), [RELEASE.key]) == [RELEASE.key]


def test_every_flipped_bit_and_every_truncation_is_noticed():
    data = release(use_before=SEQUENCE + 1)
    assert suit.verify(data, [RELEASE.key])
    kid = data.index(RELEASE.kid)
    for at in range(len(data)):
        refused("format", suit.parse, data[:at])
        damaged = bytearray(data)
        damaged[at] ^= 0x01
        with pytest.raises(GatehouseError) as caught:
            suit.verify(bytes(damaged), [RELEASE.key])
        if kid <= at < kid + 8:
            assert caught.value.reason == "key"


def test_damage_is_named():
    data = release()
    fields = cbor.loads(data).value

    def changed(**more):
        return cbor.dumps(cbor.Tag(107, fields | {int(key[1:]): value for key, value in more.items()}))

    assert "tag 107" in refused("format", suit.parse, cbor.dumps({1: 2}))
    assert "tag 107" in refused("format", suit.parse, cbor.dumps(cbor.Tag(1070, {})))
    assert "after its end" in refused("format", suit.parse, data + b"\x00")
    assert "wrapper" in refused("format", suit.parse, cbor.dumps(cbor.Tag(107, {3: fields[3]})))
    assert "wrapper" in refused("format", suit.parse, changed(_2=b"\x80"))
    assert "wrapper" in refused("format", suit.parse, changed(_2=b"\x9f\xff"))
    assert "signed" in refused("digest", suit.parse, changed(_3=b"\xa0"))
    assert "text" in refused("digest", suit.parse, changed(_23=fields[23] + b"\x00"))
    assert "member 3" in refused("format", suit.parse, changed(_3="text"))
    assert "install" in refused("format", suit.parse, changed(_20=b"\x82\x15\x02"))  # stands in the manifest already
    assert "payload-fetch" in refused("format", suit.parse, changed(_16=b"\x82\x15\x02"))

    def manifest(**more):
        return suit.wrap(suit.Manifest(1, [[b"app"]], [1, 15], extra=more.pop("extra", {}), **more).encode())

    assert "sequence number" in refused("format", suit.parse, manifest(extra={2: "x"}))
    assert "version 1" in refused("format", suit.parse, manifest(extra={1: 2}))
    assert "common" in refused("format", suit.parse, manifest(extra={3: 5}))
    assert "components" in refused("format", suit.parse, manifest(extra={3: cbor.dumps({2: ["app"]})}))
    assert "install" in refused("format", suit.parse, manifest(sections={"install": [1]}))
    assert "install" in refused("format", suit.parse, manifest(sections={"install": ["x", 1]}))
    assert "validate" in refused("format", suit.parse, manifest(extra={7: suit.suit_digest(b"")}))
    assert "reference" in refused("format", suit.parse, manifest(extra={4: b"x"}))
    for bad in ([], {"en": 1}, {"en": {1: 2}}, {"en": {b"app": {}}}, {1: {}}):
        assert "text" in refused("format", suit.parse, manifest(severed=set(), extra={23: cbor.dumps(bad)}))


def test_severed_members():
    manifest = suit.release_manifest(SEQUENCE, [app()], VENDOR, CLASS, "words")
    manifest.severed = {"text", "install"}
    whole = suit.wrap(manifest.encode(), [RELEASE], members=manifest.members())
    severed = suit.wrap(manifest.encode(), [RELEASE])
    assert suit.parse(whole).sections["install"][0] == suit.SET_COMPONENT_INDEX
    assert suit.parse(severed).sections["install"] is None
    assert suit.parse(severed).text == {}
    assert suit.parse(whole).digest == suit.parse(severed).digest
    assert "install: severed" in text(severed)
    swapped = manifest.members() | {20: suit.encode_sequence([21, 2])}
    assert "install" in refused("digest", suit.parse, suit.wrap(manifest.encode(), [RELEASE], members=swapped))


# Words


def test_release_in_words():
    words = text(release(use_before=SEQUENCE + 86400, version="1.1.0"), {"release key": RELEASE.key})
    for line in (
        "sequence number: 1795473000 (2026-11-23 22:30:00 UTC)",
        f"signer: ESP256, key id {RELEASE.kid.hex()}: verified, by release key",
        "component 0: app",
        "text (en): description: The first release",
        "text (en): app: version 1.1.0",
        "shared: directive-set-component-index 0",
        f"shared:   vendor-id: {suit.vendor_uuid('maker.example')}",
        f"shared:   class-id: {suit.class_uuid('maker.example', 'unix')}",
        f"shared:   image-digest: sha-256:{hashlib.sha256(INDEX).hexdigest()}",
        f"shared:   image-size: {len(INDEX)} bytes",
        "install:   uri: demo-1.1.0.pack",
        "install:   use-before: 1795559400 (2026-11-24 22:30:00 UTC)",
        "install: directive-fetch",
        "validate: condition-image-match",
        "invoke: directive-invoke",
    ):
        assert line in words.splitlines()


def test_signers_in_words():
    known = {"root": ROOT.key, "release": RELEASE.key}
    assert "verified, by release" in text(release(), known)
    assert "by a key that is not known here" in text(release([STRANGER]), known)
    assert "signer: none: every device refuses this" in text(release([]), known)
    manifest = suit.release_manifest(SEQUENCE, [app()], VENDOR, CLASS).encode()
    forged = suit.wrap(manifest, blocks=[cose.sign1_detached(RELEASE, b"something else")])
    assert "DOES NOT VERIFY as release" in text(forged, known)


def test_flow_in_words():
    alternatives = [suit.encode_sequence([20, {5: 0}, 5, 5]), suit.encode_sequence([20, {5: 1}, 5, 5]), None]
    commands = [12, True, 15, alternatives, 32, suit.encode_sequence([14, 15]), 99, 1]
    manifest = suit.Manifest(1, [[b"a", b"\xff"], [b"b"]], sections={"install": commands})
    lines = text(suit.wrap(manifest.encode())).splitlines()
    assert lines[lines.index("component 0: a/ff") + 2 :] == [
        "install: directive-set-component-index all",
        "install: directive-try-each",
        "install:   1. directive-override-parameters",
        "install:        component-slot: 0",
        "install:      condition-component-slot",
        "install:   2. directive-override-parameters",
        "install:        component-slot: 1",
        "install:      condition-component-slot",
        "install:   3. nothing (always succeeds)",
        "install: directive-run-sequence",
        "install:   1. condition-abort",
        "install: command 99",
    ]


def test_members_outside_the_subset_are_told():
    manifest = suit.Manifest(1, [[b"app"]], extra={24: b"\x81\x01", 3: cbor.dumps({1: {}, 2: [[b"app"]]})})
    data = suit.wrap(manifest.encode(), [RELEASE], members={15: b""})
    refused("unsupported", suit.verify, data, [RELEASE.key])
    words = text(data)
    for what in ("envelope member 15", "manifest member 24", "member 1 of the manifest's common part"):
        assert f"outside the subset: {what}" in words


def test_hostile_text_cannot_steer_the_terminal():
    manifest = suit.Manifest(1, [[b"app"]], text={"en": {1: "a\x1b[2Jb\nc"}}, sections={"install": [20, {21: "\x07"}]})
    words = [words for _, words in suit.describe(suit.wrap(manifest.encode(), members=manifest.members()))]
    assert all(line.isprintable() for line in words)
    assert "description: a\ufffd[2Jb c" in words


def test_bottomless_nesting_is_refused():
    commands: suit.Commands = [14, 15]
    for _ in range(12):
        commands = [32, suit.encode_sequence(commands)]
    manifest = suit.Manifest(1, [[b"app"]], sections={"install": commands})
    assert "nested" in refused("format", suit.describe, suit.wrap(manifest.encode()))


# The draft's own examples


@pytest.mark.skipif(not DRAFT.is_dir(), reason="../shared is not here")
@pytest.mark.parametrize("path", sorted(DRAFT.glob("*.hex")), ids=lambda path: path.stem)
def test_appendix_b(path):
    data = bytes.fromhex(path.read_text())
    key = keys.load_public(DRAFT / "public_key.pem")
    words = text(data, {"the draft's key": key})
    if path.stem.endswith("_0"):
        refused("key", suit.verify, data, [key])
        assert "signer: none" in words
    else:
        assert suit.verify(data, [key]) == [key]
        assert "ES256, key id not named: verified, by the draft's key" in words
        refused("key", suit.verify, data, [STRANGER.key])
