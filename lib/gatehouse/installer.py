"""Manifest + source -> inactive slot -> trial. The steps and what a cut leaves at each are in docs/boot.md."""

import asyncio
import gc
import hashlib
import time

from micropython import const

from gatehouse import Refused, record
from gatehouse.budget import Notes, refilled
from gatehouse.memory import unload

_CHUNK = const(1024)  # bytes read and written at once
_MAX_REMEMBERED = const(8)  # offers that are not looked at again in this boot
_BURST = const(8)  # signatures of refused offers that are checked at once,
_REFILL_MS = const(5000)  # and how long it takes until one more is: a check takes a quarter of a second of a chip

# What may be different at the next try of the same offer; every other refusal of a digest is remembered.
_PASSING = ("network", "timeout", "http", "tls", "full", "busy", "expired", "state", "clock", "memory", "disabled")
_OF_THE_SOURCE = ("digest", "size")  # while files come: a damaged or incomplete pack says nothing of the offer
_MAX_HELD = const(4)  # offers that the policy holds back, remembered by their digests


class Installer:
    """Takes offers, one at a time. `state` is what reports show:

    {"state": idle, available, downloading, installing, downloaded, pending-reboot, trial, confirmed, rolled-back,
    refused or failed, "reason": code or None, "detail": text, "digest": bytes, "sequence": int, "done": files,
    "total": files, "at": where() of the manifest that failed}. `refused` is the same map of the last refusal, without
    "at" and with "count". `on_change()` is called at every
    change of state and after each file. `again`: whether what was refused last may be taken later. `link` is the
    link.Link that packs may come over, once there is one.
    """

    def __init__(self, boot, on_change=None):
        self._boot = boot
        self._on_change = on_change
        self.busy = False
        # For life, like the buffer of the store: in a used heap a piece of this size is hard to find.
        self._buffer = memoryview(bytearray(_CHUNK))
        self._remembered = {}  # SHA-256 of an envelope -> refusal map; an empty one for what is here already
        self._budget = _BURST
        self._budget_ms = time.ticks_ms()
        self._notes = Notes()
        self._event = None  # what is to be journaled once there is room in memory
        self._local = None  # the pack of the offer at hand, where it was uploaded with it
        self._held = {}  # SHA-256 of an envelope -> (step, components, manifest digest) that the policy holds back
        self._newest = None  # manifest digest of the last one
        self._approved = None  # (step, manifest digest)
        self.again = False
        self.link = None
        self.refused = None
        self.state = {
            "state": "idle", "reason": None, "detail": "", "digest": b"", "sequence": 0, "done": 0, "total": 0,
        }  # fmt: skip
        if boot.record.outcome:
            state, reason, digest, sequence = boot.record.outcome
            if boot.mode == "trial":
                state = "trial"
            self.state.update({"state": state, "reason": reason, "digest": digest, "sequence": sequence})

    def _set(self, state, **fields):
        self.state.update(fields)
        self.state["state"] = state
        if self._on_change:
            self._on_change()

    def confirmed(self):
        """To be called after Boot.confirm()."""
        self._set("confirmed", reason=None, detail="")

    async def offer(self, data):
        """Take one envelope (bytes) all the way to pending-reboot, or refuse it. Returns True when a restart is due.

        Never raises for what the offer or the network does: the outcome is in `state` and `refused`. An offer that runs
        already changes nothing.
        """
        if self.busy:
            return False  # the caller keeps the newest offer and comes again
        self.busy = True
        self.again = False
        # By all bytes of the envelope: one with a bad signature shares its manifest's digest with the honest one.
        whole = hashlib.sha256(data).digest()
        digest, manifest = b"", None
        self._sequence = 0  # of the manifest, once it is authenticated
        self._held.pop(whole, None)
        admitted = False
        self._local = record.uploaded(whole)
        try:
            known = self._remembered.get(whole)
            if known is not None:
                if known:
                    known["count"] += 1
                return False
            envelope = _envelope(data)
            digest = envelope.digest
            if self._boot.release and digest == self._boot.release.digest:
                return False  # already there; a retained offer comes again at every connect
            if digest in self._boot.record.floors[4]:
                raise Refused("failed-before", "this release did not prove its health here")
            if self._boot.record.trial:
                raise Refused("busy", "a release is on trial or waits for its trial")
            await self._wait_for_budget()
            try:
                manifest, names = self._admit(envelope)
            except Refused:
                self._budget -= envelope.checks
                raise
            if not names:
                self._remember(whole, {})
                return False
            admitted = True
            if names == ["trust"]:
                self._rotate(envelope, manifest, data)
                return True
            payloads = envelope.payloads()
            envelope = None  # nothing may hold on to what is unloaded now
            return await self._take(manifest, names, payloads, data, whole)
        except Refused as error:
            self._refuse(error.reason, error.detail, digest, manifest, whole, error.again)
        except MemoryError:
            # No reason to stop the device: the same offer may find room later, and must not reset it again and again.
            unload()
            gc.collect()
            if admitted and self._leave_for_room(names, data, digest):
                self._local = None  # it is for the core alone
                return True
            self._refuse("memory", "the heap has no room for this update now", digest, manifest, whole)
        except OSError as error:
            self._refuse("full" if error.errno == 28 else "state", "flash: %s" % error, digest, manifest, whole)
        finally:
            self.busy = False
            if self._local and whole not in self._held:
                record.remove(self._local)  # installed by now, or refused
            unload()
            gc.collect()
            if self._event:
                self._boot.note(*self._event)
                self._event = None
        return False

    def approve(self, step):
        """Allow what the policy holds back: policy.DOWNLOAD, or policy.INSTALL, which includes it.

        Of several it is the last one. Whether anything is held back. The caller has checked who asks.
        """
        if self._held:
            self._approved = (step, self._newest)
        return bool(self._held)

    def ready(self, data):
        """Whether an envelope that the policy held back may go on now, and is to be offered again. None: it was not."""
        held = self._held.get(hashlib.sha256(data).digest())
        return held and not self._waits(*held)

    def knows(self, data):
        """Whether an envelope has been refused for good in this boot, or brings nothing new."""
        return hashlib.sha256(data).digest() in self._remembered

    def _waits(self, step, names, digest):
        """What holds a step back: None, or a text for people."""
        from gatehouse import policy

        if self._approved in ((step, digest), (policy.INSTALL, digest)) or self._boot.mode == "install":
            return None  # the core alone has only offers for which the application asked before it left them
        return policy.held(self._boot.config, names, step, self._boot.now())

    def _hold(self, step, names, manifest, state, whole):
        """Whether the policy holds `step` back; then the installer is in `state`."""
        why = self._waits(step, names, manifest.digest)
        if why:
            if len(self._held) >= _MAX_HELD:
                self._held.clear()
            self._held[whole] = (step, names, manifest.digest)
            self._newest = manifest.digest
        if why and self._boot.config.notify:
            self._set(state, reason=None, detail=why, digest=manifest.digest, sequence=manifest.sequence)
        return bool(why)

    def _rotate(self, envelope, manifest, data):
        from gatehouse import rotation

        rotation.install(self._boot, envelope, manifest, data)
        self._event = ("trust", manifest.digest[:8])
        self._set("confirmed", reason=None, detail="", digest=manifest.digest, sequence=manifest.sequence)

    def _admit(self, envelope):
        from gatehouse import admission, policy

        manifest, signers = admission.authenticate(self._boot, envelope)
        self._sequence = manifest.sequence
        names = admission.admit(self._boot, envelope, manifest, signers)
        policy.check_enabled(self._boot.config, names)
        return manifest, names

    async def _take(self, manifest, names, payloads, data, whole):
        """Install what was admitted. Whether a restart is due."""
        boot = self._boot
        for section in ("payload-fetch", "install", "validate"):
            for _ in manifest.run(section, boot):
                break  # vendor, class, device and date are asked for before anything is done
        manifest.idle()
        if self._hold("download", names, manifest, "available", whole):
            return False
        if boot.identity.install_alone and boot.mode == "active":
            if self._hold("install", names, manifest, "available", whole):
                return False
            if not self._leave(data, manifest.digest):
                raise Refused(boot.record.outcome[1] or "state", "the core alone could not install it", again=True)
            self._local = None
            return True
        unload("es256", "lms", "admission", "rotation", "policy", "trust", "suit", "suit_check", "cose")
        from gatehouse import update

        self._set(
            "downloading",
            reason=None,
            detail="",
            digest=manifest.digest,
            sequence=manifest.sequence,
            done=0,
            total=0,
        )
        work = update.Installation(
            boot, manifest, names, payloads, self.link, self._progress, self._buffer, self._local
        )
        try:
            await work.bring()
        except Refused as error:
            error.again = error.again or (error.reason in _OF_THE_SOURCE and not self._local)
            raise
        if self._hold("install", names, manifest, "downloaded", whole):
            return False
        work.switch(data)
        self._event = ("pending-reboot", manifest.digest[:8], manifest.sequence)
        self._set("pending-reboot", reason=None, detail="")
        return True

    def _leave_for_room(self, names, data, digest):
        try:
            return not self._waits("install", names, digest) and self._leave(data, digest)
        except MemoryError:  # not even for that
            return False

    def _leave(self, data, digest):
        """Leave an admitted offer to the next boot, the core alone, which has more room. Whether that was done."""
        from gatehouse import alone

        return alone.leave(self._boot, data, digest, self._sequence, _PASSING + _OF_THE_SOURCE)

    async def _wait_for_budget(self):
        """Refused offers cost a signature check each, so that they come in no faster than it can be borne."""
        while True:
            self._budget, self._budget_ms = refilled(self._budget, _BURST, self._budget_ms, _REFILL_MS)
            if self._budget > 0:
                return
            await asyncio.sleep_ms(_REFILL_MS // 5)

    def _journal(self, *event):
        self._event = event

    def _remember(self, whole, refusal):
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[whole] = refusal

    def _refuse(self, reason, detail, digest, manifest, whole, again=False):
        sequence, at = self._sequence, manifest and manifest.where()
        refusal = {"reason": reason, "detail": detail, "digest": digest, "sequence": sequence, "count": 1}
        if self.refused and self.refused["digest"] == digest and self.refused["reason"] == reason:
            refusal["count"] += self.refused["count"]
        self.refused = refusal
        self.again = again or reason in _PASSING
        if not self.again and not self._local:  # a bad pack of one's own must not spoil the offer over the network
            self._remember(whole, refusal)
        if reason not in _PASSING:
            self._notes.tell(self._journal, "refused", reason, digest[:8])
        if self._boot.record.trial or (reason == "failed-before" and self.state["digest"] == digest):
            if self._on_change:
                self._on_change()  # the trial's own state goes on; so does the story of how this release failed
        else:
            state = "failed" if reason in _PASSING else "refused"
            self._set(state, reason=reason, detail=detail, digest=digest, sequence=sequence, at=at)
            if self._boot.mode == "install":
                from gatehouse import alone

                alone.give_up(self._boot, state, reason, digest, sequence)

    def _progress(self, done, total):
        if self.state["done"] != done or self.state["total"] != total:
            self._set("installing" if done == total else "downloading", done=done, total=total)


def _envelope(data):
    from gatehouse import suit  # in a function of its own: a local name would keep the module in memory

    return suit.Envelope(data)
