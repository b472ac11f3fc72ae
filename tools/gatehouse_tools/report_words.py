"""What the labels of a report mean: docs/report.cddl as tables, which check each value and name it.

Labels that are not in a table are left out: a newer device may say more than these tools know.
"""

from __future__ import annotations

import functools
import ipaddress
import math
from collections.abc import Callable, Mapping
from typing import Any

from . import cbor, coswid
from .errors import GatehouseError

PRIVATE = -70001  # the label of Gatehouse's own map
LIMIT = 1 << 63  # beyond it no database has integers; a device counts nothing up to there
MAX_DETAIL = 384  # bytes of a free text: 96 characters
RESETS = ("unknown", "power-on", "hard reset", "watchdog", "deep sleep", "soft reset")  # machine.reset_cause() on ESP32
SHA_256 = 1  # IANA named information hash algorithms, which RFC 10013 uses
DEBUG = ("enabled", "disabled", "disabled since boot", "disabled permanently", "disabled fully and permanently")
COMPARISONS = {1: "success", 2: "failure", 3: "not run", 4: "absent"}  # RFC 9711, section 4.2.17
STATES = (
    "idle", "available", "downloading", "installing", "downloaded", "pending-reboot", "trial", "confirmed",
    "rolled-back", "refused", "failed",
)  # fmt: skip

Reader = Callable[[Any], Any]
# label: (name in words, reader that checks a value and turns it into words, whether it must be there)
Table = Mapping[int, tuple[str, Reader, bool]]


def read(claims: dict[Any, Any]) -> dict[str, Any]:
    """The claims in words, the standard's and Gatehouse's own. ValueError names the first that is wrong or missing.

    Two of them are not in words yet: `suit_report` are the bytes of one, where there is one.
    """
    words = _map(claims, CLAIMS, "")
    if "manifests" in words:
        try:
            words["tag"] = dict(coswid.read(words.pop("manifests"), words.get("name", ""), words.get("version", "")))
        except ValueError as error:  # the maker's mistake, which the device passes on: its report is no worse for it
            words["tag"] = {"wrong": str(error)}
    components, told = words.pop("measurements", ([], None))
    if "name" in words:
        if components[:1] == [] or components[0][:2] != (words["name"], words.get("version")):
            raise ValueError("index_digest is not of the application that runs")
        words["index_digest"] = components.pop(0)[2]
    if len(components) > 1 or any(one[:2] != ("gatehouse", words["core"]) for one in components):
        raise ValueError("core_digest is not of the core")
    words["core_digest"] = components[0][2] if components else None
    if told is not None:
        words["suit_report"] = told
    return words


def _map(value: Any, table: Table, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where.rstrip('.')} is no map")
    words = {}
    for label, (name, reader, required) in table.items():
        if label in value:
            try:
                found = reader(value[label])
            except ValueError as error:
                raise ValueError(str(error) if isinstance(error, _Inner) else f"{where}{name} is {error}") from None
            if name:
                words[name] = found
            else:
                words |= found
        elif required:
            raise ValueError(f"{where}{name or label} is missing")
    return words


class _Inner(ValueError):
    """An error that already says where."""


def _inner(table: Table, where: str) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        try:
            return _map(value, table, where)
        except ValueError as error:
            raise _Inner(str(error)) from None

    return read


def _uint(value: Any) -> int:
    if type(value) is not int or not 0 <= value < LIMIT:
        raise ValueError("no unsigned integer below 2^63")
    return value


def _int(value: Any) -> int:
    if type(value) is not int or not -LIMIT <= value < LIMIT:
        raise ValueError("no integer of 64 bits")
    return value


def _number(value: Any) -> int | float:
    if type(value) is float and math.isfinite(value):  # JSON knows no other
        return value
    return _int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    # From a device, and shown in a terminal: no control characters.
    if value.isprintable():
        return value
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in value)


def _detail(value: Any) -> str:
    if isinstance(value, str) and len(value.encode()) > MAX_DETAIL:
        raise ValueError(f"longer than {MAX_DETAIL} bytes")
    return _text(value)


def _hex(least: int, most: int) -> Reader:
    def read(value: Any) -> str:
        if not isinstance(value, bytes) or not least <= len(value) <= most:
            raise ValueError("no byte string of the right length")
        return value.hex()

    return read


_digest = _hex(32, 32)


def _digest_or_empty(value: Any) -> str:
    return "" if value == b"" else _digest(value)


def _or_null(reader: Reader) -> Reader:
    return lambda value: None if value is None else reader(value)


