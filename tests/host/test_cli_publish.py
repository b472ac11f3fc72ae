"""`gatehouse publish`: what is offered reaches the device through a real broker; what would be refused is not sent."""

import contextlib
import queue
import socket
import threading

import pytest
import shop
from paho.mqtt import client as mqtt

from gatehouse_tools import broker as brokers
from gatehouse_tools import ca, identity, keys, product, publish, releases, suit, topics
from gatehouse_tools.broker import Broker

WAIT = 30.0


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    """A product with two releases and two devices, one of them in group "green"."""
    item = shop.make(tmp_path_factory.mktemp("product") / "shop")
    board = item.board()
    shop.release(item, "1.0.0")
    wifi = identity.Credentials(*identity.SIMULATED_WIFI)
    for name, groups in (("gh-1", ["green", "all"]), ("gh-2", ["all"])):
        identity.provision(item, board, releases.load(item, board), identity.Config(groups=groups), wifi, name)
    shop.release(item, "1.1.0")
    return item


@pytest.fixture(scope="module")
def broker(item, tmp_path_factory):
    kind = "mosquitto" if brokers.mosquitto() else "amqtt"
    folder = tmp_path_factory.mktemp("broker")
    with Broker(folder, item.ca / "ca.pem", item.ca / "broker.pem", item.ca / "broker-key.pem", kind=kind) as running:
        yield running


@contextlib.contextmanager
def device(item, broker, tmp_path, name, *filters):
    """What is delivered to a device, as (topic, payload, retained), in a queue."""
    folder = tmp_path / "device"
    folder.mkdir(exist_ok=True)
    ca._save(folder, name, ca.Authority(item.ca).issue(name))
    got: queue.Queue[tuple[str, bytes | bytearray, bool]] = queue.Queue()
    ready = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name)
    client.tls_set(item.ca / "ca.pem", folder / f"{name}.pem", folder / f"{name}-key.pem")
    client.on_message = lambda _c, _d, message: got.put((message.topic, message.payload, message.retain))
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", broker.port)
    client.subscribe([(filter_, 1) for filter_ in filters])
    client.loop_start()
    try:
        assert ready.wait(WAIT)
        yield got
    finally:
        client.disconnect()
        client.loop_stop()
        for path in folder.iterdir():
            path.unlink()


def call(item, broker, *arguments):
    where = [] if broker is None else ["--broker", f"localhost:{broker.port}"]
    return shop.run("publish", "--product", item.root, *where, *arguments)


def suits(item, version="1.1.0"):
    return item.dist / f"shop-{version}.suit"


OFFER = topics.topic("offer", id="gh-1")


# What is sent.


def test_an_offer_waits_for_the_device(item, broker, tmp_path):
    done = call(item, broker, suits(item), "--device", "gh-1", "--json")
    assert done.code == 0, done.err
    assert done.json["topics"] == [OFFER]
    assert done.json["sequence"] == item.last_sequence()
    with device(item, broker, tmp_path, "gh-1", OFFER) as got:
        assert got.get(timeout=WAIT) == (OFFER, suits(item).read_bytes(), True)
    with device(item, broker, tmp_path, "gh-2", OFFER) as got, pytest.raises(queue.Empty):
        call(item, broker, suits(item), "--device", "gh-1")
        got.get(timeout=0.3)  # the broker keeps it from another device


def test_an_offer_reaches_a_connected_device_and_its_group(item, broker, tmp_path):
    group = topics.topic("group-offer", group="green")
    with device(item, broker, tmp_path, "gh-2", group) as got:
        done = call(item, broker, suits(item), "--group", "green", "--device", "gh-2")
        assert done.code == 0, done.err
        assert done.out.count("acknowledged") == 2 and "sequence" in done.out
        assert got.get(timeout=WAIT)[:2] == (group, suits(item).read_bytes())
    assert call(item, broker, "--clear", "--group", "green").code == 0


def test_a_cleared_offer_is_gone(item, broker, tmp_path):
    assert call(item, broker, suits(item), "--device", "gh-1").code == 0
    done = call(item, broker, "--clear", "--device", "gh-1")
    assert done.code == 0 and "cleared" in done.out
    with device(item, broker, tmp_path, "gh-1", OFFER) as got, pytest.raises(queue.Empty):
        got.get(timeout=0.3)


