"""A whole device whose policy opens HTTPS: its sockets, and its page in a real browser."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gatehouse_tools.demo import attacks
from gatehouse_tools.demo.stage import Stage
from servers import browser

from .conftest import ROOT, Device
from .test_remote import send
from .test_update import release

HEAP = "128wK"  # docs/http.md
ROOMY = "160wK"  # a browser asks while the device is busy: no answer is to be a 503 there
NEW = "a better one than that"
POLICIES = [("[]", False), ('["uart", "mqtt-commands", "reset-button"]', False), ('["https"]', True), (None, False)]
needs_nmap = pytest.mark.skipif(not shutil.which("nmap"), reason="no nmap here: apt-get install nmap, as root")
needs_browser = pytest.mark.skipif(not browser.program(), reason="no chromium here: apt-get install chromium, as root")


def listening(pid: int) -> set[tuple[str, int]]:
    """(address, port) of every TCP and UDP socket that a process listens on, asked from the kernel."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == state and words[9] in inodes and not (table == "udp" and words[2] != "00000000:0000"):
                address, _, port = words[1].partition(":")
                found.add((address, int(port, 16)))
    return found


LOOPBACK = "0100007F"
OPEN = 'interfaces=["https", "mqtt-commands"]'


def wait_for_socket(device: Device) -> None:
    end = time.monotonic() + 20
    while not (device.board.pid and listening(device.board.pid)):
        assert time.monotonic() < end, device.log.read_text()[-3000:]
        time.sleep(0.05)


@pytest.fixture
def open_device(shop: Stage, tmp_path: Path, seed: int) -> Iterator[Device]:
    made = Device(shop, tmp_path, seed, ROOMY, "--set", OPEN)
    yield made
    made.close()


def password(device: Device) -> str:
    text = (device.shop.product.root / "devices" / device.id / "secrets.json").read_text()
    return str(json.loads(text)["label_password"])


@pytest.mark.parametrize(("interfaces", "opens"), POLICIES)
def test_sockets_are_those_that_the_policy_opens(
    shop: Stage, tmp_path: Path, seed: int, interfaces: str | None, opens: bool
) -> None:
    options = ("--set", f"interfaces={interfaces}") if interfaces else ()
    device = Device(shop, tmp_path, seed, HEAP, *options)
    try:
        device.board.power_on()
        device.runs("1.0.0")
        port = device.board.https_port
        assert device.board.pid
        if opens:
            wait_for_socket(device)
        assert listening(device.board.pid) == ({(LOOPBACK, port)} if opens else set())
        if not opens:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), 5)
            return
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: device\r\n\r\n")
            plain.settimeout(20)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := plain.recv(4096):
                    answer += piece
            assert b"HTTP" not in answer and len(answer) < 16, "a TLS alert at most"
        authority = device.shop.product.root / "ca" / "ca.pem"
        context = ssl.create_default_context(cafile=str(authority))
        with (
            socket.create_connection(("127.0.0.1", port), 5) as raw,
            context.wrap_socket(raw, server_hostname=device.id) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: device\r\n\r\n")
            assert secure.recv(4096).startswith(b"HTTP/1.1 200 ")
        mark = device.witness.mark()
        assert device.witness.wait(mark, lambda claims: True, 120), "it goes on reporting"
    finally:
        device.close()


def listening_anywhere() -> set[int]:
    """TCP ports on which any process of this machine listens."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(words[1].split(":")[1], 16) for words in lines if words[3] == "0A"}


def answers(port: int) -> bool:
    """Whether somebody listens at a port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1] != port and not probe.connect_ex(("127.0.0.1", port))


