"""The device's HTTP source against real servers, plain and TLS: honest ones, and some that do everything wrong."""

import hashlib
import socket

import pytest
from pki import Authority

from gatehouse_tools.serve import StaticServer
from servers import device
from servers.web import PAYLOAD, WebServer

# Short enough that nobody waits, long enough that a busy machine does not fail an honest server by them.
PATIENT = {"CONNECT_MS": 5000, "STALL_MS": 5000, "WINDOW_MS": 5000, "TICK_MS": 20}
HASTY = {"CONNECT_MS": 300, "STALL_MS": 300, "WINDOW_MS": 80, "TICK_MS": 10, "LEAST_RATE": 5000}
# Without a stall limit, so that only the rate can be the reason.
RATE = {**HASTY, "STALL_MS": 20000}


def fetch(uri, *steps, base="", limits=PATIENT, **more):
    steps = steps or (["open", 0, len(PAYLOAD)], ["all"])
    return device.run("fetch.py", {"uri": uri, "base": base, "limits": limits, "steps": steps, **more})


def check(result, *spans):
    """The spans of PAYLOAD, and nothing else, were delivered without a refusal."""
    data = b"".join(PAYLOAD[start:end] for start, end in spans)
    assert (result["reason"], result["length"]) == (None, len(data)), result
    assert result["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(params=["http", "https"])
def against(request, pki):
    """Fetch from a server that does what `case` says, without TLS and with."""
    more = {} if request.param == "http" else {"authorities": [pki.der.hex()]}
    context = pki.context("127.0.0.1") if more else None

    def run(case, *steps, limits=PATIENT):
        with WebServer(case, context) as server:
            result = fetch(f"{request.param}://127.0.0.1:{server.port}/a.pack", *steps, limits=limits, **more)
            result["peers"] = len(server.peers)
        return result

    return run


@pytest.fixture
def packs(tmp_path):
    (tmp_path / "a.pack").write_bytes(PAYLOAD)
    with StaticServer(tmp_path) as server:
        yield server


# Honest servers.


def test_ranges_share_one_connection(packs):
    result = fetch(
        "a.pack", ["open", 0, 10], ["all"], ["open", 500, 5000], ["all"], ["open", 19000, None], ["all"], base=packs.url
    )
    check(result, (0, 10), (500, 5000), (19000, 20000))
    packs.stop()  # the log is complete then
    assert [(r.status, r.span) for r in packs.log] == [(206, (0, 10)), (206, (500, 5000)), (206, (19000, 20000))]
    assert len({r.client for r in packs.log}) == 1
    assert result["received"] == sum(r.head + r.body for r in packs.log)


def test_whole_file_skips_and_a_range_left_unread(packs):
    check(fetch(packs.url + "a.pack", ["open", 0, None], ["all"]), (0, 20000))
    check(
        fetch(packs.url + "a.pack", ["open", 0, None], ["read", 7], ["skip", 3000], ["read", 7]), (0, 7), (3007, 3014)
    )
    # What is left of the first answer must not be taken for the second.
    check(
        fetch(packs.url + "a.pack", ["open", 0, None], ["read", 7], ["open", 9000, 9100], ["all"]), (0, 7), (9000, 9100)
    )
    check(
        fetch(packs.url + "a.pack", ["open", 5, 25], ["read", 7], ["close"], ["open", 0, 2], ["all"]), (5, 12), (0, 2)
    )
    assert fetch(packs.url + "a.pack", ["open", 0, 10], ["skip", 11])["reason"] == "size"


def test_others_run_during_a_fast_transfer(packs):
    (packs.directory / "large").write_bytes(bytes(40000))
    # All of it has arrived before it is read, so no read has to wait.
    result = fetch(packs.url + "large", ["open", 0, 40000], ["busy", 100], ["mark"], ["all"])
    assert result["length"] == 40000
    assert result["ticks"] >= 3  # after every eighth read of 1 KB


def test_memory_does_not_grow_with_the_payload(packs):
    (packs.directory / "large").write_bytes(bytes(3000000))
    result = device.run(
        "fetch.py",
        {"uri": packs.url + "large", "base": "", "limits": PATIENT, "steps": [["open", 0, 3000000], ["all"]]},
        flags=("-X", "heapsize=160K"),
    )
    assert (result["reason"], result["length"]) == (None, 3000000)


def test_missing_file_and_range_beyond_the_end(packs):
    assert fetch(packs.url + "b.pack")["reason"] == "http"
    assert fetch(packs.url + "a.pack", ["open", 20000, 20010])["reason"] == "http"
    assert fetch(packs.url + "a.pack", ["open", 19990, 20010])["reason"] == "size"


def test_a_server_that_ignores_ranges_is_read_from_the_start(against):
    def case(peer):
        while peer.request():
            peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(PAYLOAD)}\r\n\r\n", PAYLOAD)

    check(against(case, ["open", 3000, 3100], ["all"], ["open", 15000, None], ["all"]), (3000, 3100), (15000, 20000))
    assert against(case, ["open", 3000, 3100], limits={**PATIENT, "MAX_SKIP": 2999})["reason"] == "http"
    assert against(case, ["open", 3000, 20001])["reason"] == "size"


