"""`gatehouse dev` on whole devices, through the real mpremote's transport; somebody at the reset button."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatehouse_tools import cable
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.errors import GatehouseError

from .conftest import Device, Shop

ROOT = Path(__file__).resolve().parents[2]
PRESS_S = 8.0  # between two presses of the button; one at the moment of the prompt would end it


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A product for itself, whose trust anchors become flagged dev."""
    folder = tmp_path_factory.mktemp("workshop")
    with Shop(folder / "stage", "mosquitto", lambda _: None, lambda _: None) as stage:
        yield stage


@pytest.fixture(scope="module")
def plain(workshop: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device with the trust anchors of before they were flagged."""
    made = Device(workshop, tmp_path_factory.mktemp("plain"), 1, terminal=True, slow_start=True)
    workshop.gatehouse("trust", "next", "--dev", "--new-key", "dev")
    yield made
    made.close()


@pytest.fixture
def bench(workshop: Stage, plain: Device, tmp_path: Path, seed: int) -> Iterator[Device]:
    """A device whose trust anchors are flagged dev."""
    made = Device(workshop, tmp_path, seed, terminal=True, slow_start=True)
    yield made
    made.close()


def working_copy(folder: Path, said: str) -> Path:
    """The application's source, which says one thing more when it starts."""
    shutil.copytree(ROOT / "firmware", folder / "firmware", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pyc*"))
    path = folder / "firmware" / "sensor.py"
    path.write_text((ROOT / "firmware" / "sensor.py").read_text() + f"\nprint({said!r})\n")
    return folder / "firmware"


def at_prompt(device: Device, since: int) -> bool:
    return any(event.kind == "repl" for event in list(device.board.events)[since:])


@contextlib.contextmanager
def somebody_at_the_button(device: Device) -> Iterator[None]:
    """Presses reset until the board has stopped at its prompt."""
    over = threading.Event()
    since = len(device.board.events)

    def press() -> None:
        while not over.is_set() and not at_prompt(device, since):
            device.board.power_off()
            device.board.power_on()
            end = time.monotonic() + PRESS_S
            while time.monotonic() < end and not over.is_set() and not at_prompt(device, since):
                time.sleep(0.01)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def dev(device: Device, source: Path) -> dict:
    with somebody_at_the_button(device):
        return device.shop.gatehouse("dev", "--port", device.board.terminal, "--source", str(source))


def test_what_was_changed_runs_and_the_next_change_too(bench: Device, tmp_path: Path) -> None:
    first = dev(bench, working_copy(tmp_path, "the first change"))
    assert first["device"] == bench.id and first["version"].startswith("1.0.0-dev.")
    assert 2000 < first["sent"] < first["pack"] / 5, "the index and one changed file"
    report = bench.runs(first["version"])
    assert "dev" in report.claims["degraded"]
    bench.tells("confirmed", None)
    since = bench.witness.mark()
    second = dev(bench, working_copy(tmp_path, "the second change"))
    assert bench.runs(second["version"], since=since).claims["boots"] > report.claims["boots"]
    log = bench.log.read_text(errors="replace")
    assert "the first change" in log and log.index("the second change") > log.index("the first change")


def test_device_without_the_flag_refuses_it_and_runs_on(plain: Device, tmp_path: Path) -> None:
    with pytest.raises(GatehouseError, match=f"{plain.id} refused: key .*trust next --dev"):
        dev(plain, working_copy(tmp_path, "never to be seen"))
    report = plain.runs("1.0.0", since=plain.witness.mark())
    assert "dev" not in report.claims["degraded"] and "never to be seen" not in plain.log.read_text(errors="replace")


def test_somebody_elses_device_is_left_as_it_is(
    shop: Stage, workshop: Stage, plain: Device, tmp_path: Path, seed: int
) -> None:
    """The twin is every other test: a device of the product's own."""
    other = Device(shop, tmp_path, seed, terminal=True, slow_start=True)
    try:
        mine, other.shop = other.shop, workshop
        # Both products have the demonstration's vendor id; the manifest's keys tell them apart.
        with pytest.raises(GatehouseError, match=f"{other.id} refused: key"):
            dev(other, working_copy(tmp_path, "never to be seen"))
        other.shop = mine
        other.runs("1.0.0", since=other.witness.mark())
    finally:
        other.close()


def test_power_cut_in_the_middle_leaves_what_ran_and_the_next_try_works(
    bench: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = working_copy(tmp_path, "the change")
    real = cable.Cable.put

    def put(self: cable.Cable, name: str, offset: int, data: bytes, after: str = "") -> None:
        if offset:  # the index is there, the changed file comes
            bench.board.cut_at(2)
        real(self, name, offset, data, after)

    with monkeypatch.context() as patched, pytest.raises(GatehouseError, match="does not answer any more"):
        patched.setattr(cable, "SILENCE_S", 3.0)
        patched.setattr(cable.Cable, "put", put)
        dev(bench, source)
    assert "cut" in [event.kind for event in bench.board.events]
    bench.board.power_off()
    bench.board.power_on()
    since = bench.witness.mark()
    bench.runs("1.0.0", since=since)
    assert bench.runs(dev(bench, source)["version"], since=since)


def test_production_build_gives_no_prompt(
    workshop: Stage, bench: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gatehouse_tools.sim.board import Board

    monkeypatch.setattr(cable, "BY_HAND_S", 5.0)
    bench.board.close()
    bench.board = Board(bench.image, heap="128wK", log=bench.log, terminal=True, production=True, slow_start=True)
    with pytest.raises(GatehouseError, match=r"no prompt .*a production build has none"):
        dev(bench, working_copy(tmp_path, "never to be seen"))
    assert "never to be seen" not in bench.log.read_text(errors="replace")


def test_production_build_with_a_reset_line_is_no_worse_for_it(
    bench: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reset is a boot without a sign of health, and the fourth of those in a row is recovery."""
    from gatehouse_tools.sim.board import Board

    bench.board.close()
    bench.board = Board(bench.image, heap="128wK", log=bench.log, terminal=True, production=True, slow_start=True)

    def reset(_: cable.Cable) -> bool:
        bench.board.power_off()
        bench.board.power_on()
        return True

    monkeypatch.setattr(cable.Cable, "_reset", reset)
    with cable.Cable(bench.board.terminal) as at, pytest.raises(GatehouseError, match="no prompt"):
        at.interrupt(lambda _: None)
    assert 1 < bench.board.boots <= cable.RESETS
    reset(at)  # and one by hand
    assert bench.runs("1.0.0").claims["mode"] == "active"


def test_trial_is_no_worse_for_somebody_who_cannot_wait(bench: Device, tmp_path: Path) -> None:
    """Each of these calls ends one boot of the trial and is another: three tries are gone after two calls."""
    bench.board.wifi(False)  # so that it cannot confirm meanwhile
    first = dev(bench, working_copy(tmp_path, "the change"))
    for number in range(2):
        with pytest.raises(GatehouseError, match=r"refused: busy .*wait until it has confirmed"):
            dev(bench, working_copy(tmp_path, f"change {number}"))
    bench.board.wifi(True)
    assert bench.runs(first["version"])
    bench.tells("confirmed", None)


def test_flag_is_told_while_it_is_there(tmp_path: Path, seed: int) -> None:
    with Shop(tmp_path / "stage", "mosquitto", lambda _: None, lambda _: None) as stage:
        device = Device(stage, tmp_path, seed)
        try:
            device.board.power_on()
            assert device.runs("1.0.0").claims["degraded"] == []
            for version, change, told in ((2, ("--dev", "--new-key", "dev"), ["dev"]), (3, ("--no-dev",), [])):
                revoked = () if told else ("--revoke", "dev-2")
                stage.gatehouse("trust", "next", *change, *revoked)
                device.publish(stage.product.dist / f"trust-unix-{version}.suit")

                def newer(claims: dict, wanted: int = version) -> bool:
                    return bool(claims["trust"] == wanted)

                report = device.witness.wait(0, newer, 120)
                assert report and report.claims["degraded"] == told
        finally:
            device.close()
