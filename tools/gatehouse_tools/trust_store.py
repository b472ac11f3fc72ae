"""Trust stores on the host: which key may write which component, version after version, in the product's trust.json.

A store is what lib/gatehouse/trust.py reads. Version 1 is made of the keys that `gatehouse init` made, and is written
down when it is first signed; every later one is made by `gatehouse trust next`. Nothing in trust.json is secret.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import ca, cbor, keys, lms_keys, product, suit
from .errors import GatehouseError

FILE = "trust.json"
ROLES = {"root": 1, "release": 2, "operator": 3, "dev": 4}  # numbers of the trust store
RIGHTS = {"app": "release", "firmware": "release", "config": "operator", "trust": "root"}
GOVERNS = {"root": ("trust",), "release": ("app", "firmware"), "operator": ("config",)}
MAX_KEYS, MAX_KEEP, MAX_TLS, MAX_NEEDS = 8, 16, 4, 4  # of a store on a device (lib/gatehouse/trust.py)
MAX_ENVELOPE = 8192  # bytes; what the device's parser takes
_MANIFEST = 320  # bytes of a trust store's envelope besides payload and signatures, rounded up
_BLOCK = 32  # bytes of an authentication block besides its signature, rounded up
URI = "#trust"

Need = tuple[int, int]  # role number, COSE algorithm or 0 for any


@dataclass(frozen=True)
class Entry:
    """One key of a store: its name here, roles, and the private file relative to the product, None where unknown."""

    name: str
    key: keys.PublicKey
    roles: tuple[str, ...]
    file: str | None = None


@dataclass(frozen=True)
class Store:
    """One version of the trust store. required: component -> needs; keep: manifest digests; tls: authorities in DER.

    dev: for development, where one key with the role dev is enough for an application; production builds refuse it.
    """

    version: int
    entries: tuple[Entry, ...]
    required: dict[str, list[Need]] = field(default_factory=dict)
    keep: tuple[bytes, ...] = ()
    tls: tuple[bytes, ...] = ()
    created: str = ""
    changes: tuple[str, ...] = ()
    dev: bool = False

    def named(self) -> dict[str, keys.PublicKey]:
        """Its keys by name."""
        return {entry.name: entry.key for entry in self.entries}

    def of_role(self, role: str) -> list[Entry]:
        """The entries with a role."""
        return [entry for entry in self.entries if role in entry.roles]

    def needs(self, component: str) -> list[Need]:
        """What must have signed a component; GatehouseError("component") where nobody may write it."""
        if component in self.required:
            return self.required[component]
        if component not in RIGHTS:
            raise GatehouseError(f"nobody may write {component}", "component")
        return [(ROLES[RIGHTS[component]], 0)]

    def chosen(self, component: str, held: Iterable[keys.PublicKey]) -> list[Entry] | None:
        """The first entries among the keys `held` that satisfy a component, one for each need; None if none do."""
        held = list(held)
        if self.dev and component == "app":
            found = [entry for entry in self.of_role("dev") if entry.key in held]
            if found:
                return found[:1]
        return _choose(self.needs(component), [entry for entry in self.entries if entry.key in held])

    def payload(self) -> bytes:
        """The payload of the component ["trust"]."""
        fields: dict[int, Any] = {
            1: self.version,
            2: [
                {1: entry.key.kid, 2: entry.key.alg, 3: entry.key.public, 4: [ROLES[role] for role in entry.roles]}
                for entry in self.entries
            ],
        }
        if self.required:
            fields[3] = {name: [list(need) for need in needs] for name, needs in self.required.items()}
        if self.keep:
            fields[4] = list(self.keep)
        if self.tls:
            fields[5] = list(self.tls)
        if self.dev:
            fields[6] = True
        return cbor.dumps(fields)

    def root_digest(self) -> bytes:
        """What NVS holds as "root": see root_digest()."""
        return root_digest((entry.key.public for entry in self.of_role("root")), self.required.get("trust"))

    def problems(self) -> list[str]:
        """Why devices would refuse the store, or could never be changed again under it."""
        found = []
        counts = [
            (len(self.entries), MAX_KEYS, "keys"),
            (len(self.keep), MAX_KEEP, "manifests to keep"),
            (len(self.tls), MAX_TLS, "TLS authorities"),
            (max(map(len, self.required.values()), default=0), MAX_NEEDS, "signatures for one component"),
        ]
        found += [f"{count} {what}, and a device takes {most}" for count, most, what in counts if count > most]
        if self.of_role("dev") and not self.dev:
            names = " ".join(f"--revoke {entry.name}" for entry in self.of_role("dev"))
            found.append(f"a key with the role dev signs nothing in a store that is not flagged dev: {names}, or --dev")
        if not self.tls:
            found.append("no TLS authority: devices could not reach a broker")
        for component in sorted({*RIGHTS, *self.required}):
            if self.chosen(component, [entry.key for entry in self.entries]) is None:
                found.append(f"no keys could ever sign {component} again: {needs_words(self.needs(component))}")
        return found


def root_digest(publics: Iterable[bytes], needs: Sequence[Need] | None = None) -> bytes:
    """SHA-256 over the root keys' public bytes, sorted, and behind them required["trust"] as CBOR where there is one.

    For one root key without a requirement that is SHA-256 of the key.
    """
    tail = cbor.dumps([list(need) for need in needs]) if needs else b""
    return hashlib.sha256(b"".join(sorted(publics)) + tail).digest()


def parse(payload: bytes) -> Store:
    """The store in a payload, keys named by their key ids. GatehouseError("format") where it is none."""
    fields = cbor.loads(payload, "the trust store")
    names = {number: role for role, number in ROLES.items()}
    try:
        entries = tuple(
            Entry(row[1].hex(), keys.PublicKey(row[2], row[3]), tuple(names[number] for number in row[4]))
            for row in fields[2]
        )
        required = {name: [(need[0], need[1]) for need in needs] for name, needs in fields.get(3, {}).items()}
        keep, tls, dev = tuple(fields.get(4, [])), tuple(fields.get(5, [])), fields.get(6, False) is True
        return Store(int(fields[1]), entries, required, keep, tls, dev=dev)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise GatehouseError("the trust store is not of the expected form", "format") from None


def history(item: product.Product) -> list[Store]:
    """All versions, oldest first. Before the first is signed: the one that the keys in keys/ will make."""
    path = item.root / FILE
    if not path.exists():
        return [_first(item)]
    told = product.read_json(path)
    try:
        found = [_load(row) for row in told["versions"]]
        if found and [store.version for store in found] == list(range(1, len(found) + 1)):
            return found
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        pass  # told below
    raise GatehouseError(f"{path} is damaged: restore it, or the next version may be one that was used", "format")


def current(item: product.Product) -> Store:
    """The newest version."""
    return history(item)[-1]


def save(item: product.Product, stores: Sequence[Store]) -> None:
    """Write the history down."""
    product.write(item.root / FILE, product.json_bytes({"versions": [_dump(store) for store in stores]}))


def signers(item: product.Product, store: Store, role: str) -> list[keys.Signer]:
    """The private keys of a role that are here. GatehouseError("key") says which file is missing or another key."""
    found = []
    entries = store.of_role(role)
    here = [entry for entry in entries if entry.file and (item.root / entry.file).exists()]
    for entry in here or entries[:1]:
        found.append(_signer(item, entry, role))
    if not found:
        told = f"{item.keys / role}.pem: no such key"
        raise GatehouseError(f"{told}; `gatehouse init` makes the keys of a product", "key")
    return found


def signed(item: product.Product, board: product.Board) -> bytes:
    """The newest store, signed for one board. It is kept in dist/, so that the root keys are needed once."""
    stores = history(item)
    path = envelope_path(item, board, stores[-1])
    if path.exists():
        data = path.read_bytes()
        if _is_signed(stores[-1], data):
            return data
    try:
        return sign(item, board, stores)
    except GatehouseError as error:
        if len(stores) == 1 or error.reason != "key":
            raise
        # An old root key may be gone for good. New devices start with this store, and its own keys do for them.
        return sign(item, board, stores, alone=True)


def sign(
    item: product.Product, board: product.Board, stores: Sequence[Store], since: int | None = None, alone: bool = False
) -> bytes:
    """Sign the last of `stores` for a board: see signers_of(). `alone`: without what the stores before it ask.

    The store stands in trust.json before a signature exists. GatehouseError("key") names the key that is missing,
    ("size") says that the envelope would be too large; then nothing is left of it.
    """
    store = stores[-1]
    wanted = signers_of(item, stores[-1:] if alone else stores, since)
    if len(wanted) > suit.MAX_BLOCKS:
        raise GatehouseError(f"{len(wanted)} root keys would have to sign, and devices take {suit.MAX_BLOCKS}", "size")
    held = held_signers(item, wanted)
    component = suit.Component("trust", payload=store.payload())
    blocks = [_block_size(signer.key) for signer in held]
    if len(store.payload()) + sum(blocks) + _MANIFEST > MAX_ENVELOPE:
        told = f"the signed store would be larger than the {MAX_ENVELOPE} bytes that devices take"
        raise GatehouseError(f"{told}: HSS/LMS root keys of width W8 have shorter signatures", "size")
    save(item, stores)
    kind = item.class_id(board).bytes
    data = suit.build_envelope(int(time.time()), [component], item.vendor_id.bytes, kind, held)
    product.make_folder(item.dist)
    product.write(envelope_path(item, board, store), data)
    return data


def signers_of(item: product.Product, stores: Sequence[Store], since: int | None = None) -> list[Entry]:
    """Who signs the last of `stores`: what itself asks of "trust", and what the one before it asks; a device demands
    both. Root keys that are new sign too, which proves that somebody has them.

    since: the oldest version that devices may still have, whose requirement is met too; by default the one before.
    """
    store, before = stores[-1], list(stores[-2:-1])
    if since is not None:
        before = [one for one in stores[:-1] if one.version >= since]
    return _signing(item, store, before)


def held_signers(item: product.Product, entries: Iterable[Entry]) -> list[keys.Signer]:
    """The private root keys of entries. GatehouseError("key") names the first that is missing."""
    return [_signer(item, entry, "root") for entry in entries]


def envelope_path(item: product.Product, board: product.Board, store: Store) -> Path:
    """Where the signed store of a board lies."""
    return item.dist / f"trust-{board.name}-{store.version}.suit"


def check_envelope(item: product.Product, data: bytes) -> None:
    """Judge a signed store of ours as a device with the version before it will.

    GatehouseError: "key" or "right" where not the right root keys signed, "digest" where trust.json has another store.
    """
    payload = suit.parse(data).payloads.get(URI)
    if payload is None:
        raise GatehouseError("the trust store is not in the envelope", "format")
    store, stores = parse(payload), history(item)
    if not 0 < store.version <= len(stores):
        raise GatehouseError(f"{FILE} has no version {store.version}", "digest")
    if stores[store.version - 1].payload() != payload:
        raise GatehouseError(f"version {store.version} in {FILE} is another trust store", "digest")
    for one in stores[max(0, store.version - 2) : store.version]:
        by = suit.verify(data, [entry.key for entry in one.of_role("root")])
        if one.chosen("trust", by) is None:
            told = f"not signed by what trust store {one.version} requires: {needs_words(one.needs('trust'))}"
            raise GatehouseError(told, "right")


def needs_words(needs: Iterable[Need]) -> str:
    """Needs for people, as --require takes them: "release:ecdsa+release:lms"."""
    names = {number: role for role, number in ROLES.items()}
    words = {0: "any", keys.ESP256: "ecdsa", keys.HSS_LMS: "lms"}
    return "+".join(f"{names.get(role, role)}:{words.get(alg, alg)}" for role, alg in needs)


def new_version(store: Store, **changes: Any) -> Store:
    """The version after `store`, with changes of its fields."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()
    return dataclasses.replace(store, version=store.version + 1, created=now, **changes)


