"""The device's link against real brokers: Mosquitto with TLS and client certificates, and brokers that misbehave."""

import os
import pathlib
import socket
import ssl
import threading
import time

import pytest

from gatehouse_tools import broker as broker_module
from gatehouse_tools import ca
from gatehouse_tools.broker import Broker
from servers import device
from servers.mqtt import Observer, Peer, RawBroker, message, remaining

ROOT = pathlib.Path(__file__).resolve().parents[2]
# umqtt.simple as set-up fetches it (1.3.4), and other versions where the environment names folders that have umqtt/.
CLIENTS = [str(ROOT / "build" / "umqtt"), *filter(None, os.environ.get("GATEHOUSE_UMQTT", "").split(os.pathsep))]
CLIENTS = [folder for folder in CLIENTS if pathlib.Path(folder, "umqtt", "simple.py").is_file()]
ID = "gh-1"
STATUS, REPLY, OFFER, SUMMARY = (f"gatehouse/{ID}/{name}" for name in ("status", "reply", "offer", "summary"))
# Real waiting is short; what must not happen gets time enough that a busy machine is no reason for it.
QUICK = {"FIRST_RETRY_MS": 40, "LAST_RETRY_MS": 80, "POLL_MS": 5}
HASTY = {**QUICK, "CONNECT_MS": 150, "ANSWER_MS": 150, "DIAL_MS": 300}

pytestmark = pytest.mark.skipif(not CLIENTS, reason="no umqtt.simple in build/umqtt")


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda folder: pathlib.Path(folder).name)
def umqtt(request):
    return request.param


class Pki:
    """A product's certificates; tls() gives a device's (authority, certificate, key) in DER, as hex for its job."""

    def __init__(self, folder):
        ca.create(folder, "test")
        self.folder = folder
        self.authority = ca.Authority(folder)
        self.files = folder / "ca.pem", folder / "broker.pem", folder / "broker-key.pem"
        self.host = folder / "ca.pem", folder / "host.pem", folder / "host-key.pem"

    def tls(self, name=ID, authority=None):
        issued = self.authority.issue(name)
        found = ca.der((authority or self.authority).certificate), issued.cert_der(), issued.key_der()
        return [item.hex() for item in found]


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("strangers"))


def mosquitto(folder, pki, port=0):
    if not broker_module.mosquitto():
        pytest.skip("Mosquitto is not installed")
    return Broker(folder, *pki.files, kind="mosquitto", port=port)


@pytest.fixture
def broker(tmp_path, pki):
    with mosquitto(tmp_path, pki) as running:
        yield running


@pytest.fixture
def observer(broker, pki):
    with Observer(broker.port, *pki.host, "gatehouse/#") as found:
        yield found


def session(umqtt, port, tls=None, limits=QUICK, host="127.0.0.1", **more):
    job = {"host": host, "port": port, "id": ID, "tls": tls, "limits": limits, **more}
    return device.Session("mqtt_link.py", job, before=[umqtt])


def until(link, **wanted):
    """The first state that has what is wanted."""
    end = time.monotonic() + 20
    while True:
        state = link.ask("state")
        state["failed"] = sum(state["failures"].values())
        if all(state[name] == value for name, value in wanted.items()):
            return state
        assert time.monotonic() < end, state


# A real broker.


def test_birth_and_will(umqtt, broker, observer, pki):
    with session(umqtt, broker.port, pki.tls()) as link:
        assert observer.get() == (STATUS, b"online", False)
        assert observer.get() == (SUMMARY, b"{}", False)  # what on_connect sends comes behind it
        with Observer(broker.port, *pki.host, STATUS) as late:
            assert late.get() == (STATUS, b"online", True)
        link.process.kill()
        assert observer.get() == (STATUS, b"offline", False)
        link.process.wait()
        link.process.returncode = 0


def test_close_says_offline_and_farewell(umqtt, broker, observer, pki):
    with session(umqtt, broker.port, pki.tls()) as link:
        observer.until(STATUS, b"online")
        link.tell("close")
        observer.until(STATUS, b"offline")
        observer.nothing()  # no will on top of it
        state = until(link, connected=False)
        assert (state["failures"], state["connects"]) == ({}, 1)


