"""Configurations that come back by themselves, and the core alone: after a crash loop, and on boards without room."""

from __future__ import annotations

import shutil
from pathlib import Path

from gatehouse_tools import core
from gatehouse_tools.demo.stage import Stage

from .conftest import Device
from .test_update import release


def configuration(shop: Stage, folder: Path, broker: str, **settings: object) -> Path:
    """A signed configuration with this broker; the other settings are those of the tests' devices."""
    host, port = broker.split(":")
    values: dict[str, object] = {"broker": host, "port": int(port), "base_url": shop.house.url, "report_seconds": 5}
    ntp_host, ntp_port = shop.house.ntp_address.split(":")
    values |= {
        "sensor_seconds": 1,
        "trial_seconds": 15,
        "watchdog_ms": 12000,
        "ntp": ntp_host,
        "ntp_port": int(ntp_port),
    }
    values |= settings
    path = folder / "config.toml"
    lines = (f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}" for name, value in values.items())
    text = "\n".join(lines).replace("True", "true").replace("False", "false")
    path.write_text(text + '\ngroups = ["all"]\n')
    before = set(shop.product.dist.glob("*config*.suit"))
    shop.gatehouse("configure", str(path))
    return (set(shop.product.dist.glob("*config*.suit")) - before).pop()


def generation(claims: dict) -> object:
    found = claims["configuration"]
    return found[0] if isinstance(found, list) else found


def test_wrong_broker_comes_back_by_itself_and_a_right_configuration_stays(
    shop: Stage, device: Device, tmp_path: Path
) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(configuration(shop, tmp_path, "localhost:1"))
    device.board.wait_line("gatehouse: boot 2 trial", 120)
    for boot in (3, 4):  # its three tries; each would also end by the trial's deadline and the watchdog
        device.board.power_off()
        device.board.power_on()
        device.board.wait_line(f"gatehouse: boot {boot} trial", 120)
    device.board.power_off()
    device.board.power_on()
    report = device.tells("rolled-back", "health")
    assert (report.claims["version"], report.claims["mode"], generation(report.claims)) == ("1.0.0", "active", 1)
    since = device.witness.mark()
    device.publish(configuration(shop, tmp_path, shop.house.broker_address, sensor_seconds=2))
    report = device.tells("confirmed", None, since=since)
    assert (report.claims["version"], generation(report.claims)) == ("1.0.0", 2)


def test_policy_of_a_configuration_holds_updates_back_and_lets_them_go(
    shop: Stage, device: Device, tmp_path: Path
) -> None:
    broker = shop.house.broker_address
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(configuration(shop, tmp_path, broker, auto_download=False))
    device.tells("confirmed", None)
    # The offer goes to a group, so that it is still there when the next configuration comes to the device itself.
    group = ("--group", "all", "--broker", broker)
    shop.gatehouse("publish", str(release(shop, "1.1.0")), *group)
    try:
        assert device.tells("available", None).claims["version"] == "1.0.0"
        device.publish(configuration(shop, tmp_path, broker, updates=False))
        device.tells("failed", "disabled")
        since = device.witness.mark()
        device.publish(configuration(shop, tmp_path, broker))
        device.runs("1.1.0", since=since)
    finally:
        shop.gatehouse("publish", "--clear", *group)


CRASHES_WHEN_WARM = """

_run = run


def run(boot):
    if sensor.Sensor().read() > 60:
        raise RuntimeError("a fault that the trial did not show")
    _run(boot)
"""


def test_confirmed_release_that_begins_to_crash_ends_in_recovery_which_takes_an_offer(
    shop: Stage, device: Device
) -> None:
    application = shop.source / "app.py"
    honest = application.read_text()
    application.write_text(honest + CRASHES_WHEN_WARM)
    try:
        faulty = release(shop, "1.9.5")
    finally:
        application.write_text(honest)
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(faulty)
    assert device.tells("confirmed", None).claims["version"] == "1.9.5"
    device.board.power_off()
    device.board.set_sensor(80)
    since = device.witness.mark()
    device.board.power_on()
    report = device.witness.wait(since, lambda claims: claims["mode"] == "recovery", 120)
    assert report and "recovery" in report.degraded and "version" not in report.claims, device.log.read_text()[-2000:]
    device.publish(release(shop, "1.9.6"))
    device.runs("1.9.6", since=since)


def test_board_without_room_installs_with_the_core_alone(shop: Stage, tmp_path: Path) -> None:
    product = shop.product
    folder = product.root / "boards" / "small"
    if not folder.exists():
        shutil.copytree(core.source("boards") / "unix", folder, ignore=shutil.ignore_patterns("__pycache__", "shims"))
        board = folder / "board.toml"
        text = board.read_text().replace('name = "unix"', 'name = "small"').replace("UNIX_SIM", "UNIX_SMALL")
        board.write_text(text + "install_alone = true\n")
        settings = product.root / "product.toml"
        settings.write_text(settings.read_text().replace('boards = ["unix"]', 'boards = ["unix", "small"]'))
    for version in ("4.0.0", "4.1.0"):
        shop.gatehouse("release", "--version", version, "--board", "small", "--source", str(shop.source))
    first, second = sorted(product.dist.glob("demo-4.?.0*.suit"))
    device = Device(shop, tmp_path, 3, "112wK", "--board", "small", "--slot-release", str(first))
    try:
        device.board.power_on()
        device.runs("4.0.0")
        device.publish(second)
        report = device.witness.wait(0, lambda claims: claims["mode"] == "install", 120)
        assert report and report.claims["version"] == "4.0.0"
        assert device.tells("confirmed", None).claims["version"] == "4.1.0"
    finally:
        device.close()
