"""Slots A and B: which release runs, its verification, trial, confirm and roll back. The tables are in docs/boot.md."""

import gc
import os
import sys
import time

import machine
from micropython import const

from gatehouse import Refused, record, store

_WATCHDOG_MS = const(60000)  # until the configuration is known: over the verification of the largest slot
_WINDOW_S = const(3600)  # a technician's visit; ESP-IDF's watchdog counts to over an hour

current = None  # the Boot of this run


class Boot:
    """What this boot chose and knows. The application gets it from `slots.run()`.

    mode: "active", "trial", "recovery" or "install" (the core alone, with an offer that an application had no room
    for); release: the running Release, or None in recovery; identity, config, trust: see their modules; generation,
    config_digest: of the configuration that is in force and its manifest; boot_count: starts of this device; cause:
    machine.reset_cause(); seed: 16 random bytes.
    """

    def __init__(self):
        self.mode = "recovery"
        self.release = None
        self.boot_count = 0
        self.cause = machine.reset_cause()
        self.seed = os.urandom(16)
        self.store = store.Store()
        self.identity = self.trust = self.config = self.record = None
        self.generation = record.FACTORY
        self.config_digest = b""
        self.failure = None  # why the core is alone, or less well than it should be
        self.pending = None  # mode "install": the envelope
        self.window = 0  # seconds for which the REPL is to be open once the application has ended (docs/console.md)
        self.journal = None  # where the event log ends (journal.py), once that was needed: a list
        self._watchdog = machine.WDT(timeout=_WATCHDOG_MS)
        self._deadline = None

    # What suit.Manifest.run asks of a device.

    @property
    def vendor_id(self):
        return self.identity.vendor_id

    @property
    def class_id(self):
        return self.identity.class_id

    @property
    def device_id(self):
        return self.identity.device_id

    @property
    def not_before(self):
        """Signing time of the last confirmed release: a clock that shows less is wrong."""
        return self.record.floors[1].get("app", (0,))[0]

    def now(self):
        """Unix seconds, or None while the clock is not set."""
        from gatehouse import wifi

        return wifi.now()

    # Life of a boot.

    def feed(self):
        """Feed the watchdog, but not beyond the deadline of a trial: then the next boot decides."""
        if self._deadline is None or time.ticks_diff(self._deadline, time.ticks_ms()) > 0:
            self._watchdog.feed()

    def healthy(self):
        """Record a sign of health, once a boot."""
        if self.mode == "active" and self.record.quiet:
            self.record.quiet = 0
            try:
                self.record.save()
            except OSError as error:
                self.failure = Refused("full", "boot record: %s" % error)

    def confirm(self):
        """The trial has proved its health: it becomes the active release, and the floors move."""
        if self.mode == "trial":
            from gatehouse import transitions

            transitions.confirm(self)
            self.mode = "active"
            self._deadline = None
            self.note("confirmed", self.record.outcome[2][:8], self.record.outcome[3])

    def restore(self, factory=False):
        """Try the configuration that was confirmed before the active one, or the factory's: at the next boot, on trial.

        Refused("busy") while something else is on trial, Refused("state") where no release runs.
        """
        from gatehouse import transitions

        transitions.restore(self.record, factory)

    def note(self, event, *details):
        """Write an event to the journal. Whether that was possible: no event is worth a reset."""
        from gatehouse import journal, memory

        try:
            return journal.append(self, event, *details)
        except MemoryError:
            return False
        finally:
            del journal
            memory.unload("journal")

    def inactive(self):
        """The slot that an update may write."""
        running = self.release or self.record.active
        return "b" if running and running.slot == "a" else "a"

    def restart(self):
        """Leave this boot for the next."""
        machine.reset()

    def begin(self):
        """The choice is made: arm the watchdog as configured, and the deadline of a trial."""
        if self.config:
            self._watchdog = machine.WDT(timeout=self.config.watchdog_ms)
        if self.mode == "trial":
            self._deadline = time.ticks_add(time.ticks_ms(), self.config.trial_s * 1000)


def boot():
    """What boot.py does: arm the watchdog, choose a release and verify it. The result is `current`."""
    global current
    current = Boot()
    from gatehouse import choose, memory

    try:
        choose.choose(current)
    except Refused as error:
        if current.record and current.record.trial:
            machine.reset()  # a try is used up: when none is left, what ran before gets its turn
        current.mode = "recovery"
        current.failure = error
    current.begin()
    del choose
    memory.unload()
    gc.collect()
    if current.identity:
        current.note("boot", current.mode, current.cause, current.failure.reason if current.failure else "")
    print("gatehouse: boot", current.boot_count, current.mode, (current.release and current.release.version) or "")
    return current


def run():
    """What main.py does: run the chosen release, or the core alone. Returns only when that has ended."""
    if current.mode in ("recovery", "install"):
        from gatehouse import recovery

        recovery.run(current)
        return
    sys.path.append(current.release.root)  # last: a slot never shadows the core or a frozen module
    import app

    app.run(current)


def window():
    """Whether main.py may end, which opens the REPL: only where the configuration allows it so long.

    Then the watchdog gets no more food and resets the device when the time is over. Nothing of it is kept on flash.
    """
    seconds = current.window
    if current.mode != "active" or not 0 < seconds <= min(current.config.repl_s, _WINDOW_S):
        return False
    machine.WDT(timeout=seconds * 1000)
    print("gatehouse: REPL open for %d s" % seconds)
    return True
