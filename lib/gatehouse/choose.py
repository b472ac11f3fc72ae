"""Which release runs in this boot, by the table "Record x boot" of docs/boot.md. Unloaded once that is known."""

import os

import machine

from gatehouse import Refused, cbor, config, record, suit, transitions, tree, trust


def choose(boot):
    """Load the record, write it, verify. Sets the mode and release of `boot` (slots.Boot). Refused when nothing can."""
    boot.record = transitions.load(boot.store)
    tried = boot.record.trial
    way = transitions.begin(boot.record)
    try:
        boot.record.save()  # the first write of every boot
    except OSError as error:
        # A full flash must not keep a device from starting; a trial that cannot be counted does not run.
        boot.failure = Refused("full", "boot record: %s" % error)
        if way == "trial":
            way = "active" if boot.record.active else "recovery"
    _reconcile(boot)
    _load_anchors(boot)
    if tried and not boot.record.trial:
        _tell(boot)
    if way == "rebuild":
        way = _rebuild(boot)
    if way == "trial":
        why = _on_trial_partition(boot) or _configured(boot, boot.record.trial) or _verifies(boot, boot.record.trial)
        if why:
            print("gatehouse: trial:", why)
            transitions.fail_trial(boot.record, why.reason)
            _save(boot)
            _tell(boot)
            way = "active" if boot.record.active else "recovery"
    if way != "trial":
        if way == "active":
            _on_active_partition(boot)
        _configure(boot)
    if way == "active":
        way = _choose_active(boot)
    _follow(boot)  # the choice may have failed a trial, or confirmed another release than the record named
    boot.mode = way
    boot.release = {"trial": boot.record.trial, "active": boot.record.active}.get(way)
    if way == "active":
        boot.pending = _take_offer()
        if boot.pending:
            boot.mode = "install"


def check(boot, release):
    """Verify that a slot holds just this release; sets its name and version. Raises Refused.

    Signature, right, vendor and class, boot floor, index, every file, nothing else in the slot.
    """
    data = record.load(release.root + "/manifest.suit")
    if data is None:
        raise Refused("state", "no manifest in %s" % release.root)
    envelope = suit.Envelope(data)
    if release.digest is not None and envelope.digest != release.digest:
        raise Refused("digest", "%s holds another release than the boot record names" % release.root)
    manifest = trust.admitted(boot.trust, envelope, "app")
    app = trust.names(manifest).index("app")
    if manifest.sequence < boot.record.floors[2].get("app", 0):
        raise Refused("sequence", "%d is below the boot floor" % manifest.sequence)
    invoked = []

    def act(command, index, parameters):
        if command == suit.IMAGE_MATCH:
            # What else came with it is verified where it lies: a configuration below, an image by the bootloader.
            if index == app:
                release.index = bytes(parameters[suit.IMAGE_DIGEST]), parameters[suit.IMAGE_SIZE]
                release.name, release.version = tree.verify(release.root, release.index[0], release.index[1], boot.feed)
        elif command == suit.INVOKE:
            invoked.append(index)
        else:
            raise Refused("unsupported", "command %d at boot" % command)
        return True

    suit.drive(manifest, ("validate", "load", "invoke"), trust.Undated(boot), act)
    manifest.complete()
    if app not in invoked:
        raise Refused("condition", "the manifest does not invoke the application")
    release.digest, release.sequence = manifest.digest, manifest.sequence


def _verifies(boot, release):
    """check() as a question: None when the slot is good, else the Refused that says why not."""
    try:
        check(boot, release)
    except Refused as error:
        return error
    except OSError as error:
        return Refused("state", "%s: %s" % (release.root, error))
    return None


def _choose_active(boot):
    """The active release if it verifies, else the other slot's, else recovery."""
    active = boot.record.active
    error = _verifies(boot, active)
    if not error:
        return "active"
    print("gatehouse: active:", error)
    other = record.Release(["a" if active.slot == "b" else "b", None, 0, active.partition, active.config])
    if not _verifies(boot, other) and other.digest not in boot.record.floors[4]:
        transitions.fall_back(boot.record, other, error.reason)
        _save(boot)
        _tell(boot)
        return "active"
    boot.failure = error
    return "recovery"


def _tell(boot):
    """Journal a roll back."""
    state, reason, digest, _ = boot.record.outcome
    boot.note(state, reason, digest[:8])


def _rebuild(boot):
    """No usable record: only the confirmed release becomes active; another one gets a single try."""
    candidate = None
    generation = _confirmed_config(boot)
    for slot in ("a", "b"):
        release = record.Release([slot, None, 0, None, generation])
        error = _verifies(boot, release)
        if error:
            boot.failure = error
        elif release.digest == boot.record.floors[3]:
            boot.record.active = release
            _save(boot)
            return "active"
        elif release.digest not in boot.record.floors[4]:
            candidate = release
    if candidate:
        transitions.start_trial(boot.record, candidate, candidate.digest, candidate.sequence, ["app"])
        boot.record.tries = 0  # this boot is its one try
        _save(boot)
        return "trial"
    return "recovery"


