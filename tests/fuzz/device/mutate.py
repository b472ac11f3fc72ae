"""Mutations of byte strings, blind ones and ones that know CBOR. The caller seeds `random`, from which all chance is.

A tree is what tree() finds in well-formed CBOR: a list of items, those inside byte strings too, each a list of
[start, end of its head, end, major type, number of the item around it or -1].
"""

from random import choice, getrandbits, randrange

# What parsers trip over: ends of ranges, heads of every major type, indefinite lengths, breaks, tags, floats.
_BYTES = bytes(
    (0, 1, 0x17, 0x18, 0x1B, 0x1F, 0x20, 0x3B, 0x40, 0x58, 0x5F, 0x60, 0x7F, 0x80, 0x81, 0x9B, 0x9F)
    + (0xA0, 0xA1, 0xBF, 0xC2, 0xD8, 0xE0, 0xF4, 0xF6, 0xF7, 0xF8, 0xF9, 0xFB, 0xFE, 0xFF)
)
_NUMBERS = (0, 1, 2, 3, 4, 7, 15, 16, 23, 24, 31, 32, 33, 64, 107, 255, 256, 257, 1000, 1024, 2048, 8192, 65535, 65536)
_LARGE = (65537, 1 << 20, 1 << 21, (1 << 30) - 1, 1 << 30, (1 << 31) - 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63)
_LAST = (1 << 64) - 1
_ATOMS = (
    b"\xf4", b"\xf5", b"\xf6", b"\xf7", b"\xe0", b"\xf8\x20", b"\xf9\x3c\x00", b"\xf9\x7e\x00", b"\xfa\x7f\x7f\xff\xff",
    b"\xfb\x3f\xb9\x99\x99\x99\x99\x99\x9a", b"\x40", b"\x60", b"\x80", b"\xa0", b"\x41\x00", b"\x61\x61",
    b"\x62\xc3\xa9", b"\x62\xc0\x80", b"\x64\xf0\x9f\x98\x80", b"\x63\xed\xa0\x80", b"\x20",
    b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", b"\xc2\x41\x01", b"\xc1\x00", b"\xd8\x6b\xa0", b"\x82\x0c\x00",
    b"\x82\x14\xa1\x0d\xf5", b"\x82\x0e\x0f", b"\x81\x81\x81\x80", b"\x44\x82\x0c\x00\x00",
)  # fmt: skip
# Paths that no tree may hold, or that meet another one.
PATHS = (
    "../x", "..", "/x", "a/../../x", "a//b", "", ".", "a/..", "a/", ".x", "a/.x", "index.cbor", "manifest.suit",
    "app.mpy/x", "x.new", "boot.py", "gatehouse/x.mpy", "gatehouse.mpy", "machine.py", "os/x", "a" * 65, "a/b/c/d/e",
    "a\0b", "\xe9", "a b",
)  # fmt: skip


def head(major, argument, size=None):
    """The head of a CBOR item, shortest; `size` (0, 1, 2, 4 or 8 bytes after the first) makes it longer."""
    major <<= 5
    argument &= (1 << 64) - 1
    if size is None:
        size = 0 if argument < 24 else 1
        while argument >> (8 * size) and argument > 23:
            size *= 2
    if not size:
        return bytes((major | argument & 31,))
    first = major | 24 + (1, 2, 4, 8).index(size)
    return bytes((first,)) + (argument & ((1 << 8 * size) - 1)).to_bytes(size, "big")


def tree(data):
    """The items of one well-formed CBOR item, in order; [] where `data` is none."""
    found = []
    try:
        return found if _walk(data, 0, -1, found) == len(data) else []
    except (IndexError, RuntimeError):
        return []


def _walk(data, start, around, found):
    first = data[start]
    info = first & 31
    body = start + 1
    argument = info
    if info > 23:
        if info > 27:
            raise IndexError
        body += 1 << (info - 24)
        argument = int.from_bytes(data[start + 1 : body], "big")
    major = first >> 5
    item = [start, body, body, major, around]
    number = len(found)
    found.append(item)
    end = body
    if major == 2 or major == 3:
        end = body + argument
        if end > len(data):
            raise IndexError
        if major == 2 and argument > 1 and data[body] >> 5 in (4, 5, 6):  # perhaps CBOR in a byte string
            try:
                inside = _walk(data, body, number, found)
            except IndexError:
                inside = -1
            if inside != end:
                del found[number + 1 :]
    elif major > 3 and major < 7:
        if argument > len(data) and major != 6:
            raise IndexError
        for _ in range(1 if major == 6 else argument << (major - 4)):
            end = _walk(data, end, number, found)
    item[2] = end
    return end


def children(items, number):
    """The numbers of the items directly in item `number`."""
    return [at for at in range(number + 1, len(items)) if items[at][4] == number]


def replace(data, items, number, new):
    """`data` with item `number` replaced by the bytes `new`; the heads of byte strings around it are mended."""
    start, _, end, _, around = items[number]
    while around >= 0:
        first, body, last, major, above = items[around]
        content = data[body:start] + new + data[end:last]
        new = (head(2, len(content)) if major == 2 else data[first:body]) + content
        start, end, around = first, last, above
    return data[:start] + new + data[end:]


