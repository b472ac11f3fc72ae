"""What a collector makes of the messages of a broker: rows for the database, each report verified first.

A message is acknowledged to the broker when its row is committed, and not before: what a collector had when it was
killed comes again. Storing twice is storing once (database.py), so nothing is lost and nothing is there twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from . import cbor, journal, journal_live, publish, reports, topics
from .database import Batch, Database, Unavailable
from .errors import GatehouseError

ROWS = ("report", "journal", "summary")  # of the topic table: what is stored
WINDOW = 500  # messages under way to a collector; so many are sent again when it is killed
HELD = 50_000  # messages that wait here at most, as many as a broker keeps for us: Mosquitto sends more than its window
HELD_BYTES = 64 << 20  # of them, topics and objects counted: reports of 16 KB would be 800 MB
MAX_PACKET = reports.MAX_REPORT + 512  # bytes; with topic and head. The broker keeps larger ones to itself
LINGER_S = 0.02  # for more to come into the same transaction
RETRY_S = 2.0  # until a database that was away is tried again
RELOAD_S = 5.0  # between looks for devices that were provisioned meanwhile
SESSION_S = 30 * 86400  # for so long the broker keeps what it could not deliver
KEEPALIVE_S = 30
MAX_JOURNAL = 2048  # bytes of a message, docs/journal.md
MAX_ENTRIES = 8
MAX_ENTRY = 256  # bytes; a device writes no longer one
MOST = 1000  # rows that are looked at for one device: where forged ones crowd an honest one out, it is asked for again
RING = 680  # entries: more than fit into a device, 4 segments of 4 KB at 24 bytes for the shortest that can be
ASK_S = 60.0  # until a device that has been asked for its journal is asked again
ASKS = 5  # times that it is asked for one entry
MAX_SUMMARY = 4096  # bytes; a device's has 300
STRANGERS = 1000  # refusals of names that nobody knows, told one by one: who may publish can invent them without end
MORE = ("others", "flood")  # what the rest is counted under
_TAG = 16
_OVERHEAD = 400  # bytes of a message's objects, at most
_json = json.JSONEncoder(ensure_ascii=False).encode

Devices = Mapping[str, reports.Device | bytes]


@dataclass(frozen=True)
class Message:
    """One message; `session` and `mid` say which one the broker has to hear about."""

    topic: str
    payload: bytes
    received: float
    mid: int = 0
    qos: int = 0
    session: int = 0


class Judge:
    """Turns messages into a batch of rows.

    `reload` gives the devices anew when one comes that nobody knows; `newest(device, key)` is the report message with
    the highest counter that is stored, asked for once for each device.
    """

    def __init__(
        self,
        devices: Devices,
        reload: Callable[[], Devices] | None = None,
        newest: Callable[[str, str], bytes | None] = lambda device, key: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._devices = devices
        self._reload = reload
        self._stored = newest
        self._clock = clock
        self._loaded = clock()
        self._marks: dict[bytes, str] = {}
        self._newest: dict[tuple[str, str], reports.Report | None] = {}
        self._replaced: dict[tuple[str, str], reports.Report | None] = {}  # by the last batch

    def knows(self, device: str) -> bool:
        """Whether there is a report key of it."""
        return device in self._devices

    def undo(self) -> None:
        """The last batch was not stored: judged again, each report meets the one that it met, and is the same alarm."""
        self._newest |= self._replaced

    def batch(self, messages: Sequence[Message]) -> Batch:
        """The rows of these messages. Unavailable when the database had to be asked and is away."""
        found = Batch()
        self._replaced = {}
        for message in messages:
            where = topics.split(message.topic)
            if not where or not message.payload:  # nothing: somebody took a retained message away
                continue
            try:
                getattr(self, "_" + where["name"])(found, where["id"], message)
            except Unavailable:
                raise
            except GatehouseError as error:
                payload = message.payload[: reports.MAX_REPORT]
                found.refuse(where["id"], error.reason or "format", str(error), payload, message.received)
        return found

    def _report(self, batch: Batch, device: str, message: Message) -> None:
        report = self._verified(device, message.payload)
        claims, mark = report.claims, self._mark(self._devices[device])
        before = self._before(device, mark)
        alarm = None
        if before is None or report.counter > before.counter:
            alarm = reports.jump(before, report)
            if not alarm:
                self._replaced.setdefault((device, mark), before)
                self._newest[device, mark] = report
                if "journal" in claims:
                    batch.heads[device] = claims["journal"]["acknowledged"]
        batch.reports.append(
            {
                "device": device,
                "key": mark,
                "boots": report.counter[0],
                "number": report.counter[1],
                "received": message.received,
                "time": claims.get("time"),
                "version": claims.get("version"),
                "mode": claims["mode"],
                "degraded": _json(claims["degraded"]),
                "alarm": alarm,
                "claims": _json(claims),
                "message": message.payload,
                "digest": hashlib.sha256(message.payload).digest(),
            }
        )

    def _before(self, device: str, mark: str) -> reports.Report | None:
        """The newest report of a device that there is."""
        if (device, mark) not in self._newest:
            message = self._stored(device, mark)
            self._newest[device, mark] = None
            with contextlib.suppress(GatehouseError):  # by tools that took more: it must not keep newer ones out
                self._newest[device, mark] = reports.verify(message, self._devices, device) if message else None
        return self._newest[device, mark]

    def _verified(self, device: str, payload: bytes) -> reports.Report:
        try:
            return reports.verify(payload, self._devices, device)
        except GatehouseError as error:
            # Provisioned anew or a new owner's, perhaps: look, before something is refused that will not come again.
            due = self._clock() - self._loaded >= RELOAD_S
            if not self._reload or not due or error.reason not in ("key", "signature", "device"):
                raise
        self._loaded = self._clock()
        self._devices = self._reload()
        return reports.verify(payload, self._devices, device)

    def _journal(self, batch: Batch, device: str, message: Message) -> None:
        """Entries as they come: what they say is verified by who holds the journal's key, `gatehouse journal`."""
        if len(message.payload) > MAX_JOURNAL:
            raise GatehouseError(f"journal message of {len(message.payload)} bytes", "format")
        match cbor.loads(message.payload, f"journal message of {device}"):
            case [int() as boots, [_, *_] as entries, bytes() as before] if (
                _is_count(boots) and len(before) == _TAG and len(entries) <= MAX_ENTRIES
            ):
                rows = []
                for one in entries:
                    number, entry, tag = _entry(device, one)
                    row = {"device": device, "number": number, "tag": tag, "before": before, "entry": entry}
                    rows.append(row | {"boots": boots, "received": message.received})
                    before = tag
                batch.journal.extend(rows)
            case _:
                raise GatehouseError(f"journal message of {device} is not [boot count, entries, tag]", "format")

    def _summary(self, batch: Batch, device: str, message: Message) -> None:
        try:
            found = json.loads(message.payload) if len(message.payload) <= MAX_SUMMARY else None
            payload = json.dumps(found, allow_nan=False)  # in ASCII: a database need not take every letter
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise GatehouseError(f"summary of {device} is no JSON object", "format")
        batch.summaries[device] = {"device": device, "received": message.received, "payload": payload}

    def _mark(self, held: reports.Device | bytes) -> str:
        """The name of a report key in the database: tells keys apart, and tells nothing of them."""
        key = held if isinstance(held, bytes) else held.report_key
        if key not in self._marks:
            self._marks[key] = hashlib.sha256(b"gatehouse report key" + key).hexdigest()[:16]
        return self._marks[key]