def _choose(needs: Sequence[Need], entries: list[Entry]) -> list[Entry] | None:
    if not needs:
        return []
    role, algorithm = needs[0]
    for entry in entries:
        if role in [ROLES[name] for name in entry.roles] and algorithm in (0, entry.key.alg):
            rest = _choose(needs[1:], [other for other in entries if other.key.public != entry.key.public])
            if rest is not None:
                return [entry, *rest]
    return None


def _block_size(key: keys.PublicKey) -> int:
    size = 64 if key.alg == keys.ESP256 else lms_keys.Parameters.of(key.public).signature_size
    return size + _BLOCK


def _signing(item: product.Product, store: Store, before: Sequence[Store]) -> list[Entry]:
    """The entries that sign a store. Keys that are here come first; one that is not is named when it is loaded."""
    wanted: list[Entry] = []
    for one in (*before, store):
        here = [entry.key for entry in one.entries if entry.file and (item.root / entry.file).exists()]
        chosen = one.chosen("trust", here) or one.chosen("trust", [entry.key for entry in one.entries])
        wanted += chosen or []
    if before:
        known = [entry.key for entry in before[-1].of_role("root")]
        wanted += [entry for entry in store.of_role("root") if entry.key not in known]
    return list({entry.key: entry for entry in wanted}.values())


