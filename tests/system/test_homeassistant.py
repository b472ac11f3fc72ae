"""A whole device in front of Home Assistant's side of a real broker: it appears, is updated by a press, and goes."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatehouse_tools import ca, topics
from gatehouse_tools.demo.stage import Stage
from servers.mqtt import Observer

from .conftest import Device
from .test_recovery import configuration
from .test_update import release

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


def test_it_appears_is_updated_by_a_press_and_goes_with_the_policy(
    shop: Stage, device: Device, tmp_path: Path
) -> None:
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
        device.publish(release(shop, "1.1.0"))
        waiting = home.update(latest_version="1.1.0", in_progress=False)
        assert waiting["release_summary"] == "for the tests, 1.1.0" and waiting["installed_version"] == "1.0.0"
        device.tells("downloaded", None)
        again = device.witness.wait(device.witness.mark(), lambda claims: True, 20)
        assert again and again.claims["update"]["state"] == "downloaded"
        # Home Assistant starts anew.
        before = home.count["ha-config"]
        home.observer.publish("homeassistant/status", b"online")
        home.wait("ha-config", lambda payload: home.count["ha-config"] > before)
        home.observer.publish(home.install, b"install")
        device.tells("confirmed", None, 60)
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
