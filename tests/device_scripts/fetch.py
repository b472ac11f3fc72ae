"""Runs inside MicroPython beside a server: fetch as the first line of stdin says (JSON), print what came of it (JSON).

The job is {uri, base, limits, steps}; a step is ["open", start, end], ["read", n], ["all"], ["skip", n], ["busy", ms],
["mark"], ["cancelled"] or ["close"]. Data is told by its length and SHA-256. authorities: certificates in DER, as hex, whom an https server must be by.
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
        pack = source.open_source(job["uri"], job["base"], [unhexlify(item) for item in job.get("authorities", ())])
    except Refused as error:
        result["reason"] = error.reason
        return
    others = asyncio.create_task(ticker())
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
    result["received"] = pack._wire.received


started = time.ticks_ms()
asyncio.run(main())
result["ms"] = time.ticks_diff(time.ticks_ms(), started)
result["sha256"] = hexlify(digest.digest()).decode()
print(json.dumps(result))
