"""What the demonstration tries on a device: each function makes the attack's files and leaves the honest ones alone."""

from __future__ import annotations

from pathlib import Path

from .. import keys, pack, product, releases, suit
from ..errors import GatehouseError


def tamper(pack_file: Path, running: Path) -> tuple[str, int]:
    """Flip one bit in a pack, in the largest file that the pack `running` has not: what is the same is not fetched.

    Returns the path of the file that is hit, and the place of the byte in the pack.
    """
    data = bytearray(pack_file.read_bytes())
    index = pack.split(bytes(data), str(pack_file))
    known = {item.digest for item in pack.split(running.read_bytes(), str(running)).entries}
    entry = max((item for item in index.entries if item.digest not in known), key=lambda item: item.stored)
    at = 4 + len(index.data) + entry.offset + entry.stored // 2
    data[at] ^= 0x01
    pack_file.write_bytes(data)
    return entry.path, at


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
    sequence = suit.parse(envelope.read_bytes()).sequence + 1
    target.write_bytes(suit.build_envelope(sequence, [_component(envelope)], vendor_id, class_id, [signer]))
    return target


def dated(envelope: Path, signer: keys.Signer, item: product.Product, sequence: int) -> Path:
    """The same application for the same board, rightly signed, with a sequence number of another day."""
    target = envelope.with_name(f"dated-{sequence}.suit")
    ids = (item.vendor_id.bytes, item.class_id(item.board()).bytes)
    target.write_bytes(suit.build_envelope(sequence, [_component(envelope)], *ids, [signer]))
    return target


def _component(envelope: Path) -> suit.Component:
    """What a manifest says of its application."""
    said = releases.facts(suit.parse(envelope.read_bytes()))
    if not said["digest"] or not isinstance(said["uri"], str):
        raise GatehouseError(f"{envelope} names no application", "format")
    return suit.Component("app", digest=said["digest"], size=said["size"], uri=said["uri"])


def _wrap(envelope: Path, target: Path, signer: keys.Signer) -> Path:
    data = envelope.read_bytes()
    fields = suit.cbor.loads(data).value
    manifest = fields.pop(suit.MANIFEST)
    fields.pop(suit.AUTHENTICATION)
    payloads = {key: value for key, value in fields.items() if isinstance(key, str)}
    members = {key: value for key, value in fields.items() if not isinstance(key, str)}
    target.write_bytes(suit.wrap(manifest, [signer], members=members, payloads=payloads))
    return target
