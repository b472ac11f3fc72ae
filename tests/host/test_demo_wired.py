"""The demonstration on a board at a port: what is refused before anything is made, and what counts as a pulled plug."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import shop

from gatehouse_tools import house
from gatehouse_tools.demo import act, wired
from gatehouse_tools.errors import GatehouseError, UsageError
from gatehouse_tools.identity import Credentials
from gatehouse_tools.report_words import RESETS
from servers import stock_image
from servers.rom_loader import Rom

USB = "/dev/ttyUSB0"


class Desk:
    """What somebody has beside the board: the files, and a folder in which nothing may appear."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "demo"
        self.firmware = folder / "ESP32_GENERIC_S3.bin"
        self.firmware.write_bytes(stock_image.firmware())
        self.wifi = folder / "wifi.toml"
        self.wifi.write_text('ssid = "hall 3"\npassword = "correct horse"\n')
        self.wifi.chmod(0o600)

    def call(self, port: str, *options: object, **instead: Any) -> shop.Result:
        """`gatehouse demo --device`; an option that is None is left out."""
        given = {"--host": "127.0.0.1", "--firmware": self.firmware, "--wifi": self.wifi} | instead
        words = [word for name, value in given.items() if value is not None for word in (name, value)]
        done = shop.run("demo", "--once", "--dir", self.folder, "--device", port, *words, *options)
        assert not self.folder.exists()
        # esptool's own, about a pseudo-terminal that has no reset line.
        done.err = "".join(line for line in done.err.splitlines(True) if "Chip was NOT reset" not in line)
        return done


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The flash of somebody's device."""
    folder = tmp_path_factory.mktemp("other")
    desk, item = Desk(folder), shop.real(folder / "shop")
    made = shop.run("provision", "--product", item.root, "--id", "gh-theirs", "--wifi", desk.wifi)
    assert made.code == 0, made.err
    image = folder / "out.bin"
    words = ("--device", "gh-theirs", "--firmware", desk.firmware, "--image", image)
    assert shop.run("flash", "--product", item.root, *words).code == 0
    return image.read_bytes()


def untouched(rom: Rom, flash: bytes) -> bool:
    return rom.writes == [] and rom.erased == 0 and rom.flash.startswith(flash)


def test_no_board_at_the_port(desk: Desk) -> None:
    desk.call("/dev/pts/none").refused(1, "/dev/pts/none", "check cable and port", "[port]")


def test_the_wrong_chip(desk: Desk) -> None:
    with Rom("esp32c3", 4 << 20, b"before") as rom:
        desk.call(rom.port).refused(1, "has an ESP32-C3; ESP32_GENERIC_S3 has an ESP32-S3", "[chip]")
        assert untouched(rom, b"before")


def test_a_flash_that_is_too_small(desk: Desk) -> None:
    with Rom(size=4 << 20, flash=b"before") as rom:
        desk.call(rom.port).refused(1, "has 4MB of flash; ESP32_GENERIC_S3 has 8MB", "[size]")
        assert untouched(rom, b"before")


def test_a_board_that_is_somebodys_device(desk: Desk, provisioned: bytes) -> None:
    with Rom(flash=provisioned) as rom:
        desk.call(rom.port).refused(1, "is the device gh-theirs already", "--replace", "[provisioned]")
        assert untouched(rom, provisioned)
        # Its twin: asked for, it is taken, and still nothing is written by looking.
        found = wired.wiring(rom.port, "127.0.0.1", desk.firmware, desk.wifi, None, True)
        assert found.replace and untouched(rom, provisioned)


