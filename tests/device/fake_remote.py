"""What an adapter of firmware/access/ needs around it: a boot with a journal and real NVS, and a dispatcher that notes.

Also a client of MQTT commands, written from docs/commands.md a second time.
"""

import asyncio

import fake_boot
import fake_chip as chip
from gatehouse import cbor, mac


class Boot:
    """As slots.Boot with an identity, on the NVS of fake_chip."""

    def __init__(self, key=fake_boot.DEVICE_KEY):
        from gatehouse import store

        self.identity = fake_boot.Identity()
        self.store = store.Store()
        self.notes = []
        if self.store.blob("device_key") is None:
            self.store.put("device_key", key)

    def note(self, event, *details):
        if chip.power.off:
            raise chip.PowerCut
        self.notes.append((event,) + details)
        return True


class Operations:
    """Notes what is called; `act(session, name, arguments)` gives the result, if it is set."""

    def __init__(self):
        self.called = []
        self.act = None

    async def call(self, session, name, arguments):
        if chip.power.off:
            raise chip.PowerCut
        self.called.append((session.role, session.user, session.interface, session.fresh, name, arguments))
        await asyncio.sleep_ms(0)
        return self.act(session, name, arguments) if self.act else {"did": name}


class Client:
    """A holder of one command key."""

    def __init__(self, role="operator", name="desk", device="gh-1", epoch=0, key=fake_boot.DEVICE_KEY):
        self.kid = (role + "/" + name).encode()
        self.device = device
        self.counter = 0
        self.key = mac.hkdf(key, cbor.dumps(["gatehouse/1", "command", role, name, epoch]))

    def command(self, operation="identify", arguments=None, counter=None):
        """A message; its counter is one more than that of the one before, unless given."""
        self.counter = self.counter + 1 if counter is None else counter
        return self.seal({1: self.device, 2: self.counter, 3: b"N" * 8, 4: operation, 5: arguments or {}})

    def seal(self, payload, external=b"gatehouse/1 command"):
        return mac.mac0(self.key, self.kid, cbor.dumps(payload), external)

    def opened(self, reply):
        """The fields of a reply that is by the device, to this client."""
        kid, payload, tag = mac.mac0_parts(reply)
        assert kid == self.kid
        assert tag == mac.tag_of(self.key, payload, b"gatehouse/1 reply"), "reply is not by this device"
        return cbor.loads(payload)