def test_cancelled_run_leaves_no_connection(umqtt, broker, observer, pki):
    with session(umqtt, broker.port, pki.tls()) as link:
        observer.until(STATUS, b"online")
        link.tell("cancel")
        observer.until(STATUS, b"offline")
        assert until(link, connected=False)["failures"] == {}


def test_a_topic_more_and_less(umqtt, broker, observer, pki):
    command = f"gatehouse/{ID}/command"
    with session(umqtt, broker.port, pki.tls(), subscriptions=[OFFER]) as link:
        link.get("connect")
        observer.publish(command, b"unheard")
        link.tell("follow", command, True)
        assert link.get("connect") == [2]
        observer.publish(command, b"heard")
        assert link.get("message") == [command, 5, "heard", "bytes"]
        link.tell("follow", command, True)  # as it is: no reason for another session
        link.tell("follow", command, False)
        assert link.get("connect") == [3]
        observer.publish(command, b"unheard")
        observer.publish(OFFER, b"heard")
        assert link.get("message") == [OFFER, 5, "heard", "bytes"]
        assert link.ask("state")["failures"] == {}
    statuses = []
    while len(statuses) < 4:  # online three times, and offline only when the script was at its end
        topic, payload, _ = observer.get()
        statuses += [payload] if topic == STATUS else []
    assert statuses == [b"online"] * 3 + [b"offline"]


@pytest.mark.parametrize("qos", [0, 1])
def test_messages_of_every_size_arrive_whole(umqtt, broker, observer, pki, qos):
    # Around the buffer of 1,400 bytes, with and without the header's 25 to 29 bytes, and a TLS record of 16 KB.
    sizes = (0, 1, 100, 1370, 1371, 1372, 1373, 1374, 1375, 1376, 1399, 1400, 1401, 2800, 4000, 20000)
    with session(umqtt, broker.port, pki.tls()) as link:
        observer.until(SUMMARY, b"{}")
        for size in sizes:
            link.tell("publish", REPLY, "x" * size, False, qos)
            assert observer.get() == (REPLY, b"x" * size, False)
        assert link.ask("state")["connects"] == 1


def test_acknowledged_publishes_do_not_wait_for_each_others_segments(umqtt, broker, observer, pki):
    with session(umqtt, broker.port, pki.tls()) as link:
        link.get("connect")
        for size in (100, 3000):
            answers = []
            for _ in range(20):
                link.tell("acked", REPLY, "x" * size, 10000)
                answers.append(link.get("acked"))
            assert all(answer for answer, _ in answers)
            # A segment held back by Nagle's algorithm until a delayed ACK costs 40 ms, every time.
            assert sorted(ms for _, ms in answers)[10] < 30


def test_retained_offer_and_a_later_one_reach_the_handler(umqtt, broker, observer, pki):
    observer.publish(OFFER, b"first", retain=True)
    group = "gatehouse/group/all/offer"
    with session(umqtt, broker.port, pki.tls(), subscriptions=[OFFER, group]) as link:
        assert link.get("message") == [OFFER, 5, "first", "bytes"]
        link.get("connect")
        observer.publish(group, b"x" * 8192)
        assert link.get("message") == [group, 8192, "x" * 40, "bytes"]
        observer.publish(OFFER, b"")
        assert link.get("message") == [OFFER, 0, "", "bytes"]


def test_a_message_that_the_broker_kept_is_told_from_one_that_somebody_sends_now(umqtt, broker, observer, pki):
    group = "gatehouse/group/all/offer"
    observer.publish(OFFER, b"kept", retain=True)
    with session(umqtt, broker.port, pki.tls(), subscriptions=[OFFER, group]) as link:
        assert link.get("retained") == [OFFER]  # while the session was being opened
        assert link.get("message")[2] == "kept"
        link.get("connect")
        observer.publish(OFFER, b"now", retain=True)
        assert link.get("message")[2] == "now"
        link.tell("renew")
        assert link.get("retained") == [OFFER]
        observer.publish(group, b"end")
        while link.get("message")[2] != "end":
            pass
        assert [event for event in link.seen if event[0] == "retained"] == []
    observer.publish(OFFER, b"", retain=True)


