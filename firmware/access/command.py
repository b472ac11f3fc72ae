"""What an authentic command says, whether it is a new one, and its call. Loaded for the command, after its MAC."""

import gc
import hashlib
import sys

from micropython import const

from access.auth import Session
from gatehouse import Refused, cbor

_MAX_REPLY = const(2048)  # bytes; the link's queue holds three of them
_CLIENTS = const(8)  # of a role whose counters are remembered: the blob stays within some 200 bytes
_MAX_COUNTER = 9007199254740991  # 2**53 - 1: a number of JSON, too
_MAX_DETAIL = const(96)  # characters of a free text
_NONCE = const(8)  # bytes that make two commands differ
_DEPTH = const(3)  # a map, its arguments, a list among them

# Keys of a reply.
_DIGEST, _RESULT, _REFUSAL, _SEEN = const(1), const(2), const(3), const(4)


async def obey(remote, role, client, data, payload):
    """Do what a command (bytes, with its authentic payload) asks for, if it is a new one. The reply's payload.

    None where there is to be no reply: nobody is told "refused" of a command that a replay could still have done.
    """
    boot = remote.boot
    answer = {_DIGEST: hashlib.sha256(data).digest()}
    try:
        counter, operation, arguments = _read(boot.identity.id, payload)
        least, floor, seen = _known(boot.store, role, client)
        if counter <= least:
            answer[_SEEN] = least
            raise Refused("counter", "not above the last one")
        taken = remote.calls.take()
        if not taken and not remote.turned.take():
            remote.note("busy", role + "/" + client)
            return None
        seen[client] = counter
        _remember(boot.store, role, floor, seen)
        if not taken:
            raise Refused("busy", "too many commands")
    except Refused as error:
        remote.note(error.reason, role + "/" + client)
        answer[_REFUSAL] = [error.reason, error.detail[:_MAX_DETAIL]]
    else:
        await _call(remote.operations, Session(role, client, "mqtt"), operation, arguments, answer)
    return _bounded(answer)


def _read(device, payload):
    """(counter, operation, arguments) of an authentic payload: each of its type. Refused "format" or "device"."""
    try:
        found = cbor.loads(payload, _DEPTH)
        addressee, counter, nonce, operation, arguments = [found[key] for key in (1, 2, 3, 4, 5)]
        good = len(found) == 5 and type(counter) is int and isinstance(nonce, bytes) and len(nonce) == _NONCE
        good = good and isinstance(operation, str) and isinstance(arguments, dict)
    except (ValueError, TypeError, LookupError):
        good = False
    if not good or not 0 < counter <= _MAX_COUNTER:
        raise Refused("format", "command")
    if addressee != device:
        raise Refused("device", "this is %s" % device)
    return counter, operation, arguments


# The highest counter of each client, a blob for each role: [owner epoch, floor, {client: counter}]. A client that is
# not among them has to be above the floor. Room is made by raising the floor to the lowest counter, so that whoever is
# forgotten begins above all that it ever sent.


def _known(store, role, client):
    """(counter that this client has to exceed, floor, counters with room for this client)."""
    epoch = store.number("epoch")
    data = store.blob("seen-" + role)
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


def _remember(store, role, floor, seen):
    """Have the counters on flash. Refused("state") when that fails: then nothing is done."""
    try:
        store.put("seen-" + role, cbor.dumps([store.number("epoch"), floor, seen]))
    except OSError as error:
        raise Refused("state", "NVS: %s" % error)


async def _call(operations, session, operation, arguments, answer):
    try:
        answer[_RESULT] = await operations.call(session, operation, arguments)
    except Refused as error:
        answer[_REFUSAL] = [error.reason, (error.detail or "")[:_MAX_DETAIL]]
    except MemoryError:
        gc.collect()
        answer[_REFUSAL] = ["memory", ""]
    except Exception as error:  # noqa: BLE001 one operation's mistake must not end the device
        sys.print_exception(error)
        answer[_REFUSAL] = ["state", "the operation failed: see the log"]


def _bounded(answer):
    """The reply's payload, or in its place that there is none: a result must be plain, and not too long."""
    try:
        data = cbor.dumps(answer)
        if len(data) <= _MAX_REPLY:
            return data
        reason = "size"
    except (ValueError, TypeError):
        reason = "state"
    return cbor.dumps({_DIGEST: answer[_DIGEST], _REFUSAL: [reason, "done, but its result cannot be told"]})
