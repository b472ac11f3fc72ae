"""`gatehouse send` and `command-key` against a device that the test plays, on a real broker."""

import contextlib
import hashlib
import json
import queue
import stat
import threading

import cbor2
import pytest
import shop
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from paho.mqtt import client as mqtt

from gatehouse_tools import broker as brokers
from gatehouse_tools import ca, identity, lms_keys, releases, remote
from gatehouse_tools.broker import Broker
from gatehouse_tools.image import flash, nvs

WAIT = 30.0
COMMAND, REPLY, STATUS = (f"gatehouse/gh-1/{name}" for name in ("command", "reply", "status"))


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    item = shop.make(tmp_path_factory.mktemp("product") / "shop")
    shop.release(item, "1.0.0")
    wifi = identity.Credentials(*identity.SIMULATED_WIFI)
    for name in ("gh-1", "gh-2"):
        identity.provision(
            item, item.board(), releases.load(item, item.board()), identity.Config(groups=["all"]), wifi, name
        )
    ca._save(item.ca, "gh-1", ca.Authority(item.ca).issue("gh-1"))
    return item


@pytest.fixture(scope="module")
def broker(item, tmp_path_factory):
    kind = "mosquitto" if brokers.mosquitto() else "amqtt"
    folder = tmp_path_factory.mktemp("broker")
    with Broker(folder, item.ca / "ca.pem", item.ca / "broker.pem", item.ca / "broker-key.pem", kind=kind) as running:
        yield running


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """The user's counters, new for each test."""
    monkeypatch.setenv(lms_keys.STATE_HOME, str(tmp_path / "state"))
    return tmp_path / "state" / "gatehouse" / "commands"


def device_key(item, name="gh-1"):
    parts = flash.take_apart((item.devices / name / "flash.bin").read_bytes())
    return nvs.read_nvs(parts["nvs"][1])["gatehouse"]["device_key"]


def derived(item, role="operator", client="host", epoch=0):
    """The key of docs/commands.md, written a second time."""
    info = cbor2.dumps(["gatehouse/1", "command", role, client, epoch])
    return HKDF(hashes.SHA256(), 32, None, info).derive(device_key(item))


def sealed(key, kid, payload, external):
    body = cbor2.dumps(payload, canonical=True)
    state = hmac.HMAC(key, hashes.SHA256())
    state.update(cbor2.dumps(["MAC0", b"\xa1\x01\x05", external, body]))
    return cbor2.dumps(cbor2.CBORTag(17, [b"\xa1\x01\x05", {4: kid}, body, state.finalize()]))


class Device:
    """gh-1 as the broker sees it: `asked` has (key id, payload, message) of what came, `replies` makes the answers."""

    def __init__(self, item, broker, replies):
        self.asked = queue.Queue()
        self._replies = replies
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="gh-1")
        self._client.tls_set(item.ca / "ca.pem", item.ca / "gh-1.pem", item.ca / "gh-1-key.pem")
        self._client.on_message = self._message
        ready = threading.Event()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("127.0.0.1", broker.port)
        self._client.subscribe(COMMAND, 1)
        self._client.loop_start()
        assert ready.wait(WAIT)
        self.say(STATUS, b"online", True)

    def say(self, topic, payload, retain=False):
        return self._client.publish(topic, payload, 1, retain)

    def _message(self, _client, _data, one):
        message = cbor2.loads(one.payload)
        protected, unprotected, body, _ = message.value
        assert (message.tag, protected) == (17, b"\xa1\x01\x05")
        payload = cbor2.loads(body)
        self.asked.put((unprotected[4], payload, one.payload))
        for reply in self._replies(unprotected[4], payload, one.payload):
            self.say(REPLY, reply)

    def close(self):
        self._client.publish(STATUS, b"", 1, True).wait_for_publish(WAIT)
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def play(item, broker):
    """play(replies) makes the device; replies(kid, payload, message) gives the messages that it answers."""
    with contextlib.ExitStack() as stack:

        def made(replies):
            device = Device(item, broker, replies)
            stack.callback(device.close)
            return device

        yield made


