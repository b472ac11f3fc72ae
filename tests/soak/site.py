"""Where a soak takes place: one simulated device, a proxy, Mosquitto, a collector, and a clock for all of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatehouse_tools import collector, journal, publish, reports
from gatehouse_tools.broker import Broker, free_port
from gatehouse_tools.database import Batch, Database
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.sim.board import Board

from .checks import Written
from .console import Console, Stuck
from .proxy import Proxy

DEVICE = "gh-soak-1"
HEAP = "128wK"
REPORT_S = 1800
WATCHDOG_MS = 60000  # of real time: this machine may be busy with other things
BACK_S = 120.0  # of real time until a device or a collector must be back
_NUDGE_S = 4.0  # the clock's steps while a connection is made: its time limits are 5 s and 10 s
_NUDGE_EACH_S = 0.15  # of real time
_NUDGES = 40  # more than the longest pause of the link; who has not connected anew by then has nothing to say yet
_SLICE_S = 0.05
_PUBACK_S = 0.15  # of real time for the device to hear that its report is there, and of its ping
_COALESCE = (0.05, 1.0)  # real seconds after a large step, then seconds of the clock: a report waits 0.3 s for others


class Kept(Database):
    """The collector's database, which says when a report of the device is in it, and counts what came."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.changed = threading.Condition()
        self.reports = 0
        self.came = 0  # entries of the journal, each time they came

    def store(self, batch: Batch) -> None:
        super().store(batch)
        with self.changed:
            self.reports += len(batch.reports)
            self.came += len(batch.journal)
            self.changed.notify_all()


