"""The event log of a device (docs/journal.md): its entries from where they are, and what is wrong with their chain.

An entry counts as the device's own when its tag is by the device's journal key. What no key can show is that entries
are missing at the end: for that verify() is told what is known from elsewhere, such as a report or a collector.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import sqlite3
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import cbor, cose, product
from .errors import GatehouseError
from .image import flash, littlefs, nvs

MAX_MESSAGE = 2048  # bytes on the journal topic
MAX_ENTRIES = 8  # in a message
_MAX_ENTRY = 256  # bytes; lib/gatehouse/journal.py writes no longer one
TAG = 16  # bytes
_HEADER = 20  # of a segment: number of the entry before its first, and that one's tag
_SEGMENT = "/state/journal-"
_ENTRIES = "SELECT number, entry, tag, before FROM journal WHERE device = ?"
_HEADS = """
    SELECT DISTINCT json_extract(claims, '$.journal.last') AS last, json_extract(claims, '$.journal.tag')
    FROM reports WHERE device = ? AND alarm IS NULL AND last > 0
"""
_LATER = 2  # owner epochs beyond the one that is known for which keys are tried

# What can be wrong, as stable codes.
FORMAT = "format"  # no message or segment of a journal
CHANGE = "change"  # an entry that is not what the device wrote
GAP = "gap"  # entries are missing between others, and the device says nothing of it
TRUNCATED = "truncated"  # it ends before an entry that is known to exist
ANCHOR = "anchor"  # it does not go on from what is known: another history
FORK = "fork"  # two entries of one number, or one that follows another than is here: set back, or two devices
EPOCH = "epoch"  # of an owner epoch that has ended, or whose key is not here
KEY = "key"  # nothing of it is by a key that is here


@dataclass(frozen=True)
class Record:
    """An entry as it came: its number by its place, its bytes, its tag and the tag of the entry before."""

    number: int
    entry: bytes
    tag: bytes
    before: bytes


@dataclass(frozen=True)
class Known:
    """An entry that is known to exist, and who knows it; `tag` where that is known too."""

    number: int
    tag: bytes | None
    where: str


@dataclass(frozen=True)
class Entry:
    """What an entry that is by the device says. `time` is Unix seconds, None while its clock was not set."""

    number: int
    time: int | None
    boot: int
    event: str
    details: list[Any]
    epoch: int


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, with the number of the entry where it shows."""

    reason: str
    number: int
    detail: str


@dataclass
class Finding:
    """The entries that are by the device, what is wrong, and what a reader should know."""

    entries: list[Entry] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    head: Known | None = None  # the last entry, if nothing is wrong: what may be anchored

    def fault(self, reason: str, number: int, detail: str) -> None:
        """Add one."""
        self.faults.append(Fault(reason, number, detail))


# Where entries come from.


def parse_message(payload: bytes) -> list[Record]:
    """The entries in a message of the journal topic. GatehouseError("format") for what is none."""
    if len(payload) > MAX_MESSAGE:
        raise GatehouseError(f"a journal message of {len(payload)} bytes: there are {MAX_MESSAGE} at most", FORMAT)
    match cbor.loads(payload, "journal message"):
        case [int(), [_, *_] as items, bytes() as before] if len(items) <= MAX_ENTRIES and len(before) == TAG:
            pass
        case _:
            raise GatehouseError("not a journal message", FORMAT)
    pairs = []
    for item in items:
        match item:
            case [bytes() as entry, bytes() as tag] if 0 < len(entry) <= _MAX_ENTRY and len(tag) == TAG:
                pairs.append((entry, tag))
            case _:
                raise GatehouseError("a journal message whose entries are none", FORMAT)
    # An altered entry may say any number: the others tell where it stands.
    told = [number - at for at, (entry, _) in enumerate(pairs) if (number := _number(entry)) is not None]
    if not told:
        raise GatehouseError("a journal message none of whose entries has a number", FORMAT)
    return list(_chained(statistics.mode(told), before, pairs))


