"""The registry of interfaces: what the policy wants, and what is really there (rows.py asks the chip)."""

import asyncio

from access import passing

# Each interface that the chips have, used or not. The first two carry the device's core function: never switched off.
NAMES = "wifi-station update uart usb wifi-ap ble esp-now webrepl mdns https mqtt-commands home-assistant reset-button"
ALWAYS = ("wifi-station", "update")


class Registry:
    """Interfaces and thresholds: those of the signed configuration, and what an operation has changed within it.

    lockout = [free tries, first delay s, longest delay s, enabled], session = [idle s, absolute s, most].
    """

    def __init__(self, boot):
        self.boot = boot
        self.able = set()  # what this firmware can serve at all; doors.py says it
        self.serving = set()  # adapters that run
        self.changed = asyncio.Event()
        self.states = b""  # of the last look, a byte for each name: 1 wanted, 2 active, 4 cannot be asked
        self.interfaces = boot.config.interfaces
        self.lockout = boot.config.lockout
        self.session = boot.config.session
        self._call("tuned", "load")

    def wants(self, name):
        """Whether the policy has this interface open."""
        return name in ALWAYS or name in self.interfaces

    def rows(self):
        """Every interface: (name, wanted, active, agrees, detail). active: None where it cannot be asked."""
        return self._call("rows", "look")

    def enforce(self):
        """Switch off what is active and not wanted, and look again. Whether anything is other than it was."""
        before = self.states
        self.states = self._call("rows", "enforce")
        return before != self.states

    def tune(self, field, value):
        """Change "interfaces", "lockout" or "session" within the configuration's bounds. Refused("argument") beyond."""
        self._call("tuned", "tune", field, value)
        self.changed.set()

    def found(self):
        """The last look: {name: [wanted, active]}."""
        told = {}
        for name, state in zip(NAMES.split(" "), self.states):
            told[name] = [bool(state & 1), None if state & 4 else bool(state & 2)]
        return told

    def disagreeing(self):
        """The names of the interfaces that are not as the policy wants."""
        return [name for name, state in zip(NAMES.split(" "), self.states) if state in (1, 2)]

    def _call(self, module, name, *arguments):
        """Call a function of a module that is forgotten afterwards."""
        found = getattr(__import__("access." + module, None, None, (name,)), name)
        try:
            return found(self, *arguments)
        finally:
            passing.forget(module)
