"""What may be done now and then, but not at any rate: budgets that fill again with time."""

from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

_NOTES = const(4)  # entries of the journal at once,
_NOTE_MS = const(600000)  # and one more in each ten minutes: a day of them is what the journal holds


def refilled(tokens, most, since, each_ms):
    """(tokens, since) of a budget that gets one token back in each `each_ms`, up to `most`."""
    now = ticks_ms()
    passed = ticks_diff(now, since)
    if passed < 0:  # nobody asked for days, and the ticks went round
        return most, now
    more = min(passed // each_ms, most - tokens)
    tokens += more
    return tokens, now if tokens == most else ticks_add(since, more * each_ms)


class Budget:
    """So many at once, and one more after each so many milliseconds."""

    def __init__(self, most, each_ms):
        self._most = self._left = most
        self._each_ms = each_ms
        self._since = ticks_ms()

    def take(self):
        """Take one. Whether there was one."""
        self._left, self._since = refilled(self._left, self._most, self._since, self._each_ms)
        if self._left:
            self._left -= 1
            return True
        return False


class Notes:
    """Journal entries of what anybody can cause as often as he likes: a flood must not push the older ones out.

    How many were left out stands at the end of the next one that is written.
    """

    def __init__(self):
        self._budget = Budget(_NOTES, _NOTE_MS)
        self._unnoted = 0

    def tell(self, note, *event):
        """Call note(*event, number left out), or count the event."""
        if self._budget.take():
            note(*(event + (self._unnoted,)))
            self._unnoted = 0
        else:
            self._unnoted += 1
