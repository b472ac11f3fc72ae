"""What an owner may change of the policy by an operation: within the bounds of the signed configuration."""

from gatehouse import Refused


def check(config, field, value):
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
