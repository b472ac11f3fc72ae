"""Commands to a whole device over Mosquitto, as a person sends them; what an attacker on the broker makes of them."""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gatehouse_tools import lms_keys, remote, topics
from gatehouse_tools.demo.stage import DEVICE, Stage
from servers.mqtt import Observer

from .conftest import Device


class Attacker:
    """Has the broker, and no key: hears every command and reply, and publishes what it likes."""

    def __init__(self, shop: Stage, device: Device) -> None:
        ca = shop.product.root / "ca"
        self.command = topics.topic("command", id=device.id)
        self.reply = topics.topic("reply", id=device.id)
        port = shop.house.broker.port
        files = (ca / "ca.pem", ca / "host.pem", ca / "host-key.pem")
        self.observer = Observer(port, *files, self.command, self.reply)

    def heard(self, topic: str) -> bytes:
        """The next message of a topic."""
        while True:
            name, payload, _ = self.observer.get()
            if name == topic:
                return payload

    def silence(self) -> None:
        """Assert that the device says nothing for a while."""
        heard = []
        try:
            while True:
                heard.append(self.observer.get(0.7)[0])
        except queue.Empty:
            assert self.reply not in heard


@pytest.fixture
def attacker(shop: Stage, device: Device) -> Iterator[Attacker]:
    found = Attacker(shop, device)
    with found.observer:
        yield found


def send(shop: Stage, device: Device, *words: str) -> tuple[int, dict]:
    """`gatehouse send`, as a program of its own: exit code and the object that it printed."""
    command = [sys.executable, "-m", "gatehouse_tools", "send", device.id, *words, "--json"]
    where = ["--product", str(shop.product.root), "--broker", shop.house.broker_address]
    environment = os.environ | {lms_keys.STATE_HOME: str(shop.folder / "state"), "NO_COLOR": "1"}
    done = subprocess.run([*command, *where], capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_state_reboot_and_what_an_attacker_makes_of_it(shop: Stage, device: Device, attacker: Attacker) -> None:
    device.board.power_on()
    first = device.runs("1.0.0")
    code, told = send(shop, device, "state")
    assert code == 0, told
    assert told["result"] and told["role"] == "operator"
    attacker.heard(attacker.command)
    # Once, and the same bytes never again, in this boot or the next.
    mark = device.witness.mark()
    code, told = send(shop, device, "reboot")
    assert code == 0 and told["result"] == {"restart": True}
    reboot = attacker.heard(attacker.command)
    report = device.witness.wait(mark, lambda claims: True, 120)
    while report and report.counter[0] == first.counter[0]:
        mark += 1
        report = device.witness.wait(mark, lambda claims: True, 120)
    assert report and report.counter[0] == first.counter[0] + 1
    key = remote.derive(shop.product, device.id, "operator", "host")
    attacker.heard(attacker.reply)
    attacker.observer.publish(attacker.command, reboot)
    found = remote.answer(key, reboot, attacker.heard(attacker.reply))
    assert found and (found.result, found.reason, found.seen) == (None, "counter", told["counter"])
    late = remote.request(key, told["counter"] - 1, "reboot", {})  # made before the other one, kept back till now
    attacker.observer.publish(attacker.command, late)
    found = remote.answer(key, late, attacker.heard(attacker.reply))
    assert found and found.reason == "counter"
    other = remote.derive(shop.product, DEVICE, "owner", "host")
    for bogus in (
        reboot[:-1] + bytes([reboot[-1] ^ 1]),
        remote.request(other, told["counter"] + 1, "reboot", {}),
        remote.request(dataclasses.replace(other, device=device.id), told["counter"] + 1, "reboot", {}),
    ):
        attacker.observer.publish(attacker.command, bogus)
    attacker.silence()
    code, told = send(shop, device, "journal", "--role", "operator")
    assert code == 0
    denied = [entry[3:-1] for entry in told["result"]["entries"] if entry[3] == "denied"]
    who = "operator/host"
    assert [entry[2:4] for entry in denied] == [
        *(["counter", who], ["counter", who], ["signature", who], ["signature", "owner/host"])
    ]
    later = device.witness.wait(device.witness.mark(), lambda claims: True, 120)
    assert later and later.counter[0] == report.counter[0], "a replay restarted the device"
    assert "MemoryError" not in device.log.read_text()


def of_boot(number: int) -> Callable[[dict], bool]:
    return lambda claims: bool(claims["boots"] == number)


def test_restarts_that_somebody_asks_for_are_no_sign_of_a_fault(shop: Stage, device: Device) -> None:
    """Three boots without a sign of health lead to recovery, which has no doors; these come sooner than that sign."""
    since = 0
    device.board.power_on()
    for boot in range(1, 7):
        report = device.witness.wait(since, of_boot(boot), 120)
        assert report and report.claims["mode"] == "active", device.log.read_text()[-2000:]
        since = device.witness.mark()
        if boot < 6:
            assert send(shop, device, "reboot")[0] == 0


def test_roles_are_kept_apart(shop: Stage, device: Device, tmp_path: Path) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    code, told = send(shop, device, "reboot", "--role", "viewer")
    assert code == 1 and told["reason"] == "denied"
    code, told = send(shop, device, "wifi.set", "ssid=mine", "password=12345678", "--role", "owner")
    assert code == 1 and told["reason"] == "operation", "secrets do not travel over MQTT"
    path = tmp_path / "anna.json"
    shop.gatehouse("command-key", device.id, "--role", "viewer", "--client", "anna", "--out", str(path))
    code, told = send(shop, device, "sensor", "--key", str(path))
    assert code == 0 and (told["role"], told["client"]) == ("viewer", "anna")


def test_flood_of_garbage_and_bogus_commands(shop: Stage, device: Device, attacker: Attacker, seed: int) -> None:
    device.board.power_on()
    first = device.runs("1.0.0")
    assert send(shop, device, "state")[0] == 0
    good = attacker.heard(attacker.command)
    chance = random.Random(seed)
    before = device.witness.wait(device.witness.mark(), lambda claims: True, 120)
    assert before
    for _ in range(300):
        bent = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            bent[chance.randrange(len(bent))] = chance.randrange(256)
        whole = chance.randrange(2) * len(bent)
        attacker.observer.publish(attacker.command, bytes(bent[: whole or chance.randrange(len(bent))]))
    code, told = send(shop, device, "sensor", "--timeout", "30")
    assert code == 0, told
    after = device.witness.wait(device.witness.mark(), lambda claims: True, 120)
    assert after and after.counter[0] == first.counter[0], "the device restarted"
    free = [report.claims["heap_free"] for report in (before, after)]
    assert free[0] - free[1] < 4096, free
    assert "MemoryError" not in device.log.read_text()
