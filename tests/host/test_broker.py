"""What each broker lets through. Every refusal is asserted on what is delivered, not on what the broker answers."""

import contextlib
import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import time

import paho.mqtt.client as paho
import pytest
from pki import Authority

from gatehouse_tools import broker as module
from gatehouse_tools import topics
from gatehouse_tools.broker import Broker
from gatehouse_tools.errors import GatehouseError, UsageError

WAIT = 30.0


class Client:
    """A connected client; `get()` gives the next (topic, payload) delivered to it."""

    def __init__(self, broker, authority, name, client_id=None, *, clean=True, will=None, transport="tcp"):
        port = broker.websockets if transport == "websockets" else broker.port
        self._messages = queue.Queue()
        self.gone = False
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client_id or f"{name}-test",
            clean_session=clean,
            protocol=paho.MQTTv311,
            transport=transport,
        )
        self._client.on_message = lambda _, __, message: self._messages.put((message.topic, message.payload))
        self._subscribed, self._connected = queue.Queue(), queue.Queue()
        self._client.on_connect = lambda _, __, ___, reason, ____: self._connected.put(reason)
        self._client.on_subscribe = lambda _, __, ___, reasons, ____: self._subscribed.put(reasons)
        self._client.on_disconnect = self._on_disconnect
        cert, key = authority.issue(name) if name else (None, None)
        self._client.tls_set(str(authority.ca), str(cert) if cert else None, str(key) if key else None)
        if will:
            self._client.will_set(*will)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        reason = self._connected.get(timeout=WAIT)
        if reason.is_failure or self.gone:
            self.close()
            raise ConnectionRefusedError(str(reason))

    def _on_disconnect(self, _client, _userdata, _flags, reason, _properties):
        self.gone = True
        self._connected.put(reason)

    def subscribe(self, *filters):
        for filter_ in filters:
            self._client.subscribe(filter_, 1)
            self._subscribed.get(timeout=WAIT)

    def unsubscribe(self, filter_):
        self._client.unsubscribe(filter_)

    def publish(self, topic, payload, *, retain=False):
        self._client.publish(topic, payload, 1, retain).wait_for_publish(WAIT)

    def get(self, seconds=WAIT):
        return self._messages.get(timeout=seconds)

    def cut(self):
        """Lose the connection without a word, as a device that loses power."""
        self._client.loop_stop()
        self._client.socket().close()

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module", params=["mosquitto", "amqtt"])
def broker(request, tmp_path_factory, authority):
    folder = tmp_path_factory.mktemp(request.param)
    with Broker(folder, authority.ca, *authority.broker, kind=request.param, websockets=0) as running:
        yield running


@pytest.fixture
def host(broker, authority):
    """The host tools' connection, reading everything, with what earlier tests retained taken away."""
    with Client(broker, authority, "host") as client:
        client.subscribe("gatehouse/#", "homeassistant/#")
        client.publish("gatehouse/gh-1/reply", b"mark")
        retained = []
        while (message := client.get()) != ("gatehouse/gh-1/reply", b"mark"):
            retained.append(message[0])
        for topic in retained:
            client.publish(topic, b"", retain=True)
            assert client.get() == (topic, b"")
        yield client


@pytest.mark.parametrize("name", ["host", "verifier", "gh-1"])
def test_certificate_opens_a_session(broker, authority, name):
    with Client(broker, authority, name) as client:
        client.subscribe("gatehouse/gh-1/offer")