def parse_segment(data: bytes, name: str) -> tuple[list[Record], str]:
    """(entries, what is wrong with its form or "") of a segment of the device's flash."""
    if len(data) < _HEADER:
        return [], f"{name} is cut off inside its header" if data else ""  # empty: a power cut leaves it so
    number, before, at = int.from_bytes(data[:4], "big") + 1, data[4:_HEADER], _HEADER
    pairs = []
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        entry, tag = data[at + 2 : at + 2 + size], data[at + 2 + size : at + 2 + size + TAG]
        if not 0 < size <= _MAX_ENTRY or len(tag) < TAG:
            break
        pairs.append((entry, tag))
        at += 2 + size + TAG
    wrong = f"{name}: {len(data) - at} bytes behind entry {number + len(pairs) - 1} are no entry"
    return list(_chained(number, before, pairs)), wrong if at < len(data) else ""


def _chained(number: int, before: bytes, pairs: list[tuple[bytes, bytes]]) -> Iterator[Record]:
    for entry, tag in pairs:
        yield Record(number, entry, tag, before)
        number, before = number + 1, tag


def _number(entry: bytes) -> int | None:
    try:
        return _read(entry, 0).number
    except GatehouseError:
        return None


def _read(data: bytes, epoch: int) -> Entry:
    match cbor.loads(data, "journal entry"):
        case [int() as number, (int() | None) as when, int() as boot, str() as event, *details]:
            return Entry(number, when, boot, event, details, epoch)
    raise GatehouseError("a journal entry of another form", FORMAT)


@dataclass(frozen=True)
class Image:
    """The journal in a flash image, and what else of it matters here."""

    device: str
    records: list[Record]
    faults: list[Fault]
    known: list[Known]
    device_key: bytes | None
    epoch: int


def from_image(data: bytes) -> Image:
    """The journal in a flash image. GatehouseError where it is no image of a device."""
    parts = flash.take_apart(data)
    if "vfs" not in parts or "nvs" not in parts:
        raise GatehouseError("the image has no file system or no NVS: it is not of a device", FORMAT)
    values = nvs.read_nvs(parts["nvs"][1]).get(flash.NAMESPACE, {})
    identity = values.get("identity")
    fields = cbor.loads(identity, "identity in NVS") if isinstance(identity, bytes) else {}
    files = littlefs.read(parts["vfs"][1])[0]
    numbers = sorted(int(path[len(_SEGMENT) :]) for path in files if path.startswith(_SEGMENT))
    records: list[Record] = []
    faults = []
    for number in numbers:
        found, wrong = parse_segment(files[f"{_SEGMENT}{number}"], f"segment journal-{number}")
        records += found
        if wrong:
            faults.append(Fault(FORMAT, found[-1].number if found else 0, wrong))
    acked, key, epoch = values.get("acked", 0), values.get("device_key"), values.get("epoch", 0)
    known = [Known(acked, None, "NVS, of what a broker acknowledged,")] if isinstance(acked, int) and acked else []
    return Image(
        str(fields.get(1, "")), records, faults, known, key if isinstance(key, bytes) else None,
        epoch if isinstance(epoch, int) else 0,
    )  # fmt: skip


def from_database(path: Path, device: str) -> tuple[list[Record], list[Known]]:
    """What a collector has stored of a device: entries, and the heads that its reports told (`gatehouse collect`).

    GatehouseError where that is not there.
    """
    if not path.is_file():
        raise GatehouseError(f"{path} is not there: give the database file of a collector")
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(database):
            rows = database.execute(_ENTRIES, (device,)).fetchall()
            heads = database.execute(_HEADS, (device,)).fetchall()
        records = [Record(number, bytes(entry), bytes(tag), bytes(before)) for number, entry, tag, before in rows]
        known = [Known(last, bytes.fromhex(tag), "a report that was collected") for last, tag in heads]
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise GatehouseError(f"{path} is no database of a collector: {error}", FORMAT) from None
    return records, known


# Keys.


