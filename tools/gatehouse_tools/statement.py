"""The security statement for customers: what IR 8259 wants told, from product.toml and what was built.

Two forms of one text: Markdown, and HTML that prints. Beside it security.txt (RFC 9116). Nothing is written while a
field is missing: a statement with a hole promises nothing.
"""

from __future__ import annotations

import datetime
import html
import re
from dataclasses import dataclass, field
from typing import Any

from . import mud, product, statement_fields
from .errors import GatehouseError

_LEAST_YEARS = 5  # of support; Regulation (EU) 2024/2847, Art. 13(8)
_TXT_DAYS = 360  # security.txt expires within a year (RFC 9116 section 2.5.5)
_MAIL = re.compile(r"[^@\s<>]+@[^@\s<>]+\.[a-z]{2,}", re.IGNORECASE)

Block = str | list[str] | list[tuple[str, str]]  # a paragraph, a list, a table of two columns


@dataclass
class Statement:
    """The text in order. warnings: what its reader will ask about."""

    title: str
    sections: list[tuple[str, list[Block]]]
    warnings: list[str] = field(default_factory=list)


def make(item: product.Product, today: datetime.date) -> Statement:
    """The statement of a product. GatehouseError names every field that is missing or not filled in."""
    faults = [f"[statement] {one}" for one in statement_fields.faults(item.statement)]
    contact = item.data["product"].get("security_contact")
    if not isinstance(contact, str) or not (_MAIL.fullmatch(contact) or contact.startswith("https://")):
        faults.append("[product] security_contact is missing, or neither an address of mail nor https://")
    try:
        begin, end = statement_fields.support(item.data["product"])
    except GatehouseError as error:
        faults.append(str(error))
    if faults:
        raise GatehouseError(f"{item.root / product.FILE}: {'; '.join(faults)}; nothing was written", "missing")
    told, config = item.statement, mud.config(item)
    released = item.releases()
    boards = [item.board(name).model for name in item.boards]
    sections: list[tuple[str, list[Block]]] = [
        ("What it is, and for whom", _identity(item, told, boards, released)),
        ("What is assumed", [told["environment"], told["risks"], f"It is not made for this use: {told['not_for']}"]),
        ("What it can do, and how to use it", [_capabilities(config.interfaces), *_limits()]),
        ("Network", _network(item, config)),
        ("Support", _support(told, begin, end)),
        ("Updates", _updates(told, config)),
        ("Report a vulnerability", _reporting(told, str(contact))),
        ("Data, and how to erase them", [told["data"], told["services"], _erase()]),
        ("End of life", [f"Support ends on {end}.", told["end_of_life"]]),
    ]
    made = Statement(f"Security statement: {item.name}", sections)
    after = end + datetime.timedelta(days=1)  # the first day without; so a period may begin on a leap day
    if (after.year, after.month, after.day) < (begin.year + _LEAST_YEARS, begin.month, begin.day):
        made.warnings.append(f"support for less than {_LEAST_YEARS} years: the EU's Cyber Resilience Act asks for more")
    if end < today:
        made.warnings.append(f"support ended on {end}")
    if not released:
        made.warnings.append("nothing was released yet: the statement names no version")
    if item.domain.endswith(statement_fields.RESERVED):
        made.sections.insert(0, ("Example", [f"{item.domain} is a reserved name: this is an example, of no product."]))
    return made


def markdown(made: Statement) -> str:
    """The statement as Markdown."""
    lines = [f"# {made.title}", ""]
    for title, blocks in made.sections:
        lines += [f"## {title}", ""]
        for block in blocks:
            if isinstance(block, str):
                lines.append(_escape(block))
            elif block and isinstance(block[0], tuple):
                lines += ["| | |", "| --- | --- |"]
                lines += [f"| {_escape(one[0])} | {_escape(one[1])} |" for one in block]
            else:
                lines += [f"- {_escape(str(one))}" for one in block]
            lines.append("")
    return "\n".join(lines)


