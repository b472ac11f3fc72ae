"""Runs mutants of one target inside MicroPython: `-m run_fuzz JOB.json PATH...` (tests/fuzz/driver.py writes the job).

Each mutant depends on the seed, the target and its own number alone, so that one can be repeated by itself. Printed are
the bytes that are in use before the first, the number of each mutant before it runs, each failure, and at the end the
counts, as JSON.
"""

import gc
import json
import sys
from binascii import crc32, hexlify
from time import ticks_diff, ticks_ms

_LEAK = 512  # bytes that may be missing after a mutant: what a module keeps for the first time
_TRIES = 8  # in a row, of which each has to leak
_MS = 3000  # of one mutant; the longest honest one takes 60, and two cores may serve many
_FAILURES = 5  # of one process, then it stops

REASONS = ()


class Broken(Exception):
    """A property that does not hold."""


def chance(seed, target, number):
    """Seed all chance for one mutant."""
    import random

    random.seed(crc32(b"%d/%s/%d" % (seed, target.encode(), number)))


def level():
    """Bytes in use, once the garbage is gone."""
    gc.collect()
    return gc.mem_alloc()


def why(error):
    """What is wrong with an exception, None if it is a documented refusal."""
    from gatehouse import Refused

    if isinstance(error, Refused):
        return None if error.reason in REASONS else "reason %r is not in reasons.py" % (error.reason,)
    return "%s instead of a refusal" % type(error).__name__


def one(target, number, seed):
    """Run one mutant: (outcome, None) or (None, (what is wrong, exception or None, mutant))."""
    chance(seed, target.name, number)
    mutant = target.make()
    started = ticks_ms()
    try:
        try:
            outcome = target.check(mutant)
        finally:
            took = ticks_diff(ticks_ms(), started)
            target.after()
    except Broken as error:
        return None, (str(error), None, mutant)
    except Exception as error:  # noqa: BLE001 that is the question
        wrong = why(error)
        if wrong:
            return None, (wrong, error, mutant)
        outcome = error.reason
    if took > _MS:
        return None, ("took %d ms" % took, None, mutant)
    return outcome, None


def told(number, text, target, mutant):
    """A failure as JSON, without the mutant where the heap does not hold its text."""
    try:
        return json.dumps({"number": number, "why": text, "mutant": target.shown(mutant)})
    except MemoryError:
        gc.collect()
        return json.dumps({"number": number, "why": text, "mutant": None})


def main():
    """Do the job. The counts are the last line."""
    import sources

    with open(sys.argv[1]) as file:
        job = json.load(file)
    global REASONS
    REASONS = tuple(job["reasons"])
    target = sources.target(job["target"], job["seeds"])
    target.honest()
    counts = {}
    failures = 0
    before = level()
    print("#%d" % before)
    numbers = job["only"] or range(job["first"], job["first"] + job["count"])
    for number in numbers:
        print("@%d" % number)
        for _ in range(_TRIES):  # what is kept once, or by an old word on the stack, does not come each time again
            outcome, wrong = one(target, number, job["seed"])
            now = level()
            leaked = now - before
            before = now
            if wrong or leaked <= _LEAK:
                break
        else:
            chance(job["seed"], target.name, number)
            wrong = ("%d bytes of heap are not given back" % leaked, None, target.make())
        if wrong:
            text, error, mutant = wrong
            print("!" + told(number, text, target, mutant))
            if error:
                sys.print_exception(error, sys.stdout)
            wrong = error = mutant = None
            failures += 1
            if failures >= _FAILURES:
                break
            outcome = "FAILED"
        counts[outcome] = counts.get(outcome, 0) + 1
    print("=" + json.dumps(counts))


def hexed(data):
    """Bytes as hex text."""
    return hexlify(data).decode()


sys.path[:] = sys.argv[2:]
if __name__ == "__main__":
    sys.modules["run_fuzz"] = sys.modules["__main__"]
    main()
