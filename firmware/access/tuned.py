"""What an owner has changed of the policy by an operation: within the bounds of the signed configuration."""

from gatehouse import Refused, cbor

_KEY = (
    "tuned"  # NVS: CBOR [digest of the configuration that it belongs to, {"interfaces", "lockout", "session": value}]
)


def load(registry):
    """Apply what was tuned under this very configuration. It goes when another one is confirmed."""
    store, boot = registry.boot.store, registry.boot
    data = store.blob(_KEY)
    if not data:
        return
    digest, values = _read(data)
    if digest == boot.config_digest:
        for field in values:
            setattr(registry, field, values[field])
    elif boot.mode == "active":
        store.remove(_KEY)


def _read(data):
    try:
        digest, values = cbor.loads(data)
        return digest, values
    except (ValueError, TypeError):  # not written by us
        return None, {}


def tune(registry, field, value):
    """Registry.tune(): one NVS write, then it holds."""
    boot = registry.boot
    _check(boot.config, field, value)
    digest, values = _read(boot.store.blob(_KEY) or b"")
    if digest != boot.config_digest:
        values = {}
    values[field] = value
    boot.store.put(_KEY, cbor.dumps([boot.config_digest, values]))
    setattr(registry, field, value)


def _check(config, field, value):
    """Refused("argument") unless the configuration lets `field` become `value`.

    interfaces: what the configuration opens may be closed and opened again; anything else only where its bounds name
    it. lockout, session: each number within [least, most] of the bounds; without bounds not at all.
    """
    bounds = config.bounds.get(field)
    if field == "interfaces":
        for name in value:
            if name not in config.interfaces and name not in (bounds or ()):
                raise Refused("argument", "%s is opened by a signed configuration only" % name)
        return
    if not bounds:
        raise Refused("argument", "the configuration gives no bounds for %s: it changes by a signed one only" % field)
    least, most = bounds
    if len(value) != len(least):
        raise Refused("argument", "%s has %d numbers" % (field, len(least)))
    for number, low, high in zip(value, least, most):
        if not low <= number <= high:
            raise Refused("argument", "%s must be within %s and %s" % (field, least, most))
