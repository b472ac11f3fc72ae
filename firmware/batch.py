"""The next message of the journal topic, made from what is on flash. Loaded for a message, and forgotten after it."""

from micropython import const

from gatehouse import cbor, journal

_MOST = const(8)  # entries
_SIZE = const(1024)  # bytes of them: a larger piece is hard to find in a heap in use
_AROUND = const(24)  # bytes of tag and CBOR to each entry


def message(boot, after):
    """(message, number of its last entry, number before the oldest entry on flash) of what comes after number `after`.

    The message is None where nothing does. Its entries hang together: it ends before one that does not follow.
    """
    known = journal.segments()
    numbers = [journal.start(segment) for segment in known]
    items, size, last, before = [], 0, after, b""
    for at, segment in enumerate(known):
        if at + 1 < len(known) and numbers[at + 1] <= after:
            continue
        number = numbers[at]
        found = journal.entries(segment)
        try:
            for entry, tag, link in found:
                number += 1
                if number <= after:
                    continue
                size += len(entry) + _AROUND
                follows = not items or (number == last + 1 and link == items[-1][1])
                if not follows or len(items) == _MOST or size > _SIZE:
                    return cbor.dumps([boot.boot_count, items, before]), last, numbers[0]
                if not items:
                    before = link
                items.append([entry, tag])
                last = number
        finally:
            found.close()  # the file, now: one that is left open fails when it is collected
    return items and cbor.dumps([boot.boot_count, items, before]), last, numbers[0] if numbers else 0
