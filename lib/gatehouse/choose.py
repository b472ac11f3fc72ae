"""Which release runs in this boot, by the table "Record x boot" of docs/boot.md. Unloaded once that is known."""

from micropython import const

from gatehouse import Refused, cbor, config, record, suit, tree, trust

TRUST = "/state/trust.suit"
CONFIG = "/state/config-%d.suit"
FACTORY = const(1)  # the configuration generation that provisioning wrote


def choose(boot):
    """Load the record, write it, verify. Sets the mode and release of `boot` (slots.Boot). Refused when nothing can."""
    boot.record = _record(boot.store)
    way = boot.record.begin()
    try:
        boot.record.save()  # the first write of every boot
    except OSError as error:
        # A full flash must not keep a device from starting; a trial that cannot be counted does not run.
        boot.failure = Refused("full", "boot record: %s" % error)
        if way == "trial":
            way = "active" if boot.record.active else "recovery"
    _reconcile(boot)
    _load_anchors(boot)
    if way == "rebuild":
        way = _rebuild(boot)
    if way == "trial":
        why = _verifies(boot, boot.record.trial)
        if why:
            print("gatehouse: trial:", why)
            boot.record.fail_trial(why.reason)
            boot.record.save()
            way = "active" if boot.record.active else "recovery"
    if way == "active":
        way = _choose_active(boot)
    boot.mode = way
    boot.release = {"trial": boot.record.trial, "active": boot.record.active}.get(way)


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
    signers = envelope.authenticate(trust.keys(boot.trust))
    manifest = envelope.manifest()
    if [trust.component_name(item) for item in manifest.components] != ["app"]:
        raise Refused("component", "not an application")
    trust.check_right(boot.trust, "app", signers)
    if manifest.sequence < boot.record.floors[2].get("app", 0):
        raise Refused("sequence", "%d is below the boot floor" % manifest.sequence)
    invoked = False
    for section in ("validate", "load", "invoke"):
        commands = manifest.run(section, boot)
        answer = None
        while True:
            try:
                command, _, parameters = commands.send(answer)
            except StopIteration:
                break
            answer = True
            if command == suit.IMAGE_MATCH:
                release.name, release.version = tree.verify(
                    release.root, parameters[suit.IMAGE_DIGEST], parameters[suit.IMAGE_SIZE], boot.feed
                )
            elif command == suit.INVOKE:
                invoked = True
            else:
                raise Refused("unsupported", "command %d at boot" % command)
    manifest.complete()
    if not invoked:
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
    other = record.Release(["a" if active.slot == "b" else "b", None, 0, None, active.config])
    if not _verifies(boot, other) and other.digest not in boot.record.floors[4]:
        boot.record.fall_back(other, error.reason)
        boot.record.save()
        return "active"
    boot.failure = error
    return "recovery"


def _rebuild(boot):
    """No usable record: only the confirmed release becomes active; another one gets a single try."""
    candidate = None
    for slot in ("a", "b"):
        release = record.Release([slot, None, 0, None, FACTORY])
        error = _verifies(boot, release)
        if error:
            boot.failure = error
        elif release.digest == boot.record.floors[3]:
            boot.record.active = release
            boot.record.save()
            return "active"
        elif release.digest not in boot.record.floors[4]:
            candidate = release
    if candidate:
        boot.record.start_trial(candidate)
        boot.record.tries = 0  # this boot is its one try
        boot.record.save()
        return "trial"
    return "recovery"


def _reconcile(boot):
    """Make the NVS copies follow the record, and count this start. Safe to repeat after any cut."""
    boot.store.put("floors", cbor.dumps(boot.record.floors))
    boot.boot_count = boot.store.number("boots") + 1
    boot.store.put_number("boots", boot.boot_count)


def _load_anchors(boot):
    """Identity, trust anchors and configuration, each verified now."""
    boot.identity = boot.store.identity()
    data = record.load(TRUST)
    if data is None:
        raise Refused("state", "no trust anchors: provision this device")
    boot.trust = trust.open_store(data, boot.store.required("root"), boot)
    running = boot.record.trial or boot.record.active
    generation = running.config if running else FACTORY
    try:
        data = record.load(CONFIG % generation)
        if data is None:
            raise Refused("state", "no configuration %d" % generation)
        envelope = suit.Envelope(data)
        _, payload = trust.signed_payload(envelope, trust.keys(boot.trust), "config", boot, boot.trust)
        boot.config = config.parse(payload)
    except Refused as error:
        boot.failure = error
        boot.config = config.parse()


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
