"""A device's flash in words, verified as its own boot would: by the anchors in it, from the root digest in NVS on."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from . import bootrecord, cbor, keys, pack, product, releases, suit, trust_store
from .errors import GatehouseError
from .image import flash, littlefs, nvs, stock
from .image import partitions as tables
from .image.partitions import Partition
from .inspect_files import Finding, Row, component_name, entry_words, envelope, trust_rows

SECRET = {"device_key", "tls_key", "wifi", "broker"}  # of NVS; told by their size only
_IDENTITY = {
    1: "id", 2: "vendor id", 3: "class id", 4: "uuid", 5: "model", 6: "hardware", 7: "domain", 8: "install alone",
    9: "button", 10: "light", 11: "eFuses", 12: "sensor",
}  # fmt: skip
_RECORD = "/state/boot.cbor"
_SECTOR = 4096
_PAGE_STATES = (b"\xfe\xff\xff\xff", b"\xfc\xff\xff\xff", b"\xf8\xff\xff\xff")  # active, full, freeing
# What every provisioned device has; the rest of NVS comes later or is optional.
_REQUIRED = ("identity", "device_key", "root", "tls_key", "tls_cert", "wifi", "floors")


def is_flash(data: bytes) -> bool:
    """True for a flash image."""
    return flash.looks_like(data)


def is_nvs(data: bytes) -> bool:
    """True for whole sectors that begin with a page of NVS, used or not."""
    return len(data) % _SECTOR == 0 and data[:4] in _PAGE_STATES


def is_boot_record(data: bytes) -> bool:
    """True for what begins as a boot record does: a CRC-32 and a map of nine whose first field is a release or null."""
    return data[4:6] == b"\xa9\x01" and data[6:7] in (b"\x85", b"\xf6")


def flash_image(data: bytes, item: product.Product | None) -> Finding:
    """A whole flash image: every part of it, and each slot's release verified."""
    found = Finding("flash", facts={"size": len(data)})
    parts = found.attempt("", flash.take_apart, data)
    if parts is None:
        return found
    found.add("Partitions", [(part.name, _partition_words(part)) for part, _ in parts.values()])
    _firmware(found, data, parts)
    values: dict[str, nvs.Value] = {}
    if "nvs" in parts:
        inner, values = _nvs(parts["nvs"][1])
        found.facts["identity"] = inner.facts.get("identity")
        found.include(inner, "NVS")
    if "otadata" in parts:
        entry = flash.parse_otadata(parts["otadata"][1])
        told = f"ota_{entry.slot}, {entry.state}, sequence {entry.sequence}" if entry else "none yet: the first starts"
        found.add("OTA choice", [("otadata", told)])
    if "vfs" in parts:
        read = found.attempt("vfs", littlefs.read, parts["vfs"][1])
        if read is not None:
            _file_system(found, read[0], values, item)
    return found


def _firmware(found: Finding, data: bytes, parts: dict[str, tuple[Partition, bytes]]) -> None:
    """Bootloader and applications, each with its checksums verified."""
    rows: list[Row] = []
    facts: dict[str, Any] = {}
    places = {f"bootloader at 0x{at:x}": data[at : tables.TABLE_OFFSET] for at in (0, 0x1000)}  # by chip
    places |= {part.name: held for part, held in parts.values() if part.type == tables.APP}
    for name, held in places.items():
        if name.startswith("bootloader") and held[:1] != stock.MAGIC:
            continue
        if not held.strip(b"\xff"):
            rows.append((name, "none"))
            continue
        one = found.attempt(name, stock.read_image, held, f"the image in {name}")
        rows.append((name, one.words() if one else "DAMAGED"))
        if one:
            facts[name.split()[0]] = {"chip": one.chip, "size": len(one.data), "version": one.version}
    found.add("Firmware", rows)
    found.facts["firmware"] = facts


def nvs_partition(data: bytes) -> Finding:
    """An NVS partition: names and sizes, secrets not shown."""
    return _nvs(data)[0]


