"""Offers that wait, and the loop that gives them to the installer: the best first, none able to hold up the others."""

import asyncio
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from gatehouse import cbor

_BYTES = const(8192)  # of waiting offers: one of the largest, or a dozen of the usual size
_RENEW_MS = const(60000)  # between two times that the broker is asked for its retained offers again
# CBOR heads (major type, argument or None) from the start of a SUIT envelope to the sequence number in its manifest.
_PATH = ((6, 107), (5, None), (0, 2), (2, None), (0, 3), (2, None), (5, None), (0, 1), (0, None), (0, 2), (0, None))
_AUTHENTICATION = const(3)  # the one whose content is passed over


def sequence(data):
    """The sequence number that an envelope claims, -1 where there is none. Reads heads only and builds nothing.

    Nothing is authenticated yet, so the number decides about the order and nothing else: a forged high one is refused
    in its turn, and what waits behind it comes next.
    """
    try:
        at = number = 0
        for place, (major, wanted) in enumerate(_PATH):
            found, number, at = cbor.head(data, at)
            if found != major or wanted not in (None, number):
                return -1
            if place == _AUTHENTICATION:
                at += number
        return number
    except ValueError:
        return -1


class _Offer:
    """One envelope: sequence number as claimed, bytes, topic, tries so far; due: ticks, None for now."""

    def __init__(self, data, topic):
        self.sequence = sequence(data)
        self.data = data
        self.topic = topic
        self.tries = 0
        self.due = None
        self.held = False  # the policy holds it back


class Offers:
    """Waiting offers, at most _BYTES of them, the newest of each topic. What finds no room is fetched again later.

    `renew()` has the broker send its retained messages again. The times may be changed by tests.
    """

    LOOK_MS = 30000  # between looks whether something is due or the policy lets it go
    GATHER_MS = 300  # the offers to the device and to its groups come in one burst at connect: the highest first
    WAY_MS = 150  # before each, so that who holds memory for less can see busy() and let go of it
    PAUSE_MS = 500  # between offers, so that a flood of them does not stop the sensor
    FIRST_RETRY_MS = 15000  # of an offer that may do later: network, space or time were missing
    LAST_RETRY_MS = 3600000

    def __init__(self, installer, renew):
        self._installer = installer
        self._renew = renew
        self._waiting = []  # highest sequence number first
        self._taken = None  # the one that the installer has
        self._missed = False  # something found no room
        self._renewed = ticks_ms()
        self.event = asyncio.Event()

    def __len__(self):
        return len(self._waiting)

    def busy(self):
        """Whether an offer is at the installer, or is about to be."""
        return self._taken is not None

    def envelopes(self):
        """The bytes of each offer that is here: the one at the installer first, then what waits."""
        for item in ([self._taken] if self._taken else []) + self._waiting:
            yield item.data

    def put(self, data, topic=b""):
        """Keep an envelope (bytes) in place of what waited from the same topic, as the broker does.

        One that the installer remembers to have refused takes no room from others.
        """
        if not self._installer.knows(data):
            self._waiting = [item for item in self._waiting if item.topic != topic or not topic]
            self._keep(_Offer(data, topic))
            self.event.set()

    def _keep(self, offer):
        if any(item.data == offer.data for item in self._waiting):
            return
        self._waiting.append(offer)
        self._waiting.sort(key=lambda item: -item.sequence)
        while sum(len(item.data) for item in self._waiting) > _BYTES and len(self._waiting) > 1:
            self._waiting.pop()
            self._missed = True

    def take(self):
        """The offer with the highest sequence number of those that are due, or None."""
        now = ticks_ms()
        for item in self._waiting:
            if not item.held and (item.due is None or ticks_diff(now, item.due) >= 0):
                self._waiting.remove(item)
                return item
        return None

    def soon(self):
        """Try all again now: what was missing may be there."""
        for item in self._waiting:
            item.due = None
        self.event.set()

    def _later(self, item):
        """Keep an offer that could not be installed now, unless its topic has another one meanwhile."""
        item.held = self._installer.ready(item.data) is not None
        if not (item.held or self._installer.again):
            return
        if item.topic and any(other.topic == item.topic for other in self._waiting):
            return
        item.due = ticks_add(ticks_ms(), min(self.FIRST_RETRY_MS << min(item.tries, 10), self.LAST_RETRY_MS))
        item.tries += 1
        self._keep(item)

    def _wait_ms(self):
        wait = self.LOOK_MS
        for item in self._waiting:
            if item.due is not None and not item.held:
                wait = min(wait, max(ticks_diff(item.due, ticks_ms()), 1))
        return wait

    async def serve(self, may):
        """Give offers to the installer, one after the other, while `may()`. Returns when a restart is due."""
        while True:
            try:
                await asyncio.wait_for_ms(self.event.wait(), self._wait_ms())
            except asyncio.TimeoutError:
                pass
            self.event.clear()
            if not self._waiting and self._missed and ticks_diff(ticks_ms(), self._renewed) >= _RENEW_MS:
                self._missed = False
                self._renewed = ticks_ms()
                self._renew()
            for item in self._waiting:
                if item.held and self._installer.ready(item.data):
                    item.held, item.due = False, None
            if self._waiting:
                await asyncio.sleep_ms(self.GATHER_MS)
            while may():
                item = self.take()
                if not item:
                    break
                self._taken = item
                await asyncio.sleep_ms(self.WAY_MS)
                if await self._installer.offer(item.data):
                    return
                self._taken = None
                self._later(item)
                await asyncio.sleep_ms(self.PAUSE_MS)
