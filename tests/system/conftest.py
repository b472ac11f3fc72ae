"""Whole simulated devices in a house of their own: a real Mosquitto, a real pack server, a real time server."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gatehouse_tools import cli, reports, ui
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.demo.witness import Witness
from gatehouse_tools.sim.board import Board

ROOT = Path(__file__).resolve().parents[2]
FAILED = ROOT / "failed"
ROOMY = "400wK"  # room for garbage, so half the time; the board's own 128wK where the heap is the matter
LAST_LINES = 40  # of the log of a device whose test failed
_numbers = itertools.count(1)


class Shop(Stage):
    """The demonstration's stage without a new process for each command: a Python that starts takes most of its time."""

    def _run(self, words: Sequence[str], env: dict[str, str]) -> tuple[int, str, str]:
        done = CliRunner().invoke(cli.main, list(words), env=env)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr


class Device:
    """One provisioned device, its board and its reports as a verifier sees them."""

    def __init__(
        self,
        shop: Stage,
        folder: Path,
        seed: int,
        heap: str = ROOMY,
        *options: str,
        terminal: bool = False,
        slow_start: bool = False,
    ) -> None:
        self.shop = shop
        self.id = f"gh-test-{next(_numbers)}"
        shop.gatehouse(
            *("provision", "--id", self.id, "--slot-release", str(shop.envelopes["1.0.0"])),
            *("--broker", shop.house.broker_address, "--base-url", shop.house.url, "--ntp", shop.house.ntp_address),
            *("--report-seconds", "5", "--sensor-seconds", "1", "--watchdog-ms", "12000", "--trial-seconds", "15"),
            *options,
        )
        devices = shop.product.root / "devices"
        self.image = devices / self.id / "flash.bin"
        self.log = folder / "uart.log"
        self.board = Board(self.image, heap=heap, log=self.log, seed=seed, terminal=terminal, slow_start=slow_start)
        ca = shop.product.root / "ca"
        verifier = reports.Verifier(reports.known_devices(devices))
        credentials = (ca / "ca.pem", ca / "host.pem", ca / "host-key.pem")
        self.witness = Witness(self.id, verifier, *credentials, "localhost", shop.house.broker.port)

    def publish(self, envelope: Path) -> None:
        """Offer an envelope, an attack too."""
        broker = self.shop.house.broker_address
        self.shop.gatehouse("publish", str(envelope), "--device", self.id, "--broker", broker, "--force")

    def runs(self, version: str, within: float = 120, since: int = 0, mode: str = "active") -> reports.Report:
        """The first verified report after `since` of this version in this mode; fails when none comes."""
        report = self.witness.wait(
            since, lambda claims: claims.get("version") == version and claims["mode"] == mode, within
        )
        assert report, f"no report of {version} {mode}: {self.log.read_text(errors='replace')[-3000:]}"
        return report

    def tells(self, state: str, reason: str | None, within: float = 120, since: int = 0) -> reports.Report:
        """The first verified report after `since` of this update state and reason."""

        def wanted(claims: dict) -> bool:
            update = claims.get("update", {})
            return update.get("state") == state and update.get("reason") == reason

        report = self.witness.wait(since, wanted, within)
        last = [item.claims.get("update") for item in self.witness.history]
        assert report, f"no report of {state}({reason}), but {last}: {self.log.read_text(errors='replace')[-3000:]}"
        return report

    def close(self) -> None:
        """End all that belongs to it."""
        self.witness.close()
        self.board.close()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A product with the release 1.0.0 and its house, for all system tests."""
    folder = tmp_path_factory.mktemp("shop")
    with Shop(folder / "stage", "mosquitto", lambda _: None, lambda _: None) as stage:
        yield stage


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    given = [one for one in getattr(item, "funcargs", {}).values() if isinstance(one, Device) and one.board.boots]
    device = given[-1] if given else None
    if report.when == "call" and report.failed and device:
        folder = FAILED / item.name.replace("/", "_")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        device.board.power_off()
        shutil.copyfile(device.image, folder / "flash.bin")
        shutil.copyfile(device.log, folder / "uart.log")
        told = device.log.read_text(errors="replace").splitlines()[-LAST_LINES:]  # of a machine nobody can look at
        kept = f"flash image and log are kept in {folder.relative_to(ROOT)}; the log ends:"
        report.sections.append(("device", "\n".join([kept, *map(ui.printable, told)])))


@pytest.fixture
def device(shop: Stage, tmp_path: Path, seed: int) -> Iterator[Device]:
    """A new device with release 1.0.0, without power. Its flash image is kept when the test fails."""
    made = Device(shop, tmp_path, seed)
    yield made
    made.close()