def _nvs(data: bytes) -> tuple[Finding, dict[str, nvs.Value]]:
    found = Finding("nvs", facts={"size": len(data)})
    values = (found.attempt("", nvs.read_nvs, data) or {}).get(flash.NAMESPACE, {})
    rows: list[Row] = []
    for name, value in values.items():
        if not isinstance(value, bytes):
            rows.append((name, str(value)))
        elif name == "root":
            rows.append((name, f"sha-256:{value.hex()}"))
        else:
            rows.append((name, f"{len(value)} bytes{', secret' if name in SECRET else ''}"))
    found.add("Values", rows)
    for name in _REQUIRED:
        if name not in values:
            found.problems.append(GatehouseError(f"{name} is missing or damaged: provision this device", "state"))
    told = values.get("identity")
    if isinstance(told, bytes):
        fields = found.attempt("identity", cbor.loads, told, "its CBOR")
        if isinstance(fields, dict):
            shown = {_IDENTITY.get(key, str(key)): _identity_words(key, value) for key, value in fields.items()}
            found.add("Identity", list(shown.items()))
            found.facts["identity"] = shown
    return found, values


def boot_record(data: bytes) -> Finding:
    """The boot record alone."""
    found = Finding("boot record", facts={"size": len(data)})
    _record(found, "", data)
    return found


def _record(found: Finding, where: str, data: bytes) -> dict[str, Any] | None:
    """The fields of a boot record, told; None and a problem where it is not one."""
    record: dict[str, Any] | None = found.attempt(where, bootrecord.parse, data)
    rows = found.attempt(where, _record_rows, record) if record is not None else None
    if rows is None:
        return None
    found.add("Boot record", rows)
    return record


def _partition_words(part: Partition) -> str:
    return f"{part.kind():<14} 0x{part.offset:06x} to 0x{part.end:06x}, {part.size // 1024} KiB"


def _identity_words(key: int, value: Any) -> str:
    return str(uuid.UUID(bytes=value)) if isinstance(value, bytes) and len(value) == 16 else str(value)


def _record_rows(record: dict[str, Any]) -> list[Row]:
    def release(fields: Any) -> str:
        if not fields:
            return "none"
        return f"slot {fields[0]}, sequence {fields[2]}, manifest sha-256:{fields[1].hex()}, configuration {fields[4]}"

    floors = record["floors"]
    outcome = record["outcome"]
    rows = [("active", release(record["active"])), ("trial", release(record["trial"]))]
    rows += [("tries left", str(record["tries"])), ("boots since health", str(record["quiet"]))]
    rows += [("install floor", f"{name} {floor[0]}") for name, floor in floors[1].items()]
    rows += [("boot floor", f"{name} {floor}") for name, floor in floors[2].items()]
    rows += [("failed", digest.hex()) for digest in floors[4]]
    told = "none" if outcome is None else f"{outcome[0]}, reason {outcome[1]}, sequence {outcome[3]}"
    return [*rows, ("last update", told)]


def _file_system(
    found: Finding, files: dict[str, bytes], values: dict[str, nvs.Value], item: product.Product | None
) -> None:
    """The files: anchors first, since all else is verified by them."""
    core = [(path, f"{len(files[path])} bytes") for path in files if not path.startswith(("/slots/", "/state/"))]
    found.add("Core", core)
    known = found.attempt("/state/trust.suit", _anchors, found, files, values) or trust_store.Store(0, ())
    ours = [entry.key for store in trust_store.history(item) for entry in store.of_role("root")] if item else []
    if item and known.entries and not any(entry.key in ours for entry in known.entries):
        found.problems.append(GatehouseError("the device's root key is not the one of this product", "key"))
    for path in sorted(files):
        if path.startswith("/state/config-"):
            found.attempt(path, _signed, files[path], known, "config")
            inner = envelope(files[path], None)
            found.sections += [(path, rows) for title, rows in inner.sections if title == "Configuration"]
    if _RECORD not in files:
        found.problems.append(GatehouseError(f"{_RECORD} is missing; the device rebuilds it from NVS", "state"))
    record = _record(found, _RECORD, files[_RECORD]) if _RECORD in files else None
    found.facts["slots"] = {}
    for slot in ("a", "b"):
        root = f"/slots/{slot}/"
        held = {path.removeprefix(root): data for path, data in files.items() if path.startswith(root)}
        if held:
            found.facts["slots"][slot] = found.attempt(f"/slots/{slot}", _slot, found, slot, held, known)
        else:
            found.add(f"Slot {slot}", [("release", "none")])
    _named(found, record)


