"""A provisioned device and releases for it, made with the host's own tools. Bytes are written as "hex:..." text."""

import hashlib
import random
from typing import Any

from cases import unpack
from gatehouse_tools import bootrecord, cbor, keys, suit

DOMAIN, BOARD = "gatehouse.example", "UNIX_SIM"
SEQUENCE = 1_790_000_000
NOW = SEQUENCE + 5000

VENDOR, CLASS = suit.vendor_uuid(DOMAIN).bytes, suit.class_uuid(DOMAIN, BOARD).bytes


class Product:
    """Keys of a vendor, and what it signs."""

    def __init__(self) -> None:
        self.root, self.release, self.operator = (keys.generate() for _ in range(3))
        self.vendor, self.cls = VENDOR, CLASS

    def sign(self, sequence: int, component: suit.Component, *signers: keys.Signer) -> bytes:
        return suit.build_envelope(sequence, [component], self.vendor, self.cls, signers)

    def trust(
        self, *signers: keys.Signer, required: dict[str, Any] | None = None, spare: tuple[Any, ...] = ()
    ) -> bytes:
        entries = [(self.root, [1]), (self.release, [2]), (self.operator, [3]), *spare]
        store: dict[int, Any] = {
            1: 1,
            2: [{1: key.kid, 2: key.alg, 3: key.public, 4: roles} for key, roles in entries],
        }
        if required:
            store[3] = required
        return self.sign(SEQUENCE, suit.Component("trust", payload=cbor.dumps(store)), *(signers or (self.root,)))

    def config(self, fields: dict[int, Any], *signers: keys.Signer) -> bytes:
        return self.sign(SEQUENCE, suit.Component("config", payload=cbor.dumps(fields)), *(signers or (self.operator,)))

    def app(self, files: dict[str, bytes], sequence: int, *signers: keys.Signer, squeeze: bool = True, **more: Any):
        """One release: envelope, pack and what a test compares with."""
        made = unpack.of_files(files, squeeze)
        component = suit.Component("app", made["digest"], made["size"], "demo.pack", **more)
        envelope = self.sign(sequence, component, *(signers or (self.release,)))
        return release(envelope, made, sequence)


def release(envelope: bytes, made: dict[str, Any], sequence: int) -> dict[str, Any]:
    digest = suit.parse(envelope).digest
    return {
        "envelope": envelope,
        "pack": made["pack"],
        "index": made["pack"][4 : 4 + made["size"]],
        "digest": made["digest"],
        "size": made["size"],
        "files": made.get("files", {}),
        "sequence": sequence,
        "manifest": digest,
        "record": bootrecord.factory(digest, sequence),
        "floors": bootrecord.floors(digest, sequence),
    }


def hexed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: hexed(item) for key, item in value.items()}
    return "hex:" + value.hex() if isinstance(value, bytes) else value


def tree(rng: random.Random, version: str) -> dict[str, bytes]:
    """A small application; versions share one file and differ in the others."""
    return {
        "app.mpy": b"app " + version.encode() * 300,
        "pkg/same.mpy": b"the same in each version " * 40,
        "pkg/data.bin": rng.randbytes(3000),
        "version.txt": version.encode(),
    }


def versions(product: Product, rng: random.Random) -> dict[str, Any]:
    """1.0.0 .. 1.2.0 by rising sequence number; each tree carries its version in the index."""
    made = {}
    for number, version in enumerate(("1.0.0", "1.0.5", "1.1.0", "1.2.0")):
        unpack.VERSION = version
        made[version] = product.app(tree(rng, version), SEQUENCE + 100 * number)
    unpack.VERSION = "1.0.0"
    return made


def nvs(product: Product) -> dict[str, bytes]:
    identity = {1: "gh-test", 2: VENDOR, 3: CLASS, 4: bytes(range(16)), 5: BOARD, 6: "1", 7: DOMAIN}
    return {
        "identity": cbor.dumps(identity),
        "device_key": bytes(range(32)),
        "root": hashlib.sha256(product.root.public).digest(),
    }


def make(rng: random.Random) -> dict[str, Any]:
    product, other = Product(), Product()
    return hexed(
        {
            "now": NOW,
            "trial_s": 77,
            "nvs": nvs(product),
            "trust": product.trust(),
            "config": product.config({10: 77}),
            "other_trust": other.trust(),
            "other_config": other.config({10: 78}),
            "releases": versions(product, rng),
        }
    )
