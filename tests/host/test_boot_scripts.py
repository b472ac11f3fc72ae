"""boot.py and main.py themselves, on a stock build that listens: nothing that the core or an application does opens the
REPL, but for the service window that the core allows."""

import contextlib
import textwrap
import time

import pytest
from test_sim_board import WAIT, at_prompt, kinds, make_image
from test_sim_uart import mpremote, no_repl_for_mpremote

from gatehouse_tools import core
from gatehouse_tools.sim import Board

# A core that boots twice: the second time it only says so.
SLOTS = """
    import machine, micropython, sys, time
    def boot():
        if machine.reset_cause() == 1:
            {boot}
    def run():
        if machine.reset_cause() != 1:
            print("booted again")
            while True:
                time.sleep_ms(50)
        {run}
    def window():
        return {window}
    """
FULL = """kept = []
        while True:
            kept.append(bytearray(64))"""
UNPRINTABLE = """class Bad(Exception):
            def __str__(self):
                raise ValueError
        raise Bad()"""
WAYS = {
    "returns": "pass",
    "raises": "1 / 0",
    "exits": "sys.exit()",
    "soft reset by exit": "raise SystemExit",
    "interrupts itself": "raise KeyboardInterrupt",
    "raises what is no Exception": "raise BaseException",
    "raises what cannot be printed": UNPRINTABLE,
    "fills the heap": FULL,
    "takes Ctrl-C's switch away": "micropython.kbd_intr = None",
    "replaces machine": "sys.modules['machine'] = sys",
    "kills the interpreter's stack": "run()",
}


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(boot="pass", run="pass", window="False"):
            lib = {
                "/lib/gatehouse/__init__.py": b"",
                "/lib/gatehouse/memory.py": b"def settle(): pass",
                "/lib/gatehouse/slots.py": textwrap.dedent(SLOTS.format(boot=boot, run=run, window=window)).encode(),
            }
            main, first = (core.source(name).read_text() for name in ("main.py", "boot.py"))
            image = make_image(tmp_path / "flash.bin", main, first, files=lib)
            board = stack.enter_context(Board(image, log=tmp_path / "uart.log", terminal=True))
            board.power_on()
            return board

        yield make


@pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)
def test_whatever_the_application_does_a_reset_follows(start, run):
    board = start(run=run)
    board.wait_line("booted again", WAIT)
    assert kinds(board)[:4] == ["power-on", "boot", "reset", "boot"]


@pytest.mark.parametrize(
    "boot", ["1 / 0", "raise SystemExit", "raise KeyboardInterrupt", UNPRINTABLE.replace("\n", "\n    ")]
)
def test_whatever_the_core_does_in_boot_a_reset_follows(start, boot):
    board = start(boot=boot, run="print('main.py went on')")
    board.wait_line("booted again", WAIT)
    assert not at_prompt(board) and "main.py went on" not in board.lines


@pytest.mark.parametrize("answer", ["False", "None", "1", "'yes'", "1 / 0"])
def test_only_true_opens_the_window(start, answer):
    board = start(window=answer)
    board.wait_line("booted again", WAIT)
    assert not at_prompt(board)


def test_a_window_opens_the_repl(start):
    board = start(window="True")
    board.wait(at_prompt, WAIT)
    assert mpremote(board, "resume", "eval", "6 * 7") == (0, "42\n")


def test_an_application_that_fails_opens_no_window(start):
    board = start(run="1 / 0", window="True")
    board.wait_line("booted again", WAIT)
    assert not at_prompt(board)


def test_ctrl_c_does_nothing_while_the_application_runs(start):
    board = start(run="print('runs')\n        while True: time.sleep_ms(5)")
    board.wait_line("runs", WAIT)
    for _ in range(60):
        board.type(b"\x03\x03\x04\r\x01")
        time.sleep(0.005)
    assert "42" not in no_repl_for_mpremote(board, "resume", "eval", "6 * 7", seconds=1.5)
    assert kinds(board) == ["power-on", "boot"]


def test_an_application_that_hears_ctrl_c_is_reset_by_it(start):
    board = start(run="micropython.kbd_intr(3)\n        print('runs')\n        while True: pass")
    board.wait_line("runs", WAIT)
    board.type(b"\x03")  # once: another might meet the window of the next boot
    board.wait_line("booted again", WAIT)
    assert not at_prompt(board)
