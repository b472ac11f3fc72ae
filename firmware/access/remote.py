"""Commands over MQTT: COSE_Mac0 under a key of its own for each role and client. docs/commands.md: form and reasons.

The order is the defence: size, a budget, form, the MAC, then what it says (command.py); the counter is in NVS before
anything is done. Who holds no key gets no answer. What a flood can reach is in this module, which stays loaded.
"""

import asyncio
import gc

from micropython import const

from access import passing
from gatehouse import Refused, mac, topics
from gatehouse.budget import Budget, Notes

_MAX_COMMAND = const(512)  # bytes: a name, a few short arguments and 100 bytes around them
_QUEUE = const(4)  # commands that wait; a person sends one at a time
_CHECKS, _CHECK_MS = const(16), const(250)  # MACs at once and later: a flood takes a few hundredths of a chip's time
_CALLS, _CALL_MS = const(16), const(3000)  # taken commands, each an NVS write: some 200 days of a flood wear NVS out
_TURNS, _TURN_MS = const(4), const(60000)  # commands that are turned away with an answer, each an NVS write too
_MAX_NAME = const(16)  # characters of a client's name

# External data of the MAC: a reply that is sent back as a command is none.
_COMMAND = b"gatehouse/1 command"
_REPLY = b"gatehouse/1 reply"

_ROLES = (b"viewer", b"operator", b"owner", b"service")
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


class Remote:
    """Takes commands of the link, one at a time, and calls the dispatcher as the role whose key made them.

    `ignored` counts commands for which there was no room or no memory: they are neither looked at nor journaled.
    """

    def __init__(self, boot, operations):
        self.ignored = 0
        self.boot = boot
        self.operations = operations
        self.calls = Budget(_CALLS, _CALL_MS)
        self._waiting = []  # commands; None for one that is too long
        self._event = asyncio.Event()
        self._checks = Budget(_CHECKS, _CHECK_MS)
        self.turned = Budget(_TURNS, _TURN_MS)
        self._notes = Notes()

    def received(self, payload):
        """A message of the command topic, kept until its turn. Quick, as the link's handlers must be."""
        if len(self._waiting) >= _QUEUE:
            self._waiting.pop(0)  # so that what comes right behind a flood is not lost in it
            self.ignored += 1
        self._waiting.append(bytes(payload) if len(payload) <= _MAX_COMMAND else None)
        self._event.set()

    async def run(self, link):
        """Have the link follow the command topic, and serve what comes; until cancelled."""
        command, topic = (topics.topic(name, id=self.boot.identity.id) for name in ("command", "reply"))
        link.follow(command, True)
        try:
            while True:
                while self._waiting:
                    while not self._checks.take():
                        await asyncio.sleep_ms(_CHECK_MS // 5)
                    try:
                        reply = await self.serve(self._waiting.pop(0))
                        if reply:
                            link.publish(topic, reply)
                    except MemoryError:  # no command is worth a reset, and whoever sent it hears nothing and looks
                        self.ignored += 1
                        gc.collect()
                    await asyncio.sleep_ms(0)  # other tasks get their turn, whatever comes
                self._event.clear()
                await self._event.wait()
        finally:
            link.follow(command, False)

    async def serve(self, data):
        """Judge one command and do it. The reply, or None for who has not shown a key."""
        if data is None:
            return self.note("size", "")
        try:
            kid, payload, tag = mac.mac0_parts(data)
            role, client = _names(kid)
        except Refused as error:
            return self.note(error.reason, "")
        key = self.boot.store.derive("command", role, client)
        if not mac.equal(tag, mac.tag_of(key, payload, _COMMAND)):
            return self.note("signature", kid.decode())
        from access import command

        try:
            answer = await command.obey(self, role, client, data, payload)
        finally:
            del command
            passing.forget("command")
        return answer and mac.mac0(key, kid, answer, _REPLY)

    def note(self, reason, who):
        """Journal a refusal. None, as the reply."""
        self._notes.tell(self.boot.note, "denied", "mqtt", reason, who)


def _names(kid):
    """(role, client) of a key id. Refused("key") for one that no key has."""
    role, _, client = kid.partition(b"/")
    if role in _ROLES and 0 < len(client) <= _MAX_NAME and all(byte in _LETTERS for byte in client):
        return role.decode(), client.decode()
    raise Refused("key", "no role and client")