def _entry(device: str, one: Any) -> tuple[int, bytes, bytes]:
    match one:
        case [bytes() as entry, bytes() as tag] if len(tag) == _TAG and len(entry) <= MAX_ENTRY:
            match cbor.loads(entry, f"journal entry of {device}"):
                case [int() as number, None | int(), int(), str(), *_] if _is_count(number):
                    return number, entry, tag
    raise GatehouseError(f"journal entry of {device} is not [[number, time, boot, event, ...], tag]", "format")


def _is_count(value: int) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


class Inbox:
    """A session with the broker that outlives connections: what is not acknowledged comes again.

    group: collectors of one group share the messages (MQTT 5, section 4.8.2); name: this one, whose session it is.
    `talk(text)` gets what happens to the connection; `secret` is product.session_secret().
    """

    def __init__(
        self,
        group: str,
        name: str,
        tls: Any,
        talk: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        secret: bytes = b"",
    ) -> None:
        self._talk, self._clock = talk, clock
        self._filters = [f"$share/{group}/{topics.topic(row, id='+')}" for row in ROWS]
        self._queue: queue.Queue[Message] = queue.Queue()
        self._answer: queue.Queue[str | None] = queue.Queue()
        self._came = self._taken = 0  # bytes; each is written by one thread
        self._left_out = False  # what this connection will not bring again
        self._session = 0
        # Not to be guessed: a device that came under this client id would end the session with all that waits there.
        mark = hmac.digest(secret, f"{group} {name}".encode(), hashlib.sha256).hex()[:32]
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, f"gatehouse-{group}-{name}-{mark}", protocol=mqtt.MQTTv5, manual_ack=True
        )
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.on_connect, self._client.on_subscribe = self._connected, self._subscribed
        self._client.on_disconnect, self._client.on_message = self._disconnected, self._received

    def open(self, host: str, port: int, limit: float) -> None:
        """Connect and subscribe, within `limit` seconds. OSError, or GatehouseError when the broker refuses us."""
        properties: Any = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = WINDOW
        properties.MaximumPacketSize = MAX_PACKET
        self._client.connect_timeout = limit
        self._client.connect(host, port, KEEPALIVE_S, clean_start=False, properties=properties)
        self._client.loop_start()
        try:
            refusal = self._answer.get(timeout=limit)
        except queue.Empty:
            raise GatehouseError(f"no answer within {limit:.0f} s; is it a broker for MQTT 5?", "timeout") from None
        if refusal:
            raise GatehouseError(refusal, "network")

    def take(self, wait: float) -> list[Message]:
        """The next messages, none after `wait` seconds without one. What it gave before is stored by then."""
        if self._left_out and self._queue.qsize() <= HELD // 10:
            self._left_out = False
            self._drop()
        try:
            found = [self._queue.get(timeout=wait)]
        except queue.Empty:
            return []
        end = time.monotonic() + LINGER_S
        while len(found) < WINDOW:
            try:
                found.append(self._queue.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                break
        self._taken += sum(map(_size, found))
        return found

    def _drop(self) -> None:
        """End the connection, which is made anew: the broker sends what was not acknowledged."""
        sock: Any = self._client.socket()
        if sock:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                # Not SSLSocket's own, which takes TLS away under the thread that reads: ciphertext would be messages.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Tell the broker that these are safe. Of an earlier connection it has to send them again anyway."""
        for message in messages:
            if message.qos and message.session == self._session:
                self._client.ack(message.mid, message.qos)

    def ask(self, device: str, number: int) -> None:
        """Have a device send again what its journal has after entry `number`."""
        self._client.publish(topics.topic("journal-ack", id=device), journal_live.request(number), 1)

    def close(self) -> None:
        """Leave. The broker keeps what comes for this session."""
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: mqtt.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        self._session += 1
        if flags.session_present:  # all that waits here was not acknowledged, and comes again
            with contextlib.suppress(queue.Empty):
                while True:
                    self._came -= _size(self._queue.get_nowait())
            self._left_out = False
        if reason.is_failure:
            self._answer.put(f"it refuses us: {reason}")
        else:
            client.subscribe([(one, 1) for one in self._filters])

    def _subscribed(self, _client: Any, _data: Any, _mid: Any, reasons: Any, _properties: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        self._answer.put(f"it refuses the shared subscription: {refused[0]}" if refused else None)
        self._talk("connected")

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._answer.put(f"it closed the connection ({reason}); does it speak MQTT 5, and trust ca/host.pem?")
        self._talk(f"connection lost ({publish.closed_words(reason)}); trying again")

    def _received(self, _client: Any, _data: Any, one: mqtt.MQTTMessage) -> None:
        if not one.qos and self._queue.qsize() >= WINDOW:
            return  # nothing holds a flood of these back; a device sends only its summary so, and the next is as good
        if self._queue.qsize() >= HELD or self._came - self._taken >= HELD_BYTES:
            self._left_out = bool(one.qos)  # a broker does not keep to its window; it comes with the next connection
            return
        message = Message(topics.of(one), bytes(one.payload), self._clock(), one.mid, one.qos, self._session)
        self._came += _size(message)
        self._queue.put(message)


def _size(message: Message) -> int:
    return len(message.payload) + len(message.topic) + _OVERHEAD


class Collector:
    """Takes messages, stores their rows, acknowledges them. `stop` ends it; what is under way is done first."""

    def __init__(
        self,
        inbox: Any,
        judge: Judge,
        database: Database,
        talk: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        keys: Callable[[str], Mapping[int, bytes]] = lambda device: {},
    ) -> None:
        self._inbox, self._judge, self._database, self._talk = inbox, judge, database, talk
        self._clock = clock  # of the pauses between two times that a device is asked
        self._keys = keys  # journal keys of a device by owner epoch; without any, what is stored counts as its own
        self._sure: dict[str, set[int]] = {}  # entries that were found to be by the device
        self._gone: dict[str, set[tuple[int, range]]] = {}  # what those say its ring has lost, with their owner epoch
        self._epoch: dict[str, int] = {}  # the newest of which there is an entry
        self._known: dict[str, Mapping[int, bytes]] = {}  # the keys by which both were found
        self.stop = threading.Event()
        self._asked: dict[str, tuple[float, dict[int, int]]] = {}  # when a device was asked last; how often for which
        self.messages = 0
        self.refused: dict[tuple[str, str], int] = {}
        self._strangers = 0

    def run(
        self, idle: float | None = None, limit: float | None = None, step: Callable[[], None] = lambda: None
    ) -> None:
        """Until stop, or until nothing came for `idle` seconds, or `limit` seconds have passed. step(): each second."""
        start = last = time.monotonic()
        while not self.stop.is_set():
            now = time.monotonic()
            if (limit is not None and now - start >= limit) or (idle is not None and now - last >= idle):
                return
            found = self._inbox.take(min(1.0, *(one for one in (idle, limit) if one is not None), 1.0))
            if found:
                if not self._store(found):
                    return
                last = time.monotonic()
            step()

    def _store(self, messages: list[Message]) -> bool:
        """Whether they are stored; if not, the end came while the database was away."""
        away = False
        while True:
            try:
                batch = self._judge.batch(messages)
                self._database.store(batch)
                break
            except Unavailable as error:
                self._judge.undo()
                if not away:
                    self._talk(f"{error}; trying again")
                away = True
                if self.stop.wait(RETRY_S):
                    return False
        if away:
            self._talk("the database is back")
        self._inbox.acknowledge(messages)
        for device, acknowledged in batch.heads.items():
            self._ask(device, acknowledged, self._clock())
        self.messages += len(messages)
        for place, row in batch.refusals.items():
            self._refuse(place, row)
        return True

    def _refuse(self, place: tuple[str, str], row: dict[str, Any]) -> None:
        detail = row["detail"]
        if place not in self.refused and not self._judge.knows(place[0]):
            if self._strangers >= STRANGERS:
                place, detail = MORE, "more names that nobody knows are not told here; the table has them"
            self._strangers += 1
        if place not in self.refused:
            self._talk(f"{place[0]}: refused: {detail} [{place[1]}]")
        self.refused[place] = self.refused.get(place, 0) + row["count"]

    def _ask(self, device: str, acknowledged: int, now: float) -> None:
        """Ask for entries that a broker took and never gave us: it was killed, or there was no collector then.

        A request or its answer may get lost, so it is made again. A device sends in order: what does not come while a
        later one does is not in its ring any more.
        """
        asked, times = self._asked.get(device, (now - ASK_S, {}))
        if now - asked < ASK_S:
            return
        try:
            lacking = self._lacks(device, max(1, acknowledged - RING + 1), acknowledged)
        except Unavailable:
            return  # the next report tells of it again
        came = max(times.keys() - set(lacking), default=0)
        times = {number: ASKS if number < came and number in times else times.get(number, 0) for number in lacking}
        wanted = [number for number in lacking if times[number] < ASKS]
        if wanted:
            self._inbox.ask(device, wanted[0] - 1)
            self._asked[device] = now, {number: times[number] + 1 for number in lacking}

    def _lacks(self, device: str, first: int, last: int) -> list[int]:
        """The numbers of which no entry is stored that is by the device, and which it may have.

        A forged one must not stand for it. What the device says that it dropped is not to be had any more; a former
        owner, who has the key of an epoch that has ended, does not say that for it.
        """
        lacking = set(self._database.lacks(device, first, last))
        keys = self._keys(device)
        if keys != self._known.get(device):
            self._known[device] = dict(keys)
            self._sure.pop(device, None)
            self._gone.pop(device, None)
            self._epoch.pop(device, None)
        if keys:
            sure = {number for number in self._sure.get(device, ()) if number >= first}
            unsure = set(range(first, last + 1)) - lacking - sure
            if unsure:
                found = self._database.entries(device, min(unsure), max(unsure), MOST)
                honest = [entry for record in found if (entry := journal.judge(record, keys))]
                sure.update(entry.number for entry in honest)
                epoch = self._epoch[device] = max([self._epoch.get(device, 0), *(entry.epoch for entry in honest)])
                told = {(entry.epoch, lost) for entry in honest for lost in journal.dropped([entry])}
                told |= self._gone.get(device, set())
                self._gone[device] = {(by, lost) for by, lost in told if by == epoch and lost.stop > first}
            self._sure[device] = sure
            lacking |= unsure - sure
        gone = self._gone.get(device, set())
        return sorted(number for number in lacking if not any(number in lost for _, lost in gone))
