"""The delay after wrong passwords, for each interface and user apart. Loaded for a password and forgotten after it.

The level, the number of wrong passwords in a row, is in NVS before a password is evaluated: a power cut saves nobody a
delay. What is kept is the level and no deadline, so after a boot the whole delay of the level is served again. The
thresholds are policy.lockout = [free tries, first delay s, longest delay s, enabled].
"""

from micropython import const

from gatehouse import cbor, status

_KEY = "locks"  # NVS: CBOR {"interface/user": level}
_MAX_DOUBLINGS = const(20)  # beyond the longest delay of any policy


def load(auth):
    """Fill auth.levels and auth.until (milliseconds of uptime at which a delay ends) at a start."""
    try:
        auth.levels.update(cbor.loads(auth.boot.store.blob(_KEY) or b"\xa0"))
    except (ValueError, TypeError) as error:  # not written by us: no reason to keep a device from starting
        print("gatehouse: locks:", error)
    for key in auth.levels:
        serve(auth, key)


def delay(policy, level):
    """Seconds that follow the wrong password number `level` in a row."""
    free, first, longest, _ = policy.lockout
    if level <= free:
        return 0
    return min(longest, first << min(level - free - 1, _MAX_DOUBLINGS))


def strike(auth, key):
    """Count a password as wrong, before it is evaluated. The level grows no further than the longest delay."""
    free, _, longest, enabled = auth.policy.lockout
    level = auth.levels.get(key, 0)
    if enabled and (level <= free or delay(auth.policy, level) < longest):
        auth.levels[key] = level + 1
        _save(auth)
    serve(auth, key)


def serve(auth, key):
    """The delay of the level begins now. Returns its seconds."""
    seconds = delay(auth.policy, auth.levels.get(key, 0))
    auth.until[key] = status.uptime_ms() + seconds * 1000
    return seconds


def clear(auth, key):
    """The password was right."""
    auth.until.pop(key, None)
    if auth.levels.pop(key, None) is not None:
        _save(auth)


def restore(auth, key, level):
    """Take a strike back: the password was not evaluated. `level`: the one before it, None for none."""
    auth.until.pop(key, None)
    if auth.levels.get(key) != level:
        auth.levels[key] = level
        if level is None:
            del auth.levels[key]
        _save(auth)


def unlock(auth, user):
    """Clear a user on every interface. Whether there was anything."""
    found = [key for key in auth.levels if key.split("/")[1] == user]
    for key in found:
        clear(auth, key)
    return bool(found)


def _save(auth):
    auth.boot.store.put(_KEY, cbor.dumps(auth.levels))
