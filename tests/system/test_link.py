"""A whole device loses its network in every way, comes back without a reset, and its report counts it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatehouse_tools.broker import Broker
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.reports import Report

from .conftest import Device
from .test_update import release


@pytest.fixture
def device(shop: Stage, tmp_path: Path, seed: int) -> Iterator[Device]:
    made = Device(shop, tmp_path, seed, "128wK", "--set", "keepalive_seconds=5")
    yield made
    made.close()


def restarted(broker: Broker) -> None:
    """End the broker and start it on the same port: what it knew is gone."""
    broker._wanted = (broker.port, broker.websockets)
    broker.stop()
    broker.start()


def pass_time(device: Device, seconds: int) -> None:
    """Let time pass on the device's clock, slowly enough that it lives through each second of it."""
    for _ in range(seconds):
        device.board.step(1)
        time.sleep(0.1)


def come_back(device: Device, before: Report, **least: int) -> Report:
    """The first report after a loss in which these counters of the link have grown by so much; of the same boot."""
    since = device.witness.mark()

    def grown(claims: dict) -> bool:
        link, old = claims["link"], before.claims["link"]
        return link["connects"] > old["connects"] and all(link[name] >= old[name] + least[name] for name in least)

    end = time.monotonic() + 60
    while (report := device.witness.wait(since, grown, 0.5)) is None:
        assert time.monotonic() < end, device.log.read_text()[-2000:]
        device.board.step(2)  # the pauses between its tries have grown
    assert report.counter[0] == before.counter[0], "it was reset"
    return report


def test_each_loss_of_the_network_is_recovered_without_a_reset_and_counted(shop: Stage, device: Device) -> None:
    broker = shop.house.broker
    device.board.power_on()
    first = device.runs("1.0.0")
    counted = dict(first.claims["link"])
    assert set(counted.pop("failures")) <= {"network"}, "before the station is up"
    assert counted == {"connects": 1, "dropped": 0, "wifi_losses": 0, "left_out": 0, "oversize": 0}
    # The access point is gone: packets vanish, and nobody says that the connection is over.
    device.board.wifi(False)
    pass_time(device, 45)
    device.board.wifi(True)
    report = come_back(device, first, wifi_losses=1, dropped=1)
    assert set(report.claims["link"]["failures"]) <= {"timeout", "network", "tls"}
    # The broker is restarted.
    restarted(broker)
    report = come_back(device, report)
    # It accepts connections and stays silent: its process stands still, its kernel goes on.
    process = broker._process
    assert process
    timeouts = report.claims["link"]["failures"].get("timeout", 0)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        pass_time(device, 25)  # a ping that is not answered, then at least one handshake
    finally:
        os.kill(process.pid, signal.SIGCONT)
    report = come_back(device, report)
    assert report.claims["link"]["failures"]["timeout"] > timeouts
    last = device.witness.wait(device.witness.mark(), lambda claims: True, 120)
    assert last and last.counter[0] == first.counter[0]
    assert first.claims["heap_free"] - last.claims["heap_free"] < 4096
    assert last.claims["degraded"] == []
    assert "MemoryError" not in device.log.read_text()


def test_without_a_clock_it_reports_and_takes_no_offer_until_it_has_one(shop: Stage, device: Device) -> None:
    shop.house.time.set(0)  # a time server that is wrong itself
    try:
        device.board.power_on()
        report = device.runs("1.0.0")
        assert report.claims["degraded"] == ["clock"] and "time" not in report.claims
        device.publish(release(shop, "1.1.0"))
        report = device.tells("failed", "clock")
        assert report.claims["version"] == "1.0.0"
    finally:
        shop.house.time.set(time.time())
    confirmed = device.tells("confirmed", None, 120)
    assert confirmed.claims["version"] == "1.1.0"
    last = device.witness.wait(device.witness.mark(), lambda claims: claims["degraded"] == [], 120)
    assert last and "time" in last.claims
