"""The boot record and the floors, as the device keeps them (docs/boot.md)."""

from __future__ import annotations

import binascii
from typing import Any

import cbor2

from .errors import GatehouseError

FIELDS = {1: "active", 2: "trial", 3: "tries", 4: "quiet", 5: "floors", 6: "outcome"}


def floors(digest: bytes, sequence: int) -> bytes:
    """The NVS blob `floors` of a device that leaves the factory with this release confirmed."""
    return cbor2.dumps(_floors(digest, sequence))


def _floors(digest: bytes, sequence: int) -> dict[int, Any]:
    return {1: {"app": [sequence, digest]}, 2: {}, 3: digest, 4: []}


def factory(digest: bytes, sequence: int, slot: str = "a") -> bytes:
    """`/state/boot.cbor` of a device that leaves the factory with this release (digest of its manifest) in `slot`."""
    release = [slot, digest, sequence, None, 1]
    body = cbor2.dumps({1: release, 2: None, 3: 0, 4: 0, 5: _floors(digest, sequence), 6: None})
    return binascii.crc32(body).to_bytes(4, "big") + body


def parse(data: bytes) -> dict[str, Any]:
    """The fields of a boot record by name. GatehouseError("state") when the bytes are not one."""
    if len(data) < 5 or int.from_bytes(data[:4], "big") != binascii.crc32(data[4:]):
        raise GatehouseError("boot record: the checksum does not match; the device rebuilds it from NVS", "state")
    fields = cbor2.loads(data[4:])
    return {name: fields[key] for key, name in FIELDS.items()}
