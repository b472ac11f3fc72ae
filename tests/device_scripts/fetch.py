"""Runs inside MicroPython beside a server: fetch as the first line of stdin says (JSON), print what came of it (JSON).

The job is {uri, base, limits, steps}; a step is ["open", start, end], ["read", n], ["all"], ["skip", n], ["busy", ms],
["mark"], ["cancelled"] or ["close"]. Data is told by its length and SHA-256.
authorities: certificates in DER, as hex, by one of whom an https server must be. mqtt: {host, port, id, tls}, a broker;
then "digest" (hex) names the blocks, and "messages" tells what reached on_message.
"""

import asyncio
import hashlib
import json
import sys
import time
from binascii import hexlify, unhexlify

job = json.loads(sys.stdin.readline())
sys.path[:] = job["path"]

from gatehouse import Refused, connection, source  # noqa: E402 the path comes with the job

the_link = None
messages = []
if job.get("mqtt"):
    from gatehouse import blocks, link, mqtt

    link.Link.FIRST_RETRY_MS = link.Link.LAST_RETRY_MS = 40
    link.Link.POLL_MS = 5
    tls = job["mqtt"].get("tls")
    tls = tls and [unhexlify(item) for item in tls]
    the_link = link.Link(
        job["mqtt"]["id"],
        job["mqtt"]["host"],
        job["mqtt"]["port"],
        lambda topic, payload: topic.decode() in messages or messages.append(topic.decode()),
        job["mqtt"].get("subscriptions", ()),
        None,
        tls and ([tls[0]], tls[1], tls[2]),
    )
    for name, value in job["limits"].items():
        setattr(blocks.BlockSource if name == "WAIT_MS" else mqtt.Client, name, value)
else:
    for name, value in job["limits"].items():
        setattr(source.HttpSource if name == "MAX_SKIP" else connection.Connection, name, value)

result = {"length": 0, "reason": None, "ticks": 0}
digest = hashlib.sha256()
view = memoryview(bytearray(job.get("buffer", 1024)))


async def read(pack, limit):
    got = 0
    while got < limit:
        count = await pack.readinto(view[: min(len(view), limit - got)])
        if not count:
            break
        digest.update(view[:count])
        got += count
    result["length"] += got


async def ticker():
    while True:  # proves that a transfer leaves the loop to others
        result["ticks"] += 1
        await asyncio.sleep_ms(0)


async def main():
    try:
        pack = source.open_source(
            job["uri"],
            job["base"],
            [unhexlify(item) for item in job.get("authorities", ())],
            the_link,
            unhexlify(job.get("digest", "")),
        )
    except Refused as error:
        result["reason"] = error.reason
        return
    others = asyncio.create_task(ticker())
    if the_link:
        linked = asyncio.create_task(the_link.run())
        while not the_link.connected:
            await asyncio.sleep_ms(5)
    try:
        for step in job["steps"]:
            if step[0] == "open":
                await pack.open(step[1], step[2])
            elif step[0] == "read":
                await read(pack, step[1])
            elif step[0] == "all":
                await read(pack, 1 << 30)
            elif step[0] == "skip":
                await pack.skip(step[1])
            elif step[0] == "busy":
                await asyncio.sleep_ms(step[1])
            elif step[0] == "close":
                await pack.close()
            elif step[0] == "mark":
                result["ticks"] = 0
            elif step[0] == "cancelled":
                # Somebody else's cancellation while the server is silent must arrive as such, not as a refusal.
                task = asyncio.create_task(pack.readinto(view))
                await asyncio.sleep_ms(20)
                task.cancel()
                try:
                    await task
                    result["reason"] = "not cancelled"
                except asyncio.CancelledError:
                    result["reason"] = "cancelled"
    except Refused as error:
        result["reason"] = error.reason
        result["detail"] = error.detail
    await pack.close()
    others.cancel()
    if the_link:
        while not the_link.connected:  # a link that was lost comes back
            await asyncio.sleep_ms(5)
        linked.cancel()
        result["messages"] = messages
        result["failures"] = the_link.failures
    result["received"] = pack.received if the_link else pack._wire.received


started = time.ticks_ms()
asyncio.run(main())
result["ms"] = time.ticks_diff(time.ticks_ms(), started)
result["sha256"] = hexlify(digest.digest()).decode()
print(json.dumps(result))
