"""Runs inside MicroPython beside a broker: a Link that is told what to do, line by line.

The first line of stdin is the job (JSON) {host, port, id, tls, subscriptions, keepalive, limits}; each line after it
is a command [name, ...]. Everything that happens is printed as one line of JSON [event, ...].
"""

import asyncio
import json
import sys
import time
from binascii import unhexlify

job = json.loads(sys.stdin.readline())
sys.path[:] = job["path"]

from gatehouse import link, mqtt, topics  # noqa: E402 the path comes with the job

for name, value in job["limits"].items():
    setattr(mqtt.Client if hasattr(mqtt.Client, name) else link.Link, name, value)


def tell(*event):
    print(json.dumps(event))


def on_message(topic, payload):
    if the_link.retained:
        tell("retained", topic.decode())
    tell("message", topic.decode(), len(payload), payload[:40].decode(), type(payload).__name__)
    if payload == b"publish":
        for qos in (0, 1):
            the_link.publish(topics.topic("reply", id=job["id"]), f"from the handler {qos}", qos=qos)
    elif payload == b"wrong":
        raise KeyError("a handler's mistake")
    elif payload == b"memory":
        raise MemoryError


def on_connect():
    the_link.publish(topics.topic("summary", id=job["id"]), "{}", True)
    tell("connect", the_link.connects)


tls = job["tls"] and [unhexlify(item) for item in job["tls"]]
the_link = link.Link(
    job["id"],
    job["host"],
    job["port"],
    on_message,
    job.get("subscriptions", ()),
    on_connect,
    tls and ([tls[0]], tls[1], tls[2]),
    job.get("user"),
    job.get("password"),
    job.get("keepalive", 60),
)
real_room = mqtt._room
slowest = 0  # ms between two turns of the loop


async def ticker():
    global slowest
    before = time.ticks_ms()
    while True:
        await asyncio.sleep_ms(1)
        now = time.ticks_ms()
        slowest = max(slowest, time.ticks_diff(now, before))
        before = now


async def obey(name, *arguments):
    global slowest
    if name == "publish":
        topic, payload, retain, qos = arguments
        the_link.publish(topic, payload, retain, qos)
    elif name == "acked":
        topic, payload, timeout = arguments
        started = time.ticks_ms()
        answer = await the_link.publish_acked(topic, payload, False, timeout)
        tell("acked", answer, time.ticks_diff(time.ticks_ms(), started))
    elif name == "pid":
        the_link._client.pid = arguments[0]
    elif name == "renew":
        the_link.renew()
    elif name == "room":
        mqtt._room = lambda length: arguments[0] or length <= 1024
        tell("room", [real_room(100), real_room(8192), real_room(1 << 30)])
    elif name == "follow":
        the_link.follow(*arguments)
    elif name == "close":
        the_link.close()
    elif name == "cancel":
        running.cancel()
    elif name == "state":
        tell("state", {
            "connected": the_link.connected, "connects": the_link.connects, "dropped": the_link.dropped,
            "oversize": the_link.oversize, "failures": the_link.failures, "last": the_link.last_failure,
            "queued": len(the_link._queue), "bytes": the_link._bytes, "slowest": slowest,
        })  # fmt: skip
        slowest = 0
    else:
        raise ValueError(name)


async def main():
    global running
    running = asyncio.create_task(the_link.run())
    ticking = asyncio.create_task(ticker())
    commands = asyncio.StreamReader(sys.stdin)
    while True:
        line = await commands.readline()
        if not line:
            break
        await obey(*json.loads(line))
    ticking.cancel()
    tell("end", running.done())


asyncio.run(main())
