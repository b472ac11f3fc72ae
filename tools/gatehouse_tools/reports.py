"""Verify the reports of devices (docs/report.md) and say in words what they state.

Nothing of a report is shown as a device's state before its MAC, its device and its counter are checked.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cbor, cose, report_words, suit_report, topics
from .errors import GatehouseError

PROFILE = "tag:gatehouse.example,2026:r1"
CWT = 61  # CBOR tag of a CBOR Web Token
MAX_REPORT = 16384  # bytes; a device sends about 1,000
NONCE = 16  # bytes; RFC 9711 asks for at least 8 with 64 bits of entropy
ASKED = 8  # nonces whose answers still count: a device may take its time, and answers the oldest first
MAX_AGE_S = 120  # between a report's own time and ours: clocks differ, and a queue may hold it for a while
FREE_BOOTS, BOOTS_A_SECOND = 60, 10  # more than any crash loop: a chip takes at least 0.3 s for a boot


@dataclass(frozen=True)
class Report:
    """What one report states. `claims` is in words; `counter` is (boot count, number in that boot)."""

    device: str
    counter: tuple[int, int]
    claims: dict[str, Any]
    nonce: bytes | None = None

    @property
    def degraded(self) -> list[str]:
        """The reasons why the device may not work as expected; empty when it says that all is well."""
        return list(self.claims["degraded"])


@dataclass(frozen=True)
class Device:
    """What a verifier holds of a device: its report key, and its UUID where that is known."""

    report_key: bytes
    uuid: bytes | None = None


def known_devices(folder: Path, damaged: Callable[[str, GatehouseError], None] | None = None) -> dict[str, Device]:
    """The devices of a product folder by id, from devices/ID/secrets.json and device.json.

    A folder without a report key is left out: what it reports will be shown as not verifiable. GatehouseError for one
    whose files are damaged; damaged(ID, error) is called instead where it is given.
    """
    found = {}
    for path in sorted(folder.glob("*/secrets.json")):
        try:
            found[path.parent.name] = _known(path)
        except GatehouseError as error:
            if not damaged:
                raise
            damaged(path.parent.name, error)
    return found


def _known(path: Path) -> Device:
    try:
        private = json.loads(path.read_text())
        facts = path.with_name("device.json")
        public = json.loads(facts.read_text()) if facts.exists() else {}
        identifier = public.get("uuid")
        return Device(bytes.fromhex(private["report_key"]), uuid.UUID(identifier).bytes if identifier else None)
    except OSError as error:
        raise GatehouseError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GatehouseError(f"{path} or its device.json is damaged: restore it or provision the device") from None


def verify(data: bytes, devices: Mapping[str, Device | bytes], device: str | None = None) -> Report:
    """The report in `data`, if it is by one of `devices` (id -> Device, or only its report key).

    `device` is who the topic says it is from. GatehouseError with reason "format" or "unsupported" (not a report),
    "key" (a device we hold no key of), "device" (not from who it should be), "signature" (the MAC is not by its key),
    "outcome" (its SUIT Report says something else of the update than its claims do).
    """
    message = _unwrap(data)
    kid = _device_id(message.kid)
    if device is not None and kid != device:
        raise GatehouseError(f"the report on the topic of {device} is by {kid}", "device")
    held = devices.get(kid)
    if held is None:
        raise GatehouseError(f"no report key of device {kid} here", "key")
    if isinstance(held, bytes):
        held = Device(held)
    message.check(held.report_key, f"report of {kid}")
    report = _read(kid, message.payload, held.report_key)
    if held.uuid is not None and report.claims["ueid"] != "01" + held.uuid.hex():
        raise GatehouseError(f"the report of {kid} names another device: {report.claims['ueid']}", "device")
    return report


def unverified(data: bytes) -> Report:
    """What a report states, with nothing checked but its form: to be shown as exactly that."""
    message = _unwrap(data)
    return _read(_device_id(message.kid), message.payload)


@dataclass(frozen=True)
class Verdict:
    """What a verifier makes of a message: "verified", "unproven" (it was true once) or "refused".

    reason: why it is unproven ("retained", "undated", "stale") or refused. fresh: the device has answered a nonce of
    this verifier with this report or one before it, so that it cannot be older than the nonce.
    """

    device: str
    verdict: str
    report: Report | None = None
    reason: str | None = None
    detail: str = ""
    fresh: bool = False


class Verifier:
    """Verifies messages as they come. Remembers each device's highest counter, so that an old report is no news.

    clock: the Unix time, against which a live report's own time is held; without it a live one is believed.
    """

    def __init__(self, devices: Mapping[str, Device | bytes], clock: Callable[[], float] | None = None) -> None:
        self.devices = devices
        self._clock = clock
        self._newest: dict[str, tuple[Report, bytes]] = {}
        self._asked: dict[str, list[bytes]] = {}
        self._fresh: set[str] = set()

    def challenge(self, device: str) -> bytes:
        """A nonce for `device`: the report that answers it was made after this."""
        nonce = secrets.token_bytes(NONCE)
        self._asked[device] = [*self._asked.get(device, [])[1 - ASKED :], nonce]
        return nonce

    def take(self, device: str, data: bytes, retained: bool = False) -> Verdict | None:
        """Judge a message from the report topic of `device`; None for one that came before and tells nothing new.

        Verified is one that answers a nonce, or is newer than one that did, or came live and is dated now. Anything
        else that is by the device is unproven: a broker may have kept it, and may say that it comes live.
        """
        try:
            report = verify(data, self.devices, device)
            if not self._is_news(report, data):
                return None
        except GatehouseError as error:
            return Verdict(device, "refused", reason=error.reason, detail=str(error))
        if report.nonce is not None and report.nonce in self._asked.get(device, []):
            self._fresh.add(device)
            self._asked[device] = []
        fresh = device in self._fresh
        doubt = None if fresh else self._doubt(report, retained)
        if doubt:
            return Verdict(device, "unproven", report, *doubt)
        return Verdict(device, "verified", report, fresh=fresh)

    def _is_news(self, report: Report, data: bytes) -> bool:
        before = self._newest.get(report.device)
        counter = before[0].counter if before else (-1, -1)
        digest = hashlib.sha256(data).digest()
        if report.counter > counter:
            wrong = jump(before[0] if before else None, report)
            if wrong:
                raise GatehouseError(f"a report of {report.device} that cannot be: {wrong}", "jump")
            self._newest[report.device] = report, digest
            return True
        if before and report.counter == counter and digest == before[1]:
            return False
        told = "{}.{}".format(*report.counter)
        if report.counter == counter:
            raise GatehouseError(f"two different reports of {report.device} have the counter {told}", "counter")
        newest = "{}.{}".format(*counter)
        raise GatehouseError(f"an old report of {report.device} was played again: {told} after {newest}", "counter")

    def _doubt(self, report: Report, retained: bool) -> tuple[str, str] | None:
        """Why a report may be an old one: (reason, detail), or None."""
        if retained:
            return "retained", "a retained report, waiting for a newer one"
        if self._clock is None:
            return None
        if "time" not in report.claims:
            return "undated", "the device has no clock, waiting for its answer to a nonce"
        off = self._clock() - report.claims["time"]
        if abs(off) > MAX_AGE_S:
            how = f"{off:.0f} s old" if off > 0 else f"dated {-off:.0f} s ahead"
            return "stale", f"a report that is {how}, waiting for the answer to a nonce"
        return None


def jump(before: Report | None, after: Report) -> str | None:
    """Why a device that reported `before` cannot have sent `after`, which has the higher counter; None when it can.

    Such a report is by somebody who holds the device's key: a second device, or a copy of its flash.
    """
    new, boots = after.claims, after.counter[0]
    if new["boots"] != boots:
        return f"boot count {new['boots']}, but counter {boots}"
    if before is None:
        return None
    old = before.claims
    for name in ("ueid", "vendor", "model", "hardware"):
        if new[name] != old[name]:
            return f"{name} is {new[name]}, and was {old[name]}"
    if boots == before.counter[0]:
        if new["boot_seed"] != old["boot_seed"]:
            return f"two boots have the number {boots}"
        if new["uptime"] < old["uptime"]:
            return f"uptime {new['uptime']} s, and was {old['uptime']} s in the same boot"
    elif "time" in new and "time" in old:
        passed = max(0, new["time"] - old["time"])
        if boots - before.counter[0] > FREE_BOOTS + BOOTS_A_SECOND * passed:
            return f"{boots - before.counter[0]} boots in {passed} s"
    if new["trust"] is not None and old["trust"] is not None and new["trust"] < old["trust"]:
        return f"trust anchors of version {new['trust']}, and were of {old['trust']}"
    for name, floor in old["floors"].items():
        found = new["floors"].get(name, {"install": 0})["install"]
        if found < floor["install"]:
            return f"the floor of {name} is {found}, and was {floor['install']}"
    return None


def _unwrap(data: bytes) -> cose.Mac0:
    """The COSE_Mac0 in a CWT, unchecked."""
    if len(data) > MAX_REPORT:
        raise GatehouseError(f"report of {len(data)} bytes: more than {MAX_REPORT} is none", "format")
    token = cbor.loads(data, "report")
    if not isinstance(token, cbor.Tag) or token.tag != CWT:
        raise GatehouseError("report is not a CBOR Web Token", "format")
    return cose.parse_mac0(token.value, "report")


def _device_id(kid: bytes) -> str:
    # Anybody can have made it, and errors tell it: to a terminal, and to a database that takes no NUL.
    name = kid.decode("ascii", "replace")
    if not topics.is_device_id(name):
        raise GatehouseError("report with a key id that is no device's", "format")
    return name


def _read(device: str, payload: bytes, key: bytes | None = None) -> Report:
    """Its claims; with the `key`, the SUIT Report inside is proved, and compared with them."""
    claims = cbor.loads(payload, f"report of {device}")
    try:
        if not isinstance(claims, dict):
            raise ValueError("claims are no map")
        if claims.get(265) != PROFILE:
            raise GatehouseError(f"report of {device} has another profile: {claims.get(265)!r}", "unsupported")
        words = report_words.read(claims)
        counter = words["counter"]
    except ValueError as error:
        raise GatehouseError(f"report of {device}: {error}", "format") from None
    inner = words.pop("suit_report", None)
    if inner is not None:
        words["outcome"] = suit_report.read(inner, device, key)
    if key is not None:
        suit_report.check(words, device)
    return Report(device, (counter[0], counter[1]), words, claims.get(10))