def keys_of(item: product.Product, device: str) -> dict[int, bytes]:
    """{owner epoch: journal key} of a device: by its device key where the image is here, else of secrets.json.

    GatehouseError("key") where there is none.
    """
    item.device_facts(device)
    folder = item.devices / device
    found: dict[int, bytes] = {}
    secrets = folder / "secrets.json"
    if secrets.is_file():
        try:
            told = product.read_json(secrets).get("journal_keys", {})
            found = {int(epoch): bytes.fromhex(key) for epoch, key in told.items()}
        except (ValueError, TypeError, AttributeError):
            raise GatehouseError(f"{secrets} is damaged: restore it or provision the device") from None
    if (folder / "flash.bin").is_file():
        parts = flash.take_apart(product.read(folder / "flash.bin"))
        values = nvs.read_nvs(parts["nvs"][1]).get(flash.NAMESPACE, {}) if "nvs" in parts else {}
        key, epoch = values.get("device_key"), values.get("epoch", 0)
        if isinstance(key, bytes) and isinstance(epoch, int):
            found = derived(key, epoch) | found
    if not found:
        told = "`journal_keys` of its secrets.json has none, and its flash.bin is not here"
        raise GatehouseError(f"no journal key of {device}: {told}", KEY)
    return found


def derived(device_key: bytes, epoch: int) -> dict[int, bytes]:
    """The journal keys of all owner epochs up to this one, and of the next."""
    return {number: cose.journal_key(device_key, number) for number in range(epoch + _LATER + 1)}


# Verification.


def verify(records: Iterable[Record], keys: Mapping[int, bytes], known: Iterable[Known] = ()) -> Finding:
    """What a device wrote and what is wrong, of entries in any order, the same ones more than once if need be.

    keys: {owner epoch: journal key}. known: entries that the journal must hold or go beyond.
    """
    found = Finding()
    ordered = [_one(found, number, given, keys) for number, given in sorted(_by_number(records).items())]
    _tell_altered(found, ordered, keys)
    _follow(found, ordered)
    gone = dropped(found.entries)
    numbers = [record.number for record, _ in ordered]
    for before, after in itertools.pairwise(numbers):
        _missing(found, before, after, gone)
    if numbers and numbers[0] > 1:
        found.notes.append(f"it begins with entry {numbers[0]}: what was before is not here")
    _meet(found, {record.number: record for record, _ in ordered}, known)
    if ordered and not found.faults:
        found.head = Known(ordered[-1][0].number, ordered[-1][0].tag, "it")
    return found


Judged = tuple[Record, Entry | None]  # None: not by a key that is here