def test_forced_all_the_same(item, broker, tmp_path):
    made = shop.release(item, "6.6.6", signers=[keys.generate()])
    done = call(item, broker, made.envelope, "--device", "gh-1", "--force")
    assert done.code == 0
    assert "warning: sent all the same" in done.err and "known key" in done.err
    with device(item, broker, tmp_path, "gh-1", OFFER) as got:
        assert got.get(timeout=WAIT)[1] == made.envelope.read_bytes()
    assert call(item, broker, "--clear", "--device", "gh-1").code == 0
    assert call(item, broker, suits(item), "--device", "gh-nobody", "--group", "none", "--force").code == 0


# What is not sent. No broker is asked in these: the port is one where nobody listens.


def changed(item, at):
    data = bytearray(suits(item).read_bytes())
    data[at] ^= 1
    path = item.dist / "changed.suit"
    path.write_bytes(data)
    return path


def cut(item):
    path = item.dist / "cut.suit"
    path.write_bytes(suits(item).read_bytes()[:-10])
    return path


def other(item, name, vendor=None, board=None, signer=None, sequence=None, **more):
    """An envelope over the newest release's pack that differs from it in just what is given."""
    facts = releases.facts(suit.parse(suits(item).read_bytes()))
    app = suit.Component("app", facts["digest"], facts["size"], facts["uri"], **more)
    ids = vendor or item.vendor_id.bytes, board or item.class_id(item.board()).bytes
    path = item.dist / name
    data = suit.build_envelope(sequence or item.last_sequence(), [app], *ids, [signer or item.signer("release")])
    path.write_bytes(data)
    return path


def without_pack(item):
    path = item.dist / "alone"
    path.mkdir(exist_ok=True)
    (path / "shop-1.1.0.suit").write_bytes(suits(item).read_bytes())
    return path / "shop-1.1.0.suit"


def with_damaged_pack(item):
    path = without_pack(item)
    data = bytearray((item.dist / "shop-1.1.0.pack").read_bytes())
    data[-3] ^= 1
    (path.parent / "shop-1.1.0.pack").write_bytes(data)
    return path


