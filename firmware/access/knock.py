"""Waits for somebody at the UART. The console takes 10 KB of heap: it is loaded for as long as somebody is there."""

import asyncio
import gc
import select
import sys

from micropython import const

from access import passing

_POLL_MS = const(20)  # less than 260 bytes take at 115200 baud, which is what the chip keeps unread
_UNREAD = const(260)
_PAUSE_MS = const(1000)  # until the next try when the heap has no room
_PARTS = ("console", "line", "show")


async def serve(access, keys=None, pause_ms=_PAUSE_MS):
    """Serve the console; for ever. `access` has operations and auth; `keys` and `pause_ms` are for tests."""
    keys = keys or sys.stdin.buffer
    poll = select.poll()
    poll.register(keys, select.POLLIN)
    while True:
        while not _typed(poll):
            await asyncio.sleep_ms(_POLL_MS)
        try:
            await _visit(access)
        except MemoryError:  # an update takes it all: whoever types must not end it by that, nor the device
            print("gatehouse: console: no memory")
            passing.forget(*_PARTS)
            gc.collect()
            _drop(keys, poll)
            await asyncio.sleep_ms(pause_ms)
        passing.forget(*_PARTS)
        gc.collect()


async def _visit(access):
    from access import console

    await console.Console(access.operations, access.auth).run()


def _typed(poll):
    for _ in poll.ipoll(0):
        return True
    return False


def _drop(keys, poll):
    """What has been typed meanwhile is for nobody."""
    byte = bytearray(1)
    for _ in range(_UNREAD):
        if not _typed(poll):
            break
        keys.readinto(byte)
