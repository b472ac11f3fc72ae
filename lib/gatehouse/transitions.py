"""What happens to the boot record: the rows of docs/boot.md as functions, then what saves it and what follows it.

Needed at boot, at the end of an update and when a trial ends; unloaded in between.
"""

import os

from micropython import const

from gatehouse import Refused, cbor
from gatehouse import record as records

TRIES = const(3)  # so that two power cuts during a trial do not condemn a good release
TRIES_FIRMWARE = const(5)  # the same: after each cut the bootloader goes back once, and that boot counts too
_MAX_FAILED = const(8)  # digests remembered; the install floor keeps older ones out anyway


def begin(record):
    """Rows 1 to 5 of the table: count this boot and choose. Returns "active", "trial", "recovery" or "rebuild"."""
    record.quiet += 1
    if record.trial:
        if record.tries:
            record.tries -= 1
            return "trial"
        fail_trial(record, "health")
    if not record.active:
        return "rebuild"
    return "recovery" if record.quiet > records.QUIET_LIMIT else "active"


def fail_trial(record, reason):
    """Row 3 of the table: the trial is over, and its manifest is not tried again."""
    digest, sequence, _, _ = record.update
    record.trial = record.update = None
    record.tries = 0
    record.quiet = 1
    if digest:
        record.floors[4] = ([other for other in record.floors[4] if other != digest] + [digest])[-_MAX_FAILED:]
    record.outcome = ["rolled-back", reason, digest, sequence]


def start_trial(record, release, digest, sequence, components, no_return=False):
    """The switch of an update: the next boot runs `release` on trial.

    digest, sequence: of the manifest, b"" and 0 where a configuration is restored; components: the names of what it
    brings; no_return: the release before must not run again once this one has confirmed.
    """
    active = record.active
    moved = release.partition and not (active and release.partition == active.partition)
    record.trial = release
    record.update = [digest, sequence, components, no_return]
    record.tries = TRIES_FIRMWARE if moved else TRIES
    if "config" in components:
        record.configs[release.config] = [sequence, digest]
    record.outcome = ["pending-reboot", None, digest, sequence]


def confirm_trial(record):
    """The trial becomes the active release and the floors move."""
    release, before = record.trial, record.active
    digest, sequence, components, no_return = record.update
    record.active, record.trial, record.update, record.tries, record.quiet = release, None, None, 0, 0
    install, lowest = record.floors[1], record.floors[2]
    for component in components:
        floor = install.get(component)
        if floor is None or floor[0] <= sequence:
            install[component] = [sequence, digest]
    if "app" in components:
        if before:
            lowest["app"] = max(before.sequence, lowest.get("app", 0))
        if no_return:
            lowest["app"] = sequence
    if before and before.config != release.config:
        record.last = before.config
        if "config" in components and before.config in record.configs:
            lowest["config"] = max(record.configs[before.config][0], lowest.get("config", 0))
    kept = (release.config, record.last)
    record.configs = {key: value for key, value in record.configs.items() if key in kept}
    record.floors[3] = release.digest
    record.floors[4] = [other for other in record.floors[4] if other != digest]
    record.outcome = ["confirmed", None, digest, sequence]


def fall_back(record, release, reason):
    """The active release does not verify: `release`, in the other slot, takes its place."""
    bad = record.active
    record.active = release
    record.floors[3] = release.digest
    record.outcome = ["rolled-back", reason, bad.digest, bad.sequence]


def merge(record, other):
    """Take the higher of each floor from `other` (the NVS copy); the record's own failures and digest stand."""
    install, lowest = record.floors[1], record.floors[2]
    for component, floor in other[1].items():
        if component not in install or install[component][0] < floor[0]:
            install[component] = floor
    for component, sequence in other[2].items():
        lowest[component] = max(sequence, lowest.get(component, 0))


def load(nvs):
    """The record of the file, or a new one, each with the NVS floors merged in."""
    floors = None
    try:
        floors = cbor.loads(nvs.blob("floors") or b"")
    except ValueError:
        pass  # never written, or not readable: the record's own floors stand
    try:
        found = records.Record(records.load(records.PATH) or b"")
    except ValueError:
        return records.Record(None, floors)
    if floors:
        merge(found, floors)
    return found


def confirm(boot):
    """confirm_trial() with all that follows the record: NVS, the bootloader, configurations that nobody needs now."""
    record = boot.record
    confirm_trial(record)
    record.save()
    boot.store.put("floors", cbor.dumps(record.floors))
    if record.active.partition:
        from gatehouse import image

        image.keep()
    kept = (records.FACTORY, record.last, record.active.config)
    for name in os.listdir("/state"):
        if name.startswith("config-") and name not in ["config-%d.suit" % generation for generation in kept]:
            os.remove("/state/" + name)


def restore(record, factory):
    """Put the last good configuration on trial, or the factory's, and save that. Refused as Boot.restore()."""
    if record.trial:
        raise Refused("busy", "a release is on trial or waits for its trial")
    if not record.active:
        raise Refused("state", "no release runs here")
    release = records.Release(record.active.fields())
    release.config = records.FACTORY if factory else record.last
    _commit(record, release, b"", 0, [])


def switch(boot, slot, manifest, names, partition, no_return, data):
    """Make the next boot try all that a manifest brought, and which lies verified beside what runs.

    slot: where the application is; names: the components; partition: label of the new image, or None; data: the whole
    envelope. The order matters: what the record will name is written and read back before; the bootloader is told
    before the record, because an image that the record does not name yet is given up by the next boot.
    """
    record = boot.record
    running = record.active
    trial = records.Release(running.fields() if running else [slot, b"", 0, None, records.FACTORY])
    if "config" in names:
        trial.config = max(records.FACTORY, record.last, running.config if running else 0) + 1
        records.save(records.CONFIG % trial.config, data)
    if "app" in names:
        trial.slot, trial.digest, trial.sequence = slot, manifest.digest, manifest.sequence
        records.save(trial.root + "/manifest.suit", data)
    if partition:
        from gatehouse import image

        if running and not running.partition:
            running.partition = image.running()  # from now on the record has to know which image is the old one
            record.save()
        trial.partition = partition
        image.switch(partition)
    _commit(record, trial, manifest.digest, manifest.sequence, names, no_return)


def _commit(record, *trial):
    """start_trial() and the write that makes it so: the switch. A write that fails leaves the record as it was."""
    before = record.trial, record.update, record.tries, record.outcome
    configs = dict(record.configs)
    start_trial(record, *trial)
    try:
        record.save()
    except (OSError, Refused):
        record.trial, record.update, record.tries, record.outcome = before
        record.configs = configs
        raise
