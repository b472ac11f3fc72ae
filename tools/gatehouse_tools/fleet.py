"""What a watcher knows of the fleet: the last state of each device that it could verify, and why not more.

A device that has not yet proved that it reports now is asked to: a nonce on its topic, again and again, seldomer and
seldomer, until a report answers it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from . import topics
from .reports import Report, Verifier

FIRST_ASK_S = 5.0  # until a nonce that was not answered is followed by another; doubled each time
LAST_ASK_S = 60.0
UNANSWERED = 3  # so many in a row are worth telling
STRANGERS = 200  # devices listed that nobody knows: who may publish can invent names without end


@dataclass
class Entry:
    """One device. `report` is the newest that was verified, `retained` one that is true but perhaps old."""

    device: str
    report: Report | None = None
    retained: Report | None = None
    doubt: str = ""  # why `retained` may be old
    fresh: bool = False  # it has answered a nonce: what is verified now cannot be older
    asked: int = 0  # nonces in a row that it has not answered
    ask_at: float = 0.0  # host time at which it gets the next one
    seen: float | None = None  # host time of the newest verified report
    refusal: tuple[str, str] | None = None  # (reason, detail) of the newest message, if it was refused
    link: str | None = None  # what the broker's unsigned status topic says

    @property
    def verified(self) -> bool:
        return self.report is not None


class Fleet:
    """Takes the messages of the broker, as events for programs and as entries for people.

    `known` are the ids that are listed even if they never report; `only` limits the fleet to some ids.
    """

    def __init__(
        self,
        verifier: Verifier,
        known: Iterable[str] = (),
        only: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._only = frozenset(only)
        self._clock = clock
        self.entries: dict[str, Entry] = {
            device: Entry(device) for device in sorted(known) if not self._only or device in self._only
        }
        for device in sorted(self._only - self.entries.keys()):
            self.entries[device] = Entry(device)
        self._most = len(self.entries) + STRANGERS

    def take(self, topic: str, payload: bytes, retained: bool) -> dict[str, Any] | None:
        """Take one message. Returns an event for programs, or None for one that tells nothing new."""
        where = topics.split(topic)
        device = where.get("id") if where else None
        if where is None or device is None or (self._only and device not in self._only):
            return None
        if device not in self.entries and len(self.entries) >= self._most:
            return None
        if where["name"] == "status":
            return self._status(device, payload)
        if where["name"] == "report" and payload:
            return self._report(device, payload, retained)
        return None

    def unverified(self) -> list[Entry]:
        """The devices of which nothing could be verified yet."""
        return [entry for entry in self.entries.values() if not entry.verified]

    def challenges(self) -> list[tuple[str, bytes]]:
        """The nonces to publish now, (topic, payload): to each device that has answered none yet and is due."""
        due = []
        for entry in self.entries.values():
            if not entry.fresh and entry.device in self._verifier.devices and self._clock() >= entry.ask_at:
                due.append((topics.topic("nonce", id=entry.device), self._verifier.challenge(entry.device)))
                entry.ask_at = self._clock() + min(LAST_ASK_S, FIRST_ASK_S * 2 ** min(entry.asked, 8))
                entry.asked += 1
        return due

    def _status(self, device: str, payload: bytes) -> dict[str, Any] | None:
        entry = self.entries.setdefault(device, Entry(device))
        link = payload.decode("ascii", "replace")
        if link not in ("online", "offline") or link == entry.link:
            return None
        entry.link = link
        if link == "online" and entry.asked:  # the nonces until now found nobody
            entry.asked, entry.ask_at = 0, min(entry.ask_at, self._clock() + 1)
        return {"event": "status", "device": device, "status": link, "signed": False, "time": self._clock()}

    def _report(self, device: str, payload: bytes, retained: bool) -> dict[str, Any] | None:
        verdict = self._verifier.take(device, payload, retained)
        if verdict is None:
            return None
        entry = self.entries.setdefault(device, Entry(device))
        event: dict[str, Any] = {
            "event": "report",
            "device": device,
            "verdict": verdict.verdict,
            "reason": verdict.reason,
            "detail": verdict.detail,
            "fresh": verdict.fresh,
            "time": self._clock(),
        }
        if verdict.report is None:
            entry.refusal = (verdict.reason or "format", verdict.detail)
            return event
        entry.refusal = None
        event["counter"] = list(verdict.report.counter)
        if verdict.fresh:
            entry.fresh, entry.asked = True, 0
        if verdict.verdict == "verified":
            entry.report, entry.retained, entry.seen = verdict.report, None, event["time"]
            event["claims"] = verdict.report.claims
        else:
            # Under another name, so that a program which does not look at the verdict finds no state.
            entry.retained, entry.doubt = verdict.report, verdict.detail
            event["retained_claims"] = verdict.report.claims
        return event


COLUMNS = ("device", "model", "version", "slot", "health", "update", "link", "seen", "proof")


def row(entry: Entry, now: float) -> tuple[str, ...]:
    """An entry in words, one for each of COLUMNS. What is not verified as of now stands in brackets, or not at all."""
    report = entry.report or entry.retained
    cells = [entry.device, *(_state(report) if report else ["", "", "", "", ""])]
    if entry.report is None:
        cells[1:] = [f"({cell})" if cell else "" for cell in cells[1:]]
    cells.append(entry.link or "")
    cells.append(_ago(now - entry.seen) if entry.seen is not None else "never")
    cells.append(proof(entry))
    return tuple(cells)


def proof(entry: Entry) -> str:
    """How far an entry can be believed, and why no further."""
    if entry.report:
        told = "verified, fresh" if entry.fresh else "verified"
        if entry.retained:
            told += f"; a newer one is unproven: {entry.doubt}"
    elif entry.retained:
        told = f"unproven: {entry.doubt}"
    else:
        told = "" if entry.refusal else "no report yet"
    if entry.asked >= UNANSWERED:
        told += f"{', ' if told else ''}{entry.asked} nonces not answered"
    if entry.refusal:
        told += f"{'; last message ' if told else ''}refused: {entry.refusal[1]} [{entry.refusal[0]}]"
    return told


def _state(report: Report) -> list[str]:
    claims = report.claims
    version = f"{claims['name']} {claims['version']}" if "version" in claims and "name" in claims else "none"
    place = f"{claims['slot']} {claims['mode']}" if claims["slot"] else claims["mode"]
    health = "degraded: " + ", ".join(report.degraded) if report.degraded else "ok"
    return [claims["model"], version, place, health, update_words(claims)]


def update_words(claims: dict[str, Any]) -> str:
    """The state of the update: with progress while it runs, with the reason when it did not work."""
    update = claims.get("update")
    if not update:
        return "none"
    told = str(update["state"])
    files = update.get("files")
    if files and told in ("downloading", "installing"):
        told += f" {files['done']}/{files['total']}"
    if update.get("reason"):
        found = claims.get("outcome", {})
        where = f", {found['section']} of component {found['component']}" if "section" in found else ""
        told += f" ({update['reason']}{where})"
    return told


def _ago(seconds: float) -> str:
    if seconds < 2:
        return "now"
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago"
