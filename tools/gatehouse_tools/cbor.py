"""Deterministic CBOR (RFC 8949, section 4.2.1), the only form that the device reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
        obj = cbor2.loads(
            data, semantic_decoders=_PLAIN, max_depth=_MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False
        )
        # Maps in the order that they had: most of the work is then in C. Whether it is the right one is seen below.
        again = cbor2.dumps(obj, encoders=_SHORTEST)
        found = _checked(obj)
    except _Disordered:
        raise GatehouseError(f"{what} is not deterministic CBOR", "format") from None
    except (cbor2.CBORError, RecursionError) as error:
        raise GatehouseError(f"{what} is damaged: {error}", "format") from None
    if again == data:
        return found
    if data.startswith(again):
        raise GatehouseError(f"{what} is damaged: {len(data) - len(again)} bytes after its end", "format")
    raise GatehouseError(f"{what} is not deterministic CBOR", "format")


class _Plain(Mapping[int, Callable[[Any, bool], Any]]):
    """Leaves every tag but the bignums (2, 3) as it is.

    cbor2 makes objects of some: regular expressions, dates, references (28 and 29), with which some hundred bytes from
    anybody become gigabytes when they are written again.
    """

    def __getitem__(self, number: int) -> Callable[[Any, bool], Any]:
        if number in (2, 3):
            raise KeyError(number)
        return lambda content, _immutable: Tag(number, content)

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


_PLAIN = _Plain()


class _Disordered(Exception):
    """A map is out of order, or has a key that is none."""


def _encode_map(encoder: Any, value: dict[Any, Any]) -> None:
    pairs = sorted((dumps(key), dumps(item)) for key, item in value.items())
    encoder.encode_length(5, len(pairs))
    for key, item in pairs:
        encoder.write(key + item)


def _encode_float(encoder: Any, value: float) -> None:
    encoder.write(cbor2.dumps(value, canonical=True))


_SHORTEST: dict[type, Any] = {float: _encode_float}


def _checked(value: Any) -> Any:
    """The item, if its maps are in the order of their keys' encoding (RFC 8949, section 4.2.1).

    cbor2 makes what stands inside a tag immutable; here a list is a list and a map a dict, except in map keys.
    """
    kind = type(value)
    if kind is int or kind is bytes or kind is str:
        return value
    if kind is list or kind is tuple:
        return [_checked(item) for item in value]
    if kind is dict or kind is cbor2.frozendict:
        last: tuple[Any, ...] = ()
        for key in value:
            rank = _rank(key)
            if rank <= last:
                raise _Disordered
            last = rank
        return {key: _checked(item) for key, item in value.items()}
    if kind is Tag:
        return Tag(value.tag, _checked(value.value))
    return value


def _rank(key: Any) -> tuple[Any, ...]:
    """Sorts as the key's encoding does: by major type, then by the number or the length that its head has."""
    kind = type(key)
    if kind is int and -(2**64) <= key < 2**64:
        return (0, key) if key >= 0 else (1, -key)
    if kind is str:
        data = key.encode()
        return (3, len(data), data)
    if kind is bytes:
        return (2, len(key), key)
    if kind is int or kind is tuple:  # a bignum; the component in the text of a manifest
        data = dumps(key)
        return (data[0] >> 5, data[0] & 31, data)
    raise _Disordered  # to Python the keys 1, 1.0 and true would be one
