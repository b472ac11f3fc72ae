"""The device's HTTPS interface (firmware/access/http.py and what it loads) against a real TLS client, honest or not."""

import base64
import contextlib
import hashlib
import json
import os
import random
import re
import socket
import ssl
import time
from pathlib import Path

import pytest

from gatehouse_tools import ca
from plugin import interpreter
from servers import device

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"HEAD_MS": 4000, "STALL_MS": 2000}
HASTY = {"HEAD_MS": 600, "STALL_MS": 500}
HOST = "gh-1"
ORIGIN = f"https://{HOST}"
PASSWORD = "correct horse"
JSON = {"Content-Type": "application/json"}


class Pki:
    def __init__(self, folder):
        ca.create(folder, "test")
        self.issued = ca.Authority(folder).issue(HOST, (HOST,), server=True, client=True)
        self.context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        self.path = []  # what the script imports from


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """The certificates, and beside them what the script imports: compiled, because it loads it for each connection."""
    made = Pki(tmp_path_factory.mktemp("pki"))
    for name in ("firmware", "build/microdot", "lib"):
        made.path.append(str(tmp_path_factory.mktemp("mpy")))
        interpreter.compile_folder(ROOT / name, Path(made.path[-1]))
    return made


class Door:
    """The device's script, and a client for it."""

    def __init__(self, pki, folder, limits=QUICK, room=None, page=5000, epoch=0):
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            self.port = reserved.getsockname()[1]
        self.pki = pki
        folder.mkdir()
        job = {
            "certificate": pki.issued.cert_der().hex(),
            "key": pki.issued.key_der().hex(),
            "limits": limits,
            "room": room,
            "port": self.port,
            "page": page,
            "epoch": epoch,
        }
        flags = ("-X", "heapsize=8M")
        self.script = device.Session("https.py", job, before=pki.path, cwd=folder, flags=flags)
        self.cookie = self.csrf = ""

    def __enter__(self):
        self.script.__enter__()
        self.script.get("listening")
        return self

    def __exit__(self, *what):
        self.script.__exit__(*what)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def secure(self):
        return self.pki.context.wrap_socket(self.connect(), server_hostname=HOST)

    def send(self, data):
        """The whole answer to these bytes over TLS; b"" where there is none."""
        with self.secure() as sock:
            with contextlib.suppress(OSError):
                sock.sendall(data)
            return one(sock)

    def ask(self, method, path, body=b"", **headers):
        """(status, headers, body) of a request with this session's cookie and token."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = {"Host": HOST, "Origin": ORIGIN, "Cookie": self.cookie, "X-CSRF-Token": self.csrf, **JSON, **named}
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        if body or method in ("POST", "PUT"):
            lines.setdefault("Content-Length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None and value != "")
        return answer(self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body))

    def login(self, user="owner", password=PASSWORD, **headers):
        status, found, body = self.ask("POST", "/api/login", {"user": user, "password": password}, **headers)
        if status == 200:
            self.cookie = "; ".join(line.split(";")[0] for line in found["set-cookie"].split("\n"))
            self.csrf = json.loads(body)["csrf"]
        return status, found, body

    def call(self, name, **arguments):
        return self.ask("POST", "/api/call", {"name": name, "arguments": arguments})

    def seen(self):
        return self.script.ask("seen")

    def files(self):
        """What the device's process has open."""
        folder = Path(f"/proc/{self.script.process.pid}/fd")
        return [os.readlink(path) for path in folder.iterdir()]

    def until_open(self, count):
        """Wait until the device has this many connections."""
        end = time.monotonic() + 20
        while (found := self.seen()["open"]) != count:
            assert time.monotonic() < end, f"{found} connections are open, not {count}"

    def settled(self):
        """What the device saw once no connection is open."""
        self.until_open(0)
        return self.seen()


def one(sock):
    """One answer, by its length; what is sent early needs no waiting for the end of the connection."""
    data = b""
    with contextlib.suppress(OSError):
        while piece := sock.recv(65536):
            data += piece
            head, end, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if end and length and len(body) >= int(length[1]):
                break
    return data


def everything(sock):
    data = b""
    with contextlib.suppress(OSError):
        while piece := sock.recv(65536):
            data += piece
    return data


