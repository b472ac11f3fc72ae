"""New trust anchors: the component ["trust"]. It holds from the moment it is written and never rolls back.

Written in this order, so that a cut leaves the old or the new store: NVS takes both roots, one rename replaces the
store, NVS takes the new root alone. The next boot finishes what a cut left (choose.py).
"""

from gatehouse import Refused, record, suit, trust


def check(boot, envelope, manifest):
    """Refused unless the store in an authenticated envelope, signed by the old root, may replace the device's.

    "sequence": not newer; "right": its own roots have not signed it too; "dev": for development, and
    this is a production build; "strands": the device would be lost with it.
    """
    store = _store(boot, envelope, manifest)
    trust.check_build(store, boot.identity)
    if store.version <= boot.trust.version:
        raise Refused("sequence", "trust anchors %d, and %d are here" % (store.version, boot.trust.version))
    if trust.root_digest(store) != trust.root_digest(boot.trust):
        # New roots prove that they can sign, or the next rotation would be nobody's.
        trust.check_right(store, "trust", envelope.authenticate(trust.keys(store)))
    for component in ("app", "config", "trust"):
        try:
            trust.check_right(store, component, trust.keys(store))
        except Refused:
            raise Refused("strands", "no keys that could sign %s" % component)
    if boot.config.tls and not store.tls:
        raise Refused("strands", "no authority for the broker's certificate")
    try:
        if boot.release:
            data = record.load(boot.release.root + "/manifest.suit") or b""
            trust.admitted(store, suit.Envelope(data), "app")
        if boot.generation != record.FACTORY or boot.store.blob("factory") is None:
            data = record.load(record.CONFIG % boot.generation) or b""
            trust.admitted(store, suit.Envelope(data), "config")
    except Refused as error:
        raise Refused("strands", "what runs here would not start: %s" % error)


def _store(boot, envelope, manifest):
    return trust.parse(trust.payload(envelope, manifest, "trust", boot))


def install(boot, envelope, manifest, data):
    """Write a checked store, `data` being the whole envelope. It is in force after the restart that must follow."""
    store = _store(boot, envelope, manifest)
    old, new = trust.root_digest(boot.trust), trust.root_digest(store)
    if old != new:
        boot.store.put("root", old + new)
    record.save(record.TRUST, data)
    boot.store.put("root", new)
    boot.record.floors[1]["trust"] = [store.version, manifest.digest]
    boot.record.outcome = ["confirmed", None, manifest.digest, manifest.sequence]
    boot.record.save()
