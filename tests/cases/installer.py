"""Offers to a provisioned device: each attack with the reason that it must be refused for."""

import hashlib
import random
from typing import Any

from cases import device, unpack
from gatehouse_tools import cbor, suit

SEQUENCE, NOW = device.SEQUENCE + 1000, device.NOW


def altered(item: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return item | changes


def slim(item: dict[str, Any]) -> dict[str, Any]:
    """What an offer needs; MicroPython's JSON parser is slow on long strings."""
    return {name: item[name] for name in ("envelope", "pack", "sequence", "manifest")}


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def make(rng: random.Random) -> dict[str, Any]:
    product, stranger = device.Product(), device.Product()
    files = device.tree(rng, "2.0.0")
    honest = product.app(files, SEQUENCE)
    made = unpack.of_files(files, True)

    def signed(component: suit.Component, *signers: Any, sequence: int = SEQUENCE) -> dict[str, Any]:
        envelope = product.sign(sequence, component, *(signers or (product.release,)))
        return device.release(envelope, made, sequence)

    def app(**fields: Any) -> suit.Component:
        return suit.Component("app", made["digest"], made["size"], "demo.pack", **fields)

    def of(manifest: suit.Manifest) -> dict[str, Any]:
        return device.release(suit.wrap(manifest.encode(), [product.release]), made, SEQUENCE)

    def plain() -> suit.Manifest:
        return suit.release_manifest(SEQUENCE, [app()], device.VENDOR, device.CLASS)

    def other_ids(vendor: bytes, cls: bytes) -> dict[str, Any]:
        envelope = suit.build_envelope(SEQUENCE, [app()], vendor, cls, [product.release])
        return device.release(envelope, made, SEQUENCE)

    def of_pack(evil: dict[str, Any]) -> dict[str, Any]:
        component = suit.Component("app", evil["digest"], evil["size"], "demo.pack")
        return device.release(product.sign(SEQUENCE, component, product.release), evil, SEQUENCE)

    def of_entry(path: str) -> dict[str, Any]:
        data = b"evil"
        return of_pack(unpack.pack([[path, 4, hashlib.sha256(data).digest(), 4, 0]], [data]))

    def of_index(**fields: Any) -> dict[str, Any]:
        index = {1: 1, 2: "demo", 3: "2.0.0", 4: "1.0.0", 5: 6, 6: [["a", 0, hashlib.sha256(b"").digest(), 0, 0]]}
        data = cbor.dumps(index | {int(key[1:]): value for key, value in fields.items()})
        return of_pack(
            {"pack": len(data).to_bytes(4, "big") + data, "digest": hashlib.sha256(data).digest(), "size": len(data)}
        )

    def without(section: str) -> dict[str, Any]:
        manifest = plain()
        del manifest.sections[section]
        return of(manifest)

    unmatched = plain()
    for section in ("install", "validate"):
        commands = unmatched.sections[section]
        unmatched.sections[section] = commands[:-2]
    unconditional = plain()
    unconditional.shared = list(unconditional.shared[:4])

    envelope = honest["envelope"]
    signature = envelope.index(b"\x58\x40") + 2 + 10  # inside the 64 bytes of the signature
    manifest = envelope.index(bytes.fromhex("0101021a")) + 6  # inside the sequence number
    text = b"".join(b"line %d that deflates well\n" % number for number in range(300))

    offers = {
        "stranger": ("key", altered(honest, envelope=stranger.sign(SEQUENCE, app(), stranger.release))),
        "stranger with our key id": ("key", altered(honest, envelope=suit.wrap(plain().encode(), [stranger.release]))),
        "no signature": ("key", altered(honest, envelope=suit.wrap(plain().encode(), []))),
        "operator signs an application": ("right", signed(app(), product.operator)),
        "root signs an application": ("right", signed(app(), product.root)),
        "flipped signature": ("signature", altered(honest, envelope=flip(envelope, signature))),
        "flipped manifest": ("digest", altered(honest, envelope=flip(envelope, manifest))),
        "truncated": ("format", altered(honest, envelope=envelope[:-1])),
        "longer": ("format", altered(honest, envelope=envelope + b"\0")),
        "endless": ("format", altered(honest, envelope=envelope + bytes(9000))),
        "older": ("sequence", signed(app(), sequence=device.SEQUENCE - 1)),
        "same sequence, other release": ("sequence", signed(app(), sequence=device.SEQUENCE)),
        "far future": ("sequence", signed(app(), sequence=NOW + 86401)),
        "other vendor": ("vendor", other_ids(suit.vendor_uuid("other.example").bytes, device.CLASS)),
        "other class": ("class", other_ids(device.VENDOR, suit.class_uuid(device.DOMAIN, "OTHER").bytes)),
        "other device": ("device", signed(app(device_id=bytes(16)))),
        "expired": ("expired", signed(app(use_before=NOW - 1))),
        "firmware without partitions": ("component", signed(suit.Component("firmware", b"\0" * 32, 1, "x"))),
        "unknown component": ("component", signed(suit.Component("bootloader", b"\0" * 32, 1, "x"))),
        "nothing matched": ("condition", of(unmatched)),
        "no identity conditions": ("condition", of(unconditional)),
        "nothing invoked": ("condition", without("invoke")),
        "nothing installed": ("state", without("install")),
        "tampered pack": ("digest", altered(honest, pack=flip(honest["pack"], len(honest["pack"]) - 5))),
        "tampered index": ("digest", altered(honest, pack=flip(honest["pack"], 60))),
        "mixed pack": ("size", altered(honest, pack=unpack.of_files({"app.mpy": b"x"})["pack"])),
        "short pack": ("network", altered(honest, pack=honest["pack"][:-1])),
        "traversal": ("path", of_entry("../../boot.py")),
        "absolute path": ("path", of_entry("/boot.py")),
        "manifest in the pack": ("path", of_entry("manifest.suit")),
        "core shadowed": ("module", of_entry("gatehouse/suit.mpy")),
        "built-in shadowed": ("module", of_entry("hashlib.mpy")),
        "newer core needed": ("core", of_index(_4="1.0.1")),
        "other .mpy version": ("mpy", of_index(_5=7)),
        "bomb": ("size", of_pack(unpack.one(text, unpack.deflate(text + bytes(1_000_000))))),
        "larger than a file may be": (
            "size",
            of_pack(unpack.pack([["a", 1 << 21, bytes(32), 1 << 21, 0, [bytes(32)] * 2]], [])),
        ),
    }
    twins = {
        "honest": honest,
        "equal to the day": signed(app(), sequence=NOW + 86399),
        "not expired": signed(app(use_before=NOW + 1)),
        "this device": signed(app(device_id=bytes(range(16)))),
        "two signers": signed(app(), product.operator, product.release),
    }
    both = product.trust(required={"app": [[2, -9], [3, -9]]})
    return device.hexed(
        {
            "now": NOW,
            "nvs": device.nvs(product),
            "trust": product.trust(),
            "trust_both": both,
            "config": product.config({}),
            "releases": {"1.0.0": product.app(device.tree(rng, "1.0.0"), device.SEQUENCE)},
            "offers": {name: slim(item) | {"reason": reason} for name, (reason, item) in offers.items()},
            "twins": {name: slim(item) for name, item in twins.items()},
        }
    )