def _by_number(records: Iterable[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for record in records:
        same = found.setdefault(record.number, [])
        if record not in same:
            same.append(record)
    return found


def judge(record: Record, keys: Mapping[int, bytes]) -> Entry | None:
    """What an entry says, if its tag is by one of the journal keys ({owner epoch: key}) and it stands where it says."""
    for epoch, key in sorted(keys.items()):
        tag = hmac.digest(key, record.before + record.entry, hashlib.sha256)[:TAG]
        if hmac.compare_digest(tag, record.tag):
            return _read(record.entry, epoch) if _number(record.entry) == record.number else None
    return None


def _one(found: Finding, number: int, given: list[Record], keys: Mapping[int, bytes]) -> Judged:
    """Of all that came as one entry, what the device wrote."""
    judged = [(record, judge(record, keys)) for record in given]
    honest = [(record, entry) for record, entry in judged if entry]
    if len(honest) > 1:
        told = f"there are {len(honest)} entries {number}, all by this device: its flash was set back to an older state"
        found.fault(FORK, number, f"{told}, or two devices hold one key")
    elif honest and len(given) > 1:
        found.fault(CHANGE, number, f"entry {number} came in {len(given)} forms, of which the device wrote one")
    best = honest[0] if honest else judged[0]
    if best[1]:
        found.entries.append(best[1])
    return best


def _tell_altered(found: Finding, ordered: list[Judged], keys: Mapping[int, bytes]) -> None:
    """Name the entries that are by no key that is here, those in a row together."""
    epochs = f"owner epoch{'s' if len(keys) > 1 else ''} {', '.join(map(str, sorted(keys)))}"
    if ordered and not found.entries:
        told = f"none of its {len(ordered)} entries is by the journal key of {epochs}"
        found.fault(KEY, ordered[0][0].number, f"{told}: another device, or another owner epoch")
        return
    run: list[Record] = []
    for record, entry in [*ordered, (None, None)]:
        if record and not entry and (not run or record.number == run[-1].number + 1):
            run.append(record)
            continue
        if run:
            first, last = run[0].number, run[-1].number
            name = _range(first, last + 1)
            if any(_turns(one) for one in run):
                told = f"{name} of a later owner epoch, says one of them, and its key is not here ({epochs} are)"
                found.fault(EPOCH, first, told)
            else:
                found.fault(CHANGE, first, f"{name} not what the device wrote: the tag does not hold")
        run = [record] if record and not entry else []


def _turns(record: Record) -> bool:
    try:
        return _read(record.entry, 0).event == "owner-epoch"
    except GatehouseError:
        return False


def _follow(found: Finding, ordered: list[Judged]) -> None:
    """Each entry that is by the device follows the one before it, and owner epochs only go up."""
    before: Judged | None = None
    last: Entry | None = None  # by the device
    for at, (record, entry) in enumerate(ordered):
        if entry:
            # Behind an altered one anything may be said; that one has been named.
            if before and before[1] and before[0].number == record.number - 1 and before[0].tag != record.before:
                _other(found, ordered, at)
            if last and entry.epoch < last.epoch:
                told = f"entry {entry.number} is by the key of owner epoch {entry.epoch}, which had ended"
                found.fault(EPOCH, entry.number, told)
            elif last and entry.epoch > last.epoch:
                found.notes.append(f"owner epoch {entry.epoch} begins with entry {entry.number}")
            last = entry
        before = (record, entry)


def _other(found: Finding, ordered: list[Judged], at: int) -> None:
    """An entry follows another than the one before it. Behind altered ones a device goes on from what holds."""
    record = ordered[at][0]
    for back in range(at - 1, -1, -1):
        if record.before in (ordered[back][0].tag, ordered[back][0].before):
            if any(entry is None for _, entry in ordered[back:at]):
                return  # what is altered in between has been named
            break
    number = record.number
    told = f"entry {number} is by the device, but follows another entry {number - 1} than the one that is here"
    found.fault(FORK, number, told)


def dropped(entries: Iterable[Entry]) -> list[range]:
    """The numbers that the device itself says its ring has lost: older ones than the entry that says so."""
    found = []
    for entry in entries:
        match entry:
            case Entry(event="dropped", details=[int() as first, int() as count, *_]):
                found.append(range(first, min(first + count, entry.number)))
    return found


def _missing(found: Finding, before: int, after: int, gone: list[range]) -> None:
    """Name the entries that are missing between two numbers."""
    start = before + 1
    for lost in sorted(gone, key=lambda one: one.start):
        first, end = max(start, lost.start), min(lost.stop, after)
        if first < end:
            _gap(found, start, first)
            found.notes.append(f"{_range(first, end)} dropped by the device, as it says: its ring was full")
            start = end
    _gap(found, start, after)


def _gap(found: Finding, start: int, end: int) -> None:
    if start < end:
        told = f"{_range(start, end)} missing, and the device does not say that it dropped what is missing"
        found.fault(GAP, start, told)


def _range(start: int, end: int) -> str:
    return f"entries {start} to {end - 1} are" if end - 1 > start else f"entry {start} is"


def _meet(found: Finding, rows: Mapping[int, Record], known: Iterable[Known]) -> None:
    """What is known from elsewhere is in it, or before it."""
    first, last = min(rows, default=0), max(rows, default=0)
    for one in known:
        if one.number > last:
            told = f"it ends with entry {last}" if rows else "it is empty"
            found.fault(TRUNCATED, last, f"{told}, but {one.where} knows entry {one.number}")
            continue
        if one.number < first - 1:
            told = f"nothing is here between entry {one.number}, which {one.where} knows, and entry {first}"
            found.notes.append(f"{told}: that they are of one history is not shown")
        here = rows[one.number].tag if one.number in rows else None
        if here is None and one.number + 1 in rows:
            here = rows[one.number + 1].before
        if one.tag and here and one.tag != here:
            told = f"entry {one.number} is another one than {one.where} knows: the history was rewritten"
            found.fault(ANCHOR, one.number, told)
