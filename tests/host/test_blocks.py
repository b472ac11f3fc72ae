"""Packs as retained blocks: from Mosquitto and amqtt, and from brokers that do everything wrong."""

import hashlib
import os
import pathlib

import pytest

from gatehouse_tools import broker as brokers
from gatehouse_tools import core, publish
from gatehouse_tools.broker import Broker
from servers import device
from servers.mqtt import Observer, Peer, RawBroker, message
from test_link import CLIENTS, Pki

BLOCK = core.block_size()
DIGEST = bytes(range(0xE0, 0x100))
PACK = os.urandom(5 * BLOCK + 700)
ID = "gh-1"
OFFER = f"gatehouse/{ID}/offer"
PATIENT = {"WAIT_MS": 5000}
HASTY = {"WAIT_MS": 150, "ANSWER_MS": 150}

pytestmark = pytest.mark.skipif(not CLIENTS, reason="no umqtt.simple in build/umqtt")


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda folder: pathlib.Path(folder).name)
def umqtt(request):
    return request.param


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


def topic(number, digest=DIGEST):
    return publish.topics.topic("block", digest=digest.hex(), n=number)


def fetch(umqtt, port, *steps, tls=None, limits=PATIENT, digest=DIGEST, uri="demo.pack", base="mqtt:"):
    broker = {"host": "localhost", "port": port, "id": ID, "tls": tls, "subscriptions": [OFFER]}
    job = {"uri": uri, "base": base, "digest": digest.hex(), "mqtt": broker, "limits": limits, "steps": steps}
    return device.run("fetch.py", job, before=[umqtt], timeout=30)


def check(result, *spans):
    data = b"".join(PACK[start:end] for start, end in spans)
    assert (result["reason"], result["length"]) == (None, len(data)), result
    assert result["sha256"] == hashlib.sha256(data).hexdigest()


ALL = (["open", 0, len(PACK)], ["all"])


# Real brokers, with TLS, certificates and the product's access list.


@pytest.fixture(scope="module", params=["mosquitto", "amqtt"])
def broker(request, tmp_path_factory, pki):
    if request.param == "mosquitto" and not brokers.mosquitto():
        pytest.skip("Mosquitto is not installed")
    with Broker(tmp_path_factory.mktemp("broker"), *pki.files, kind=request.param) as running:
        with Observer(running.port, *pki.host, "none") as host:
            for name, payload in publish.block_messages(DIGEST, PACK):
                host.publish(name, payload, True)
        yield running


def test_a_pack_comes_in_blocks_and_in_ranges(umqtt, broker, pki):
    result = fetch(umqtt, broker.port, ["mark"], *ALL, tls=pki.tls())
    check(result, (0, len(PACK)))
    assert result["received"] == len(PACK), "each block once"
    assert (result["messages"], result["failures"]) == ([], {}), "no block reached the handler of offers"
    assert result["ticks"] >= 5, "others had their turn between the blocks"
    steps = (
        *(["open", 100, 300], ["all"], ["open", 300, 2100], ["all"], ["open", 5000, None], ["all"]),
        *(["close"], ["open", 0, None], ["skip", 3000], ["read", 7]),
    )
    result = fetch(umqtt, broker.port, *steps, tls=pki.tls(), uri="mqtt:", base="")
    check(result, (100, 2100), (5000, len(PACK)), (3000, 3007))
    assert result["received"] == len(PACK) + BLOCK, "what is here is not asked for again, until it is closed"


def test_what_is_not_there(umqtt, broker, pki):
    missing = fetch(umqtt, broker.port, *ALL, tls=pki.tls(), limits={"WAIT_MS": 150}, digest=b"\1" * 32)
    assert (missing["reason"], missing["failures"]) == ("timeout", {}), missing
    for start, end, steps in (
        (0, len(PACK) + 1, (["all"],)),
        (len(PACK) + 1, None, (["all"],)),
        (0, 10, (["skip", 11],)),
    ):
        assert fetch(umqtt, broker.port, ["open", start, end], *steps, tls=pki.tls())["reason"] == "size"
    check(fetch(umqtt, broker.port, ["open", len(PACK) - 1, None], ["all"], tls=pki.tls()), (len(PACK) - 1, len(PACK)))