def honest(item, **fields):
    """What a good device answers: its result, or `fields` such as r3=["denied", ""]."""

    def replies(kid, payload, message):
        role, client = kid.decode().split("/")
        told: dict[int, object] = {1: hashlib.sha256(message).digest()}
        told |= {int(name[1:]): value for name, value in fields.items()} or {2: {"did": payload[4], "raw": b"\x01"}}
        return [sealed(derived(item, role, client), kid, told, b"gatehouse/1 reply")]

    return replies


def send(item, broker, *words, device="gh-1", timeout=WAIT):
    where = ["--product", item.root, "--broker", f"localhost:{broker.port}", "--timeout", timeout]
    return shop.run("send", device, *words, *where)


# What is sent, and what is believed.


def test_a_command_and_its_answer(item, broker, play):
    device = play(honest(item))
    done = send(item, broker, "identify", "seconds=5", "name=roof", "on=true", "list=[1, 2]", "--json")
    assert done.code == 0, done.err
    kid, payload, message = device.asked.get(timeout=WAIT)
    assert kid == b"operator/host" and sorted(payload) == [1, 2, 3, 4, 5]
    assert (payload[1], payload[4]) == ("gh-1", "identify") and len(payload[3]) == 8
    assert payload[5] == {"seconds": 5, "name": "roof", "on": True, "list": [1, 2]}
    assert message == sealed(derived(item), kid, payload, b"gatehouse/1 command")
    told = {"device": "gh-1", "operation": "identify", "role": "operator", "client": "host", "counter": payload[2]}
    assert done.json == {"ok": True, **told, "result": {"did": "identify", "raw": "01"}}
    done = send(item, broker, "state", "--role", "owner", "--client", "desk")
    assert done.code == 0 and "state" in done.out
    assert device.asked.get(timeout=WAIT)[0] == b"owner/desk"


def test_each_command_has_a_higher_counter_and_a_new_request_id(item, broker, play):
    device = play(honest(item))
    for _ in range(3):
        assert send(item, broker, "state").code == 0
    asked = [device.asked.get(timeout=WAIT)[1] for _ in range(3)]
    assert asked[0][2] < asked[1][2] < asked[2][2]
    assert len({payload[3] for payload in asked}) == 3


def test_a_refusal_is_the_answer_no(item, broker, play):
    play(honest(item, r3=["denied", "reboot is for operator"]))
    done = send(item, broker, "reboot", "--role", "viewer")
    done.refused(1, "gh-1 refuses reboot as viewer", "reboot is for operator", "[denied]")


@pytest.mark.parametrize("forgery", ["key", "request", "kid", "direction", "reflected", "format", "fields", "huge"])
def test_what_is_not_the_answer_is_no_answer(item, broker, play, forgery):
    def forged(kid, payload, message):
        digest = {1: hashlib.sha256(message).digest()}
        good = {**digest, 2: {"forged": True}}
        key, external = derived(item), b"gatehouse/1 reply"
        return {
            "key": [sealed(derived(item, "viewer"), kid, good, external)],
            "request": [sealed(key, kid, {**good, 1: hashlib.sha256(b"").digest()}, external)],
            "kid": [sealed(key, b"owner/host", good, external)],
            "direction": [sealed(key, kid, good, b"gatehouse/1 command")],
            "reflected": [message],
            "format": [b"", b"\xff", cbor2.dumps(good)],
            "fields": [sealed(key, kid, digest, external), sealed(key, kid, [], external)],
            "huge": [sealed(key, kid, {**good, 2: {"x": "x" * 5000}}, external)],
        }[forgery]

    play(forged)
    done = send(item, broker, "state", timeout=0.7)
    done.refused(1, "no answer from gh-1 within 0.7 s", "other message", "[timeout]")


def test_a_forgery_before_the_answer_does_not_hide_it(item, broker, play):
    good = honest(item)
    play(lambda *asked: [sealed(b"?" * 32, b"operator/host", {1: b""}, b"gatehouse/1 reply"), *good(*asked)])
    assert send(item, broker, "state").code == 0


