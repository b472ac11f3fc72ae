"""Verify the reports of devices (docs/report.md) and say in words what they state.

Nothing of a report is shown as a device's state before its MAC, its device and its counter are checked.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cbor, cose, report_words
from .errors import GatehouseError

PROFILE = "tag:gatehouse.example,2026:report-1"
CWT = 61  # CBOR tag of a CBOR Web Token
MAX_REPORT = 16384  # bytes; a device sends about 1,000


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


def known_devices(folder: Path) -> dict[str, Device]:
    """The devices of a product folder by id, from devices/ID/secrets.json and device.json.

    A folder without a report key is left out: what it reports will be shown as not verifiable.
    """
    found = {}
    for path in sorted(folder.glob("*/secrets.json")):
        try:
            secrets = json.loads(path.read_text())
            facts = path.with_name("device.json")
            public = json.loads(facts.read_text()) if facts.exists() else {}
            identifier = public.get("uuid")
            found[path.parent.name] = Device(
                bytes.fromhex(secrets["report_key"]), uuid.UUID(identifier).bytes if identifier else None
            )
        except OSError as error:
            raise GatehouseError(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise GatehouseError(f"{path} or its device.json is damaged: restore it or provision the device") from None
    return found


def verify(data: bytes, devices: Mapping[str, Device | bytes], device: str | None = None) -> Report:
    """The report in `data`, if it is by one of `devices` (id -> Device, or only its report key).

    `device` is who the topic says it is from. GatehouseError with reason "format" or "unsupported" (not a report),
    "key" (a device we hold no key of), "device" (not from who it should be), "signature" (the MAC is not by its key).
    """
    message = _unwrap(data)
    kid = _device_id(cose.mac0_kid(message, "report"))
    if device is not None and kid != device:
        raise GatehouseError(f"the report on the topic of {device} is by {kid}", "device")
    held = devices.get(kid)
    if held is None:
        raise GatehouseError(f"no report key of device {kid} here", "key")
    if isinstance(held, bytes):
        held = Device(held)
    _, payload = cose.mac0_open(held.report_key, message, f"report of {kid}")
    report = _read(kid, payload)
    if held.uuid is not None and report.claims["ueid"] != "01" + held.uuid.hex():
        raise GatehouseError(f"the report of {kid} names another device: {report.claims['ueid']}", "device")
    return report


def unverified(data: bytes) -> Report:
    """What a report states, with nothing checked but its form: to be shown as exactly that."""
    message = _unwrap(data)
    return _read(_device_id(cose.mac0_kid(message, "report")), message_payload(message))


def message_payload(message: bytes) -> bytes:
    """The payload of a COSE_Mac0 that nobody checked."""
    payload = cbor.loads(message, "report").value[2]
    if not isinstance(payload, bytes):
        raise GatehouseError("the report carries no claims", "format")
    return payload


@dataclass(frozen=True)
class Verdict:
    """What a verifier makes of a message: "verified", "unproven" (retained: it was true once) or "refused"."""

    device: str
    verdict: str
    report: Report | None = None
    reason: str | None = None
    detail: str = ""


class Verifier:
    """Verifies messages as they come. Remembers each device's highest counter, so that an old report is no news."""

    def __init__(self, devices: Mapping[str, Device | bytes]) -> None:
        self.devices = devices
        self._highest: dict[str, tuple[tuple[int, int], bytes]] = {}

    def take(self, device: str, data: bytes, retained: bool = False) -> Verdict | None:
        """Judge a message from the report topic of `device`; None for one that came before and tells nothing new.

        A retained report proves nothing about now: it is unproven until one with a higher counter comes.
        """
        try:
            report = verify(data, self.devices, device)
            if not self._is_news(report, data):
                return None
        except GatehouseError as error:
            return Verdict(device, "refused", reason=error.reason, detail=str(error))
        return Verdict(device, "unproven" if retained else "verified", report)

    def _is_news(self, report: Report, data: bytes) -> bool:
        counter, digest = self._highest.get(report.device, ((-1, -1), b""))
        if report.counter > counter:
            self._highest[report.device] = report.counter, hashlib.sha256(data).digest()
            return True
        if report.counter == counter and hashlib.sha256(data).digest() == digest:
            return False
        told = "{}.{}".format(*report.counter)
        if report.counter == counter:
            raise GatehouseError(f"two different reports of {report.device} have the counter {told}", "counter")
        newest = "{}.{}".format(*counter)
        raise GatehouseError(f"an old report of {report.device} was played again: {told} after {newest}", "counter")


def _unwrap(data: bytes) -> bytes:
    """The COSE_Mac0 in a CWT."""
    if len(data) > MAX_REPORT:
        raise GatehouseError(f"report of {len(data)} bytes: more than {MAX_REPORT} is none", "format")
    token = cbor.loads(data, "report")
    if not isinstance(token, cbor.Tag) or token.tag != CWT:
        raise GatehouseError("report is not a CBOR Web Token", "format")
    return cbor.dumps(token.value)


def _device_id(kid: bytes) -> str:
    try:
        return kid.decode()
    except UnicodeDecodeError:
        raise GatehouseError("report with a key id that is no device's", "format") from None


def _read(device: str, payload: bytes) -> Report:
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
    return Report(device, (counter[0], counter[1]), words, claims.get(10))
