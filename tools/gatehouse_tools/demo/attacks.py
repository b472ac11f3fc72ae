"""What the demonstration tries on a device: each function makes the attack's files and leaves the honest ones alone."""

from __future__ import annotations

from pathlib import Path

from .. import keys, pack, suit
from ..errors import GatehouseError


def tamper(pack_file: Path, running: Path) -> str:
    """Flip one bit in a pack, in the largest file that the pack `running` has not: what is the same is not fetched.

    Returns the path of the file that is hit.
    """
    data = bytearray(pack_file.read_bytes())
    index = pack.split(bytes(data), str(pack_file))
    known = {item.digest for item in pack.split(running.read_bytes(), str(running)).entries}
    entry = max((item for item in index.entries if item.digest not in known), key=lambda item: item.stored)
    data[4 + len(index.data) + entry.offset + entry.stored // 2] ^= 0x01
    pack_file.write_bytes(data)
    return entry.path


def resign(envelope: Path, signer: keys.Signer, target: Path) -> Path:
    """The same manifest, signed by somebody else: only the authentication block differs."""
    return _wrap(envelope, target, signer)


def impostor(known: keys.Signer) -> keys.Signer:
    """A new key that goes by the key id of a known one."""
    signer = keys.generate()
    signer.kid = known.kid
    return signer


def for_board(envelope: Path, signer: keys.Signer, vendor_id: bytes, class_id: bytes, target: Path) -> Path:
    """The same application for another board, rightly signed and one sequence number on: only the class is wrong."""
    found = suit.parse(envelope.read_bytes())
    shared = found.sections["shared"]
    if shared is None:
        raise GatehouseError(f"{envelope} has no shared sequence", "format")
    parameters = next(shared[at + 1] for at in range(0, len(shared), 2) if shared[at] == suit.OVERRIDE)
    component = suit.Component(
        "app",
        digest=suit.cbor.loads(parameters[suit.IMAGE_DIGEST])[1],
        size=parameters[suit.IMAGE_SIZE],
        uri=envelope.with_suffix(".pack").name,
    )
    target.write_bytes(suit.build_envelope(found.sequence + 1, [component], vendor_id, class_id, [signer]))
    return target


def _wrap(envelope: Path, target: Path, signer: keys.Signer) -> Path:
    data = envelope.read_bytes()
    fields = suit.cbor.loads(data).value
    manifest = fields.pop(suit.MANIFEST)
    fields.pop(suit.AUTHENTICATION)
    payloads = {key: value for key, value in fields.items() if isinstance(key, str)}
    members = {key: value for key, value in fields.items() if not isinstance(key, str)}
    target.write_bytes(suit.wrap(manifest, [signer], members=members, payloads=payloads))
    return target