def answer(data):
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    headers = {name: "\n".join(values) for name, values in headers.items()}
    assert first.startswith("HTTP/1.1 "), data[:200]
    return int(first.split(" ")[1]), headers, body


def reason(found):
    return found[0], json.loads(found[2])["reason"]


@pytest.fixture
def door(pki, tmp_path):
    with Door(pki, tmp_path / "device") as made:
        yield made


# The page.


def test_page_and_its_headers(door):
    status, headers, body = door.ask("GET", "/")
    assert (status, body) == (200, b"<p>page</p>\n" * 416)
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "*" not in policy
    for part in ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "connect-src 'self'"):
        assert part in policy
    assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY" and headers["referrer-policy"] == "no-referrer"
    assert headers["content-type"].startswith("text/html")
    assert door.ask("HEAD", "/")[2] == b""
    assert door.settled()["loaded"] == []  # nothing of it stays


def test_page_holds_no_resource_of_others_and_runs_under_its_policy():
    page = (ROOT / "firmware/access/page.html").read_text()
    text = (ROOT / "firmware/access/message.py").read_text()
    for tag in ("style", "script"):
        found = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(found) == 1
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in text, f"page.html changed: its {tag} is sha256-{digest}"
    assert not re.search(r"https?://|//[a-z]|@import|url\(|\son\w+=|style=|javascript:|innerHTML|eval\(", page)


# Who comes in.


def test_nothing_without_a_session(door):
    assert reason(door.ask("GET", "/api/session")) == (401, "session")
    assert reason(door.call("state")) == (401, "session")
    assert reason(door.ask("PUT", "/api/upload", b"x" * 100, X_Envelope="50")) == (401, "session")
    for method, path in (("GET", "/api/call"), ("POST", "/"), ("GET", "/state"), ("GET", "/access/page.html")):
        assert reason(door.ask(method, path)) == (404, "operation")
    seen = door.settled()
    assert seen["calls"] == [] and seen["state"] == []
    assert door.login()[0] == 200
    status, _, body = door.call("state")
    assert (status, json.loads(body)) == (200, {"id": "gh-1", "digest": "0102", "list": [1, [2, "03"]]})
    assert door.ask("GET", "/api/session")[0] == 200
    assert door.seen()["calls"] == [["owner", "state", {}]]


def test_login_answers(door):
    assert reason(door.login(password="wrong")) == (401, "password")
    found = door.login(user="late")
    assert reason(found) == (429, "locked") and found[1]["retry-after"] == "17"
    for body in (b"", b"[]", b"{", b'{"user": 1, "password": "x"}', b"\xff\xfe", b"[" * 1000):
        assert door.ask("POST", "/api/login", body)[0] == 400
    assert reason(door.ask("POST", "/api/login", b" " * 1025)) == (413, "size")
    assert door.seen()["evaluated"] == 1
    status, headers, body = door.login(user="fresh")
    assert status == 200 and json.loads(body)["fresh"] is True
    session, known = (line.split("; ") for line in headers["set-cookie"].split("\n"))
    assert re.fullmatch("__Host-session=[0-9a-f]{64}", session[0])
    assert session[1:] == ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"]
    assert re.fullmatch("__Host-known=fresh.[0-9a-f]{16}.[0-9a-f]{64}", known[0])
    assert known[1:] == [*session[1:], "Max-Age=31536000"]


def test_browser_that_has_been_here_is_known_by_its_token_and_no_other(pki, tmp_path):
    with Door(pki, tmp_path / "device") as door:
        door.login()
        token = next(word for word in door.cookie.split("; ") if "known" in word)
        user, nonce, proof = token.split(".")
        forged = [
            (f"{user}.{nonce}.{'0' if proof[0] != '0' else '1'}{proof[1:]}", "owner"),
            (f"{user}.{'0' * 16}.{proof}", "owner"),
            (f"{user.replace('owner', 'viewer')}.{nonce}.{proof}", "viewer"),
            (token, "viewer"),
            (f"{user}.{nonce}.{proof}.{proof}", "owner"),
            (f"{user}.{nonce}.", "owner"),
            (user, "owner"),
            ("", "owner"),
            (token, "owner"),
        ]
        for door.cookie, name in forged:
            door.login(name, "wrong")
        assert door.seen()["known"] == [False] + [False] * (len(forged) - 1) + [True]
        door.cookie = token
        assert reason(door.call("state")) == (401, "session"), "it opens nothing"
    with Door(pki, tmp_path / "next", epoch=1) as door:
        door.cookie = token
        door.login(password="wrong")
        assert door.seen()["known"] == [False], "another ownership"


