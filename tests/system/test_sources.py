"""Whole devices whose packs come over HTTPS, over MQTT, in deltas and in blocks, in the board's default heap."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatehouse_tools import ca, pack, product
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.serve import StaticServer
from gatehouse_tools.sim.board import BoardStopped

from .conftest import Device
from .test_power import check_whole, slots_on_flash
from .test_update import release


@contextlib.contextmanager
def provisioned(shop: Stage, folder: Path, seed: int, *options: str, heap: str = "80wK") -> Iterator[Device]:
    device = Device(shop, folder, seed, heap, *options)
    try:
        yield device
    finally:
        device.close()


def test_update_over_https(shop: Stage, tmp_path: Path, seed: int) -> None:
    context = ca.server_context(shop.product.ca)
    with StaticServer(shop.product.dist, tls=context) as server:
        base = server.url.replace("127.0.0.1", "localhost")
        with provisioned(shop, tmp_path, seed, "--base-url", base) as device:
            device.board.power_on()
            device.runs("1.0.0")
            device.publish(release(shop, "1.9.0", extra=True))
            assert device.tells("confirmed", None, 60).claims["version"] == "1.9.0"
            assert "MemoryError" not in device.log.read_text()
    assert any(request.span for request in server.log)


def publish_blocks(shop: Stage, device: Device, envelope: Path, *options: str) -> None:
    broker = shop.house.broker_address
    shop.gatehouse("publish", str(envelope), "--device", device.id, "--broker", broker, "--over", "mqtt", *options)


def test_update_over_mqtt(shop: Stage, tmp_path: Path, seed: int) -> None:
    envelope = release(shop, "1.9.0", extra=True)
    before = len(shop.house.server.log)
    with provisioned(shop, tmp_path, seed, "--base-url", "mqtt:") as device:
        device.board.power_on()
        device.runs("1.0.0")
        publish_blocks(shop, device, envelope)
        assert device.tells("confirmed", None, 60).claims["version"] == "1.9.0"
        assert "MemoryError" not in device.log.read_text()
        publish_blocks(shop, device, envelope, "--clear")
    assert len(shop.house.server.log) == before, "nothing came over HTTP"