def test_verifier_sees_what_devices_tell_and_commands_nothing(broker, authority, host):
    with Client(broker, authority, "gh-1") as device, Client(broker, authority, "verifier") as verifier:
        verifier.subscribe("gatehouse/+/report", "gatehouse/gh-1/sensor", "gatehouse/+/journal")
        verifier.subscribe("gatehouse/+/command", "gatehouse/+/reply", "gatehouse/gh-1/offer", "gatehouse/#", "#")
        device.subscribe("gatehouse/gh-1/command", "gatehouse/gh-1/offer", "gatehouse/gh-1/nonce")
        for row in ("command", "offer", "report", "status", "summary", "journal"):
            verifier.publish(f"gatehouse/gh-1/{row}", b"forged")
        verifier.publish("gatehouse/gh-1/journal/ack", b"\x00")
        verifier.publish("gatehouse/gh-1/nonce", b"12345678")
        assert host.get() == ("gatehouse/gh-1/journal/ack", b"\x00")
        assert device.get() == ("gatehouse/gh-1/nonce", b"12345678")
        assert host.get() == ("gatehouse/gh-1/nonce", b"12345678")
        host.publish("gatehouse/gh-1/command", b"secret")
        device.publish("gatehouse/gh-1/reply", b"secret")
        for row in ("report", "sensor", "journal"):
            device.publish(f"gatehouse/gh-1/{row}", row.encode())
        for row in ("report", "sensor", "journal"):
            assert verifier.get() == (f"gatehouse/gh-1/{row}", row.encode())


def test_device_publishes_its_own_topics(broker, authority, host):
    with Client(broker, authority, "gh-1") as device:
        rows = ("status", "report", "summary", "sensor", "journal", "reply", "ha-config", "ha-update", "ha-state")
        for row in rows:
            topic = topics.topic(row, id="gh-1")
            device.publish(topic, row.encode())
            assert host.get() == (topic, row.encode())


@pytest.mark.parametrize(
    "topic",
    [
        "gatehouse/gh-2/report",
        "gatehouse/gh-2/status",
        "gatehouse/gh-1/offer",
        "gatehouse/gh-1/command",
        "gatehouse/gh-1/more/report",
        "gatehouse/group/all/offer",
        "gatehouse/block/00/1",
        "gatehouse",
        "gatehouse/gh-1/ha/install",
        "gatehouse/gh-2/ha/update",
        "homeassistant/device/gh-2/config",
        "homeassistant/sensor/gh-1/config",
        "homeassistant/status",
    ],
)
@pytest.mark.parametrize("retain", [False, True])
def test_device_publishes_nothing_else(broker, authority, host, topic, retain):
    with Client(broker, authority, "gh-1") as device:
        device.publish(topic, b"forged", retain=retain)
        device.publish("gatehouse/gh-1/report", b"own")
        assert host.get() == ("gatehouse/gh-1/report", b"own")
    with Client(broker, authority, "host", "later") as later:
        later.subscribe("gatehouse/#", "homeassistant/#")
        later.publish("gatehouse/gh-1/reply", b"end")
        assert later.get() == ("gatehouse/gh-1/reply", b"end")  # nothing was retained either


def test_device_reads_what_is_meant_for_it(broker, authority, host):
    with Client(broker, authority, "gh-1") as device:
        wanted = ["gatehouse/gh-1/offer", "gatehouse/gh-1/command", "gatehouse/group/all/offer", "gatehouse/block/0a/7"]
        wanted += ["homeassistant/status", "gatehouse/gh-1/ha/install"]
        device.subscribe(*wanted)
        for topic in wanted:
            host.publish(topic, topic.encode())
            assert device.get() == (topic, topic.encode())


def test_blocks_are_kept_for_devices_and_come_at_each_subscription(broker, authority, host):
    for number in range(3):
        host.publish(f"gatehouse/block/0a/{number}", bytes([number]) * 2048, retain=True)
    with Client(broker, authority, "gh-1") as device:
        for number in (1, 0, 1):
            device.subscribe(f"gatehouse/block/0a/{number}")
            assert device.get() == (f"gatehouse/block/0a/{number}", bytes([number]) * 2048)
            device.unsubscribe(f"gatehouse/block/0a/{number}")
        device.publish("gatehouse/block/0a/0", b"", retain=True)  # a device must not remove one, nor write it
        device.publish("gatehouse/block/0a/2", b"forged", retain=True)
        for number in (0, 2):
            device.subscribe(f"gatehouse/block/0a/{number}")
            assert device.get() == (f"gatehouse/block/0a/{number}", bytes([number]) * 2048)


