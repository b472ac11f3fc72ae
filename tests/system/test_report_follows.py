"""The report of a running device follows its causes: what changes under it is told, and no more when it is over."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatehouse_tools import journal, suit, topics
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.reports import Report
from servers.mqtt import Observer

from .conftest import Device
from .terminal import Terminal, label_password
from .test_attacks import edited
from .test_console import OWNER, change
from .test_power import slots_on_flash
from .test_recovery import configuration
from .test_update import release

AGAIN_S = 11  # of the device's clock, after which a nonce has the slot compared anew
TOO_LARGE = 20_000  # bytes of a message: more than a device takes
TRIES = 10  # of a nonce
KEPT = 20_000  # bytes that an application keeps for a while
PAGE = 256  # bytes of a file that are found in the flash image in one piece


def told(device: Device, since: int, wanted: Callable[[dict[str, Any]], Any], what: str) -> Report:
    """The first verified report after `since` that is as wanted."""
    report = device.witness.wait(since, wanted, 120)
    last = device.witness.history[-1].claims if device.witness.history else None
    assert report, f"never: {what}; {last}"
    return report


@pytest.fixture
def asker(shop: Stage) -> Iterator[Observer]:
    """A verifier that sends nonces."""
    ca = shop.product.root / "ca"
    files = (ca / "ca.pem", ca / "host.pem", ca / "host-key.pem")
    with Observer(shop.house.broker.port, *files, "gatehouse/nobody/status") as made:
        yield made


def ask(asker: Observer, device: Device, nonce: bytes) -> Report:
    """The report that answers this nonce; asked again until it comes, as `watch` does."""
    since = device.witness.mark()
    device.board.step(AGAIN_S)
    for _ in range(TRIES):
        asker.publish(topics.topic("nonce", id=device.id), nonce)
        found = device.witness.wait(since, lambda claims: claims.get("nonce") == nonce.hex(), 5)
        if found:
            return found
    raise AssertionError(f"no answer to a nonce: {device.log.read_text()[-2000:]}")


def flip(image: Path, body: bytes) -> None:
    """Flip a bit of a file's content where it lies on the flash, under the running device."""
    data = image.read_bytes()
    assert data.count(body[:PAGE]) == 1
    place = data.index(body[:PAGE]) + PAGE // 2
    with image.open("r+b", buffering=0) as file:
        file.seek(place)
        file.write(bytes([data[place] ^ 1]))