def number_near(value):
    """Another value in place of the number `value`."""
    kind = randrange(6)
    if kind < 2:
        return max(0, value + choice((-2, -1, 1, 2, 256, -256)))
    if kind == 2:
        return value ^ (1 << randrange(max(8, len(bin(value)) - 2)))
    if kind == 3:
        return choice(_LARGE)
    return _LAST if kind == 4 and not randrange(4) else choice(_NUMBERS)


def blind(data, other):
    """One change that knows nothing of the format; `other` is another seed, to splice with."""
    kind = randrange(12)
    size = len(data)
    if not size:
        return bytes((getrandbits(8),))
    at = randrange(size)
    if kind < 3:
        return data[:at] + bytes((data[at] ^ 1 << randrange(8),)) + data[at + 1 :]
    if kind == 3:
        return data[:at] + bytes((choice(_BYTES),)) + data[at + 1 :]
    if kind == 4:
        return data[:at] + bytes(getrandbits(8) for _ in range(randrange(1, 9))) + data[at:]
    length = 1 + randrange(min(size - at, choice((1, 2, 4, 16, 64, 1024))))
    if kind == 5:
        return data[:at] + data[at + length :]
    if kind == 6:
        return data[: at + length] + data[at:]
    if kind == 7:
        return data[:at]
    if kind == 8:  # a big-endian number of 1, 2, 4 or 8 bytes
        length = min(choice((1, 2, 4, 8)), size - at)
        value = number_near(int.from_bytes(data[at : at + length], "big")) & ((1 << 8 * length) - 1)
        return data[:at] + value.to_bytes(length, "big") + data[at + length :]
    if kind == 9:
        return data[:at] + other[randrange(len(other) + 1) :]
    if kind == 10:  # a piece goes elsewhere
        to = randrange(size)
        return data[:to] + data[at : at + length] + data[to + length :]
    return data + bytes(getrandbits(8) for _ in range(choice((1, 1, 3, 40, 700))))


def aware(data, other, wanted=None):
    """One change of one CBOR item, all heads around it as they have to be. What is no CBOR is changed blindly.

    `wanted(data, items)` narrows the choice to the item numbers that it gives.
    """
    items = tree(data)
    if not items:
        return blind(data, other)
    number = choice(wanted(data, items) if wanted else range(len(items)))
    return replace(data, items, number, _changed(data, items, number, other))


def _changed(data, items, number, other):
    start, body, end, major, _ = items[number]
    item = data[start:end]
    argument = data[start] & 31 if body == start + 1 else int.from_bytes(data[start + 1 : body], "big")
    kind = randrange(14)
    if kind == 0:
        return choice(_ATOMS)
    if kind == 1:  # the head lies
        return head(major, number_near(argument)) + data[body:end]
    if kind == 2:  # not the shortest head
        sizes = [size for size in (1, 2, 4, 8) if size > body - start - 1]
        return head(major, argument, choice(sizes)) + data[body:end] if sizes else item
    if kind == 3:
        return bytes((major << 5 | 31,)) + data[body:end] + b"\xff"
    if kind == 4:
        return head(randrange(8), argument) + data[body:end]
    if kind == 5:
        return head(6, choice((0, 2, 3, 18, 61, 107, number_near(107)))) + item
    if kind == 6:
        return b"\x81" * choice((1, 2, 5, 9, 40, 300)) + item
    if kind == 7:  # inside a byte string, or out of it
        return head(2, len(item)) + item if major != 2 else data[body:end] or item
    if kind == 8:  # some other item, of this seed or of another
        if randrange(2):
            from_items, source = items, data
        else:
            from_items, source = tree(other), other
        if from_items:
            found = choice(from_items)
            return source[found[0] : found[2]]
    if major < 2 or (kind == 9 and major == 6):
        if kind == 10:
            return head(1 - major, argument) if major < 2 else item
        return head(major, number_near(argument)) + data[body:end]
    if major == 2 or major == 3:
        content = data[body:end]
        for _ in range(1 + randrange(2)):
            content = blind(content, other) if kind < 13 else content + bytes(choice((1, 8, 31, 200, 3000)))
        return head(major, len(content)) + content
    if major == 4 or major == 5:
        return _rearranged(data, items, number)
    return blind(item, other)


def _rearranged(data, items, number):
    """An array or a map with entries swapped, doubled, removed or added."""
    major = items[number][3]
    parts = [data[items[at][0] : items[at][2]] for at in children(items, number)]
    step = major - 3
    if major == 5:
        parts = [parts[at] + parts[at + 1] for at in range(0, len(parts), 2)]
    if not parts:
        return head(major, 1) + choice(_ATOMS) * step
    at, to = randrange(len(parts)), randrange(len(parts))
    kind = randrange(5)
    if kind < 2:
        parts[at], parts[to] = parts[to], parts[at]
    elif kind == 2:
        parts.insert(to, parts[at])
    elif kind == 3:
        del parts[at]
    elif major == 4:
        parts.insert(at, choice(_ATOMS) if randrange(3) else head(0, choice(_NUMBERS)))
    else:
        parts.insert(at, head(randrange(2), choice(_NUMBERS)) + choice(_ATOMS))
    return head(major, len(parts)) + b"".join(parts)


def mutate(data, other):
    """One to three changes of `data`. Sometimes they change nothing."""
    for _ in range(choice((1, 1, 1, 2, 2, 3))):
        data = (aware if randrange(8) < 5 else blind)(data, other)
    return data
