"""What mutants are made of: real envelopes, trust stores, configurations, indexes, packs, by the product's tools."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import cbor2

from cases import device, lms
from gatehouse_tools import build, cbor, core, cose, pack, suit

DEVICE = bytes(range(16))
HSS_LMS = -46
NOW = device.NOW


def _trees() -> list[dict[str, bytes]]:
    """The application as it is compiled, and a tree with folders, an empty file and what does not deflate."""
    application = {
        target: build.compile_file(path, target)
        for path, target in build.sources(core.source("firmware"))
        if path.suffix == ".py" and path.stat().st_size < 6000
    }
    small = {
        "app.mpy": application[min(application)],
        "data/noise.bin": random.Random(1).randbytes(1500),
        "data/empty.txt": b"",
        "pkg/deep/text.txt": b"a line that deflates well\n" * 60,
    }
    return [application, small]


def _indexes(packs: list[bytes]) -> list[bytes]:
    found = [pack.split(data).data for data in packs]
    large, _ = pack.build({"app.bin": bytes(200_000), "b.bin": bytes(70_000)}, "demo", "1.0.0")
    many, _ = pack.build({f"pkg/f{n:02}.txt": b"%d" % n for n in range(60)}, "demo", "1.0.0")
    return [*found, large.data, many.data]


def _manifests(envelopes: list[bytes]) -> list[tuple[bytes, dict[int, bytes]]]:
    """The manifest of each envelope and its severed members."""
    found = []
    for data in envelopes:
        fields = cbor2.loads(data).value
        found.append((fields[suit.MANIFEST], {key: fields[key] for key in suit.SEVERABLE.values() if key in fields}))
    return found


def make() -> dict[str, Any]:
    """Seeds of every target, bytes as hex."""
    rng = random.Random(1)
    product = device.Product()
    trees = _trees()
    packs = [pack.build(tree, "demo", "1.0.0", squeeze=squeeze)[1] for tree in trees for squeeze in (False, True)]
    index = pack.split(packs[1]).data

    def app(**more: Any) -> suit.Component:
        return suit.Component("app", hashlib.sha256(index).digest(), len(index), "demo-1.1.0.pack", **more)

    def signed(components: list[suit.Component], *signers: Any, text: str | None = None) -> bytes:
        return suit.build_envelope(device.SEQUENCE, components, device.VENDOR, device.CLASS, signers, text)

    config = suit.Component("config", payload=cbor.dumps({1: "broker.example", 8: 60, 7: ["all"]}))
    firmware = suit.Component("firmware", payload=b"\xe9" + bytes(range(200)))
    severed = suit.release_manifest(device.SEQUENCE, [app()], device.VENDOR, device.CLASS, "words for people")
    severed.severed = {"install", "text"}
    both = [product.release, product.operator]
    leaf = lms.Leaf(rng, 32, 5, 4, 3)
    leaf_kid = hashlib.sha256(leaf.public).digest()[:8]
    hybrid_manifest = suit.release_manifest(device.SEQUENCE + 1, [app()], device.VENDOR, device.CLASS).encode()
    digest = cbor.dumps(suit.suit_digest(hybrid_manifest))
    protected = cbor.dumps({cose.ALG: HSS_LMS})
    proof = leaf.sign(cose.sig_structure(protected, digest))
    block = cbor.dumps(cbor.Tag(cose.SIGN1, [protected, {cose.KID: leaf_kid}, None, proof]))
    hybrid = suit.wrap(hybrid_manifest, [product.release], blocks=[block])
    envelopes = [
        signed([app()], product.release, text="words for people"),
        signed([app(device_id=DEVICE, use_before=NOW + 86400, version="1.1.0")], product.release),
        signed([app(), config], *both),
        signed([firmware, app(), config], *both),
        signed([config], product.operator),
        product.trust(),
        signed([app()], *both),  # two blocks over one digest
        hybrid,
        suit.wrap(severed.encode(), [product.release], members=severed.members()),
        suit.wrap(severed.encode(), [product.release], members={20: severed.members()[20]}),
    ]
    alternatives = [
        suit.encode_sequence([suit.OVERRIDE, {suit.SLOT: slot}, suit.SLOT, 15, suit.OVERRIDE, {suit.URI: "x"}])
        for slot in range(2)
    ]
    conditional = suit.release_manifest(device.SEQUENCE, [app()], device.VENDOR, device.CLASS)
    conditional.sections["install"] = [
        *(suit.SET_COMPONENT_INDEX, True, suit.TRY_EACH, [*alternatives, None]),
        *(suit.RUN_SEQUENCE, suit.encode_sequence(conditional.sections["install"])),
    ]
    manifests = _manifests([*envelopes, suit.wrap(conditional.encode())])
    required = {"app": [[2, -9], [2, HSS_LMS]]}
    trusts = (product.trust(), product.trust(required=required))
    stores = [cbor2.loads(data).value["#trust"] for data in trusts]
    rich = cbor2.loads(stores[1])
    rich[2].append({1: leaf_kid, 2: HSS_LMS, 3: leaf.public, 4: [2]})
    stores.append(cbor.dumps(rich | {1: 7, 4: [bytes(32), bytes(range(32))], 5: [b"an authority"], 6: True}))
    found = {
        "keys": {
            "keys": [
                (key.kid, key.alg, key.public, roles)
                for key, roles in ((product.root, [1]), (product.release, [2]), (product.operator, [3]))
            ]
            + [(leaf_kid, HSS_LMS, leaf.public, [2])],
            "required": required,
            "hybrid": suit.parse(hybrid).digest,
            "vendor": device.VENDOR,
            "class": device.CLASS,
            "device": DEVICE,
            "now": NOW,
        },
        "cbor": [*envelopes[:3], index, stores[1], cbor.dumps({1: [1.5, -1, "é", None, True, 1 << 70], 2: {b"k": {}}})],
        "envelope": envelopes,
        "manifest": manifests,
        "trust": stores,
        "config": [config.payload, cbor.dumps({1: "b", 2: 1883, 3: False, 4: "http://h/", 5: "", 11: 12000}), b"\xa0"],
        "index": _indexes(packs),
        "packs": packs,
        "offer": _offer(rng, product),
    }
    return _hexed(found)


def _offer(rng: random.Random, product: device.Product) -> dict[str, Any]:
    """A provisioned device with release 1.0.0, and release 2.0.0 for it."""
    later = product.app(device.tree(rng, "2.0.0"), device.SEQUENCE + 1000)
    return device.hexed(
        {
            "now": NOW,
            "nvs": device.nvs(product),
            "trust": product.trust(),
            "config": product.config({}),
            "releases": {"1.0.0": product.app(device.tree(rng, "1.0.0"), device.SEQUENCE), "2.0.0": later},
        }
    )


def _hexed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _hexed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hexed(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value
