"""A SUIT envelope in words: the names of the standard, for `gatehouse inspect`."""

from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from . import cbor, cose, keys
from .errors import GatehouseError
from .suit import (
    CLASS,
    DEVICE,
    IMAGE_DIGEST,
    IMAGE_SIZE,
    OVERRIDE,
    RUN_SEQUENCE,
    SET_COMPONENT_INDEX,
    SHA256,
    TRY_EACH,
    USE_BEFORE,
    VENDOR,
    Commands,
    Envelope,
    decode_sequence,
)

COMMANDS = {
    1: "condition-vendor-identifier",
    2: "condition-class-identifier",
    3: "condition-image-match",
    4: "condition-use-before",
    5: "condition-component-slot",
    6: "condition-check-content",
    12: "directive-set-component-index",
    14: "condition-abort",
    15: "directive-try-each",
    18: "directive-write",
    20: "directive-override-parameters",
    21: "directive-fetch",
    22: "directive-copy",
    23: "directive-invoke",
    24: "condition-device-identifier",
    31: "directive-swap",
    32: "directive-run-sequence",
}
PARAMETERS = {
    1: "vendor-id",
    2: "class-id",
    3: "image-digest",
    4: "use-before",
    5: "component-slot",
    12: "strict-order",
    13: "soft-failure",
    14: "image-size",
    18: "content",
    21: "uri",
    22: "source-component",
    23: "invoke-args",
    24: "device-id",
    25: "fetch-arguments",
    -256: "no-return (Gatehouse: the release before must not run again)",
}
TEXTS = {1: "description", 2: "update", 3: "JSON source", 4: "YAML source"}
COMPONENT_TEXTS = {1: "vendor", 2: "model", 3: "vendor domain", 4: "model info", 5: "description", 6: "version"}

_MAX_NESTING = 8  # sequences in sequences; twice what a device takes


def rows(envelope: Envelope, known: Mapping[str, keys.PublicKey]) -> list[tuple[str, str]]:
    """The rows of suit.describe(). Text from the envelope cannot steer a terminal: only printable characters stay."""
    return [(label, "".join(map(_printable, text))) for label, text in _rows(envelope, known)]


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "\ufffd"


def _rows(envelope: Envelope, known: Mapping[str, keys.PublicKey]) -> list[tuple[str, str]]:
    found = [
        ("SUIT envelope", f"{envelope.size} bytes, {len(envelope.blocks)} authentication block(s)"),
        ("manifest", f"version 1, digest sha-256:{envelope.digest.hex()}"),
        ("sequence number", f"{envelope.sequence}{_date(envelope.sequence)}"),
    ]
    found += [("signer", _signer(block, envelope.signed, known)) for block in envelope.blocks]
    if not envelope.blocks:
        found.append(("signer", "none: every device refuses this"))
    if envelope.reference_uri is not None:
        found.append(("reference URI", envelope.reference_uri))
    for language, texts in envelope.text.items():
        found += [(f"text ({language})", _words(key, value)) for key, value in texts.items()]
    found += [(f"component {index}", _component(item)) for index, item in enumerate(envelope.components)]
    for name, commands in envelope.sections.items():
        lines = ["severed, not in this envelope"] if commands is None else _lines(commands, name)
        found += [(name, line) for line in lines]
    found += [("outside the subset", f"{what}: every device refuses this") for what in envelope.outside]
    found += [
        ("integrated payload", f"{uri}: {len(payload)} bytes, sha-256:{hashlib.sha256(payload).hexdigest()}")
        for uri, payload in envelope.payloads.items()
    ]
    return found


def _component(parts: Iterable[bytes]) -> str:
    shown = (part.decode() if part.isascii() and part.decode().isprintable() else part.hex() for part in parts)
    return "/".join(shown)


def _date(seconds: int) -> str:
    """A number that looks like a time of this century, as one."""
    if not 1_500_000_000 < seconds < 4_000_000_000:
        return ""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime(" (%Y-%m-%d %H:%M:%S UTC)")


def _signer(block: cose.Sign1, signed: bytes, known: Mapping[str, keys.PublicKey]) -> str:
    algorithm = keys.NAMES.get(block.alg, f"algorithm {block.alg}")
    text = f"{algorithm}, key id {block.kid.hex() if block.kid else 'not named'}"
    for name, key in known.items():
        if block.signed_by([key], signed):
            return f"{text}: verified, by {name}"
    for name, key in known.items():
        if block.kid == key.kid:
            return f"{text}: DOES NOT VERIFY as {name}"
    return f"{text}: by a key that is not known here"


def _words(key: Any, value: Any) -> str:
    if isinstance(value, str):
        return f"{TEXTS.get(key, key)}: {value}"
    told = (f"{COMPONENT_TEXTS.get(label, label)} {text}" for label, text in value.items())
    return f"{_component(key)}: {', '.join(told)}"


def _lines(commands: Commands, name: str, depth: int = 0) -> list[str]:
    """One line a command, the sequences inside it indented."""
    if depth > _MAX_NESTING:
        raise GatehouseError(f"sequence {name} is nested more than {_MAX_NESTING} deep", "format")
    lines = []
    for code, argument in zip(commands[::2], commands[1::2], strict=True):
        command = COMMANDS.get(code, f"command {code}")
        if code == OVERRIDE and isinstance(argument, dict):
            lines.append(command)
            lines += [f"  {PARAMETERS.get(key, f'parameter {key}')}: {_value(key, argument[key])}" for key in argument]
        elif code in (TRY_EACH, RUN_SEQUENCE):
            lines.append(command)
            for number, item in enumerate(argument if isinstance(argument, list) else [argument], 1):
                inner = ["nothing (always succeeds)"]
                if item is not None:
                    inner = _lines(decode_sequence(item, name), name, depth + 1)
                lines += [f"  {number}. " + inner[0], *("     " + line for line in inner[1:])]
        elif code == SET_COMPONENT_INDEX:
            lines.append(f"{command} {'all' if argument is True else argument}")
        else:
            lines.append(command)
    return lines


def _value(parameter: int, value: Any) -> str:
    if parameter in (VENDOR, CLASS, DEVICE) and isinstance(value, bytes) and len(value) == 16:
        return str(uuid.UUID(bytes=value))
    if parameter == IMAGE_DIGEST and isinstance(value, bytes):
        digest = cbor.loads(value, "parameter image-digest")
        if isinstance(digest, list) and len(digest) == 2 and isinstance(digest[1], bytes):
            return f"{'sha-256' if digest[0] == SHA256 else f'algorithm {digest[0]}'}:{digest[1].hex()}"
    if parameter == USE_BEFORE and isinstance(value, int):
        return f"{value}{_date(value)}"
    if parameter == IMAGE_SIZE:
        return f"{value} bytes"
    return value.hex() if isinstance(value, bytes) else str(value)
