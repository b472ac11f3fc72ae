"""Which offers are taken: signed by whom, with which right, how fresh. What is taken is installed by update.py."""

from micropython import const

from gatehouse import Refused, trust

_DAY_S = const(86400)  # how far beyond the clock a sequence number (its signing time) may be


def authenticate(boot, envelope):
    """(manifest, signers) of a suit.Envelope, by the device's trust anchors. Raises Refused."""
    signers = envelope.authenticate(trust.keys(boot.trust))
    return envelope.manifest(), signers


def admit(boot, envelope, manifest, signers):
    """The names of the components that the manifest brings, once right, sequence number and clock allow it.

    [] when all of it is there already. Raises Refused.
    """
    names = trust.names(manifest)
    for name in names:
        trust.check_right(boot.trust, name, signers)
    if manifest.digest and all(_present(boot, name) == manifest.digest for name in names):
        return []
    for name in names:
        floor = boot.record.floors[1].get(name, (0, b""))
        if name == "trust":
            continue  # its own version decides, in rotation.py
        if manifest.sequence < floor[0]:
            raise Refused("sequence", "%d is below the install floor %d" % (manifest.sequence, floor[0]))
        if manifest.sequence == floor[0] and manifest.digest != floor[1]:
            raise Refused("sequence", "%d is already another release" % manifest.sequence)
    if "trust" in names:
        # No clock is asked: whoever has a stolen key and a false one must not keep the root from revoking the key.
        from gatehouse import rotation

        rotation.check(boot, envelope, manifest)
        return names
    now = boot.now()
    if now is None:
        raise Refused("clock", "the clock is not set, so the signing time cannot be judged")
    if manifest.sequence > now + _DAY_S:
        # Which of the two is wrong will show.
        raise Refused("sequence", "%d is more than a day ahead of the clock" % manifest.sequence, again=True)
    if not boot.record.active and "app" not in names:
        raise Refused("state", "nothing runs here: an application comes first")
    return names


def _present(boot, name):
    """The digest of the manifest that brought what this component is now."""
    if name == "app":
        return boot.release and boot.release.digest
    if name == "config":
        return boot.config_digest
    return boot.record.floors[1].get(name, (0, b""))[1]
