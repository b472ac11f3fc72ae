"""Operations on the device itself: its networks, its light, its restart, its end of an ownership."""

import asyncio

from micropython import const

from access import passing
from gatehouse import Refused, cbor, status

_ANSWER_MS = const(1500)  # before a restart, so that the answer is out
_BLINK_MS = const(250)


async def config_restore(operations, session, values):
    """Try the last good or the factory's configuration at the next start, which comes now."""
    operations.boot.restore(values["to"] == "factory")
    return _restart(operations)


async def wifi_set(operations, session, values):
    """Give the Wi-Fi network's name and password (none on an open one); in force at the next start."""
    size = len(values["password"])
    if 0 < size < 8:
        raise Refused("argument", "a Wi-Fi password has 8 to 63 characters, or none on an open network")
    if len(values["ssid"].encode()) > 32:
        raise Refused("argument", "a Wi-Fi name has at most 32 bytes")
    operations.boot.store.put("wifi", cbor.dumps([values["ssid"], values["password"]]))
    return {"in force": "at the next start"}


async def broker_set(operations, session, values):
    """Give the broker's user and password; in force at the next start."""
    operations.boot.store.put("broker", cbor.dumps([values["user"], values["password"]]))
    return {"in force": "at the next start"}


async def reboot(operations, session, values):
    """Start again."""
    return _restart(operations)


async def identify(operations, session, values):
    """Blink the light of the board, so that people see which one it is."""
    pin = operations.boot.identity.led
    if pin is None:
        raise Refused("unsupported", "this board has no light")
    seconds = values.get("seconds", 10)
    if operations.light:
        operations.light.cancel()  # one light, one task
    operations.light = asyncio.create_task(_blink(pin, seconds))
    return {"seconds": seconds}


async def erase(operations, session, values):
    """End this ownership: passwords, thresholds and network credentials go, and all keys that were derived."""
    boot = operations.boot
    if values["confirm"] != boot.identity.id:
        raise Refused("argument", "confirm must be this device's id")
    from access import epoch

    operations.auth.reset()
    try:
        epoch.end(boot, "erase", True)
    finally:
        del epoch
        passing.forget("epoch")
        told = _restart(operations)  # also where NVS failed in the middle: it is to be done again, from the label on
    return told


async def repl(operations, session, values):
    """Open the REPL on the console for a time, where the policy allows it. The console does it, the report tells it."""
    most = operations.boot.config.repl_s
    if not most:
        raise Refused("disabled", "the policy opens no REPL")
    update = operations.application.installer.state["state"]
    if operations.boot.mode != "active" or update in ("downloading", "installing"):
        raise Refused("busy", "an update is under way or on trial: the REPL would end it")
    seconds = min(most, values["minutes"] * 60)
    operations.repl_until = status.uptime() + seconds
    operations.application.changed.set()
    operations.boot.note("repl", session.interface, session.user, seconds)
    return {"seconds": seconds}


def _restart(operations):
    operations.task = asyncio.create_task(_leave(operations))
    return {"restart": True}


async def _leave(operations):
    await asyncio.sleep_ms(_ANSWER_MS)
    try:
        await operations.application.leave()
    except (OSError, MemoryError) as error:  # it is not told, but it is done
        print("restart:", error)
        operations.boot.restart()


async def _blink(pin, seconds):
    import machine

    led = machine.Pin(pin, machine.Pin.OUT)
    for count in range(seconds * 1000 // _BLINK_MS):
        led.value(count & 1)
        await asyncio.sleep_ms(_BLINK_MS)
    led.value(0)
