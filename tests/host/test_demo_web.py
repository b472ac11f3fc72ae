"""The page of the demonstration takes orders from itself alone, and tells nobody else what it shows."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatehouse_tools.commands import demo
from gatehouse_tools.demo import screen, web
from gatehouse_tools.errors import GatehouseError

ORDER = {"do": "act", "button": "tampered", "device": "gh-demo-1"}


class Shop:
    """A page, and the orders that came through."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.screen = screen.Screen()
        self.web = web.Web(self.screen, self._take, 0)

    def _take(self, order: dict[str, Any]) -> str:
        self.orders.append(order)
        return "busy" if order.get("do") == "busy" else ""

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str | None] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; headers with None are left out."""
        connection = http.client.HTTPConnection(web.HOST, self.web.port, timeout=10)
        given = {name: value for name, value in (headers or {}).items() if value is not None}
        connection.putrequest(method, path, skip_host="Host" in (headers or {}))
        for name, value in given.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def own(self) -> dict[str, str | None]:
        """The headers of an order by the page itself."""
        return {
            "Origin": self.web.url.rstrip("/"),
            "Sec-Fetch-Site": "same-origin",
            "Content-Type": "application/json",
            "X-Gatehouse-Token": self.web.token,
        }

    def order(self, changed: dict[str, str | None] | None = None, body: bytes = json.dumps(ORDER).encode()) -> int:
        headers = self.own() | (changed or {})
        return self.ask("POST", "/do", body, headers)[0]


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    with made.web:
        yield made


def test_own_order_is_taken(shop: Shop) -> None:
    assert shop.order() == 202
    assert shop.orders == [ORDER]


def test_own_order_at_the_other_name_of_this_machine_is_taken(shop: Shop) -> None:
    name = f"localhost:{shop.web.port}"
    assert shop.order({"Host": name, "Origin": f"http://{name}"}) == 202


def test_why_an_order_is_not_taken_is_told(shop: Shop) -> None:
    status, _, body = shop.ask("POST", "/do", b'{"do": "busy"}', shop.own())
    assert (status, json.loads(body)) == (409, {"ok": False, "why": "busy"})


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": None},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Gatehouse-Token": "guessed"},
        {"X-Gatehouse-Token": None},
        {"Content-Type": "text/plain"},
        {"Content-Type": None},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
def test_order_of_another_page_is_refused(shop: Shop, changed: dict[str, str | None]) -> None:
    assert shop.order(changed) in (403, 415, 421)
    assert shop.orders == []


@pytest.mark.parametrize("path", ["/", "/events", "/page.js", "/do"])
def test_name_that_was_pointed_here_gets_nothing(shop: Shop, path: str) -> None:
    """DNS rebinding: to the browser the page of evil.example and this one are the same."""
    method = "POST" if path == "/do" else "GET"
    where = path + (f"?token={shop.web.token}" if path == "/events" else "")
    for name in (f"evil.example:{shop.web.port}", "127.0.0.1", f"127.0.0.1:{shop.web.port}.evil.example"):
        status, _, body = shop.ask(method, where, b"{}" if path == "/do" else None, {"Host": name})
        assert status == 421 and shop.web.token.encode() not in body


def test_page_holds_the_token_and_nothing_from_elsewhere(shop: Shop) -> None:
    status, headers, body = shop.ask("GET", "/")
    assert status == 200 and shop.web.token.encode() in body
    assert headers["Content-Security-Policy"] == web.HEADERS["Content-Security-Policy"]
    for name in ("", *web.FILES):
        status, headers, body = shop.ask("GET", f"/{name}")
        assert status == 200
        places = set(re.findall(rb"https?://[^\"' )]+", body)) - {b"http://www.w3.org/2000/svg"}
        assert not places, "the page works without the internet"
        assert b" style=" not in body and b"<script>" not in body and b"innerHTML" not in body


def test_every_answer_has_the_headers(shop: Shop) -> None:
    for method, path in (("GET", "/"), ("GET", "/none"), ("GET", "/do"), ("GET", "/events"), ("POST", "/do")):
        _, headers, _ = shop.ask(method, path)
        assert {name: headers.get(name) for name in web.HEADERS} == web.HEADERS, (method, path)
    for rule in ("default-src 'none'", "frame-ancestors 'none'", "script-src 'self'", "connect-src 'self'"):
        assert rule in web.HEADERS["Content-Security-Policy"]


def test_no_file_beside_the_page_is_served(shop: Shop) -> None:
    for path in ("/web.py", "/../web.py", "/page/page.js", "/%2e%2e/web.py", "/index.html"):
        assert shop.ask("GET", path)[0] in (400, 404)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"[" * 1000, 400),
        (b"\xff", 400),
        (json.dumps({"do": "x" * web.MAX_BODY}).encode(), 413),
    ],
)
def test_what_is_no_order_is_refused(shop: Shop, body: bytes, status: int) -> None:
    assert shop.order(body=body) == status
    assert shop.orders == []


@pytest.mark.parametrize(
    "text",
    [
        b"GET\r\n\r\n",
        b"POST /do HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"G" * 9000,
        b"\x16\x03\x01\x00\x00",
        b"GET /events?token=%ff HTTP/1.0",
    ],
)
def test_what_is_no_request_ends_with_its_connection(
    shop: Shop, text: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection((web.HOST, shop.web.port), 10) as wire:
        wire.sendall(text + b"\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b" 200 " not in wire.recv(4096)
    assert shop.order() == 202, "the next one is served"
    assert "Traceback" not in "".join(capfd.readouterr())


def events(shop: Shop, token: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(web.HOST, shop.web.port, timeout=10)
    connection.request("GET", f"/events?token={token}")
    return connection, connection.getresponse()


def read(answer: http.client.HTTPResponse) -> list[dict[str, Any]]:
    """The next changes of a stream."""
    while True:
        line = answer.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: ["):
            return list(json.loads(line[6:]))


def test_stream_has_what_is_there_and_what_comes(shop: Shop) -> None:
    shop.screen.put("device:gh-1", {"version": "1.0.0"})
    connection, answer = events(shop, shop.web.token)
    assert answer.status == 200
    found: list[dict[str, Any]] = []
    while len(found) < 2:
        found += read(answer)
    assert found == [{"clear": True}, {"k": "device:gh-1", "v": {"version": "1.0.0"}}]
    shop.screen.put("device:gh-1", {"version": "1.1.0"})
    assert read(answer) == [{"k": "device:gh-1", "v": {"version": "1.1.0"}}]
    connection.close()


def test_stream_is_for_the_page_alone(shop: Shop) -> None:
    for token in ("", "guessed"):
        connection, answer = events(shop, token)
        assert answer.status == 403
        connection.close()


def test_viewers_are_limited(shop: Shop) -> None:
    opened = [events(shop, shop.web.token) for _ in range(web.MAX_VIEWERS)]
    for _, answer in opened:
        assert answer.status == 200 and answer.readline()
    connection, answer = events(shop, shop.web.token)
    assert answer.status == 503
    assert shop.order() == 202, "buttons work all the same"
    for one in (connection, *(one for one, _ in opened)):
        one.close()


def test_only_the_loopback_is_served(shop: Shop) -> None:
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    places = [words[1] for words in lines if words[3] == "0A" and words[1].endswith(f":{shop.web.port:04X}")]
    assert places == [f"0100007F:{shop.web.port:04X}"]


class Talk:
    """What the terminal would show."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def page(self, url: str) -> None:
        self.pages.append(url)