def test_no_answer_says_what_may_be(item, broker, play):
    send(item, broker, "state", timeout=0.3).refused(1, "the broker says it is unknown", "gatehouse watch", "[timeout]")
    device = play(lambda *_: [])
    send(item, broker, "state", timeout=0.3).refused(1, "it is online", "owner epoch than this key (0)", "[timeout]")
    device.say(STATUS, b"offline", True).wait_for_publish(WAIT)
    send(item, broker, "state", timeout=0.3).refused(1, "it is offline", "[timeout]")


def test_no_broker(item, tmp_path):
    done = shop.run("send", "gh-1", "state", "--product", item.root, "--broker", f"localhost:{brokers.free_port()}")
    done.refused(1, "nothing listens there", "[network]")


# The counter.


def counters(state):
    return [json.loads(path.read_text())["counter"] for path in state.glob("*.json")]


def test_the_counter_is_on_the_disk_before_anything_is_sent(item, broker, play, state, monkeypatch):
    device = play(honest(item))
    real = lms_keys.write_synced

    def full(path, data, failed="x"):
        raise remote.GatehouseError(f"{path}: No space left on device; {failed}")

    monkeypatch.setattr(lms_keys, "write_synced", full)
    send(item, broker, "reboot").refused(1, "nothing was sent")
    seen = []

    def noted(path, data, failed="x"):
        real(path, data, failed)
        seen.append(device.asked.qsize())

    monkeypatch.setattr(lms_keys, "write_synced", noted)
    assert send(item, broker, "state").code == 0
    assert seen == [0], "the command went out before its counter was on the disk"
    assert device.asked.get(timeout=WAIT)[1][4] == "state" and device.asked.empty()
    assert counters(state)


def test_a_counter_that_was_used_is_not_used_again(item, broker, play, state):
    device = play(lambda *_: [])  # the answer is lost
    send(item, broker, "reboot", timeout=0.2).refused(1, "[timeout]")
    send(item, broker, "reboot", timeout=0.2).refused(1, "[timeout]")
    first, second = (device.asked.get(timeout=WAIT)[1][2] for _ in range(2))
    assert first < second == counters(state)[0]


def test_a_lost_counter_begins_with_the_time(item, broker, play, state, monkeypatch):
    device = play(honest(item))
    monkeypatch.setattr(remote.time, "time", lambda: 1_800_000_000.9)
    for _ in range(2):
        assert send(item, broker, "state").code == 0
    for path in state.glob("*.json"):
        path.unlink()
    monkeypatch.setattr(remote.time, "time", lambda: 1_800_000_050.0)
    assert send(item, broker, "state").code == 0
    asked = [device.asked.get(timeout=WAIT)[1][2] for _ in range(3)]
    assert asked == [1_800_000_000, 1_800_000_001, 1_800_000_050]


def test_a_device_that_has_seen_more_says_so_and_the_next_one_is_above(item, broker, play, state):
    ahead = 2**40
    device = play(honest(item, r3=["counter", "not above the last one"], r4=ahead))
    done = send(item, broker, "reboot")
    done.refused(1, "nothing was done", f"it has seen {ahead} from operator/host", "send it again", "[counter]")
    assert counters(state) == [ahead]
    device.asked.get(timeout=WAIT)
    send(item, broker, "reboot").refused(1, "nothing was done")
    assert device.asked.get(timeout=WAIT)[1][2] == ahead + 1


def test_a_command_that_was_taken_before_its_answer_is_not_told_as_undone(item, broker, play):
    def replies(kid, payload, message):
        told = {1: hashlib.sha256(message).digest(), 3: ["counter", ""], 4: payload[2]}
        return [sealed(derived(item), kid, told, b"gatehouse/1 reply")]

    play(replies)
    send(item, broker, "reboot").refused(1, "it has taken this command already", "[counter]")


def test_each_key_has_a_counter_of_its_own(item, broker, play, state):
    play(honest(item))
    for words in ((), ("--role", "owner"), ("--client", "desk")):
        assert send(item, broker, "state", *words).code == 0
    assert len(counters(state)) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}


def test_a_damaged_counter_sends_nothing(item, broker, play, state):
    device = play(honest(item))
    assert send(item, broker, "state").code == 0
    [path] = state.glob("*.json")
    for text in ("", "[]", '{"counter": "7"}', '{"counter": -1}', '{"counter": true}'):
        path.write_text(text)
        send(item, broker, "state").refused(1, "is damaged: remove it", "[counter]")
    path.write_text(json.dumps({"counter": 2**53 - 1}))
    send(item, broker, "state").refused(1, "used up", "another --client", "[counter]")
    assert device.asked.qsize() == 1


