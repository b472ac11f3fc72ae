"""What may be done now and then, but not at any rate: budgets that fill again with time."""

from time import ticks_add, ticks_diff, ticks_ms


def refilled(tokens, most, since, each_ms):
    """(tokens, since) of a budget that gets one token back in each `each_ms`, up to `most`."""
    now = ticks_ms()
    while tokens < most and ticks_diff(now, since) >= each_ms:
        tokens += 1
        since = ticks_add(since, each_ms)
    return tokens, since if tokens < most else now