def _signer(item: product.Product, entry: Entry, role: str) -> keys.Signer:
    if entry.file is None:
        told = f"the private half of {role} key {entry.key.kid.hex()} ({entry.name}) is not known here"
        raise GatehouseError(f"{told}: put it in keys/ and name it in {FILE}", "key")
    signer = keys.load(item.root / entry.file, item.ledger)
    if signer.key != entry.key:
        told = f"{item.root / entry.file} is not the {role} key {entry.key.kid.hex()} of the trust store"
        raise GatehouseError(f"{told}: restore it, or bring it in: gatehouse trust next --add-key", "key")
    return signer


def _is_signed(store: Store, data: bytes) -> bool:
    """Whether an envelope holds exactly this store, signed as itself asks: what a new device verifies."""
    try:
        by = suit.verify(data, [entry.key for entry in store.of_role("root")])
        return store.chosen("trust", by) is not None and suit.parse(data).payloads.get(URI) == store.payload()
    except GatehouseError:
        return False


def _first(item: product.Product) -> Store:
    """Version 1: the keys in keys/ by their roles, both algorithms required where a role has both."""
    entries: list[Entry] = []
    required: dict[str, list[Need]] = {}
    for role in GOVERNS:
        number = ROLES[role]
        found = [path for path in (item.keys / f"{role}.pem", item.keys / f"{role}.lms") if _public_file(path)]
        for path in found:
            name = role if path is found[0] else f"{role}-lms"
            key = keys.load_public(_public_file(path) or path)
            entries.append(Entry(name, key, (role,), str(path.relative_to(item.root))))
        if len(found) > 1:
            required |= {name: [(number, keys.ESP256), (number, keys.HSS_LMS)] for name in GOVERNS[role]}
    authority = item.ca / "ca.pem"
    tls = (ca.der(ca.load_certificate(authority)),) if authority.exists() else ()
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat()
    return Store(1, tuple(entries), required, (), tls, now, ("the keys of gatehouse init",))


