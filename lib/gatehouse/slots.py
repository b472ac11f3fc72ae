"""Slots A and B: which release runs, its verification, trial, confirm and roll back. The tables are in docs/boot.md."""

import os
import sys
import time

import machine
from micropython import const

from gatehouse import Refused, cbor, record, store, unload

TRUST = "/state/trust.suit"
CONFIG = "/state/config-%d.suit"

_WATCHDOG_MS = const(60000)  # until the configuration is known: over the verification of the largest slot
_FACTORY = const(1)  # the configuration generation that provisioning wrote

current = None  # the Boot of this run


class Boot:
    """What this boot chose and knows. The application gets it from `slots.run()`.

    mode: "active", "trial" or "recovery"; release: the running Release, or None in recovery; identity, config, trust:
    see their modules; boot_count: starts of this device; cause: machine.reset_cause(); seed: 16 random bytes of this boot.
    """

    def __init__(self):
        self.mode = "recovery"
        self.release = None
        self.boot_count = 0
        self.cause = machine.reset_cause()
        self.seed = os.urandom(16)
        self.store = store.Store()
        self.identity = self.trust = self.config = self.record = None
        self.failure = None  # why the core is alone
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
            self.record.confirm_trial()
            self.record.save()
            self.store.put("floors", cbor.dumps(self.record.floors))
            self.mode = "active"
            self._deadline = None

    def start_trial(self, slot, manifest):
        """The one switch of an update: the next boot runs `slot` with the verified `manifest`, on trial."""
        config = self.release.config if self.release else _FACTORY
        self.record.start_trial(record.Release([slot, manifest.digest, manifest.sequence, None, config]))
        self.record.save()

    def inactive(self):
        """The slot that an update may write."""
        running = self.release or self.record.active
        return "b" if running and running.slot == "a" else "a"

    def restart(self):
        """Leave this boot for the next."""
        machine.reset()

    def check(self, release):
        """Verify that a slot holds just this release; sets its name and version. Raises Refused.

        Signature, right, vendor and class, boot floor, index, every file, nothing else in the slot.
        """
        from gatehouse import suit, tree, trust

        data = record.load(release.root + "/manifest.suit")
        if data is None:
            raise Refused("state", "no manifest in %s" % release.root)
        envelope = suit.Envelope(data)
        if release.digest is not None and envelope.digest != release.digest:
            raise Refused("digest", "%s holds another release than the boot record names" % release.root)
        signers = envelope.authenticate(self.trust.keys)
        manifest = envelope.manifest()
        if [trust.component_name(item) for item in manifest.components] != ["app"]:
            raise Refused("component", "not an application")
        self.trust.check_right("app", signers)
        if manifest.sequence < self.record.floors[2].get("app", 0):
            raise Refused("sequence", "%d is below the boot floor" % manifest.sequence)
        invoked = False
        for section in ("validate", "load", "invoke"):
            commands = manifest.run(section, self)
            answer = None
            while True:
                try:
                    command, _, parameters = commands.send(answer)
                except StopIteration:
                    break
                answer = True
                if command == suit.IMAGE_MATCH:
                    release.name, release.version = tree.verify(
                        release.root, parameters[suit.IMAGE_DIGEST], parameters[suit.IMAGE_SIZE], self._watchdog.feed
                    )
                elif command == suit.INVOKE:
                    invoked = True
                else:
                    raise Refused("unsupported", "command %d at boot" % command)
        manifest.complete()
        if not invoked:
            raise Refused("condition", "the manifest does not invoke the application")
        release.digest, release.sequence = manifest.digest, manifest.sequence

    def verifies(self, release):
        """check() as a question: None when the slot is good, else the Refused that says why not."""
        try:
            self.check(release)
        except Refused as error:
            return error
        except OSError as error:
            return Refused("state", "%s: %s" % (release.root, error))
        return None

    def choose(self):
        """Pick the release of this boot: docs/boot.md, "Record x boot". Sets mode and release."""
        way = self.record.begin()
        try:
            self.record.save()  # the first write of every boot
        except OSError as error:
            # A full flash must not keep a device from starting; a trial that cannot be counted does not run.
            self.failure = Refused("full", "boot record: %s" % error)
            if way == "trial":
                way = "active" if self.record.active else "recovery"
        self.reconcile()
        self.load_anchors()
        if way == "rebuild":
            way = self.rebuild()
        if way == "trial":
            error = self.verifies(self.record.trial)
            if error:
                print("gatehouse: trial:", error)
                self.record.fail_trial(error.reason)
                self.record.save()
                way = "active" if self.record.active else "recovery"
        if way == "active":
            way = self.choose_active()
        self.mode = way
        if way == "trial":
            self.release = self.record.trial
            self._deadline = time.ticks_add(time.ticks_ms(), self.config.trial_s * 1000)
        elif way == "active":
            self.release = self.record.active

    def choose_active(self):
        """The active release if it verifies, else the other slot's, else recovery."""
        error = self.verifies(self.record.active)
        if not error:
            return "active"
        print("gatehouse: active:", error)
        other = record.Release(
            ["a" if self.record.active.slot == "b" else "b", None, 0, None, self.record.active.config]
        )
        second = self.verifies(other)
        if not second and other.digest not in self.record.floors[4]:
            self.record.fall_back(other, error.reason)
            self.record.save()
            return "active"
        self.failure = error
        return "recovery"

    def rebuild(self):
        """No usable record: only the confirmed release becomes active; another one gets a single try."""
        candidate = None
        for slot in ("a", "b"):
            release = record.Release([slot, None, 0, None, _FACTORY])
            error = self.verifies(release)
            if error:
                self.failure = error
            elif release.digest == self.record.floors[3]:
                self.record.active = release
                self.record.save()
                return "active"
            elif release.digest not in self.record.floors[4]:
                candidate = release
        if candidate:
            self.record.start_trial(candidate)
            self.record.tries = 0  # this boot is its one try
            self.record.save()
            return "trial"
        return "recovery"

    def reconcile(self):
        """Make the NVS copies follow the record, and count this start. Safe to repeat after any cut."""
        self.store.put("floors", cbor.dumps(self.record.floors))
        self.boot_count = self.store.number("boots") + 1
        self.store.put_number("boots", self.boot_count)

    def load_anchors(self):
        """Identity, trust anchors and configuration, each verified now."""
        from gatehouse import config, suit, trust

        self.identity = self.store.identity()
        data = record.load(TRUST)
        if data is None:
            raise Refused("state", "no trust anchors: provision this device")
        self.trust = trust.open_store(data, self.store.required("root"), self)
        running = self.record.trial or self.record.active
        generation = running.config if running else _FACTORY
        try:
            data = record.load(CONFIG % generation)
            if data is None:
                raise Refused("state", "no configuration %d" % generation)
            _, payload = trust.signed_payload(suit.Envelope(data), self.trust.keys, "config", self, self.trust)
            self.config = config.parse(payload)
        except Refused as error:
            self.failure = error
            self.config = config.parse()
        self._watchdog = machine.WDT(timeout=self.config.watchdog_ms)


