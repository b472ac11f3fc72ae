"""Read a release: its envelope, the packs beside it, and what its manifest says of each component."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cbor, core, pack, product, suit, trust_store
from .errors import GatehouseError
from .image import flash


@dataclass(frozen=True)
class SlotRelease:
    """A release as it lies in a slot: its envelope, index and files, verified."""

    envelope: bytes
    index: pack.Index
    files: dict[str, bytes]
    digest: bytes
    sequence: int


def load(item: product.Product, board: product.Board, path: Path | None = None) -> SlotRelease:
    """A release for the first slot, by default the newest of the product; every byte verified as the device will.

    GatehouseError where it is not by the product's release key, not for this board, or not what was signed.
    """
    if path is None:
        signed = [
            one
            for one in item.releases()
            if one.get("board") == board.name and one.get("components", ["app"]) == ["app"]
        ]
        if not signed:
            told = f"{item.name} has no release for board {board.name} to start with"
            other = "" if board.name == item.boards[0] else f" --board {board.name}"
            raise GatehouseError(f"{told}: gatehouse release --version 1.0.0{other}")
        path = item.dist / str(max(signed, key=lambda one: one["sequence"])["file"])
    data = product.read(path)
    envelope = suit.parse(data)
    store = trust_store.current(item)
    if envelope.digest not in store.keep:  # what is kept may run though its key is revoked
        signers = suit.verify(data, [entry.key for entry in store.of_role("release")])
        if store.chosen("app", signers) is None:
            told = f"{path} is not signed by all that devices ask for: {trust_store.needs_words(store.needs('app'))}"
            raise GatehouseError(told, "right")
    said = facts(envelope)
    if envelope.components != [[b"app"]]:
        raise GatehouseError(f"{path} is not the release of an application", "component")
    if said["vendor_id"] != item.vendor_id.bytes:
        raise GatehouseError(f"{path} is a release of another vendor", "vendor")
    if said["class_id"] != item.class_id(board).bytes:
        raise GatehouseError(f"{path} is not for board {board.model}", "class")
    index, files = pack.unpack(read_pack(path, envelope), str(pack_path(path, envelope)))
    return SlotRelease(data, index, files, envelope.digest, envelope.sequence)


def parts(envelope: suit.Envelope) -> list[dict[str, Any]]:
    """What a manifest says of each of its components, in order.

    name, vendor_id, class_id, device_id, digest, size, uri, use_before, no_return; None where it does not say. Read
    from the first override-parameters for the component in each sequence, where Gatehouse's releases have them.
    """
    found: list[dict[int, Any]] = [{} for _ in envelope.components]
    for name in ("shared", "payload-fetch", "install"):
        commands = envelope.sections.get(name) or []
        current: list[int] = [0]
        for code, argument in zip(commands[::2], commands[1::2], strict=True):
            if code == suit.SET_COMPONENT_INDEX:
                chosen = list(range(len(found))) if argument is True else argument
                current = chosen if isinstance(chosen, list) else [chosen]
            elif code == suit.OVERRIDE and isinstance(argument, dict):
                for index in current:
                    if type(index) is int and 0 <= index < len(found):
                        found[index] = argument | found[index]
    return [_told(item, names) for item, names in zip(found, envelope.components, strict=True)]


def _told(parameters: dict[int, Any], names: list[bytes]) -> dict[str, Any]:
    digest = parameters.get(suit.IMAGE_DIGEST)
    told = cbor.loads(digest, "parameter image-digest") if isinstance(digest, bytes) else None
    return {
        "name": "/".join(name.decode("ascii", "replace") for name in names),
        "vendor_id": parameters.get(suit.VENDOR),
        "class_id": parameters.get(suit.CLASS),
        "device_id": parameters.get(suit.DEVICE),
        "digest": told[1] if isinstance(told, list) and len(told) == 2 else None,
        "size": parameters.get(suit.IMAGE_SIZE),
        "uri": parameters.get(suit.URI),
        "use_before": parameters.get(suit.USE_BEFORE),
        "no_return": parameters.get(suit.NO_RETURN, False),
    }


def facts(envelope: suit.Envelope) -> dict[str, Any]:
    """What a manifest says of its first component: see parts()."""
    return (parts(envelope) or [_told({}, [])])[0]


def is_integrated(part: dict[str, Any]) -> bool:
    """Whether a component's payload lies in the envelope: its URI is a fragment."""
    return isinstance(part["uri"], str) and part["uri"].startswith("#")


