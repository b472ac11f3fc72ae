"""MQTT commands to firmware/access/remote.py: bent ones, and ones that a holder of a key bent before their MAC."""

import asyncio
from random import choice, randrange

import fake_chip as chip
import fake_remote
import mutate
import run_fuzz
from gatehouse import cbor, mac
from run_fuzz import Broken, hexed
from sources import Target

_LAST = 1000  # the counter that the device has seen of every client


class Command(Target):
    """Mutants are (message, whether the MAC was made after the change)."""

    def __init__(self, name, seeds):
        super().__init__(name, seeds)
        from access import remote

        chip.install(8)
        self.module = remote
        self.boot = fake_remote.Boot()
        self.operations = fake_remote.Operations()
        self.clients = [
            fake_remote.Client(*who) for who in (("viewer", "a"), ("operator", "desk"), ("owner", "x" * 16))
        ]
        calls = (
            ("identify", {"seconds": 5}),
            ("state", {}),
            ("config.set", {"field": "lockout", "values": [1, 2, 3, 1]}),
        )
        self.payloads = [
            cbor.dumps({1: "gh-1", 2: _LAST + 1 + number, 3: b"N" * 8, 4: operation, 5: arguments})
            for number, (operation, arguments) in enumerate(calls)
        ]
        self.messages = [self.sealed(client, payload) for client in self.clients for payload in self.payloads]

    @staticmethod
    def sealed(client, payload):
        return mac.mac0(client.key, client.kid, payload, b"gatehouse/1 command")

    def honest(self):
        for message in self.messages:
            if self.check((message, False)) != "done":
                raise Broken("an honest command is refused: %s" % self.boot.notes)
            self.after()

    def make(self):
        if randrange(2):
            return mutate.mutate(choice(self.messages), choice(self.messages)), False
        payload = mutate.mutate(choice(self.payloads), choice(self.payloads))
        return self.sealed(choice(self.clients), payload), True

    def check(self, mutant):
        message, signed = mutant
        for client in self.clients:
            role, name = client.kid.decode().split("/")
            self.boot.store.put("seen-" + role, cbor.dumps([0, 0, {name: _LAST}]))
        nvs = dict(self.boot.store._nvs.values)
        remote = self.module.Remote(self.boot, self.operations)
        self.operations.called.clear()
        self.boot.notes.clear()
        remote.received(message)
        reply = asyncio.run(remote.serve(remote._waiting.pop(0)))
        if len(self.operations.called) == 1 and not self.boot.notes:
            self.allowed(message, signed, reply)
            return "done"
        if self.operations.called or len(self.boot.notes) != 1 or self.boot.store._nvs.values != nvs:
            raise Broken("something was done, or not journaled once: %s" % self.boot.notes)
        reason = self.boot.notes[0][2]
        if reason not in run_fuzz.REASONS:
            raise Broken("reason %s is not in reasons.py" % reason)
        if (reply is not None) and not signed and message not in self.messages:
            raise Broken("who holds no key gets an answer")
        return reason

    def allowed(self, message, signed, reply):
        """Whether a command that was done was one."""
        if not signed and message not in self.messages:
            raise Broken("a command is done that nobody made")
        kid, payload, _ = mac.mac0_parts(message)
        fields = cbor.loads(payload)
        if fields[1] != "gh-1" or not _LAST < fields[2] <= 2**53 - 1 or type(fields[2]) is not int or len(fields) != 5:
            raise Broken("a command is done that is old, or not for this device")
        role, name = kid.decode().split("/")
        if self.operations.called[0][:4] != (role, name, "mqtt", False):
            raise Broken("a command is done as another")
        if cbor.loads(self.boot.store.blob("seen-" + role)) != [0, 0, {name: fields[2]}]:
            raise Broken("the counter is not on flash")
        if not reply:
            raise Broken("no answer")

    def shown(self, mutant):
        return [hexed(mutant[0]), mutant[1]]