def _record(nvs):
    """The record of the file, or a new one, each with the NVS floors merged in."""
    floors = None
    try:
        floors = cbor.loads(nvs.blob("floors") or b"")
    except ValueError:
        pass  # never written, or not readable: the record's own floors stand
    try:
        found = record.Record(record.load(record.PATH) or b"")
    except ValueError:
        return record.Record(None, floors)
    if floors:
        found.merge(floors)
    return found


def boot():
    """What boot.py does: arm the watchdog, choose a release and verify it. The result is `current`."""
    global current
    # What stays loaded comes first, so that what is unloaded after the verification leaves its memory in one piece.
    from gatehouse import installer, link, status, trust, wifi  # noqa: F401

    current = Boot()
    current.record = _record(current.store)
    try:
        current.choose()
    except Refused as error:
        current.mode = "recovery"
        current.failure = error
    unload("suit", "suit_commands", "es256", "tree", "config")
    print("gatehouse: boot", current.boot_count, current.mode, (current.release and current.release.version) or "")
    return current


def run():
    """What main.py does: run the chosen release, or the core alone. Returns only when that has ended."""
    if current.mode == "recovery":
        from gatehouse import recovery

        recovery.run(current)
        return
    sys.path.append(current.release.root)  # last: a slot never shadows the core or a frozen module
    import app

    app.run(current)