def test_sessions_end_when_the_device_says_so(door):
    door.login()
    assert door.call("state")[0] == 200
    found = door.call("logout")
    assert found[0] == 200 and "Max-Age=0" in found[1]["set-cookie"]
    assert reason(door.call("state")) == (401, "session")
    door.login()
    assert door.call("state")[0] == 200
    door.script.tell("expire")
    assert reason(door.call("state")) == (401, "session")
    assert door.seen()["sessions"] == 0


def test_another_login_ends_the_one_before_of_the_same_browser(door):
    door.login()
    before = door.cookie, door.csrf
    door.login()
    assert door.cookie != before[0] and door.seen()["alive"] == 1
    door.cookie, door.csrf = before
    assert reason(door.call("state")) == (401, "session")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": None},
        {"Origin": "null"},
        {"Origin": "http://gh-1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
def test_requests_of_another_origin_do_nothing(door, headers):
    assert reason(door.login(**headers)) == (401, "session")
    door.login()
    for method, path in (("POST", "/api/call"), ("PUT", "/api/upload")):
        assert reason(door.ask(method, path, {"name": "state"}, **headers)) == (401, "session")
    seen = door.settled()
    assert seen["calls"] == [] and seen["evaluated"] == 1
    assert door.ask("POST", "/api/call", {"name": "state"}, Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize("token", ["", "0" * 32, "0" * 31, "x" * 900])
def test_calls_without_the_sessions_token_do_nothing(door, token):
    door.login()
    good, door.csrf = door.csrf, token
    assert reason(door.call("state")) == (401, "session")
    door.csrf = good[:-1] + ("0" if good[-1] != "0" else "1")
    assert reason(door.call("state")) == (401, "session")
    assert door.seen()["calls"] == []
    door.csrf = good
    assert door.call("state")[0] == 200


def test_every_byte_of_a_token_counts(door):
    door.login()
    good = door.csrf
    for at in (0, 15, 31):
        door.csrf = good[:at] + ("0" if good[at] != "0" else "1") + good[at + 1 :]
        assert reason(door.call("state")) == (401, "session")
    door.csrf = good
    assert door.call("state")[0] == 200


def test_form_of_another_page_is_no_json(door):
    door.login()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        assert reason(door.ask("POST", "/api/call", {"name": "state"}, Content_Type=kind)) == (400, "format")
    assert door.seen()["calls"] == []


def test_refusals_and_faults_of_operations(door):
    door.login()
    assert reason(door.call("erase")) == (403, "denied")
    assert reason(door.ask("POST", "/api/call", {"name": "state", "arguments": []})) == (400, "argument")
    assert reason(door.call("memory")) == (503, "memory")
    assert reason(door.call("crash")) == (500, "state")
    assert door.call("state")[0] == 200


# Uploads.


def test_upload_is_stored_and_offered(door):
    door.login()
    envelope, pack = random.Random(1).randbytes(700), random.Random(2).randbytes(300000)
    found = door.ask("PUT", "/api/upload", envelope + pack, X_Envelope="700")
    assert found[0] == 200
    seen = door.settled()
    name = f"upload-{hashlib.sha256(envelope).hexdigest()[:16]}.pack"
    assert seen["offers"] == [envelope.hex()] and seen["state"] == [name]
    assert [call[1:] for call in seen["calls"]] == [
        ["update.receive", {"envelope": 700, "pack": 300000}],
        ["update.offer", {}],
    ]


def test_pack_is_stored_as_it_came(door):
    door.login()
    envelope, pack = b"e" * 10, random.Random(3).randbytes(5000)
    assert door.ask("PUT", "/api/upload", envelope + pack, X_Envelope="10")[0] == 200
    assert bytes.fromhex(door.script.ask("file")) == pack
    assert door.ask("PUT", "/api/upload", b"f" * 10, X_Envelope="10")[0] == 200
    assert door.settled()["state"] == []  # the next one takes its room, and brought no pack


@pytest.mark.parametrize("size", ["", "0", "-1", "101", "9" * 6, "x"])
def test_upload_of_an_impossible_envelope(door, size):
    door.login()
    assert reason(door.ask("PUT", "/api/upload", b"x" * 100, X_Envelope=size)) == (400, "argument")
    assert door.settled()["calls"] == []


def test_upload_that_ends_early_leaves_nothing(door):
    door.login()
    assert door.ask("PUT", "/api/upload", b"x" * 100, X_Envelope="50", Content_Length="100")[0] == 200
    lines = f"Host: {HOST}\r\nOrigin: {ORIGIN}\r\nCookie: {door.cookie}\r\nX-CSRF-Token: {door.csrf}\r\n"
    head = f"PUT /api/upload HTTP/1.1\r\n{lines}X-Envelope: 50\r\nContent-Length: 9000\r\n\r\n"
    with door.secure() as sock:
        sock.sendall(head.encode() + b"y" * 5000)
        sock.shutdown(socket.SHUT_WR)
        everything(sock)
    seen = door.settled()
    assert seen["state"] == [] and seen["offers"] == [(b"x" * 50).hex()]


def test_second_upload_waits_for_the_first(door):
    door.login()
    lines = f"Host: {HOST}\r\nOrigin: {ORIGIN}\r\nCookie: {door.cookie}\r\nX-CSRF-Token: {door.csrf}\r\n"
    head = f"PUT /api/upload HTTP/1.1\r\n{lines}X-Envelope: 50\r\nContent-Length: 100\r\n\r\n"
    with door.secure() as first:
        first.sendall(head.encode() + b"y" * 60)
        while "upload.part" not in door.seen()["state"]:
            pass
        assert reason(door.ask("PUT", "/api/upload", b"x" * 100, X_Envelope="50")) == (409, "busy")
        first.sendall(b"y" * 40)
        assert answer(one(first))[0] == 200
    assert door.seen()["offers"] == [(b"y" * 50).hex()]


def test_operations_of_an_upload_are_not_called_by_themselves(door):
    door.login()
    for name, arguments in (("update.receive", {"envelope": 1, "pack": 0}), ("update.offer", {})):
        assert reason(door.call(name, **arguments)) == (404, "operation")
    assert door.seen()["calls"] == []
    assert door.ask("PUT", "/api/upload", b"x" * 100, X_Envelope="50")[0] == 200


def test_upload_of_what_was_refused_already_takes_no_room(door):
    door.login()
    assert reason(door.ask("PUT", "/api/upload", b"known" + b"x" * 100, X_Envelope="5")) == (422, "state")
    assert door.settled()["state"] == [] and door.seen()["offers"] == []
    assert door.ask("PUT", "/api/upload", b"other" + b"x" * 100, X_Envelope="5")[0] == 200


def test_upload_beyond_the_flash(pki, tmp_path):
    with Door(pki, tmp_path / "device", room=100 * 4096) as door:
        door.login()
        assert reason(door.ask("PUT", "/api/upload", b"x" * (84 * 4096 + 1), X_Envelope="50")) == (507, "full")
        assert door.settled()["state"] == []
        assert door.ask("PUT", "/api/upload", b"x" * (84 * 4096), X_Envelope="50")[0] == 200


def test_upload_while_an_update_is_under_way(door):
    door.login()
    for state in ("downloading", "installing", "pending-reboot", "trial"):
        door.script.tell("state", state)
        assert reason(door.ask("PUT", "/api/upload", b"x" * 100, X_Envelope="50")) == (409, "busy")
    door.script.tell("state", "refused")
    assert door.ask("PUT", "/api/upload", b"x" * 100, X_Envelope="50")[0] == 200


def test_early_answer_reaches_a_client_that_still_sends(door):
    for size in (1000, 200000):
        assert reason(door.ask("PUT", "/api/upload", b"x" * size, X_Envelope="50")) == (401, "session")
    assert door.settled()["state"] == []


# What is no request.

HEADS = {
    "no request line": (b"\r\n\r\n", 400),
    "two words": (b"GET /\r\n\r\n", 400),
    "four words": (b"GET / / HTTP/1.1\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 400),
    "another method": (b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "OPTIONS": (b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "absolute URI": (b"GET https://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "query": (b"GET /?next=//evil.example HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "escape": (b"GET /%2e%2e/state HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "long line": (b"GET /" + b"a" * 4000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400),
    "no name": (b"GET / HTTP/1.1\r\n: x\r\nHost: x\r\n\r\n", 400),
    "folded": (b"GET / HTTP/1.1\r\nHost: x\r\n y: z\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n", 400),
    "two cookies": (b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a\r\nCookie: b\r\n\r\n", 400),
    "two lengths": (b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "negative length": (b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "length in words": (b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: one\r\n\r\n", 400),
    "endless length": (b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 400),
    "large length": (b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413),
    "chunked": (b"POST /api/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    "no text": (b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", 400),
    "many headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 40 + b"\r\n", 431),
    "large head": (b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"a: " + b"b" * 900 + b"\r\n") * 5 + b"\r\n", 431),
    "endless headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 5000, 431),
}
GOOD = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 39 + b"\r\n"


def test_heads_that_break_a_rule(door):
    found = {}
    for name, (data, _) in HEADS.items():
        found[name] = answer(door.send(data))[0]
    assert found == {name: status for name, (_, status) in HEADS.items()}
    assert answer(door.send(GOOD))[0] == 200
    assert door.settled()["evaluated"] == 0


def test_pipelined_requests_get_one_answer(door):
    with door.secure() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        data = everything(sock)
    assert data.count(b"HTTP/1.1 ") == 1 and answer(data)[1]["connection"] == "close"


# What is no TLS, or slow.


def test_plaintext_gets_nothing(door):
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 500):
        with door.connect() as sock:
            sock.sendall(data)
            got = everything(sock)
            assert b"HTTP" not in got and len(got) < 16, got  # a TLS alert at most
    assert door.ask("GET", "/")[0] == 200


def test_slow_clients_are_given_up_and_hold_nobody_up(pki, tmp_path):
    with Door(pki, tmp_path / "device", HASTY) as door:
        started = time.monotonic()
        with door.connect() as silent, door.secure() as waiting:
            waiting.sendall(b"GET / HTTP/1.1\r\n")
            assert door.script.ask("heap")  # the event loop turns meanwhile
            assert everything(silent) == b"" and everything(waiting) == b""
        assert door.ask("GET", "/")[0] == 200
        # Bytes come, but the head does not end in its time.
        with door.secure() as trickling, pytest.raises(OSError):
            for _ in range(100):
                trickling.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - started < 15
        assert door.ask("GET", "/")[0] == 200


def test_many_connections_wait_for_their_turn(pki, tmp_path):
    with Door(pki, tmp_path / "device", HASTY) as door:
        assert door.ask("GET", "/")[0] == 200  # the first use leaves interned names
        door.settled()
        heap = door.script.ask("heap")
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(door.connect()) for _ in range(5)]
            assert [everything(sock) for sock in socks] == [b""] * 5
        assert door.settled()["most"] == 1, "strangers one by one"
        assert door.ask("GET", "/")[0] == 200
        door.settled()
        assert door.script.ask("heap") - heap < 4000


def test_who_is_logged_in_has_two_connections_and_no_more(pki, tmp_path):
    with Door(pki, tmp_path / "device", {"HEAD_MS": 20000, "STALL_MS": 20000}) as door:  # neither is given up meanwhile
        door.login()
        lines = f"Host: {HOST}\r\nOrigin: {ORIGIN}\r\nCookie: {door.cookie}\r\nX-CSRF-Token: {door.csrf}\r\n"
        head = f"POST /api/call HTTP/1.1\r\n{lines}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(door.secure()).sendall(head.encode())
            door.until_open(2)
            stack.enter_context(door.connect())
            door.script.ask("installer", False, "idle", None)  # some turns of the listener
            assert door.seen()["most"] == 2
        assert door.call("state")[0] == 200


def test_body_of_a_stranger_has_a_time_too(pki, tmp_path):
    with Door(pki, tmp_path / "device", HASTY) as door:
        head = f"POST /api/login HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {ORIGIN}\r\nContent-Type: application/json\r\n"
        started = time.monotonic()
        with door.secure() as sock:
            sock.sendall(f"{head}Content-Length: 900\r\n\r\n".encode())
            with contextlib.suppress(OSError):
                for _ in range(200):
                    sock.sendall(b" ")
                    time.sleep(0.05)
        assert time.monotonic() - started < 8
        assert door.settled()["evaluated"] == 0
        assert door.login()[0] == 200


@pytest.mark.parametrize(
    "state",
    [("busy", "downloading", None), ("busy", "idle", None), ("coming", "idle", None), ("", "failed", "memory")],
)
def test_strangers_make_way_for_an_update(door, state):
    with door.secure() as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n")
        door.until_open(1)
        door.script.ask("installer", *state)
        assert everything(stranger) == b""
    with door.connect() as stranger:
        stranger.settimeout(0.3)
        assert door.seen()["open"] == 0
        with pytest.raises(TimeoutError):
            stranger.recv(1)
        assert door.seen()["open"] == 0, "it waits outside"
    door.script.ask("installer", "", "failed", "network")
    assert door.login()[0] == 200
    door.settled()
    door.script.ask("installer", *state)
    assert door.call("state")[0] == 200, "who is logged in sees how it goes"


def test_no_plaintext_check_of_a_context_that_lets_it_through(door):
    assert door.script.ask("plaintext") == "tls"


def test_plaintext_is_tried_at_every_start(door):
    assert door.script.ask("checked") == 1


def test_credentials_that_are_none_are_refused(door):
    assert door.script.ask("credentials") == "state"


# What does not last.


def test_answer_that_nobody_takes_is_given_up(pki, tmp_path):
    with Door(pki, tmp_path / "device", {**QUICK, "ANSWER_MS": 600, "STALL_MS": 60000}, page=16 << 20) as door:
        with door.secure() as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(100)
            door.settled()
        assert not [name for name in door.files() if "page.html" in name]


def test_nobody_stays_inside_when_the_door_closes(door):
    door.login()
    door.settled()
    with door.secure() as inside:
        inside.sendall(b"GET / HTTP/1.1\r\n")
        door.until_open(1)
        started = time.monotonic()
        assert door.script.ask("close")
        assert everything(inside) == b"" and time.monotonic() - started < QUICK["HEAD_MS"] / 2000
    assert door.seen()["alive"] == 0, "nor any session"
    with pytest.raises(ConnectionRefusedError):
        door.connect()


def test_no_room_is_no_fault(door):
    assert door.script.ask("room", False) is False
    data = b""
    with contextlib.suppress(OSError), door.secure() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        data = one(sock)
    assert data == b""
    assert door.seen()["loaded"] == []
    assert door.script.ask("room", True) is True
    assert door.ask("GET", "/")[0] == 200
    assert not [event for event in door.script.seen if event[0] == "fault"]


# Nonsense in bulk.


def test_fuzzed_requests_leave_the_heap_level(door, seed):
    chance = random.Random(seed)
    door.login()
    good = (
        f"POST /api/call HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {ORIGIN}\r\nCookie: {door.cookie}\r\n"
        f"X-CSRF-Token: {door.csrf}\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n"
        '{"name": "erase", "arguments":{}}'
    ).encode()
    heaps = []
    for _ in range(2):
        for _ in range(30):
            data = bytearray(good)
            for _ in range(chance.randrange(1, 6)):
                at = chance.randrange(len(data))
                kind = chance.randrange(4)
                if kind == 0:
                    data[at] = chance.randrange(256)
                elif kind == 1:
                    del data[at : at + chance.randrange(1, 40)]
                elif kind == 2:
                    data[at:at] = data[chance.randrange(len(data)) :][:100]
                else:
                    data[at:at] = chance.choice([b"\r\n", b"\r\n\r\n", b"\0", b":", b"%", b"\xff", b"a" * 1100])
            with door.secure() as sock:
                with contextlib.suppress(OSError):
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                everything(sock)
        door.settled()
        heaps.append(door.script.ask("heap"))
    assert heaps[1] - heaps[0] < 10000, "a leak of 350 bytes in each request shows"
    assert door.ask("GET", "/")[0] == 200
