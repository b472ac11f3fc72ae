"""The house network, and the command that runs simulated devices in it."""

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import types
import urllib.request
from typing import cast

import pytest
import shop

from gatehouse_tools import house, product
from gatehouse_tools.broker import free_port
from gatehouse_tools.commands import sim as sim_command
from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.sim import runtime

WAIT = 60


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    """A product with a release and a device of the small application."""
    found = shop.make(tmp_path_factory.mktemp("shop") / "shop")
    shop.release(found, "1.0.0")
    assert shop.run("provision", "--id", "gh-1", "--product", found.root).code == 0
    return found


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_house_has_broker_packs_and_time_and_leaves_nothing(item):
    requests = queue.Queue()
    with house.House(item, on_request=requests.put) as running:
        ports = [running.broker.port, int(running.url.rsplit(":", 1)[1].strip("/"))]
        assert running.broker_address == f"localhost:{ports[0]}"
        assert all(listens(port) for port in ports)
        with urllib.request.urlopen(running.url + "shop-1.0.0.pack") as answer:
            assert answer.read() == (item.dist / "shop-1.0.0.pack").read_bytes()
        assert requests.get(timeout=WAIT).status == 200
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sntp:
            sntp.settimeout(WAIT)
            sntp.sendto(b"\x23" + bytes(47), ("127.0.0.1", int(running.ntp_address.rsplit(":", 1)[1])))
            assert len(sntp.recv(64)) == 48
    assert not any(listens(port) for port in ports)


def test_house_is_where_devices_reach_it_and_nowhere_else(item):
    with house.House(item, host="127.0.0.3") as running:
        found = [running.broker_address, running.url.removeprefix("http://").strip("/"), running.ntp_address]
        assert {one.rpartition(":")[0] for one in found} == {"127.0.0.3"}
        for one in found[:2]:
            port = int(one.rpartition(":")[2])
            socket.create_connection(("127.0.0.3", port), WAIT).close()
            assert not listens(port)


def test_house_that_cannot_start_stops_what_it_had_started(item):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = free_port()
        with (
            pytest.raises(GatehouseError, match="cannot listen"),
            house.House(item, broker_port=port, server_port=taken.getsockname()[1]),
        ):
            pass
    assert not listens(port)


def test_signals_end_a_block_as_ctrl_c_does():
    before = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGHUP):
        with pytest.raises(KeyboardInterrupt), house.ended_by_signals():
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], WAIT)  # the handler runs before this returns
    assert signal.getsignal(signal.SIGTERM) == before


# gatehouse sim


def sim(item, *options, **settings):
    return subprocess.Popen(
        [sys.executable, "-m", "gatehouse_tools", "sim", "--product", str(item.root), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(shop.TOOLS), "NO_COLOR": "1"},
        **settings,
    )


def configured(item, **settings):
    """Write settings of [device] into product.toml."""
    path = item.root / "product.toml"
    lines = path.read_text().splitlines()
    for name, value in settings.items():
        lines = [line for line in lines if not line.startswith(f"{name} =")]
        lines.insert(lines.index(next(line for line in lines if line.startswith("[device]"))) + 1, f"{name} = {value}")
    path.write_text("\n".join(lines) + "\n")


def test_device_runs_in_its_house_until_it_is_told_to_end(item):
    broker, packs = free_port(), free_port()
    configured(item, port=broker, base_url=f'"http://localhost:{packs}/"')
    with sim(item, "--heap", "400wK", "--json", "gh-1") as process:
        seen = []
        for text in process.stdout:
            seen.append(json.loads(text))
            if seen[-1].get("text", "").startswith("closed"):  # what the small application prints
                break
        else:
            raise AssertionError((seen, process.stderr.read()))
        assert [entry["event"] for entry in seen if entry["event"] != "https"][:2] == ["power-on", "boot"]
        assert {entry["device"] for entry in seen} == {"gh-1"}
        assert listens(broker) and listens(packs)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0
        told = process.stderr.read()
        assert "Traceback" not in told and re.search(r"^gh-1: .*mpremote connect /dev/\S+ repl$", told, re.MULTILINE)
    assert not listens(broker) and not listens(packs)


@pytest.mark.parametrize("production", [False, True])
def test_board_is_the_build_that_its_settings_name(tmp_path, monkeypatch, production):
    """production of board.toml, and a terminal for each device."""
    root = tmp_path / "boards" / "unix"
    root.mkdir(parents=True)
    settings = (runtime.SOURCES / "board.toml").read_text()
    assert "production = false" in settings
    (root / "board.toml").write_text(settings.replace("production = false", f"production = {str(production).lower()}"))
    made = []

    class Stand:
        terminal = "/dev/pts/none"

        def __init__(self, image, **settings):
            made.append(settings)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def power_on(self):
            pass

        def set_clock(self, now):
            pass

    monkeypatch.setattr(sim_command, "Board", Stand)
    place = types.SimpleNamespace(root=tmp_path, devices=tmp_path / "devices")
    (place.devices / "gh-1").mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        sim_command._Console(stack, cast(product.Product, place), {"id": "gh-1", "board": "unix"}, "128wK")
    assert (made[0]["production"], made[0]["terminal"]) == (production, True)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["gh-9"], 1, "no device 'gh-9'"),
        (["--heap", "lots"], 2, "80wK"),
        (["--for", "0"], 2, "0"),
        (["--broker", "emqx"], 2, "emqx"),
    ],
)
def test_bad_input_is_one_clear_line(item, options, code, words):
    with sim(item, *options) as process:
        _, err = process.communicate(timeout=WAIT)
    assert process.returncode == code, err
    assert words in err and len(err.strip().splitlines()) == 1


def test_busy_port_is_one_clear_line(item):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        configured(item, port=port)
        with sim(item) as process:
            _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert f"port {port} is in use" in err and "Traceback" not in err


def test_broker_elsewhere_needs_no_house(item):
    configured(item, broker='"broker.example.com"')
    with sim(item) as process:
        _, err = process.communicate(timeout=WAIT)
    configured(item, broker='"localhost"')
    assert process.returncode == 2
    assert "--no-house" in err


def test_product_without_devices(tmp_path):
    with sim(shop.make(tmp_path / "empty")) as process:
        _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert "gatehouse provision" in err