def test_slot_is_degraded_while_a_file_of_it_is_not_what_was_signed(device: Device, asker: Observer) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    honest = ask(asker, device, b"before it").claims
    assert (honest["comparison"], honest["degraded"]) == ("success", [])
    body = slots_on_flash(device.image)["a"]["app.mpy"]
    flip(device.image, body)
    broken = ask(asker, device, b"a bit has rotted").claims
    assert (broken["comparison"], broken["degraded"]) == ("failure", ["slot"])
    assert (broken["version"], broken["mode"]) == ("1.0.0", "active"), "what runs was loaded at boot"
    since = device.witness.mark()
    later = told(device, since, lambda claims: "nonce" not in claims, "a report without a nonce").claims
    assert (later["comparison"], later["degraded"]) == ("failure", ["slot"]), "told until it is known to be over"
    assert slots_on_flash(device.image)["a"]["app.mpy"] != body
    flip(device.image, body[: PAGE // 2] + bytes([body[PAGE // 2] ^ 1]) + body[PAGE // 2 + 1 :])
    mended = ask(asker, device, b"it is restored").claims
    assert (mended["comparison"], mended["degraded"]) == ("success", [])
    assert mended["boots"] == honest["boots"] and mended["index_digest"] == honest["index_digest"]


def test_sensor_signal_and_link_follow(device: Device, asker: Observer) -> None:
    device.board.power_on()
    first = device.runs("1.0.0").claims
    assert first["sensor"]["value"] == 22 and first["wifi"] == {"address": "127.0.0.1", "signal": -50}
    device.board.set_sensor(31.0)
    device.board.set_signal(-81)
    since = device.witness.mark()
    report = told(device, since, lambda claims: claims["sensor"]["value"] == 31, "31 degrees")
    assert report.claims["sensor"]["time"] > first["sensor"]["time"]
    told(device, since, lambda claims: claims["wifi"]["signal"] == -81, "a weak signal")
    device.board.set_sensor(900.0)  # no chip is so hot: the sensor is broken
    report = told(device, since, lambda claims: claims["degraded"] == ["sensor"], "a broken sensor")
    assert report.claims["sensor"]["value"] is None
    device.board.set_sensor(20.0)
    report = told(device, device.witness.mark(), lambda claims: claims["degraded"] == [], "a sensor that works again")
    assert report.claims["sensor"]["value"] == 20
    assert report.claims["link"]["oversize"] == 0
    asker.publish(topics.topic("nonce", id=device.id), bytes(TOO_LARGE))
    told(device, since, lambda claims: claims["link"]["oversize"] == 1, "a message that is too large")


def test_address_follows_the_network(device: Device) -> None:
    device.board.power_on()
    assert device.runs("1.0.0").claims["wifi"]["address"] == "127.0.0.1"
    device.board.wifi(False)
    device.board.wifi(True, "127.0.0.77")
    since = device.witness.mark()
    told(device, since, lambda claims: claims["wifi"]["address"] == "127.0.0.77", "another address")


def test_report_that_finds_no_memory_is_left_out_and_counted(shop: Stage, tmp_path: Path, seed: int) -> None:
    """An application whose report wants more than the heap has, above 40 degrees, and which keeps much above 30."""
    source = tmp_path / "source"
    shutil.copytree(shop.source, source)
    report = source / "report.py"
    text = report.read_text()
    line = "        claims = status.claims(self._boot, self._installer, nonce)\n"
    assert text.count(line) == 1
    hungry = "        bytearray(1 << 24 if (self.value or 0) > 40 else 1)\n"
    keeping = f"        self.kept = bytearray({KEPT}) if 30 < (self.value or 0) < 40 else None\n"
    report.write_text(text.replace(line, keeping + hungry + line))
    made = shop.gatehouse("release", "--version", "1.0.77", "--source", str(source))
    device = Device(shop, tmp_path, seed, "128wK", "--slot-release", made["envelope"])
    try:
        device.board.power_on()
        first = device.runs("1.0.77").claims
        assert first["link"]["left_out"] == 0
        device.board.set_sensor(35.0)
        full = told(device, 0, lambda claims: claims["sensor"]["value"] == 35, "35 degrees").claims
        assert KEPT / 2 < first["heap_free"] - full["heap_free"] < KEPT * 2
        for _ in range(TRIES):  # on a busy machine no report may have been due meanwhile
            device.board.set_sensor(50.0)
            device.board.step(6)  # over the five seconds between two reports
            time.sleep(3)
            device.board.set_sensor(20.0)
            found = device.witness.wait(device.witness.mark(), lambda claims: claims["sensor"]["value"] == 20, 120)
            assert found, "reports come again"
            if found.claims["link"]["left_out"]:
                break
        assert found.claims["link"]["left_out"] and found.claims["degraded"] == []
        assert found.claims["heap_free"] - full["heap_free"] > KEPT / 2
        assert found.claims["boots"] == 1, "it has not restarted for it"
    finally:
        device.close()


def test_boots_and_their_causes_follow(device: Device) -> None:
    device.board.power_on()
    first = device.runs("1.0.0").claims
    assert (first["boots"], first["reset"], first["degraded"]) == (1, "power-on", [])
    later = told(device, 0, lambda claims: claims["record"]["quiet"] == 0, "a sign of health").claims
    assert later["uptime"] > first["uptime"] and first["record"]["quiet"] == 1
    assert later["counter"][1] > first["counter"][1] and later["boot_seed"] == first["boot_seed"]
    assert later["time"] > first["time"]
    # It hangs, and the watchdog bites.
    pid = device.board.pid
    assert pid
    since = device.witness.mark()
    os.kill(pid, signal.SIGSTOP)
    device.board.wait(lambda board: board.boots == 2, 120)
    second = told(device, since, lambda claims: claims["boots"] == 2, "the boot after the watchdog's").claims
    assert second["reset"] == "watchdog" and second["boot_seed"] != first["boot_seed"]
    assert second["uptime"] < later["uptime"] and second["counter"][0] == 2
    # It is switched off before it has shown that it works, so nobody knows whether it does.
    device.board.power_off()
    device.board.power_on()
    device.board.wait_line("gatehouse: boot 3", 120)
    device.board.power_off()
    since = device.witness.mark()
    device.board.power_on()
    fourth = told(device, since, lambda claims: claims["boots"] == 4, "the fourth boot").claims
    assert fourth["reset"] == "power-on" and fourth["record"]["quiet"] == 3
    healthy = told(device, since, lambda claims: claims["record"]["quiet"] == 0, "a sign of health").claims
    assert healthy["boots"] == 4
    head = healthy["journal"]
    device.board.power_off()
    found = journal.from_image(device.image.read_bytes()).records[-1]
    assert (found.number, found.tag.hex()) == (head["last"], head["tag"])


def test_all_that_an_update_changes_follows(shop: Stage, device: Device) -> None:
    device.board.power_on()
    first = device.runs("1.0.0").claims
    assert first["update"] == {"state": "idle"} and first["record"]["tries"] == 0
    envelope = release(shop, "1.9.0", extra=True)
    device.publish(envelope)
    since = 0
    loading = told(device, since, lambda claims: "files" in claims["update"], "progress").claims["update"]
    digest = suit.parse(envelope.read_bytes()).digest.hex()
    assert loading["digest"] == digest and loading["files"]["total"] > 12
    told(
        device,
        since,
        lambda claims: claims.get("outcome", {}).get("result") == "pending",
        "that it waits for its start",
    )
    trial = told(device, since, lambda claims: claims["mode"] == "trial", "the trial").claims
    assert trial["record"]["tries"] > 0 and trial["reset"] == "hard reset"
    assert trial["outcome"] == {"manifest": digest, "result": "pending", "reason": "invoke-pending", "code": 0}
    assert trial["floors"] == first["floors"], "floors move when it is confirmed"
    assert device.tells("confirmed", None)
    last = told(device, device.witness.mark(), lambda claims: claims["mode"] == "active", "the new release").claims
    new = suit.parse(envelope.read_bytes())
    assert (last["version"], last["slot"], last["manifest"], last["sequence"]) == ("1.9.0", "b", digest, new.sequence)
    assert last["index_digest"] != first["index_digest"] and last["record"]["tries"] == 0
    assert last["floors"]["app"]["install"] == new.sequence
    assert first["flash_free"] - last["flash_free"] > 12 * 4000, "the other slot is full now"
    assert last["outcome"] == {"manifest": digest, "result": "success"}
    assert last["tag"]["tag_id"] != first["tag"]["tag_id"] and last["tag"]["entity"] == first["tag"]["entity"]
    assert (last["core_digest"], last["core"], last["trust"]) == (first["core_digest"], first["core"], first["trust"])


def test_digest_of_the_core_follows_its_files(device: Device) -> None:
    device.board.power_on()
    before = device.runs("1.0.0").claims["core_digest"]
    device.board.power_off()
    edited(device, lambda files: files.update({"/lib/gatehouse/extra.mpy": b"x"}))
    since = device.witness.mark()
    device.board.power_on()
    assert told(device, since, lambda claims: claims["boots"] == 2, "a boot").claims["core_digest"] != before
    device.board.power_off()
    edited(device, lambda files: files.__delitem__("/lib/gatehouse/extra.mpy"))
    device.board.power_on()
    assert told(device, since, lambda claims: claims["boots"] == 3, "a boot").claims["core_digest"] == before
    # Another core, which a file with its version stands for.
    device.board.power_off()

    def newer(files: dict[str, bytes]) -> None:
        core = files["/lib/gatehouse/__init__.mpy"]
        assert core.count(b"1.0.0") == 1
        files["/lib/gatehouse/__init__.mpy"] = core.replace(b"1.0.0", b"1.0.9")

    edited(device, newer)
    device.board.power_on()
    other = told(device, since, lambda claims: claims["boots"] == 4, "a boot").claims
    assert other["core"] == "1.0.9" and other["core_digest"] != before


def test_recovery_and_its_failure_are_told_until_they_are_over(device: Device) -> None:
    edited(device, lambda files: files.update({"/slots/a/extra.mpy": b"x"}))
    device.board.power_on()
    report = told(device, 0, lambda claims: claims["mode"] == "recovery", "recovery").claims
    assert report["degraded"] == ["recovery", "boot:extraneous"] and "does not list" in report["failure"]
    assert report["comparison"] == "absent" and report["slot"] is None and report["manifest"] is None
    device.board.power_off()
    edited(device, lambda files: files.__delitem__("/slots/a/extra.mpy"))
    since = device.witness.mark()
    device.board.power_on()
    report = told(device, since, lambda claims: claims["degraded"] == [], "the application").claims
    assert report["mode"] == "active" and "failure" not in report and report["comparison"] == "success"


def test_interface_is_degraded_while_it_is_not_as_the_policy_wants(shop: Stage, device: Device, tmp_path: Path) -> None:
    device.board.power_on()
    assert device.runs("1.0.0").claims["degraded"] == []
    broker = shop.house.broker_address
    device.publish(configuration(shop, tmp_path, broker, interfaces=["ble"]))
    told(device, 0, lambda claims: claims["degraded"] == ["interface:ble"], "a radio that is wanted and not there")
    since = device.witness.mark()
    device.publish(
        configuration(shop, tmp_path, broker, updates=False, auto_download=False, notify=False, interfaces=[])
    )
    report = told(device, since, lambda claims: claims["configuration"] == 3, "the third configuration")
    report = told(device, since, lambda claims: claims["degraded"] == [], "what is not wanted is not missed")
    assert report.claims["policy"] == {"updates": False, "auto_download": False, "auto_install": True, "notify": False}


def test_access_and_postponed_updates_follow(shop: Stage, tmp_path: Path, seed: int) -> None:
    device = Device(shop, tmp_path, seed, terminal=True)
    try:
        device.board.power_on()
        first = device.runs("1.0.0").claims
        assert first["access"] == {"sessions": 0, "label_password": True, "lockouts": {}, "repl_seconds": 0}
        with Terminal(device) as terminal:
            for _ in range(4):
                terminal.type("login owner")
                terminal.expect("password: ")
                terminal.type("a wrong one")
                terminal.expect("\npassword")  # the reason that it gives
            report = told(device, 0, lambda claims: claims["access"]["lockouts"], "wrong passwords").claims
            assert list(report["access"]["lockouts"]) == ["console/owner"]
            device.board.step(60)  # the delay is over
            terminal.login("owner", label_password(device))
            change(terminal, label_password(device))
            since = device.witness.mark()
            report = told(device, since, lambda claims: claims["access"]["sessions"] == 1, "a session").claims
            assert not report["access"]["label_password"] and not report["access"]["lockouts"]
            terminal.type("update.postpone 2")
            terminal.expect("until: ")
            told(device, since, lambda claims: claims["policy"].get("postponed_seconds", 0) > 7000, "postponed")
            terminal.expect("owner> ")
            terminal.type("logout")
            since = device.witness.mark()
            report = told(device, since, lambda claims: claims["access"]["sessions"] == 0, "a logout").claims
            assert OWNER not in str(report)
            device.board.step(7200)
            device.board.set_clock(time.time())  # a verifier would take a report from then for an old one
            told(device, since, lambda claims: "postponed_seconds" not in claims["policy"], "two hours later")
    finally:
        device.close()
