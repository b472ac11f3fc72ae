"""Sends the journal to the broker: at QoS 1, in order, and until the broker has acknowledged it. docs/journal.md.

The number of the last entry that was acknowledged is in Boot.journal, and now and then in NVS: after a restart some
entries may come twice, and none is left out. Entries that the ring has lost before are told by an entry of their own.
"""

import asyncio
import gc
import sys

from micropython import const

from gatehouse import cbor, memory, status, topics

_NUMBER, _ACKED = const(2), const(5)  # of Boot.journal, see journal.py
_KEY = "acked"  # of NVS, see journal.py
_EACH = const(16)  # entries acknowledged between two writes to NVS: so many come again after a restart
_AFTER_S = const(3600)  # what is acknowledged is in NVS after an hour at the latest: 24 writes a day
_AGAIN_S = const(10)  # between two times that all is sent again, whoever asks for it
_ACK_MS = const(10000)
_MAX_REQUEST = const(9)  # bytes of the largest integer in CBOR
_DOUBLINGS = const(9)  # of the pause after failures: 8 minutes, for a broker that ends each session for this


class Events:
    """Keeps a broker up to date with the journal, and sends again what somebody asks for."""

    LOOK_MS = 1000  # between looks whether there is a new entry: a comparison of two numbers
    PAUSE_MS = 50  # between messages: other tasks get their turn

    def __init__(self, boot, installer, link):
        self._boot = boot
        self._installer = installer
        self._link = link
        self._topic = topics.topic("journal", id=boot.identity.id)
        self._sent = None  # number of the entry up to which the broker has been told; None before the first look
        self._kept = self._kept_s = 0  # what NVS holds, and since when
        self._asked = None  # the number after which somebody wants to have it again
        self._again_s = -_AGAIN_S
        self._failures = 0
        link.follow(topics.topic("journal-ack", id=boot.identity.id), True)

    def received(self, payload):
        """Somebody has the entries up to this number, and wants to have the next ones, even if they were sent before.

        It moves nothing forward: nobody can have an entry left out.
        """
        if len(payload) > _MAX_REQUEST:
            return
        try:
            number = cbor.loads(bytes(payload), 1)
        except ValueError:
            return
        if type(number) is int and number >= 0:
            self._asked = number if self._asked is None else min(number, self._asked)

    async def run(self):
        """Send what there is to send; for ever."""
        pause_ms = self.LOOK_MS
        while True:
            await asyncio.sleep_ms(pause_ms)
            pause_ms = self.LOOK_MS
            # An update needs the memory for itself.
            if not self._link.connected or self._installer.state["state"] in ("downloading", "installing"):
                continue
            try:
                done = await self._step()
            except MemoryError:  # there will be some later, and the entry stays
                gc.collect()
                done = False
            except OSError as error:
                print("journal:", error)
                done = False
            if done is not None:
                self._failures = 0 if done else min(self._failures + 1, _DOUBLINGS)
                pause_ms = self.PAUSE_MS if done else self.LOOK_MS << self._failures

    async def _step(self):
        """Send one message. Whether the broker has acknowledged it; None where there was nothing to send."""
        where = self._boot.journal
        if not where:
            return None  # there was no memory for an entry yet
        if self._sent is None:
            self._sent = self._kept = where[_ACKED]
        self._keep(_EACH if status.uptime() - self._kept_s < _AFTER_S else 1)
        if where[_NUMBER] <= self._sent and not self._rewind():
            return None
        message, number, oldest = _message(self._boot, self._sent)
        if oldest > where[_ACKED]:
            return self._dropped(where[_ACKED], oldest)
        if not message:
            self._sent = where[_NUMBER]
            return None
        if not await self._link.publish_acked(self._topic, message, False, _ACK_MS):
            return False
        self._sent = number
        self._acknowledged(number)
        return True

    def _rewind(self):
        """Go back to where somebody asked for. Whether there is something to send now."""
        asked = self._asked
        if asked is None or status.uptime() - self._again_s < _AGAIN_S:
            return False
        self._asked = None
        if asked >= self._sent:
            return False
        self._again_s = status.uptime()
        self._sent = asked
        return True

    def _dropped(self, acked, oldest):
        """Tell in the journal that the ring has lost entries which nobody acknowledged. Whether that is on flash."""
        if not self._boot.note("dropped", acked + 1, oldest - acked):
            return False
        self._sent = max(self._sent, oldest)
        self._acknowledged(oldest)
        self._keep(1)  # or the next boot would tell the same again
        return True

    def _acknowledged(self, number):
        where = self._boot.journal  # now: an entry that found no room makes a new list
        where[_ACKED] = max(number, where[_ACKED])

    def _keep(self, least):
        """Write what is acknowledged to NVS, if it is so many entries ahead."""
        acked = self._boot.journal[_ACKED]
        if acked - self._kept >= least:
            self._boot.store.put_number(_KEY, acked)
            self._kept, self._kept_s = acked, status.uptime()


def settle():
    """Load once what comes and goes, before the heap is in use: see gatehouse.memory.settle()."""
    __import__("batch")
    _forget()


def _message(boot, after):
    """batch.message(); what it needs does not stay."""
    try:
        import batch

        return batch.message(boot, after)
    finally:
        batch = None
        _forget()


def _forget():
    sys.modules.pop("batch", None)
    memory.unload("journal")
