"""The core alone: what runs when no slot can, or when the heap has no room for an application beside an update.

It brings the network up, reports `recovery` or `install`, and takes an offer.
"""

import asyncio
import gc
import time

from micropython import const

from gatehouse import installer, link, offers, record, status, topics, wifi

RECOVERY_S = const(600)  # then the active release, if there is one, gets another chance
_BEAT_MS = const(1000)
_REPORT_MS = const(60000)
_TRIES = const(3)  # of that offer: then the application, which waits meanwhile, runs again
_ACK_MS = const(10000)
_UNTOLD = const(10)  # reports in a row that are left out for want of memory, then it is a fault


class Recovery:
    """The few services of a device without an application."""

    PAUSE_MS = 1000  # until a report that found no memory is tried again
    FAREWELL_MS = 1000  # for the report of what comes next, before the restart
    RETRY_MS = 15000  # of the offer that was left for the core alone, when it failed for want of network or space

    def __init__(self, boot):
        self._boot = boot
        self._changed = asyncio.Event()
        self._started = time.ticks_ms()
        self._installer = installer.Installer(boot, self._changed.set)
        self._link = self._installer.link = link.for_device(boot, self._received, self._changed.set)
        self._offers = offers.Offers(self._installer, self._link.renew)

    def _received(self, topic, payload):
        if topic.endswith(b"/offer") and payload and not self._boot.pending:
            self._offers.put(bytes(payload), bytes(topic))
        elif topic.endswith(b"/nonce") and status.ask(payload):
            self._changed.set()

    async def main(self):
        """Run until a restart."""
        await asyncio.gather(wifi.run(self._boot), self._link.run(), self._beat(), self._tell(), self._update())

    async def _beat(self):
        clock = self._boot.now() is not None
        while True:
            self._boot.feed()
            status.uptime()
            if not clock and self._boot.now() is not None:
                clock = True
                self._offers.soon()  # one may have failed for want of it
            waited = time.ticks_diff(time.ticks_ms(), self._started) >= RECOVERY_S * 1000
            if waited and self._boot.record.active and self._installer.state["state"] != "downloading":
                # Whatever kept the release from showing its health may be over: a broker, a server, a network.
                self._boot.record.quiet = record.QUIET_LIMIT - 1
                self._boot.record.save()
                self._boot.restart()
            await asyncio.sleep_ms(_BEAT_MS)

    async def _tell(self):
        topic = topics.topic("report", id=self._boot.identity.id)
        untold = 0
        while True:
            try:
                await asyncio.wait_for_ms(self._changed.wait(), _REPORT_MS)
            except asyncio.TimeoutError:
                pass
            self._changed.clear()
            if self._link.connected:
                nonce = status.asked()
                try:
                    report = status.seal(self._boot, status.claims(self._boot, self._installer, nonce))
                except MemoryError:  # an update may need it all for a while, and goes first
                    untold += 1 if self._installer.state["state"] != "downloading" else 0
                    if untold == _UNTOLD:
                        raise
                    gc.collect()
                    self._changed.set()
                    await asyncio.sleep_ms(self.PAUSE_MS)
                    continue
                untold = 0
                if await self._link.publish_acked(topic, report, True, _ACK_MS) and nonce:
                    report = None
                    if status.answered(nonce):
                        self._changed.set()
                    await asyncio.sleep_ms(self.PAUSE_MS)  # who floods it with nonces does not keep it busy
                report = None

    async def _update(self):
        if self._boot.pending:
            await self._install()
        else:
            await self._offers.serve(lambda: True)
        await asyncio.sleep_ms(self.FAREWELL_MS)
        self._link.close()
        self._boot.restart()

    async def _install(self):
        """Install what the application left, or give it up. Either way a restart follows."""
        for _ in range(_TRIES):
            while self._boot.now() is None or not self._link.connected:
                await asyncio.sleep_ms(_BEAT_MS)
            if await self._installer.offer(self._boot.pending) or not self._installer.again:
                return
            await asyncio.sleep_ms(self.RETRY_MS)


def run(boot):
    """Never returns; an exception in a service ends it, and the core resets."""
    if not boot.trust or not boot.config:
        # Without trust anchors nothing can be verified and nobody is told: only a workshop can help.
        print("gatehouse: recovery impossible:", boot.failure)
        while True:
            boot.feed()
            time.sleep_ms(_BEAT_MS)
    print("gatehouse:", boot.mode, boot.failure or "")
    asyncio.run(Recovery(boot).main())