def test_blocks_of_a_wrong_size(umqtt, broker, pki):
    with Observer(broker.port, *pki.host, "none") as host:
        for digest, length, reason in (
            (b"\2" * 32, BLOCK - 1, "size"),
            (b"\3" * 32, BLOCK + 1, "size"),
            (b"\4" * 32, 9000, "timeout"),  # not even read
            (b"\5" * 32, BLOCK, None),
        ):
            host.publish(topic(0, digest), bytes(length), True)
            host.publish(topic(1, digest), b"end", True)
            result = fetch(
                umqtt,
                broker.port,
                ["open", 0, BLOCK + 3],
                ["all"],
                tls=pki.tls(),
                digest=digest,
                limits={"WAIT_MS": 300},
            )
            assert result["reason"] == reason, (length, result)


# Brokers that are written out here. Each case is what the first session meets when it subscribes to a block.


def block_of(body):
    length = int.from_bytes(body[2:4], "big")
    return body[4 : 4 + length].decode()


def suback(body):
    return b"\x90\x03" + body[:2] + b"\0"


def honest(peer, limit=1 << 30):
    """Serve blocks as a broker does; the first `limit` of them."""
    while True:
        found = peer.packet()
        kind, body = found[0], found[2]
        if kind == 8 and "block" in block_of(body) and limit > 0:
            limit -= 1
            name = block_of(body)
            number = int(name.rsplit("/", 1)[1])
            peer.send(suback(body) + message(name, PACK[number * BLOCK : (number + 1) * BLOCK]))
        elif kind == 8 and "block" in block_of(body):
            return found
        elif kind == 10:
            peer.send(b"\xb0\x02" + body[:2])
        else:
            peer.answer(found)


def says(answer, then=Peer.rest):
    def case(peer):
        _, _, body = honest(peer, 2)
        peer.send(answer(body))
        then(peer)

    return case


def says_at_unsubscribe(answer):
    def case(peer):
        _, _, body = honest(peer, 2)
        peer.send(suback(body) + message(block_of(body), PACK[2 * BLOCK : 3 * BLOCK]))
        while peer.packet()[0] != 10:
            pass
        peer.send(answer(peer.packets[-1][2]))
        peer.rest()

    return case


def floods(peer):
    honest(peer, 2)
    while True:
        peer.send(message(OFFER, b"x"))


def floods_after_suback(peer):
    _, _, body = honest(peer, 2)
    peer.send(suback(body))
    while True:
        peer.send(message(topic(7), b"x" * 100))


def cut(peer):
    honest(peer, 2)


CASES = {
    "honest": (None, honest),
    "closes": ("network", cut),
    "no SUBACK": ("network", says(lambda body: b"")),
    "SUBACK and no block": ("timeout", says(suback, honest)),
    "refuses": ("network", says(lambda body: b"\x90\x03" + body[:2] + b"\x80")),
    "SUBACK of another packet": ("network", says(lambda body: b"\x90\x03\xff\xff\0")),
    "half a block": ("network", says(lambda body: suback(body) + message(block_of(body), PACK[:BLOCK])[:-9])),
    "another block": ("timeout", says(lambda body: suback(body) + message(topic(0), PACK[:BLOCK]), honest)),
    "a block of gigabytes": (
        "network",
        says(lambda body: suback(body) + message(block_of(body), b"x" * 900, length=(1 << 28) - 1)),
    ),
    "no UNSUBACK": ("network", says_at_unsubscribe(lambda body: b"")),
    "UNSUBACK of another packet": ("network", says_at_unsubscribe(lambda body: b"\xb0\x02\xff\xff")),
    "long UNSUBACK": ("network", says_at_unsubscribe(lambda body: b"\xb0\x7f" + body[:2])),
    "floods": ("network", floods),
    "floods with other blocks": ("network", floods_after_suback),
}


@pytest.mark.parametrize("name", CASES)
def test_broker_that_misbehaves_while_a_pack_comes(umqtt, name):
    reason, case = CASES[name]
    sessions = []

    def serve(peer):
        sessions.append(peer)
        (case if len(sessions) == 1 else honest)(peer)

    with RawBroker(serve) as raw:
        result = fetch(umqtt, raw.port, *ALL, limits=PATIENT if name == "honest" else HASTY)
    assert result["reason"] == reason, result
    assert "block" not in "".join(result["messages"])
    if not reason:
        check(result, (0, len(PACK)))
        assert len(sessions) == 1
    else:
        assert result["received"] == 2 * BLOCK
        assert result["ms"] < 3000
        # A session that is in the middle of something is ended, and the link opens another.
        assert len(sessions) == (2 if reason == "network" else 1)
