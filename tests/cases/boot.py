"""What somebody with the flash in hand can leave there, boot record included: only the signatures stand against it."""

import random
from typing import Any

from cases import device, unpack
from cases.device import SEQUENCE
from gatehouse_tools import cbor, suit


def make(rng: random.Random) -> dict[str, Any]:
    product, stranger = device.Product(), device.Product()
    made = unpack.of_files(device.tree(rng, "1.0.0"))

    def app(name: str = "app") -> suit.Component:
        return suit.Component(name, made["digest"], made["size"], "demo.pack")

    def plain(name: str = "app") -> suit.Manifest:
        return suit.release_manifest(SEQUENCE, [app(name)], device.VENDOR, device.CLASS)

    def of(envelope: bytes) -> dict[str, Any]:
        return device.release(envelope, made, SEQUENCE)

    def signed(manifest: suit.Manifest, *signers: Any) -> dict[str, Any]:
        return of(suit.wrap(manifest.encode(), signers or [product.release], members=manifest.members()))

    def for_others(vendor: bytes, cls: bytes) -> dict[str, Any]:
        return of(suit.build_envelope(SEQUENCE, [app()], vendor, cls, [product.release]))

    def without_identity(manifest: suit.Manifest) -> suit.Manifest:
        manifest.shared = list((manifest.shared or [])[:4])
        return manifest

    honest = of(product.sign(SEQUENCE, app(), product.release))
    envelope = bytearray(honest["envelope"])
    envelope[envelope.index(b"\x58\x40") + 12] ^= 1  # inside the 64 bytes of the signature
    uninvoked = plain()
    del uninvoked.sections["invoke"]
    releases = {
        "unsigned": ("key", of(suit.wrap(plain().encode()))),
        "by a stranger": ("key", signed(plain(), stranger.release)),
        "flipped signature": ("signature", honest | {"envelope": bytes(envelope)}),
        "by the operator": ("right", signed(plain(), product.operator)),
        "for another component": ("component", signed(plain("config"), product.release, product.operator)),
        "not invoked": ("condition", signed(uninvoked)),
        "without identity": ("condition", signed(without_identity(plain()))),
        "other vendor": ("vendor", for_others(bytes(16), device.CLASS)),
        "other class": ("class", for_others(device.VENDOR, bytes(16))),
    }

    payload = cbor.dumps({10: 78})

    def config(*signers: Any, name: str = "config", **fields: Any) -> bytes:
        component = suit.Component(name, payload=payload, uri="#config", **fields)
        return product.sign(SEQUENCE, component, *(signers or (product.operator,)))

    bare = suit.release_manifest(SEQUENCE, [suit.Component("config", payload=payload)], device.VENDOR, device.CLASS)
    configs = {
        "by a stranger": ("key", config(stranger.operator)),
        "by the release key": ("right", config(product.release)),
        "for another component": ("component", config(product.operator, product.release, name="app")),
        "other payload": ("digest", config(digest=bytes(32))),
        "other size": ("digest", config(size=len(payload) + 1)),
        "without identity": (
            "condition",
            suit.wrap(without_identity(bare).encode(), [product.operator], payloads={"#config": payload}),
        ),
    }
    return device.hexed(
        {
            "now": device.NOW,
            "nvs": device.nvs(product),
            "trust": product.trust(),
            "config": config(),
            "releases": {"honest": honest} | {name: item for name, (_, item) in releases.items()},
            "reasons": {name: reason for name, (reason, _) in releases.items()},
            "configs": {name: item for name, (_, item) in configs.items()},
            "config_reasons": {name: reason for name, (reason, _) in configs.items()},
            "thief": {
                "trust": stranger.trust(),
                "config": stranger.config({}),
                "release": of(stranger.sign(SEQUENCE, app(), stranger.release)),
            },
        }
    )