def test_oversize_messages_are_drained_and_counted(umqtt, broker, observer, pki):
    observer.publish(OFFER, b"x" * 200000, retain=True)  # a pack, published by mistake as an offer
    with session(umqtt, broker.port, pki.tls(), subscriptions=[OFFER]) as link:
        until(link, connected=True)
        observer.publish(OFFER, b"y" * 8193)
        observer.publish(OFFER, b"z" * 8192)
        assert link.get("message") == [OFFER, 8192, "z" * 40, "bytes"]
        state = link.ask("state")
        assert (state["oversize"], state["connects"], state["failures"]) == (2, 1, {})


def test_message_that_finds_no_memory_is_passed_over_and_comes_again(umqtt, broker, observer, pki):
    with session(umqtt, broker.port, pki.tls(), subscriptions=[OFFER]) as link:
        until(link, connected=True)
        assert link.ask("room", False) == [True, True, False]
        observer.publish(OFFER, b"x" * 8000, retain=True)
        until(link, oversize=1)
        observer.publish(OFFER, b"small")
        assert link.get("message") == [OFFER, 5, "small", "bytes"]
        link.ask("room", True)
        link.tell("renew")
        assert link.get("message") == [OFFER, 8000, "x" * 40, "bytes"]
        state = link.ask("state")
        assert (state["connects"], state["failures"]) == (1, {})


def test_handler_may_publish_and_may_be_wrong(umqtt, broker, observer, pki):
    with session(umqtt, broker.port, pki.tls(), subscriptions=[OFFER]) as link:
        link.get("connect")
        observer.until(SUMMARY, b"{}")
        observer.publish(OFFER, b"wrong")
        assert observer.get()[:2] == (OFFER, b"wrong")
        observer.publish(OFFER, b"publish")
        assert observer.get()[:2] == (OFFER, b"publish")
        assert [observer.get()[:2] for _ in range(2)] == [(REPLY, f"from the handler {qos}".encode()) for qos in (0, 1)]
        state = link.ask("state")
        assert (state["connects"], state["failures"]) == (1, {"handler": 1})
        # Without memory nothing is sure any more: that session ends, and the next begins.
        observer.publish(OFFER, b"memory")
        until(link, connects=2)
        assert link.ask("state")["failures"] == {"handler": 1, "memory": 1}


def test_broker_away_and_back(umqtt, tmp_path, pki):
    with mosquitto(tmp_path, pki) as running:
        port = running.port
        with session(umqtt, port, pki.tls(), subscriptions=[OFFER]) as link:
            link.get("connect")
            running.stop()
            until(link, connected=False)
            link.tell("acked", REPLY, "unheard", 100)
            answer, ms = link.get("acked")
            assert not answer
            assert 100 <= ms < 5000
            link.tell("publish", SUMMARY, "while away", True, 1)
            with mosquitto(tmp_path, pki, port), Observer(port, *pki.host, "gatehouse/#") as observer:
                observer.until(STATUS, b"online")
                observer.until(SUMMARY, b"{}")  # on_connect's is the newest
                link.tell("acked", REPLY, "heard", 10000)
                assert link.get("acked")[0]
                # Subscribed anew, too.
                observer.publish(OFFER, b"hello")
                assert link.get("message")[0] == OFFER
                state = link.ask("state")
                assert (state["queued"], state["bytes"], state["connects"]) == (0, 0, 2)
                assert set(state["failures"]) <= {"network", "tls"}


def test_what_could_not_be_sent_is_kept_in_order_and_counted(umqtt):
    away = threading.Event()
    back = threading.Event()

    def case(peer):
        if not away.is_set():
            peer.welcome()
            away.set()
        elif back.is_set():
            peer.serve()

    with RawBroker(case) as server, session(umqtt, server.port) as link:
        assert away.wait(20)
        until(link, connected=False)
        for number in range(20):
            link.tell("publish", REPLY, f"reading {number}", False, 0)
            link.tell("publish", SUMMARY, f"summary {number}", True, 0)
        state = link.ask("state")
        # 16 places: the newest summary and the 15 newest readings.
        assert (state["queued"], state["dropped"]) == (16, 5)
        back.set()
        state = until(link, connected=True, queued=0)
        assert (state["bytes"], state["dropped"]) == (0, 5)
        link.tell("acked", REPLY, "last", 10000)
        assert link.get("acked")[0]
        published = [body for kind, _, body in server.peers[-1].packets if kind == 3]
    heard = [body.split(b"reply")[-1].split(b"summary")[-1] for body in published]
    # `online` first; on_connect's summary has taken the place of the kept one, behind the readings.
    expected = [f"reading {number}".encode() for number in range(5, 20)] + [b"{}"]
    assert heard[1:-1] == expected


