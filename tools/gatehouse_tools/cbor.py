"""Deterministic CBOR (RFC 8949, section 4.2.1), the only form that the device reads."""

from __future__ import annotations

from typing import Any

import cbor2

from .errors import GatehouseError

Tag = cbor2.CBORTag
_MAX_DEPTH = 16  # deeper than anything a device reads, so that `inspect` can say what it is


def dumps(obj: Any) -> bytes:
    """`obj` as deterministic CBOR.

    cbor2's own canonical form sorts shorter keys first, as RFC 7049 did; RFC 8949 sorts by the bytes alone.
    """
    return cbor2.dumps(obj, canonical=True, encoders={dict: _encode_map, cbor2.frozendict: _encode_map})


def loads(data: bytes, what: str = "CBOR") -> Any:
    """The one item in `data`. GatehouseError("format") naming `what` where it is anything but deterministic CBOR."""
    try:
        obj = cbor2.loads(data, max_depth=_MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False)
        again = dumps(obj)
    except (cbor2.CBORError, RecursionError) as error:
        raise GatehouseError(f"{what} is damaged: {error}", "format") from None
    if again == data:
        return _thaw(obj)
    if data.startswith(again):
        raise GatehouseError(f"{what} is damaged: {len(data) - len(again)} bytes after its end", "format")
    raise GatehouseError(f"{what} is not deterministic CBOR", "format")


def _encode_map(encoder: Any, value: dict[Any, Any]) -> None:
    pairs = sorted((dumps(key), dumps(item)) for key, item in value.items())
    encoder.encode_length(5, len(pairs))
    for key, item in pairs:
        encoder.write(key + item)


def _thaw(value: Any) -> Any:
    """cbor2 makes what stands inside a tag immutable; here a list is a list and a map a dict, except in map keys."""
    match value:
        case Tag():
            return Tag(value.tag, _thaw(value.value))
        case list() | tuple():
            return [_thaw(item) for item in value]
        case dict() | cbor2.frozendict():
            return {key: _thaw(item) for key, item in value.items()}
    return value