REFUSED = {
    "stranger's key": (lambda item: other(item, "s.suit", signer=keys.generate()), "[key]"),
    "one bit of the signature": (lambda item: changed(item, 100), "["),
    "one bit of the manifest": (lambda item: changed(item, 250), "[digest]"),
    "cut": (cut, "[format]"),
    "other board": (lambda item: other(item, "b.suit", board=b"\1" * 16), "[class]"),
    "other vendor": (lambda item: other(item, "v.suit", vendor=b"\1" * 16), "[vendor]"),
    "one other device": (lambda item: other(item, "d.suit", device_id=b"\1" * 16), "[device]"),
    "older than the factory's": (lambda item: other(item, "o.suit", sequence=7), "[sequence]"),
    "expired": (lambda item: other(item, "e.suit", use_before=1_700_000_000), "[expired]"),
    "no pack": (without_pack, "expected beside it"),
    "damaged pack": (with_damaged_pack, "[digest]"),
    "a pack in its place": (lambda item: item.dist / "shop-1.1.0.pack", "[format]"),
    "not there": (lambda item: item.dist / "none.suit", "No such file"),
    "a folder": (lambda item: item.dist, "is a folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_devices_would_refuse_is_not_sent(item, monkeypatch, name):
    def never(*_):
        raise AssertionError("sent")

    monkeypatch.setattr(publish, "send", never)
    prepare, word = REFUSED[name]
    call(item, None, prepare(item), "--device", "gh-1").refused(1, word)


def test_the_honest_twin_is_sent(item, monkeypatch):
    sent = []
    monkeypatch.setattr(
        publish, "send", lambda _item, host, port, messages, _step: sent.extend([host, port, *messages])
    )
    path = other(item, "good.suit", use_before=4_000_000_000)
    done = call(item, None, path, "--group", "all")
    assert done.code == 0, done.err
    assert sent == ["localhost", 8883, (topics.topic("group-offer", group="all"), path.read_bytes())]


def test_a_group_in_which_some_would_refuse_it_is_warned_about(item, monkeypatch):
    monkeypatch.setattr(publish, "send", lambda *_: None)
    number = item.device_facts("gh-1")["uuid"]
    path = other(item, "one.suit", device_id=publish.uuid.UUID(number).bytes)
    done = call(item, None, path, "--group", "all")
    assert done.code == 0
    assert done.err == "warning: gh-2 will refuse it: device\n"
    call(item, None, path, "--device", "gh-2").refused(1, "for nobody", "[device]")


def test_an_envelope_larger_than_devices_take(item):
    path = item.dist / "large.suit"
    component = suit.Component("config", payload=bytes(9000))
    signer = item.signer("operator")
    path.write_bytes(
        suit.build_envelope(7, [component], item.vendor_id.bytes, item.class_id(item.board()).bytes, [signer])
    )
    call(item, None, path, "--device", "gh-1").refused(1, "devices take 8192", "[size]")


CALLS = {
    "nobody named": (["{suit}"], 2, "--device ID or --group NAME"),
    "nothing named": (["--device", "gh-1"], 2, "the FILE to offer, or --clear"),
    "both": (["{suit}", "--clear", "--device", "gh-1"], 2, "the FILE to offer, or --clear"),
    "unknown device": (["{suit}", "--device", "gh-9"], 1, "no device 'gh-9' (known: gh-1, gh-2)"),
    "no device's name": (["{suit}", "--device", "a/#", "--force"], 1, "no device 'a/#'"),
    "unknown group": (["{suit}", "--group", "blue"], 1, "no device of shop is in group 'blue'"),
    "group with a wildcard": (["{suit}", "--group", "a/+", "--force"], 2, "group 'a/+'"),
    "broker": (["{suit}", "--device", "gh-1", "--broker", "a:b"], 2, "broker 'a:b'"),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls(item, name):
    arguments, code, word = CALLS[name]
    call(item, None, *[one.format(suit=suits(item)) for one in arguments]).refused(code, word)


# Brokers that are not there, or are not ours.


def test_nobody_listens(item):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        call(item, None, suits(item), "--device", "gh-1", "--broker", f"127.0.0.1:{port}").refused(
            1, "nothing listens there", "[network]"
        )


def test_no_such_host(item, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    call(item, None, suits(item), "--device", "gh-1", "--broker", "x.invalid").refused(1, "no such host", "[network]")


@contextlib.contextmanager
def listener(answer):
    """A server that does `answer(connection)` with the first who connects; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(WAIT)


def test_a_server_that_speaks_no_tls(item):
    with listener(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        call(item, None, suits(item), "--device", "gh-1", "--broker", f"localhost:{port}").refused(1, "TLS")


def test_a_server_that_never_answers(item, monkeypatch):
    monkeypatch.setattr(publish, "_CONNECT_S", 0.2)
    stop = threading.Event()
    with listener(lambda _: stop.wait(WAIT)) as port:
        call(item, None, suits(item), "--device", "gh-1", "--broker", f"localhost:{port}").refused(
            1, "no answer within"
        )
        stop.set()


def test_another_products_broker(item, tmp_path):
    other = shop.make(tmp_path / "other")
    with Broker(tmp_path, other.ca / "ca.pem", other.ca / "broker.pem", other.ca / "broker-key.pem") as foreign:
        call(item, foreign, suits(item), "--device", "gh-1").refused(1, "certificate does not hold here", "[network]")
        # A host that trusts that broker, but is not trusted by it.
        ours = product.Product(item.root)
        (tmp_path / "mixed").mkdir()
        for path in ours.ca.iterdir():
            (tmp_path / "mixed" / path.name).write_bytes(path.read_bytes())
        (tmp_path / "mixed" / "ca.pem").write_bytes((other.ca / "ca.pem").read_bytes())
        ours.ca = tmp_path / "mixed"
        with pytest.raises(publish.GatehouseError) as caught:
            publish.send(ours, "localhost", foreign.port, [(OFFER, b"x")])
        assert caught.value.reason == "network" and "ca/host.pem" in str(caught.value)


def test_the_hosts_certificate_is_needed(tmp_path):
    item = shop.make(tmp_path / "shop")
    made = shop.release(item, "1.0.0")
    wifi = identity.Credentials(*identity.SIMULATED_WIFI)
    identity.provision(item, item.board(), releases.load(item, item.board()), identity.Config(), wifi, "gh-1")
    (item.ca / "host-key.pem").write_text("x")
    call(item, None, made.envelope, "--device", "gh-1").refused(1, "damaged", "[key]")
    (item.ca / "host-key.pem").unlink()
    call(item, None, made.envelope, "--device", "gh-1").refused(1, "host-key.pem is missing", "[key]")
    (item.devices / "gh-1" / "device.json").write_text('{"id": "gh-1"}')
    call(item, None, made.envelope, "--device", "gh-1").refused(1, "device.json is damaged", "restore it")


# Packs over MQTT.


@pytest.fixture(scope="module")
def blocks_device(item):
    """A device that looks for packs on the broker."""
    wifi = identity.Credentials(*identity.SIMULATED_WIFI)
    config = identity.Config(groups=["mixed"], base_url="mqtt:")
    board = item.board()
    identity.provision(item, board, releases.load(item, board, suits(item, "1.0.0")), config, wifi, "gh-blocks")
    config = identity.Config(groups=["mixed"], base_url="http://localhost/")
    identity.provision(item, board, releases.load(item, board, suits(item, "1.0.0")), config, wifi, "gh-server")
    return "gh-blocks"


def test_blocks_are_there_before_the_offer_and_gone_after_clear(item, broker, tmp_path, blocks_device):
    offer = topics.topic("offer", id=blocks_device)
    data = suits(item).with_suffix(".pack").read_bytes()
    digest = releases.facts(suit.parse(suits(item).read_bytes()))["digest"].hex()
    count = -(-len(data) // 2048)
    with device(item, broker, tmp_path, blocks_device, offer, f"gatehouse/block/{digest}/+") as got:
        done = call(item, broker, suits(item), "--device", blocks_device, "--over", "mqtt", "--json")
        assert done.code == 0, done.err
        assert (done.json["blocks"], done.json["topics"]) == (count, [offer])
        messages = [got.get(timeout=WAIT) for _ in range(count + 1)]
    assert [name for name, _, _ in messages] == [f"gatehouse/block/{digest}/{n}" for n in range(count)] + [offer]
    assert b"".join(payload for _, payload, _ in messages[:-1]) == data
    assert {len(payload) for _, payload, _ in messages[:-2]} <= {2048}
    with device(item, broker, tmp_path, blocks_device, f"gatehouse/block/{digest}/0") as got:
        assert got.get(timeout=WAIT) == (f"gatehouse/block/{digest}/0", data[:2048], True)
    done = call(item, broker, suits(item), "--device", blocks_device, "--over", "mqtt", "--clear")
    assert done.code == 0 and f"cleared  {count} blocks" in done.out, done.err
    gone = pytest.raises(queue.Empty)
    with device(item, broker, tmp_path, blocks_device, offer, f"gatehouse/block/{digest}/+") as got, gone:
        got.get(timeout=0.3)


def test_who_looks_elsewhere_is_not_offered_a_pack_over_mqtt(item, broker, blocks_device):
    told = "gh-server fetches packs from http://localhost/, not over MQTT"
    for target in (["--device", "gh-server"], ["--group", "mixed"]):
        call(item, broker, suits(item), *target, "--over", "mqtt").refused(1, told, "--over mqtt")
    done = call(item, broker, suits(item), "--device", blocks_device)
    assert done.code == 0 and "gh-blocks takes packs over MQTT" in done.err
    done = call(item, broker, suits(item), "--device", "gh-server")
    assert done.code == 0 and "MQTT" not in done.err
    done = call(item, broker, suits(item), "--device", "gh-server", "--over", "mqtt", "--force")
    assert done.code == 0 and "sent all the same" in done.err
    call(item, broker, suits(item), "--device", "gh-server", "--over", "mqtt", "--clear")


def test_clear_over_mqtt_needs_the_file(item, broker):
    call(item, broker, "--clear", "--device", "gh-1", "--over", "mqtt").refused(2, "FILE")
    call(item, broker, suits(item), "--clear", "--device", "gh-1").refused(2, "--clear")


def test_several_messages_are_under_way_and_each_is_acknowledged(item, broker):
    steps = []
    sent = [(f"gatehouse/gh-1/window/{number}", b"x") for number in range(50)]
    publish.send(item, "localhost", broker.port, sent, lambda: steps.append(1))
    assert len(steps) == 50
    publish.send(item, "localhost", broker.port, [(name, b"") for name, _ in sent])
