"""The console of whole devices, and the real mpremote: refused when locked, at work in a service window."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatehouse_tools.demo.stage import Stage

from .conftest import Device
from .terminal import Terminal, label_password, mpremote

OWNER, SERVICE = "a new owner's secret", "with a screwdriver"
WINDOW_S = 12  # two starts of mpremote on a busy machine have room in it


@pytest.fixture
def locked(shop: Stage, tmp_path: Path, seed: int) -> Iterator[Device]:
    """A device with a terminal, as it leaves the factory."""
    made = Device(shop, tmp_path, seed, terminal=True)
    yield made
    made.close()


@pytest.fixture
def serviced(shop: Stage, tmp_path: Path, seed: int) -> Iterator[Device]:
    """One whose policy lets the service open the REPL for a short time."""
    made = Device(shop, tmp_path, seed, "128wK", "--set", f"repl_seconds={WINDOW_S}", terminal=True)
    yield made
    made.close()


def goes_on(device: Device) -> None:
    """It has not restarted, is not at a prompt, and reports."""
    report = device.runs("1.0.0", since=device.witness.mark())
    assert "repl" not in report.claims["degraded"]
    assert [event.kind for event in device.board.events if event.kind in ("boot", "repl", "reset", "wdt-reset")] == [
        "boot"
    ]


@pytest.mark.parametrize("way", [("resume",), ()], ids=["resume", "soft reset"])
def test_mpremote_finds_no_repl_and_no_file_on_a_locked_device(locked: Device, way: tuple[str, ...]) -> None:
    locked.board.power_on()
    locked.runs("1.0.0")
    for command in (("eval", "6 * 7"), ("ls",), ("cat", ":boot.py")):
        code, told = mpremote(locked, *way, *command, timeout=4)
        assert code != 0 and "42" not in told and "gatehouse import" not in told
    goes_on(locked)


def test_ctrl_c_and_noise_do_nothing_to_a_running_device(locked: Device, seed: int) -> None:
    chance = random.Random(seed)
    locked.board.power_on()
    locked.runs("1.0.0")
    for _ in range(200):
        locked.board.type(b"\x03" * 5 + chance.randbytes(40) + b"\x04\x01\r")
        time.sleep(0.01)
    goes_on(locked)
    with Terminal(locked) as terminal:
        terminal.type("")
        terminal.login("owner", label_password(locked))


def test_the_label_password_opens_nothing_until_it_is_changed(locked: Device) -> None:
    locked.board.power_on()
    locked.runs("1.0.0")
    with Terminal(locked) as terminal:
        terminal.login("owner", label_password(locked))
        terminal.type("state")
        terminal.expect("fresh: ")
        change(terminal, label_password(locked))
        terminal.type("state")
        terminal.expect("version: 1.0.0")
        terminal.type("repl 1")
        terminal.expect("denied: repl is for service")
        terminal.type("logout")
        terminal.expect("logged out")
        assert OWNER not in terminal.shown and label_password(locked) not in terminal.shown
    goes_on(locked)
    assert OWNER not in locked.log.read_text()


def change(terminal: Terminal, label: str) -> None:
    terminal.type("password.change")
    for answer in (label, OWNER, OWNER):
        terminal.expect(": ")
        terminal.type(answer)
    terminal.expect("owner> ")


def make_service(device: Device, terminal: Terminal) -> None:
    """The owner lets the service in."""
    terminal.login("owner", label_password(device))
    change(terminal, label_password(device))
    terminal.type("user.password service")
    for _ in range(2):
        terminal.expect(": ")
        terminal.type(SERVICE)
    terminal.expect("owner> ")
    terminal.type("logout")
    terminal.expect("logged out")


def test_a_console_that_the_owner_closes_takes_no_input(locked: Device) -> None:
    locked.board.power_on()
    locked.runs("1.0.0")
    with Terminal(locked) as terminal:
        terminal.login("owner", label_password(locked))
        change(terminal, label_password(locked))
        since = locked.witness.mark()
        terminal.type("interface.set uart off")
        terminal.expect("owner> ")

        def closed(claims: dict) -> bool:
            found = claims["interfaces"]["uart"]
            return found == {"wanted": False, "active": False} and claims["access"]["sessions"] == 0

        assert locked.witness.wait(since, closed, 120), locked.witness.history[-1].claims
        before = len(terminal.shown)
        terminal.type("state")
        terminal.type("login owner")
        report = locked.runs("1.0.0", since=locked.witness.mark())
        assert not [reason for reason in report.claims["degraded"] if reason.startswith("interface")]
        terminal.type("")
        assert "password" not in terminal.rest()[before:] and "version" not in terminal.shown[before:]


def test_erase_ends_an_ownership_and_leaves_nothing_of_it_to_be_read(locked: Device) -> None:
    board = locked.board
    label = label_password(locked)
    board.power_on()
    locked.runs("1.0.0")
    with Terminal(locked) as terminal:
        terminal.login("owner", label)
        change(terminal, label)
        for _ in range(2):  # the first stays in the flash as an erased entry
            terminal.type("wifi.set the-network-of-the-owner")
            for asked in ("password: ", "password again: "):
                terminal.expect(asked)
                terminal.type("the owner's key of it")
            terminal.expect("in force")
        assert b"the-network-of-the-owner" in locked.image.read_bytes()
        terminal.type("erase gh-0000-somebody-elses")
        terminal.expect("argument: ")
        assert b"the-network-of-the-owner" in locked.image.read_bytes()
        terminal.type(f"erase {locked.id}")
        board.wait(lambda board: board.boots == 2 and board.events[-1].kind == "boot", 120)
    with Terminal(locked) as terminal:
        terminal.type("login owner")
        terminal.expect("password: ")
        terminal.type(OWNER)
        terminal.expect("password: ")  # the refusal
        terminal.login("owner", label)
        terminal.type("state")
        terminal.expect("fresh: ")
    board.power_off()
    data = locked.image.read_bytes()
    assert b"the-network-of-the-owner" not in data and b"the owner's key of it" not in data


def test_the_service_opens_no_repl_where_the_policy_has_none(locked: Device) -> None:
    locked.board.power_on()
    locked.runs("1.0.0")
    with Terminal(locked) as terminal:
        make_service(locked, terminal)
        terminal.login("service", SERVICE)
        terminal.type("repl 1")
        terminal.expect("disabled: ")
        terminal.type("state")
        terminal.expect("version: 1.0.0")
    goes_on(locked)


def test_the_service_window_opens_for_mpremote_is_reported_and_ends(serviced: Device) -> None:
    board = serviced.board
    board.power_on()
    serviced.runs("1.0.0")
    with Terminal(serviced) as terminal:
        make_service(serviced, terminal)
        terminal.login("service", SERVICE)
        since = serviced.witness.mark()
        terminal.type("repl 60")
        terminal.expect(f"seconds: {WINDOW_S}")
        terminal.expect("the REPL opens; the device resets after ")
        left = int(terminal.expect(" s").removesuffix(" s"))  # of the window; what came before it took its share
        terminal.expect(">>> ")
    assert 0 < left <= WINDOW_S
    report = serviced.witness.wait(since, lambda claims: "repl" in claims["degraded"], 120)
    assert report, "the report said so before it opened"
    assert 0 < report.claims["access"]["repl_seconds"] <= WINDOW_S
    assert mpremote(serviced, "resume", "eval", "6 * 7") == (0, "42\n")
    assert "/lib" in mpremote(serviced, "resume", "exec", "import sys; print(sys.path)")[1]
    latest = serviced.witness.history[-1]
    assert "repl" in latest.claims["degraded"], "what the broker keeps says so while it is open"
    since = serviced.witness.mark()
    board.wait(lambda board: board.events[-1].kind == "boot" and board.boots == 2, WINDOW_S + 20)
    assert [event.kind for event in board.events][-2:] == ["wdt-reset", "boot"]
    report = serviced.runs("1.0.0", since=since)
    assert "repl" not in report.claims["degraded"] and report.claims["access"]["repl_seconds"] == 0
    assert mpremote(serviced, "resume", "eval", "6 * 7", timeout=4)[0] != 0


def test_a_window_survives_no_power_cycle(serviced: Device) -> None:
    board = serviced.board
    board.power_on()
    serviced.runs("1.0.0")
    with Terminal(serviced) as terminal:
        make_service(serviced, terminal)
        terminal.login("service", SERVICE)
        terminal.type("repl 1")
        terminal.expect(">>> ")
    since = serviced.witness.mark()
    board.power_off()
    board.power_on()
    report = serviced.runs("1.0.0", since=since)
    assert "repl" not in report.claims["degraded"]
    assert [event.kind for event in board.events].count("repl") == 1
    assert mpremote(serviced, "resume", "eval", "6 * 7", timeout=4)[0] != 0
