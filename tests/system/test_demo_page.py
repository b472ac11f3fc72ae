"""The demonstration's page in a real browser: what its buttons do to live devices, and what it says of that."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatehouse_tools import reports
from gatehouse_tools.commands import demo as command
from gatehouse_tools.demo import buttons
from gatehouse_tools.demo.witness import Witness
from servers import browser

from .conftest import ROOT

pytestmark = pytest.mark.skipif(not browser.program(), reason="no chromium here: apt-get install chromium, as root")
READY_S = 240.0
VERDICT_S = 150.0
SIZE = (1600, 1000)


class Demo:
    """`gatehouse demo` as a program of its own, with its page in a browser."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.log = folder / "terminal.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "gatehouse_tools",
                    "demo",
                    "--port",
                    "0",
                    "--dir",
                    str(folder / "demo"),
                    *options,
                ],
                env=os.environ | {"COLUMNS": "200"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self.url = self.told(r"http://127\.0\.0\.1:\d+/")
        except BaseException:
            self.close()
            raise

    def told(self, pattern: str) -> str:
        """The first text of the terminal that matches."""
        end = time.monotonic() + READY_S
        while not (found := re.search(pattern, self.log.read_text())):
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.05)
        return found[0]

    def witness(self, device: str) -> Witness:
        """A verifier of the test's own."""
        port = int(self.told(r"broker: \w+ on localhost:\d+").rpartition(":")[2])
        product = self.folder / "demo" / "product"
        verifier = reports.Verifier(reports.known_devices(product / "devices"))
        ca = product / "ca"
        return Witness(device, verifier, ca / "ca.pem", ca / "host.pem", ca / "host-key.pem", "localhost", port)

    def close(self) -> None:
        """End it as a terminal that is closed does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_ready(page: browser.Browser) -> None:
    page.wait("document.querySelector('#phase').innerText.startsWith('Ready')", READY_S)


def press(page: browser.Browser, name: str) -> None:
    """Go to a button with the keyboard, and press it."""
    for _ in range(60):
        if page.js("document.activeElement.dataset.button || document.activeElement.id") == name:
            page.enter()
            return
        page.tab()
    raise AssertionError(f"the keyboard does not reach {name}")


def run_of(page: browser.Browser, name: str, seconds: float = VERDICT_S) -> dict[str, Any]:
    """The newest run of a button, once it has its verdict."""
    title = buttons.BY_NAME[name].title
    script = f"""(() => {{
        const run = [...document.querySelectorAll('#runs details')].find(
            (one) => one.querySelector('summary').innerText.startsWith({json.dumps(title)}));
        const verdict = run && run.querySelector('.verdict');
        return verdict && verdict.dataset.good && {{
            good: verdict.dataset.good === 'true', counter: verdict.dataset.counter,
            told: verdict.querySelector('.told').innerText, steps: run.querySelectorAll('.steps > li').length,
            bytes: run.querySelectorAll('code').length, text: run.innerText }};
    }})()"""
    return dict(page.wait(script, seconds))


def agree(told: dict[str, Any], witness: Witness, name: str) -> None:
    """The page says what the device's report of that counter says, as a verifier of the test's own has it."""
    boots, number = (int(part) for part in told["counter"].split("."))
    report = witness.wait(0, lambda claims: claims["counter"] == [boots, number], 120)
    assert report, f"{name}: no verified report {told['counter']}"
    claims = report.claims
    assert f"runs {claims['version']} in slot {claims['slot']}" in told["told"], name
    state = told["told"].split(",")[0]
    update, refused = claims.get("update", {}), claims.get("refused", {})
    match name:
        case "tampered" | "stranger" | "board" | "downgrade" | "freeze":
            assert state == f"refused({refused['reason']})", name
        case "update" | "rollback":
            assert state == update["state"] == "confirmed"
        case "crash":
            assert state == f"{update['state']}({update['reason']})" == "rolled-back(health)"
        case "power":
            assert claims["reset"] == "power-on" and claims["comparison"] == "success"
        case "password":
            level = claims["access"]["lockouts"]["https/owner"]["level"]
            assert f"https/owner level {level}," in told["told"] and claims["access"]["sessions"] == 0
        case "replay":
            assert f"boot {claims['boots']}," in told["told"]
        case "forge":
            assert [one.reason for one in witness.refusals] == ["signature"]
        case _:
            raise AssertionError(f"no way to check {name}")


def test_every_button_against_live_devices(tmp_path: Path) -> None:
    recording = tmp_path / "run.jsonl"
    with (
        Demo(tmp_path, "--no-story", "--devices", "2", "--record", str(recording)) as demo,
        browser.Browser(f"--window-size={SIZE[0]},{SIZE[1]}") as page,
    ):
        assert page.open(demo.url) == ""
        is_ready(page)
        witness = demo.witness("gh-demo-1")
        with contextlib.closing(witness):
            names = page.js("[...document.querySelectorAll('[data-button]')].map((one) => one.dataset.button)")
            assert set(names) == {one.name for one in buttons.BUTTONS}
            for name in names:
                press(page, name)
                told = run_of(page, name)
                assert told["good"], (name, told, demo.log.read_text()[-3000:])
                assert told["steps"] > 0 and (told["bytes"] > 0 or name == "power"), name
                agree(told, witness, name)
                is_ready(page)
                if name == "forge":
                    look(page, "live")
        # Each card shows a report that was verified, and the journal's chain; the other device was left alone.
        cards = page.js("[...document.querySelectorAll('.card')].map((one) => one.innerText)")
        assert len(cards) == 2
        assert all("✓ verified, fresh" in text and "the chain holds" in text for text in cards)
        assert "boot 1 (power-on)" in cards[1] and "update: idle" in cards[1]
        assert page.js("document.querySelectorAll('.plot path')[0].getAttribute('d').split('L').length") > 5
        assert page.text("#mode") == "LIVE, simulated boards" and "No chip has run them yet" in page.text("#simulated")
        quiet(page, demo.url)
    assert "Traceback" not in demo.log.read_text()
    assert demo.process.returncode == 0
    if os.environ.get("GATEHOUSE_PICTURES"):
        command.RECORDING.write_bytes(recording.read_bytes())
    plays(tmp_path, recording)


def look(page: browser.Browser, name: str) -> None:
    """Pictures for the documents."""
    if os.environ.get("GATEHOUSE_PICTURES"):
        page.js("scrollTo(0, 0)")
        for scheme, suffix in (("light", ""), ("dark", "-dark")):
            page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            page.picture(ROOT / "docs" / f"{name}{suffix}.png", *SIZE)
        page.ask("Emulation.setEmulatedMedia", features=[])


def quiet(page: browser.Browser, url: str) -> None:
    """The page asked for nothing from elsewhere, and nothing of it was blocked or failed."""
    assert page.requests and not [one for one in page.requests if not one.startswith((url, "about:"))]
    assert not [text for text in page.console if "Content Security Policy" in text or "exception" in text], page.console


def plays(folder: Path, recording: Path) -> None:
    """The recording of a run shows the same verdicts, and says what it is."""
    with Demo(folder, "--replay", str(recording)) as demo, browser.Browser() as page:
        page.open(demo.url)
        page.wait("document.querySelector('#mode').innerText.startsWith('RECORDING of ')")
        page.wait("document.querySelectorAll('.card').length === 2")
        states = page.js("[...document.querySelectorAll('[data-button]')].map((one) => one.ariaDisabled)")
        assert set(states) == {"true"} and not page.text("#reset")
        page.js("document.querySelector('[data-button=tampered]').click()")
        assert run_of(page, "tampered")["good"]
        answer = page.js(
            "fetch('do', {method: 'POST', body: '{\"do\": \"reset\", \"devices\": 1}', headers: {'Content-Type':"
            " 'application/json', 'X-Gatehouse-Token': token()}}).then((one) => one.json())".replace(
                "token()", "document.querySelector('meta[name=token]').content"
            )
        )
        assert answer == {"ok": False, "why": "this is a recording: nothing can be done to it"}
        quiet(page, demo.url)


def test_power_cut_while_an_update_is_under_way(tmp_path: Path) -> None:
    with Demo(tmp_path, "--no-story") as demo, browser.Browser() as page:
        page.open(demo.url)
        is_ready(page)
        witness = demo.witness("gh-demo-1")
        with contextlib.closing(witness):
            press(page, "update")
            page.wait("document.querySelector('.update').innerText.match(/downloading|installing|pending|trial/)")
            page.js("document.querySelector('[data-button=power]').click()")
            for name in ("power", "update"):
                told = run_of(page, name)
                assert told["good"], (told, demo.log.read_text()[-3000:])
            last = witness.history[-1].claims
            assert last["version"] == "1.1.0" and last["mode"] == "active"
            is_ready(page)


def test_everything_goes_back_to_the_start(tmp_path: Path) -> None:
    """From the middle of the story, with another number of devices; and again from the middle of an attack."""
    with Demo(tmp_path) as demo, browser.Browser() as page:
        page.open(demo.url)
        page.wait("document.querySelector('#phase').innerText.includes('scene 2 of 8')", READY_S)
        assert page.js("document.querySelector('[data-button=tampered]').ariaDisabled") == "true"
        page.js("document.querySelector('#count').value = 3")
        page.js("document.querySelector('#reset').click()")
        page.wait("document.querySelectorAll('.card').length === 3", READY_S)
        is_ready(page)
        assert page.js("document.querySelectorAll('#runs details').length") == 0
        page.js("document.querySelectorAll('.card input')[2].click()")
        page.js("document.querySelector('[data-button=freeze]').click()")
        page.wait("document.querySelectorAll('#runs .steps li').length > 0")
        assert "→ gh-demo-3" in page.text("#runs summary")
        page.js("document.querySelector('#count').value = 1")
        page.js("document.querySelector('#reset').click()")
        page.wait("document.querySelectorAll('.card').length === 1", READY_S)
        is_ready(page)
        page.wait("document.querySelector('.card').innerText.includes('✓ verified, fresh')")
        assert "boot 1 (power-on)" in page.text(".card") and page.text(".big").startswith("1.0.0")
        # The end of it is told in one clear line.
        demo.close()
        page.wait("document.querySelector('#trouble').innerText.startsWith('No connection to the demonstration.')")
    assert demo.process.returncode == 0 and "Traceback" not in demo.log.read_text()


def test_story_can_be_skipped(tmp_path: Path) -> None:
    with Demo(tmp_path) as demo, browser.Browser() as page:
        page.open(demo.url)
        page.wait("document.querySelector('#phase').innerText.includes('scene 1 of 8')", READY_S)
        page.js("document.querySelector('#skip').click()")
        is_ready(page)
        runs = page.js("[...document.querySelectorAll('.verdict')].map((one) => one.dataset.good)")
        assert 1 <= len(runs) < 8 and set(runs) == {"true"}


class Evil(http.server.BaseHTTPRequestHandler):
    """Another web page, open in the same browser."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body></body>")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def evil() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_another_page_presses_no_button(tmp_path: Path, evil: str) -> None:
    with (
        Demo(tmp_path, "--no-story") as demo,
        browser.Browser("--host-resolver-rules=MAP evil.example 127.0.0.1") as page,
    ):
        page.open(demo.url)
        is_ready(page)
        order = json.dumps({"do": "act", "button": "tampered", "device": "gh-demo-1"})
        page.open(evil)
        for options in (
            {"method": "POST", "mode": "no-cors", "body": order},
            {
                "method": "POST",
                "body": order,
                "headers": {"Content-Type": "application/json", "X-Gatehouse-Token": "x"},
            },
        ):
            page.js(f"fetch({json.dumps(demo.url + 'do')}, {json.dumps(options)}).then(() => 0, () => 0)")
        read = page.js(f"fetch({json.dumps(demo.url)}).then((one) => one.text(), () => 'unreadable')")
        assert read == "unreadable"
        page.js(
            f"new Promise((done) => {{ const frame = document.createElement('iframe'); frame.src = {demo.url!r};"
            " frame.onload = done; document.body.append(frame); })"
        )
        assert page.js("frames.length") == 1
        assert [text for text in page.console if "frame-ancestors" in text], "it does not let itself be framed"
        # Its name pointed at this machine: to the browser it is then the same origin.
        port = demo.url.rpartition(":")[2]
        page.open(f"http://evil.example:{port}")
        assert page.js("document.querySelector('meta[name=token]')") is None
        page.open(demo.url)
        is_ready(page)
        assert page.js("document.querySelectorAll('#runs details').length") == 0
        # And the page itself does.
        press(page, "tampered")
        assert run_of(page, "tampered")["good"]
