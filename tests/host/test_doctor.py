"""`gatehouse doctor` finds what is wrong and says what to do; completion; every command has --json."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import rich_click as click
import shop

from gatehouse_tools import broker, build, cli, doctor, lms_keys, pack, product

ROOT = pathlib.Path(cli.__file__).resolve().parents[2]


@pytest.fixture
def item(tmp_path: pathlib.Path) -> product.Product:
    found = shop.make(tmp_path / "the shop", domain="gatehouse.example")
    shop.release(found, "1.0.0")
    return found


def checks(item: product.Product) -> dict[str, doctor.Check]:
    """What is not good, by its name."""
    return {one.name: one for one in doctor.folder(item) if one.state != doctor.GOOD}


def test_a_whole_machine_and_product_are_good(item: product.Product) -> None:
    done = shop.run("doctor", "--product", item.root, "--json")
    assert done.code == 0, done.out
    states = {one["name"]: one["state"] for one in done.json["checks"]}
    assert states.pop("devices") == "note"  # none yet
    states.pop("broker")
    assert set(states.values()) == {"good"}
    assert "nothing wrong found" in shop.run("doctor", "--product", item.root).out


def test_without_a_product_the_machine_alone(tmp_path: pathlib.Path) -> None:
    done = shop.start("doctor", cwd=tmp_path)
    assert done.code == 0, done.out + done.err
    assert "This machine" in done.out and "no product here" in done.err
    shop.run("doctor", "--product", tmp_path).refused(2, "product.toml")


def test_what_is_wrong_with_a_product(item: product.Product) -> None:
    assert set(checks(item)) == {"devices"}
    (item.keys / "root.pem").rename(item.root / "root.pem")  # offline, where it belongs
    (item.keys / "release.pem").unlink()
    (item.keys / "operator.pem").chmod(0o644)
    (item.ca / "host.pem").write_text("nothing")
    (item.dist / "shop-1.0.0.pack").write_bytes(b"nothing")
    found = checks(item)
    assert {name for name, one in found.items() if one.state == doctor.WRONG} == {
        *("release key", "private files", "host certificate", "releases"),
    }
    assert found["root key"].state == doctor.NOTE
    assert found["private files"].todo == f"chmod 600 '{item.keys / 'operator.pem'}'"
    assert all(one.todo for one in found.values())
    done = shop.run("doctor", "--product", item.root)
    assert done.code == 1
    assert "WRONG  private files" in done.out
    assert "4 of" in done.out


def test_a_clock_behind_the_last_release(item: product.Product, monkeypatch: pytest.MonkeyPatch) -> None:
    last = item.last_sequence()
    monkeypatch.setattr(doctor.time, "time", lambda: last - 100)
    assert "100 s behind" in checks(item)["clock"].told
    monkeypatch.setattr(doctor.time, "time", lambda: last)
    assert "clock" not in checks(item)


def test_settings_and_statement(item: product.Product) -> None:
    path = item.root / "product.toml"
    text = path.read_text()
    path.write_text(re.sub(r"support_until = .*", 'support_until = "soon"', text).replace("news_days = 14", ""))
    found = checks(product.Product(item.root))
    assert found["settings"].state == doctor.WRONG and "support_until" in found["settings"].told
    assert found["statement"].state == doctor.NOTE and "1 fields" in found["statement"].told


def test_a_fault_of_a_board_names_its_file(item: product.Product) -> None:
    path = item.root / "boards" / "unix" / "board.toml"
    shutil.copytree(ROOT / "boards" / "unix", path.parent, ignore=shutil.ignore_patterns("shims"))
    assert "settings" not in checks(item)
    path.write_text(path.read_text() + "snsor = 1\n")
    found = checks(item)["settings"]
    assert "board.toml" in found.told and "board.toml" in found.todo and "product.toml" not in found.todo


def test_devices_that_would_look_for_the_broker_in_themselves(tmp_path: pathlib.Path) -> None:
    item = shop.real(tmp_path / "shop")
    assert "address" not in checks(item)
    item.device |= {"broker": "localhost", "base_url": "http://localhost:8080/"}
    found = checks(item)["address"]
    assert found.state == doctor.NOTE and "broker and packs" in found.told and "[device]" in found.todo
    item.device["broker"] = "bro ker"
    assert "bro ker" in checks(item)["address"].told


def test_lms_signatures_that_come_to_their_end(tmp_path: pathlib.Path) -> None:
    item = shop.make(tmp_path / "shop", domain="gatehouse.example", root="lms")
    assert "root key" not in checks(item)
    signer = lms_keys.LmsSigner(item.keys / "root.lms", item.ledger)
    for _ in range(30):
        signer.sign(b"used")
    assert "2 signatures left" in checks(item)["root key"].told


@pytest.mark.parametrize(("days", "state"), [(100, None), (20, doctor.NOTE), (-1, doctor.WRONG)])
def test_certificates_that_end(
    item: product.Product, monkeypatch: pytest.MonkeyPatch, days: int, state: str | None
) -> None:
    now = doctor.datetime.datetime.now(doctor.datetime.UTC)

    class Certificate:  # what is asked of one is its end
        not_valid_after_utc = now + doctor.datetime.timedelta(days=days, hours=1)

    monkeypatch.setattr(doctor.ca, "load_certificate", lambda path: Certificate)
    found = {one.name: one for one in doctor._certificates(item) if one.state != doctor.GOOD}.get("broker certificate")
    assert (found.state if found else None) == state


def test_what_is_wrong_with_a_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(broker, "mosquitto", lambda: None)
    monkeypatch.setattr(build, "THIRD_PARTY", tmp_path)
    monkeypatch.setattr(pack, "MPY_VERSION", 7)
    monkeypatch.setattr(doctor.runtime, "micropython", lambda: sys.executable)  # a program that is none
    monkeypatch.setattr(
        doctor.shutil, "disk_usage", lambda path: os.terminal_size((0, 0)) and type("U", (), {"free": 5})
    )
    found = {one.name: one for one in doctor.machine()}
    wrong = {name for name, one in found.items() if one.state == doctor.WRONG}
    assert wrong == {"mpy-cross", "MicroPython", "umqtt", "microdot", "disk"}
    assert found["broker"].state == doctor.NOTE
    assert all(found[name].todo for name in wrong)


# Completion.


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    done = shop.run("completion", shell)
    assert done.code == 0
    assert "_GATEHOUSE_COMPLETE" in done.out
    assert shop.run("completion", shell, "--json").json["shell"] == shell
    assert shop.run("completion", "--json", SHELL=f"/bin/{shell}").json["shell"] == shell


def test_a_shell_that_is_not_known() -> None:
    shop.run("completion", SHELL="/bin/tcsh").refused(1, "which shell?", "bash|zsh|fish")
    shop.run("completion", "tcsh").refused(2, "tcsh")


@pytest.mark.parametrize(
    ("words", "wanted"), [("gatehouse rel", "release"), ("gatehouse release --roll", "--rollback-to")]
)
def test_commands_and_options_are_completed(tmp_path: pathlib.Path, words: str, wanted: str) -> None:
    environment = os.environ | {
        "_GATEHOUSE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
        "PYTHONPATH": str(shop.TOOLS),
    }
    program = "import sys; sys.argv = ['gatehouse']; from gatehouse_tools.cli import main; main(prog_name='gatehouse')"
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert f"plain,{wanted}" in done.stdout.splitlines(), done.stderr


# Every command.


def walk(command: click.Command, path: tuple[str, ...]) -> list[tuple[str, click.Command]]:
    """A command and those below it, by what is typed."""
    if isinstance(command, click.Group):
        return [one for name, below in command.commands.items() for one in walk(below, (*path, name))]
    return [(" ".join(path), command)]


COMMANDS = [one for name in cli.COMMANDS for one in walk(cli.load(name), (name,))]


@pytest.mark.parametrize("name", [name for name, _ in COMMANDS])
def test_every_command_has_json_help_and_an_example(name: str) -> None:
    command = dict(COMMANDS)[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    done = shop.run(*name.split(), "--help")
    assert done.code == 0
    assert "Example:" in done.out and f"gatehouse {name}" in done.out


@pytest.mark.parametrize("name", [name for name, _ in COMMANDS])
def test_every_commands_error_is_one_json_object(name: str, tmp_path: pathlib.Path) -> None:
    """With --json even what went wrong is an object on stdout; here no product, or no such option."""
    done = shop.start(
        *name.split(), "--json", "--product" if "product_dir" in _names(name) else "--none", "none", cwd=tmp_path
    )
    lines = done.out.strip().splitlines()
    if done.code:
        assert len(lines) == 1, (done.out, done.err)
        told = json.loads(lines[0])
        assert told["ok"] is False and told["error"]


def _names(name: str) -> set[str]:
    return {str(parameter.name) for parameter in dict(COMMANDS)[name].params}
