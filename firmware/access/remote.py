"""Commands over MQTT: COSE_Mac0 under a key of its own for each role and client. docs/commands.md: form and reasons.

The order is the defence: size, form, a budget, the MAC, then what it says; the counter is in NVS before anything is
done. Who holds no key gets no answer.
"""

import asyncio
import gc
import hashlib
import sys
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from access.auth import Session
from gatehouse import Refused, cbor, mac, topics

_MAX_COMMAND = const(512)  # bytes: a name, a few short arguments and 100 bytes around them
_MAX_REPLY = const(2048)  # bytes: eight entries of the journal; the link's queue holds three of them
_QUEUE = const(4)  # commands that wait; a person sends one at a time
_CHECKS, _CHECK_MS = const(16), const(250)  # MACs at once and later: a flood takes a few hundredths of a chip's time
_CALLS, _CALL_MS = const(16), const(3000)  # taken commands, each an NVS write: some 200 days of a flood wear NVS out
_NOTES, _NOTE_MS = const(4), const(600000)  # entries of the journal: a flood must not push the older ones out
_CLIENTS = const(8)  # of a role whose counters are remembered: the blob stays within some 200 bytes
_MAX_NAME = const(16)  # characters of a client's name
_MAX_COUNTER = 9007199254740991  # 2**53 - 1: a number of JSON, too
_MAX_DETAIL = const(96)  # characters of a free text
_NONCE = const(8)  # bytes that make two commands differ
_DEPTH = const(3)  # a map, its arguments, a list among them

# External data of the MAC: a reply that is sent back as a command is none.
_COMMAND = b"gatehouse/1 command"
_REPLY = b"gatehouse/1 reply"

_ROLES = (b"viewer", b"operator", b"owner", b"service")
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


class Budget:
    """So many at once, and one more after each so many milliseconds."""

    def __init__(self, most, each_ms):
        self._most = self._left = most
        self._each_ms = each_ms
        self._since = ticks_ms()

    def take(self):
        """Take one. Whether there was one."""
        now = ticks_ms()
        passed = ticks_diff(now, self._since)
        if passed < 0:  # nobody asked for days, and the ticks went round
            passed = self._most * self._each_ms
        more = passed // self._each_ms
        self._left = min(self._most, self._left + more)
        self._since = now if self._left == self._most else ticks_add(self._since, more * self._each_ms)
        if self._left:
            self._left -= 1
            return True
        return False


