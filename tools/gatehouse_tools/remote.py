"""Commands to devices over MQTT (docs/commands.md): keys, counters, requests, and the answers that are believed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import queue
import re
import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt import client as mqtt

from . import cbor, cose, keys, lms_keys, product, publish, topics
from .errors import GatehouseError, UsageError
from .image import flash, nvs

ROLES = ("viewer", "operator", "owner", "service")
FORMAT = "gatehouse-command-key"
MAX_COMMAND = 512  # bytes; what a device takes
MAX_COUNTER = 2**53 - 1
_MAX_REPLY = 4096  # bytes; a device sends half of it at most
_CONNECT_S = 10.0
_COMMAND, _REPLY = b"gatehouse/1 command", b"gatehouse/1 reply"  # external data of the MAC: which way it goes
_CLIENT = re.compile(r"[A-Za-z0-9_-]{1,16}")


@dataclass(frozen=True)
class CommandKey:
    """What one client commands one device with, in one role, during one owner epoch."""

    device: str
    role: str
    client: str
    epoch: int
    key: bytes

    @property
    def kid(self) -> bytes:
        """The key id in its messages."""
        return f"{self.role}/{self.client}".encode()

    def save(self, path: Path) -> None:
        """Write it for a person who is to have this and no other key. GatehouseError where a file is there."""
        told = {"format": FORMAT, "device": self.device, "role": self.role, "client": self.client}
        keys.write_secret(path, product.json_bytes({**told, "epoch": self.epoch, "key": self.key.hex()}))


def load_key(path: Path) -> CommandKey:
    """The key in a file of `gatehouse command-key`. GatehouseError("key") for anything else."""
    found = product.read_json(path)
    try:
        key = CommandKey(found["device"], found["role"], found["client"], found["epoch"], bytes.fromhex(found["key"]))
        if found["format"] == FORMAT and topics.is_device_id(key.device) and len(key.key) == 32:
            check(key.role, key.client, key.epoch)
            return key
    except (KeyError, TypeError, ValueError, UsageError):
        pass  # told below
    raise GatehouseError(f"{path} is no command key: `gatehouse command-key` makes one", "key")


def derive(item: product.Product, device: str, role: str, client: str, epoch: int | None = None) -> CommandKey:
    """A key from the device key in devices/ID/flash.bin, where it is on this machine.

    epoch: the device's owner epoch, by default that of the image. GatehouseError("key") says what to do without one.
    """
    check(role, client, epoch or 0)
    item.device_facts(device)
    path = item.devices / device / "flash.bin"
    if not path.is_file():
        told = "give the key of a role with --key FILE, made where the image is: gatehouse command-key"
        raise GatehouseError(f"{path} is not here, and with it the device key: {told}", "key")
    parts = flash.take_apart(product.read(path))
    values = nvs.read_nvs(parts["nvs"][1]).get(flash.NAMESPACE, {}) if "nvs" in parts else {}
    device_key, known = values.get("device_key"), values.get("epoch", 0)
    if not isinstance(device_key, bytes) or not isinstance(known, int):
        raise GatehouseError(f"{path} holds no device key: restore it, or provision the device", "key")
    number = known if epoch is None else epoch
    return CommandKey(device, role, client, number, cose.command_key(device_key, role, client, number))


def check(role: str, client: str, epoch: int) -> None:
    """UsageError unless there can be a key of these."""
    if role not in ROLES:
        raise UsageError(f"no role {role!r}: one of {', '.join(ROLES)}")
    if not _CLIENT.fullmatch(client):
        raise UsageError(f"client {client!r}: 1 to 16 letters, digits, '-' and '_'")
    if not 0 <= epoch < 2**31:
        raise UsageError(f"owner epoch {epoch} is not within 0..{2**31 - 1}")


class Counter:
    """The counter of one key, in the user's state folder: on the disk before it is used, by one process at a time."""

    def __init__(self, key: CommandKey) -> None:
        name = hashlib.sha256(key.key).hexdigest()[:16]
        self.path = lms_keys.state_home().parent / "commands" / f"{name}.json"

    @contextlib.contextmanager
    def alone(self) -> Iterator[Counter]:
        """No other process sends with this key meanwhile: commands that overtake each other would be refused."""
        lms_keys.make_private(self.path.parent)
        lock = self.path.with_suffix(".lock")
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise GatehouseError(f"{lock}: {error.strerror}; the counter of this key is kept there") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield self
        finally:
            os.close(handle)

    def next(self) -> int:
        """A number above all that were given out, on the disk when this returns.

        It begins with the time, so that one whose file was lost is above what it sent before; the device asks no clock.
        """
        number = max(self._read() + 1, int(time.time()))
        if number > MAX_COUNTER:
            raise GatehouseError("the counter of this key is used up: make a key with another --client", "counter")
        self.adopt(number)
        return number

    def adopt(self, number: int) -> None:
        """Go on above `number`."""
        data = product.json_bytes({"counter": number})
        lms_keys.write_synced(self.path, data, "nothing was sent")

    def _read(self) -> int:
        if not self.path.exists():
            return 0
        try:
            found = json.loads(product.read(self.path))["counter"]
            if type(found) is int and found >= 0:
                return found
        except (ValueError, KeyError, TypeError):
            pass  # told below
        raise GatehouseError(f"{self.path} is damaged: remove it, a device that has seen more will say so", "counter")