@pytest.mark.parametrize("step", [1, 7, 1000, 30000])
def test_chunked(against, step):
    def case(peer):
        while peer.request():
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            pieces = (PAYLOAD[:2000][at : at + step] for at in range(0, 2000, step))
            body = b"".join(b"%x;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            peer.send(body, "0\r\nTrailer: x\r\n\r\n")

    result = against(case, ["open", 0, None], ["all"], ["open", 100, None], ["all"])
    check(result, (0, 2000), (100, 2000))
    assert result["peers"] == 1


def test_body_that_ends_with_the_connection(against):
    def case(peer):
        peer.request()
        peer.send("HTTP/1.0 200 OK\r\n\r\n", PAYLOAD)

    check(against(case, ["open", 0, None], ["all"]), (0, 20000))
    check(against(case, ["open", 10, 20], ["all"]), (10, 20))


def test_interim_responses_and_odd_spellings(against):
    def case(peer):
        peer.request()
        peer.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        peer.send(
            "HTTP/1.1 206 \r\nCONTENT-range:bytes 5-9/*\r\ncontent-LENGTH:   5  \nConnection: Close\r\n\r\n",
            PAYLOAD[5:10],
        )

    check(against(case, ["open", 5, 10], ["all"]), (5, 10))


def test_an_idle_connection_that_the_server_closed_is_opened_again(against):
    def case(peer):
        _, start, end = peer.request()
        peer.partial(start, end)

    result = against(case, ["open", 0, 10], ["all"], ["busy", 30], ["open", 10, 20], ["all"])
    check(result, (0, 20))
    assert result["peers"] == 2


def test_redirects_are_followed_three_times_and_no_more():
    def case(peer):
        while True:
            asked = peer.request()
            if not asked:
                return
            left = int(asked[0].rsplit("/", 1)[1])
            if left:
                # Relative and absolute paths both.
                peer.send(f"HTTP/1.1 302 Found\r\nLocation: {left - 1}\r\nContent-Length: 4\r\n\r\nmore")
            else:
                peer.partial(asked[1], asked[2])

    with WebServer(case) as server:
        base = f"http://127.0.0.1:{server.port}/r/"
        steps = (["open", 0, 10], ["all"], ["open", 10, 20], ["all"])
        check(fetch("3", *steps, base=base), (0, 20))
        assert len(server.peers) == 4  # the second range goes to where the first was found
        assert fetch("4", *steps, base=base)["reason"] == "http"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("/a.pack", "http"),  # a loop
        ("ftp://127.0.0.1/", "unsupported"),
        ("//elsewhere/a", "unsupported"),
        ("http://me:secret@127.0.0.1/", "unsupported"),
        ("/caf\xe9", "format"),
        ("/" + "x" * 600, "format"),
        ("", "unsupported"),
    ],
)
def test_redirect_to_nowhere(against, location, reason):
    def case(peer):
        while peer.request():
            peer.send(
                b"HTTP/1.1 302 Found\r\nLocation: " + location.encode("latin-1") + b"\r\nContent-Length: 0\r\n\r\n"
            )

    assert against(case)["reason"] == reason


# Servers that lie. Each case: what is sent after the head of a request for bytes 0 to 19999.