def page(made: Statement) -> str:
    """The statement as one HTML file: no scripts, nothing from elsewhere, laid out for A4 and letter when printed."""
    body = [f"<h1>{html.escape(made.title)}</h1>"]
    for title, blocks in made.sections:
        parts = []
        for block in blocks:
            if isinstance(block, str):
                parts.append(f"<p>{html.escape(block)}</p>")
            elif block and isinstance(block[0], tuple):
                rows = (f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in block)
                parts.append(f"<table>{''.join(rows)}</table>")
            else:
                parts.append("<ul>" + "".join(f"<li>{html.escape(str(one))}</li>" for one in block) + "</ul>")
        body.append(f"<section><h2>{html.escape(title)}</h2>{''.join(parts)}</section>")
    return _PAGE.format(title=html.escape(made.title), body="\n".join(body))


def security_txt(item: product.Product, today: datetime.date) -> str:
    """security.txt (RFC 9116) for https://DOMAIN/.well-known/security.txt, good for just under a year."""
    contact = str(item.data["product"]["security_contact"])
    expires = datetime.datetime.combine(today + datetime.timedelta(days=_TXT_DAYS), datetime.time(), datetime.UTC)
    lines = [
        f"Contact: {contact if contact.startswith('https://') else 'mailto:' + contact}",
        f"Expires: {expires.isoformat().replace('+00:00', 'Z')}",
        "Preferred-Languages: en",
        f"Canonical: https://{item.domain}/.well-known/security.txt",
        f"Policy: {item.statement['vulnerability_policy']}",
    ]
    return "\n".join(lines) + "\n"


def _identity(
    item: product.Product, told: dict[str, Any], boards: list[str], released: list[dict[str, Any]]
) -> list[Block]:
    rows = [
        ("Product", item.name),
        ("Maker", item.domain),
        ("Model", ", ".join(boards)),
        ("Hardware version", item.hardware),
    ]
    if released:
        last = released[-1]
        day = datetime.datetime.fromtimestamp(last["sequence"], datetime.UTC).date()
        rows.append(("Newest release", f"{last['version'] or 'configuration'} of {day}, SHA-256 {last['digest']}"))
    rows.append(("Each device", "has an id of its own, on its label, in its certificate and in each of its reports"))
    return [told["product"], f"It is made for: {told['customers']}", rows]


def _capabilities(interfaces: list[str] | None) -> list[tuple[str, str]]:
    """In plain words: what it can do, and the steps."""
    opened = ["uart", "mqtt-commands", "reset-button"] if interfaces is None else interfaces
    doors = ["the console (a serial cable, 115200 baud)"] if "uart" in opened else []
    doors += ["its page, https:// and the device's address"] if "https" in opened else []
    where = " or ".join(doors)
    first = (
        f"Log in at {where} as owner, with the label's password. It opens nothing but its own change: password.change."
        " Then wifi.set, and reboot."
        if doors
        else "It comes set up by its maker: neither console nor page is open, commands over MQTT are."
    )
    found = [
        ("First start", first),
        (
            "Who may do what",
            "Four users: viewer, operator, owner, service. The owner gives the others their passwords by user.password."
            " What is not allowed to a user is refused, and written into the journal.",
        ),
        (
            "Wrong passwords",
            "After some in a row each further try has to wait, twice as long each time. The owner ends such a delay by"
            " user.unlock, and changes the numbers by config.set where the maker allows that.",
        ),
        (
            "Close what is not needed",
            "interfaces shows every interface, and whether it is as wanted; interface.set closes and opens.",
        ),
        (
            "Updates",
            "Only what the maker signed is installed. It is tried, and taken back by itself where it does not work."
            " update.status shows, update.install and update.postpone decide.",
        ),
        (
            "Go back",
            "A release that the maker has signed as a roll back is offered like an update; update.rollback allows it.",
        ),
        ("Restore settings", "config.restore goes back to the last good settings, or to the factory's."),
        (
            "See how it fares",
            "state shows its health, and every reason why it may not be as it should. Reports over MQTT say the same,"
            " signed by the device; gatehouse watch verifies them.",
        ),
        (
            "What happened",
            "journal shows updates, refusals, logins and changes; gatehouse journal verifies that nothing is missing.",
        ),
        ("Erase", "erase with the device's id, by the owner at the device."),
    ]
    if "reset-button" in opened:
        found.append(("A password is lost", "Hold the button from the start on for ten seconds: the label's password is"
                      " valid again, and all former rights end."))  # fmt: skip
    if "home-assistant" in opened:
        found.append(("Home Assistant", "The device appears by itself, with its reading, its health and its updates."))
    return found