def test_a_blank_board_is_taken(desk: Desk) -> None:
    with Rom() as rom:
        found = wired.wiring(rom.port, "127.0.0.1", desk.firmware, desk.wifi, None, False)
        assert untouched(rom, b"\xff")
    assert found.board.name == "ESP32_GENERIC_S3" and found.wifi == Credentials("hall 3", "correct horse")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_loopback_is_no_address_for_a_board(desk: Desk, host: str) -> None:
    desk.call(USB, **{"--host": host}).refused(2, f"--host {host} is this machine's loopback", "192.168.1.20")
    # The twin: a program behind a pseudo-terminal reaches it.
    wired.check_host(host, "/dev/pts/0")


def test_without_host(desk: Desk) -> None:
    desk.call(USB, **{"--host": None}).refused(2, "give --host ADDRESS", "192.168.1.20")


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "is not an address of this machine"),
        ("0.0.0.0", "no address that can be reached"),  # noqa: S104 it is refused
        ("255.255.255.255", "no address that can be reached"),
        ("224.0.0.1", "no address that can be reached"),
        ("::1", "no IPv4 address"),
    ],
)
def test_a_host_that_is_not_this_machine(desk: Desk, host: str, words: str) -> None:
    desk.call("/dev/pts/0", **{"--host": host}).refused(2, f"--host {host}", words)


def test_a_name_is_taken_for_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(name: str, *_: Any) -> Any:
        if name != "laptop.example":
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", ("127.0.0.3", 0))]

    monkeypatch.setattr(house.socket, "getaddrinfo", lookup)
    wired.check_host("laptop.example", "/dev/pts/0")
    with pytest.raises(UsageError, match=r"laptop\.example is this machine's loopback"):
        wired.check_host("laptop.example", USB)
    with pytest.raises(UsageError, match=r"nowhere\.example is no IPv4 address"):
        wired.check_host("nowhere.example", "/dev/pts/0")


def test_without_firmware(desk: Desk) -> None:
    desk.call(USB, **{"--firmware": None}).refused(2, "give --firmware FILE")
    desk.call(USB, **{"--firmware": desk.wifi}).refused(1, "is not an ESP32 application image", "[format]")


def test_the_firmware_says_which_board_it_is_for(desk: Desk) -> None:
    desk.call(USB, **{"--board": "ESP32_GENERIC_C3"}).refused(1, "the board has an ESP32-C3", "[chip]")
    desk.call(USB, **{"--board": "unix"}).refused(2, "is the simulated board")
    desk.call(USB, **{"--board": "NONE"}).refused(2, "there is no board 'NONE'")
    for chip, name in (("esp32", "ESP32_GENERIC"), ("esp32c3", "ESP32_GENERIC_C3"), ("esp32c6", "ESP32_GENERIC_C6")):
        assert wired._board(stock_image.firmware(chip), desk.firmware, None).name == name


def test_the_wifi_is_asked_for_at_a_terminal_only(desk: Desk) -> None:
    desk.call("/dev/pts/0", **{"--wifi": None}).refused(2, "elsewhere give --wifi FILE")


@pytest.mark.parametrize("options", [["--devices", 2], ["--replay"]])
def test_it_is_one_live_board(desk: Desk, options: list[Any]) -> None:
    desk.call(USB, *options).refused(2, "--device plays on one board")


@pytest.mark.parametrize("options", [["--host", "192.0.2.1"], ["--replace"], ["--board", "unix"], ["--wifi", "x"]])
def test_options_of_a_board_without_one(options: list[str]) -> None:
    shop.run("demo", "--once", *options).refused(2, "go with --device PORT")


def test_it_is_called_a_real_board_only_where_it_may_be_one(desk: Desk) -> None:
    def kind(port: str) -> Any:
        board = wired._board(desk.firmware.read_bytes(), desk.firmware, None)
        return wired.Wiring(port, board, desk.firmware, "192.0.2.1", Credentials("hall 3", ""), False).kind

    real, program = kind(USB), kind("/dev/pts/7")
    assert real.label == f"real board on {USB}" and not real.left_out
    assert program.label == "a program on /dev/pts/7, no board" and program.left_out == {"password"}
    for one in (real, program):
        assert not one.resets and "by hand" in one.caption
        assert any("that person's word" in note for note in one.notes)
        assert "simulated" not in "".join(one.notes)


