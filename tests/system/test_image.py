"""One image everywhere: what `gatehouse flash` writes onto an ESP32-S3 boots, unchanged, on the simulated board.

The simulated board runs the files of the image's own LittleFS and reads its NVS; bootloader and MicroPython of the
image (servers/stock_image.py, made by hand) are not executed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest
from cryptography import x509
from littlefs import LittleFS, UserContext

from gatehouse_tools import product, reports
from gatehouse_tools.demo.witness import Witness
from gatehouse_tools.house import House
from gatehouse_tools.image import flash, nvs
from gatehouse_tools.sim.board import Board
from gatehouse_tools.sim.flash import Flash
from gatehouse_tools.sim.nvs import Nvs
from servers import stock_image

from .test_report import identity

ID = "gh-s3"


class Made:
    """A product for the ESP32-S3 in a house of its own, a device of it, and its merged image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        root = folder / "shop"
        self.run(
            "init", root, "--name", "shop", "--domain", "example.com", "--board", "ESP32_GENERIC_S3", product=False
        )
        settings = root / "product.toml"
        settings.write_text(settings.read_text().replace('hardware = "1"', 'hardware = "7"'))
        self.item = product.Product(root)
        self.run("release", "--version", "1.0.0")
        self.house = House(self.item, broker="mosquitto")
        self.image = folder / "out.bin"

    def run(self, *words: object, product: bool = True, good: bool = True) -> str:
        """What a command prints that must succeed."""
        where = ["--product", str(self.folder / "shop")] if product else []
        done = subprocess.run(
            [sys.executable, "-m", "gatehouse_tools", *map(str, words), *where],
            cwd=self.folder, env=os.environ | {"NO_COLOR": "1", "XDG_STATE_HOME": str(self.folder / "state")},
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert not good or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def verdicts(self, *more: object, good: bool = True) -> list[str]:
        """What `gatehouse watch` says of the device's reports, with a nonce sent."""
        said = self.run(
            *("watch", "--json", "--once", "--device", ID, "--broker", self.house.broker_address, *more), good=good
        )
        events = [json.loads(line) for line in said.splitlines()]
        return [one["verdict"] for one in events if one.get("event") == "report"]

    def make(self) -> None:
        """Provision and flash into a file."""
        wifi = self.folder / "wifi.toml"
        wifi.write_text('ssid = "gatehouse-sim"\npassword = "simulated"\n')
        wifi.chmod(0o600)
        self.run(
            *("provision", "--id", ID, "--wifi", wifi, "--broker", self.house.broker_address),
            *("--base-url", self.house.url, "--ntp", self.house.ntp_address, "--report-seconds", "5"),
            *("--sensor-seconds", "1", "--watchdog-ms", "12000"),
        )
        firmware = self.folder / "firmware.bin"
        firmware.write_bytes(stock_image.firmware())
        self.run("flash", "--device", ID, "--firmware", firmware, "--image", self.image)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    one = Made(tmp_path_factory.mktemp("s3"))
    with one.house:
        one.make()
        yield one


def test_three_readers_and_inspect_agree(made: Made, tmp_path: Path) -> None:
    image = made.image.read_bytes()
    told = json.loads(made.run("inspect", made.image, "--json"))
    words = made.run("inspect", made.image)
    parts = flash.take_apart(image)
    assert told["ok"] and told["kind"] == "flash"
    # esptool, of bootloader and application.
    for name, at in (("bootloader", 0), ("ota_0", 0x10000)):
        (tmp_path / "part.bin").write_bytes(image[at : at + 0x8000 if name == "bootloader" else 0x280000])
        command = [sys.executable, "-m", "esptool", "image-info", str(tmp_path / "part.bin")]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert said.count("(valid)") == 2 and "Detected image type: ESP32-S3" in said
        assert told["firmware"][name]["chip"] == "esp32s3"
        version = told["firmware"][name]["version"]
        assert (f"App version: {version}" in said) == bool(version)
    assert told["firmware"]["ota_0"]["version"] == "v1.28.0" and "MicroPython v1.28.0, ESP-IDF v5.5.1" in words
    # An NVS reader that shares nothing with ours: the driver of the simulated chip, written after ESP-IDF's.
    path = tmp_path / "nvs.bin"
    path.write_bytes(parts["nvs"][1])
    handle = os.open(path, os.O_RDWR)
    driver = Nvs(Flash(handle, lambda: False, random.Random(0)), 0, len(parts["nvs"][1]))
    space = driver.open("gatehouse")
    values = nvs.read_nvs(parts["nvs"][1])["gatehouse"]
    for name, value in values.items():
        assert driver.get_blob(space, name) == value
        shown = next(line for line in words.splitlines() if line.split()[:1] == [name])
        assert str(len(value)) in shown or value.hex() in shown
    os.close(handle)
    assert told["identity"]["id"] == cbor2.loads(values["identity"])[1] == ID  # type: ignore[arg-type]
    # littlefs-python, on its own.
    context = UserContext(buffer=bytearray(parts["vfs"][1]))
    system = LittleFS(context, block_size=4096, block_count=len(parts["vfs"][1]) // 4096, mount=True)
    found = {f"{base.rstrip('/')}/{leaf}" for base, _, leaves in system.walk("/") for leaf in leaves}
    for file in found:
        short = file.removeprefix("/slots/a/")
        if file not in ("/slots/a/manifest.suit", "/slots/a/index.cbor", "/state/boot.cbor", "/state/trust.suit"):
            assert short in words  # those are told by what they hold
        if not file.startswith(("/slots/", "/state/")):
            line = next(line for line in words.splitlines() if line.split()[:1] == [file])
            assert line.split()[1] == str(system.stat(file).size)
    assert told["slots"]["a"]["verified"] and told["slots"]["a"]["version"] == "1.0.0"


def test_it_boots_and_reports_attested_with_its_own_key_and_certificate(made: Made, tmp_path: Path) -> None:
    before = made.image.read_bytes()
    image = tmp_path / "board.bin"
    image.write_bytes(before)
    ca = made.item.ca
    verifier = reports.Verifier(reports.known_devices(made.item.devices))
    port = made.house.broker.port
    log = tmp_path / "uart.log"
    with Board(image, log=log, chip="esp32s3") as board:
        witness = Witness(ID, verifier, ca / "ca.pem", ca / "host.pem", ca / "host-key.pem", "localhost", port)
        try:
            board.power_on()
            report = witness.wait(0, lambda claims: (claims.get("version"), claims["mode"]) == ("1.0.0", "active"), 120)
            assert report, log.read_text()[-3000:]
            claims = report.claims
            fuses = {"flash_encryption": False, "secure_boot": False, "download_mode": True, "jtag": True}
            assert claims["fuses"] == fuses  # read at the addresses of an ESP32-S3
            assert claims["comparison"] == "success"
            assert identity(claims) == {
                "ueid": "01" + uuid.UUID(made.item.device_facts(ID)["uuid"]).hex,
                "vendor": uuid.uuid5(uuid.NAMESPACE_DNS, "example.com").hex,
                "model": "ESP32_GENERIC_S3",
                "hardware": "7",
            }  # test_report.py has another device's
        finally:
            witness.close()
        assert made.verdicts()[-1] == "verified"
    # Only this device has that key, and the broker knows its certificate by the id.
    values = nvs.read_nvs(flash.take_apart(before)["nvs"][1])["gatehouse"]
    certificate = x509.load_der_x509_certificate(values["tls_cert"])  # type: ignore[arg-type]
    assert certificate.subject.rfc4514_string() == f"CN={ID}"


def test_a_board_with_the_nvs_of_another_is_not_taken_for_it(made: Made, tmp_path: Path) -> None:
    """The twin: with another device key in the same image no report passes for this device's."""
    data = bytearray(made.image.read_bytes())
    part = flash.take_apart(bytes(data))["nvs"][0]
    values = dict(nvs.read_nvs(bytes(data[part.offset : part.end]))["gatehouse"])
    values["device_key"] = bytes(32)
    data[part.offset : part.end] = flash.nvs_image(values, part.size).ljust(part.size, b"\xff")  # type: ignore[arg-type]
    image = tmp_path / "board.bin"
    image.write_bytes(data)
    with Board(image, log=tmp_path / "uart.log", chip="esp32s3") as board:
        board.power_on()
        found = made.verdicts("--timeout", "15", good=False)
    assert found and "verified" not in found
