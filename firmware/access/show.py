"""Results of operations as lines of text for a terminal: bounded, and without anything that the terminal would obey."""

from binascii import hexlify

from micropython import const

_WIDTH = const(160)  # characters of a line: the longest is a journal entry
_LINES = const(80)  # of a result: half a second at 115200 baud
_DEPTH = const(3)
_MARK = const(63)  # "?"


def clean(text):
    """`text` as bytes, without control characters: what others have sent, such as an update's detail, stays text.

    Byte by byte, because MicroPython keeps every letter that a loop over a str has seen.
    """
    data = bytearray(text.encode())
    for at, byte in enumerate(data):
        if byte < 32 or byte == 127:
            data[at] = _MARK
        elif byte == 0xC2 and data[at + 1] < 0xA0:  # U+0080 to U+009F
            data[at] = data[at + 1] = _MARK
        elif byte == 0xE2 and (data[at + 1], data[at + 2] & 0xF0) in ((0x80, 0xA0), (0x81, 0xA0)):
            data[at] = data[at + 1] = data[at + 2] = _MARK  # U+2020 to U+202F, U+2060 to U+206F: writing directions
    return data


def _word(value):
    if value is None:
        return "-"
    if value is True or value is False:
        return "yes" if value else "no"
    if isinstance(value, (bytes, bytearray)):
        return hexlify(bytes(value[: _WIDTH // 2])).decode()
    return str(value)[:_WIDTH]


def _plain(value):
    return not isinstance(value, (dict, list, tuple))


def _flat(value):
    return isinstance(value, (list, tuple)) and all(_plain(one) for one in value)


def _one(value):
    return _word(value) if _plain(value) else "  ".join(_word(one) for one in value)


def _rows(value, indent, depth):
    if _plain(value) or depth == _DEPTH:
        yield indent + _word(value)
    elif isinstance(value, dict):
        for key in sorted(value, key=str):  # a dict of MicroPython keeps no order
            item = value[key]
            if _plain(item) or _flat(item):
                yield "%s%s: %s" % (indent, key, _one(item))
            elif item:
                yield "%s%s:" % (indent, key)
                for row in _rows(item, indent + "  ", depth + 1):
                    yield row
    else:
        for item in value:
            if _flat(item):
                yield indent + _one(item)
            else:
                for row in _rows(item, indent, depth + 1):
                    yield row


def lines(result):
    """The lines of a result (dict of plain values): at most _LINES, the last of which says when there would be more."""
    for count, row in enumerate(_rows(result, "", 0)):
        if count == _LINES - 1:
            yield "..."
            return
        yield row[:_WIDTH]
