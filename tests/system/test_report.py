"""Reports of a whole device: they answer nonces, and tell the update policy and the chip's eFuses as they are."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import uuid
from pathlib import Path

from gatehouse_tools import reports, topics
from gatehouse_tools.demo.stage import Stage
from servers.mqtt import Observer

from .conftest import Device
from .test_attacks import edited
from .test_recovery import configuration

WORD_0, WORD_6 = 0x3FF5A000, 0x3FF5A018  # of block 0 of an ESP32's eFuses


def watch(shop: Stage, device: Device) -> list[dict]:
    """The events of `gatehouse watch` until the device was verified."""
    where = ["--product", str(shop.product.root), "--broker", shop.house.broker_address]
    done = subprocess.run(
        [sys.executable, "-m", "gatehouse_tools", "watch", "--json", "--once", "--device", device.id, *where],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [event for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "report"]


def identity(claims: dict) -> dict:
    """The claims that only another device, or another product, changes."""
    return {name: claims[name] for name in ("ueid", "vendor", "model", "hardware")}


def test_identity_is_the_devices_own(shop: Stage, device: Device) -> None:
    """Its twin, a device of another vendor, board and hardware version, is in test_image.py."""
    device.board.power_on()
    assert identity(device.runs("1.0.0").claims) == {
        "ueid": "01" + uuid.UUID(shop.product.device_facts(device.id)["uuid"]).hex,
        "vendor": uuid.uuid5(uuid.NAMESPACE_DNS, shop.product.domain).hex,
        "model": "UNIX_SIM",
        "hardware": "1",
    }


def test_oem_boot_is_told_where_secure_boot_checked_the_core_that_runs(device: Device) -> None:
    """A core whose modules have no absolute path is what a frozen one looks like; the simulated board has no other."""
    device.board.burn(WORD_0, 0)
    device.board.burn(WORD_6, 0x10)  # secure boot
    device.board.power_on()
    first = device.runs("1.0.0").claims
    assert first["fuses"]["secure_boot"] and first["oem_boot"] is False and first["core_digest"]
    device.board.power_off()

    def freeze(files: dict[str, bytes]) -> None:
        assert files["/boot.py"].count(b'"/lib"') == 1
        files["/boot.py"] = files["/boot.py"].replace(b'"/lib"', b'"lib"')

    edited(device, freeze)
    since = device.witness.mark()
    device.board.power_on()
    frozen = device.runs("1.0.0", since=since).claims
    assert frozen["oem_boot"] is True and frozen["core_digest"] is None and frozen["core"] == first["core"]


def test_report_follows_policy_and_fuses_and_answers_nonces(shop: Stage, device: Device, tmp_path: Path) -> None:
    device.board.power_on()
    claims = device.runs("1.0.0").claims
    assert claims["fuses"] == {"flash_encryption": False, "secure_boot": False, "download_mode": True, "jtag": True}
    assert (claims["debug"], claims["oem_boot"], claims["comparison"]) == ("enabled", False, "success")
    assert claims["policy"] == {"updates": True, "auto_download": True, "auto_install": True, "notify": True}
    assert claims["tag"]["entity"] == shop.product.domain and "outcome" not in claims
    # What the broker retains says nothing about now. The device answers, and that does.
    events = watch(shop, device)
    assert [event["reason"] for event in events if event["verdict"] == "unproven"] == ["retained"]
    last = events[-1]
    assert last["verdict"] == "verified" and last["claims"]["comparison"] == "success"
    # Another policy, and a chip that is locked.
    device.board.burn(WORD_0, 0x08100000)
    device.board.burn(WORD_6, 0x50)
    broker = shop.house.broker_address
    device.publish(configuration(shop, tmp_path, broker, auto_install=False, window=[60, 30]))
    device.tells("confirmed", None)
    report = device.witness.wait(0, lambda claims: not claims["policy"]["auto_install"], 120)
    assert report
    assert report.claims["policy"]["window"] == {"start": 60, "minutes": 30}
    assert report.claims["fuses"] == {
        "flash_encryption": True, "secure_boot": True, "download_mode": False, "jtag": False,
    }  # fmt: skip
    assert report.claims["debug"] == "disabled"
    assert report.claims["oem_boot"] is False  # the core lies in the file system


def test_flood_of_nonces_costs_little_and_keeps_nobody_out(shop: Stage, device: Device) -> None:
    device.board.power_on()
    first = device.runs("1.0.0")
    ca = shop.product.root / "ca"
    files = (ca / "ca.pem", ca / "host.pem", ca / "host-key.pem")
    report, nonce = (topics.topic(name, id=device.id) for name in ("report", "nonce"))
    devices = reports.known_devices(shop.product.devices)
    operations = device.board.operations
    with Observer(shop.house.broker.port, *files, report) as attacker:
        for number in range(300):
            attacker.publish(nonce, b"flood %04d" % number)
        for size in (0, 7, 65, 4000):
            attacker.publish(nonce, bytes(size))
        attacker.publish(nonce, b"the honest one")
        answered: list[bytes | None] = []
        while b"the honest one" not in answered:
            try:
                found = reports.verify(attacker.get(3)[1], devices, device.id)
            except queue.Empty:
                attacker.publish(nonce, b"the honest one")  # there was no room: it asks again, as watch does
                continue
            answered.append(found.nonce)
    assert len(answered) < 60, "each of a flood was answered"
    assert device.board.operations - operations < 20, "a nonce writes to flash"
    after = device.witness.wait(device.witness.mark(), lambda claims: True, 120)
    assert after and after.counter[0] == first.counter[0], "the device restarted"
    assert first.claims["heap_free"] - after.claims["heap_free"] < 4096
    assert "MemoryError" not in device.log.read_text()