@needs_nmap
@pytest.mark.parametrize(("interfaces", "opens"), POLICIES[1:3])
def test_nmap_sees_what_the_policy_opens_and_no_more(
    shop: Stage, tmp_path: Path, seed: int, interfaces: str, opens: bool
) -> None:
    """All 65,535 ports from outside. The loopback is everybody's: those of other processes do not count."""
    device = Device(shop, tmp_path, seed, HEAP, "--set", f"interfaces={interfaces}")
    try:
        device.board.power_on()
        device.runs("1.0.0")
        assert device.board.pid
        if opens:
            wait_for_socket(device)
        own = {port for _, port in listening(device.board.pid)}
        others = listening_anywhere() - own
        command = ["nmap", "-sT", "-Pn", "-n", "-T5", "-p-", "--open", "-oG", "-", "127.0.0.1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        seen = {int(port) for port in re.findall(r"(\d+)/open/tcp", done.stdout)}
        others |= listening_anywhere() - own  # what began to listen meanwhile
        # A connection from a port to itself looks like an open one, and others come and go: what stays is open.
        for _ in range(3):
            seen -= {port for port in seen - others if not answers(port)}
        assert seen - others == ({device.board.https_port} if opens else set())
        assert "1 IP address (1 host up)" in done.stdout
    finally:
        device.close()


class Client:
    """A program that speaks to the device's interface, and trusts the product's authority alone."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.context = ssl.create_default_context(cafile=str(device.shop.product.root / "ca" / "ca.pem"))
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str, body: bytes, **headers: str) -> dict[str, Any]:
        """The answer, when it is a good one."""
        port = self.device.board.https_port
        connection = http.client.HTTPConnection(self.device.id, port)
        connection.sock = self._connected(port)
        origin = {"Origin": f"https://{self.device.id}:{port}", "Content-Type": "application/json"}
        with contextlib.closing(connection):
            connection.request(method, path, body, {**origin, **self.headers, **headers})
            answer = connection.getresponse()
            found = json.loads(answer.read())
            assert answer.status == 200, (answer.status, found)
            if cookie := answer.headers.get("Set-Cookie"):
                self.headers["Cookie"] = cookie.split(";")[0]
            if "csrf" in found:
                self.headers["X-CSRF-Token"] = found["csrf"]
            return dict(found)

    def _connected(self, port: int) -> ssl.SSLSocket:
        """A connection. Who comes before the device has let go of the one before is sent away unasked."""
        end = time.monotonic() + 20
        while True:
            raw = socket.create_connection(("127.0.0.1", port), 30)
            try:
                return self.context.wrap_socket(raw, server_hostname=self.device.id)
            except (ConnectionResetError, ssl.SSLEOFError):
                raw.close()
                assert time.monotonic() < end, self.device.log.read_text()[-3000:]
                time.sleep(0.05)

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self.ask("POST", "/api/call", json.dumps({"name": operation, "arguments": arguments}).encode())

    def login(self, secret: str) -> dict[str, Any]:
        """Log in as the owner."""
        return self.ask("POST", "/api/login", json.dumps({"user": "owner", "password": secret}).encode())

    def become_owner(self) -> None:
        """Log in with the label password, and change it to NEW."""
        label = password(self.device)
        assert self.login(label)["fresh"] is True
        self.call("password.change", old=label, new=NEW)


def test_update_is_uploaded_by_a_program(shop: Stage, tmp_path: Path, seed: int) -> None:
    device = Device(shop, tmp_path, seed, HEAP, "--set", OPEN)
    try:
        device.board.power_on()
        device.runs("1.0.0")
        wait_for_socket(device)
        client = Client(device)
        client.become_owner()
        envelope = release(shop, "1.9.0", extra=True)
        body = envelope.read_bytes() + envelope.with_suffix(".pack").read_bytes()
        client.ask("PUT", "/api/upload", body, **{"X-Envelope": str(envelope.stat().st_size)})
        assert device.tells("confirmed", None, 120).claims["version"] == "1.9.0"
        assert "MemoryError" not in device.log.read_text()
    finally:
        device.close()


def spki(device: Device) -> str:
    """SHA-256 of the public key of the device's certificate, as Chromium pins it."""
    port = device.board.https_port
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    data = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def started(device: Device) -> str:
    """The URL of a device that serves HTTPS."""
    device.board.power_on()
    device.runs("1.0.0")
    wait_for_socket(device)
    return f"https://{device.id}:{device.board.https_port}/"


def resolves(device: Device) -> str:
    return f"--host-resolver-rules=MAP {device.id} 127.0.0.1"


class Crowd:
    """Strangers who open connections all the time, and send the body of a login byte by byte."""

    def __init__(self, device: Device, size: int) -> None:
        self._device = device
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._push, daemon=True) for _ in range(size)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)

    def _push(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        lines = ("POST /api/login HTTP/1.1", "Host: x", "Origin: https://x", "Content-Type: application/json")
        head = "\r\n".join([*lines, "Content-Length: 900", "", "{"]).encode()
        while not self._over.is_set():
            with contextlib.suppress(OSError), socket.create_connection(self._address(), 3) as raw:
                raw.settimeout(9)
                with context.wrap_socket(raw) as secure:
                    secure.sendall(head)
                    while not self._over.wait(0.5):
                        secure.sendall(b"x")
            self._over.wait(0.02)

    def _address(self) -> tuple[str, int]:
        return "127.0.0.1", self._device.board.https_port


@pytest.mark.parametrize("heap", [HEAP, "120wK"])
def test_crowd_at_the_door_stops_no_update(shop: Stage, tmp_path: Path, seed: int, heap: str) -> None:
    device = Device(shop, tmp_path, seed, heap, "--set", OPEN)
    try:
        device.board.power_on()
        device.runs("1.0.0")
        wait_for_socket(device)
        with Crowd(device, 4):
            since = device.witness.mark()
            assert device.witness.wait(since, lambda claims: claims["uptime"] > 8, 120), "it goes on reporting"
            device.publish(release(shop, "1.9.0", extra=True))
            report = device.tells("confirmed", None, 120)
            assert report.claims["version"] == "1.9.0"
        told = device.log.read_text()
        assert "Traceback" not in told and "wdt-reset" not in [event.kind for event in device.board.events], told[
            -3000:
        ]
    finally:
        device.close()


@pytest.mark.parametrize("heap", ["92wK", "112wK"])
def test_heap_that_has_no_room_for_the_door_is_no_reason_to_restart(
    shop: Stage, tmp_path: Path, seed: int, heap: str
) -> None:
    device = Device(shop, tmp_path, seed, heap, "--set", OPEN)
    try:
        device.board.power_on()
        closed = device.witness.wait(0, lambda claims: "interface:https" in claims["degraded"], 120)
        assert closed and closed.claims["mode"] == "active", device.log.read_text()[-3000:]
        assert device.board.pid and not listening(device.board.pid)
        assert device.witness.wait(0, lambda claims: claims["uptime"] > 15, 120)
        assert device.board.boots == 1 and "MemoryError" not in device.log.read_text()
    finally:
        device.close()


def test_owner_closes_and_opens_the_door_of_a_running_device(shop: Stage, tmp_path: Path, seed: int) -> None:
    device = Device(shop, tmp_path, seed, HEAP, "--set", OPEN)
    try:
        device.board.power_on()
        device.runs("1.0.0")
        wait_for_socket(device)
        client = Client(device)
        client.become_owner()
        since = device.witness.mark()
        client.call("interface.set", name="https", wanted=False)

        def is_open(wanted: bool) -> Callable[[dict], bool]:
            def look(claims: dict) -> bool:
                return claims["interfaces"]["https"] == {"wanted": wanted, "active": wanted}

            return look

        closed = device.witness.wait(since, is_open(False), 120)
        assert closed and closed.claims["access"]["sessions"] == 0 and not listening(device.board.pid)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", device.board.https_port), 5)
        since = device.witness.mark()
        code, told = send(shop, device, "interface.set", "name=https", "wanted=true", "--role", "owner")
        assert code == 0, told
        assert device.witness.wait(since, is_open(True), 120), device.witness.history[-1].claims
        wait_for_socket(device)  # it is reported once it is being opened
        assert listening(device.board.pid) == {(LOOPBACK, device.board.https_port)} and device.board.boots == 1
        with pytest.raises(AssertionError, match="401"):
            client.call("state")
        client.login(NEW)
        assert client.call("state")["id"] == device.id
    finally:
        device.close()


def asked_again(client: Client, secret: str) -> dict[str, Any]:
    """The answer to a login, of the first try that finds room: the request before may still be served."""
    for left in range(10, -1, -1):
        try:
            return client.login(secret)
        except OSError:
            assert left, "nobody is served any more"
            time.sleep(0.5)
    raise AssertionError


def test_fuzzed_requests_leave_a_device_that_reports_with_its_heap_level(
    shop: Stage, tmp_path: Path, seed: int
) -> None:
    device = Device(shop, tmp_path, seed, HEAP, "--set", OPEN)
    chance = random.Random(seed)
    try:
        device.board.power_on()
        first = device.runs("1.0.0")
        wait_for_socket(device)
        client = Client(device)
        login = json.dumps({"user": "owner", "password": password(device)}).encode()
        head = f"POST /api/login HTTP/1.1\r\nHost: x\r\nOrigin: https://x\r\nContent-Length: {len(login)}\r\n\r\n"
        good = head.encode() + login.replace(password(device).encode(), b"none of them all")
        assert client.login(password(device))["fresh"]
        before = device.witness.wait(device.witness.mark(), lambda claims: claims["uptime"] > 8, 120)
        for _ in range(60):
            bent = bytearray(good)
            for _ in range(chance.randrange(1, 12)):
                bent[chance.randrange(len(bent))] = chance.randrange(256)
            address = ("127.0.0.1", device.board.https_port)
            with contextlib.suppress(OSError), socket.create_connection(address, 5) as raw:
                if not chance.randrange(8):
                    raw.sendall(bent)  # no TLS at all
                    continue
                with client.context.wrap_socket(raw, server_hostname=device.id) as secure:
                    secure.sendall(bent[: chance.randrange(len(bent)) if not chance.randrange(3) else None])
                    secure.shutdown(socket.SHUT_WR)
                    while secure.recv(4096):
                        pass
        assert asked_again(client, password(device))["fresh"], "and the owner is served"
        settled = time.monotonic() + 5
        device.witness.wait(device.witness.mark(), lambda claims: time.monotonic() > settled, 120)
        after = device.witness.wait(device.witness.mark(), lambda claims: True, 120)
        assert before and after and after.counter[0] == first.counter[0], "the device restarted"
        free = [report.claims["heap_free"] for report in (before, after)]
        assert free[0] - free[1] < 4096, free
        told = device.log.read_text()
        assert "MemoryError" not in told and "Traceback" not in told, told[-3000:]
    finally:
        device.close()


@needs_browser
def test_browser_refuses_a_device_whose_authority_it_does_not_know(open_device: Device) -> None:
    url = started(open_device)
    with browser.Browser(resolves(open_device)) as page:
        assert page.open(url) == "net::ERR_CERT_AUTHORITY_INVALID"


@needs_browser
def test_person_with_a_browser(shop: Stage, open_device: Device, tmp_path: Path) -> None:
    device = open_device
    url = started(device)
    with browser.Browser(resolves(device), f"--ignore-certificate-errors-spki-list={spki(device)}") as page:
        assert page.open(url) == ""
        page.wait("!document.querySelector('#login').hidden")
        # The label's password, by keyboard alone: the focus is where one types.
        page.type("wrong")
        page.enter()
        page.wait("document.querySelector('#message').innerText.includes('wrong user or password')")
        page.js("document.querySelector('#login [name=password]').select()")
        page.type(password(device))
        page.tab()
        assert page.js("document.activeElement.innerText") == "Log in"
        page.enter()
        # Nothing but a new password.
        page.wait("!document.querySelector('#fresh').hidden")
        assert not page.text("#state") and not page.text("#update") and not page.text("#interfaces")
        told = page.js(
            "call('state').then(() => 'let in', (error) => error.reason)",
        )
        assert told == "fresh"
        for text in (password(device), NEW, NEW):
            page.type(text)
            page.tab()
        page.enter()
        page.wait("document.querySelector('#message').innerText === 'The password is changed.'")
        page.wait("document.querySelector('#state').innerText.includes('1.0.0')")
        page.wait("document.querySelector('#interfaces').innerText.includes('https')")
        assert device.id in page.text("#state") and "idle" in page.text("#update-state")
        # A tampered update is refused, with the reason on the page; here of the envelope, then of the pack.
        envelope = release(shop, "1.9.0", extra=True)
        pack = envelope.with_suffix(".pack")
        bad = tmp_path / "bad.suit"
        attacks.resign(envelope, attacks.impostor(shop.product.signer("release")), bad)
        upload(page, bad, pack)
        page.wait("document.querySelector('#update-state').innerText.includes('refused (signature)')")
        broken = bytearray(pack.read_bytes())
        broken[10] ^= 1  # within the index: nothing of it is installed
        (tmp_path / "bad.pack").write_bytes(broken)
        upload(page, envelope, tmp_path / "bad.pack")
        page.wait("document.querySelector('#update-state').innerText.includes('refused (')")
        page.wait("!document.querySelector('#update-state').innerText.includes('signature')")
        if os.environ.get("GATEHOUSE_PICTURES"):
            page.picture(ROOT / "docs" / "https-refused.png")
        # What is not even taken is told, and the page goes on looking.
        choose(page, pack, pack)
        page.wait("document.querySelector('#message').className === 'bad'")
        page.wait("document.querySelector('#update-state').innerText.includes('refused (')")
        installing = {"state": "installing", "reason": None, "detail": "", "sequence": 3, "done": 3, "total": 9}
        shown = "[document.querySelector('#update-state').innerText, document.querySelector('#bar').position]"
        assert page.js(f"status({json.dumps(installing)}) && {shown}") == ["installing, 3 of 9 files", 3 / 9]
        page.js("look(false)")
        page.wait("document.querySelector('#update-state').innerText.includes('refused (')")
        # The good one is installed, with its progress on the page.
        page.js(
            "window.seen = []; new MutationObserver(() => seen.push(document.querySelector('#update-state').innerText))"
            ".observe(document.querySelector('#update-state'), {childList: true, characterData: true, subtree: true})"
        )
        upload(page, envelope, pack)
        report = device.tells("confirmed", None, 120)
        assert report.claims["version"] == "1.9.0"
        page.wait("!document.querySelector('#login').hidden")  # the restart ended the session
        seen = page.js("seen")
        begun = next(at for at, text in enumerate(seen) if text.startswith("uploading, "))
        assert not [text for text in seen[begun:] if "refused" in text], (seen, "of the update before")
        under_way = ("The device checks", "downloading", "installing", "pending-reboot")
        assert any(text.startswith(under_way) for text in seen[begun:]), seen
        page.type(NEW)
        page.enter()
        page.wait("document.querySelector('#state').innerText.includes('1.9.0')")
        page.wait("document.querySelector('#update-state').innerText.includes('confirmed')")
        if os.environ.get("GATEHOUSE_PICTURES"):
            page.picture(ROOT / "docs" / "https.png")
        cookies = page.ask("Network.getAllCookies")["cookies"]
        assert sorted((one["name"], one["secure"], one["httpOnly"], one["sameSite"]) for one in cookies) == [
            (name, True, True, "Strict") for name in ("__Host-known", "__Host-session")
        ]
        assert not [text for text in page.console if "Content Security Policy" in text or "exception" in text]
        page.js("document.querySelector('#logout').click()")
        page.wait("document.querySelector('#message').innerText === 'Logged out.'")
        left = page.ask("Network.getAllCookies")["cookies"]
        assert [one["name"] for one in left] == ["__Host-known"]
    assert "MemoryError" not in device.log.read_text()


def choose(page: browser.Browser, envelope: Path, pack: Path) -> None:
    """Choose both files on the page and press the button."""
    page.js("document.querySelector('#update-state').innerText = ''")
    page.choose("#update [name=envelope]", envelope)
    page.choose("#update [name=pack]", pack)
    page.js("document.querySelector('#update form button').click()")


def upload(page: browser.Browser, envelope: Path, pack: Path) -> None:
    """Upload both files by the page."""
    choose(page, envelope, pack)
    page.wait("document.querySelector('#message').innerText.startsWith('Uploaded')")
