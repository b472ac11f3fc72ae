"""CBOR (RFC 8949), deterministic only: loads() refuses what dumps() would not have written.

The rules are those of section 4.2.1: shortest heads and floats, definite lengths, map keys in bytewise order of
their encoding and each once. Tags 2 and 3 (section 3.4.3) carry only integers that do not fit 64 bits. Map keys
are integers, byte or text strings; to Python the keys 1, 1.0 and true would be one.
"""

import struct
from collections import namedtuple

from micropython import const

MAX_SIZE = const(65536)  # bytes of one item; an envelope is 8 KiB at most, larger things are streamed
MAX_ITEMS = const(1024)  # entries of one array or map: a list of them is 4 KiB on the chip
MAX_DEPTH = const(8)  # arrays, maps and tags inside each other; a SUIT manifest or a report needs six

Tag = namedtuple("Tag", ("tag", "value"))
Simple = namedtuple("Simple", ("value",))
undefined = Simple(23)


class Truncated(ValueError):
    """The buffer ends inside the item; whether it is a good one only more bytes can tell."""


def loads(data, max_depth=MAX_DEPTH):
    """Decode `data` (bytes, bytearray or memoryview), which holds exactly one item.

    Byte strings come as `bytes`, arrays as `list`, other tags as `Tag`, other simple values as `Simple` or
    `undefined`. Raises ValueError on anything malformed, non-deterministic, trailing or over a limit, and on a map
    key of another type.
    """
    if len(data) > MAX_SIZE:
        raise ValueError("over the size limit")
    value, end = decode(data, 0, max_depth)
    if end != len(data):
        raise ValueError("trailing bytes")
    return value


def decode(buf, pos, max_depth=MAX_DEPTH):
    """Decode the item at `pos` and return (value, position after it), for a reader that refills its buffer.

    As loads(), but whatever follows the item is not looked at, and a buffer that ends too early raises Truncated.
    """
    return _item(memoryview(buf), pos, max_depth)


def head(buf, pos):
    """Decode the head (section 3) at `pos` and return (major type, argument, position after it).

    Raises Truncated, or ValueError on an indefinite length, a reserved value or an argument that is not shortest.
    Of a float (major type 7) the argument is its bits.
    """
    if pos >= len(buf):
        raise Truncated("truncated")
    first = buf[pos]
    pos += 1
    major = first >> 5
    info = first & 31
    if info < 24:
        return major, info, pos
    if info > 27:
        raise ValueError("indefinite length or reserved head")
    size = 1 << (info - 24)
    end = pos + size
    if end > len(buf):
        raise Truncated("truncated")
    argument = buf[pos] if size == 1 else int.from_bytes(buf[pos:end], "big")
    if size == 1:
        if argument < (32 if major == 7 else 24):
            raise ValueError("head is not shortest")
    elif major != 7 and not argument >> (4 * size):
        raise ValueError("head is not shortest")
    return major, argument, end


def _item(buf, pos, depth):
    major, argument, end = head(buf, pos)
    if major == 0:
        return argument, end
    if major == 1:
        return -1 - argument, end
    if major == 7:
        return _simple(buf, pos, argument, end)
    if major == 6:
        return _tag(buf, argument, end, depth)
    if major < 4:
        if argument > MAX_SIZE:
            raise ValueError("over the size limit")
        pos = end
        end += argument
        if end > len(buf):
            raise Truncated("truncated")
        return (bytes if major == 2 else _text)(buf[pos:end]), end
    if not depth:
        raise ValueError("nested too deep")
    if argument > MAX_ITEMS:
        raise ValueError("too many items")
    if argument << (major - 4) > len(buf) - end:  # each item is a byte at least: refuse before growing anything
        raise Truncated("truncated")
    return (_array if major == 4 else _map)(buf, argument, end, depth - 1)


def _array(buf, count, pos, depth):
    items = []
    for _ in range(count):
        item, pos = _item(buf, pos, depth)
        items.append(item)
    return items, pos


def _map(buf, count, pos, depth):
    items = {}
    last = b""
    for _ in range(count):
        key, end = _item(buf, pos, depth)
        _check_key(key)
        if not last < buf[pos:end]:
            raise ValueError("map keys out of order or duplicate")
        last = buf[pos:end]
        items[key], pos = _item(buf, end, depth)
    return items, pos


def _check_key(key):
    if type(key) not in (int, str, bytes):
        raise ValueError("map key is no integer or string")