class Remote:
    """Takes commands of the link, one at a time, and calls the dispatcher as the role whose key made them.

    `ignored` counts commands for which there was no room or no memory: they are neither looked at nor journaled.
    """

    def __init__(self, boot, operations):
        self.ignored = 0
        self._boot = boot
        self._operations = operations
        self._waiting = []  # commands; None for one that is too long
        self._event = asyncio.Event()
        self._checks = Budget(_CHECKS, _CHECK_MS)
        self._calls = Budget(_CALLS, _CALL_MS)
        self._notes = Budget(_NOTES, _NOTE_MS)
        self._unnoted = 0

    def received(self, payload):
        """A message of the command topic, kept until its turn. Quick, as the link's handlers must be."""
        if len(self._waiting) >= _QUEUE:
            self._waiting.pop(0)  # so that what comes right behind a flood is not lost in it
            self.ignored += 1
        self._waiting.append(bytes(payload) if len(payload) <= _MAX_COMMAND else None)
        self._event.set()

    async def run(self, link):
        """Have the link follow the command topic, and serve what comes; until cancelled."""
        command, topic = (topics.topic(name, id=self._boot.identity.id) for name in ("command", "reply"))
        link.follow(command, True)
        try:
            while True:
                while self._waiting:
                    while not self._checks.take():
                        await asyncio.sleep_ms(_CHECK_MS // 5)
                    try:
                        reply = await self._serve(self._waiting.pop(0))
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

    async def _serve(self, data):
        """Judge one command and do it. The reply, or None for who has not shown a key."""
        if data is None:
            return self._note("size", "")
        try:
            kid, payload, tag = mac.mac0_parts(data)
            role, client = _names(kid)
        except Refused as error:
            return self._note(error.reason, "")
        key = self._boot.store.derive("command", role, client)
        if not mac.equal(tag, mac.tag_of(key, payload, _COMMAND)):
            return self._note("signature", kid.decode())
        answer = {1: hashlib.sha256(data).digest()}
        try:
            counter, operation, arguments = self._read(payload)
            known = self._known(role, client)
            if counter <= known[0]:
                answer[4] = known[0]
                raise Refused("counter", "not above the last one")
            if not self._calls.take():
                raise Refused("busy", "too many commands")
            self._remember(role, client, counter, known)
        except Refused as error:
            self._note(error.reason, kid.decode())
            answer[3] = [error.reason, error.detail[:_MAX_DETAIL]]
        else:
            await self._call(Session(role, client, "mqtt"), operation, arguments, answer)
        return mac.mac0(key, kid, _bounded(answer), _REPLY)

    def _read(self, payload):
        """(counter, operation, arguments) of an authentic payload: each of its type. Refused "format" or "device"."""
        try:
            found = cbor.loads(payload, _DEPTH)
            device, counter, nonce, operation, arguments = [found[key] for key in (1, 2, 3, 4, 5)]
            good = len(found) == 5 and type(counter) is int and isinstance(nonce, bytes) and len(nonce) == _NONCE
            good = good and isinstance(operation, str) and isinstance(arguments, dict)
        except (ValueError, TypeError, LookupError):
            good = False
        if not good or not 0 < counter <= _MAX_COUNTER:
            raise Refused("format", "command")
        if device != self._boot.identity.id:
            raise Refused("device", "this is %s" % self._boot.identity.id)
        return counter, operation, arguments

    # The highest counter of each client, a blob for each role: [owner epoch, floor, {client: counter}]. A client that
    # is not among them has to be above the floor. Room is made by raising the floor to the lowest counter, so that
    # whoever is forgotten begins above all that it ever sent.

    def _known(self, role, client):
        """[counter that this client has to exceed, floor, counters], with room for the client."""
        epoch = self._boot.store.number("epoch")
        data = self._boot.store.blob("seen-" + role)
        try:
            of, floor, seen = cbor.loads(data) if data else (epoch, 0, {})
            if any(type(number) is not int for number in [floor] + list(seen.values())):
                raise ValueError("counter")
            if of != epoch:  # keys of another epoch verify no more, so that theirs need not be known
                floor, seen = 0, {}
            if client not in seen and len(seen) >= _CLIENTS:
                floor = max(floor, seen.pop(min(seen, key=seen.get)))
            return seen.get(client, floor), floor, seen
        except (ValueError, TypeError, AttributeError):
            raise Refused("state", "NVS seen-%s is damaged: a new owner epoch replaces it" % role)

    def _remember(self, role, client, counter, known):
        """Have the counter on flash. Refused("state") when that fails: then nothing is done."""
        _, floor, seen = known
        seen[client] = counter
        try:
            self._boot.store.put("seen-" + role, cbor.dumps([self._boot.store.number("epoch"), floor, seen]))
        except OSError as error:
            raise Refused("state", "NVS: %s" % error)

    async def _call(self, session, operation, arguments, answer):
        try:
            answer[2] = await self._operations.call(session, operation, arguments)
        except Refused as error:
            answer[3] = [error.reason, (error.detail or "")[:_MAX_DETAIL]]
        except MemoryError:
            gc.collect()
            answer[3] = ["memory", ""]
        except Exception as error:  # noqa: BLE001 one operation's mistake must not end the device
            sys.print_exception(error)
            answer[3] = ["state", "the operation failed: see the log"]

    def _note(self, reason, who):
        """Journal a refusal, few in a time; how many were not stands in the next one that is. None, as the reply."""
        if self._notes.take():
            self._boot.note("denied", "mqtt", reason, who, self._unnoted)
            self._unnoted = 0
        else:
            self._unnoted += 1


def _names(kid):
    """(role, client) of a key id. Refused("key") for one that no key has."""
    role, _, client = kid.partition(b"/")
    if role in _ROLES and 0 < len(client) <= _MAX_NAME and all(byte in _LETTERS for byte in client):
        return role.decode(), client.decode()
    raise Refused("key", "no role and client")


def _bounded(answer):
    """The reply's payload, or in its place that there is none: a result must be plain, and not too long."""
    try:
        data = cbor.dumps(answer)
        if len(data) <= _MAX_REPLY:
            return data
        reason = "size"
    except (ValueError, TypeError):
        reason = "state"
    return cbor.dumps({1: answer[1], 3: [reason, "done, but its result cannot be told"]})
