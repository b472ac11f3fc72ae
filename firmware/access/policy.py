"""The registry of interfaces: what the policy wants, and what is really there (rows.py asks the chip)."""

import asyncio

from access import passing
from gatehouse import cbor

# Each interface that the chips have, used or not. The first two carry the device's core function: never switched off.
NAMES = "wifi-station update uart usb wifi-ap ble esp-now webrepl mdns https mqtt-commands reset-button"
ALWAYS = ("wifi-station", "update")
_TUNED = "tuned"  # NVS: [digest of the configuration that it belongs to, {"interfaces", "lockout", "session": value}]


class Registry:
    """Interfaces and thresholds: those of the signed configuration, and what an operation has changed within it.

    lockout = [free tries, first delay s, longest delay s, enabled], session = [idle s, absolute s, most].
    """

    def __init__(self, boot):
        self.boot = boot
        self.able = set()  # what this firmware can serve at all; doors.py says it
        self.serving = set()  # adapters that run
        self.changed = asyncio.Event()
        self.found = ()  # rows() of the last look
        self._tuned = self._load()
        self._apply()

    def wants(self, name):
        """Whether the policy has this interface open."""
        return name in ALWAYS or name in self.interfaces

    def rows(self):
        """Every interface: (name, wanted, active, agrees, detail). active: None where it cannot be asked."""
        from access import rows

        try:
            return rows.look(self)
        finally:
            del rows
            passing.forget("rows")

    def enforce(self):
        """Switch off what is active and not wanted, and look again. Whether anything is other than it was."""
        from access import rows

        before = [row[:4] for row in self.found]
        try:
            off = rows.enforce(self)
            self.found = rows.look(self)
        finally:
            del rows
            passing.forget("rows")
        for name in off:
            self.boot.note("closed", name)
        return before != [row[:4] for row in self.found]

    def disagreeing(self):
        """The names of the interfaces that are not as the policy wants."""
        return [row[0] for row in self.found if not row[3]]

    def tune(self, field, value):
        """Change "interfaces", "lockout" or "session" within the configuration's bounds. Refused("argument") beyond."""
        from access import bounds

        try:
            bounds.check(self.boot.config, field, value)
        finally:
            del bounds
            passing.forget("bounds")
        tuned = dict(self._tuned)
        tuned[field] = value
        self.boot.store.put(_TUNED, cbor.dumps([self.boot.config_digest, tuned]))
        self._tuned = tuned
        self._apply()
        self.changed.set()

    def _load(self):
        """What was tuned under this very configuration. It goes when another one is confirmed."""
        store = self.boot.store
        data = store.blob(_TUNED)
        if not data:
            return {}
        try:
            digest, tuned = cbor.loads(data)
        except (ValueError, TypeError):
            digest = tuned = None
        if digest == self.boot.config_digest:
            return tuned
        if self.boot.mode == "active":
            store.remove(_TUNED)
        return {}

    def _apply(self):
        config, tuned = self.boot.config, self._tuned
        self.interfaces = tuned.get("interfaces", config.interfaces)
        self.lockout = tuned.get("lockout", config.lockout)
        self.session = tuned.get("session", config.session)
