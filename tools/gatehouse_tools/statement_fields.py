"""What [statement] of product.toml has to say, and what `gatehouse init` puts there.

A product under .example (RFC 2606) cannot be sold to anybody: it gets an example's text, so that the demonstration has
a statement. Every other one gets FILL IN, which `gatehouse statement` refuses.
"""

from __future__ import annotations

import calendar
import datetime
import json
import re
from typing import Any, NamedTuple

from .errors import GatehouseError

FILL_IN = "FILL IN: "
RESERVED = ".example"


class Field(NamedTuple):
    """One field. ask: what to write; example: of the product of the demonstration. Its type is the example's."""

    ask: str
    example: Any


FIELDS = {
    "product": Field("what it is, in one sentence", "A temperature sensor for a greenhouse, on Wi-Fi."),
    "customers": Field("who it is for", "Small growers who run their own Wi-Fi and look at readings by themselves."),
    "environment": Field(
        "where it is meant to be: place, network, who is near it",
        "Indoors, on a private Wi-Fi network, within reach of people whom the owner trusts.",
    ),
    "not_for": Field("what it must not be used for", "Where a wrong or missing reading can hurt somebody."),
    "risks": Field(
        "one assumption about risk a text",
        [
            "Nobody unknown opens the housing: who reads the flash of a stock build has its keys.",
            "The broker may see readings; it can neither forge reports nor command the device.",
            "The time server of the network tells the time, give or take some minutes.",
        ],
    ),
    "data": Field(
        "what data it handles, and where they go",
        "Readings with their time go to the owner's broker. On the device are the Wi-Fi network's name and password,"
        " and a journal of events that names roles, not people.",
    ),
    "services": Field(
        "which services keep data for it, and how theirs are deleted",
        "The owner's own broker and database; deleting there deletes all.",
    ),
    "updates": Field(
        "how soon security updates come, and at what price",
        "Free, within 30 days for what is being exploited, else with the next release.",
    ),
    "announcements": Field("the https:// page of updates and advisories", "https://gatehouse.example/advisories"),
    "vulnerability_policy": Field("the https:// page of your policy", "https://gatehouse.example/security"),
    "acknowledge_days": Field("days until a report is acknowledged", 3),
    "news_days": Field("days between news on how a report fares", 14),
    "end_of_life": Field(
        "what happens after the last day of support",
        "It keeps measuring; take it off the network then. Erase it before it is given away or recycled.",
    ),
}


def template(domain: str) -> str:
    """The table for a new product.toml."""
    example = domain.endswith(RESERVED)
    lines = ["[statement]  # for customers, by `gatehouse statement`" + (": an example" if example else "; all of it")]
    for name, field in FIELDS.items():
        value = field.example
        if not example:
            value = [FILL_IN + field.ask] if isinstance(value, list) else FILL_IN + field.ask
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def faults(table: dict[str, Any]) -> list[str]:
    """What is wrong with a [statement], each naming its field; nothing where it is whole."""
    found = []
    for name, field in FIELDS.items():
        value = table.get(name)
        items = value if isinstance(value, list) else [value]
        if value is None or value == "" or value == []:
            found.append(f"{name} is missing ({field.ask})")
        elif any(isinstance(one, str) and one.startswith(FILL_IN.strip(": ")) for one in items):
            found.append(f"{name} is not filled in yet ({field.ask})")
        elif type(value) is not type(field.example) or any(
            type(one) is not type(_first(field.example)) for one in items
        ):
            found.append(f"{name} is not {_kind(field.example)} ({field.ask})")
        elif isinstance(value, int) and not 0 < value <= 365:
            found.append(f"{name} is not 1 to 365 ({field.ask})")
        elif "https://" in field.ask and not str(value).startswith("https://"):
            found.append(f"{name} is not an https:// address ({field.ask})")
    found += [f"{name} is not known" for name in table if name not in FIELDS]
    return found


def support(settings: dict[str, Any]) -> tuple[datetime.date, datetime.date]:
    """First and last day of support, of [product]. GatehouseError says which of the two is missing or wrong."""
    begin = _day(settings.get("support_from"), "support_from", last=False)
    end = _day(settings.get("support_until"), "support_until", last=True)
    if end <= begin:
        raise GatehouseError("[product] support_until is not after support_from")
    return begin, end


def _day(value: Any, name: str, last: bool) -> datetime.date:
    """A date as YYYY-MM-DD, or as YYYY-MM, which means the month's first or last day."""
    text = value.isoformat() if isinstance(value, datetime.date) else value
    try:
        if isinstance(text, str) and re.fullmatch(r"\d{4}-\d{2}", text):
            year, month = int(text[:4]), int(text[5:])
            return datetime.date(year, month, calendar.monthrange(year, month)[1] if last else 1)
        return datetime.date.fromisoformat(text)
    except (TypeError, ValueError):
        raise GatehouseError(f"[product] {name} is missing, or not a date such as 2031-11-30 or 2031-11") from None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _kind(value: Any) -> str:
    return {int: "a number", list: "a list of texts"}.get(type(value), "a text")