def test_one_process_at_a_time_has_the_counter(item):
    key = remote.derive(item, "gh-1", "operator", "host")
    order = []

    def second():
        with remote.Counter(key).alone() as counter:
            order.append(("second", counter.next()))

    with remote.Counter(key).alone() as counter:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append(("first", counter.next()))
    thread.join(WAIT)
    assert [name for name, _ in order] == ["first", "second"] and order[0][1] < order[1][1]


# Keys.


def test_a_key_for_a_person_who_must_not_have_the_device_key(item, broker, play, tmp_path):
    path = tmp_path / "anna.json"
    words = ("--role", "operator", "--client", "anna", "--product", item.root, "--out", path)
    done = shop.run("command-key", "gh-1", *words)
    assert done.code == 0, done.err
    found = json.loads(path.read_text())
    assert bytes.fromhex(found["key"]) == derived(item, "operator", "anna")
    assert device_key(item).hex() not in path.read_text() and stat.S_IMODE(path.stat().st_mode) == 0o600
    shop.run("command-key", "gh-1", *words).refused(1, "exists already", "never overwritten")
    device = play(honest(item))
    assert send(item, broker, "state", "--key", path).code == 0
    assert device.asked.get(timeout=WAIT)[0] == b"operator/anna"
    send(item, broker, "state", "--key", path, "--role", "owner").refused(2, "leave out the options")
    send(item, broker, "state", "--key", path, device="gh-2").refused(2, "is a key for gh-1, not for gh-2")


def test_keys_differ_in_device_role_client_and_epoch(item):
    key = remote.derive(item, "gh-1", "operator", "host")
    assert key.key == derived(item) and key.epoch == 0
    others = [
        remote.derive(item, "gh-2", "operator", "host"),
        remote.derive(item, "gh-1", "owner", "host"),
        remote.derive(item, "gh-1", "operator", "desk"),
        remote.derive(item, "gh-1", "operator", "host", 1),
    ]
    assert len({one.key for one in [key, *others]}) == 5
    assert others[3].key == derived(item, epoch=1)


@pytest.mark.parametrize(
    "change",
    [{"format": "x"}, {"role": "admin"}, {"client": "a/b"}, {"client": 1}, {"device": "a/b"}, {"key": "00"},
     {"epoch": -1}, {"key": "?"}, {"role": None}],
)  # fmt: skip
def test_a_file_that_is_no_command_key(item, broker, tmp_path, change):
    path = tmp_path / "key.json"
    remote.derive(item, "gh-1", "viewer", "anna").save(path)
    assert remote.load_key(path).client == "anna"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    send(item, broker, "state", "--key", path).refused(1, "is no command key", "[key]")


def test_without_the_image_a_key_file_is_needed(item, broker, tmp_path):
    image = item.devices / "gh-2" / "flash.bin"
    path = tmp_path / "key.json"
    remote.derive(item, "gh-2", "viewer", "anna").save(path)
    data = image.read_bytes()
    image.unlink()
    try:
        send(item, broker, "state", device="gh-2").refused(1, "--key FILE", "command-key", "[key]")
        send(item, broker, "state", "--key", path, device="gh-2", timeout=0.2).refused(1, "[timeout]")
    finally:
        image.write_bytes(data)


# Usage.


def test_wrong_usage(item, broker):
    for words, told in (
        (("state", "seconds"), "is not NAME=VALUE"),
        (("state", "a=1", "a=2"), "given twice"),
        (("state", "a=1.5"), "argument a"),
        (("state", "a={b = 1}"), "argument a"),
        (("state", "a=" + "x" * 600), "devices take 512"),
        (("state", "--client", "a b"), "client 'a b'"),
        (("state", "--client", "x" * 17), "1 to 16"),
        (("state", "--role", "admin"), "admin"),
    ):
        send(item, broker, *words).refused(2, told)
    send(item, broker, "state", device="gh-9").refused(1, "has no device 'gh-9'")