def _public_file(path: Path) -> Path | None:
    """Where the public half of a key can be read: in its own file, or for HSS/LMS in the one beside it."""
    return next((one for one in (path, path.with_name(path.name + ".pub")) if one.exists()), None)


def _dump(store: Store) -> dict[str, Any]:
    return {
        "version": store.version,
        "created": store.created,
        "changes": list(store.changes),
        "keys": [
            {
                "name": entry.name,
                "kid": entry.key.kid.hex(),
                "roles": list(entry.roles),
                "algorithm": entry.key.alg,
                "public": entry.key.public.hex(),
                "file": entry.file,
            }
            for entry in store.entries
        ],
        "required": {name: [list(need) for need in needs] for name, needs in store.required.items()},
        "keep": [digest.hex() for digest in store.keep],
        "tls": [der.hex() for der in store.tls],
        "dev": store.dev,
    }


def _load(row: dict[str, Any]) -> Store:
    entries = tuple(
        Entry(
            str(one["name"]),
            keys.PublicKey(int(one["algorithm"]), bytes.fromhex(one["public"])),
            tuple(role for role in one["roles"] if ROLES[role]),
            None if one["file"] is None else str(one["file"]),
        )
        for one in row["keys"]
    )
    required = {str(name): [(int(a), int(b)) for a, b in needs] for name, needs in row["required"].items()}
    keep, tls = (tuple(bytes.fromhex(text) for text in row[name]) for name in ("keep", "tls"))
    changes = tuple(map(str, row["changes"]))
    dev = row.get("dev", False) is True  # histories from before the flag have none
    return Store(int(row["version"]), entries, required, keep, tls, str(row["created"]), changes, dev)


def names(stores: Sequence[Store]) -> set[str]:
    """Every key name that was ever given."""
    return {entry.name for entry in itertools.chain(*(store.entries for store in stores))}
