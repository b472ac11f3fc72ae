"""What a file is, in words, and whether it is what it should be: envelopes, packs, indexes, reports.

Flash images and their parts are in inspect_flash.py. Nothing here prints.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import cbor, core, keys, pack, product, releases, reports, sbom_reference, suit, trust_store
from .errors import GatehouseError
from .image import flash

Row = tuple[str, str]
NO_PRODUCT = "signature not checked: no product here; give --product DIR"


@dataclass
class Finding:
    """What was found in a file. `problems` are what is wrong with it; `notes` are what could not be checked."""

    kind: str
    sections: list[tuple[str, list[Row]]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[GatehouseError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    indexes: dict[str, pack.Index] = field(default_factory=dict)  # that were read, by component

    def add(self, title: str, rows: list[Row]) -> None:
        """One more section."""
        self.sections.append((title, rows))

    def attempt(self, where: str, step: Any, *arguments: Any) -> Any:
        """The result of `step`, or None and one problem more that begins with `where`."""
        try:
            return step(*arguments)
        except GatehouseError as error:
            told, reason = str(error), error.reason
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # Readers for people take their input apart without asking for each type; a file can hold any.
            told, reason = f"not of the expected form ({type(error).__name__})", "format"
        self.problems.append(GatehouseError(f"{where}: {told}" if where else told, reason))
        return None

    def include(self, other: Finding, where: str) -> None:
        """Take over another finding, as a part of this one."""
        self.sections += [(f"{where}: {title}", rows) for title, rows in other.sections]
        self.problems += [GatehouseError(f"{where}: {error}", error.reason) for error in other.problems]
        self.notes += [f"{where}: {note}" for note in other.notes]


def inspect(path: Path, item: product.Product | None) -> Finding:
    """Look at a file. GatehouseError when it cannot be read or is nothing that Gatehouse makes."""
    from . import inspect_flash

    data = product.read(path)
    if not data:
        raise GatehouseError(f"{path} is empty", "format")
    if inspect_flash.is_flash(data):
        return inspect_flash.flash_image(data, item)
    if inspect_flash.is_nvs(data):
        return inspect_flash.nvs_partition(data)
    if inspect_flash.is_boot_record(data):
        return inspect_flash.boot_record(data)
    if data[:2] == b"\xd8\x6b":
        return envelope(data, item, path)
    if data[:2] == b"\xd8\x3d":
        return report(data, item)
    if data[:2] == b"\xa6\x01":
        return index(data)
    if data[4:6] == b"\xa6\x01":
        return whole_pack(data)
    told = f"{path} is no envelope, pack, index, report, boot record, NVS or flash image"
    raise GatehouseError(f"{told}; it begins with {data[:8].hex()}", "format")


def envelope(data: bytes, item: product.Product | None, path: Path | None = None) -> Finding:
    """A SUIT envelope; with `path` the pack beside it too. Its signers are checked where there is a product."""
    found = Finding("envelope", facts={"size": len(data)})
    parsed = found.attempt("", suit.parse, data)
    if parsed is None:
        return found
    names = [component_name(parts) for parts in parsed.components]
    known: dict[str, keys.PublicKey] = {}
    stores = trust_store.history(item) if item else []
    for store in stores if names == ["trust"] else stores[-1:]:
        known |= store.named()
    found.add("Envelope", suit.describe(data, known))
    found.facts |= {"digest": parsed.digest.hex(), "sequence": parsed.sequence, "components": names}
    if item:
        signers = found.attempt("", suit.verify, data, known.values())
        if signers is not None:
            _rights(found, names, stores[-1], known, signers)
            if names == ["trust"]:
                found.attempt("", trust_store.check_envelope, item, data)
    else:
        found.notes.append(NO_PRODUCT)
    for uri, payload in parsed.payloads.items():
        _payload(found, uri, payload)
    version = releases.version_of(parsed, "app")
    before = releases.rolls_back(item, parsed.sequence, version) if item else None
    if before:
        found.notes.append(f"an authorised roll back: sequence number higher, version lower ({before} to {version})")
    for part in found.attempt("", releases.parts, parsed) or []:
        if part["no_return"] is True:
            found.notes.append("no return: once this is confirmed, the release before it must not run again")
        if releases.is_integrated(part):
            found.attempt("", releases.check_payload, part, parsed)
        elif path:
            _release_pack(found, path, parsed, part)
    if path:
        _bill(found, path, parsed)
    if path and not found.problems:
        _fit(found)
    return found


def whole_pack(data: bytes) -> Finding:
    """A pack, every file in it verified."""
    found = Finding("pack", facts={"size": len(data)})
    parsed = found.attempt("", pack.split, data)
    if parsed is not None:
        _files(found, data, parsed)
    return found


def index(data: bytes) -> Finding:
    """An index alone."""
    found = Finding("index", facts={"size": len(data)})
    parsed = found.attempt("", pack.parse_index, data)
    if parsed is not None:
        _index(found, parsed)
        found.add("Files", [(entry.path, entry_words(entry)) for entry in parsed.entries])
    return found


def report(data: bytes, item: product.Product | None) -> Finding:
    """A device's report, its MAC verified where the product holds the device's report key."""
    found = Finding("report", facts={"size": len(data)})
    held = reports.known_devices(item.devices) if item else {}
    told = None
    if item:
        told = found.attempt("", reports.verify, data, held)
    else:
        found.notes.append(NO_PRODUCT.replace("signature", "MAC"))
    verified = told is not None
    if told is None and not any(problem.reason == "format" for problem in found.problems):
        told = found.attempt("", reports.unverified, data)
    if told is not None:
        state = "verified, by its report key" if verified else "NOT VERIFIED: nothing below is proved"
        found.add("Report", [("device", told.device), ("MAC", state), *flat(told.claims)])
        found.facts |= {"device": told.device, "verified": verified, "claims": told.claims}
    return found


def component_name(parts: list[bytes]) -> str:
    """A component id as text."""
    return "/".join(part.decode("ascii", "replace") for part in parts)


def entry_words(entry: pack.Entry) -> str:
    """Sizes, encoding and digest of one file."""
    return f"{entry.size:>7} bytes, {pack.ENCODINGS[entry.encoding]:<7} {entry.stored:>7}, sha-256:{entry.digest.hex()}"


def flat(value: Any, prefix: str = "") -> list[Row]:
    """Nested maps as rows, the path of names as the label."""
    rows: list[Row] = []
    for name, inner in value.items():
        label = f"{prefix}{name}"
        if isinstance(inner, dict):
            rows += flat(inner, label + ".")
        else:
            rows.append((label, ", ".join(map(str, inner)) or "none" if isinstance(inner, list) else str(inner)))
    return rows


def _rights(
    found: Finding,
    names: list[str],
    store: trust_store.Store,
    known: dict[str, keys.PublicKey],
    signers: list[keys.PublicKey],
) -> None:
    """A problem for each component that is not signed by the keys that may write it."""
    by = [name for name, key in known.items() if key in signers]
    found.facts["signers"] = by
    for name in names:
        if name in trust_store.RIGHTS and (name == "trust" or store.chosen(name, signers)):
            continue
        wanted = f"the {trust_store.RIGHTS.get(name, 'right')} key"
        if name in store.required:
            wanted = f"all of {trust_store.needs_words(store.needs(name))}"
        found.problems.append(GatehouseError(f"signed by {', '.join(by)}, but {name} takes {wanted}", "right"))


def _payload(found: Finding, uri: str, payload: bytes) -> None:
    """The integrated payloads that Gatehouse knows, in words."""
    if uri == "#config":
        found.attempt("configuration", _config, found, payload)
    elif uri == "#trust":
        rows = found.attempt("trust anchors", lambda: trust_rows(cbor.loads(payload, "their payload")))
        found.add("Trust anchors", rows or [])


def _config(found: Finding, payload: bytes) -> None:
    names, fields = core.config_names(), cbor.loads(payload, "its payload")
    found.add("Configuration", [(names.get(key, str(key)), str(value)) for key, value in fields.items()])


def trust_rows(fields: dict[int, Any]) -> list[Row]:
    """A trust store in words."""
    roles = {number: role for role, number in trust_store.ROLES.items()}
    rows = [("version", str(fields.get(1)))]
    for key in fields.get(2, []):
        names = ", ".join(roles.get(number, str(number)) for number in key[4])
        rows.append(("key", f"{key[1].hex()}, {keys.NAMES.get(key[2], key[2])}, for {names}"))
    for name, needs in fields.get(3, {}).items():
        rows.append(("requires", f"{name}: {trust_store.needs_words(needs)}"))
    rows += [("keeps", digest.hex()) for digest in fields.get(4, [])]
    rows += [("TLS authority", f"sha-256:{hashlib.sha256(der).hexdigest()}") for der in fields.get(5, [])]
    return rows + ([("dev", "flagged: a key with the role dev signs applications")] if fields.get(6) else [])


def _fit(found: Finding) -> None:
    """Whether an application can run on the firmware that comes with it."""
    if "app" in found.indexes and "firmware" in found.indexes:
        found.attempt("", pack.check_fit, found.indexes["app"], found.indexes["firmware"])


def _release_pack(found: Finding, path: Path, parsed: suit.Envelope, part: dict[str, Any]) -> None:
    beside = found.attempt("", releases.pack_path, path, parsed, part)
    if beside is None:
        return
    if not beside.exists():
        found.notes.append(f"files not checked: the pack {beside.name} is not beside the envelope")
        return
    data = found.attempt("", releases.read_pack, path, parsed, part)
    if data is not None:
        found.facts["pack"] = str(beside)
        index = pack.split(data)
        if index.component != part["name"]:
            told = f"{beside.name} is of {index.component}, but signed as {part['name']}"
            found.problems.append(GatehouseError(told, "component"))
        _files(found, data, index)


def _bill(found: Finding, path: Path, parsed: suit.Envelope) -> None:
    """The bill of materials beside an envelope."""
    bill = sbom_reference.reference_in(parsed)
    if bill is None:
        return
    before = len(found.problems)
    data = found.attempt("", bill.check, path.parent)
    if len(found.problems) == before:
        if data is None:
            found.notes.append(f"bill of materials not checked: {bill.name} is not beside the envelope")
        else:
            found.facts["sbom"] = str(path.parent / bill.name)


def _index(found: Finding, parsed: pack.Index) -> None:
    found.indexes[parsed.component] = parsed
    firmware = parsed.component == "firmware"
    found.facts |= {
        "name": parsed.name,
        "version": parsed.version,
        "index_sha256": parsed.digest.hex(),
        "files": [{"path": one.path, "size": one.size, "sha256": one.digest.hex()} for one in parsed.entries],
    }
    found.add(
        "Firmware" if firmware else "Index",
        [
            ("firmware" if firmware else "application", f"{parsed.name} {parsed.version}"),
            ("provides", f"core {parsed.core}, .mpy version {parsed.mpy}")
            if firmware
            else ("needs", f"core {parsed.core} or later, .mpy version {parsed.mpy}"),
            ("digest", f"sha-256:{parsed.digest.hex()} over {len(parsed.data)} bytes"),
            ("files", f"{len(parsed.entries)}, {sum(one.size for one in parsed.entries)} bytes"),
        ],
    )


def _files(found: Finding, data: bytes, parsed: pack.Index) -> None:
    """Each file of a pack, verified; every bad one is a problem of its own."""
    _index(found, parsed)
    rows = []
    for entry in parsed.entries:
        plain = found.attempt("", pack.body, data, entry, parsed)
        good = plain is not None
        if plain is not None and parsed.component == "firmware":
            before = len(found.problems)
            found.attempt("", flash.check_app, plain, "the image")
            good = len(found.problems) == before
        rows.append((entry.path, f"{'ok ' if good else 'BAD'} {entry_words(entry)}"))
    found.add("Files", rows)
