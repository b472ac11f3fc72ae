"""The application: one sensor, its readings and reports over MQTT, and signed updates of itself.

`run(boot)` is what the core calls. An exception in any service ends it, and the core resets the device: a part that
died silently would look like a healthy device.
"""

import asyncio
import gc

from micropython import const

import events
import report
import sensor
from access import doors, passing
from gatehouse import installer, link, offers, status, topics, wifi

_ACK_MS = const(10000)
_FOLLOWED = (("mqtt-commands", ("command",)), ("home-assistant", ("ha-status", "ha-install")))
_UNTOLD = const(10)  # reports in a row that are left out for want of memory, then it is a fault


class Window(Exception):
    """The application ends, so that the REPL opens."""


class Application:
    """The services of a device, and what they know of each other."""

    BEAT_MS = 1000  # well below the shortest watchdog of a configuration
    ALIVE_BEATS = 10  # so many heartbeats are a sign of health of a release that had confirmed before
    COALESCE_MS = 300  # changes that come together make one report

    def __init__(self, boot):
        self.boot = boot
        self.changed = asyncio.Event()  # something that a report tells
        self.acknowledged = False  # a report reached the broker
        self.untold = 0  # reports in a row that found no memory
        self.installer = installer.Installer(boot, self.changed.set)
        self.link = self.installer.link = link.for_device(boot, self.received, self.changed.set)
        self.offers = offers.Offers(self.installer, self.link.renew)
        self.events = events.Events(boot, self.installer, self.link)
        self.access = doors.Access(boot, self)
        for door, names in _FOLLOWED:
            if self.access.registry.wants(door):
                for name in names:
                    self.link.follow(self._topic(name), True)  # now already, or the first session would end for it
        self.reporter = report.Reporter(
            boot, self.installer, self.link, sensor.Sensor(boot.identity.sensor), self.access
        )
        self._opened = asyncio.Event()  # the REPL is to open

    def received(self, topic, payload):
        """A message of the link."""
        if topic.endswith(b"/offer") and payload:
            self.offers.put(bytes(payload), bytes(topic))
        elif topic.endswith(b"/command") and self.access.remote:
            self.access.remote.received(payload)
        elif topic.endswith(b"/journal/ack"):
            self.events.received(payload)
        elif topic.endswith(b"/nonce"):
            if status.ask(payload):
                self.changed.set()
        elif self.access.home:
            self.access.home.received(topic, payload)

    async def main(self):
        """Run all services. Ends when one of them does, by its exception."""
        await asyncio.gather(
            *(self.beat(), wifi.run(self.boot), self.link.run(), self.sense(), self.tell(), self.update()),
            *(doors.run(self.boot, self), self.window(), self.events.run()),
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
                self.offers.soon()  # one may have failed for want of it
            await asyncio.sleep_ms(self.BEAT_MS)

    async def sense(self):
        """Read and publish the sensor."""
        topic = self._topic("sensor")
        while True:
            await asyncio.sleep_ms(self.reporter.sensor.start())
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
        topic, nonce = self._topic("report"), status.asked()
        try:
            data, summary = self.reporter.report(nonce), self.reporter.summary()
        except MemoryError:  # an update may need it for a while; this one comes later
            self.reporter.left_out += 1
            self.untold += 1 if self.installer.state["state"] != "downloading" else 0
            if self.untold == _UNTOLD:
                raise
            gc.collect()
            await asyncio.sleep_ms(self.BEAT_MS)
            self.changed.set()
            return False
        self.untold = 0
        acknowledged = await self.link.publish_acked(topic, data, True, _ACK_MS)
        self.link.publish(self._topic("summary"), summary, True)
        if acknowledged:
            self.acknowledged = True
            if status.answered(nonce):
                self.changed.set()
            self.judge()
        if self.access.home:
            self.access.home.tell()
        return acknowledged

    def judge(self):
        """Confirm a release on trial once it has shown that it can do its work: sense, connect and report."""
        if self.boot.mode == "trial" and self.acknowledged and self.reporter.value is not None:
            self.boot.confirm()
            self.installer.confirmed()
            self.offers.soon()

    def postpone(self, seconds):
        """Take no update for so long, 0 to end that. Forgotten at a restart."""
        self.reporter.postponed = status.uptime() + seconds
        self.offers.soon()

    def _ready(self):
        """Whether updates may be taken now: none on trial, none while they are postponed."""
        return self.boot.mode != "trial" and status.uptime() >= self.reporter.postponed

    async def update(self):
        """Give offers to the installer; none while this release is itself on trial, or updates are postponed."""
        await self.offers.serve(self._ready)
        await self.leave()

    async def leave(self):
        """Report that a restart is due, say farewell, and restart into the trial."""
        if await self.publish_state():
            self.boot.healthy()  # a wanted restart is no sign of a fault, however soon it comes
        self.link.close()  # the will is not for this
        self.boot.restart()

    def open_window(self, seconds):
        """End the application very soon, so that main.py ends and the REPL opens for so long."""
        self.boot.window = seconds
        self._opened.set()

    async def window(self):
        """Report that the REPL opens, say farewell, and end. Without a broker the journal is what tells of it."""
        await self._opened.wait()
        if self.link.connected:
            await self.publish_state()
        self.link.close()
        raise Window

    def _topic(self, name):
        return topics.topic(name, id=self.boot.identity.id)


async def _wait(event, limit_ms):
    """Wait for the event, at most so long."""
    try:
        await asyncio.wait_for_ms(event.wait(), limit_ms)
    except asyncio.TimeoutError:
        pass


def run(boot):
    """Run the application of a booted device (slots.Boot). Returns for a window of the REPL only; raises what fails."""
    passing.settle()
    events.settle()
    try:
        asyncio.run(Application(boot).main())
    except Window:
        asyncio.new_event_loop()  # the tasks that are left would keep the heap from the REPL
