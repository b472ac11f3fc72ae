"""Read a release: its envelope, the pack beside it, and what its manifest says of the application."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cbor, pack, product, suit
from .errors import GatehouseError


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
        signed = [one for one in item.releases() if one.get("board") == board.name]
        if not signed:
            told = f"{item.name} has no release for board {board.name} to start with"
            raise GatehouseError(f"{told}: gatehouse release --version 1.0.0")
        path = item.dist / str(max(signed, key=lambda one: one["sequence"])["file"])
    data = product.read(path)
    suit.verify(data, [key for role, key in item.public_keys().items() if role == "release"])
    envelope = suit.parse(data)
    said = facts(envelope)
    if envelope.components != [[b"app"]]:
        raise GatehouseError(f"{path} is not the release of an application", "component")
    if said["vendor_id"] != item.vendor_id.bytes:
        raise GatehouseError(f"{path} is a release of another vendor", "vendor")
    if said["class_id"] != item.class_id(board).bytes:
        raise GatehouseError(f"{path} is not for board {board.model}", "class")
    index, files = pack.unpack(read_pack(path, envelope), str(pack_path(path, envelope)))
    return SlotRelease(data, index, files, envelope.digest, envelope.sequence)


def facts(envelope: suit.Envelope) -> dict[str, Any]:
    """What a release's manifest says of its first component: vendor_id, class_id, digest, size, uri, use_before.

    Read from the first override-parameters of each sequence, where Gatehouse's releases have them; None where not.
    """
    parameters: dict[int, Any] = {}
    for name in ("shared", "payload-fetch", "install"):
        commands = envelope.sections.get(name) or []
        for code, argument in zip(commands[::2], commands[1::2], strict=True):
            if code == suit.OVERRIDE and isinstance(argument, dict):
                parameters = argument | parameters
    digest = parameters.get(suit.IMAGE_DIGEST)
    told = cbor.loads(digest, "parameter image-digest") if isinstance(digest, bytes) else None
    return {
        "vendor_id": parameters.get(suit.VENDOR),
        "class_id": parameters.get(suit.CLASS),
        "device_id": parameters.get(suit.DEVICE),
        "digest": told[1] if isinstance(told, list) and len(told) == 2 else None,
        "size": parameters.get(suit.IMAGE_SIZE),
        "uri": parameters.get(suit.URI),
        "use_before": parameters.get(suit.USE_BEFORE),
    }


def pack_path(path: Path, envelope: suit.Envelope) -> Path:
    """Where the pack of an envelope in a file lies: beside it, under the name that ends its URI."""
    uri = facts(envelope)["uri"]
    if not isinstance(uri, str) or uri.startswith("#") or not uri.rpartition("/")[2]:
        raise GatehouseError(f"{path} names no pack to fetch", "format")
    return path.parent / uri.rpartition("/")[2]


def read_pack(path: Path, envelope: suit.Envelope) -> bytes:
    """The pack beside an envelope. GatehouseError("digest") unless its index is the one that was signed."""
    beside = pack_path(path, envelope)
    data = product.read(beside, f"the pack of {path.name} is expected beside it")
    index = pack.split(data, str(beside))
    said = facts(envelope)
    if index.digest != said["digest"] or len(index.data) != said["size"]:
        raise GatehouseError(f"{beside} is not the pack that {path.name} signs: the index has another digest", "digest")
    return data
