"""`gatehouse demo --device PORT`: the real esptool writes a chip behind a pseudo-terminal, which then runs what it got.

The chip is the ROM loader of tests/servers and, once it is written, the simulated board; the human's part, to pull the
plug when that is asked for, is played here. Nothing of this has run on a chip.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatehouse_tools.demo import buttons, scenes
from servers import browser, stock_image
from servers.chip import Chip
from servers.rom_loader import next_port

from . import test_demo_page

HOST = "127.0.0.2"  # the broker's certificate is for it only because the demonstration had it made so
ASKED = "Pull the plug now"
LIMIT_S = 400.0


class Run:
    """`gatehouse demo --device` as a program of its own, and what it has told so far."""

    def __init__(self, folder: Path, port: str, *options: str) -> None:
        firmware, wifi = folder / "firmware.bin", folder / "wifi.toml"
        firmware.write_bytes(stock_image.firmware())
        wifi.write_text('ssid = "gatehouse-sim"\npassword = "simulated"\n')
        wifi.chmod(0o600)
        self.told = ""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gatehouse_tools", "demo", "--device", port, "--dir", str(folder / "demo")),
                *("--host", HOST, "--firmware", str(firmware), "--wifi", str(wifi)),
                *("--broker", "mosquitto", "--json", *options),
            ],
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self._changed = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._changed:
                self.told += line
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait(self, text: str) -> bool:
        """Whether it has told this, or does before it ends."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.told or self._over, LIMIT_S), self.told[-3000:]
            return text in self.told

    def result(self) -> tuple[int, dict[str, Any]]:
        """Exit code and what --json gives, at its end."""
        assert self.process.stdout
        out = self.process.stdout.read()
        code = self.process.wait(60)
        self._reader.join()
        return code, json.loads(out or "{}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        assert self.process.stdout and self.process.stderr
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[Chip]:
    with Chip(tmp_path) as made:
        yield made


def test_the_whole_story_with_a_human_at_the_plug(tmp_path: Path, chip: Chip) -> None:
    with contextlib.closing(Run(tmp_path, chip.port, "--once")) as run:
        assert run.wait(ASKED), run.told[-3000:]
        assert chip.board
        before = chip.board.boots
        chip.pull()
        code, told = run.result()
    assert code == 0, (run.told[-5000:], told)
    assert told["good"] and len(told["verdicts"]) == len(scenes.STORY)
    assert chip.erased == 1 and chip.board.boots > before
    cut = next(one for one in told["verdicts"] if one["tried"].startswith("power cut in the middle of update"))
    assert cut["told"].startswith("confirmed")
    events = [one.kind for one in chip.board.events]
    assert events.count("power-off") == 1 and events.count("power-on") == 2 and "cut" not in events
    # It is told what it is, and what is somebody's word.
    assert told["board"] == f"a program on {chip.port}, no board"
    assert f"device: gh-demo-1, a program on {chip.port}, no board" in run.told and "real board" not in run.told
    assert "The plug was pulled by hand" in run.told
    # Its UART was followed, through its resets and its power cut; the first boot may be over when the port is opened.
    log = (tmp_path / "demo" / "gh-demo-1.log").read_text()
    assert log.count("gatehouse: boot ") >= chip.board.boots - 1 > 3
    # The board keeps running when the demonstration leaves; what it joins with is in its own folder alone.
    assert chip.board.running and not (tmp_path / "demo" / "wifi.toml").exists()
    assert "Traceback" not in run.told
    assert run.told.index("read back, started") < run.told.index("report 1.")  # nobody missed the first one


def test_a_board_that_goes_away_while_it_is_written_ends_it_in_one_line(tmp_path: Path, chip: Chip) -> None:
    chip.unplug_after = 300_000
    with contextlib.closing(Run(tmp_path, chip.port, "--once")) as run:
        code, told = run.result()
    assert code == 1 and told.get("ok") is not True and chip.board is None
    assert "stopped while the board is written" in run.told and "nothing here is lost" in run.told
    assert "1 of 8" not in run.told and "Traceback" not in run.told
    assert next_port() != chip.port


@pytest.mark.skipif(not browser.program(), reason="no chromium here: apt-get install chromium, as root")
def test_the_page_asks_for_the_plug_and_offers_what_a_board_can_do(tmp_path: Path, chip: Chip) -> None:
    with contextlib.closing(Run(tmp_path, chip.port, "--no-story", "--port", "0")) as run, browser.Browser() as page:
        assert run.wait("http://127.0.0.1:"), run.told[-3000:]
        found = re.search(r"http://127\.0\.0\.1:\d+/", run.told)
        assert found and page.open(found[0]) == ""
        test_demo_page.is_ready(page)
        page.wait("document.querySelector('.card').innerText.includes('the chain holds')")
        assert page.text("#mode") == f"LIVE, a program on {chip.port}, no board"
        assert "that person's word" in page.text("#simulated") and "simulated" not in page.text("#simulated")
        names = page.js("[...document.querySelectorAll('[data-button]')].map((one) => one.dataset.button)")
        assert set(names) == set(buttons.BY_NAME) - {"password"}
        assert page.js("document.querySelector('#reset').hidden && document.querySelector('#count-label').hidden")
        assert page.js("document.querySelector('#ask').hidden") and chip.board
        test_demo_page.press(page, "power")
        page.wait(f"document.querySelector('#ask').innerText.startsWith({ASKED!r})")
        chip.pull()
        told = test_demo_page.run_of(page, "power")
        assert told["good"] and told["counter"].startswith("2."), (told, run.told[-3000:])
        assert page.js("document.querySelector('#ask').hidden")
        for name in ("freeze", "replay", "forge", "rollback"):
            test_demo_page.is_ready(page)
            test_demo_page.press(page, name)
            told = test_demo_page.run_of(page, name)
            assert told["good"], (name, told, run.told[-3000:])
    assert "Traceback" not in run.told