def test_acknowledged_publish_waits_for_the_connection(umqtt, tmp_path, pki):
    port = broker_module.free_port()
    with session(umqtt, port, pki.tls()) as link:
        until(link, last="network")
        link.tell("acked", REPLY, "patience", 20000)
        with mosquitto(tmp_path, pki, port):
            assert link.get("acked")[0]


def test_only_the_right_broker_is_spoken_to(umqtt, tmp_path, pki, strangers):
    with mosquitto(tmp_path / "ours", pki) as ours, mosquitto(tmp_path / "theirs", strangers) as theirs:
        for port, tls, kinds in (
            (theirs.port, pki.tls(), {"tls"}),  # a broker of another authority
            (ours.port, strangers.tls(), {"tls"}),  # we are another house's device, and trust only that
            (ours.port, strangers.tls(authority=pki.authority), {"tls", "network"}),  # a stranger's certificate
        ):
            with session(umqtt, port, tls) as link:
                while (state := until(link, connected=False))["failed"] < 2:
                    pass
                # With TLS 1.3 the broker's alert can be overtaken by its reset.
                assert state["connects"] == 0 and set(state["failures"]) <= kinds, state
        with session(umqtt, ours.port, pki.tls(), host="localhost") as link:
            link.get("connect")


def test_certificate_for_another_host_is_refused(umqtt, pki, tmp_path):
    issued = pki.authority.issue("broker", ["elsewhere.example"], server=True)
    ca._save(tmp_path, "elsewhere", issued)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "elsewhere.pem", tmp_path / "elsewhere-key.pem")
    with RawBroker(lambda peer: peer.serve(), context) as server:
        with session(umqtt, server.port, pki.tls(), host="localhost") as link:
            assert until(link, last="tls")["connects"] == 0
        assert not server.peers


def test_broken_credentials_are_a_state_of_the_device(umqtt, pki):
    authority, certificate, _ = pki.tls()
    for tls in ([authority, certificate, "00"], [authority, "3000", "3000"], ["00", certificate, "00"]):
        with session(umqtt, 1, tls) as link:
            assert until(link, last="state")["connects"] == 0


# Brokers that misbehave. The first connection meets the misbehaviour, the next ones an honest broker, so that each case
# also shows that the device recovers by itself.


def misbehaving(umqtt, case, limits=HASTY, **more):
    """The state when the second connection stands, and what the broker saw."""
    first: list[Peer] = []

    def serve(peer):
        if not first:
            first.append(peer)
            case(peer)
        else:
            peer.serve()

    with RawBroker(serve) as server, session(umqtt, server.port, limits=limits, **more) as link:
        state = until(link, connected=True, failed=1)
        assert len(server.peers) == 2
        # The event loop is never held up for longer than an exchange may take, and no half message is delivered.
        assert state["slowest"] < 1500
        assert not [event for event in link.seen if event[0] == "message"]
    return state


def first_connection(answer):
    def case(peer):
        peer.packet()
        peer.send(answer)
        peer.rest()

    return case


def in_session(*packets):
    def case(peer):
        peer.welcome()
        for packet in packets:
            peer.send(packet)
        peer.rest()

    return case


def closes(peer):
    peer.packet()


def closes_within_a_packet(peer):
    peer.welcome()
    peer.send(message(OFFER, b"x" * 100)[:-50])


def no_puback(peer):
    # The device's own `online` is the first publish.
    peer.until(3)
    peer.rest()


def trickle(peer):
    # Each byte comes in time; the whole never does.
    peer.welcome()
    for byte in message(OFFER, b"x" * 8000):
        peer.send(bytes([byte]))
        time.sleep(0.02)


