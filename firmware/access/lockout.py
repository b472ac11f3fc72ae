"""The delay after wrong passwords, for each interface and user apart.

The level, the number of wrong passwords in a row, is in NVS before a password is evaluated: a power cut saves nobody a
delay. What is kept is the level and no deadline, so after a boot the whole delay of the level is served again.
"""

from micropython import const

from gatehouse import cbor, status

_KEY = "locks"
_MAX_DOUBLINGS = const(20)  # beyond the longest delay of any policy


class Lockout:
    """Levels by "interface/user". `policy` has the thresholds: lockout = [free tries, first s, longest s, enabled]."""

    def __init__(self, store, policy):
        self._store = store
        self._policy = policy
        self._levels = {}
        try:
            self._levels.update(cbor.loads(store.blob(_KEY) or b"\xa0"))
        except (ValueError, TypeError) as error:  # not written by us: no reason to keep a device from starting
            print("gatehouse: locks:", error)
        self._until = {}  # key -> milliseconds of uptime at which its delay ends
        for key in self._levels:
            self._serve(key)

    def delay(self, level):
        """Seconds that follow the wrong password number `level` in a row."""
        free, first, longest, enabled = self._policy.lockout
        if not enabled or level <= free:
            return 0
        return min(longest, first << min(level - free - 1, _MAX_DOUBLINGS))

    def left(self, key):
        """Seconds, rounded up, until a password is evaluated again; 0 when it is now."""
        if not self._policy.lockout[3]:
            return 0
        return max(0, (self._until.get(key, 0) - status.uptime_ms() + 999) // 1000)

    def strike(self, key):
        """Count a password as wrong, before it is evaluated. It grows no further than the longest delay."""
        free, _, longest, enabled = self._policy.lockout
        level = self._levels.get(key, 0)
        if enabled and (level <= free or self.delay(level) < longest):
            self._levels[key] = level + 1
            self._save()
        self._serve(key)

    def wrong(self, key):
        """It was wrong: the delay begins now. Returns its seconds."""
        return self._serve(key)

    def clear(self, key):
        """It was right."""
        self._until.pop(key, None)
        if self._levels.pop(key, None) is not None:
            self._save()

    def unlock(self, user):
        """Clear a user on every interface. Whether there was anything."""
        found = [key for key in self._levels if key.split("/")[1] == user]
        for key in found:
            self.clear(key)
        return bool(found)

    def table(self):
        """Each key with its level and the seconds that are left: {key: [level, seconds]}."""
        return {key: [level, self.left(key)] for key, level in self._levels.items()}

    def forget(self):
        """Clear all, in memory only: NVS is wiped by who calls."""
        self._levels, self._until = {}, {}

    def _serve(self, key):
        seconds = self.delay(self._levels.get(key, 0))
        self._until[key] = status.uptime_ms() + seconds * 1000
        return seconds

    def _save(self):
        self._store.put(_KEY, cbor.dumps(self._levels))
