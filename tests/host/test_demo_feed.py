"""The cards of the demonstration's page show what verified reports and journals say, and nothing of what others say."""

from __future__ import annotations

from typing import Any

import pytest

from cases import journal as journals
from cases.report import claims, report_key, sealed
from gatehouse_tools import fleet, reports
from gatehouse_tools.demo import feed, screen

NOW = journals.NOW
KEYS = {"gh-1": {0: journals.key()}}
ROWS = journals.chain([("boot", "active", 1, ""), *[("did", "console", number) for number in range(9)]])


def shown() -> tuple[feed.Cards, screen.Screen]:
    screen_ = screen.Screen()
    devices = {"gh-1": reports.Device(report_key(0), b"D" * 16)}
    cards = feed.Cards(devices, KEYS, screen_, lambda: float(NOW))
    cards.show()
    return cards, screen_


def report(number: int = 1, **changes: Any) -> bytes:
    return sealed(claims(number, c6=NOW, p32={1: "temperature", 2: "°C", 3: 21.5, 4: NOW}, **changes))


def journal(cards: feed.Cards, rows: list[Any]) -> None:
    for message in journals.messages(rows):
        cards.take("gatehouse/gh-1/journal", message, False)


def test_verified_report_is_on_the_card() -> None:
    cards, page = shown()
    assert page.get("device:gh-1")["verified"] is False
    cards.take("gatehouse/gh-1/report", report(), False)
    card = page.get("device:gh-1")
    assert card["verified"] and card["version"] == "1.0.0" and card["counter"] == [7, 1]
    assert page.get("sensor:gh-1:700001") == [NOW, 21.5]


@pytest.mark.parametrize("how", ["retained", "old", "forged"])
def test_what_is_not_verified_is_on_no_card(how: str) -> None:
    cards, page = shown()
    data = {"retained": report(), "old": sealed(claims(1, c6=NOW - 3600)), "forged": report()[:-1] + b"\0"}[how]
    cards.take("gatehouse/gh-1/report", data, how == "retained")
    card = page.get("device:gh-1")
    assert card["verified"] is False and "version" not in card and "sensor" not in card
    assert page.get("sensor:gh-1:700001") is None
    assert bool(card["refusal"]) == (how == "forged") and (card["proof"] != "no report yet")


def test_forged_report_leaves_the_card_as_it_was() -> None:
    cards, page = shown()
    cards.take("gatehouse/gh-1/report", report(1), False)
    before = page.get("device:gh-1")
    cards.take("gatehouse/gh-1/report", report(2).replace(b"1.0.0", b"9.0.0"), False)
    after = page.get("device:gh-1")
    assert after["refusal"][0] == "signature"
    assert after | {"refusal": None, "proof": ""} == before | {"proof": ""}


def test_device_without_proof_is_asked_for_it() -> None:
    cards, _ = shown()
    (topic, nonce), *others = cards.challenges()
    assert topic == "gatehouse/gh-1/nonce" and len(nonce) == reports.NONCE and not others
    assert cards.challenges() == []


def test_journal_grows_entry_by_entry() -> None:
    cards, page = shown()
    journal(cards, ROWS)
    assert page.get("chain:gh-1") == {"entries": 10, "faults": []}
    assert page.get("journal:gh-1:1") == {
        "number": 1,
        "time": NOW + 1,
        "boot": 1,
        "event": "boot",
        "words": ["active", "1", ""],
    }
    assert page.get("journal:gh-1:10")["words"] == ["console", "8"]


def test_entry_that_the_device_did_not_write_is_not_shown() -> None:
    cards, page = shown()
    number, entry, tag, before = ROWS[4]
    journal(cards, [*ROWS[:4], (number, entry.replace(b"console", b"nobody!"), tag, before), *ROWS[5:]])
    told = page.get("chain:gh-1")
    assert told["entries"] == 9 and "[change]" in told["faults"][0]
    assert page.get("journal:gh-1:5") is None and page.get("journal:gh-1:6")["event"] == "did"


def test_message_that_is_no_journal_or_of_another_device_changes_nothing() -> None:
    cards, page = shown()
    cards.take("gatehouse/gh-1/journal", b"no journal", False)
    cards.take("gatehouse/gh-2/journal", journals.message(ROWS[:4]), False)
    cards.take("gatehouse/gh-2/report", report(), False)
    cards.take("homeassistant/gh-1", b"x", False)
    assert page.get("chain:gh-1") is None and page.get("device:gh-2") is None


def test_card_of_a_device_that_is_not_verified_has_no_state() -> None:
    entry = fleet.Entry("gh-1", link="online", refusal=("signature", "the MAC is not by this key"))
    told = feed.card(entry)
    assert set(told) == {"id", "verified", "fresh", "proof", "refusal", "link", "seen"}
    assert told["verified"] is False and told["refusal"] == ["signature", "the MAC is not by this key"]