CASES = {
    "silent after accept": ("timeout", lambda peer: peer.rest()),
    "closes at once": ("network", lambda peer: None),
    "closes after CONNECT": ("network", closes),
    "CONNACK refuses": ("refused", first_connection(b"\x20\x02\0\x05")),
    "CONNACK of another type": ("protocol", first_connection(b"\x30\x02\0\0")),
    "half a CONNACK": ("timeout", first_connection(b"\x20\x02")),
    "PUBACK withheld": ("timeout", no_puback),
    "closes within a packet": ("network", closes_within_a_packet),
    "a trickle": ("timeout", trickle),
    "256 MB": ("protocol", in_session(b"\x30\xff\xff\xff\x7f")),
    "256 MB with a topic": ("protocol", in_session(message(OFFER, b"", length=268435455))),
    "2 MB": ("protocol", in_session(message(OFFER, b"", length=2 << 20))),
    "length of five bytes": ("protocol", in_session(b"\x30\xff\xff\xff\xff\x01")),
    "small length that goes on": ("protocol", in_session(b"\x30\x85\x80\x80\x80\0\x01abc")),
    "unending length": ("protocol", in_session(b"\x30" + b"\x80" * 100)),
    "more announced than sent": ("timeout", in_session(message(OFFER, b"x", length=5000))),
    "topic beyond the packet": ("protocol", in_session(b"\x30\x04\xff\xffab")),
    "no topic": ("protocol", in_session(b"\x30\x03\0\0x")),
    "empty PUBLISH": ("protocol", in_session(b"\x30\0")),
    "QoS 1 without packet id": ("protocol", in_session(b"\x32\x03\0\x01a")),
    "QoS 2": ("protocol", in_session(b"\x34\x0a\0\x01a\0\x01xxxxx")),
    "QoS 3": ("protocol", in_session(b"\x36\x0a\0\x01a\0\x01xxxxx")),
    "CONNECT": ("protocol", in_session(b"\x10\0")),
    "CONNECT like a message": ("protocol", in_session(b"\x10\x04\0\x01ab")),
    "PUBACK of nothing": ("protocol", in_session(b"\x40\x02\0\x01")),
    "PINGRESP with a body": ("protocol", in_session(b"\xd0\x01x")),
    "garbage": ("protocol", in_session(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
}


@pytest.mark.parametrize("name", CASES)
def test_misbehaving_broker(umqtt, name):
    kind, case = CASES[name]
    state = misbehaving(umqtt, case)
    assert state["failures"] == {kind: 1}, state


def test_subscription_that_the_broker_refuses(umqtt):
    def case(peer):
        packet = peer.until(8)
        peer.send(b"\x90\x03" + packet[2][:2] + b"\x80")
        peer.rest()

    assert misbehaving(umqtt, case, subscriptions=[OFFER])["failures"] == {"refused": 1}


def test_honest_broker_twin(umqtt):
    def case(peer):
        peer.welcome()
        peer.send(message(OFFER, b"x", 7))
        peer.send(message("t" * 129, b"a long topic", 8) + message(OFFER, b"y") + b"\xd0\0")
        peer.serve()

    with RawBroker(case) as server, session(umqtt, server.port, limits=HASTY) as link:
        assert link.get("message") == [OFFER, 1, "x", "bytes"]
        assert link.get("message") == [OFFER, 1, "y", "bytes"]
        state = link.ask("state")
        assert (state["failures"], state["oversize"], state["connects"]) == ({}, 1, 1)
        pubacks: list[bytes] = []
        while len(pubacks) < 2:
            pubacks = [body for kind, _, body in server.peers[0].packets if kind == 4]
        assert pubacks == [b"\0\x07", b"\0\x08"]


def test_tls_that_never_answers(umqtt, pki):
    silent = RawBroker(lambda peer: peer.rest())
    with silent as server, session(umqtt, server.port, pki.tls(), limits=HASTY) as link:
        assert until(link, last="timeout")["slowest"] < 1500


def test_nobody_accepts_and_the_loop_goes_on(umqtt):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        limits = {**HASTY, "DIAL_MS": 1000}
        with socket.create_connection(address), session(umqtt, address[1], limits=limits) as link:
            assert until(link, last="timeout")["slowest"] < 700


def test_connect_packet(umqtt):
    with RawBroker(lambda peer: peer.serve()) as server:
        with session(umqtt, server.port, user="me", password="se\xe9cret", keepalive=77, subscriptions=[OFFER]) as link:
            link.get("connect")
        packets = server.peers[0].packets
    strings = (ID, STATUS, "offline", "me", "se\xe9cret")
    # Clean session, will retained at QoS 1, user and password; keepalive.
    head = b"\0\4MQTT\4" + bytes([0x02 | 0x04 | 0x08 | 0x20 | 0xC0]) + (77).to_bytes(2, "big")
    assert packets[0] == (1, 0, head + b"".join(len(s.encode()).to_bytes(2, "big") + s.encode() for s in strings))
    assert packets[1][0] == 8
    assert packets[1][2][2:] == len(OFFER).to_bytes(2, "big") + OFFER.encode() + b"\x01"
    assert packets[2][:2] == (3, 0b0011)  # PUBLISH, QoS 1, retained


def test_packet_ids_wrap_before_zero(umqtt):
    with RawBroker(lambda peer: peer.serve()) as server, session(umqtt, server.port) as link:
        link.get("connect")
        link.tell("pid", 65533)
        for _ in range(4):
            link.tell("acked", "t", "", 5000)
            assert link.get("acked")[0]
        ids = [int.from_bytes(body[-2:], "big") for kind, _, body in server.peers[0].packets if kind == 3]
    assert ids[-4:] == [65534, 65535, 1, 2]


def test_each_message_is_one_write(umqtt):
    pieces = []
    came = threading.Event()

    def case(peer):
        peer.welcome()
        peer.packet()  # the summary
        while data := peer.connection.recv(65536):
            pieces.append(data)
            came.set()  # the next is not sent before: two that come together are read together
            if data[0] == 0x32:
                peer.send(b"\x40\x02" + data[-2:])

    with RawBroker(case) as server, session(umqtt, server.port) as link:
        link.get("connect")
        link.tell("publish", "topic", "x" * 100, False, 0)
        assert came.wait(20), "the first message did not come"
        link.tell("acked", "topic", "", 5000)
        assert link.get("acked")[0]
    assert [len(piece) for piece in pieces] == [2 + 2 + 5 + 100, 2 + 2 + 5 + 2]


def test_keepalive_pings_and_notices_when_they_are_not_answered(umqtt):
    pings = []

    def case(peer):
        while True:
            found = peer.packet()
            if found[0] == 12:
                pings.append(found)
                if len(pings) == 3:
                    peer.rest()
            peer.answer(found)

    with RawBroker(case) as server, session(umqtt, server.port, keepalive=1) as link:
        state = until(link, last="timeout")
        assert state["failures"] == {"timeout": 1}
        assert len(pings) == 3
        link.get("connect")


def test_a_broker_that_reads_nothing_holds_the_loop_up_for_one_exchange_only(umqtt):
    """As behind a half-open connection: what is written piles up until no kernel takes more."""
    done = threading.Event()
    deaf = []

    def case(peer):
        peer.welcome()
        if not deaf:
            deaf.append(peer)
            peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            done.wait(30)
        peer.serve()

    try:
        with RawBroker(case) as server, session(umqtt, server.port, limits=HASTY) as link:
            link.get("connect")
            link.ask("state")
            state = link.ask("state")
            while not state["failures"]:
                for _ in range(20):
                    link.tell("publish", "t", "x" * 60000, False, 0)
                state = link.ask("state")
            assert state["failures"] == {"timeout": 1} and state["slowest"] < 1500
            done.set()
            state = until(link, connected=True, queued=0)
            assert state["connects"] == 2 and state["bytes"] == 0
    finally:
        done.set()


def test_a_message_that_ends_every_session_is_given_up(umqtt):
    def case(peer):
        while True:
            found = peer.packet()
            if b"poison" in found[2]:
                return
            peer.answer(found)

    with RawBroker(case) as server, session(umqtt, server.port) as link:
        link.get("connect")
        link.tell("publish", "t", "poison", False, 1)
        link.tell("publish", "t", "honest", False, 1)
        while not any(b"honest" in body for peer in server.peers for _, _, body in peer.packets):
            link.ask("state")
        state = until(link, queued=0)
        assert (state["dropped"], state["failures"]) == (1, {"network": 3})


def test_remaining_length_as_the_standard_has_it():
    assert [remaining(n).hex() for n in (0, 127, 128, 16383, 16384, 268435455)] == [
        "00", "7f", "8001", "ff7f", "808001", "ffffff7f"]  # fmt: skip
