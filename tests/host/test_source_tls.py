"""The device's HTTPS source: which servers it believes, and how long it waits for one that does not shake hands."""

import socket
import threading

import pytest
from pki import Authority

from servers.web import PAYLOAD, WebServer
from test_source import HASTY, PATIENT, check, fetch


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("strangers"))


def honest(peer):
    while asked := peer.request():
        peer.partial(asked[1], asked[2])


def secure(case, context, *authorities, host="127.0.0.1", limits=PATIENT, scheme="https", steps=()):
    with WebServer(case, context) as server:
        return fetch(
            f"{scheme}://{host}:{server.port}/a.pack",
            *steps,
            limits=limits,
            authorities=[item.der.hex() for item in authorities],
        )


def test_a_server_of_the_products_authority(pki, strangers):
    for host in ("127.0.0.1", "localhost"):
        result = secure(honest, pki.context("localhost", "127.0.0.1"), pki, host=host)
        check(result, (0, 20000))
    # Two authorities, as in the middle of a rotation.
    check(secure(honest, pki.context("127.0.0.1"), strangers, pki), (0, 20000))


CERTIFICATES = {
    "another authority's": lambda pki, strangers: strangers.context("127.0.0.1"),
    "expired": lambda pki, strangers: pki.context("127.0.0.1", days=-0.5),
    "another address's": lambda pki, strangers: pki.context("127.0.0.2"),
    "another host's": lambda pki, strangers: pki.context("localhost"),
    "nobody's in particular": lambda pki, strangers: pki.context(),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_that_does_not_hold(pki, strangers, name):
    asked = []

    def case(peer):
        asked.append(peer.request())
        peer.partial(0, len(PAYLOAD))

    result = secure(case, CERTIFICATES[name](pki, strangers), pki)
    assert (result["reason"], result["length"]) == ("tls", 0), result
    assert not any(asked), "not even the request was told to it"


def test_nobody_is_believed_without_an_authority(pki):
    assert secure(honest, pki.context("127.0.0.1"))["reason"] == "tls"
    with WebServer(honest, pki.context("127.0.0.1")) as server:
        result = fetch(f"https://127.0.0.1:{server.port}/", limits=PATIENT, authorities=["3000"])
        assert result["reason"] == "state", "what is no certificate is the device's own fault"


def test_no_tls_where_it_is_expected_and_none_is_spoken_to_it(pki):
    heard = []

    def plain(peer):
        heard.append(peer.connection.recv(4096))
        peer.partial(0, len(PAYLOAD))
        peer.rest()

    assert secure(plain, None, pki)["reason"] == "tls"
    assert len(heard) == 1 and b"GET" not in heard[0] and heard[0][:1] == b"\x16", "a handshake and nothing else"
    check(secure(honest, None, pki, scheme="http"), (0, 20000))


def test_tls_where_none_is_expected(pki):
    assert secure(honest, pki.context("127.0.0.1"), pki, scheme="http")["reason"] in ("http", "network")


def raw(case):
    """A TCP server that does not shake hands; returns the device's result."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                case(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        result = fetch(f"https://127.0.0.1:{port}/a.pack", limits=HASTY, authorities=[])
        thread.join(5)
    return result


def silent(connection):
    while connection.recv(4096):
        pass


def trickles(connection):
    # A record of a handshake that is announced as long and comes one byte at a time.
    connection.sendall(b"\x16\x03\x03\x3f\xff\x02\0\x3f\xfb")
    connection.settimeout(0.005)
    try:
        while True:
            connection.sendall(b"\0")
            try:
                if not connection.recv(4096):
                    return
            except TimeoutError:
                pass
    except OSError:
        pass


@pytest.mark.parametrize("case", [silent, trickles])
def test_a_handshake_that_does_not_end_is_given_up_while_others_run(case):
    result = raw(case)
    assert result["reason"] == "timeout", result
    assert 300 <= result["ms"] < 5000
    assert result["ticks"] > 20


def test_closed_within_the_handshake():
    assert raw(lambda connection: connection.recv(10))["reason"] == "network"


def test_redirects_never_lead_out_of_tls(pki):
    context = pki.context("127.0.0.1")
    with WebServer(honest) as plain, WebServer(honest, context) as other:

        def to(url):
            def case(peer):
                peer.request()
                peer.send(f"HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n")
                peer.rest()

            return case

        for url in (f"http://127.0.0.1:{plain.port}/a.pack", f"HTTP://127.0.0.1:{plain.port}/a.pack"):
            assert secure(to(url), context, pki)["reason"] == "http"
        assert not plain.peers
        for scheme, first in (("https", context), ("http", None)):
            for spelling in ("https", "HTTPS"):
                url = f"{spelling}://127.0.0.1:{other.port}/a.pack"
                check(secure(to(url), first, pki, scheme=scheme), (0, 20000))
        # Nor do they lead to blocks over MQTT.
        assert secure(to("mqtt:"), context, pki)["reason"] == "format"


def test_ranges_share_one_handshake_and_a_closed_connection_is_opened_again(pki):
    def once(peer):
        for _ in range(2):
            if asked := peer.request():
                peer.partial(asked[1], asked[2])

    with WebServer(once, pki.context("127.0.0.1")) as server:
        steps = [["open", 0, 10], ["all"], ["open", 10, 20], ["all"], ["busy", 30], ["open", 20, 30], ["all"]]
        result = fetch(f"https://127.0.0.1:{server.port}/", *steps, authorities=[pki.der.hex()])
        check(result, (0, 30))
        assert len(server.peers) == 2
