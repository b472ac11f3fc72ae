"""Manifest + source -> inactive slot -> trial. The steps and what a cut leaves at each are in docs/boot.md."""

import gc
import hashlib
import os

from micropython import const

from gatehouse import Refused, record
from gatehouse.memory import unload

_DAY_S = const(86400)  # how far beyond the clock a sequence number (its signing time) may be
_CHUNK = const(1024)  # bytes read and written at once
_MAX_REMEMBERED = const(8)  # refused envelopes that are not looked at again in this boot

# What may be different at the next try of the same offer; every other refusal of a digest is remembered.
_PASSING = ("network", "timeout", "http", "full", "busy", "expired", "state", "clock", "memory")


class Installer:
    """Takes offers, one at a time. `state` is what reports show:

    {"state": idle|downloading|installing|pending-reboot|trial|confirmed|rolled-back|refused|failed, "reason": code or
    None, "detail": text, "digest": bytes, "sequence": int, "done": files, "total": files}. `refused` is the same map of
    the last refusal, with "count". `on_change()` is called at every change of state and after each file.
    """

    def __init__(self, boot, on_change=None):
        self._boot = boot
        self._on_change = on_change
        self._busy = False
        # For life, like the buffer of the store: in a used heap a piece of this size is hard to find.
        self._buffer = memoryview(bytearray(_CHUNK))
        self._remembered = {}  # SHA-256 of an envelope -> refusal map
        self.refused = None
        self.state = {
            "state": "idle",
            "reason": None,
            "detail": "",
            "digest": b"",
            "sequence": 0,
            "done": 0,
            "total": 0,
        }
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
        if self._busy:
            return False  # the caller keeps the newest offer and comes again
        self._busy = True
        # Refusals are remembered by all bytes of the envelope: one with a bad signature shares its manifest, and so
        # its digest, with the honest one.
        whole = hashlib.sha256(data).digest()
        digest = b""
        self._sequence = 0  # of the manifest, once it is authenticated
        try:
            from gatehouse import suit

            known = self._remembered.get(whole)
            if known:
                known["count"] += 1
                return False
            envelope = suit.Envelope(data)
            digest = envelope.digest
            if self._boot.release and digest == self._boot.release.digest:
                return False  # already there; a retained offer comes again at every connect
            if digest in self._boot.record.floors[4]:
                raise Refused("failed-before", "this release did not prove its health here")
            if self._boot.record.trial:
                raise Refused("busy", "a release is on trial or waits for its trial")
            manifest = self._authenticate(envelope)
            del envelope, suit
            unload("es256", "trust", "suit")
            await self._install(manifest, data)
            return True
        except Refused as error:
            self._refuse(error.reason, error.detail, digest, self._sequence, whole)
        except MemoryError:
            # No reason to stop the device: the same offer may find room later, and must not reset it again and again.
            unload()
            gc.collect()
            self._refuse("memory", "the heap has no room for this update now", digest, self._sequence, whole)
        except OSError as error:
            reason = "full" if error.errno == 28 else "state"
            self._refuse(reason, "flash: %s" % error, digest, self._sequence, whole)
        finally:
            self._busy = False
            unload()
            gc.collect()
        return False

    def _refuse(self, reason, detail, digest, sequence, whole):
        refusal = {"reason": reason, "detail": detail, "digest": digest, "sequence": sequence, "count": 1}
        if self.refused and self.refused["digest"] == digest and self.refused["reason"] == reason:
            refusal["count"] += self.refused["count"]
        self.refused = refusal
        if reason not in _PASSING:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[whole] = refusal
        if self._boot.record.trial or (reason == "failed-before" and self.state["digest"] == digest):
            if self._on_change:
                self._on_change()  # the trial's own state goes on; so does the story of how this release failed
        else:
            state = "failed" if reason in _PASSING else "refused"
            self._set(state, reason=reason, detail=detail, digest=digest, sequence=sequence)

    def _authenticate(self, envelope):
        """The manifest, once its signers, their right, its sequence number and its history allow it."""
        from gatehouse import trust

        boot = self._boot
        signers = envelope.authenticate(trust.keys(boot.trust))
        manifest = envelope.manifest()
        self._sequence = manifest.sequence
        components = [trust.component_name(item) for item in manifest.components]
        for component in components:
            trust.check_right(boot.trust, component, signers)
        if components != ["app"]:
            raise Refused("component", "this core installs an application and nothing else")
        floor = boot.record.floors[1].get("app", (0, b""))
        if manifest.sequence < floor[0]:
            raise Refused("sequence", "%d is below the install floor %d" % (manifest.sequence, floor[0]))
        if manifest.sequence == floor[0] and manifest.digest != floor[1]:
            raise Refused("sequence", "%d is already another release" % manifest.sequence)
        now = boot.now()
        if now is None:
            raise Refused("clock", "the clock is not set, so the signing time cannot be judged")
        if manifest.sequence > now + _DAY_S:
            raise Refused("sequence", "%d is more than a day ahead of the clock" % manifest.sequence)
        return manifest

    async def _install(self, manifest, data):
        from gatehouse import suit_commands as suit
        from gatehouse import tree

        boot = self._boot
        slot = boot.inactive()
        root = "/slots/" + slot
        verified = None  # (digest, size) that the whole slot was verified against since the last write
        invoked = False
        for section in ("payload-fetch", "install", "validate", "load", "invoke"):
            commands = manifest.run(section, boot)
            answer = None
            while True:
                try:
                    command, _, parameters = commands.send(answer)
                except StopIteration:
                    break
                answer = True
                if command == suit.FETCH:
                    verified = None
                    await self._fetch(manifest, parameters, root)
                elif command == suit.IMAGE_MATCH:
                    wanted = (parameters[suit.IMAGE_DIGEST], parameters[suit.IMAGE_SIZE])
                    if verified != wanted:
                        tree.verify(root, wanted[0], wanted[1], boot.feed, self._buffer)
                        verified = wanted
                elif command == suit.INVOKE:
                    invoked = True  # at the next boot; here it only has to be there
                elif command == suit.COMPONENT_SLOT:
                    answer = parameters[suit.SLOT] == (slot == "b")
                else:
                    raise Refused("unsupported", "command %d while installing" % command)
        manifest.complete()
        if not verified or not invoked:
            raise Refused("condition", "the manifest does not match or does not invoke what it installs")
        record.save(root + "/manifest.suit", data)
        boot.start_trial(slot, manifest)
        self._set("pending-reboot", reason=None, detail="")

    async def _fetch(self, manifest, parameters, root):
        """Directive fetch for ["app"]: bring the inactive slot to the tree whose index has the signed digest."""
        from gatehouse import source, unpack
        from gatehouse import suit_commands as suit

        digest, size = parameters[suit.IMAGE_DIGEST], parameters[suit.IMAGE_SIZE]
        self._set(
            "downloading",
            reason=None,
            detail="",
            digest=manifest.digest,
            sequence=manifest.sequence,
            done=0,
            total=0,
        )
        try:
            os.remove(root + "/manifest.suit")  # from here on nothing in this slot can be chosen
        except OSError:
            pass  # the slot had none
        pack = source.open_source(parameters[suit.URI], self._boot.config.base)
        active = self._boot.release.root if self._boot.release else None
        try:
            await unpack.fill(pack, root, active, digest, size, self._progress, self._buffer)
        finally:
            await pack.close()

    def _progress(self, done, total):
        self._boot.feed()
        if self.state["done"] != done or self.state["total"] != total:
            self._set("installing" if done == total else "downloading", done=done, total=total)
