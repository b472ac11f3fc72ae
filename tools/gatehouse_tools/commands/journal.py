"""`gatehouse journal`: the event log of a device, its chain verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click

from .. import journal, journal_live, product, publish, ui
from ..errors import GatehouseError, UsageError

TIMEOUT_S = 30.0
LAST = 20
ANCHOR = "journal.json"  # in devices/ID: the last entry that was seen here


@click.command("journal")
@click.argument("device", metavar="ID")
@click.option("--image", type=click.Path(path_type=Path), metavar="FILE", help="Read it from a flash image.")
@click.option(
    "--database", type=click.Path(path_type=Path), metavar="FILE", help="Read it from a collector's SQLite file."
)
@click.option("--broker", metavar="HOST[:PORT]", help="Ask the device over this MQTT broker. Default: product.toml.")
@click.option("--last", type=click.IntRange(0), default=LAST, show_default=True, metavar="N", help="Show so many.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the device.",
)
@ui.product_option
@ui.json_option
def command(
    device: str,
    image: Path | None,
    database: Path | None,
    broker: str | None,
    last: int,
    timeout: float,
    product_dir: str | None,
) -> int:
    """Show the event log of the device ID and verify its chain: entries that were changed, that are missing, or that
    follow another history. Exit code 1 names what is wrong.

    Without --image or --database the device is asked over the broker, and sends what its flash holds. Several sources
    are compared with each other. The last entry is remembered in devices/ID/journal.json: the next time, the journal
    has to go on from it. What was before the first look rests on the device alone.

    \b
    Example:
    $ gatehouse journal gh-1f3a90c2
    $ gatehouse journal gh-1f3a90c2 --database fleet.sqlite --broker localhost
    $ gatehouse journal gh-1f3a90c2 --image flash.bin --json
    """
    item = product.find(product_dir)
    keys = journal.keys_of(item, device)
    records: list[journal.Record] = []
    known: list[journal.Known] = []
    faults: list[journal.Fault] = []
    notes: list[str] = []
    sources = []
    anchor = item.devices / device / ANCHOR
    before = _remembered(anchor)
    known += [before] if before else []
    if database:
        stored, heads = journal.from_database(database, device)
        records += stored
        known += heads
        sources.append(f"{database} ({len(stored)})")
    if image:
        held = journal.from_image(product.read(image))
        if held.device != device:
            raise UsageError(f"{image} is of {held.device or 'no device'}, not of {device}")
        records += held.records
        known += held.known
        faults += held.faults
        sources.append(f"{image} ({len(held.records)})")
    if broker or not sources:
        host, port = publish.broker_address(item, broker)
        answer = journal_live.ask(item, host, port, device, timeout)
        records += answer.records
        known += answer.heads
        notes += answer.notes
        sources.append(f"{host}:{port} ({len({record.number for record in answer.records})})")
    found = journal.verify(records, keys, known)
    found.faults[:0] = faults
    if found.head and not found.faults:  # not before what was remembered: that would be a fault
        _remember(anchor, found.head)
    _show(device, sources, found, notes, last)
    return 1 if found.faults else 0


def _show(device: str, sources: list[str], found: journal.Finding, notes: list[str], last: int) -> None:
    entries = found.entries
    span = f", {entries[0].number} to {entries[-1].number}" if entries else ""
    ui.show(f"{device}: {len(entries)} entries{span}, from {' and '.join(sources)}", "bold")
    for entry in entries[len(entries) - last :] if last < len(entries) else entries:
        when = ui.when(entry.time) if entry.time is not None else "clock not set"
        told = " ".join(_words(detail) for detail in entry.details)
        ui.show(f"{entry.number:6}  {when:<23}  boot {entry.boot:<5} {entry.event} {told}".rstrip())
    for note in found.notes + notes:
        ui.show(note, "yellow")
    for fault in found.faults:
        ui.show(f"WRONG: {fault.detail} [{fault.reason}]", "red")
    if not found.faults:
        ui.show("nothing wrong found", "green")
    ui.result(
        {
            "ok": not found.faults,
            "device": device,
            "sources": sources,
            "entries": [{**vars(entry), "details": [_plain(detail) for detail in entry.details]} for entry in entries],
            "faults": [vars(fault) for fault in found.faults],
            "notes": found.notes + notes,
            "head": {"number": found.head.number, "tag": (found.head.tag or b"").hex()} if found.head else None,
        }
    )


def _remembered(path: Path) -> journal.Known | None:
    """The entry that was the last one at an earlier look."""
    if not path.is_file():
        return None
    told = product.read_json(path)
    try:
        number, tag = told["number"], bytes.fromhex(told["tag"])
        if type(number) is int and number > 0 and len(tag) == journal.TAG:
            return journal.Known(number, tag, "an earlier look")
    except (KeyError, TypeError, ValueError):
        pass  # told below
    raise GatehouseError(f"{path} is damaged: restore it, or remove it to begin anew from what the device says")


def _remember(path: Path, head: journal.Known) -> None:
    product.write(path, product.json_bytes({"number": head.number, "tag": (head.tag or b"").hex()}))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, float)) or value is None else str(value)


def _words(value: Any) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
