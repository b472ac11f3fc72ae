"""The command line itself: quick help, exit codes, one line for each error, --json, NO_COLOR; and `gatehouse init`."""

import json
import os
import re
import stat
import subprocess
import sys
import types

import pytest
import rich_click as click
import shop

from gatehouse_tools import cli, product, ui
from gatehouse_tools.errors import GatehouseError


@pytest.fixture
def command(monkeypatch):
    """Put a function in the place of the command `demo`."""

    def put(function):
        module = types.ModuleType("gatehouse_tools.commands.demo")
        setattr(module, "command", click.command("demo")(ui.json_option(function)))  # noqa: B010 - a module made here
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return put


# Help.


def test_help_lists_every_command_without_importing_one(tmp_path):
    program = (
        "import sys; from gatehouse_tools.cli import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        "    slow = ('cbor2', 'paho', 'cryptography', 'littlefs')\n"
        "    print([name for name in sys.modules if '.commands' in name or name in slow])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(shop.TOOLS), "COLUMNS": "100"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    for name, words in cli.COMMANDS.items():
        assert name in done.stdout
        assert words.split()[0] in done.stdout


@pytest.mark.parametrize(
    "name",
    ["init", "build", "release", "trust show", "trust next", "provision", "publish", "inspect", "home-assistant"],
)
def test_each_command_has_help_with_an_example(name):
    done = shop.run(*name.split(), "--help")
    assert done.code == 0
    assert "Example:" in done.out
    assert f"$ gatehouse {name}" in done.out
    assert "--json" in done.out


def test_no_arguments_and_wrong_ones():
    assert shop.run().code == 2
    shop.run("inti").refused(2, "No such command 'inti'", "gatehouse --help")
    shop.run("init").refused(2, "Missing argument 'DIR'", "gatehouse init --help")
    shop.run("release", "--version", "1.0.0", "--sequence", "x").refused(2, "--sequence", "gatehouse release --help")
    shop.run("build", "--fast").refused(2, "--fast")


def test_version_is_told():
    assert re.search(r"1\.\d+\.\d+", shop.run("--version").out)


# Errors.


def test_a_command_that_is_not_here_is_one_line(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "nothere", "For the test.")
    shop.run("nothere").refused(1, "'nothere' is not part of this installation")


def test_a_package_that_is_not_here_is_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named 'paho' for {name}", name="paho")

    monkeypatch.setattr(cli.importlib, "import_module", missing)
    shop.run("publish").refused(1, "needs the Python package paho", "pip install")


def test_refusals_carry_their_reason(command):
    def refuse():
        raise GatehouseError("the file\nis damaged: \x1b[31mred", "digest")

    command(refuse)
    done = shop.run("demo")
    done.refused(1, "the file is damaged", "[digest]")
    assert "\x1b" not in done.err
    done = shop.run("demo", "--json")
    assert done.json == {"ok": False, "error": "the file\nis damaged: \x1b[31mred", "reason": "digest"}
    assert len(done.out.splitlines()) == 1
    done.refused(1, "[digest]")


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (PermissionError(13, "Permission denied", "/etc/x"), "/etc/x: Permission denied"),
        (OSError(28, "No space left on device"), "No space left"),
        (KeyboardInterrupt(), "stopped"),
        (click.Abort(), "stopped"),
        (ZeroDivisionError("oops"), "internal error, ZeroDivisionError: oops; please report it; GATEHOUSE_DEBUG=1"),
    ],
)
def test_no_error_is_a_traceback(command, error, word):
    def fail():
        raise error

    command(fail)
    done = shop.run("demo")
    assert done.code == 1
    assert word in done.err and "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_debugging_shows_where(command):
    def fail():
        raise ZeroDivisionError

    command(fail)
    with pytest.raises(ZeroDivisionError):
        runner = shop.CliRunner()
        runner.invoke(cli.main, ["demo"], env={cli.DEBUG: "1"}, catch_exceptions=False)


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    item = shop.make(tmp_path / "shop")
    command = f"{sys.executable} -m gatehouse_tools build | head -c 1"
    environment = os.environ | {"PYTHONPATH": str(shop.TOOLS)}
    done = subprocess.run(
        ["sh", "-c", command], cwd=item.root, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""


def test_exit_codes_of_the_real_program(tmp_path):
    assert shop.start("init", "shop", cwd=tmp_path).code == 0
    shop.start("init", "shop", cwd=tmp_path).refused(1, "not an empty folder")
    shop.start("build", cwd=tmp_path).refused(2, "no product.toml", "gatehouse init")
    shop.start("build", "--product", "nowhere", cwd=tmp_path).refused(2, "nowhere is not a product folder")
    shop.start("build", cwd=tmp_path, GATEHOUSE_DEBUG="").refused(2)


# What goes where.


def test_results_on_stdout_talk_on_stderr(command):
    def talk():
        ui.say("working")
        ui.warn("careful")
        ui.show("result")
        ui.rows([("a", "1"), ("a", "2"), ("bcd", "3")])
        ui.result({"result": 1})

    command(talk)
    done = shop.run("demo")
    assert done.out == "result\na    1\n     2\nbcd  3\n"
    assert done.err == "working\nwarning: careful\n"
    done = shop.run("demo", "--json")
    assert done.json == {"result": 1}
    assert done.err == "working\nwarning: careful\n"


def test_a_pipe_gets_no_colours_and_no_wrapped_lines(command):
    command(lambda: ui.show("word " * 100, "bold red"))
    done = shop.run("demo", COLUMNS="40")
    assert done.out == "word " * 100 + "\n"


def test_colours_only_where_they_are_wanted(command, monkeypatch):
    command(lambda: ui.show("text", "bold red"))
    assert "\x1b[" in shop.run("demo", NO_COLOR="", FORCE_COLOR="1", TERM="xterm-256color").out
    plain = shop.run("demo", NO_COLOR="1", FORCE_COLOR="1", TERM="xterm-256color").out
    assert "31m" not in plain and "text" in plain


def test_control_characters_of_a_file_do_not_reach_the_terminal(command):
    def show():
        ui.show("a\x1b[2Jb\u202ec")
        ui.rows([("label", "x\x07y\nz")])

    command(show)
    assert shop.run("demo").out == "a\ufffd[2Jb\ufffdc\nlabel  x\ufffdy z\n"


def test_progress_gives_every_item(command):
    seen: list[int] = []
    command(lambda: seen.extend(ui.progress(range(3), "counting")))
    assert shop.run("demo").err == ""
    assert seen == [0, 1, 2]


def test_a_bar_of_bytes_tells_bytes_and_the_time_left(terminal):
    with ui.bar("writing", 3 << 20, in_bytes=True) as step:
        step(1 << 19)
    assert re.search(r"writing [^\r\n]* 0\.5/3\.0 MiB -:--:--", terminal())
    with ui.bar("fetching", 3 << 20, in_bytes=True) as step:
        step(3 << 20)
    assert re.search(r"fetching [^\r\n]* 3\.0/3\.0 MiB 0:00:00", terminal())
    with ui.bar("fetching", None, in_bytes=True) as step:  # a server need not say how much comes
        step(2048)
    assert re.search(r"fetching [^\r\n]* 2\.0/\? KiB", terminal())
    with ui.bar("publishing", 3) as step:
        step()
    assert re.search(r"publishing [^\r\n]* 1/3 -:--:--", terminal())


def test_compiling_is_told_in_bytes(terminal, tmp_path):
    item = shop.make(tmp_path / "shop")
    assert shop.run("build", "--product", item.root).code == 0
    whole = shop.run("build", "--product", item.root, "--json").json["source_size"]
    assert f"{whole / 1024:,.1f}/{whole / 1024:,.1f} KiB 0:00:00" in terminal()


# init.

H5 = ("--lms", "H5/W4")  # quick to make


def test_init_tells_what_it_made_and_what_to_keep(tmp_path):
    done = shop.run("init", tmp_path / "Door Sensor", "--domain", "example.com")
    assert (done.code, done.err) == (0, "")
    for word in ("Product door-sensor", "SECRET signs releases", "Back up keys/ and ca/", "valid until 20", "Next:"):
        assert word in done.out
    item = product.Product(tmp_path / "Door Sensor")
    assert str(item.vendor_id) in done.out and str(item.class_id(item.board())) in done.out
    assert "PRIVATE" not in done.out
    assert f"Next: cd '{item.root}' && " in done.out  # as a shell takes it, with the space
    assert item.data["product"]["security_contact"] == "security@example.com"
    assert {"support_from", "support_until", "hardware"} <= set(item.data["product"])


def test_init_for_programs(tmp_path):
    done = shop.run("init", tmp_path / "shop", "--name", "valve", "--broker-host", "broker.example.com", *H5, "--json")
    facts = done.json
    assert facts["ok"] and facts["name"] == "valve"
    assert facts["keys"].keys() == {"root", "release", "operator"}
    assert len(set(facts["keys"].values())) == 3
    item = product.Product(tmp_path / "shop")
    assert facts["keys"]["root"] == item.signer("root").kid.hex()
    assert b"broker.example.com" in subprocess.check_output(
        ["openssl", "x509", "-in", item.ca / "broker.pem", "-noout", "-ext", "subjectAltName"]
    )
    for path in facts["files"]:
        assert os.path.exists(path)
        if path.endswith("-key.pem") or "/keys/" in path:
            assert stat.S_IMODE(os.stat(path).st_mode) == (0o644 if path.endswith(".pub") else 0o600)
    assert json.loads(shop.run("init", tmp_path / "other", *H5, "--json").out)["keys"] != facts["keys"]


BAD_INIT = {
    "a file": (["{tmp}/file"], 1, "not an empty folder"),
    "below a file": (["{tmp}/file/shop"], 1, "choose a place that can be written"),
    "not empty": (["{tmp}"], 1, "never made over something"),
    "name": (["{tmp}/x", "--name", "Big Shop"], 2, "product name 'Big Shop'"),
    "no name in the folder's": (["{tmp}/---"], 2, "give --name"),
    "domain": (["{tmp}/x", "--domain", "localhost"], 2, "vendor domain 'localhost'"),
    "board": (["{tmp}/x", "--board", "esp99"], 2, "there is no board 'esp99'"),
    "board with a path": (["{tmp}/x", "--board", "../unix"], 2, "there is no board"),
    "proc": (["/proc/shop"], 1, "/proc/shop"),
}


@pytest.mark.parametrize("name", BAD_INIT)
def test_init_refuses_politely(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    arguments, code, word = BAD_INIT[name]
    shop.run("init", *[one.format(tmp=tmp_path) for one in arguments]).refused(code, word)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"