def _on_trial_partition(boot):
    """Make sure that the trial's own image runs: None, or why the trial has failed. May restart the device."""
    trial = boot.record.trial
    if not trial.partition:
        return None
    from gatehouse import image

    if image.running() == trial.partition:
        return None
    # The bootloader gave the image up at its first reset. After a power cut that says nothing about it: once more.
    if boot.cause == machine.PWRON_RESET and boot.record.tries:
        try:
            image.switch(trial.partition)
        except OSError as error:
            return Refused("state", "partition %s: %s" % (trial.partition, error))
        machine.reset()
    return Refused("health", "the bootloader went back from %s" % trial.partition)


def _on_active_partition(boot):
    """Have the bootloader run the active release's image. May restart the device, but never twice for the same."""
    partition = boot.record.active.partition
    if not partition:
        return
    from gatehouse import image

    if image.running() != partition:
        if image.boot_label() != partition:
            try:
                image.switch(partition)
                if boot.cause == machine.PWRON_RESET:
                    # The bootloader went back because of a power cut: this boot, which runs no release, says nothing
                    # about its health. After any other reset it does, or an image that crashes would be tried for ever.
                    boot.record.quiet -= 1
                    boot.record.save()
                machine.reset()
            except OSError as error:
                print("gatehouse: partition", partition, error)
        boot.failure = Refused("state", "the bootloader does not run %s" % partition)
    else:
        image.keep()


def _reconcile(boot):
    """Make the NVS copies follow the record, and count this start. Safe to repeat after any cut."""
    _follow(boot)
    boot.boot_count = boot.store.number("boots") + 1
    boot.store.put_number("boots", boot.boot_count)


def _follow(boot):
    """Make the floors of NVS those of the record. Writes nothing where they are."""
    boot.store.put("floors", cbor.dumps(boot.record.floors))


def _load_anchors(boot):
    """Identity and trust anchors, verified now; NVS follows a rotation that a cut may have left half done."""
    boot.identity = boot.store.identity()
    data = record.load(record.TRUST)
    if data is None:
        raise Refused("state", "no trust anchors: provision this device")
    envelope = suit.Envelope(data)
    store = trust.open_store(envelope, boot.store.required("root"), trust.Undated(boot))
    trust.check_build(store, boot.identity)
    boot.trust = store
    boot.store.put("root", trust.root_digest(boot.trust))
    floors = boot.record.floors
    floor = floors[1].get("trust", (0, b""))
    if boot.trust.version < floor[0]:
        raise Refused("sequence", "trust anchors %d are below the floor %d" % (boot.trust.version, floor[0]))
    if floor[0] != boot.trust.version:
        floors[1]["trust"] = [boot.trust.version, envelope.digest]
        _save(boot)
        _follow(boot)


def _configured(boot, release):
    """Load the configuration of a release on trial: None, or the Refused that says why the trial has failed."""
    try:
        _load_config(boot, release.config)
    except Refused as error:
        return error
    return None


def _configure(boot):
    """The active configuration, else the last good one, else the factory's, else the defaults: a device must start."""
    active = boot.record.active
    generations = [active.config, boot.record.last] if active else [_confirmed_config(boot)]
    for generation in generations + [record.FACTORY]:
        try:
            _load_config(boot, generation)
            return
        except Refused as error:
            print("gatehouse: configuration", generation, error)
            boot.failure = boot.failure or error
    boot.config = config.parse()


def _load_config(boot, generation):
    data = record.load(record.CONFIG % generation)
    if data is None:
        raise Refused("state", "no configuration %d" % generation)
    envelope = suit.Envelope(data)
    if generation == record.FACTORY:
        # The factory pinned it, so that it stays usable when the key that signed it is revoked.
        pinned = boot.store.blob("factory")
        if pinned is not None and pinned != envelope.digest:
            raise Refused("digest", "not the factory's configuration")
        keep = [pinned]
    else:
        known = boot.record.configs.get(generation)
        if known and known[1] != envelope.digest:
            raise Refused("digest", "configuration %d is not the one that the boot record names" % generation)
        keep = []
    manifest = trust.admitted(boot.trust, envelope, "config", keep)
    if generation != record.FACTORY and manifest.sequence < boot.record.floors[2].get("config", 0):
        raise Refused("sequence", "%d is below the boot floor" % manifest.sequence)
    boot.config = config.parse(trust.payload(envelope, manifest, "config", trust.Undated(boot)))
    boot.generation, boot.config_digest = generation, manifest.digest


def _confirmed_config(boot):
    """Without a record: the generation of the configuration whose digest NVS holds as confirmed, else the factory's."""
    wanted = boot.record.floors[1].get("config", (0, b""))[1]
    for name in os.listdir("/state"):
        if name.startswith("config-") and name.endswith(".suit"):
            data = record.load("/state/" + name)
            try:
                if data and suit.Envelope(data).digest == wanted:
                    return int(name[len("config-") : -len(".suit")])
            except (Refused, ValueError):
                pass  # not a configuration of ours: it is not looked at again
    return record.FACTORY


def _take_offer():
    """The envelope that the application left for the core alone, once: what comes of it, it is not tried again."""
    data = record.load(record.OFFER)
    if data is not None:
        try:
            os.remove(record.OFFER)
        except OSError as error:
            print("gatehouse: offer:", error)
            return None  # or it would be tried in every boot
    return data


def _save(boot):
    """Save what was decided. A flash that takes no more must not keep the device from starting."""
    try:
        boot.record.save()
    except OSError as error:
        boot.failure = boot.failure or Refused("full", "boot record: %s" % error)
