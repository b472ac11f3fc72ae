"""The application of the releases that tests/powercut cuts the power of: it does the one thing that is due.

On trial it confirms, once it is online, or restarts at once where its `job` says that it is a bad release. Active it
gives its sign of health, does its writes to NVS, takes the offer that waits at `offer.suit`, and is idle. The lines
that begin with "harness:" are for the bench. Nothing here is what a device should do; the core under it is the real
one.
"""

import asyncio
import time

import esp32
import job
import machine
import network

from gatehouse import Refused, installer

# Pins, each high until the bench pulls it down.
HOLD = 4  # low keeps the device before the restart that an update ends with
LAST_GOOD = 5  # low has it go back from configuration 3 to the one before,
FACTORY = 6  # and from any to the factory's
MORE = 7  # low makes the journal grow to job.EVENTS of the harness's own, high to two thirds of them
BAD_SENSOR_S = 77  # sign of a configuration that does not work
_LOOK_MS = 2
_ATTEMPTS = 50  # at an offer, while it fails for want of the network
_MAX_OFFER = 8192  # bytes, of the largest envelope


def run(boot):
    """What the core calls."""
    release = boot.release
    partition = esp32.Partition(esp32.Partition.RUNNING).info()[4]
    told = (boot.mode, release.slot, release.version, boot.generation, boot.trust.version, partition)
    print("harness: up", *told)
    if boot.mode == "trial" and (job.BAD or boot.config.sensor_s == BAD_SENSOR_S):
        boot.restart()
    if boot.mode == "active":
        boot.healthy()
        _write(boot.store)
        _log(boot)
        _restore(boot)
    station = network.WLAN(network.STA_IF)
    station.active(True)
    station.connect("powercut", "")
    if not station.isconnected():
        print("harness: waits", *told)
        while not station.isconnected():
            _pause(boot)
    if boot.mode == "trial":
        boot.confirm()
    for _ in range(_ATTEMPTS):
        if not asyncio.run(_update(boot)):
            break
        _pause(boot)
    print("harness: idle")
    while True:
        _pause(boot)


def _pause(boot):
    boot.feed()
    time.sleep_ms(_LOOK_MS)


def _write(store):
    """Count in NVS up to job.WRITES, with a blob that tells the count too and is written before it."""
    for number in range(store.number("count") + 1, job.WRITES + 1):
        store.put("blob", bytes([number]) * (64 + number * 7 % 400))
        store.put_number("count", number)


def _log(boot):
    """Append numbered events to the journal, until there are as many as the job says."""
    if not job.EVENTS:
        return
    from gatehouse import cbor, journal

    last = 0
    for segment in journal.segments():
        for entry, _, _ in journal.entries(segment):
            item = cbor.loads(entry)
            if item[3] == "harness":
                last = item[4]
    for number in range(last + 1, (job.EVENTS if _low(MORE) else job.EVENTS * 2 // 3) + 1):
        journal.append(boot, "harness", number, bytes(160))
        boot.feed()


def _restore(boot):
    """Do what the pins command. Each is followed but once: then the generation is another."""
    if boot.generation == 3 and _low(LAST_GOOD):
        boot.restore()
        boot.restart()
    if boot.generation != 1 and _low(FACTORY):
        boot.restore(True)
        boot.restart()


def _low(pin):
    return not machine.Pin(pin, machine.Pin.IN).value()


async def _update(boot):
    """Take the offer, if there is one; true when it should be tried again."""
    try:
        data = await _offer(boot.config.base)
    except Refused as error:
        print("harness: offer:", error)
        return error.detail != "status 404"
    taker = installer.Installer(boot)
    if await taker.offer(data):
        if not _low(HOLD):
            boot.restart()
        print("harness: holds")
        while True:
            _pause(boot)
    if taker.refused:
        print("harness: refused", taker.refused["reason"], taker.refused["detail"])
    return taker.state["state"] == "failed"


async def _offer(base):
    """The envelope that waits on the server. Refused where there is none, or no server."""
    from gatehouse import source

    server = source.open_source("offer.suit", base)
    buffer = memoryview(bytearray(_MAX_OFFER))
    size = 0
    try:
        await server.open(0)
        while size < _MAX_OFFER:
            count = await server.readinto(buffer[size:])
            if not count:
                break
            size += count
    finally:
        await server.close()
    return bytes(buffer[:size])
