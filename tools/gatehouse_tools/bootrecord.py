"""The boot record and the floors, as the device keeps them (docs/boot.md)."""

from __future__ import annotations

import binascii
from typing import Any

import cbor2

from .errors import GatehouseError

FIELDS = {
    1: "active",
    2: "trial",
    3: "tries",
    4: "quiet",
    5: "floors",
    6: "outcome",
    7: "update",
    8: "configs",
    9: "last",
}
FACTORY = 1  # the configuration generation that provisioning writes

Others = dict[str, tuple[int, bytes]]  # component -> (sequence number, for trust its version; manifest digest)


def floors(digest: bytes, sequence: int, others: Others | None = None) -> bytes:
    """The NVS blob `floors` of a device that leaves the factory with this application and `others` confirmed."""
    return cbor2.dumps(_floors(digest, sequence, others))


def _floors(digest: bytes, sequence: int, others: Others | None) -> dict[int, Any]:
    confirmed = {"app": (sequence, digest)} | (others or {})
    names = sorted(confirmed, key=cbor2.dumps)  # as deterministic CBOR has them
    return {1: {name: list(confirmed[name]) for name in names}, 2: {}, 3: digest, 4: []}


def factory(digest: bytes, sequence: int, slot: str = "a", others: Others | None = None) -> bytes:
    """`/state/boot.cbor` of a device that leaves the factory with this release (digest of its manifest) in `slot`."""
    release = [slot, digest, sequence, None, FACTORY]
    told = _floors(digest, sequence, others)
    body = cbor2.dumps({1: release, 2: None, 3: 0, 4: 0, 5: told, 6: None, 7: None, 8: {}, 9: FACTORY})
    return binascii.crc32(body).to_bytes(4, "big") + body


def parse(data: bytes) -> dict[str, Any]:
    """The fields of a boot record by name. GatehouseError("state") when the bytes are not one."""
    if len(data) < 5 or int.from_bytes(data[:4], "big") != binascii.crc32(data[4:]):
        raise GatehouseError("boot record: the checksum does not match; the device rebuilds it from NVS", "state")
    fields = cbor2.loads(data[4:])
    return {name: fields[key] for key, name in FIELDS.items()}