def _one_of(*words: str) -> Reader:
    def read(value: Any) -> str:
        if value not in words or not isinstance(value, str):
            raise ValueError("none of " + ", ".join(words))
        return value

    return read


def _uints(*names: str) -> Reader:
    def read(value: Any) -> dict[str, int]:
        if not isinstance(value, list) or len(value) != len(names):
            raise ValueError(f"no list of {len(names)}")
        return {name: _uint(item) for name, item in zip(names, value, strict=True)}

    return read


def _address(value: Any) -> str:
    if not isinstance(value, bytes):
        raise ValueError("no IPv4 address in bytes")
    return str(ipaddress.IPv4Address(value))  # a ValueError unless they are four


def _model(value: Any) -> str:
    try:
        return _text(bytes.fromhex(_hex(1, 32)(value)).decode())
    except UnicodeDecodeError:
        raise ValueError("no UTF-8") from None


def _version(value: Any) -> str:
    match value:
        case [str(), int(16384)]:
            return _text(value[0])
    raise ValueError("no semantic version")


def _hardware(value: Any) -> str:
    match value:
        case [str()]:
            return _text(value[0])
    raise ValueError("no list of one text")


def _manifests(value: Any) -> bytes:
    match value:
        case [[int(258), bytes() as tag]]:
            return tag
    raise ValueError("no list of one CoSWID tag")


Component = tuple[str, str, str]  # name, version, digest


def _measurements(value: Any) -> tuple[list[Component], bytes | None]:
    """The measured components in their order, and the SUIT Report that may follow them."""
    found: list[Component] = []
    rest = list(value) if isinstance(value, list) else []
    while rest:
        match rest[0]:
            case [int(295), bytes() as data]:
                found.append(_decoded(data))
                rest.pop(0)
            case _:
                break
    match rest:
        case [] if found:
            return found, None
        case [[int(270), bytes() as report]]:
            return found, report
    raise ValueError("no list of measured components and one SUIT Report")


@functools.lru_cache(1024)  # a fleet runs few releases, and sends the same bytes each time
def _decoded(data: bytes) -> Component:
    try:
        component = cbor.loads(data)
    except GatehouseError as error:
        raise ValueError(str(error)) from None
    match component:
        case {3: _} | {4: _}:  # RFC 10013: to be refused where the profile does not say what they mean
            raise ValueError("a measured component with authorities or flags")
        case {1: [str() as name, [str(), int(16384)] as version], 2: [alg, bytes() as digest]} if (
            type(alg) is int and alg == SHA_256
        ):
            return _text(name), _version(version), str(_digest(digest))
    raise ValueError("no measured component")


def _counter(value: Any) -> list[int]:
    return list(_uints("boots", "number")(value).values())


def _floors(value: Any) -> dict[str, dict[str, int]]:
    if not isinstance(value, dict):
        raise ValueError("no map")
    return {_text(name): _uints("install", "boot")(pair) for name, pair in value.items()}


def _reset(value: Any) -> str:
    if _uint(value) >= len(RESETS):
        raise ValueError("no known cause")
    return RESETS[value]


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("no list")
    return [_text(item) for item in value]


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("no truth value")
    return value


def _interfaces(value: Any) -> dict[str, dict[str, bool | None]]:
    """Each interface: whether it is wanted and whether it is active; null where the device cannot ask."""
    if not isinstance(value, dict):
        raise ValueError("no map")
    words = {}
    for name, pair in value.items():
        match pair:
            case [bool() as wanted, (bool() | None) as active]:
                words[_text(name)] = {"wanted": wanted, "active": active}
            case _:
                raise ValueError("no pair of truth values")
    return words