def test_usual_port_that_is_taken_is_told_in_one_line(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(web, "PORT", shop.web.port)
    talk: Any = Talk()
    with contextlib.ExitStack() as stack:
        demo._serve(stack, screen.Screen(), lambda order: "", None, talk)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and f"port {shop.web.port} is taken" in told[0] and talk.pages[0] in told[0]


def test_port_that_was_asked_for_and_is_taken_is_an_error(shop: Shop) -> None:
    talk: Any = Talk()
    with contextlib.ExitStack() as stack, pytest.raises(GatehouseError) as caught:
        demo._serve(stack, screen.Screen(), lambda order: "", shop.web.port, talk)
    assert caught.value.reason == "busy" and "--port" in str(caught.value)


def _luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(one * 2 for one in color[1:])
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read_from_afar(scheme: int) -> None:
    """WCAG 2.2, 1.4.6: seven to one for text, 4.5 for what is large or less important."""
    text = (web.PAGE / "page.css").read_text()
    pairs = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", text)
    colors = {name: (light, dark)[scheme] for name, light, dark in pairs}
    for paper in ("paper", "soft"):
        for ink, least in (("ink", 7), ("key", 7), ("good", 7), ("bad", 7), ("quiet", 4.5), ("warm", 4.5)):
            bright, dim = sorted((_luminance(colors[paper]), _luminance(colors[ink])), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= least, (paper, ink)
