"""Headless Chromium, driven over its DevTools protocol: what a person does to a page, with keyboard and files."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

# Without these it looks for its maker's hosts at every start.
_OPTIONS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
)
_START_S, _ANSWER_S = 60, 60


def program() -> str | None:
    """The browser of this machine; set-up installs Debian's for root (tools/setup/optional.py)."""
    return shutil.which("chromium")


class Browser:
    """One browser with one page, its profile empty. Use it in a with block."""

    def __init__(self, *options: str) -> None:
        found = program()
        assert found, "no chromium"
        self._profile = tempfile.TemporaryDirectory(prefix="gatehouse-browser-", ignore_cleanup_errors=True)
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()
        line = [found, *_OPTIONS, *root, f"--user-data-dir={self._profile.name}", *options, "about:blank"]
        self._process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._numbers = itertools.count(1)
        self.console: list[str] = []  # what the page complained of
        self.requests: list[str] = []  # every URL that it asked for
        try:
            self._socket = connect(self._address(), max_size=None, compression=None, proxy=None)
            targets = self._ask("Target.getTargets")["targetInfos"]
            page = next(one for one in targets if one["type"] == "page")
            attached = self._ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
                self.ask(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def _address(self) -> str:
        path = Path(self._profile.name) / "DevToolsActivePort"
        end = time.monotonic() + _START_S
        while time.monotonic() < end and self._process.poll() is None:
            lines = path.read_text().split("\n") if path.exists() else []
            if len(lines) > 1:
                return f"ws://127.0.0.1:{int(lines[0])}{lines[1]}"
            time.sleep(0.05)
        raise AssertionError(f"chromium does not start (exit code {self._process.poll()})")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, with all its processes."""
        with contextlib.suppress(Exception):
            self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        self._profile.cleanup()

    def _ask(self, method: str, **values: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": values}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        end = time.monotonic() + _ANSWER_S
        while True:
            found = json.loads(self._socket.recv(timeout=end - time.monotonic()))
            if found.get("id") == number:
                assert "error" not in found, f"{method}: {found['error']}"
                return dict(found["result"])
            if found.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.console.append(json.dumps(found["params"]))
            elif found.get("method") == "Network.requestWillBeSent":
                self.requests.append(found["params"]["request"]["url"])

    def ask(self, method: str, **values: Any) -> dict[str, Any]:
        """One command of the protocol to the page."""
        return self._ask(method, **values)

    def open(self, url: str) -> str:
        """Go to a URL and wait until it is loaded; the browser's error text, "" where there is none."""
        error = str(self.ask("Page.navigate", url=url).get("errorText", ""))
        if not error:
            self.wait(f"location.href === {url!r} && document.readyState === 'complete'")
        return error

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 120) -> Any:
        """The first true value of an expression."""
        end = time.monotonic() + seconds
        while not (found := self.js(expression)):
            assert time.monotonic() < end, f"never {expression}; the page: {self.js('document.body.innerText')}"
            time.sleep(0.05)
        return found

    def text(self, selector: str) -> str:
        """The visible text of an element; "" while it is hidden."""
        return str(self.js(f"(e => e && e.checkVisibility() ? e.innerText : '')(document.querySelector({selector!r}))"))

    def key(self, name: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        common = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def tab(self) -> None:
        """To the next element."""
        self.key("Tab", 9)

    def enter(self) -> None:
        """The Enter key."""
        self.key("Enter", 13, "\r")

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.ask("Input.insertText", text=text)

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in a file input."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def pdf(self, width: float, height: float) -> bytes:
        """The page as it is printed on paper of this size in inches, tagged and with an outline of its headings."""
        told = self.ask(
            "Page.printToPDF",
            paperWidth=width,
            paperHeight=height,
            generateTaggedPDF=True,
            generateDocumentOutline=True,
        )
        return base64.b64decode(told["data"])

    def picture(self, path: Path, width: int = 900, height: int = 1200) -> None:
        """A screenshot of the page as PNG."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))
