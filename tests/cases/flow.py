"""Releases for the installer's flow: an honest one, another, and manifests that only the signer could write."""

import random
from typing import Any

from cases import device, unpack
from gatehouse_tools import suit

SEQUENCE = device.SEQUENCE + 1000


def make(rng: random.Random) -> dict[str, Any]:
    product = device.Product()
    made = unpack.of_files(device.tree(rng, "2.0.0"))
    component = suit.Component("app", made["digest"], made["size"], "demo.pack")

    def of(manifest: suit.Manifest) -> dict[str, Any]:
        return device.release(suit.wrap(manifest.encode(), [product.release]), made, SEQUENCE)

    def plain() -> suit.Manifest:
        manifest = suit.release_manifest(SEQUENCE, [component], device.VENDOR, device.CLASS)
        manifest.text = None
        return manifest

    index = [suit.SET_COMPONENT_INDEX, 0]
    twice = plain()
    twice.sections["payload-fetch"] = twice.sections["install"]
    writes = plain()
    writes.sections["install"] = [
        *index,
        suit.OVERRIDE,
        {suit.CONTENT: b"x"},
        suit.WRITE,
        2,
        *twice.sections["install"],
    ]
    return device.hexed(
        {
            "now": device.NOW,
            "nvs": device.nvs(product),
            "trust": product.trust(),
            "config": product.config({}),
            "releases": {"1.0.0": product.app(device.tree(rng, "1.0.0"), device.SEQUENCE)},
            "honest": of(plain()),
            "other": product.app(device.tree(rng, "2.1.0"), SEQUENCE + 1),
            "fetches twice": of(twice),
            "writes": of(writes),
        }
    )
