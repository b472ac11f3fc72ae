"""`gatehouse broker-config`: the real Mosquitto starts with it, and no device gets at another's topics."""

import contextlib
import os
import shutil
import socket
import ssl
import stat
import subprocess
import time
from types import SimpleNamespace

import pytest
import shop
from test_broker import Client

from gatehouse_tools import broker as brokers
from gatehouse_tools import ca, topics

WAIT = 30.0
# Another Mosquitto than the installed one, such as a 2.1 of one's own, and its mosquitto_acl_file.so.
MOSQUITTO = os.environ.get("GATEHOUSE_MOSQUITTO") or brokers.mosquitto()
PLUGIN = os.environ.get("GATEHOUSE_MOSQUITTO_ACL")
needs_mosquitto = pytest.mark.skipif(not MOSQUITTO, reason="Mosquitto is not installed")
OPTIONS = [
    *(["--user", "root"] if os.geteuid() == 0 else []),  # else it gives up root, and cannot read a key of ours
    *(["--acl-plugin", PLUGIN] if PLUGIN else []),
]


class Authority:
    """The product's, as test_broker.Client asks it."""

    def __init__(self, item, folder):
        self.ca, self._folder, self._authority = item.ca / "ca.pem", folder, ca.Authority(item.ca)
        folder.mkdir()

    def issue(self, name):
        if not (self._folder / f"{name}.pem").exists():
            ca._save(self._folder, name, self._authority.issue(name))
        return self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"


def wait_for(process, port):
    """Until it listens."""
    end = time.monotonic() + WAIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            pass  # not yet
        assert process.poll() is None, process.stdout.read().decode()
        assert time.monotonic() < end, "it does not listen"
        time.sleep(0.02)


