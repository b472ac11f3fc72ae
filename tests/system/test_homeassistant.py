"""A whole device in front of Home Assistant's side of a real broker: it appears, is updated by a press, and goes."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatehouse_tools import ca, topics
from gatehouse_tools.demo.stage import Stage
from servers.mqtt import Observer

from .conftest import Device
from .test_recovery import configuration
from .test_update import release

LIVE = Path(__file__).resolve().parents[1] / "peers" / "homeassistant_live.py"
HOME_ASSISTANT = os.environ.get("GATEHOUSE_HOMEASSISTANT")
DOOR = ("--set", 'interfaces=["uart", "home-assistant"]', "--set", "auto_install=false")


class Home:
    """Home Assistant's connection, with nothing but its own certificate; `last` has the newest message of each row."""

    def __init__(self, shop: Stage, folder: Path, device: str) -> None:
        files = ca.client_files(shop.product.ca, folder / "home", topics.HOME_ASSISTANT, 1)
        rows = ("ha-config", "ha-update", "ha-state", "status", "sensor", "report", "command")
        self._rows = {topics.topic(name, id=device): name for name in rows}
        self.observer = Observer(shop.house.broker.port, shop.product.ca / "ca.pem", *files, *self._rows)
        self.install = topics.topic("ha-install", id=device)
        self.last: dict[str, bytes] = {}
        self.count: dict[str, int] = {}

    def wait(self, row: str, wanted: Any, within: float = 40) -> bytes:
        """The first message of a row from now on, or the one that is the newest, that `wanted` accepts."""
        end = time.monotonic() + within
        while row not in self.last or not wanted(self.last[row]):
            left = end - time.monotonic()
            try:
                topic, payload, _ = self.observer.get(max(left, 0.01))
            except queue.Empty:
                raise AssertionError(f"no such {row}, but {self.last}") from None
            name = self._rows[topic]
            self.last[name] = payload
            self.count[name] = self.count.get(name, 0) + 1
        return self.last[row]

    def update(self, **fields: object) -> dict[str, Any]:
        """The update entity's message with these fields."""

        def has(payload: bytes) -> bool:
            found = json.loads(payload) if payload else {}
            return all(found.get(name) == value for name, value in fields.items())

        return dict(json.loads(self.wait("ha-update", has)))


@pytest.fixture
def device(shop: Stage, tmp_path: Path, seed: int) -> Iterator[Device]:
    made = Device(shop, tmp_path, seed, "128wK", *DOOR)
    yield made
    made.close()


def test_it_appears_is_updated_by_a_press_and_goes_with_the_policy(shop: Stage, device: Device, tmp_path: Path) -> None:
    home = Home(shop, tmp_path, device.id)
    with home.observer:
        device.board.power_on()
        announced = json.loads(home.wait("ha-config", len))
        assert announced["dev"]["ids"] == device.id and announced["dev"]["sw"] == "1.0.0"
        assert json.loads(home.wait("ha-state", len))["problem"] in ("ON", "OFF")
        home.update(installed_version="1.0.0", latest_version="1.0.0", in_progress=False)
        json.loads(home.wait("sensor", len))
        report = device.runs("1.0.0")
        assert report.claims["interfaces"]["home-assistant"] == {"wanted": True, "active": True}
        # A press for nothing does nothing; what the broker keeps is no press, now and at each later connect.
        home.observer.publish(home.install, b"install")
        home.observer.publish(home.install, b"install", retain=True)
        before = home.count["ha-config"]
        home.observer.publish("homeassistant/status", b"online")  # behind the presses: what it brings says they came
        home.wait("ha-config", lambda payload: home.count["ha-config"] > before)
        device.publish(release(shop, "1.1.0"))
        waiting = home.update(latest_version="1.1.0", in_progress=False)
        assert waiting["release_summary"] == "for the tests, 1.1.0" and waiting["installed_version"] == "1.0.0"
        device.tells("downloaded", None)
        again = device.witness.wait(device.witness.mark(), lambda claims: True, 120)
        assert again and again.claims["update"]["state"] == "downloaded"
        # Home Assistant starts anew.
        before = home.count["ha-config"]
        home.observer.publish("homeassistant/status", b"online")
        home.wait("ha-config", lambda payload: home.count["ha-config"] > before)
        home.observer.publish(home.install, b"install")
        device.tells("confirmed", None, 120)
        home.update(installed_version="1.1.0", latest_version="1.1.0", in_progress=False)
        assert json.loads(home.wait("ha-config", lambda payload: b'"sw":"1.1.0"' in payload))
        # The signed configuration closes the door.
        closed = configuration(shop, tmp_path, shop.house.broker_address, interfaces=["uart"])
        device.publish(closed)
        assert home.wait("ha-config", lambda payload: not payload, 60) == b""
        home.wait("ha-state", lambda payload: not payload)
        report = device.witness.wait(
            0, lambda claims: claims["interfaces"]["home-assistant"] == {"wanted": False, "active": False}, 30
        )
        assert report and "report" not in home.last and "command" not in home.last
    with Home(shop, tmp_path / "later", device.id).observer as later:  # nothing of it is kept
        topic, _, _ = later.get()
        assert topic.endswith(("/status", "/sensor")), topic
    text = device.log.read_text()
    assert "MemoryError" not in text and "home-assistant" not in text


