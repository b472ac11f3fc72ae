"""Signed SUIT envelopes: honest ones, and every way to sign that must not count."""

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec

from gatehouse_tools import cbor, cose, keys, suit

DOMAIN, BOARD = "maker.example", "unix"
VENDOR = suit.vendor_uuid(DOMAIN).bytes
CLASS = suit.class_uuid(DOMAIN, BOARD).bytes
DEVICE = hashlib.sha256(b"device").digest()[:16]
SEQUENCE = 1_795_473_000
INDEX = b"the index of an application"
CONFIG = b"\xa1\x08\x18\x3c"


def signer(number):
    """The same key at every run, so that a case is the same bytes."""
    return keys.Signer(ec.derive_private_key(number, ec.SECP256R1()))


RELEASE, OPERATOR, STRANGER = signer(1001), signer(1002), signer(1003)


def app(**more):
    return suit.Component("app", hashlib.sha256(INDEX).digest(), len(INDEX), "demo-1.1.0.pack", **more)


def release(*signers, **more):
    return suit.build_envelope(SEQUENCE, [app(**more)], VENDOR, CLASS, signers or [RELEASE], "words for people")


def blocks():
    """name -> envelope around one manifest, each with other authentication blocks."""
    manifest = suit.release_manifest(SEQUENCE, [app()], VENDOR, CLASS).encode()
    digest = cbor.dumps(suit.suit_digest(manifest))
    other = cbor.dumps(suit.suit_digest(b"another manifest"))
    good = cose.sign1_detached(RELEASE, digest)
    protected = cbor.dumps({1: keys.ESP256})
    proof = RELEASE.sign(cose.sig_structure(protected, digest))
    flipped = good[:-1] + bytes([good[-1] ^ 1])

    def sign1(protected, unprotected, payload, tag=18):
        return cbor.dumps(cbor.Tag(tag, [protected, unprotected, payload, proof]))

    kid = {4: RELEASE.kid}
    made = {
        "good": [good],
        "es256-label": [cose.sign1_detached(RELEASE, digest, alg=keys.ES256)],
        "without-kid": [cose.sign1_detached(RELEASE, digest, kid=False)],
        "stranger-without-kid": [cose.sign1_detached(STRANGER, digest, kid=False)],
        "none": [],
        "stranger": [cose.sign1_detached(STRANGER, digest)],
        "stranger-and-good": [cose.sign1_detached(STRANGER, digest), good],
        "two-signers": [cose.sign1_detached(OPERATOR, digest), good],
        "same-signer-twice": [good, cose.sign1_detached(RELEASE, digest, alg=keys.ES256)],
        "four-blocks": [cose.sign1_detached(STRANGER, digest)] * 3 + [good],
        "five-blocks": [cose.sign1_detached(STRANGER, digest)] * 4 + [good],
        "flipped": [flipped],
        "good-and-flipped": [cose.sign1_detached(OPERATOR, digest), flipped],
        "stolen-kid": [cbor.dumps(cbor.Tag(18, [protected, kid, None, STRANGER.sign(b"anything")]))],
        "other-digest": [cose.sign1_detached(RELEASE, other)],
        "hss-label": [cose.sign1_detached(RELEASE, digest, alg=keys.HSS_LMS)],
        "eddsa-label": [cose.sign1_detached(RELEASE, digest, alg=-19)],
        "signs-the-manifest": [cose.sign1_detached(RELEASE, manifest)],  # and not its digest
        "attached": [sign1(protected, kid, digest)],
        "mac": [sign1(cbor.dumps({1: 5}), kid, None, tag=17)],
        "untagged": [cbor.dumps([protected, kid, None, proof])],
        "not-cose": [b"\x01"],
        "extra-header": [sign1(protected, kid | {99: 1}, None)],
    }
    envelopes = {name: suit.wrap(manifest, blocks=found) for name, found in made.items()}
    envelopes["other-wrapper-digest"] = suit.wrap(manifest, [RELEASE], digest=other)
    envelopes["sha-512-digest"] = suit.wrap(manifest, [RELEASE], digest=cbor.dumps([-44, bytes(64)]))
    broken = b"\xa2\x02\x01\x01\x01"  # keys out of order
    envelopes["broken-manifest"] = suit.wrap(broken, [RELEASE])
    envelopes["broken-manifest-by-stranger"] = suit.wrap(broken, [STRANGER])
    return envelopes


def severed():
    """name -> envelope of one manifest whose install section and text are severable."""
    manifest = suit.release_manifest(SEQUENCE, [app()], VENDOR, CLASS, "words for people")
    manifest.severed = {"install", "text"}
    members = manifest.members()
    without_text = {20: members[20]}
    evil = suit.encode_sequence([20, {21: "http://evil.example/pack"}, 21, 2, 3, 15])

    def wrap(found):
        return suit.wrap(manifest.encode(), [RELEASE], members=found)

    return {
        "present": wrap(members),
        "text-severed": wrap(without_text),
        "all-severed": wrap({}),
        "other-install": wrap(members | {20: evil}),
        "other-text": wrap(members | {23: cbor.dumps({"en": {1: "other words"}})}),
        "unknown-payload-fetch": wrap(members | {16: evil}),
    }


def make():
    """Hex of everything; see the device tests."""
    config = suit.Component("config", payload=CONFIG)
    return {
        "vendor": VENDOR,
        "class": CLASS,
        "device": DEVICE,
        "sequence": SEQUENCE,
        "index": INDEX,
        "config": CONFIG,
        "keys": {"release": RELEASE.public, "operator": OPERATOR.public},
        "release": release(use_before=SEQUENCE + 86400, version="1.1.0"),
        "for-one-device": release(device_id=DEVICE),
        "for-another-device": release(device_id=bytes(16)),
        "integrated": suit.build_envelope(SEQUENCE, [config], VENDOR, CLASS, [OPERATOR]),
        "two-components": suit.build_envelope(SEQUENCE, [app(), config], VENDOR, CLASS, [RELEASE, OPERATOR]),
        "blocks": blocks(),
        "severed": severed(),
    }
