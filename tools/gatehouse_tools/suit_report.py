"""The SUIT Report (draft-ietf-suit-report-22) inside a device's report: checked, and in words.

It and the device's own claim of its update tell one thing twice. Where they differ neither is believed.
"""

from __future__ import annotations

import functools
from typing import Any

from . import cbor, core, cose
from .errors import GatehouseError

REFERENCE, RECORDS, RESULT, CODE, RECORD, REASON = 99, 3, 4, 5, 6, 7  # labels of the draft
SHA_256 = -16  # COSE algorithm
PENDING = 12
REASONS = (
    "ok", "cbor-parse", "cose-unsupported", "alg-unsupported", "unauthorised", "command-unsupported",
    "component-unsupported", "component-unauthorised", "parameter-unsupported", "severing-unsupported",
    "condition-failed", "operation-failed", "invoke-pending",
)  # fmt: skip
SECTIONS = {3: "shared", 7: "validate", 8: "load", 9: "invoke", 16: "payload-fetch", 20: "install"}
_FAILURES = ("refused", "failed", "rolled-back")


def read(data: bytes, device: str, key: bytes | None) -> dict[str, Any]:
    """What a SUIT Report by `device` says, in words. Its MAC is checked where `key` is given, its report key.

    GatehouseError("format" | "unsupported") where it is none, "device" by another device, "signature" by another key.
    """
    what = f"SUIT Report of {device}"
    message = cose.parse_mac0(cbor.loads(data, what), what)
    if message.kid != device.encode():
        raise GatehouseError(f"the {what} is by another device", "device")
    if key is not None:
        message.check(key, what)
    match cbor.loads(message.payload, what):
        case {99: ["", [int(-16), bytes() as digest]], 3: [], 4: result} if len(digest) == 32:
            return {"manifest": digest.hex(), **_result(result, what)}
    raise GatehouseError(f"the {what} lacks reference, records or result", "format")


def _result(result: Any, what: str) -> dict[str, Any]:
    if result is True:
        return {"result": "success"}
    match result:
        case {5: int() as code, 6: [[], int() as section, int() as offset, int() as index, dict() as claims],
              7: int() as reason} if not claims:  # fmt: skip
            numbers = (code, section, offset, index, reason)
            if all(type(one) is int and 0 <= one < 1 << 31 for one in numbers) and 0 < reason < len(REASONS):
                words = {
                    "result": "pending" if reason == PENDING else "failure",
                    "reason": REASONS[reason],
                    "code": code,
                }
                if section:  # 0 is none: no command was running
                    words |= {"section": SECTIONS.get(section, str(section)), "offset": offset, "component": index}
                return words
    raise GatehouseError(f"the {what} has a result that is none", "format")


def check(claims: dict[str, Any], device: str) -> None:
    """GatehouseError("outcome") unless claims["update"] and claims["outcome"], each of which may be missing, agree."""
    wanted, found = _expected(claims.get("update") or {}), claims.get("outcome")
    if wanted is None and found is None:
        return
    state = (claims.get("update") or {}).get("state", "none")
    if wanted is None or found is None:
        told = "there is a SUIT Report of one that is over" if found else "its SUIT Report is missing"
        raise GatehouseError(f"the update of {device} is {state}, but {told}", "outcome")
    for name, value in wanted.items():
        if found.get(name) != value:
            told = f"its SUIT Report says {name} {found.get(name)}, not {value}"
            raise GatehouseError(f"the update of {device} is {state}, but {told}", "outcome")


def _expected(update: dict[str, Any]) -> dict[str, Any] | None:
    """What the SUIT Report of an update must say; None where there must be none."""
    state, manifest = update.get("state"), update.get("digest")
    if not manifest:
        return None
    if state == "confirmed":
        return {"manifest": manifest, "result": "success"}
    if state in ("pending-reboot", "trial"):
        return {"manifest": manifest, "result": "pending"}
    if state not in _FAILURES:
        return None
    code, reason = _codes().get(update.get("reason"), (None, 0))
    if code is None:  # a later device knows more reasons
        return {"manifest": manifest, "result": "failure"}
    return {"manifest": manifest, "result": "failure", "reason": REASONS[reason], "code": code}


@functools.cache
def _codes() -> dict[str | None, tuple[int, int]]:
    """The device's own table: a reason -> result code and the draft's reason."""
    table = core.module("outcome").REASONS
    return {code: (place, reason) for place, (code, reason) in enumerate(table, 1)}