def test_offer_is_retained_until_it_is_taken_away(broker, authority, host):
    host.publish("gatehouse/gh-1/offer", b"envelope", retain=True)
    for expected in (b"envelope", b"envelope"):
        with Client(broker, authority, "gh-1") as device:
            device.subscribe("gatehouse/gh-1/offer")
            assert device.get() == ("gatehouse/gh-1/offer", expected)
    host.publish("gatehouse/gh-1/offer", b"", retain=True)
    with Client(broker, authority, "gh-1") as device:
        device.subscribe("gatehouse/gh-1/offer", "gatehouse/gh-1/command")
        host.publish("gatehouse/gh-1/command", b"end")
        assert device.get() == ("gatehouse/gh-1/command", b"end")


HOME = "home-assistant"


def test_home_assistant_reads_and_writes_what_is_meant_for_it(broker, authority, host):
    with Client(broker, authority, HOME) as home, Client(broker, authority, "gh-1") as device:
        home.subscribe("homeassistant/device/+/config", "homeassistant/sensor/+/config", "gatehouse/gh-1/status",
                       "gatehouse/gh-1/sensor", "gatehouse/gh-1/ha/update", "gatehouse/gh-1/ha/state")  # fmt: skip
        device.subscribe("homeassistant/status", "gatehouse/gh-1/ha/install")
        for row in ("ha-config", "ha-update", "ha-state", "status", "sensor"):
            topic = topics.topic(row, id="gh-1")
            device.publish(topic, row.encode())
            assert home.get() == (topic, row.encode())
        for topic in ("homeassistant/status", "gatehouse/gh-1/ha/install"):
            home.publish(topic, b"hello")
            assert device.get() == (topic, b"hello")


@pytest.mark.parametrize("row", ["report", "summary", "journal", "reply", "offer", "command"])
def test_home_assistant_neither_reads_nor_writes_anything_else(broker, authority, host, row):
    topic = topics.topic(row, id="gh-1")
    with Client(broker, authority, HOME) as home, Client(broker, authority, "gh-1") as device:
        device.subscribe("gatehouse/gh-1/offer", "gatehouse/gh-1/command", "gatehouse/gh-1/ha/install")
        home.subscribe(topic, "gatehouse/gh-1/#", "gatehouse/+/" + row, "gatehouse/gh-1/status")
        (device if topics.TABLE[row][1] == "device" else host).publish(topic, b"secret")
        device.publish("gatehouse/gh-1/status", b"end")
        assert home.get() == ("gatehouse/gh-1/status", b"end")
        if topics.TABLE[row][1] == "host":
            assert device.get() == (topic, b"secret")
        for forged in (topic, "homeassistant/device/gh-1/config", "gatehouse/gh-1/ha/update", "gatehouse/gh-1/status"):
            home.publish(forged, b"forged", retain=True)
        home.publish("gatehouse/gh-1/ha/install", b"end")
        assert device.get() == ("gatehouse/gh-1/ha/install", b"end")
        while (message := host.get()) != ("gatehouse/gh-1/ha/install", b"end"):
            assert message[1] != b"forged", message


@pytest.mark.parametrize("filter_", ["#", "gatehouse/#", "gatehouse/+/report", "+/+/report", "gatehouse/gh-2/offer"])
def test_device_reads_nothing_else(broker, authority, host, filter_):
    host.publish("gatehouse/gh-2/report", b"retained", retain=True)
    host.publish("gatehouse/gh-2/offer", b"retained", retain=True)
    with Client(broker, authority, "gh-1") as device:
        device.subscribe(filter_, "gatehouse/gh-1/command")
        host.publish("gatehouse/gh-2/report", b"live")
        host.publish("gatehouse/gh-2/offer", b"live")
        host.publish("gatehouse/gh-1/command", b"end")
        assert device.get() == ("gatehouse/gh-1/command", b"end")


def test_nothing_comes_unasked(broker, authority, host):
    """The retained messages of others' subscriptions are not for a client that connects."""
    host.publish("gatehouse/gh-2/report", b"retained", retain=True)
    with Client(broker, authority, "gh-1") as device:
        device.subscribe("gatehouse/gh-1/command")
        host.publish("gatehouse/gh-1/command", b"end")
        assert device.get() == ("gatehouse/gh-1/command", b"end")