OK = "HTTP/1.1 206 OK\r\n"
RANGE = "Content-Range: bytes 0-19999/20000\r\n"
LENGTH = "Content-Length: 20000\r\n"
CHUNKS = b"4E20\r\n" + PAYLOAD + b"\r\n0\r\n\r\n"
LIES = {
    "honest": (None, OK + RANGE + LENGTH + "\r\n", PAYLOAD),
    "honest, in chunks": (None, OK + RANGE + "Transfer-Encoding: chunked\r\n\r\n", CHUNKS),
    "other range": ("http", OK + "Content-Range: bytes 1-20000/20001\r\n" + LENGTH + "\r\n", PAYLOAD),
    "other unit": ("http", OK + "Content-Range: lines 0-19999/20000\r\n" + LENGTH + "\r\n", PAYLOAD),
    "range without range": ("http", OK + LENGTH + "\r\n", PAYLOAD),
    "range beyond its total": ("http", OK + "Content-Range: bytes 0-19999/19999\r\n" + LENGTH + "\r\n", PAYLOAD),
    "range backwards": ("http", OK + "Content-Range: bytes 0--1/20000\r\n" + LENGTH + "\r\n", PAYLOAD),
    "shorter range": ("size", OK + "Content-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n", PAYLOAD[:10]),
    "longer range": ("size", OK + "Content-Range: bytes 0-29999/30000\r\nContent-Length: 30000\r\n\r\n", PAYLOAD),
    "length too long": ("size", OK + RANGE + "Content-Length: 20001\r\n\r\n", PAYLOAD + b"x"),
    "length too short": ("size", OK + RANGE + "Content-Length: 19999\r\n\r\n", PAYLOAD),
    "whole file too short": ("size", "HTTP/1.1 200 OK\r\nContent-Length: 19999\r\n\r\n", PAYLOAD),
    "two lengths": ("http", OK + RANGE + LENGTH + "Content-Length: 5\r\n\r\n", PAYLOAD),
    "negative length": ("http", OK + RANGE + "Content-Length: -1\r\n\r\n", PAYLOAD),
    "length with underscore": ("http", OK + RANGE + "Content-Length: 2_0000\r\n\r\n", PAYLOAD),
    "huge length": ("http", OK + RANGE + "Content-Length: " + "9" * 400 + "\r\n\r\n", PAYLOAD),
    "length and chunks": ("http", OK + RANGE + LENGTH + "Transfer-Encoding: chunked\r\n\r\n", CHUNKS),
    "unknown coding": ("http", OK + RANGE + "Transfer-Encoding: gzip, chunked\r\n\r\n", CHUNKS),
    "compressed": ("http", OK + RANGE + LENGTH + "Content-Encoding: gzip\r\n\r\n", PAYLOAD),
    "chunk length garbage": ("http", OK + RANGE + "Transfer-Encoding: chunked\r\n\r\n0x10\r\n", PAYLOAD),
    "chunk length negative": ("http", OK + RANGE + "Transfer-Encoding: chunked\r\n\r\n-5\r\n", PAYLOAD),
    "chunk length empty": ("http", OK + RANGE + "Transfer-Encoding: chunked\r\n\r\n\r\n", PAYLOAD),
    "chunk length huge": ("http", OK + RANGE + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFF\r\n", PAYLOAD),
    "chunk without its end": ("http", OK + RANGE + "Transfer-Encoding: chunked\r\n\r\n5\r\n", PAYLOAD),
    "chunk with something behind it": (
        "http",
        OK + RANGE + "Transfer-Encoding: chunked\r\n\r\n5\r\n",
        PAYLOAD[:5] + b"more\r\n4E1B\r\n" + PAYLOAD[5:] + b"\r\n0\r\n\r\n",
    ),
    "chunks end early": (
        "size",
        OK + RANGE + "Transfer-Encoding: chunked\r\n\r\n5\r\n",
        PAYLOAD[:5] + b"\r\n0\r\n\r\n",
    ),
    "status 204": ("http", "HTTP/1.1 204 No Content\r\n\r\n", b""),
    "status 500": ("http", "HTTP/1.1 500 Error\r\nContent-Length: 0\r\n\r\n", b""),
    "status 20": ("http", "HTTP/1.1 20 OK\r\n" + LENGTH + "\r\n", PAYLOAD),
    "no status": ("http", "HTTP/1.1\r\n\r\n", PAYLOAD),
    "another protocol": ("http", "SSH-2.0-OpenSSH_9.2\r\n", PAYLOAD),
    "HTTP/2": ("http", "HTTP/2 200 OK\r\n" + LENGTH + "\r\n", PAYLOAD),
    "header without colon": ("http", OK + RANGE + "garbage\r\n\r\n", PAYLOAD),
    "folded header": ("http", OK + RANGE + LENGTH + " more: of it\r\n\r\n", PAYLOAD),
    "long header line": ("http", OK + "X: " + "x" * 1100 + "\r\n" + RANGE + LENGTH + "\r\n", PAYLOAD),
    "long head": ("http", OK + "X: x\r\n" * 2000 + RANGE + LENGTH + "\r\n", PAYLOAD),
    "closed at once": ("network", "", b""),
    "closed within the head": ("network", OK + RANGE, b""),
    "closed early": ("network", OK + RANGE + LENGTH + "\r\n", PAYLOAD[:-1]),
    "closed within a chunk": ("network", OK + RANGE + "Transfer-Encoding: chunked\r\n\r\n4E20\r\n", PAYLOAD[:9]),
    "body without length ends early": ("network", "HTTP/1.1 200 OK\r\n\r\n", PAYLOAD[:-1]),
}


@pytest.mark.parametrize("name", LIES)
def test_lies(against, name):
    reason, head, body = LIES[name]

    def case(peer):
        peer.request()
        peer.send(head, body)

    result = against(case)
    assert result["reason"] == reason, result
    if not reason:
        check(result, (0, 20000))


def test_a_part_where_the_whole_was_asked_for(against):
    def case(peer):
        peer.request()
        peer.partial(0, len(PAYLOAD))

    assert against(case, ["open", 0, None], ["all"])["reason"] == "http"


# Servers that take all the time in the world, or all the bytes.


def endless(peer, head, piece):
    peer.request()
    peer.send(head)
    while True:
        peer.send(piece)


@pytest.mark.parametrize(
    ("head", "piece", "reason"),
    [
        ("", b"x" * 4096, "http"),
        ("HTTP/1.1 200 OK\r\n", b"X: y\r\n", "http"),
        ("", b"HTTP/1.1 100 Continue\r\n\r\n", "http"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 4096, "http"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", "http"),
    ],
)
def test_endless_head(against, head, piece, reason):
    result = against(lambda peer: endless(peer, head, piece), ["open", 0, None], ["read", 100])
    assert result["reason"] == reason
    assert result["received"] < 12000


@pytest.mark.parametrize("coding", ["X: y", "Transfer-Encoding: chunked"])
def test_endless_body_is_not_read_beyond_the_range(against, coding):
    piece = b"1000\r\n" + b"x" * 4096 + b"\r\n" if "chunked" in coding else b"x" * 4096
    result = against(
        lambda peer: endless(peer, f"HTTP/1.1 200 OK\r\n{coding}\r\n\r\n", piece), ["open", 0, 10000], ["all"], ["all"]
    )
    assert (result["reason"], result["length"]) == (None, 10000)
    assert result["received"] < 10000 + 1024 + 100


def silent(peer):
    peer.request()
    peer.rest()


def stalls(peer):
    _, start, end = peer.request()
    peer.send(f"HTTP/1.1 206 OK\r\nContent-Range: bytes {start}-{end - 1}/20000\r\n\r\n", PAYLOAD[:5000])
    peer.rest()


@pytest.mark.parametrize("case", [silent, stalls])
def test_silence_is_given_up(against, case):
    result = against(case, limits=HASTY)
    assert result["reason"] == "timeout"
    assert result["length"] in (0, 5000)
    assert 80 <= result["ms"] < 5000


def drip(peer, head):
    peer.request()
    peer.send(head)
    while True:
        peer.send(b"1")
        peer.connection.settimeout(0.005)
        try:
            if not peer.connection.recv(1):
                return
        except TimeoutError:
            pass


@pytest.mark.parametrize("head", ["HTTP/1.1 206 OK\r\n", "HTTP/1.1 206 OK\r\n" + RANGE + LENGTH + "\r\n"])
def test_a_trickle_is_given_up(against, head):
    result = against(lambda peer: drip(peer, head), limits=RATE)
    assert result["reason"] == "timeout"
    assert result["length"] < 5000


def test_the_same_trickle_is_taken_where_the_least_rate_allows_it(against):
    head = "HTTP/1.1 206 OK\r\n" + RANGE + LENGTH + "\r\n"
    result = against(lambda peer: drip(peer, head), ["open", 0, 20000], ["read", 40], limits={**RATE, "LEAST_RATE": 0})
    assert (result["reason"], result["length"]) == (None, 40)


def test_a_busy_caller_is_not_held_against_the_server(packs):
    steps = [["open", 0, 20000], ["read", 5], ["busy", 300], ["all"]]
    check(fetch(packs.url + "a.pack", *steps, limits=HASTY), (0, 20000))
    # Nor does it blind the guard to a stall afterwards.
    with WebServer(stalls) as server:
        job = {"uri": f"http://127.0.0.1:{server.port}/", "base": "", "limits": HASTY, "steps": steps}
        assert device.run("fetch.py", job, timeout=10)["reason"] == "timeout"


def test_cancelled_from_outside_while_waiting(against):
    assert against(stalls, ["open", 0, 20000], ["read", 5000], ["cancelled"])["reason"] == "cancelled"


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert fetch(f"http://127.0.0.1:{port}/a.pack")["reason"] == "network"
    assert fetch("http://nowhere.invalid/a.pack")["reason"] == "network"


def test_nobody_accepts():
    # A full backlog: the kernel ignores further connection requests.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            result = fetch(f"http://127.0.0.1:{port}/a.pack", limits=HASTY)
    assert result["reason"] == "timeout"
    assert result["ms"] < 5000


def test_no_request_can_be_made_that_holds_another_header():
    def case(peer):
        path, start, end = peer.request()
        assert peer.head.count(b"\r\n") == 4
        assert path == "/x%0d%0aEvil:1"
        peer.partial(start, end)

    with WebServer(case) as server:
        base = f"http://127.0.0.1:{server.port}/a.pack"
        assert fetch("/x\r\nEvil: 1", base=base)["reason"] == "format"
        check(fetch("/x%0d%0aEvil:1", base=base), (0, 20000))
