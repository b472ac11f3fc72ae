"""The simulated board's UART: a terminal that the real mpremote opens, Ctrl-C and the REPL as on a chip."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import serial
from test_sim_board import WAIT, at_prompt, kinds, make_image

from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.sim import Board, BoardStopped

LOCKED = "import micropython\nmicropython.kbd_intr(-1)\n"
READER = """
    import micropython, select, sys
    micropython.kbd_intr(-1)
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    print("ready")
    got = bytearray(1)
    line = b""
    turns = 0
    while True:
        turns += 1
        for _ in poll.ipoll(0):
            sys.stdin.buffer.readinto(got)
            line += got
            if got == b"\\n":
                print("got", line, turns > 1)
                line = b""
    """


@pytest.fixture
def bench(tmp_path):
    """bench(main, boot) is a board with a terminal that has power; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def make(main, boot=None, *, power=True, terminal=True, **more):
            image = make_image(tmp_path / "flash.bin", main, boot)
            board = stack.enter_context(Board(image, log=tmp_path / "uart.log", terminal=terminal, **more))
            if power:
                board.power_on()
            return board

        yield make


def mpremote(board, *arguments, timeout=30):
    """The real mpremote at the board's terminal: (exit code, what it printed)."""
    program = Path(sys.executable).with_name("mpremote")
    done = subprocess.run(
        [program, "connect", board.terminal, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    return done.returncode, done.stdout + done.stderr


def no_repl_for_mpremote(board, *arguments, seconds=3):
    """The real mpremote gets no REPL: it gives up, or waits for an answer until it is ended. Its transcript."""
    try:
        code, told = mpremote(board, *arguments, timeout=seconds)
    except subprocess.TimeoutExpired as waited:  # on a pseudo-terminal it waits for ever
        return (waited.stdout or b"").decode() + (waited.stderr or b"").decode()
    assert code != 0 and "could not enter raw repl" in told
    return told


def test_bytes_reach_the_program_which_does_not_wait_for_them(bench):
    board = bench(READER)
    board.wait_line("ready", WAIT)
    time.sleep(0.05)
    board.type(b"all bytes \x00\x01\x03\x04\x1a\x1c\x7f\xc3\xff\r\n")
    line = board.wait_line("got", WAIT)
    assert line == r"got b'all bytes \x00\x01\x03\x04\x1a\x1c\x7f\xc3\xff\r\n' True"


def test_the_terminal_shows_what_is_printed_and_takes_what_is_typed(bench):
    board = bench(READER)
    board.wait_line("ready", WAIT)
    terminal = os.open(board.terminal, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(terminal, b"hello\n")
        board.wait_line("hello", WAIT)
        seen = b""
        while b"hello" not in seen or not seen.endswith(b"\n"):
            seen += os.read(terminal, 4096)
    finally:
        os.close(terminal)
    assert b"ready\r\n" in seen and b"hello\\n' True\r\n" in seen


def test_what_nobody_reads_does_not_stop_the_board(bench):
    board = bench("for number in range(3000):\n    print('x' * 100, number)")
    board.wait_line("x 2999", WAIT)


def test_what_finds_the_buffer_full_is_lost(bench):
    board = bench("""
        import micropython, sys, time
        micropython.kbd_intr(-1)
        print("ready")
        time.sleep_ms(2000)
        got = b""
        while not got.endswith(b"!"):
            got += sys.stdin.buffer.read(1)
            if len(got) == 260:
                print("full")
        print("got", len(got))
        """)
    board.wait_line("ready", WAIT)
    board.type(b"x" * 1000)
    board.wait_line("full", WAIT)
    board.type(b"!")
    assert board.wait_line("got", WAIT) == "got 261"


def test_what_comes_while_it_has_no_power_is_lost(bench):
    board = bench(READER, power=False)
    board.type(b"early\n")
    time.sleep(0.1)
    board.power_on()
    board.wait_line("ready", WAIT)
    board.type(b"late\n")
    assert board.wait_line("got", WAIT).startswith(r"got b'late\n'")


def test_a_board_without_terminal_has_none(bench):
    board = bench("", terminal=False)
    assert board.terminal == ""
    with pytest.raises(GatehouseError, match="without terminal"):
        board.type(b"x")


# The REPL of a stock build.


def test_the_end_of_main_opens_the_repl(bench):
    board = bench("value = 41")
    board.wait(at_prompt, WAIT)
    board.type(b"print('it is', value + 1)\r")
    board.wait_line("it is 42", WAIT)
    assert board.failure == ""


def test_an_exception_in_boot_opens_the_repl_and_skips_main(bench):
    board = bench("print('main')", "1 / 0")
    board.wait(at_prompt, WAIT)
    board.type(b"print('here')\r")
    board.wait(lambda board: "here" in board.lines, WAIT)
    assert "ZeroDivisionError: divide by zero" in board.lines and "main" not in board.lines


def hold(board, byte, predicate):
    """Hold a key down, as a terminal repeats it."""
    deadline = time.monotonic() + WAIT
    while not predicate(board):
        assert time.monotonic() < deadline, list(board.lines)
        board.type(byte)
        time.sleep(0.005)


def test_ctrl_c_held_during_boot_opens_the_repl_of_a_stock_build(bench):
    """The window of a stock build: boot.py can be interrupted until it says otherwise."""
    board = bench(LOCKED + "print('main')\nwhile True: pass", "import time\ntime.sleep(5)\n" + LOCKED, power=False)
    board.power_on()
    hold(board, b"\x03", at_prompt)
    assert "KeyboardInterrupt: " in board.lines and "main" not in board.lines
    assert mpremote(board, "resume", "eval", "6 * 7") == (0, "42\n")


def test_ctrl_c_interrupts_what_comes_before_kbd_intr_in_main(bench):
    board = bench("import time\ntime.sleep(5)\n" + LOCKED, LOCKED)
    hold(board, b"\x03", at_prompt)
    assert "KeyboardInterrupt: " in board.lines


WEATHER = """
        while True:
            try:
                print("storm")
                storm()
                micropython.kbd_intr(-1)
                for _ in range(100):  # one that was on its way comes here
                    pass
                break
            except KeyboardInterrupt:
                pass
"""


def test_ctrl_c_does_not_tear_the_device_from_its_supervisor(bench):
    """Interrupts that come while the device calls what a chip has in C are raised afterwards, and no answer is lost."""
    board = bench(
        """
        import esp32, micropython
        count = 0

        def storm():
            global count
            while count < 5:
                try:
                    while True:
                        esp32.NVS("g").set_i32("n", 5)
                except KeyboardInterrupt:
                    count += 1
        """
        + WEATHER
        + """
        print("whole", esp32.NVS("h").set_i32("n", 7), esp32.NVS("h").get_i32("n"))
        """
    )
    board.wait_line("storm", WAIT)
    hold(board, b"\x03", at_prompt)
    assert "whole None 7" in board.lines


def test_ctrl_c_does_not_tear_the_file_system(bench):
    """LittleFS notes what its cache holds before it asks for it: an interrupt in between left it with other bytes."""
    board = bench(
        """
        import micropython, time

        names = ["one", "two", "three", "four"]
        for name in names:
            with open(name, "w") as file:
                file.write(name * 300)
        count = 0

        def storm():
            global count
            while count < 20:
                try:
                    while True:
                        for name in names * 20:
                            with open(name) as file:
                                assert file.read() == name * 300, name
                        time.sleep_ms(1)  # outside of the file system, where it can be raised
                except KeyboardInterrupt:
                    count += 1
        """
        + WEATHER
        + """
        print("whole")
        """
    )
    board.wait_line("storm", WAIT)
    hold(board, b"\x03", at_prompt)
    assert "whole" in board.lines, list(board.lines)


@pytest.mark.parametrize("attempt", range(4))
def test_ctrl_c_does_not_tear_the_collector(bench, attempt):
    """A program that makes garbage is often inside of it; a signal there left the heap locked for good."""
    board = bench("print('go')\nkeep = [[n] for n in range(900)]\nwhile True:\n    bytearray(300)")
    board.wait_line("go", WAIT)
    board.type(b"\x03")
    board.wait(at_prompt, WAIT)
    board.type(b"print('on' + 'ward')\r")
    board.wait(lambda board: "onward" in board.lines, WAIT)


def test_each_ctrl_c_is_raised_where_the_file_system_is_in_the_way(bench):
    board = bench("""
        import os, select, sys
        open("x", "w").close()
        poll = select.poll()
        poll.register(sys.stdin, select.POLLIN)
        count = 0
        print("count", count)
        while True:
            try:
                while True:
                    for _ in poll.ipoll(1):
                        pass
                    os.stat("x")
            except KeyboardInterrupt:
                count += 1
                print("count", count)
        """)
    for count in range(10):
        board.wait(lambda board, count=count: f"count {count}" in board.lines, WAIT)
        time.sleep(0.11)  # one that comes sooner is the same key, held
        board.type(b"\x03")
    board.wait_line("count 10", WAIT)


def test_ctrl_c_of_the_last_moment_of_boot_is_not_lost(bench):
    board = bench("print('main')", "import sys\nprint('go')\nsys.stdin.read(1)")
    board.wait_line("go", WAIT)
    board._bench.put(10, 1)  # the device is asked to raise it, and calls nothing that would before its boot.py ends
    board.type(b"x")
    board.wait(at_prompt, WAIT)
    assert "KeyboardInterrupt: " in board.lines and "main" not in board.lines


def test_what_is_typed_after_a_ctrl_c_that_came_too_late_is_whole(bench):
    """It was for a program that has ended meanwhile: nothing of what comes behind it is taken for it."""
    board = bench("")
    board.wait(at_prompt, WAIT)
    board._asked = 0  # as a program leaves it that ends before it has raised what it was asked to
    board._at_prompt()
    board._reads = True  # its greeting came long ago
    board.type(b"print('on' + 'ward')\r")
    board.wait(lambda board: "onward" in board.lines, WAIT)


COMPUTES_AND_WRITES = """
    print('go')
    while True:
        for _ in range(3000): pass
        with open('log', 'w') as file: file.write('x')
    """


def signal_in_the_file_system(board):
    board._bench.put(9, 1)  # as the supervisor does while it decides: the device waits for it
    while not board._bench.get(8):
        time.sleep(0.001)
    board._process.interrupt()
    board._bench.put(9, 0)


def test_signal_in_the_middle_of_the_file_system_is_raised_behind_it(bench):
    board = bench("""
        import os, time
        with open("x", "w") as file:
            file.write("one line of it\\n" * 400)
        count, good = 0, 0
        print("go")
        while not count or good < 20:
            try:
                outside = False
                for _ in range(20):
                    with open("x") as file:
                        good += file.read() == "one line of it\\n" * 400 or -1000
                outside = True
                time.sleep_ms(1)
            except KeyboardInterrupt:
                count += 1 if outside else 1000
        print("whole" if count == 1 else count)
        """)
    board.wait_line("go", WAIT)
    signal_in_the_file_system(board)
    board.wait(at_prompt, WAIT)
    assert "whole" in board.lines


def test_signal_in_the_middle_of_the_file_system_is_not_lost(bench):
    """Here nothing is called outside of it that would raise what the device was asked to: the signal comes again."""
    board = bench(COMPUTES_AND_WRITES)
    board.wait_line("go", WAIT)
    signal_in_the_file_system(board)
    board.wait(at_prompt, WAIT)


def test_signal_at_the_last_step_of_the_file_system_is_raised_behind_it(bench):
    board = bench("""
        import time
        with open("x", "w") as file:
            file.write("one line of it\\n" * 400)
        host, count, late = time.host, 0, False
        release = host.release

        def interrupted(wanted=False):
            global late
            release(wanted)
            if not wanted and not late:  # LittleFS called
                late = True
                raise KeyboardInterrupt  # where MicroPython does, when the signal comes after the number is written

        host.release = interrupted
        for _ in range(20):
            try:
                outside = False
                with open("x") as file:
                    file.read()
                outside = True
                time.sleep_ms(1)
            except KeyboardInterrupt:
                count += outside
        print("whole" if late and count == 1 else (late, count))
        """)
    board.wait(at_prompt, WAIT)
    assert "whole" in board.lines, list(board.lines)


@pytest.mark.parametrize(
    "main",
    [
        "import sys\nprint('go')\nsys.stdin.read(1)",
        "import socket\nsock = socket.socket()\nsock.bind(('0.0.0.0', 0))\nsock.listen(1)\nprint('go')\nsock.accept()",
        COMPUTES_AND_WRITES,
    ],
    ids=["reads", "accepts", "computes and writes"],
)
def test_whatever_a_program_does_it_is_interrupted(bench, main):
    board = bench(main)
    board.wait_line("go", WAIT)
    time.sleep(0.1)
    board.type(b"\x03")
    board.wait(at_prompt, WAIT)
    board.type(b"print('on' + 'ward')\r")
    board.wait(lambda board: "onward" in board.lines, WAIT)


class Waits:
    """A process that waits for something, and counts the signals that it gets."""

    signals = 0

    def effort(self):
        return True, 0

    def interrupt(self):
        self.signals += 1


def test_no_signal_in_the_middle_of_a_call(bench):
    """A device that waits for an answer is in the middle of what a chip has in C; one that sleeps is not."""
    board = bench("", power=False)
    process = Waits()
    board._bench.put(8, 1)  # a call, as shims/host.py says
    assert [board._interrupt(process) for _ in range(3)] == [False] * 3 and process.signals == 0
    board._bench.put(8, 0)
    assert board._interrupt(process) and process.signals == 1


def test_ctrl_c_is_a_byte_once_kbd_intr_has_spoken(bench):
    board = bench(READER)
    board.wait_line("ready", WAIT)
    board.type(b"\x03\x03\x03\n")
    assert board.wait_line("got", WAIT).startswith(r"got b'\x03\x03\x03\n'")
    assert not at_prompt(board)


def test_the_repl_runs_and_is_interrupted(bench):
    board = bench("")
    board.wait(at_prompt, WAIT)
    board.type(b"for n in range(1 << 40): x = n or print('run' + 'ning')\r\r")
    board.wait(lambda board: "running" in board.lines, WAIT)
    board.type(b"\x03")
    board.wait(lambda board: "KeyboardInterrupt: " in board.lines, WAIT)
    board.type(b"print('on')\r")
    board.wait(lambda board: "on" in board.lines, WAIT)


def test_ctrl_d_at_the_prompt_is_a_soft_reset(bench):
    board = bench("import machine\nprint('cause', machine.reset_cause())")
    board.wait(at_prompt, WAIT)
    board.type(b"\x04")
    board.wait(lambda board: kinds(board).count("repl") == 2, WAIT)
    assert [line for line in board.lines if line.startswith(("cause", "MPY"))] == [
        "cause 1",
        "MPY: soft reboot",
        "cause 5",
    ]


def test_an_end_by_a_signal_is_no_soft_reset(bench):
    board = bench("")
    board.wait(at_prompt, WAIT)
    os.kill(board.pid, signal.SIGSEGV)
    with pytest.raises(BoardStopped, match="status -11"):
        board.wait(lambda board: kinds(board).count("repl") == 2, WAIT)


def test_what_the_device_reads_from_is_nobody_elses_port(bench):
    """Its number may have been that of a port which a program has lost, and opens again by its name."""
    board = bench("")
    board.wait(at_prompt, WAIT)
    with pytest.raises(serial.SerialException, match="exclusively lock"):
        serial.Serial(os.ttyname(board._process._keys), exclusive=True)
    serial.Serial(board.terminal, exclusive=True).close()


def test_a_reset_at_the_prompt_boots(bench):
    board = bench(
        "import machine\nprint('cause', machine.reset_cause())\n"
        "if machine.reset_cause() == 2:\n    micropython.kbd_intr(-1)\n    while True: pass",
        "import micropython",
    )
    board.wait(at_prompt, WAIT)
    assert mpremote(board, "resume", "exec", "--no-follow", "machine.reset()")[0] == 0
    board.wait_line("cause 2", WAIT)


def test_mpremote_works_at_an_open_repl(bench, tmp_path):
    board = bench(LOCKED + "value = 5", "print('boot')")
    board.wait(at_prompt, WAIT)
    assert mpremote(board, "resume", "eval", "value")[1] == "5\n"
    (tmp_path / "file.txt").write_text("from the host\n" * 100)
    assert mpremote(board, "resume", "cp", str(tmp_path / "file.txt"), ":copy.txt")[0] == 0
    assert mpremote(board, "resume", "cat", ":copy.txt")[1].count("from the host") == 100
    before = kinds(board).count("boot")
    code, told = mpremote(board, "exec", "print('value' in globals())")  # with its soft reset
    assert (code, told) == (0, "False\n"), "the raw REPL stays open over a soft reset, and main.py does not run"
    assert kinds(board).count("boot") == before + 1


def heard(board, turn):
    """What READER printed in its turn 1, 2, ...; "" before that."""
    return next(iter([line for line in board.lines if line.startswith("got")][turn - 1 :]), "")


def test_mpremote_is_refused_by_a_program_that_runs(bench):
    board = bench(READER)
    board.wait_line("ready", WAIT)
    nothing, got = r"got b'\n' True", ""
    for turn, seconds in enumerate((3, 12, 48), 1):  # until it has tried: how long it takes to start is the machine's
        assert "42" not in no_repl_for_mpremote(board, "resume", "eval", "6 * 7", seconds=seconds)
        board.type(b"\n")
        got = board.wait(partial(heard, turn=turn), WAIT)
        if got != nothing:
            break
    assert got.startswith(r"got b'\r\x03\r\x01\n'"), "it has tried, and the program runs"
    assert not at_prompt(board)


# The production build.


def test_a_production_build_hears_no_ctrl_c(bench):
    """The twin of the window of a stock build."""
    board = bench(
        "print('main')\nimport time\nwhile True: time.sleep_ms(5)", "import time\ntime.sleep_ms(300)", production=True
    )
    hold(board, b"\x03", lambda board: "main" in board.lines)
    for _ in range(40):
        board.type(b"\x03\x04\x01")
        time.sleep(0.005)
    assert kinds(board) == ["power-on", "boot"]


@pytest.mark.parametrize("end", ["", "1 / 0", "import micropython\nmicropython.kbd_intr(3)\n"])
def test_a_production_build_resets_where_another_opens_the_repl(bench, end):
    board = bench(
        f"import machine\nif machine.reset_cause() == 2:\n    print('again')\n    while True: pass\n{end}",
        production=True,
    )
    board.wait_line("again", WAIT)
    assert kinds(board) == ["power-on", "boot", "reset", "boot"]


def test_a_production_build_without_terminal_resets_too(bench):
    board = bench("import machine\nmachine.reset_cause() == 2 and print('again')", production=True, terminal=False)
    board.wait_line("again", WAIT)
    assert not at_prompt(board)


def test_nothing_of_a_terminal_is_left(bench):
    before = set(os.listdir("/proc/self/fd"))
    board = bench(READER)
    board.wait_line("ready", WAIT)
    board.close()
    assert set(os.listdir("/proc/self/fd")) == before
