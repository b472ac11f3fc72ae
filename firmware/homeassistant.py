"""Home Assistant: the device appears there by itself, and may be asked to install what waits. docs/home-assistant.md.

Loaded while the policy opens `home-assistant`. What it says is a projection, and no evidence of anything; how it is
said is in announce.py and projection.py, which come and go. Home Assistant holds no key: all that it may do is what
`update.install` does.
"""

import asyncio
import gc
import os
import sys

from access import auth
from gatehouse import Refused, topics

_HEARD = ("ha-status", "ha-install")  # topics that are followed while it is open
_PASSING = ("announce", "projection")
_WAITING = ("available", "downloaded")  # states of an update that the policy holds back


def _call(module, name, *arguments):
    """Call a function of a module that is forgotten afterwards."""
    try:
        return getattr(__import__(module), name)(*arguments)
    finally:
        sys.modules.pop(module, None)


class Home:
    """One device's door to Home Assistant. The times may be changed by tests."""

    LOT_MS = 3000  # the devices of a house must not all answer in the moment in which Home Assistant starts
    SETTLE_MS = 2000  # until it has subscribed to what was announced
    GAP_MS = 10000  # between things that it asks for: a flood of messages makes few of ours, and no more of the journal

    def __init__(self, boot, application):
        self._boot = boot
        self._application = application
        self._event = asyncio.Event()
        self._born = self._asked = False
        self._announced = 0  # the session of the link in which the device was announced
        self._told = None  # the last message about the update in it
        for name in _PASSING:  # their names now, before the heap is in use: see gatehouse.memory.settle()
            __import__(name)
            sys.modules.pop(name)

    def received(self, topic, payload):
        """A message of the link, of any topic. Quick, as the link's handlers must be."""
        if topic.endswith(b"/ha/install"):
            # One press is for what waits now. A message that the broker keeps would allow whatever comes, for ever.
            if payload != b"install" or self._application.link.retained:
                return
            self._asked = True
        elif topic == b"homeassistant/status" and payload == b"online":
            self._born = True
        else:
            return
        self._event.set()

    async def run(self):
        """Be there for Home Assistant; until cancelled."""
        link = self._application.link
        self._follow(link, True)
        self._application.changed.set()  # the next report is followed by the announcement
        try:
            while True:
                await self._event.wait()
                self._event.clear()
                if self._asked:
                    self._asked = False
                    await self._install()
                if self._born:
                    await asyncio.sleep_ms(os.urandom(1)[0] * self.LOT_MS // 255)
                    self._born = False
                    self._announced = 0
                    self.tell()
                    await asyncio.sleep_ms(self.SETTLE_MS)
                    link.publish(self._topic("sensor"), self._application.reporter.reading())
                await asyncio.sleep_ms(self.GAP_MS)
        finally:
            self._follow(link, False)

    def tell(self):
        """Tell what a report has just told. In each session with the broker the announcement comes first."""
        boot, application = self._boot, self._application
        link = application.link
        if not link.connected:
            return  # the next connect is a change, which is reported
        try:
            if self._announced != link.connects:
                text = _call("announce", "announcement", boot, application.reporter)
                link.publish(self._topic("ha-config"), text, True)
                self._announced, self._told = link.connects, None
            text = _call("projection", "update", boot, application)
            if text != self._told:
                link.publish(self._topic("ha-update"), text, True)
                self._told = text
            link.publish(self._topic("ha-state"), _call("projection", "state", application), True)
        except MemoryError:  # an update may need it all for a while; what is left out comes with a later report
            gc.collect()

    async def _install(self):
        """Allow what the policy holds back, as a person at the console would. Where nothing waits nothing is noted."""
        if self._application.installer.state["state"] in _WAITING:
            session = auth.Session("operator", "home-assistant", "home-assistant")
            try:
                await self._application.access.operations.call(session, "update.install", {})
            except Refused as error:
                print("gatehouse: home-assistant:", error)

    def _follow(self, link, wanted):
        for name in _HEARD:
            link.follow(self._topic(name), wanted)

    def _topic(self, name):
        return topics.topic(name, id=self._boot.identity.id)