@contextlib.contextmanager
def mosquitto(config, port):
    """The real one, with exactly this configuration."""
    command = [MOSQUITTO, "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            wait_for(process, port)
            yield SimpleNamespace(port=port)
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    return shop.make(tmp_path_factory.mktemp("product") / "shop")


@pytest.fixture(scope="module")
def authority(item, tmp_path_factory):
    return Authority(item, tmp_path_factory.mktemp("certificates") / "clients")


@pytest.fixture(scope="module")
def running(item, tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("mosquitto"), brokers.free_port()
    data = folder / "data"
    data.mkdir()
    words = ("--dir", folder, "--listen", "127.0.0.1", "--port", port, "--data", data, *OPTIONS)
    done = shop.run("broker-config", "--product", item.root, *words, "--json")
    assert done.code == 0, done.err
    with mosquitto(done.json["config"], port) as broker:
        yield broker


@pytest.fixture
def host(running, authority):
    with Client(running, authority, "host") as client:
        client.subscribe("gatehouse/#", "homeassistant/#")
        yield client


def test_files_and_what_they_say(item, tmp_path):
    done = shop.run("broker-config", "--product", item.root, "--dir", tmp_path / "made")
    assert done.code == 0, done.err
    lines = (tmp_path / "made" / "mosquitto.conf").read_text().splitlines()
    acl = tmp_path / "made" / "acl.txt"
    assert "max_queued_messages 50000" in lines  # for a collector that is away
    assert f"acl_file {acl}" in lines and "listener 8883" in lines and "persistence false" in lines
    for line in ("allow_anonymous false", "require_certificate true", "use_identity_as_username true"):
        assert line in lines
    assert not [line for line in lines if line.startswith(("user", "password_file", "global_plugin"))]
    assert acl.read_text() == brokers.acl_text() and stat.S_IMODE(acl.stat().st_mode) == 0o600
    for path in (item.ca / "ca.pem", item.ca / "broker.pem", item.ca / "broker-key.pem"):
        assert any(line.endswith(str(path)) for line in lines)
    # Again, for another version of Mosquitto: the list is applied by its plugin, not twice.
    plugin = tmp_path / "mosquitto_acl_file.so"
    shop.run(
        "broker-config", "--product", item.root, "--dir", tmp_path / "made", "--acl-plugin", plugin, "--user", "me"
    )
    lines = (tmp_path / "made" / "mosquitto.conf").read_text().splitlines()
    assert f"global_plugin {plugin}" in lines and f"plugin_opt_acl_file {acl}" in lines and "user me" in lines
    assert f"acl_file {acl}" not in lines


def test_a_missing_key_is_told(item, tmp_path):
    done = shop.run("broker-config", "--product", item.root, "--dir", tmp_path, "--key", tmp_path / "none.pem")
    done.refused(1, "none.pem is missing", "[key]")
    assert not list(tmp_path.iterdir())


@needs_mosquitto
def test_a_device_has_its_own_topics(running, authority, host):
    with Client(running, authority, "gh-1") as device:
        for name, (pattern, publisher, _) in topics.TABLE.items():
            topic = (
                pattern.replace("{id}", "gh-1").replace("{group}", "all").replace("{digest}", "0a").replace("{n}", "1")
            )
            if publisher == "device":
                device.publish(topic, name.encode())
                assert host.get() == (topic, name.encode())
            else:
                device.subscribe(topic)
                host.publish(topic, name.encode())
                assert host.get() == (topic, name.encode()) == device.get()


@needs_mosquitto
def test_home_assistants_certificate_opens_what_is_meant_for_it(running, item, authority, host, tmp_path):
    folder = tmp_path / "home"
    done = shop.run("home-assistant", "--product", item.root, "--dir", folder, "--json")
    assert done.code == 0, done.err
    files = [folder / "home-assistant.pem", folder / "home-assistant-key.pem"]
    assert [done.json["certificate"], done.json["key"]] == [str(path) for path in files]
    assert done.json["authority"] == str(item.ca / "ca.pem") and done.json["port"] == 8883
    assert [stat.S_IMODE(files[1].stat().st_mode), stat.S_IMODE(folder.stat().st_mode)] == [0o600, 0o700]
    certificate = ca.load_certificate(files[0])
    left = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert ca.HOST_DAYS <= left.days <= ca.HOST_DAYS + 1
    its = SimpleNamespace(ca=item.ca / "ca.pem", issue=lambda name: files)
    with Client(running, its, "home-assistant") as home, Client(running, authority, "gh-1") as device:
        home.subscribe("gatehouse/+/report", "homeassistant/device/+/config")
        device.publish("gatehouse/gh-1/report", b"evidence")
        device.publish("homeassistant/device/gh-1/config", b"{}")
        assert home.get() == ("homeassistant/device/gh-1/config", b"{}")
    shop.run("home-assistant", "--product", item.root, "--dir", folder).refused(1, "never overwritten")
    words = shop.run("home-assistant", "--product", item.root, "--dir", tmp_path / "other")
    assert words.code == 0 and "8883" in words.out and "home-assistant-key.pem" in words.out


@needs_mosquitto
def test_a_device_does_not_touch_another(running, authority, host):
    with Client(running, authority, "gh-2") as victim, Client(running, authority, "gh-1") as thief:
        victim.subscribe("gatehouse/gh-2/command", "gatehouse/gh-2/offer", "gatehouse/group/all/offer")
        for pattern, _, _ in topics.TABLE.values():
            topic = (
                pattern.replace("{id}", "gh-2").replace("{group}", "all").replace("{digest}", "0a").replace("{n}", "1")
            )
            thief.publish(topic, b"forged")
        thief.publish("gatehouse/gh-1/command", b"to itself: nobody may, but the host")
        thief.publish("gatehouse/gh-1/report", b"end")
        assert host.get() == ("gatehouse/gh-1/report", b"end")
        host.publish("gatehouse/gh-2/command", b"end")
        assert victim.get() == ("gatehouse/gh-2/command", b"end")
        assert host.get() == ("gatehouse/gh-2/command", b"end")
        thief.subscribe("gatehouse/gh-2/command", "gatehouse/gh-2/reply", "gatehouse/+/command", "gatehouse/#", "#",
                        "gatehouse/gh-1/command")  # fmt: skip
        victim.publish("gatehouse/gh-2/reply", b"secret")
        host.publish("gatehouse/gh-2/command", b"secret")
        host.publish("gatehouse/gh-1/command", b"end")
        assert thief.get() == ("gatehouse/gh-1/command", b"end")


@needs_mosquitto
def test_who_is_nobody_stays_outside(running, item, authority, tmp_path):
    with pytest.raises(ConnectionRefusedError):
        Client(running, authority, None, "nobody")
    stranger = shop.make(tmp_path / "stranger")
    context = ssl.create_default_context(cafile=item.ca / "ca.pem")
    context.load_cert_chain(stranger.ca / "host.pem", stranger.ca / "host-key.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # with 1.3 a client hears of it only when it reads
    with socket.create_connection(("127.0.0.1", running.port)) as raw, pytest.raises(OSError):
        context.wrap_socket(raw, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", running.port)) as raw:  # plain MQTT
        raw.settimeout(WAIT)
        raw.sendall(b"\x10\x10\0\x04MQTT\x04\x02\0\0\0\x04host")
        with contextlib.suppress(ConnectionResetError):
            assert not raw.recv(4).startswith(b"\x20")


@needs_mosquitto
def test_an_offer_outlives_the_broker(item, authority, tmp_path):
    data, port = tmp_path / "data", brokers.free_port()
    data.mkdir()
    words = ("--dir", tmp_path / "conf", "--listen", "127.0.0.1", "--port", port, "--data", data, *OPTIONS)
    assert shop.run("broker-config", "--product", item.root, *words).code == 0
    config = tmp_path / "conf" / "mosquitto.conf"
    with mosquitto(config, port) as broker, Client(broker, authority, "host") as client:
        client.publish("gatehouse/gh-1/offer", b"envelope", retain=True)
    with mosquitto(config, port) as broker, Client(broker, authority, "gh-1") as device:
        device.subscribe("gatehouse/gh-1/offer")
        assert device.get() == ("gatehouse/gh-1/offer", b"envelope")
    shutil.rmtree(data)
