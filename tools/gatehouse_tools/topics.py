"""The device's own topic table (lib/gatehouse/topics.py), and the access rules that follow from it."""

import re
from typing import Any

from . import core

HOST = "host"  # the common name of the host tools' certificate
HOME_ASSISTANT = "home-assistant"  # the common name of Home Assistant's certificate
DISCOVERY = "homeassistant"  # where it looks for devices
VERIFIER = "verifier"  # that of who may see reports and command nothing
SEEN = ("status", "report", "summary", "sensor", "journal")  # what a verifier reads
# Names of others, and levels of the topic tree that are no device; a device must not be called so.
RESERVED = frozenset({HOST, HOME_ASSISTANT, VERIFIER, "group", "block"})
_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


_device = core.module("topics")
# name: (topic, who publishes, retained)
TABLE: dict[str, tuple[str, str, bool]] = {
    name: (pattern, publisher, retained == "retained") for name, pattern, publisher, retained in _device.rows()
}
_PATTERNS = {
    name: re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/+#]+)", re.escape(row[0]))) for name, row in TABLE.items()
}
topic = _device.topic


def is_device_id(name: str) -> bool:
    """Whether `name` can be a device: one topic level, no wildcard, and no level that means something else."""
    return bool(_ID.fullmatch(name)) and name not in RESERVED


def device_rules(device: str) -> list[tuple[str, str]]:
    """What the broker lets `device` do: ("write" or "read", topic filter), one for each row of the table.

    A device publishes what the table says a device publishes, below its own id, and reads what a host publishes
    there, in any group and in any block. Nothing else.
    """
    rules = []
    for pattern, publisher, _ in TABLE.values():
        filter_ = re.sub(r"\{(?!id\})\w+\}", "+", pattern).replace("{id}", device)
        rules.append(("write" if publisher == "device" else "read", filter_))
    return rules


def home_assistant_rules() -> list[tuple[str, str]]:
    """What the broker lets Home Assistant do beside reading all below `homeassistant/`: ("read" or "write", filter).

    It reads what devices tell it, whether they are there, and their readings; it writes what it tells them. No report
    and no command. (On Mosquitto, where what devices may is a pattern for everybody, it could read offers to groups and
    blocks: signed, and no secret.)
    """
    rules = []
    for name, (pattern, publisher, _) in TABLE.items():
        if name.startswith("ha-") or name in ("status", "sensor"):
            rules.append(("read" if publisher == "device" else "write", re.sub(r"\{\w+\}", "+", pattern)))
    return rules


def verifier_rules() -> list[tuple[str, str]]:
    """What the broker lets a verifier do: read what devices tell of themselves, send them nonces, ask for the journal.

    (On Mosquitto, where what devices may do is a pattern for everybody, it could also read offers to groups and blocks,
    and publish as a device of its own name: no secrets, and nobody's topics.)
    """
    found = [("read", TABLE[name][0].replace("{id}", "+")) for name in SEEN]
    return found + [("write", TABLE[name][0].replace("{id}", "+")) for name in ("nonce", "journal-ack")]


def covers(allowed: str, requested: str) -> bool:
    """Whether each topic that the filter (or topic) `requested` matches is matched by `allowed`, which has no "#"."""
    ours, theirs = allowed.split("/"), requested.split("/")
    return len(ours) == len(theirs) and all(
        b != "#" and (a == "+" or a == b) for a, b in zip(ours, theirs, strict=True)
    )


def of(message: Any) -> str:
    """The topic of a message of paho; "" where it is no UTF-8.

    A broker that sends one breaks MQTT's rules, and the error would end paho's thread: deaf from then on, and silent.
    """
    try:
        return str(message.topic)
    except UnicodeDecodeError:
        return ""


def split(name: str) -> dict[str, str] | None:
    """The row and the fields of a topic, e.g. {"name": "report", "id": "gh-1"}, or None for one of no row."""
    for row, pattern in _PATTERNS.items():
        match = pattern.fullmatch(name)
        if match and is_device_id(match.groupdict().get("id", "any")):
            return {"name": row, **match.groupdict()}
    return None