def test_last_will(broker, authority, host):
    device = Client(broker, authority, "gh-1", will=("gatehouse/gh-1/status", b"offline", 1, True))
    device.publish("gatehouse/gh-1/status", b"online", retain=True)
    assert host.get() == ("gatehouse/gh-1/status", b"online")
    device.cut()
    assert host.get() == ("gatehouse/gh-1/status", b"offline")


def test_last_will_for_another_device(broker, authority, host):
    try:
        device = Client(broker, authority, "gh-1", will=("gatehouse/gh-2/status", b"offline", 1, True))
        device.cut()
    except ConnectionRefusedError:
        pass  # amqtt does not even let it in
    with Client(broker, authority, "gh-2") as other:
        # Take as long as its honest twin: the will of a client that was cut off after the other one.
        twin = Client(broker, authority, "gh-3", will=("gatehouse/gh-3/status", b"offline", 1, False))
        twin.cut()
        assert host.get() == ("gatehouse/gh-3/status", b"offline")
        other.publish("gatehouse/gh-2/status", b"online")
        assert host.get() == ("gatehouse/gh-2/status", b"online")


def test_session_belongs_to_its_certificate(broker, authority, host):
    """Another's client id gives nobody another's name, topics or queued messages."""
    with Client(broker, authority, "gh-1", "gh-1", clean=False) as device:
        device.subscribe("gatehouse/gh-1/offer", "gatehouse/gh-1/command")
    host.publish("gatehouse/gh-1/offer", b"secret")
    assert host.get() == ("gatehouse/gh-1/offer", b"secret")
    with Client(broker, authority, "gh-2", "gh-1", clean=False) as thief:
        thief.publish("gatehouse/gh-1/report", b"forged")
        thief.publish("gatehouse/gh-2/report", b"own")
        assert host.get() == ("gatehouse/gh-2/report", b"own")
        thief.subscribe("gatehouse/gh-2/command")
        host.publish("gatehouse/gh-1/command", b"secret")
        host.publish("gatehouse/gh-2/command", b"end")
        assert thief.get() == ("gatehouse/gh-2/command", b"end")


@pytest.mark.parametrize("broker", ["amqtt"], indirect=True)
def test_amqtt_keeps_a_session_from_another_certificate(broker, authority, host):
    """Mosquitto ends the older of two clients with one id, whoever they are; broker.py says so."""
    with Client(broker, authority, "gh-1", "gh-1") as device:
        device.subscribe("gatehouse/gh-1/command")
        with Client(broker, authority, "gh-2", "gh-1"):
            host.publish("gatehouse/gh-1/command", b"still here")
            assert device.get() == ("gatehouse/gh-1/command", b"still here")
            assert not device.gone


@pytest.mark.parametrize("name", ["group", "+", "#", "a/b"])
def test_a_name_that_is_no_device(broker, authority, host, name):
    """Only the authority could give such a certificate; even so it opens nothing."""
    try:
        with Client(broker, authority, name, "odd") as odd:
            odd.publish("gatehouse/gh-1/report", b"forged")
            odd.publish("gatehouse/group/all/offer", b"forged")
    except ConnectionRefusedError:
        pass  # amqtt does not let it in
    host.publish("gatehouse/gh-1/command", b"end")
    assert host.get() == ("gatehouse/gh-1/command", b"end")


def test_no_certificate_no_connection(broker, authority):
    with pytest.raises(ConnectionRefusedError):
        Client(broker, authority, None, "nobody")


