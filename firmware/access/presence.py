"""Physical presence: the board's button, held for ten seconds from the start on, returns to the label password."""

import asyncio

import machine
from micropython import const

from access import passing

_POLL_MS = const(100)
_HOLD_MS = const(10000)  # no pocket or falling box holds a button for so long


async def watch(boot, auth):
    """Look at the button from the start on; whoever lets go within ten seconds has done nothing.

    It never touches firmware, trust anchors or device key. Afterwards, once the button is let go, the device restarts,
    so that nothing lives on that was derived under the old owner epoch.
    """
    pin = machine.Pin(boot.identity.button, machine.Pin.IN, machine.Pin.PULL_UP)
    for _ in range(_HOLD_MS // _POLL_MS):
        if pin.value():
            break
        await asyncio.sleep_ms(_POLL_MS)
    else:
        from access import epoch

        auth.reset()
        epoch.end(boot, "presence")
        del epoch
        passing.forget("epoch")
        while not pin.value():
            await asyncio.sleep_ms(_POLL_MS)
        boot.restart()