def _limits() -> list[Block]:
    return [
        "What hardware must give, and this software cannot: flash encryption, secure boot and closed debug ports. Its"
        " reports say which of them the device has."
    ]


def _network(item: product.Product, config: Any) -> list[Block]:
    rows = [
        (peer.name, f"{'any resolver' if peer.host == mud.DNS else peer.host},"
         f" {'TCP' if peer.protocol == 6 else 'UDP'} {peer.port}")
        for peer in mud.peers(config)
    ]  # fmt: skip
    return ["It opens these connections, and needs no other:", rows, f"For routers: {mud.url(item)} (RFC 8520)."]


def _support(told: dict[str, Any], begin: datetime.date, end: datetime.date) -> list[Block]:
    return [
        [("Security updates from", str(begin)), ("until, at least", str(end))],
        f"Changes of this, incidents and vulnerabilities are announced at {told['announcements']}.",
    ]


def _updates(told: dict[str, Any], config: Any) -> list[Block]:
    itself = config.updates is not False and config.auto_download is not False and config.auto_install is not False
    how = "They come over the network and are installed by themselves." if itself else (
        "They come over the network; somebody has to allow them."
    )  # fmt: skip
    window = config.window or []
    when = f" Installed within {window[1]} minutes from {window[0] // 60:02}:{window[0] % 60:02} UTC." if window else ""
    return [
        how + when + " During one the device restarts, which takes it off the network for a short time.",
        told["updates"],
        "What an update is for stands in its description, signed with it, and at " + told["announcements"] + ".",
    ]


def _reporting(told: dict[str, Any], contact: str) -> list[Block]:
    return [
        f"Write to {contact}. You get an answer within {told['acknowledge_days']} days, and news at least every"
        f" {told['news_days']} days until it is solved.",
        f"Policy: {told['vulnerability_policy']}",
    ]


def _erase() -> list[str]:
    return [
        "Erase the device before it changes hands: log in as owner at the device, erase with the device's id.",
        "That ends passwords, Wi-Fi and broker credentials, changed thresholds, and all keys of this ownership.",
        "What stays: the device's identity and certificate, trust anchors, firmware, the maker's configuration, the"
        " journal.",
    ]


def _escape(text: str) -> str:
    """Text for Markdown: nothing in it is markup."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 11pt/1.45 system-ui, sans-serif; max-width: 42em; margin: 2em auto; padding: 0 1em }}
html {{ color: #111; background: #fff }}
h1 {{ font-size: 1.6em }} h2 {{ font-size: 1.15em; border-bottom: 1px solid #999; margin-top: 1.6em }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .3em .6em .3em 0; border-bottom: 1px solid #ddd }}
td {{ overflow-wrap: anywhere }}
th {{ width: 11em; font-weight: 600 }}
@page {{ margin: 2cm }}
@media print {{
body {{ margin: 0; max-width: none; font-size: 10pt }}
h2 {{ break-after: avoid }}
tr, li {{ break-inside: avoid }}
}}
</style></head><body>
{body}
</body></html>
"""
