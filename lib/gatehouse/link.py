"""The device's link to its broker: connected whenever it can be, and honest about what it could not send.

`gatehouse/<id>/status` holds `online` or `offline` and nothing else, because Home Assistant compares the whole payload;
`offline` is also the will. Which boot an `online` belongs to is told right behind it by what `on_connect` publishes:
the report's bootseed, in words the summary's boot_id.

MQTT itself is synchronous (umqtt): an exchange holds the event loop up until its answer is there, mqtt.Client.ANSWER_MS
at most. Making the TCP connection, which takes longest where there is no broker, does not.
"""

import asyncio
import gc
import os
import sys
from errno import ETIMEDOUT
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from gatehouse import cbor, mqtt, topics
from gatehouse.dial import dial, tls_context

_BLOCK = b"gatehouse/block/"  # the row "block" of topics.py
_BURST = const(8)  # packets taken in a row before other tasks get their turn
_STABLE_MS = const(10000)  # a session of this length starts the backoff anew
_QUEUE_COUNT = const(16)
_TRIES = const(3)  # a message that ends this many sessions is not sent again
_QUEUE_BYTES = const(6144)  # of topics and payloads: a report, a summary and some readings


class Link:
    """One device's session with its broker, kept up by run().

    `on_message(topic, payload)` gets bytes; `on_connect()` is called after each connect, when `online` is out. Both are
    plain functions, must be quick and may publish(). Counters for the report: `connects`, `dropped` (messages that were
    not sent), `oversize` (messages that were too large to take), `failures` {kind: count} with the kinds of mqtt.kind()
    and "handler"; `last_failure` is the newest of those kinds.
    """

    DIAL_MS = 10000
    POLL_MS = 50  # between looks for what came: how long an offer or a command may lie there
    FIRST_RETRY_MS = 1000
    LAST_RETRY_MS = 60000

    def __init__(self, device_id, host, port, on_message, subscriptions=(), on_connect=None, tls=None, user=None,
                 password=None, keepalive_s=60):  # fmt: skip
        """subscriptions: topics, taken at QoS 1; tls: (authorities, certificate, key) in DER, or None for plain TCP."""
        self.connected = False
        self._again = False
        self.connects = self.dropped = self._oversize = 0
        self.failures = {}
        self.last_failure = None
        self._id = device_id.encode()
        self._status = topics.topic("status", id=device_id).encode()
        self._host = host
        self._port = port
        self._user = user and user.encode()
        self._password = password and password.encode()
        self._tls = tls
        self._keepalive_s = keepalive_s
        self._on_message = on_message
        self._on_connect = on_connect
        self._subscriptions = self._subscribed = list(subscriptions)
        self._client = self._reading = None  # the open session; it, or the one that is being opened
        self._buffer = mqtt.buffer()
        self.on_block = None  # while blocks.py waits for one: a function like on_message
        self._busy = False  # within an exchange: what a handler publishes must wait
        self._closed = False
        self._queue = []  # [topic, payload, retain, qos, failed tries], oldest first
        self._bytes = 0  # in the queue

    @property
    def oversize(self):
        """Messages that were too large to take, and were thrown away."""
        return self._oversize + (self._client.oversize if self._client else 0)

    @property
    def retained(self):
        """Within on_message(): whether the broker had kept this message, so that nobody may want it now."""
        return self._reading.retained

    async def run(self):
        """Connect, serve, connect again; until close(), or until cancelled."""
        attempts = 0
        try:
            while True:
                opened = None
                try:
                    if not self._closed:
                        await self._open()
                        opened = ticks_ms()
                        await self._serve()
                except mqtt.FAILURES as error:
                    self._failed(error)
                if self._closed:
                    return
                stable = opened is not None and ticks_diff(ticks_ms(), opened) >= _STABLE_MS
                attempts = 0 if stable else attempts + 1
                await asyncio.sleep_ms(self._pause(attempts))
        finally:
            self._drop()

    def publish(self, topic, payload, retain=False, qos=0):
        """Send now, or keep until the broker is there; of a retained topic only the newest message is kept."""
        entry = [_bytes(topic), _bytes(payload), retain, qos, 0]
        if not (self.connected and not self._busy and not self._queue and self._send(entry)):
            self._keep(entry)

    async def publish_acked(self, topic, payload, retain=False, timeout_ms=10000):
        """Send at QoS 1, behind what is kept. Whether the broker acknowledged it in this time.

        False does not mean that nobody got it: an acknowledgement can be lost, too.
        """
        entry = [_bytes(topic), _bytes(payload), retain, 1, 0]
        deadline = ticks_add(ticks_ms(), timeout_ms)
        while True:
            if self.connected and not self._busy and not self._queue and self._send(entry):
                return True
            if ticks_diff(deadline, ticks_ms()) <= 0:
                return False
            await asyncio.sleep_ms(self.POLL_MS)

    def renew(self):
        """Subscribe again, so that the broker sends what it retains once more (MQTT 3.1.1, section 3.8.4)."""
        self._again = True

    def follow(self, topic, wanted):
        """Be subscribed to one more topic, or to it no more. An open session ends for that, and the next one begins."""
        if wanted != (topic in self._subscriptions):
            others = [other for other in self._subscriptions if other != topic]
            self._subscriptions = others + [topic] if wanted else others  # a new list: the old one may be in use

    def close(self):
        """Publish `offline`, say farewell, and end run(): before a restart that is meant."""
        self._closed = True
        if self.connected and self._send([self._status, b"offline", True, 1, 0]):
            self._client.disconnect()
            self._drop()

    # The session.

    async def _open(self):
        gc.collect()  # TLS takes tens of kilobytes in one piece
        context = tls_context(*self._tls) if self._tls else None
        raw = await dial(self._host, self._port, self.DIAL_MS)
        client = mqtt.Client(
            raw, self._host, context, self._buffer, self._id, self._user, self._password, self._keepalive_s
        )
        client.set_last_will(self._status, b"offline", True, 1)
        client.set_callback(self._received)
        self._reading = client  # retained messages come while it still subscribes
        self._busy = True
        try:
            client.open()
            self._subscribed = self._subscriptions
            for topic in self._subscribed:
                client.subscribe(_bytes(topic), 1)
                await asyncio.sleep_ms(0)
            client.publish(self._status, b"online", True, 1)
        except BaseException:
            self._oversize += client.oversize
            client.close()
            raise
        finally:
            self._busy = False
        self._client = client
        self.connected = True
        self.connects += 1
        if self._on_connect:
            self._on_connect()

    async def _serve(self):
        client = self._client
        pinged = ticks_ms()
        while self._client is client:
            if self._subscribed is not self._subscriptions:
                client.disconnect()  # a farewell: the will is not for this
                self._drop()
                return
            count = 0
            while self._client is client and count < _BURST and self._exchange(client.step):
                count += 1
            while self._queue and self._client is client:
                entry = self._queue[0]
                sent = self._send(entry)
                # A handler may have pushed it out of the queue meanwhile.
                if entry in self._queue and (sent or entry[4] >= _TRIES):
                    self._forget(entry)
                    self.dropped += 0 if sent else 1
            if self._again and self._client is client:
                self._again = False
                for topic in self._subscriptions:
                    self._exchange(client.subscribe, _bytes(topic), 1)
            if self._client is client and ticks_diff(ticks_ms(), pinged) >= self._keepalive_s * 500:
                if client.awaiting_ping:
                    raise OSError(ETIMEDOUT)
                pinged = ticks_ms()
                self._exchange(client.ping)
            await asyncio.sleep_ms(self.POLL_MS)

    def _exchange(self, function, *arguments):
        self._busy = True
        try:
            return function(*arguments)
        finally:
            self._busy = False

    def _send(self, entry):
        """Publish on the open session. Whether it is out (and for QoS 1 acknowledged); if not, the session is over."""
        try:
            self._exchange(self._client.publish, *entry[:4])
            return True
        except mqtt.FAILURES as error:
            entry[4] += 1
            self._failed(error)
            return False

    def _received(self, topic, payload):
        if topic.startswith(_BLOCK):
            if self.on_block:
                self.on_block(topic, payload)
            return
        try:
            self._on_message(topic, payload)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 a handler's mistake must not end the link: a retained message comes again
            self._count("handler")
            sys.print_exception(error)

    def _failed(self, error):
        self._count(mqtt.kind(error))
        self._drop()

    def _count(self, kind):
        self.last_failure = kind
        self.failures[kind] = self.failures.get(kind, 0) + 1

    def _drop(self):
        self.connected = False
        if self._client:
            self._oversize += self._client.oversize
            self._client.close()
            self._client = None

    def _pause(self, attempts):
        # Half of it by lot: a whole fleet that lost its broker must not come back in one moment.
        half = min(self.LAST_RETRY_MS, self.FIRST_RETRY_MS << min(attempts, 10)) // 2
        return half + (int.from_bytes(os.urandom(2), "big") * half >> 16)

    # What could not be sent yet.

    def _keep(self, entry):
        if entry[2]:
            for other in self._queue:
                if other[2] and other[0] == entry[0]:
                    self._forget(other)
                    break
        size = len(entry[0]) + len(entry[1])
        if size > _QUEUE_BYTES:
            self.dropped += 1
            return
        while self._queue and (len(self._queue) >= _QUEUE_COUNT or self._bytes + size > _QUEUE_BYTES):
            self._forget(self._queue[0])
            self.dropped += 1
        self._queue.append(entry)
        self._bytes += size

    def _forget(self, entry):
        self._queue.remove(entry)
        self._bytes -= len(entry[0]) + len(entry[1])


def for_device(boot, on_message, on_connect=None):
    """The Link of a booted device: address from its configuration, authorities from its trust, credentials from NVS.

    Subscribed to the offers to it and to its groups, and to verifiers' nonces; who takes commands follows their topic.
    Refused("state") where credentials miss.
    """
    config, identity, store = boot.config, boot.identity, boot.store
    names = [topics.topic("offer", id=identity.id), topics.topic("nonce", id=identity.id)]
    names.extend(topics.topic("group-offer", group=group) for group in config.groups)
    tls = (boot.trust.tls, store.required("tls_cert"), store.required("tls_key")) if config.tls else None
    account = store.blob("broker")
    user, password = cbor.loads(account) if account else (None, None)
    return Link(identity.id, config.broker, config.port, on_message, names, on_connect, tls, user, password,
                config.keepalive_s)  # fmt: skip


def _bytes(data):
    return data.encode() if isinstance(data, str) else data