def test_no_certificate_no_handshake(broker, authority):
    context = ssl.create_default_context(cafile=authority.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # with 1.3 a client hears of it only when it reads
    with socket.create_connection(("127.0.0.1", broker.port)) as raw, pytest.raises(OSError):
        context.wrap_socket(raw, server_hostname="localhost")


def test_host_has_this_product_only(broker, authority, host):
    with Client(broker, authority, "host", "other") as other:
        other.subscribe("#", "homes/#")
        host.publish("homes/1", b"foreign", retain=True)
        other.subscribe("gatehouse/gh-1/reply")
        host.publish("gatehouse/gh-1/reply", b"end")
        assert other.get() == ("gatehouse/gh-1/reply", b"end")


def test_certificate_of_a_stranger(broker, authority, tmp_path):
    stranger = Authority(tmp_path)
    cert, key = stranger.issue("host")
    context = ssl.create_default_context(cafile=authority.ca)
    context.load_cert_chain(cert, key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # with 1.3 a client hears of it only when it reads
    with socket.create_connection(("127.0.0.1", broker.port)) as raw, pytest.raises(OSError):
        context.wrap_socket(raw, server_hostname="localhost")


def test_plain_tcp_is_refused(broker):
    with socket.create_connection(("127.0.0.1", broker.port)) as raw:
        raw.settimeout(WAIT)
        raw.sendall(b"\x10\x10\0\x04MQTT\x04\x02\0\0\0\x04gh-1")
        try:
            answer = raw.recv(4)
        except ConnectionResetError:
            answer = b""
    assert not answer.startswith(b"\x20")


def test_websockets(broker, authority, host):
    with Client(broker, authority, "gh-1", "web", transport="websockets") as device:
        device.publish("gatehouse/gh-2/report", b"forged")
        device.publish("gatehouse/gh-1/report", b"own")
        assert host.get() == ("gatehouse/gh-1/report", b"own")


# The process.


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_busy_port_is_one_clear_line(kind, authority, tmp_path):
    cert, key = authority.broker
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(GatehouseError, match=f"port {port} is in use") as caught:
            Broker(tmp_path, authority.ca, cert, key, kind=kind, port=port).start()
    assert caught.value.reason == "busy"


def test_second_broker_of_the_product_does_not_pass_for_the_first(broker, authority, tmp_path):
    with pytest.raises(GatehouseError, match="in use"):
        Broker(tmp_path, authority.ca, *authority.broker, kind=broker.kind, port=broker.port).start()


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_port_that_is_lost_in_a_race_is_chosen_anew(kind, authority, tmp_path, monkeypatch):
    cert, key = authority.broker
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1], module.free_port()]
        monkeypatch.setattr(module, "free_port", lambda host: ports.pop(0))
        with Broker(tmp_path, authority.ca, cert, key, kind=kind) as broker:
            assert broker.port != taken.getsockname()[1]
            assert not ports


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_damaged_key_is_one_clear_line(kind, authority, tmp_path):
    cert, _ = authority.broker
    key = tmp_path / "bad.pem"
    key.write_text("no key")
    with pytest.raises(GatehouseError, match="did not start"):
        Broker(tmp_path, authority.ca, cert, key, kind=kind).start()


def test_missing_key_says_what_to_do(authority, tmp_path):
    cert, _ = authority.broker
    with pytest.raises(GatehouseError, match=r"broker key .* is missing: make it with 'gatehouse init'"):
        Broker(tmp_path, authority.ca, cert, tmp_path / "none.pem")


def test_unknown_kind_is_wrong_usage(authority, tmp_path):
    with pytest.raises(UsageError):
        Broker(tmp_path, authority.ca, authority.ca, authority.ca, kind="emqx")


