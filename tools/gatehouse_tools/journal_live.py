"""Ask a device on the broker for the journal that it holds: all of its ring comes again on the journal topic."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass, field

from . import cbor, journal, product, remote, reports, topics
from .errors import GatehouseError

QUIET_S = 2.0  # a device sends the next message within a tenth of that


@dataclass
class Answer:
    """The entries that came, and the heads that verified reports told meanwhile."""

    records: list[journal.Record] = field(default_factory=list)
    heads: list[journal.Known] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def request(number: int) -> bytes:
    """The payload of the topic journal-ack that asks a device for all that it has after entry `number`."""
    return cbor.dumps(number)


def ask(item: product.Product, host: str, port: int, device: str, limit: float) -> Answer:
    """What a device sends when it is asked for all, within `limit` seconds.

    GatehouseError("timeout") when it sends nothing; "network" where there is no broker.
    """
    verifier = reports.Verifier({name: one for name, one in reports.known_devices(item.devices).items()
                                 if name == device})  # fmt: skip
    found, status, strange = Answer(), "", 0
    end = time.monotonic() + limit
    last = float("inf")  # when the newest entry came
    with remote.session(item, host, port, device, ("report", "journal", "status")) as (client, inbox):
        client.publish(topics.topic("journal-ack", id=device), request(0), 1)
        while time.monotonic() < end and not (_whole(found) and time.monotonic() - last > QUIET_S):
            try:
                name, payload = inbox.get(timeout=0.2)
            except queue.Empty:
                continue
            if name == topics.topic("status", id=device):
                status = payload.decode("ascii", "replace")
            elif name == topics.topic("report", id=device):
                _report(found, verifier.take(device, payload))
            else:
                try:
                    found.records += journal.parse_message(payload)
                    last = time.monotonic()
                except GatehouseError:
                    strange += 1
    if not found.records:
        told = f"no journal from {device} within {limit:g} s: the broker says it is {status or 'unknown'}"
        raise GatehouseError(f"{told}; see gatehouse watch", "timeout")
    if strange:
        found.notes.append(f"{strange} message{'s' if strange > 1 else ''} on its topic left out: no journal")
    if not found.heads:
        found.notes.append("no verified report with a journal head came: entries may be missing at the end")
    return found


def _report(found: Answer, verdict: reports.Verdict | None) -> None:
    if verdict and verdict.report and "journal" in verdict.report.claims:
        told = verdict.report.claims["journal"]
        counter = "{}.{}".format(*verdict.report.counter)
        found.heads.append(journal.Known(told["last"], bytes.fromhex(told["tag"]), f"its report {counter}"))


def _whole(found: Answer) -> bool:
    """Whether all came that there was when it was asked, as far as reports told."""
    if not found.records:
        return False
    numbers = [record.number for record in found.records]
    return not found.heads or (min(numbers) <= found.heads[0].number and max(numbers) >= found.heads[-1].number)
