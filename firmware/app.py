"""The application: one sensor, its readings and reports over MQTT, and signed updates of itself.

`run(boot)` is what the core calls. An exception in any service ends it, and the core resets the device: a part that
died silently would look like a healthy device.
"""

import asyncio
import gc

from micropython import const

import report
import sensor
from gatehouse import cbor, installer, link, status, topics, wifi

_ACK_MS = const(10000)
_UNTOLD = const(10)  # reports in a row that are left out for want of memory, then it is a fault
_LAST_RETRY_MS = const(3600000)
_OFFER_BYTES = const(8192)  # of waiting offers: one of the largest, or a dozen of the usual size
_MANIFEST = const(3)  # SUIT labels, only to put offers in order
_SEQUENCE = const(2)


class Offers:
    """Offers that wait: the highest sequence number first, the newest of each topic, at most _OFFER_BYTES.

    The number is what the envelope says, not yet authenticated. So it decides about the order and nothing else; a
    forged high one is refused in its turn, and what waits behind it comes next.
    """

    def __init__(self):
        self._waiting = []  # (sequence number, envelope, topic), highest first
        self.event = asyncio.Event()

    def __len__(self):
        return len(self._waiting)

    def put(self, data, topic=b""):
        """Keep an envelope (bytes) in place of what waited from the same topic, as the broker does."""
        self._waiting = [item for item in self._waiting if item[2] != topic or not topic]
        if any(item[1] == data for item in self._waiting):
            return
        self._waiting.append((_sequence(data), data, topic))
        self._waiting.sort(key=lambda item: -item[0])
        while sum(len(item[1]) for item in self._waiting) > _OFFER_BYTES:
            self._waiting.pop()
        self.event.set()

    def take(self):
        """The envelope with the highest sequence number."""
        return self._waiting.pop(0)[1]


def _sequence(data):
    try:
        members = cbor.loads(data).value
        return int(cbor.loads(members[_MANIFEST])[_SEQUENCE])
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return -1  # it will be refused, and that reported


class Application:
    """The services of a device, and what they know of each other."""

    BEAT_MS = 1000  # well below the shortest watchdog of a configuration
    ALIVE_BEATS = 10  # so many heartbeats are a sign of health of a release that had confirmed before
    COALESCE_MS = 300  # changes that come together make one report
    GATHER_MS = 300  # the offers to the device and to its groups come in one burst at connect: the highest first
    PAUSE_MS = 500  # between offers, so that a flood of them does not stop the sensor
    POLICY_MS = 30000  # between looks whether the policy still holds an update back
    FIRST_RETRY_MS = 15000  # of an offer that failed for want of network, space or time

    def __init__(self, boot):
        self.boot = boot
        self.changed = asyncio.Event()  # something that a report tells
        self.offers = Offers()
        self.acknowledged = False  # a report reached the broker
        self.untold = 0  # reports in a row that found no memory
        self.installer = installer.Installer(boot, self.changed.set)
        self.link = self.installer.link = link.for_device(boot, self.received, self.changed.set)
        self.reporter = report.Reporter(boot, self.installer, self.link, sensor.Sensor())

    def received(self, topic, payload):
        """A message of the link."""
        if topic.endswith(b"/offer") and payload:
            self.offers.put(bytes(payload), bytes(topic))

    async def main(self):
        """Run all services. Ends when one of them does, by its exception."""
        await asyncio.gather(
            self.beat(), wifi.run(self.boot), self.link.run(), self.sense(), self.tell(), self.update()
        )

    async def beat(self):
        """Feed the watchdog while the event loop turns, and say that this release is alive."""
        beats = 0
        clock = self.boot.now() is not None
        while True:
            self.boot.feed()
            status.uptime()
            if beats == self.ALIVE_BEATS:
                self.boot.healthy()
            beats += 1
            if not clock and self.boot.now() is not None:
                clock = True
                self.changed.set()
                self.offers.event.set()  # one may have failed for want of it
            await asyncio.sleep_ms(self.BEAT_MS)

    async def sense(self):
        """Read and publish the sensor."""
        topic = self._topic("sensor")
        while True:
            if self.reporter.read():
                self.changed.set()
            self.link.publish(topic, self.reporter.reading())
            self.judge()
            await asyncio.sleep(self.boot.config.sensor_s)

    async def tell(self):
        """Report each change, and now and then without one."""
        while True:
            await _wait(self.changed, self.boot.config.report_s * 1000)
            await asyncio.sleep_ms(self.COALESCE_MS)
            self.changed.clear()
            if self.link.connected:  # if not, the next connect is a change
                await self.publish_state()

    async def publish_state(self):
        """Publish report and summary. Whether the broker has acknowledged the report."""
        topic = self._topic("report")
        try:
            data = self.reporter.report()
        except MemoryError:  # an update may need it for a while; this one comes later
            self.untold += 1
            if self.untold == _UNTOLD:
                raise
            gc.collect()
            await asyncio.sleep_ms(self.BEAT_MS)
            self.changed.set()
            return False
        self.untold = 0
        acknowledged = await self.link.publish_acked(topic, data, True, _ACK_MS)
        self.link.publish(self._topic("summary"), self.reporter.summary(), True)
        if acknowledged:
            self.acknowledged = True
            self.judge()
        return acknowledged

    def judge(self):
        """Confirm a release on trial once it has shown that it can do its work: sense, connect and report."""
        if self.boot.mode == "trial" and self.acknowledged and self.reporter.value is not None:
            self.boot.confirm()
            self.installer.confirmed()
            self.offers.event.set()

    async def update(self):
        """Give offers to the installer, one after the other; none while this release is itself on trial."""
        delay = self.FIRST_RETRY_MS
        held = None  # the offer that the policy holds back
        while True:
            await _wait(self.offers.event, self.POLICY_MS)
            self.offers.event.clear()
            if held and self.installer.ready():
                self.offers.put(held)
            if self.offers:
                await asyncio.sleep_ms(self.GATHER_MS)
            while self.offers and self.boot.mode != "trial":
                data = self.offers.take()
                before = self.installer.refused
                if await self.installer.offer(data):
                    await self.leave()
                    return
                held = data if self.installer.state["state"] in ("available", "downloaded") else held
                if self.installer.refused is not before and self.installer.state["state"] == "failed":
                    # Not the offer's fault: the same one may do later, or another one meanwhile.
                    await _wait(self.offers.event, delay)
                    delay = min(2 * delay, _LAST_RETRY_MS)
                    self.offers.put(data)
                else:
                    delay = self.FIRST_RETRY_MS
                await asyncio.sleep_ms(self.PAUSE_MS)

    async def leave(self):
        """Report that a restart is due, say farewell, and restart into the trial."""
        await self.publish_state()
        self.link.close()
        self.boot.restart()

    def _topic(self, name):
        return topics.topic(name, id=self.boot.identity.id)


async def _wait(event, limit_ms):
    """Wait for the event, at most so long."""
    try:
        await asyncio.wait_for_ms(event.wait(), limit_ms)
    except asyncio.TimeoutError:
        pass


def run(boot):
    """Run the application of a booted device (slots.Boot). Never returns; raises what went wrong."""
    asyncio.run(Application(boot).main())
