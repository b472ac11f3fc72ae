"""package.json: `mpremote mip install` puts the whole core on a board, and nothing else."""

import contextlib
import functools
import http.server
import json
import threading

import pytest
from test_sim_board import WAIT, make_image
from test_sim_uart import mpremote

from gatehouse_tools import core
from gatehouse_tools.sim import Board, uart

PACKAGE = core.source("package.json")


def modules():
    return sorted(path.name for path in core.source("lib", "gatehouse").glob("*.py"))


def test_it_names_every_file_of_the_core_and_no_other():
    told = json.loads(PACKAGE.read_text())
    assert told["version"] == core.version()
    assert told["urls"] == [[f"gatehouse/{name}", f"lib/gatehouse/{name}"] for name in modules()]
    assert all(PACKAGE.parent.joinpath(url).is_file() for _, url in told["urls"])  # relative to package.json
    assert set(told) == {"version", "urls"}  # umqtt.simple, its only need, is frozen into stock firmware


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def web():
    """The tree on loopback; its address."""
    handler = functools.partial(Quiet, directory=PACKAGE.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_mpremote_installs_it_on_a_board(tmp_path, web, monkeypatch):
    monkeypatch.setattr(uart, "_PER_STEP", 16 * uart._PER_STEP)  # a line of 2 Mbaud: a third of a megabyte goes over it
    image = make_image(tmp_path / "flash.bin", "print('ready')\n")
    with contextlib.ExitStack() as stack:
        board = stack.enter_context(Board(image, log=tmp_path / "uart.log", terminal=True))
        board.power_on()
        board.wait_line("ready", timeout=WAIT)
        code, told = mpremote(board, "mip", "install", "--target", "/lib", f"{web}/package.json", timeout=120)
        assert code == 0 and "Done" in told, told
        code, told = mpremote(board, "exec", "import os; print(sorted(os.listdir('/lib/gatehouse')))")
        assert code == 0 and told.strip() == str(modules()), told
        check = "import sys; sys.path.append('/lib'); from gatehouse import cbor; print(cbor.loads(cbor.dumps([1, 2])))"
        assert mpremote(board, "exec", check) == (0, "[1, 2]\n")
