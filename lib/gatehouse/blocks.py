"""A pack as retained messages on the broker, read like one on a server.

Block n of a pack is bytes [n * BLOCK, (n + 1) * BLOCK), retained on the topic that names the pack by the digest of its
index. The last block is the one that is shorter. (There is no empty one behind a full last block: MQTT 3.1.1 section
3.3.1.3 takes an empty retained message for a removal.) As with any source, nothing here is trusted.
"""

import asyncio
import time

from micropython import const

from gatehouse import Refused, topics

# Each block is one allocation of the device, so it must be found in one piece in a heap in use; smaller ones cost more
# round trips. The host publishes blocks of this size.
BLOCK = const(2048)

_LOOK_MS = const(5)  # between looks for a block that is waited for
_UNSUBACK = const(0xB0)


def block_topic(digest, number):
    """The topic of block `number` of the pack whose index has this SHA-256 (bytes)."""
    return topics.topic("block", digest="".join("%02x" % byte for byte in digest), n=number)


class BlockSource:
    """The same methods as HttpSource. Refused: "network" without a broker or where the link breaks, "timeout" for a
    block that does not come, "size" for one of wrong length or a range beyond the last."""

    WAIT_MS = 10000  # for one block: no pack comes slower than 200 bytes a second

    def __init__(self, link, digest):
        """link: a link.Link, or None where there is none; digest: SHA-256 of the pack's index."""
        self._link = link
        self._digest = digest
        self.received = 0  # bytes of blocks that the network brought
        self._block = b""
        self._number = -1  # of the block that is here
        self._at = self._end = 0

    async def open(self, start, end=None):
        """Read bytes [start, end) from now on, or from start to the end of the last block."""
        if start < 0 or (end is not None and end <= start):
            raise ValueError("range")
        self._at = start
        self._end = end

    async def readinto(self, view):
        """Read into a memoryview; how many bytes, 0 at the end of the range."""
        if self._at == self._end:
            return 0
        number = self._at // BLOCK
        start = self._at - number * BLOCK
        if number != self._number:
            await self._fetch(number)
        stop = len(self._block)
        if start >= stop:
            if self._end is None and start == stop:
                return 0
            raise Refused("size", "block %d has %d bytes" % (number, stop))
        if self._end is not None:
            stop = min(stop, start + self._end - self._at)
        count = min(len(view), stop - start)
        view[:count] = memoryview(self._block)[start : start + count]
        self._at += count
        return count

    async def skip(self, count):
        """Leave `count` bytes out. Refused("size") where the range ends before."""
        if self._end is not None and count > self._end - self._at:
            raise Refused("size", "too short")
        self._at += count

    async def close(self):
        """Forget the block that is here. May be called twice."""
        self._block = b""
        self._number = -1
        self._at = self._end = 0

    async def _fetch(self, number):
        if not self._link:
            raise Refused("network", "no broker")
        self._number = -1
        self._block = b""  # its room may be needed for the next
        block = await _retained(self._link, block_topic(self._digest, number).encode(), self.WAIT_MS)
        if len(block) > BLOCK:
            raise Refused("size", "block %d has %d bytes" % (number, len(block)))
        self.received += len(block)
        self._block = block
        self._number = number


# What follows belongs to link.Link and mqtt.Client, which are always in memory; this is there while a pack comes.


async def _retained(link, topic, limit_ms):
    """The retained message on `topic` (bytes). It is subscribed to for that long only."""
    from gatehouse import mqtt

    client = link._client
    if not client:
        raise Refused("network", "no broker")
    deadline = time.ticks_add(time.ticks_ms(), limit_ms)
    found = []
    link.on_block = lambda name, payload: found.append(payload) if name == topic and not found else None
    try:
        link._exchange(client.subscribe, topic, 0)
        while link._client is client and not found and time.ticks_diff(deadline, time.ticks_ms()) > 0:
            await asyncio.sleep_ms(0 if link._exchange(client.step) else _LOOK_MS)
        if link._client is client:
            link._exchange(_unsubscribe, client, topic)
    except mqtt.FAILURES as error:
        link._failed(error)
        if isinstance(error, MemoryError):
            raise
        raise Refused("network", "link: %s" % error)
    finally:
        link.on_block = None
    if not found:
        raise Refused("timeout" if link._client is client else "network", "no block")
    return found[0]


def _unsubscribe(client, topic):
    """Unsubscribe and wait for the UNSUBACK (MQTT 3.1.1 section 3.10), which umqtt.simple has not."""
    client.exchange(_UNSUBACK)
    client.pid += 1
    packet_id = client.pid.to_bytes(2, "big")
    client.wire.write(bytes((0xA2, 4 + len(topic))) + packet_id + bytes((0, len(topic))) + topic)
    while client.wait_msg() != _UNSUBACK:
        pass
    if client.wire.read(3) != b"\x02" + packet_id:
        raise AssertionError("UNSUBACK")  # one of mqtt.FAILURES