def _anchors(found: Finding, files: dict[str, bytes], values: dict[str, nvs.Value]) -> trust_store.Store:
    """The trust store, verified from the root digest in NVS on."""
    data = files.get("/state/trust.suit")
    if data is None:
        raise GatehouseError("missing: provision this device", "state")
    payload = suit.parse(data).payloads.get("#trust", b"")
    store = trust_store.parse(payload)
    found.add("Trust anchors", trust_rows(cbor.loads(payload, "its payload")))
    roots: list[keys.PublicKey] = []  # none, where they are not those that NVS names
    pinned = values.get("root")  # two digests, where a rotation was cut short
    if isinstance(pinned, bytes) and store.root_digest() in (pinned[:32], pinned[32:]):
        roots = [entry.key for entry in store.of_role("root")]
    if store.chosen("trust", suit.verify(data, roots)) is None:
        told = f"the trust store is not signed by what it requires: {trust_store.needs_words(store.needs('trust'))}"
        raise GatehouseError(told, "right")
    return store


def _signed(data: bytes, known: trust_store.Store, component: str) -> suit.Envelope:
    """The envelope, once it is for `component` and signed by a key that may write it."""
    parsed = suit.parse(data)
    if [component_name(parts) for parts in parsed.components] != [component]:
        raise GatehouseError(f"not a manifest for {component}", "component")
    if parsed.digest in known.keep:
        return parsed
    signers = suit.verify(data, [entry.key for entry in known.entries])
    if known.chosen(component, signers) is None:
        raise GatehouseError(f"not signed by {trust_store.needs_words(known.needs(component))}", "right")
    return parsed


def _slot(found: Finding, slot: str, held: dict[str, bytes], known: trust_store.Store) -> dict[str, Any]:
    """One slot: manifest, index, each file, and no other file."""
    rows: list[Row] = []
    found.add(f"Slot {slot}", rows)
    for name in ("manifest.suit", "index.cbor"):
        if name not in held:
            rows.append(("release", f"incomplete: no {name}; {len(held)} files of an update that is not finished"))
            return {"complete": False}
    parsed = suit.parse(held["manifest.suit"])
    index = pack.parse_index(held["index.cbor"])
    rows += [("release", f"{index.name} {index.version}"), ("sequence", str(parsed.sequence))]
    rows.append(("manifest", f"sha-256:{parsed.digest.hex()}"))
    listed = {"manifest.suit", "index.cbor"}
    good = found.attempt(f"slot {slot}", _signed, held["manifest.suit"], known, "app") is not None
    rows.append(("signature", "verified" if good else "NOT VERIFIED"))
    if releases.facts(parsed)["digest"] != index.digest:
        good = False
        found.problems.append(GatehouseError(f"slot {slot}: index.cbor is not the one that is signed", "digest"))
    for entry in index.entries:
        listed.add(entry.path)
        data = held.get(entry.path, b"")
        whole = len(data) == entry.size and hashlib.sha256(data).digest() == entry.digest
        rows.append((entry.path, f"{'ok ' if whole else 'BAD'} {entry_words(entry)}"))
        if not whole:
            good = False
            found.problems.append(GatehouseError(f"slot {slot}: {entry.path} is not what was signed", "digest"))
    for path in sorted(set(held) - listed):
        good = False
        found.problems.append(GatehouseError(f"slot {slot}: {path} is not in the index", "extraneous"))
    return {"complete": True, "verified": good, "version": index.version, "digest": parsed.digest.hex()}


def _named(found: Finding, record: dict[str, Any] | None) -> None:
    """The release that the record calls active must be in its slot."""
    if not record or not record["active"]:
        return
    slot, digest = record["active"][0], record["active"][1].hex()
    held = found.facts["slots"].get(slot) or {}
    if held.get("digest") != digest:
        found.problems.append(GatehouseError(f"the active release {digest[:16]} is not in slot {slot}", "state"))