class Site:
    """Use it in a with block: at its end nothing of it is left running."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self._say = say
        self._stack = contextlib.ExitStack()
        self._folder = folder
        self._seed = seed
        self.written = Written()
        self.stepped = 0.0  # seconds by which the device's clock was moved
        self.powered = 0
        self._start = time.monotonic()

    def __enter__(self) -> Site:
        with contextlib.ExitStack() as stack:
            self._make(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _make(self, stack: contextlib.ExitStack) -> None:
        stage = self._stage = stack.enter_context(
            Stage(self._folder / "stage", "mosquitto", lambda _: None, lambda _: None)
        )
        ca = stage.product.ca
        self.broker = Broker(
            *(self._folder / "broker", ca / "ca.pem", ca / "broker.pem", ca / "broker-key.pem"),
            kind="mosquitto",
            port=free_port(),
        )
        stack.callback(self.broker.stop)
        self.broker.start()
        self.link, self.way = Proxy(self.broker.port), Proxy(self.broker.port)  # of the device, of the collector
        stack.callback(self.link.close)
        stack.callback(self.way.close)
        stage.gatehouse(
            *("provision", "--id", DEVICE, "--slot-release", str(stage.envelopes["1.0.0"])),
            *("--broker", f"localhost:{self.link.port}", "--base-url", stage.house.url),
            *("--ntp", stage.house.ntp_address, "--report-seconds", str(REPORT_S), "--sensor-seconds", "60"),
            *("--watchdog-ms", str(WATCHDOG_MS)),
        )
        self.image = stage.product.devices / DEVICE / "flash.bin"
        self.board = stack.enter_context(
            Board(self.image, heap=HEAP, log=self._folder / "uart.log", seed=self._seed, terminal=True)
        )
        self.file = self._folder / "collected.sqlite"
        self.database = Kept(f"sqlite:///{self.file}")
        stack.callback(self.database.close)
        self._thread: threading.Thread | None = None
        self.collect()
        stack.callback(self.leave)
        self.power_on()
        self.back()
        label = json.loads((self.image.parent / "secrets.json").read_text())["label_password"]
        with self.console() as console:
            console.own(label)

    # Time.

    def now(self) -> float:
        """Seconds of the device's clock since the soak began; also the collector's."""
        return time.monotonic() - self._start + self.stepped

    def step(self, seconds: float) -> None:
        """Let time pass at once, for the device, the collector and the time server."""
        self.stepped += seconds
        self.board.step(seconds)
        self._tell_time()

    def _tell_time(self) -> None:
        self._stage.house.time.set(time.time() + self.stepped)

    def live(self, seconds: float) -> None:
        """Let time pass in steps of a report's interval, one at least; the device reports, and is seen at it, in each.

        A step ends whatever exchange is under way, so the next one waits for the report of the one before.
        """
        for _ in range(max(1, round(seconds / REPORT_S))):
            since = self.database.reports
            self.step(REPORT_S)
            self._wait(lambda since=since: self.database.reports > since, _COALESCE[0])  # type: ignore[misc]
            self.step(_COALESCE[1])
            self.back(since)
            time.sleep(_PUBACK_S)

    def pass_by(self, seconds: float, each: float) -> None:
        """Let time pass while nothing can be seen of the device."""
        end = self.now() + seconds
        while self.now() < end:
            self.step(each)
            time.sleep(2 * _SLICE_S)

    def back(self, since: int | None = None) -> None:
        """Wait until a report has come since then, by default from now on; the clock is nudged meanwhile."""
        since = self.database.reports if since is None else since
        end = time.monotonic() + BACK_S
        nudges = 0
        while not self._wait(lambda: self.database.reports > since, _NUDGE_EACH_S):
            if time.monotonic() > end:
                raise Stuck(f"no report within {BACK_S:.0f} s: {(self._folder / 'uart.log').read_text()[-2000:]}")
            nudges += 1
            self.step(REPORT_S if nudges % _NUDGES == 0 else _NUDGE_S)

    def _wait(self, wanted: Callable[[], bool], limit: float) -> bool:
        with self.database.changed:
            return self.database.changed.wait_for(wanted, limit)

    # The device.

    def power_on(self) -> None:
        """Give the device power; it has its time from the time server."""
        self._tell_time()
        self.powered += 1
        self.board.power_on()

    def console(self) -> Console:
        """Somebody at its terminal."""
        return Console(self.board)

    def look(self) -> None:
        """Read its journal from the flash image, while its process stands still."""
        pid = self.board.pid
        try:
            if pid:
                os.kill(pid, signal.SIGSTOP)
            data = self.image.read_bytes()
        finally:
            if pid:
                os.kill(pid, signal.SIGCONT)
        self.written.look(data)

    # The broker.

    def stop(self, kill: bool) -> None:
        """End the broker; what it knew is gone."""
        process = self.broker._process
        if kill and process:
            os.kill(process.pid, signal.SIGKILL)
        self.broker.stop()

    # The collector.

    def collect(self) -> None:
        """Start the collector of `gatehouse collect`, by the soak's clock."""
        stage = self._stage
        judge = collector.Judge(reports.known_devices(stage.product.devices), None, self.database.newest, self.now)
        self._inbox = collector.Inbox(
            "soak", "1", publish.tls_context(stage.product), lambda text: self._say(f"collector: {text}"), self.now
        )
        self._collector = collector.Collector(
            self._inbox, judge, self.database, self._say, self.now, lambda _: self.keys()
        )
        self._inbox.open("localhost", self.way.port, collector.KEEPALIVE_S)
        self._thread = threading.Thread(target=self._collector.run, name="collector", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """End the collector; its database stays, and the broker keeps its session until that is killed."""
        if self._thread:
            self._inbox.close()
            self._collector.stop.set()
            self._thread.join()
            self._thread = None

    def unheard(self) -> int:
        """The number up to which the device knows a broker to have its entries, by the newest report."""
        return int(self._newest()["journal"]["acknowledged"])

    def _newest(self) -> dict[str, Any]:
        with contextlib.closing(sqlite3.connect(self.file)) as database:
            row = database.execute("SELECT claims FROM reports ORDER BY boots DESC, number DESC LIMIT 1").fetchone()
        return dict(json.loads(row[0]))

    # What is there in the end.

    def stored(self) -> list[journal.Record]:
        """The entries that the collector has."""
        return journal.from_database(self.file, DEVICE)[0]

    def heap(self) -> list[tuple[int, int]]:
        """Of each report, in order: boot count and free heap."""
        with contextlib.closing(sqlite3.connect(self.file)) as database:
            rows = database.execute("SELECT boots, claims FROM reports ORDER BY boots, number").fetchall()
        return [(boot, json.loads(claims)["heap_free"]) for boot, claims in rows]

    def told(self) -> dict[str, Any]:
        """Facts of the run: alarms, refusals, and what the link of the last boot counted."""
        with contextlib.closing(sqlite3.connect(self.file)) as database:
            alarms = database.execute("SELECT alarm FROM reports WHERE alarm IS NOT NULL").fetchall()
            refused = database.execute("SELECT reason, count, detail FROM refusals").fetchall()
        return {"alarms": [row[0] for row in alarms], "refused": refused, "link": self._newest()["link"]}

    def keys(self) -> dict[int, bytes]:
        """The device's journal keys."""
        return journal.keys_of(self._stage.product, DEVICE)
