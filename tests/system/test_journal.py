"""The journal of a whole device, offline for many events and with a broker that is killed in the middle of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from gatehouse_tools import journal, journal_live, reports, topics
from gatehouse_tools.broker import Broker, free_port
from gatehouse_tools.demo.stage import Stage

from .conftest import ROOMY, Device
from .terminal import Terminal, label_password
from .test_console import change

EVENTS = 70
WAIT = 40.0


class Collector:
    """Keeps each entry once, and asks for what it lacks; knows of the device only what verified reports tell."""

    def __init__(self, shop: Stage, device: str, port: int) -> None:
        self.device = device
        self.names = ["report"]  # of the topic table, from the next connect on
        self.entries: dict[int, journal.Record] = {}
        self.came: list[int] = []  # every time
        self.head: dict[str, int] = {}
        self._changed = threading.Condition()
        self._verifier = reports.Verifier(reports.known_devices(shop.product.devices))
        ca = shop.product.root / "ca"
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"collector-{device}")
        self._client.tls_set(str(ca / "ca.pem"), str(ca / "host.pem"), str(ca / "host-key.pem"))
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(
            [(topics.topic(name, id=device), 1) for name in self.names]
        )
        self._client.on_message = self._message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            if message.topic.endswith("/report"):
                verdict = self._verifier.take(self.device, bytes(message.payload), bool(message.retain))
                if verdict and verdict.report:
                    self.head = verdict.report.claims["journal"]
                    if self.head["acknowledged"] > self.last():
                        # A broker that was killed had acknowledged more than it passed on.
                        asked = journal_live.request(self.last())
                        self._client.publish(topics.topic("journal-ack", id=self.device), asked, 1)
            else:
                for record in journal.parse_message(bytes(message.payload)):
                    self.came.append(record.number)
                    assert self.entries.setdefault(record.number, record) == record
            self._changed.notify_all()

    def last(self) -> int:
        """The last number up to which nothing is missing."""
        number = 0
        while number + 1 in self.entries:
            number += 1
        return number

    def until(self, wanted: Callable[[], bool], what: str) -> None:
        """Wait for it."""
        end = time.monotonic() + WAIT
        with self._changed:
            while not wanted():
                assert time.monotonic() < end, f"never: {what}; {sorted(self.entries)} of {self.head}"
                self._changed.wait(0.2)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


class Site:
    """A device with a terminal, whose broker comes and goes at one port."""

    def __init__(self, shop: Stage, folder: Path, seed: int) -> None:
        ca = shop.product.root / "ca"
        self.port = free_port()
        self._files = (ca / "ca.pem", ca / "broker.pem", ca / "broker-key.pem")
        self._folder = folder
        self.broker: Broker | None = None
        options = ("--broker", f"localhost:{self.port}")
        self.device = Device(shop, folder, seed, ROOMY, *options, terminal=True)

    def start(self) -> None:
        """Start the broker, which remembers nothing."""
        self.broker = Broker(self._folder / "broker", *self._files, kind="mosquitto", port=self.port).start()

    def kill(self) -> None:
        """Kill the broker, and with it what it had not passed on yet."""
        assert self.broker and self.broker._process
        os.kill(self.broker._process.pid, signal.SIGKILL)
        self.broker.stop()

    def close(self) -> None:
        """End all that belongs to it."""
        self.device.close()
        if self.broker:
            self.broker.stop()


@pytest.fixture
def site(shop: Stage, tmp_path: Path, seed: int) -> Iterator[Site]:
    made = Site(shop, tmp_path, seed)
    yield made
    made.close()


def test_events_of_a_device_that_was_offline_arrive_each_once(shop: Stage, site: Site) -> None:
    device = site.device
    device.board.power_on()
    with Terminal(device) as terminal:
        terminal.expect("boot 1 active 1.0.0")
        terminal.answers()  # no broker, so no report that says that the application is there
        terminal.login("owner", label_password(device))
        change(terminal, label_password(device))
        for _ in range(EVENTS):
            terminal.type("update.postpone 1")
            terminal.expect("until: ")
            terminal.expect("owner> ")
    device.board.power_off()
    device.board.power_on()
    site.start()
    collector = Collector(shop, device.id, site.port)
    try:
        # Nobody is there to take what the broker acknowledges.
        collector.until(lambda: collector.head.get("acknowledged", 0) > EVENTS, "the broker's acknowledgement of all")
        assert not collector.entries
        collector.names.append("journal")
        site.kill()
        site.start()
        collector.until(lambda: len(collector.came) >= 20, "the first entries, asked for")
        site.kill()
        reached = len(collector.came)
        site.start()
        collector.until(lambda: len(collector.came) > reached, "entries after the broker came back")
        collector.until(lambda: 0 < collector.head.get("last", 0) == collector.last(), "all entries")
        keys = journal.keys_of(shop.product, device.id)
        head = journal.Known(collector.head["last"], bytes.fromhex(str(collector.head["tag"])), "its report")
        found = journal.verify(collector.entries.values(), keys, [head])
        assert found.faults == [] and found.notes == []
        told = [entry.event for entry in found.entries]
        assert told.count("boot") == 2 and [entry.number for entry in found.entries] == list(range(1, len(told) + 1))
        did = [entry for entry in found.entries if entry.event == "did" and entry.details[-1] == "update.postpone"]
        assert len(did) == EVENTS
    finally:
        collector.close()
    # As a person asks for it, with the same device and broker.
    command = [sys.executable, "-m", "gatehouse_tools", "journal", device.id, "--json"]
    where = ["--product", str(shop.product.root), "--broker", f"localhost:{site.port}"]
    for _ in range(3):
        done = subprocess.run([*command, *where], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        if answer["entries"][0]["number"] == 1:
            break  # else it came into the middle of what the collector had asked for
    assert answer["faults"] == [] and [entry["number"] for entry in answer["entries"]][: len(told)] == list(
        range(1, len(told) + 1)
    )
    assert "MemoryError" not in device.log.read_text()
