"""Releases with an application image: alone, with an application, with an application that needs the new core."""

import hashlib
import random
from typing import Any

from cases import device, unpack
from gatehouse_tools import cbor, pack, suit
from gatehouse_tools.image import flash

SEQUENCE, NOW = device.SEQUENCE + 1000, device.NOW
IMAGE = 3 * 4096


def make(rng: random.Random) -> dict[str, Any]:
    product = device.Product()
    files = device.tree(rng, "1.0.0") | {"more.bin": rng.randbytes(2000)}

    def image(label: str, core: str) -> dict[str, Any]:
        index, whole = pack.build_firmware(flash.stand_in_app(label, IMAGE), "demo", "2.0.0", core)
        return {"pack": whole, "digest": hashlib.sha256(index.data).digest(), "size": len(index.data)}

    def component(made: dict[str, Any]) -> suit.Component:
        return suit.Component("firmware", made["digest"], made["size"], "fw.pack")

    def app(needs: str = "1.0.0") -> tuple[dict[str, Any], suit.Component]:
        unpack.VERSION = "1.0.0"
        made = unpack.of_files(files)
        if needs != "1.0.0":
            size = int.from_bytes(made["pack"][:4], "big")
            index = cbor.loads(made["pack"][4 : 4 + size]) | {4: needs}
            data = cbor.dumps(index)
            made = made | {
                "pack": len(data).to_bytes(4, "big") + data + made["pack"][4 + size :],
                "digest": hashlib.sha256(data).digest(),
                "size": len(data),
            }
        return made, suit.Component("app", made["digest"], made["size"], "demo.pack")

    def envelope(sequence: int, *components: suit.Component, **packs: dict[str, Any]) -> dict[str, Any]:
        signers = [product.release, product.operator]
        data = suit.build_envelope(sequence, list(components), device.VENDOR, device.CLASS, signers)
        return {
            "envelope": data,
            "manifest": suit.parse(data).digest,
            "sequence": sequence,
            "packs": {"fw.pack": packs["fw"]["pack"], "demo.pack": packs.get("app", {}).get("pack", b"")},
        }

    same, newer = image("the new one", "1.0.5"), image("a later core", "1.1.0")
    made, old_core = app()
    modern, new_core = app("1.1.0")
    config = suit.Component("config", payload=cbor.dumps({10: 99}))
    foreign = image("another major version", "2.0.0")
    return device.hexed(
        {
            "now": NOW,
            "nvs": device.nvs(product),
            "trust": product.trust(),
            "config": product.config({10: 77}),
            "releases": {"1.0.0": product.app(device.tree(rng, "1.0.0"), device.SEQUENCE)},
            "image": flash.stand_in_app("the new one", IMAGE),
            "offers": {
                "image": envelope(SEQUENCE, component(same), fw=same),
                "image and app": envelope(SEQUENCE, component(newer), new_core, fw=newer, app=modern),
                "image, app and config": envelope(SEQUENCE, component(same), old_core, config, fw=same, app=made),
                "app for a later core": envelope(SEQUENCE, new_core, fw=same, app=modern),
                "image that the app cannot run on": envelope(SEQUENCE, component(foreign), fw=foreign),
                "app behind its image": envelope(SEQUENCE, new_core, component(newer), fw=newer, app=modern),
            },
        }
    )