def test_without_mosquitto_the_built_in_one_serves(authority, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "mosquitto", lambda: None)
    assert Broker(tmp_path, authority.ca, authority.ca, authority.ca).kind == "amqtt"
    with pytest.raises(GatehouseError, match="not installed"):
        Broker(tmp_path, authority.ca, authority.ca, authority.ca, kind="mosquitto")


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_broker_ends_with_who_started_it(kind, authority, tmp_path):
    cert, key = authority.broker
    program = (
        "import sys; from pathlib import Path; from gatehouse_tools.broker import Broker\n"
        "paths = [Path(item) for item in sys.argv[2:]]\n"
        "broker = Broker(*paths, kind=sys.argv[1]).start()\n"
        "print(broker.port, broker._process.pid, flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, kind, str(tmp_path), str(authority.ca), str(cert), str(key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        port, broker = map(int, parent.stdout.readline().split())
        socket.create_connection(("127.0.0.1", port)).close()
        os.kill(parent.pid, signal.SIGKILL)
    end = time.monotonic() + WAIT
    try:
        with pytest.raises(ConnectionRefusedError):
            while time.monotonic() < end:
                with contextlib.suppress(ConnectionResetError):  # caught in the middle of its end
                    socket.create_connection(("127.0.0.1", port)).close()
    except BaseException:
        os.kill(broker, signal.SIGKILL)
        raise


def test_mosquitto_2_1_gets_the_access_list_as_a_plugin(authority, tmp_path, monkeypatch):
    plugin = tmp_path / "mosquitto_acl_file.so"
    plugin.touch()
    monkeypatch.setattr(module, "_PLUGIN", (str(plugin),))
    monkeypatch.setattr(module, "mosquitto", lambda: "mosquitto")
    broker = Broker(tmp_path, authority.ca, authority.ca, authority.ca, kind="mosquitto", port=8883)
    acl = tmp_path / "acl.txt"
    new = broker._mosquitto_config((2, 1, 0), acl).splitlines()
    assert f"global_plugin {plugin}" in new
    assert f"plugin_opt_acl_file {acl}" in new
    assert f"acl_file {acl}" not in new
    old = broker._mosquitto_config((2, 0, 11), acl).splitlines()
    assert f"acl_file {acl}" in old
    assert not [line for line in old if "plugin" in line]


# The table.


def test_rules_come_from_the_table():
    rules = topics.device_rules("gh-1")
    assert len(rules) == len(topics.TABLE)
    assert ("write", "gatehouse/gh-1/report") in rules
    assert ("read", "gatehouse/group/+/offer") in rules
    assert ("read", "gatehouse/block/+/+") in rules
    assert ("write", "homeassistant/device/gh-1/config") in rules and ("read", "homeassistant/status") in rules
    assert {filter_ for access, filter_ in rules if access == "write" and "gh-1" not in filter_} == set()


@pytest.mark.parametrize(
    ("allowed", "requested", "expected"),
    [
        ("gatehouse/gh-1/offer", "gatehouse/gh-1/offer", True),
        ("gatehouse/gh-1/offer", "gatehouse/gh-2/offer", False),
        ("gatehouse/gh-1/offer", "gatehouse/gh-1", False),
        ("gatehouse/gh-1/offer", "gatehouse/gh-1/offer/x", False),
        ("gatehouse/gh-1/offer", "gatehouse/+/offer", False),
        ("gatehouse/gh-1/offer", "gatehouse/gh-1/#", False),
        ("gatehouse/group/+/offer", "gatehouse/group/all/offer", True),
        ("gatehouse/group/+/offer", "gatehouse/group/+/offer", True),
        ("gatehouse/group/+/offer", "gatehouse/group/#", False),
        ("gatehouse/block/+/+", "gatehouse/block/00/#", False),
        ("gatehouse/block/+/+", "gatehouse/#", False),
    ],
)
def test_covers(allowed, requested, expected):
    assert topics.covers(allowed, requested) is expected


def test_home_assistants_rules_come_from_the_table():
    rules = topics.home_assistant_rules()
    assert ("read", "gatehouse/+/ha/update") in rules and ("write", "gatehouse/+/ha/install") in rules
    assert ("write", "homeassistant/status") in rules and ("read", "gatehouse/+/sensor") in rules
    assert {filter_.split("/")[-1] for access, filter_ in rules if access == "write"} == {"status", "install"}
    assert ("write", "gatehouse/+/status") not in rules
    assert not {filter_ for _, filter_ in rules if re.search("report|summary|journal|reply|offer|command", filter_)}


@pytest.mark.parametrize(
    "name", ["host", "home-assistant", "verifier", "group", "block", "", "a/b", "+", "#", "x" * 33, "gh 1", "gh\n"]
)
def test_names_that_are_no_device(name):
    assert not topics.is_device_id(name)


def test_split_is_the_opposite_of_topic():
    assert topics.split("gatehouse/gh-1/report") == {"name": "report", "id": "gh-1"}
    assert topics.split("gatehouse/group/all/offer") == {"name": "group-offer", "group": "all"}
    for other in (
        "gatehouse/gh-1/reports",
        "gatehouse/gh-1",
        "gatehouse/group/report",
        "gatehouse/a+b/x",
        "x/gh-1/report",
    ):
        assert topics.split(other) is None