def _text(raw):
    # MicroPython checks only the pattern of lead and continuation bytes (RFC 3629 forbids more).
    text = str(raw, "utf-8")
    size = len(text)
    if size != len(raw):
        for character in text:
            code = ord(character)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise ValueError("invalid UTF-8")
            size += (code > 0x7F) + (code > 0x7FF) + (code > 0xFFFF)
        if size != len(raw):
            raise ValueError("invalid UTF-8")  # overlong
    return text


def _tag(buf, number, pos, depth):
    if not depth:
        raise ValueError("nested too deep")
    value, pos = _item(buf, pos, depth - 1)
    if number not in (2, 3):
        return Tag(number, value), pos
    if not isinstance(value, bytes) or len(value) < 9 or not value[0]:
        raise ValueError("bignum is not shortest")
    value = int.from_bytes(value, "big")
    return (value if number == 2 else -1 - value), pos


def _simple(buf, pos, argument, end):
    size = end - pos
    if size < 3:
        if 20 <= argument <= 23:
            return (False, True, None, undefined)[argument - 20], end
        return Simple(argument), end
    value = struct.unpack((">e", ">f", None, ">d")[(size >> 1) - 1], buf[pos + 1 : end])[0]
    # Compared as bytes: where a float has 32 bits, one that it cannot hold is refused too.
    if _float(value) != buf[pos:end]:
        raise ValueError("float is not shortest")
    return value, end


def dumps(obj):
    """Encode `obj`: None, bool, int, float, str, bytes-like, list or tuple, dict, Tag, Simple.

    Raises TypeError for another type, and ValueError for what loads() would not take back whatever its limits.
    """
    out = bytearray()
    _write(out, obj)
    return bytes(out)


def _write(out, obj):
    if obj is None or obj is True or obj is False:
        out.append(0xF6 if obj is None else 0xF4 + obj)
    elif isinstance(obj, int):
        _int(out, obj)
    elif isinstance(obj, (bytes, bytearray, memoryview)):
        _head(out, 2, len(obj))
        out.extend(obj)
    elif isinstance(obj, str):
        raw = obj.encode()
        _text(raw)  # a str may hold a lone surrogate
        _head(out, 3, len(raw))
        out.extend(raw)
    elif isinstance(obj, Tag):
        if obj.tag in (2, 3):
            raise ValueError("write a bignum as int")
        _head(out, 6, obj.tag)
        _write(out, obj.value)
    elif isinstance(obj, Simple):
        if not (0 <= obj.value < 20 or obj.value == 23 or 32 <= obj.value < 256):
            raise ValueError("no such simple value")
        _head(out, 7, obj.value)
    elif isinstance(obj, (list, tuple)):
        _head(out, 4, len(obj))
        for item in obj:
            _write(out, item)
    elif isinstance(obj, dict):
        _head(out, 5, len(obj))
        pairs = []
        for key, value in obj.items():
            _check_key(key)
            pairs.append((dumps(key), value))
        for key, value in sorted(pairs, key=lambda pair: pair[0]):
            out.extend(key)
            _write(out, value)
    elif isinstance(obj, float):
        out.extend(_float(obj))
    else:
        raise TypeError("no CBOR for " + type(obj).__name__)


def _head(out, major, argument):
    major <<= 5
    if 0 <= argument < 24:
        out.append(major | argument)
        return
    for power in range(4):
        size = 1 << power
        if 0 <= argument < 1 << (8 * size):
            out.append(major | 24 + power)
            out.extend(argument.to_bytes(size, "big"))
            return
    raise ValueError("argument of a head is not 0 to 2**64 - 1")


def _int(out, value):
    major = 0
    if value < 0:
        major = 1
        value = -1 - value
    if not value >> 64:
        _head(out, major, value)
        return
    size = 9
    while value >> (8 * size):
        size += 1
    out.append(0xC2 + major)
    _head(out, 2, size)
    out.extend(value.to_bytes(size, "big"))


def _float(value):
    scaled = value * 16777216
    if scaled and -1024 < scaled < 1024 and scaled == int(scaled):
        # A half below 2**-14 is a multiple of 2**-24; MicroPython 1.29 packs the upper 512 wrongly.
        scaled = int(scaled)
        return b"\xf9" + struct.pack(">H", scaled if scaled > 0 else 0x8000 - scaled)
    # A conversion that loses anything does not compare equal, whatever it made of it; NaN never does.
    for initial, code in ((b"\xf9", ">e"), (b"\xfa", ">f"), (b"\xfb", ">d")):
        raw = struct.pack(code, value)
        if struct.unpack(code, raw)[0] == value:
            return initial + raw
    return b"\xf9\x7e\x00"