def _counts(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ValueError("no map")
    return {_text(name): _uint(count) for name, count in value.items()}


def _lockouts(value: Any) -> dict[str, dict[str, int]]:
    if not isinstance(value, dict):
        raise ValueError("no map")
    return {_text(name): _uints("level", "seconds")(pair) for name, pair in value.items()}


def _journal(value: Any) -> dict[str, Any]:
    match value:
        case [last, tag, acknowledged]:
            return {"last": _uint(last), "tag": _hex(16, 16)(tag), "acknowledged": _uint(acknowledged)}
    raise ValueError("no list of 3")


def _window(value: Any) -> dict[str, int]:
    return _uints("start", "minutes")(value)


def _debug(value: Any) -> str:
    if _uint(value) >= len(DEBUG):
        raise ValueError("no known state")
    return DEBUG[value]


def _intended(value: Any) -> str:
    if value != 1 or type(value) is not int:
        raise ValueError("no state report's")
    return "generic"


def _comparison(value: Any) -> str:
    """The result of comparing the running application with its signed index."""
    match value:
        case [["gatehouse", [["app", int() as result]]]] if result in COMPARISONS and type(result) is int:
            return COMPARISONS[result]
    raise ValueError("no result of the application's comparison")


def _first(name: str) -> Reader:
    return lambda value: _uints(name)(value)[name]


UPDATE: Table = {
    1: ("state", _one_of(*STATES), True),
    2: ("reason", _text, False),
    3: ("digest", _digest, False),
    4: ("sequence", _uint, False),
    5: ("detail", _detail, False),
    6: ("files", _uints("done", "total"), False),
}
REFUSAL: Table = {
    1: ("reason", _text, True),
    3: ("digest", _digest_or_empty, True),
    4: ("sequence", _uint, True),
    5: ("detail", _detail, False),
    6: ("count", _uint, True),
}
SENSOR: Table = {
    1: ("name", _text, True),
    2: ("unit", _text, True),
    3: ("value", _or_null(_number), True),
    4: ("time", _or_null(_uint), True),
}
LINK: Table = {
    1: ("connects", _uint, True),
    2: ("dropped", _uint, True),
    3: ("wifi_losses", _uint, False),
    4: ("left_out", _uint, False),
    5: ("oversize", _uint, False),
    6: ("failures", _counts, False),
}
WIFI: Table = {
    1: ("address", _or_null(_address), True),
    2: ("signal", _or_null(_int), True),
}
ACCESS: Table = {
    1: ("sessions", _uint, True),
    2: ("label_password", _bool, True),
    3: ("lockouts", _lockouts, True),
    4: ("repl_seconds", _uint, True),
}
POLICY: Table = {
    1: ("updates", _bool, True),
    2: ("auto_download", _bool, True),
    3: ("auto_install", _bool, True),
    4: ("notify", _bool, True),
    5: ("window", _window, False),
    6: ("postponed_seconds", _uint, False),
}
FUSES: Table = {
    1: ("flash_encryption", _or_null(_bool), True),
    2: ("secure_boot", _or_null(_bool), True),
    3: ("download_mode", _or_null(_bool), True),
    4: ("jtag", _or_null(_bool), True),
}


def _update(value: Any) -> dict[str, Any]:
    words = _inner(UPDATE, "update.")(value)
    if ("digest" in words) != ("sequence" in words):
        raise _Inner("update has a digest or a sequence number without the other")
    return words


GATEHOUSE: Table = {
    1: ("slot", _or_null(_one_of("a", "b")), True),
    2: ("mode", _one_of("active", "trial", "recovery", "install"), True),
    3: ("manifest", _or_null(_digest), True),
    4: ("sequence", _or_null(_uint), True),
    5: ("record", _uints("tries", "quiet"), True),
    6: ("floors", _floors, True),
    7: ("reset", _reset, True),
    8: ("update", _update, False),
    9: ("refused", _inner(REFUSAL, "refused."), False),
    10: ("configuration", _first("generation"), True),
    11: ("trust", _or_null(_uint), True),
    12: ("core", _text, True),
    14: ("heap_free", _uint, True),
    15: ("flash_free", _uint, True),
    16: ("counter", _counter, True),
    17: ("degraded", _texts, True),
    18: ("failure", _detail, False),
    19: ("journal", _journal, False),
    20: ("policy", _or_null(_inner(POLICY, "policy.")), False),
    21: ("fuses", _inner(FUSES, "fuses."), False),
    32: ("sensor", _inner(SENSOR, "sensor."), False),
    33: ("link", _inner(LINK, "link."), False),
    34: ("wifi", _inner(WIFI, "wifi."), False),
    35: ("interfaces", _interfaces, False),
    36: ("access", _inner(ACCESS, "access."), False),
}
CLAIMS: Table = {
    6: ("time", _uint, False),
    10: ("nonce", _hex(8, 64), False),
    256: ("ueid", _hex(17, 17), True),
    258: ("vendor", _hex(16, 16), True),
    259: ("model", _model, True),
    260: ("hardware", _hardware, True),
    261: ("uptime", _uint, True),
    262: ("oem_boot", _bool, False),
    263: ("debug", _debug, False),
    265: ("profile", _text, True),
    267: ("boots", _uint, True),
    268: ("boot_seed", _hex(16, 16), True),
    270: ("name", _text, False),
    271: ("version", _version, False),
    272: ("manifests", _manifests, False),
    273: ("measurements", _measurements, False),
    274: ("comparison", _comparison, False),
    275: ("intended_use", _intended, False),
    PRIVATE: ("", _inner(GATEHOUSE, ""), True),
}