# What counts as a power cut.


class Reports:
    """A witness whose reports come as soon as somebody waits for them."""

    def __init__(self, *coming: dict[str, Any]) -> None:
        self.history: list[Any] = [SimpleNamespace(claims=claims(1))]
        self._coming = list(coming)

    def mark(self) -> int:
        return len(self.history)

    def wait(self, since: int, wanted: Any, _timeout: float) -> Any:
        while True:
            for one in self.history[since:]:
                if wanted(one.claims):
                    return one
            if not self._coming:
                return None
            self.history.append(SimpleNamespace(claims=self._coming.pop(0)))


def claims(boots: int, reset: str = "power-on", state: str = "idle", done: int = 0) -> dict[str, Any]:
    return {
        "boots": boots,
        "reset": reset,
        "uptime": 5,
        "update": {"state": state, "files": {"done": done, "total": 9}},
    }


class Newest:
    """A device whose claims are those of its newest report."""

    def __init__(self, witness: Reports) -> None:
        self.witness, self.board = witness, SimpleNamespace(patience=1.0)

    @property
    def claims(self) -> dict[str, Any]:
        return dict(self.witness.history[-1].claims)


class Scene(act.Act):
    """An act on a wired board, whose server is this one and whose reports are these."""

    def __init__(self, *coming: dict[str, Any]) -> None:
        self.server = SimpleNamespace(rate=0)
        self.told: list[act.Step] = []
        stage: Any = SimpleNamespace(house=SimpleNamespace(server=self.server))
        device: Any = Newest(Reports(*coming))
        super().__init__(stage, device, self.told.append)

    def cut(self) -> float:
        """Have an update cut by hand. Its packs are slow meanwhile, and not afterwards."""
        offered: list[int] = []
        try:
            return bare().cut_in_update(self, lambda: offered.append(self.server.rate))
        finally:
            assert offered == [wired._SLOW] and self.server.rate == 0


def bare() -> wired.Wired:
    """A wired board whose port nobody opens."""
    return wired.Wired.__new__(wired.Wired)


HALF = claims(1, state="downloading", done=3)


def test_a_plug_that_is_pulled_half_way_is_a_power_cut() -> None:
    one = Scene(HALF, claims(2, state="downloading", done=4))
    assert one.cut() > 0
    assert [step.text for step in one.told if step.who == act.YOU] == [
        "Pull the plug now, in the middle of the update, and put it back."
    ]


@pytest.mark.parametrize("reset", sorted(set(RESETS) - {"power-on"}))
def test_another_restart_is_none(reset: str) -> None:
    with pytest.raises(GatehouseError, match="was the plug pulled"):
        Scene(HALF, claims(2, reset, "downloading", 4)).cut()


def test_the_same_boot_is_none() -> None:
    with pytest.raises(GatehouseError, match="was the plug pulled"):
        Scene(HALF, claims(1, state="downloading", done=4)).cut()


def test_one_that_is_pulled_when_all_was_there_is_none() -> None:
    with pytest.raises(GatehouseError, match="all was fetched already"):
        Scene(HALF, claims(1, state="pending-reboot", done=9), claims(2, state="trial")).cut()


def test_nobody_is_asked_before_the_update_has_begun() -> None:
    one = Scene(claims(1, state="downloading", done=0))
    with pytest.raises(GatehouseError, match="did not begin the update"):
        one.cut()
    assert not [step for step in one.told if step.who == act.YOU]


def test_its_address_is_the_one_that_it_reports() -> None:
    assert bare().https({"wifi": {"address": "192.0.2.7", "signal": -60}}) == ("192.0.2.7", 443)
    with pytest.raises(GatehouseError, match="does not report its address"):
        bare().https({"wifi": {"address": None, "signal": None}})
