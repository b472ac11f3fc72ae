"""The link's queue and backoff, with a broker's session faked at mqtt.Client. Real brokers: tests/host/test_link.py."""

import asyncio
import sys

from gatehouse import Refused
from harness import raises


class FakeSimple:
    """In place of umqtt.simple, which is no part of this repository."""

    class MQTTClient:
        pass

    class MQTTException(Exception):
        pass


class FakePackage:
    simple = FakeSimple


class Session:
    """In place of mqtt.Client: an open session that fails when it is told to."""

    oversize = 0

    def __init__(self):
        self.sent = []
        self.error = None
        self.closed = False

    def publish(self, topic, payload, retain, qos):
        if self.error:
            raise self.error
        self.sent.append((topic, payload, retain, qos))

    def disconnect(self):
        self.sent.append("farewell")

    def close(self):
        self.closed = True


def make(connected=True, **options):
    sys.modules["umqtt"] = FakePackage
    sys.modules["umqtt.simple"] = FakeSimple
    from gatehouse import link

    made = link.Link("gh-1", "h", 1883, lambda topic, payload: None, **options)
    if connected:
        made._client = Session()
        made.connected = True
    return made


def kept(link):
    return [entry[1] for entry in link._queue]


def test_published_at_once_where_the_broker_is_there():
    link = make()
    link.publish("t", "caf\u00e9")
    link.publish(b"t", b"\x00", True, 1)
    assert link._client.sent == [(b"t", b"caf\xc3\xa9", False, 0), (b"t", b"\x00", True, 1)]
    assert kept(link) == []


def test_kept_where_it_is_not_and_the_oldest_dropped():
    link = make(connected=False)
    for number in range(20):
        link.publish("t", str(number))
    assert kept(link) == [str(number).encode() for number in range(4, 20)]
    assert link.dropped == 4


def test_of_a_retained_topic_the_newest_is_kept_and_nothing_counts_as_lost():
    link = make(connected=False)
    for number in range(20):
        link.publish("state", str(number), True)
        link.publish("state", "event", False) if number == 0 else None
    link.publish("other", "x", True)
    assert kept(link) == [b"event", b"19", b"x"]
    assert link.dropped == 0


def test_queue_is_bounded_in_bytes_too():
    link = make(connected=False)
    for _ in range(4):
        link.publish("t", bytes(2000))
    assert (len(link._queue), link.dropped, link._bytes) == (3, 1, 6003)
    link.publish("t", bytes(7000))  # alone larger than the queue
    assert (len(link._queue), link.dropped, link._bytes) == (3, 2, 6003)


def test_within_an_exchange_a_publish_waits():
    link = make()

    def reply(topic, payload):
        link.publish("reply", payload)
        assert link._client.sent == []

    link._on_message = reply
    link._exchange(link._received, b"t", b"hello")
    assert kept(link) == [b"hello"]


def test_order_is_kept_behind_a_queue():
    link = make(connected=False)
    link.publish("t", b"1")
    link._client = session = Session()
    link.connected = True
    link.publish("t", b"2")
    assert (session.sent, kept(link)) == ([], [b"1", b"2"])


def test_each_failure_has_its_kind_and_ends_the_session():
    make()
    from gatehouse import mqtt

    for error, kind in (
        (OSError(110), "timeout"),
        (OSError(104), "network"),
        (OSError(-104), "network"),
        (OSError("[addrinfo error -2]"), "network"),
        (OSError(), "network"),
        (OSError(-0x7280, "MBEDTLS_ERR_SSL_CONN_EOF"), "network"),
        (OSError(-0x7780, "MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE"), "tls"),
        (ValueError("The certificate is not correctly signed by the trusted CA"), "tls"),
        (FakeSimple.MQTTException(5), "refused"),
        (mqtt.Malformed("length"), "protocol"),
        (AssertionError(), "protocol"),
        (MemoryError(), "memory"),
        (Refused("state", ""), "state"),
    ):
        link = make()
        session = link._client
        session.error = error
        link.publish("t", b"1")
        assert (link.failures, link.last_failure) == ({kind: 1}, kind), error
        assert session.closed
        assert not link.connected
        assert kept(link) == [b"1"]


