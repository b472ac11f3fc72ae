"""The core alone takes an offer: boot, then Installer.offer() of the envelope in /offer.suit over HTTP."""

import asyncio
import gc
from time import clock, ticks_diff, ticks_us

import start

_laps = {}  # function -> microseconds of CPU in it


def _watch(place, name):
    function = getattr(place, name)

    def watched(*arguments):
        started = clock()
        try:
            return function(*arguments)
        finally:
            _laps[name] = _laps.get(name, 0) + (clock() - started) * 1e6

    setattr(place, name, watched)


def _watch_async(place, name):
    function = getattr(place, name)

    async def watched(*arguments):
        started = clock()
        await function(*arguments)
        _laps[name] = _laps.get(name, 0) + (clock() - started) * 1e6

    setattr(place, name, watched)


def run(options):
    """{"state", "reason", "us", "cpu", "operations", "signature_us"...}. `resident`: the modules stay in memory."""
    gc.threshold(options["threshold"])
    from gatehouse import memory

    for name in memory._PASSING:  # as memory.settle(): every name is interned before the heap is used
        __import__("gatehouse." + name)
    memory.unload()
    gc.collect()
    from gatehouse import installer, slots

    if options["resident"]:
        for name in memory._PASSING:
            __import__("gatehouse." + name)
        installer.unload = memory.unload = lambda *names: None
        from gatehouse import tree, unpack

        _watch(installer.Installer, "_admit")
        _watch(tree, "verify")
        _watch_async(unpack, "fill")
    boot = slots.boot()
    with open("/offer.suit", "rb") as file:
        envelope = file.read()
    _laps.clear()
    found = installer.Installer(boot)
    gc.collect()
    used = gc.mem_alloc()
    before, cpu, started = start.operations(), clock(), ticks_us()
    due = asyncio.run(found.offer(envelope))
    us, cpu = ticks_diff(ticks_us(), started), clock() - cpu
    return {
        "mode": boot.mode,
        "due": due,
        "state": found.state["state"],
        "reason": found.state["reason"],
        "detail": found.state["detail"],
        "us": us,
        "cpu": cpu * 1e6,
        "operations": start.operations() - before,
        "used": used,
        "laps": _laps,
        "free": gc.mem_free(),
    }