def check_payload(part: dict[str, Any], envelope: suit.Envelope) -> bytes:
    """The integrated payload of a component. GatehouseError where it is missing, or not the one that was signed.

    A configuration is checked as devices check it.
    """
    payload = envelope.payloads.get(part["uri"])
    if payload is None:
        raise GatehouseError(f"the payload {part['uri']} is not in the envelope", "format")
    if hashlib.sha256(payload).digest() != part["digest"] or len(payload) != part["size"]:
        raise GatehouseError(f"the payload {part['uri']} is not the one that is signed", "digest")
    if part["name"] == "config":
        fields = cbor.loads(payload, "the configuration")
        if not isinstance(fields, dict):
            raise GatehouseError("the configuration is not a map", "format")
        core.check_config(fields)
    return payload


def check_packs(path: Path, envelope: suit.Envelope) -> dict[str, tuple[pack.Index, dict[str, bytes]]]:
    """Index and files of each component that has a pack, every byte verified, by the component's name.

    GatehouseError where a pack is not the signed one, is for another component, or the parts do not fit each other.
    """
    found = {}
    for part in parts(envelope):
        if is_integrated(part):
            continue
        beside = str(pack_path(path, envelope, part))
        index, files = pack.unpack(read_pack(path, envelope, part), beside)
        if index.component != part["name"]:
            raise GatehouseError(f"{beside} is of {index.component}, but signed as {part['name']}", "component")
        if index.component == "firmware":
            flash.check_app(files[pack.FIRMWARE], f"the image in {beside}")
        found[part["name"]] = (index, files)
    if "app" in found and "firmware" in found:
        pack.check_fit(found["app"][0], found["firmware"][0])
    return found


def rolls_back(item: product.Product, sequence: int, version: str | None) -> str | None:
    """The highest version of the application that was released before `sequence`, where `version` is lower than that.

    None where the release goes forward, or nothing is known of its version.
    """
    if version is None or product.numbers(version) is None:
        return None
    known = [one for one in item.releases() if one["sequence"] < sequence and "app" in one.get("components", ["app"])]
    before = max((str(one["version"]) for one in known), key=lambda text: product.numbers(text) or (), default=None)
    if before is None or (product.numbers(before) or ()) <= (product.numbers(version) or ()):
        return None
    return before


def version_of(envelope: suit.Envelope, name: str) -> str | None:
    """The version of a component in the manifest's text."""
    for texts in envelope.text.values():
        for component, told in texts.items():
            if component in ((name.encode(),), [name.encode()]) and isinstance(told, dict):
                version = told.get(6)
                return version if isinstance(version, str) else None
    return None


def pack_path(path: Path, envelope: suit.Envelope, part: dict[str, Any] | None = None) -> Path:
    """Where the pack of an envelope in a file lies: beside it, under the name that ends its URI.

    part: one of parts(), by default the first.
    """
    uri = (part or facts(envelope))["uri"]
    if not isinstance(uri, str) or uri.startswith("#") or not uri.rpartition("/")[2]:
        raise GatehouseError(f"{path} names no pack to fetch", "format")
    return path.parent / uri.rpartition("/")[2]


def read_pack(path: Path, envelope: suit.Envelope, part: dict[str, Any] | None = None) -> bytes:
    """The pack beside an envelope. GatehouseError("digest") unless its index is the one that was signed."""
    beside = pack_path(path, envelope, part)
    data = product.read(beside, f"the pack of {path.name} is expected beside it")
    index = pack.split(data, str(beside))
    said = part or facts(envelope)
    if index.digest != said["digest"] or len(index.data) != said["size"]:
        raise GatehouseError(f"{beside} is not the pack that {path.name} signs: the index has another digest", "digest")
    return data