async def test_a_topic_that_is_followed_while_a_session_opens():
    link = make(connected=False, subscriptions=["a", "b", "c"])
    made = []

    class Client(Session):
        def __init__(self, *_):
            super().__init__()
            self.topics = []
            made.append(self)

        set_last_will = set_callback = lambda *_: None

        def open(self):
            pass

        def step(self):
            return False

        def subscribe(self, topic, qos):
            self.topics.append(topic)
            if made[0] is self and topic == b"b":
                link.follow("a", False)
                link.follow("d", True)

    async def dial(*_):
        return None

    module = sys.modules["gatehouse.link"]
    module.dial, module.mqtt.Client = dial, Client
    link.POLL_MS = link.FIRST_RETRY_MS = 1
    link._pause = lambda attempts: 1
    task = asyncio.create_task(link.run())
    for _ in range(100):
        await asyncio.sleep_ms(1)
    assert [client.topics for client in made] == [[b"a", b"b", b"c"], [b"b", b"c", b"d"]]
    assert [client.closed for client in made] == [True, False] and "farewell" in made[0].sent
    link.follow("d", True)
    for _ in range(20):
        await asyncio.sleep_ms(1)
    assert len(made) == 2
    task.cancel()


async def test_a_session_that_cannot_be_opened_is_closed():
    link = make(connected=False)
    from gatehouse import link as module

    class Client(Session):
        made = []

        def __init__(self, *arguments):
            super().__init__()
            Client.made.append(self)

        def set_last_will(self, *arguments):
            pass

        set_callback = set_last_will

        def open(self):
            raise OSError(110)

    async def dial(host, port, limit_ms):
        return "socket"

    module.dial = dial
    module.mqtt.Client = Client
    with raises(OSError):
        await link._open()
    assert [client.closed for client in Client.made] == [True]
    assert not link.connected


def test_a_mistake_of_the_program_is_not_taken_for_a_failure_of_the_network():
    link = make()
    link._client.error = KeyError("x")
    with raises(KeyError):
        link.publish("t", b"1")


def test_acknowledged_or_not():
    link = make()
    assert asyncio.run(link.publish_acked("t", b"1")) is True
    assert link._client.sent == [(b"t", b"1", False, 1)]
    link.POLL_MS = 1
    link._client.error = OSError(110)
    assert asyncio.run(link.publish_acked("t", b"2", timeout_ms=5)) is False
    assert kept(link) == []  # the caller knows; it is not sent later behind its back


def test_close_says_offline_first():
    link = make()
    session = link._client
    link.close()
    assert session.sent == [(b"gatehouse/gh-1/status", b"offline", True, 1), "farewell"]
    assert session.closed
    asyncio.run(link.run())  # ends by itself
    assert link.failures == {}


def test_backoff_doubles_within_bounds_and_by_lot():
    link = make()
    for attempts in range(40):
        whole = min(60000, 1000 << attempts)
        found = [link._pause(attempts) for _ in range(20)]
        assert whole // 2 <= min(found) <= max(found) <= whole, (attempts, found)
        assert len(set(found)) > 5


def test_link_of_a_device_follows_its_configuration():
    make()
    from gatehouse import cbor, link

    class Boot:
        class config:
            broker, port, tls, groups, keepalive_s = "b.example", 8883, True, ["all", "roof"], 33

        class identity:
            id = "gh-7"

        class trust:
            tls = [b"one", b"two"]

        class store:
            held = {"tls_cert": b"cert", "tls_key": b"key", "broker": cbor.dumps(["me", "secret"])}

            @classmethod
            def blob(cls, name):
                return cls.held.get(name)

            @classmethod
            def required(cls, name):
                if name not in cls.held:
                    raise Refused("state", name)
                return cls.held[name]

    found = link.for_device(Boot, None)
    assert (found._host, found._port, found._keepalive_s) == ("b.example", 8883, 33)
    assert found._tls == ([b"one", b"two"], b"cert", b"key")
    assert (found._user, found._password) == (b"me", b"secret")
    assert found._subscriptions == [
        "gatehouse/gh-7/offer",
        "gatehouse/gh-7/nonce",
        "gatehouse/group/all/offer",
        "gatehouse/group/roof/offer",
    ]
    del Boot.store.held["tls_key"], Boot.store.held["broker"]
    with raises(Refused, "state"):
        link.for_device(Boot, None)
    Boot.config.tls = False
    found = link.for_device(Boot, None)
    assert (found._tls, found._user, found._password) == (None, None, None)


def test_a_block_reaches_who_waits_for_it_and_never_the_handler():
    link = make()
    told, blocks = [], []
    link._on_message = lambda topic, payload: told.append(topic)
    link.on_block = lambda topic, payload: blocks.append(payload)
    link._received(b"gatehouse/block/0a/0", b"block")
    link.on_block = None
    link._received(b"gatehouse/block/0a/1", b"late")
    link._received(b"gatehouse/gh-1/offer", b"offer")
    assert (told, blocks) == ([b"gatehouse/gh-1/offer"], [b"block"])