@dataclass(frozen=True)
class Answer:
    """What a device said to one request: a result, or a refusal. `seen`: the counter that it has to exceed."""

    result: dict[str, Any] | None = None
    reason: str | None = None
    detail: str = ""
    seen: int | None = None


def request(key: CommandKey, counter: int, operation: str, arguments: dict[str, Any]) -> bytes:
    """The message that asks for an operation. UsageError where a device would not even read it."""
    payload = {1: key.device, 2: counter, 3: secrets.token_bytes(8), 4: operation, 5: arguments}
    data = cose.mac0(key.key, key.kid, cbor.dumps(payload), _COMMAND)
    if len(data) > MAX_COMMAND:
        raise UsageError(f"a command of {len(data)} bytes: devices take {MAX_COMMAND}; shorten its arguments")
    return data


def answer(key: CommandKey, sent: bytes, data: bytes) -> Answer | None:
    """The answer of the device to the request `sent`, or None for any other message on its topic.

    None also for what the key did not make: anybody may publish there who has the broker.
    """
    try:
        if len(data) > _MAX_REPLY:
            return None
        kid, payload = cose.mac0_open(key.key, data, "reply", _REPLY)
        found = cbor.loads(payload, "reply")
        if kid != key.kid or found[1] != hashlib.sha256(sent).digest():
            return None
        if 2 in found:
            return Answer(dict(found[2]))
        reason, detail = found[3]
        return Answer(None, str(reason), str(detail), found.get(4))
    except (GatehouseError, LookupError, TypeError, ValueError):
        return None


def send(
    item: product.Product,
    host: str,
    port: int,
    key: CommandKey,
    operation: str,
    arguments: dict[str, Any],
    limit: float,
) -> tuple[int, Answer]:
    """Send one command and wait `limit` seconds for its answer: (counter, answer).

    GatehouseError where the broker or the device gives none; "counter" where the device had seen this number or more,
    which is then known here.
    """
    with Counter(key).alone() as counter, session(item, host, port, key.device, ("status", "reply")) as (client, inbox):
        number = counter.next()
        sent = request(key, number, operation, arguments)
        client.publish(topics.topic("command", id=key.device), sent, 1)
        found = _wait(key, sent, inbox, limit)
        if found.reason == "counter" and isinstance(found.seen, int):
            if found.seen == number:
                told = "it has taken this command already, and its answer was lost: look at its state before you go on"
                raise GatehouseError(f"{key.device}: {told}", "counter")
            counter.adopt(max(number, found.seen))
            told = f"nothing was done: it has seen {found.seen} from {key.kid.decode()}, a newer copy of our counter"
            raise GatehouseError(f"{key.device}: {told}; ours is set to that now, so send it again", "counter")
        return number, found


def _wait(key: CommandKey, sent: bytes, inbox: queue.Queue[tuple[str, bytes]], limit: float) -> Answer:
    end = time.monotonic() + limit
    status, strange = "", 0
    while True:
        try:
            name, data = inbox.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        if name == topics.topic("status", id=key.device):
            status = data.decode("ascii", "replace")
            continue
        found = answer(key, sent, data)
        if found:
            return found
        strange += 1
    told = f"no answer from {key.device} within {limit:g} s"
    if strange:
        told += f" ({strange} other message{'s' if strange > 1 else ''} on its topic)"
    if status != "online":
        raise GatehouseError(f"{told}: the broker says it is {status or 'unknown'}; see gatehouse watch", "timeout")
    why = "it has just restarted (ask it for its state), its policy takes no MQTT commands, it is busy, or it has a "
    why += "newer owner epoch than this key"
    raise GatehouseError(f"{told}: it is online, so {why} ({key.epoch})", "timeout")


@contextlib.contextmanager
def session(
    item: product.Product, host: str, port: int, device: str, names: tuple[str, ...]
) -> Iterator[tuple[mqtt.Client, queue.Queue[tuple[str, bytes]]]]:
    """A client that is subscribed to these topics of a device, and the queue of (topic, payload) of what comes.

    GatehouseError when the broker cannot be reached or does not take us.
    """
    where = f"broker {host}:{port}"
    inbox: queue.Queue[tuple[str, bytes]] = queue.Queue()
    ready: queue.Queue[str | None] = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"gatehouse-{uuid.uuid4().hex[:8]}")
    client.tls_set_context(publish.tls_context(item))
    client.connect_timeout = _CONNECT_S

    def connected(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            ready.put(f"it refuses us: {reason}")
        else:
            client.subscribe([(topics.topic(name, id=device), 1) for name in names])

    def disconnected(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        ready.put(f"it closed the connection ({reason}); is ca/host.pem by the authority that it trusts?")

    client.on_connect, client.on_disconnect = connected, disconnected
    client.on_subscribe = lambda *_: ready.put(None)
    client.on_message = lambda _client, _data, one: inbox.put((topics.of(one), bytes(one.payload)))
    try:
        client.connect(host, port)
    except (OSError, ValueError) as error:
        raise GatehouseError(f"{where}: {publish.network_words(error)}", "network") from None
    client.loop_start()
    try:
        try:
            refusal = ready.get(timeout=_CONNECT_S)
        except queue.Empty:
            told = f"no answer within {_CONNECT_S:.0f} s; is it an MQTT broker?"
            raise GatehouseError(f"{where}: {told}", "timeout") from None
        if refusal:
            raise GatehouseError(f"{where}: {refusal}", "network")
        yield client, inbox
    finally:
        client.on_disconnect = None
        client.disconnect()
        client.loop_stop()