class Real:
    """Home Assistant itself, as a program of its own."""

    def __init__(self, shop: Stage, folder: Path) -> None:
        files = ca.client_files(shop.product.ca, folder / "home", topics.HOME_ASSISTANT, 1)
        paths = map(str, [LIVE, shop.house.broker.port, shop.product.ca / "ca.pem", *files])
        self._log = (folder / "home-assistant.log").open("w")
        self.process = subprocess.Popen(
            [HOME_ASSISTANT or "", *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._line() == "loaded"

    def _line(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, Path(self._log.name).read_text()[-3000:]
        return json.loads(line)

    def ask(self, *command: str) -> dict[str, Any]:
        """Give a command; the devices and states afterwards."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return dict(self._line())

    def until(self, wanted: Callable[[dict[str, Any]], Any], within: float = 60) -> dict[str, Any]:
        """Its devices and states once `wanted` accepts them."""
        end = time.monotonic() + within
        while not wanted(found := self.ask("states")):
            assert time.monotonic() < end, found
            time.sleep(0.2)
        return found

    def __enter__(self) -> Real:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._log.close()


@pytest.mark.skipif(not HOME_ASSISTANT, reason="GATEHOUSE_HOMEASSISTANT names no Python that has Home Assistant")
def test_home_assistant_itself_shows_and_updates_it(shop: Stage, device: Device, tmp_path: Path) -> None:
    with Real(shop, tmp_path) as home:
        device.board.power_on()
        found = home.until(lambda found: len(found["states"]) == 5)
        ((name, _, version),) = found["devices"]
        assert (name, version) == (f"demo {device.id}", "1.0.0")
        entities = {entity.split(".")[0] + "." + entity.rsplit("_", 1)[1]: entity for entity in found["states"]}
        assert sorted(entities) == [
            *("binary_sensor.health", "sensor.strength", "sensor.temperature", "sensor.uptime", "update.firmware")
        ]

        def state(found: dict[str, Any], entity: str) -> Any:
            return found["states"][entities[entity]][0]

        def tells(found: dict[str, Any], entity: str) -> dict[str, Any]:
            return dict(found["states"][entities[entity]][1])

        found = home.until(lambda found: not {"unknown", "unavailable"} & {one[0] for one in found["states"].values()})
        assert state(found, "binary_sensor.health") == "off" and tells(found, "binary_sensor.health")["reasons"] == []
        assert float(state(found, "sensor.temperature")) == float(round(device.board._bench.celsius))
        assert tells(found, "sensor.temperature")["unit_of_measurement"] == "°C"
        assert float(state(found, "sensor.strength")) == -50
        assert state(found, "update.firmware") == "off"
        device.publish(release(shop, "1.1.0"))
        found = home.until(lambda found: state(found, "update.firmware") == "on")
        offered = tells(found, "update.firmware")
        assert (offered["installed_version"], offered["latest_version"]) == ("1.0.0", "1.1.0")
        assert offered["release_summary"] == "for the tests, 1.1.0"
        device.tells("downloaded", None)
        home.until(lambda found: not tells(found, "update.firmware")["in_progress"])  # no press while it downloads
        home.ask("install", entities["update.firmware"])
        device.tells("confirmed", None, 120)
        found = home.until(lambda found: tells(found, "update.firmware").get("installed_version") == "1.1.0")
        assert state(found, "update.firmware") == "off" and tells(found, "update.firmware")["in_progress"] is False
        device.board.power_off()
        home.until(lambda found: state(found, "update.firmware") == "unavailable")
        device.board.power_on()
        home.until(lambda found: state(found, "sensor.temperature") not in ("unknown", "unavailable"))
        device.publish(configuration(shop, tmp_path, shop.house.broker_address, interfaces=["uart"]))
        home.until(lambda found: found == {"devices": [], "states": {}}, 90)
