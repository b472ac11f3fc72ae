"""The static server: ranges as RFC 9110 has them, and nothing of the machine but the folder."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

import pytest
import shop
from pki import Authority

from gatehouse_tools import ca, serve
from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.serve import StaticServer

DATA = bytes(range(256)) * 40


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "dist"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.pack").write_bytes(DATA)
    (folder / "sub" / "b c.pack").write_bytes(b"b")
    (folder / "empty").write_bytes(b"")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link-out").symlink_to(tmp_path / "secret")
    (folder / "link-in").symlink_to("a.pack")
    with StaticServer(folder) as running:
        yield running


def logged(server, count):
    """The log when it has this many requests: one is complete a moment after its answer has arrived."""
    end = time.monotonic() + 10
    while len(server.log) < count and time.monotonic() < end:
        time.sleep(0.001)
    return server.log


def ask(server, path="/a.pack", method="GET", timeout=10, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.split(":")[2].strip("/")), timeout=timeout)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=10-", 10, len(DATA)),
        ("bytes=-5", len(DATA) - 5, len(DATA)),
        ("bytes=0-999999", 0, len(DATA)),
        ("bytes=-999999", 0, len(DATA)),
    ],
)
def test_a_range(server, asked, start, end):
    answer, body = ask(server, Range=asked)
    assert (answer.status, body) == (206, DATA[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert answer.headers["Content-Length"] == str(end - start)
    assert logged(server, 1)[0].span == (start, end)


def test_a_slow_network(server, monkeypatch):
    """At a rate it sends small pieces, with the pauses that make it this rate; it can change in the middle."""
    pauses, real = [], time.sleep
    monkeypatch.setattr(serve.time, "sleep", pauses.append)
    server.rate = 4096
    assert ask(server)[1] == DATA
    end = time.monotonic() + 10
    while len(pauses) < len(DATA) // 1024:  # the last one comes behind the last byte
        assert time.monotonic() < end, pauses
        real(0.01)
    assert set(pauses) == {0.25} and len(pauses) == len(DATA) // 1024
    monkeypatch.setattr(serve.time, "sleep", lambda _: setattr(server, "rate", 0))
    assert ask(server)[1] == DATA and server.rate == 0


def test_the_log_says_when_an_answer_began(server):
    before = time.time()
    ask(server)
    between = time.time()
    ask(server)
    first, second = logged(server, 2)
    assert before <= first.began <= between <= second.began


@pytest.mark.parametrize("asked", [f"bytes={len(DATA)}-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_that_cannot_be(server, asked):
    answer, body = ask(server, Range=asked)
    assert (answer.status, body) == (416, b"")
    assert answer.headers["Content-Range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize(
    "asked", ["bytes=5-4", "bytes=a-b", "bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=1-2x", "bytes", "bytes=٣-٤", ""]
)
def test_what_is_no_single_range_gets_the_whole(server, asked):
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.split(":")[2].strip("/")), timeout=10)
    connection.putrequest("GET", "/a.pack")
    connection.putheader("Range", asked.encode())
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, DATA)
    connection.close()


def test_if_range_and_if_none_match(server):
    whole, _ = ask(server)
    for name in ("ETag", "Last-Modified"):
        assert ask(server, Range="bytes=0-9", If_Range=whole.headers[name])[0].status == 206
    assert ask(server, Range="bytes=0-9", If_Range='"other"')[0].status == 200
    answer, body = ask(server, If_None_Match=whole.headers["ETag"])
    assert (answer.status, body) == (304, b"")
    path = server.directory / "a.pack"
    path.write_bytes(DATA[::-1])
    os.utime(path, ns=(1, 1))
    assert ask(server, Range="bytes=0-9", If_Range=whole.headers["ETag"])[1] == DATA[::-1]


def test_head_and_other_methods(server):
    answer, body = ask(server, method="HEAD", Range="bytes=0-9")
    assert (answer.status, body, answer.headers["Content-Length"]) == (200, b"", str(len(DATA)))
    assert answer.headers["Accept-Ranges"] == "bytes"
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, method=method)[0].status == 501


def test_found(server):
    for path, data in (("/sub/b%20c.pack", b"b"), ("/a.pack?x=1", DATA), ("/empty", b""), ("/link-in", DATA)):
        answer, body = ask(server, path)
        assert (answer.status, body) == (200, data), path
    assert ask(server, "/empty", Range="bytes=0-0")[0].status == 416


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/sub",
        "/sub/",
        "/nothing",
        "/../secret",
        "/%2e%2e/secret",
        "/sub/../../secret",
        "/sub/%2e%2e/%2e%2e/secret",
        "/..%2fsecret",
        "/%2e%2e%5csecret",
        "//secret",
        "/a.pack/",
        "/a.pack/x",
        "/link-out",
        "/a.pack%00",
        "/%ff%fe",
        "/" + "x" * 5000,
        "a.pack",
        "*",
        "http://127.0.0.1/../secret",
    ],
)
def test_nothing_else_is_served(server, path):
    answer, body = ask(server, path)
    assert (answer.status, body) == (404, b"")


def test_a_pipe_is_no_file(server):
    path = server.directory / "pipe"
    os.mkfifo(path)
    try:
        assert ask(server, "/pipe", timeout=2)[0].status == 404
    finally:
        with contextlib.suppress(OSError):  # ENXIO: nobody waits for a writer, as it should be
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def test_one_connection_serves_many_requests_and_a_thread_each_connection(server):
    port = int(server.url.split(":")[2].strip("/"))
    with socket.create_connection(("127.0.0.1", port)):  # says nothing, and keeps nobody waiting
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for path in ("/a.pack", "/nothing", "/empty", "/a.pack"):
            connection.request("GET", path, headers={"Range": "bytes=0-9"})
            connection.getresponse().read()
        connection.close()
    log = logged(server, 4)
    assert len({request.client for request in log}) == 1
    assert [(request.status, request.body) for request in log] == [(206, 10), (404, 0), (416, 0), (206, 10)]


def test_the_log_counts_every_byte(server):
    with socket.create_connection(("127.0.0.1", int(server.url.split(":")[2].strip("/")))) as raw:
        raw.sendall(b"GET /a.pack HTTP/1.1\r\nRange: bytes=5-104\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: raw.recv(65536), b""))
    assert [(request.head + request.body, request.body) for request in logged(server, 1)] == [(len(received), 100)]


def test_stop_ends_connections_and_frees_the_port(tmp_path):
    server = StaticServer(tmp_path).start()
    port = int(server.url.split(":")[2].strip("/"))
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"GET /x HTTP/1.1\r\n\r\n")
        assert raw.recv(65536)
        server.stop()
        raw.settimeout(10)
        assert raw.recv(1) == b""
    with StaticServer(tmp_path, port=port):
        pass


def test_what_cannot_be_served(tmp_path):
    with pytest.raises(GatehouseError, match="is no folder"):
        StaticServer(tmp_path / "none")
    with StaticServer(tmp_path) as server:
        port = int(server.url.split(":")[2].strip("/"))
        with pytest.raises(GatehouseError, match=f"127.0.0.1:{port}.*--port"):
            StaticServer(tmp_path, port=port)


# The command.


def test_command_serves_dist_until_it_is_told_to_stop(tmp_path):
    item = shop.make(tmp_path / "shop")
    (item.dist).mkdir(exist_ok=True)
    (item.dist / "a.pack").write_bytes(DATA)
    command = [sys.executable, "-m", "gatehouse_tools", "serve", "--port", "0", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(shop.TOOLS), "GATEHOUSE_PRODUCT": str(item.root)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        serving = json.loads(process.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", int(serving["url"].split(":")[2].strip("/")), timeout=10)
        connection.request("GET", "/a.pack", headers={"Range": "bytes=0-9"})
        assert connection.getresponse().read() == DATA[:10]
        told = json.loads(process.stdout.readline())
        assert (told["event"], told["status"], told["span"], told["body"]) == ("request", 206, [0, 10], 10)
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_command_says_what_is_wrong(tmp_path):
    shop.run("serve", tmp_path / "none", "--port", 0).refused(1, "none", "is no folder")
    shop.run("serve", "--port", 0, "--product", tmp_path).refused(2, "product.toml")
    with StaticServer(tmp_path) as server:
        port = server.url.split(":")[2].strip("/")
        shop.run("serve", tmp_path, "--port", port).refused(1, port, "--port")
    shop.run("serve", tmp_path, "--port", 70000).refused(2, "port")


# TLS.


def test_command_serves_https_with_a_certificate_of_the_products_authority(tmp_path):
    item = shop.make(tmp_path / "shop")
    item.dist.mkdir(exist_ok=True)
    (item.dist / "a.pack").write_bytes(DATA)
    context = ssl.create_default_context(cafile=item.ca / "ca.pem")
    for names in ([], []):  # the second time with the certificate of the first
        with tls_server(item, *names) as port:
            connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
            connection.request("GET", "/a.pack", headers={"Range": "bytes=0-9"})
            assert connection.getresponse().read() == DATA[:10]
            connection.close()
            stranger = http.client.HTTPSConnection("localhost", port, timeout=10)
            with pytest.raises(ssl.SSLCertVerificationError):
                stranger.request("GET", "/a.pack")
    path = item.ca / "server.pem"
    assert (item.ca / "server-key.pem").stat().st_mode & 0o077 == 0
    shop.run("serve", "--product", item.root, "--tls", "--name", "packs.example.com", "--port", 0).refused(
        1, "server.pem is not for packs.example.com", "remove it"
    )
    assert path.exists()


@contextlib.contextmanager
def tls_server(item, *options):
    command = [sys.executable, "-m", "gatehouse_tools", "serve", "--port", "0", "--json", "--tls", *options]
    environment = {**os.environ, "PYTHONPATH": str(shop.TOOLS), "GATEHOUSE_PRODUCT": str(item.root)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = json.loads(process.stdout.readline())["url"]
        assert url.startswith("https://")
        try:
            yield int(url.split(":")[2].strip("/"))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def test_a_client_that_does_not_shake_hands_holds_nobody_up(tmp_path):
    authority = Authority(tmp_path)
    (tmp_path / "a.pack").write_bytes(DATA)
    with StaticServer(tmp_path, tls=authority.context("localhost")) as server:
        port = int(server.url.split(":")[2].strip("/"))
        with socket.create_connection(("127.0.0.1", port)):
            context = ssl.create_default_context(cafile=authority.ca)
            connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
            connection.request("GET", "/a.pack")
            assert connection.getresponse().read() == DATA
            connection.close()


def test_certificate_of_a_server(tmp_path):
    item = shop.make(tmp_path / "shop")
    ca.server_context(item.ca, ["packs.example.com", "10.0.0.7"])
    ca.server_context(item.ca, ["10.0.0.7"])
    with pytest.raises(GatehouseError, match=r"is not for 10\.0\.0\.8"):
        ca.server_context(item.ca, ["10.0.0.8"])
    (item.ca / "server-key.pem").write_text("damaged")
    with pytest.raises(GatehouseError, match="missing or damaged"):
        ca.server_context(item.ca)
    for name in ("server.pem", "server-key.pem"):
        (item.ca / name).unlink()
    ca._save(item.ca, "server", ca.Authority(item.ca).issue("server", ca.BROKER_NAMES, -0.5, server=True))
    with pytest.raises(GatehouseError, match="has expired"):
        ca.server_context(item.ca)
    shop.run("serve", "--product", item.root, "--name", "x").refused(2, "--tls")
