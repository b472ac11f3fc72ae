"""Access control of a whole device: what its report says, physical presence, and passwords that outlive a power cut."""

from __future__ import annotations

import json
from pathlib import Path

from gatehouse_tools import reports
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.image import flash, nvs

from .conftest import Device
from .test_recovery import configuration

BUTTON = 0


def stored(device: Device) -> dict[str, bytes | int]:
    """NVS of a device without power."""
    data = flash.take_apart(device.image.read_bytes())["nvs"][1]
    return dict(nvs.read_nvs(data)["gatehouse"])  # type: ignore[arg-type]


def test_report_tells_interfaces_sessions_and_lockouts(shop: Stage, device: Device) -> None:
    device.board.power_on()
    claims = device.runs("1.0.0").claims
    assert claims["degraded"] == []
    found = claims["interfaces"]
    assert len(found) == 13 and found["wifi-station"] == {"wanted": True, "active": True}
    assert found["reset-button"] == {"wanted": True, "active": True}
    for name in ("wifi-ap", "ble", "esp-now", "webrepl", "https"):
        assert found[name] == {"wanted": False, "active": False}
    assert found["mdns"] == {"wanted": False, "active": None}
    assert claims["access"] == {"sessions": 0, "label_password": True, "lockouts": {}, "repl_seconds": 0}


def test_an_interface_that_is_wanted_and_not_there_is_degraded(shop: Stage, device: Device, tmp_path: Path) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(configuration(shop, tmp_path, shop.house.broker_address, interfaces=["ble"]))
    report = device.tells("confirmed", None)
    report = device.witness.wait(0, lambda claims: claims["degraded"] == ["interface:ble"], 120)
    assert report and report.claims["interfaces"]["ble"] == {"wanted": True, "active": False}
    assert report.claims["interfaces"]["reset-button"] == {"wanted": False, "active": False}


def test_button_held_at_start_ends_the_ownership_and_nothing_else(shop: Stage, device: Device) -> None:
    before = stored(device)
    device.board.set_pin(BUTTON, False)
    device.board.power_on()
    first = device.runs("1.0.0").claims
    device.board.step(5)
    device.board.set_pin(BUTTON, True)
    since = device.witness.mark()
    device.runs("1.0.0", since=since)  # let go too early: nothing happened
    device.board.power_off()
    assert "epoch" not in stored(device)
    device.board.set_pin(BUTTON, False)
    device.board.power_on()
    device.board.wait_line("gatehouse: boot 2", 120)
    # Reports are under the new epoch's key from here on, which the old verifier does not hold.
    assert device.board.wait(lambda board: "epoch" in _peek(device), 120)
    device.board.set_pin(BUTTON, True)
    device.board.wait_line("gatehouse: boot 3 active", 120)
    device.board.power_off()
    after = stored(device)
    assert after["epoch"] == 1
    for key in before:
        if key not in ("boots", "floors"):
            assert after[key] == before[key], key
    assert first["version"] == "1.0.0" and first["access"]["label_password"]


def _peek(device: Device) -> dict[str, bytes | int]:
    try:
        return stored(device)
    except (ValueError, KeyError):  # read in the middle of a write
        return {}


def test_label_password_is_on_the_host_for_the_label_only(shop: Stage, device: Device) -> None:
    folder = device.image.parent
    password = json.loads((folder / "secrets.json").read_text())["label_password"]
    data = device.image.read_bytes()
    assert password.encode() not in data and password.replace("-", "").encode() not in data
    assert reports.known_devices(folder.parent)[device.id].report_key
