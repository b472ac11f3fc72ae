"""The simulated board: what its firmware sees, and what a bench can do to it."""

import ast
import contextlib
import fcntl
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.image import flash, littlefs, nvs, partitions
from gatehouse_tools.sim import Board, BoardStopped, Event, runtime
from gatehouse_tools.sim.flash import Flash

FLASH = 4 << 20
WAIT = 60.0  # seconds; all of this takes milliseconds on a machine that is not busy
TABLE = partitions.load(runtime.SOURCES / "partitions.csv", FLASH)


def part(name):
    return partitions.find(TABLE, name)


def make_image(path, main, boot=None, files=None, values=None, table=TABLE):
    """A flash image whose main.py is `main`; `table` may leave out or rename partitions of boards/unix."""
    tree = {"/main.py": textwrap.dedent(main).encode(), **(files or {})}
    if boot is not None:
        tree["/boot.py"] = textwrap.dedent(boot).encode()
    contents = {
        "nvs": flash.nvs_image(values or {}, part("nvs").size),
        next(one.name for one in table if one.type == partitions.APP): flash.stand_in_app("first"),
        "vfs": littlefs.build(tree, [], part("vfs").size),
    }
    path.write_bytes(flash.compose(table, contents, FLASH))
    return path


@pytest.fixture
def bench(tmp_path):
    """bench(main, ...) is a board that has power; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def make(main, boot=None, *, name="flash.bin", power=True, files=None, values=None, table=TABLE, **more):
            image = make_image(tmp_path / name, main, boot, files, values, table)
            board = stack.enter_context(Board(image, log=tmp_path / "uart.log", **more))
            if power:
                board.power_on()
            return board

        yield make


def kinds(board):
    return [event.kind for event in board.events]


def at_prompt(board):
    return "repl" in kinds(board)


def finished(board):
    """The lines of a run whose main.py came to its end."""
    board.wait(at_prompt, WAIT)
    return list(board.lines)


# Start.


def test_boot_and_main_share_a_namespace(bench):
    board = bench("print(__name__, told)", "told = 7\nprint('first')")
    assert finished(board) == ["first", "__main__ 7"]
    assert kinds(board) == ["power-on", "boot", "repl"]


def test_without_scripts_it_is_at_the_prompt(bench):
    board = bench("", files={"/other.py": b""})
    assert finished(board) == []


def test_an_exception_in_boot_skips_main(bench):
    lines = finished(bench("print('main')", "1 / 0"))
    assert lines[-1] == "ZeroDivisionError: divide by zero" and "main" not in lines
    assert '  File "boot.py", line 1, in <module>' in lines


def test_the_prompt_is_told_and_waiting_ends_at_once(bench):
    board = bench("raise OSError(5)")
    with pytest.raises(BoardStopped, match="ended; a chip would be at its prompt") as caught:
        board.wait_line("never", WAIT)
    assert "EIO" in str(caught.value), "the last lines are shown"
    assert board.running


def test_paths_and_arguments_are_as_on_the_chip(bench):
    assert finished(bench("import sys, os\nprint(sys.path, sys.argv, os.getcwd(), os.listdir())")) == [
        "['', '.frozen', '/lib'] [] / ['main.py']"
    ]


def test_modules_are_imported_from_lib(bench):
    board = bench("import thing\nprint(thing.__file__, thing.X)", files={"/lib/thing.py": b"X = 1"})
    assert finished(board) == ["/lib/thing.py 1"]


def test_the_layout_is_the_image_s_own(tmp_path):
    """The same partitions at other places."""
    table = partitions.parse_csv(
        "vfs,data,fat,0x10000,0x60000\notadata,data,ota,,0x2000\nnvs,data,nvs,,0x3000\nota_0,app,ota_0,,0x80000\n"
        "ota_1,app,ota_1,,0x80000\n",
        2 << 20,
    )
    contents = {
        "vfs": littlefs.build({"/main.py": b"import esp32\nprint(esp32.NVS('g').get_i32('n'))"}, [], 0x60000),
        "nvs": flash.nvs_image({}, 0x3000),
    }
    image = tmp_path / "flash.bin"
    image.write_bytes(flash.compose(table, contents, 2 << 20))
    with Board(image) as board:
        board.power_on()
        assert finished(board)[-1] == "OSError: (-4354, 'ESP_ERR_NVS_NOT_FOUND')"
        assert board.operations == 2, "the namespace; none for otadata, because there is no image"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda image: image.unlink(), "No such file"),
        (lambda image: image.write_bytes(b"\xff" * FLASH), "not a table"),
        (lambda image: image.write_bytes(b""), "not a table"),
    ],
)
def test_a_bad_image_is_one_clear_error(tmp_path, damage, message):
    image = make_image(tmp_path / "flash.bin", "")
    damage(image)
    with Board(image) as board:
        with pytest.raises(GatehouseError, match=message):
            board.power_on()
        assert not board.running


def test_an_unreadable_file_system_is_told(tmp_path):
    image = make_image(tmp_path / "flash.bin", "")
    data = bytearray(image.read_bytes())
    data[part("vfs").offset : part("vfs").offset + 8192] = bytes(8192)
    image.write_bytes(data)
    with Board(image) as board:
        board.power_on()
        assert finished(board) == ["The filesystem appears to be corrupted."]


# Out of reach.


def test_the_host_is_out_of_reach(bench):
    lines = finished(
        bench("""
            def attempt(name, action):
                try:
                    print(name, "reached", action())
                except (OSError, AttributeError, ImportError) as error:
                    print(name, type(error).__name__)

            import os, sys, vfs, uos
            attempt("passwd", lambda: open("/etc/passwd"))
            attempt("relative", lambda: open("../../etc/passwd"))
            attempt("stat", lambda: os.stat("/etc"))
            attempt("chdir", lambda: os.chdir("/etc"))
            attempt("system", lambda: os.system("true"))
            attempt("uos", lambda: uos.system("true"))
            attempt("getenv", lambda: os.getenv("PATH"))
            attempt("posix", lambda: vfs.VfsPosix)
            attempt("posix in os", lambda: os.VfsPosix)
            attempt("mount", lambda: vfs.mount(vfs.VfsPosix("/"), "/host"))
            attempt("start", lambda: __import__("start"))
            attempt("shims", lambda: __import__("shims.host"))
            attempt("host code", lambda: __import__("board"))
            attempt("unix socket", lambda: __import__("socket").socket(1))
            attempt("rom", lambda: os.stat("/rom"))
            attempt("private", lambda: __import__("network")._bench)
            attempt("deeper", lambda: __import__("network").WLAN._network)
            print(sorted(name for name in sys.modules))
            """)
    )
    assert [line for line in lines if "reached" in line] == []
    assert len(lines) == 18
    known = "esp32 machine micropython network os select socket time umachine umqtt umqtt.simple uos uselect usocket "
    known += "ussl utime vfs"
    assert set(ast.literal_eval(lines[-1])) <= set(known.split())


def test_os_and_vfs_have_the_names_of_the_chip(bench):
    lines = finished(
        bench("""
            import os, vfs
            names = "chdir getcwd ilistdir listdir mkdir mount remove rename rmdir stat statvfs sync umount uname "
            names += "urandom dupterm VfsFat VfsLfs2"
            print([name for name in names.split() if not hasattr(os, name)])
            print([name for name in ("mount", "umount", "VfsFat", "VfsLfs2") if not hasattr(vfs, name)])
            print(os.sync(), os.dupterm(None), os.uname()[0], len(os.urandom(5)), os.statvfs("/")[:3])
            """)
    )
    assert lines == ["[]", "[]", "None None esp32 5 (4096, 4096, 240)"]


def test_unknown_names_are_attribute_errors(bench):
    lines = finished(
        bench("""
            import machine, network, esp32
            for thing in (machine, network, esp32, network.WLAN(0), esp32.NVS("a")):
                print(hasattr(thing, "nothing"), hasattr(thing, "_bench"))
            from network import WLAN, STA_IF
            print(WLAN(STA_IF).active(), WLAN.IF_AP)
            try:
                WLAN(0).active(1, 2)
            except TypeError:
                print("TypeError")
            """)
    )
    assert lines == ["False False"] * 5 + ["False 1", "TypeError"]


def test_umqtt_is_there_without_a_file(bench):
    if not (runtime.UMQTT / "umqtt" / "simple.py").is_file():
        pytest.skip("umqtt.simple is not fetched yet: make test does it")
    lines = finished(
        bench("from umqtt.simple import MQTTClient\nimport ussl\nprint(MQTTClient.__name__, ussl.wrap_socket)")
    )
    assert lines[0].startswith("MQTTClient <function")


# Reset and watchdog.


def test_reset_boots_again_with_its_cause(bench):
    board = bench("import machine\nprint(machine.reset_cause())\nmachine.reset_cause() == 1 and machine.reset()")
    assert finished(board) == ["1", "2"]
    assert kinds(board) == ["power-on", "boot", "reset", "boot", "repl"] and board.boots == 2


def test_leaving_main_by_exit_is_a_soft_reset(bench):
    board = bench("import machine, sys\nprint(machine.reset_cause())\nmachine.reset_cause() == 1 and sys.exit()")
    assert finished(board) == ["1", "5"]


def test_no_handler_stops_a_reset(bench):
    board = bench("""
        import machine
        def reset():
            try:
                machine.reset()
            except BaseException:
                print("caught")
            finally:
                print("went on")
        if machine.reset_cause() == 1:
            reset()
        print("booted")
        """)
    assert finished(board) == ["booted"]


def test_reset_works_when_the_heap_is_full(bench):
    board = bench("""
        import machine
        if machine.reset_cause() == 1:
            kept = []
            try:
                while True:
                    kept.append(bytearray(1000))
            except MemoryError:
                try:
                    while True:
                        kept = [kept]
                except MemoryError:
                    machine.reset()
        print("booted")
        """)
    assert finished(board) == ["booted"]


def test_an_unfed_watchdog_bites(bench):
    board = bench("""
        import machine
        print(machine.reset_cause())
        if machine.reset_cause() == 1:
            machine.WDT(timeout=100)
            while True:
                pass
        """)
    assert finished(board) == ["1", "3"]
    assert kinds(board) == ["power-on", "boot", "wdt", "wdt-reset", "boot", "repl"]


def test_a_fed_watchdog_does_not(bench):
    board = bench("""
        import machine, time
        watchdog = machine.WDT(timeout=1000)
        start = time.ticks_ms()
        while time.ticks_diff(time.ticks_ms(), start) < 1500:
            watchdog.feed()
        print("lives")
        """)
    board.wait_line("lives", WAIT)
    assert "wdt-reset" not in kinds(board)


def test_the_watchdog_bites_at_the_prompt_and_after_a_soft_reset(bench):
    board = bench("""
        import machine, sys
        print(machine.reset_cause())
        if machine.reset_cause() == 1:
            machine.WDT(timeout=300)
            sys.exit()
        """)
    board.wait(lambda board: "wdt-reset" in kinds(board), WAIT)
    assert kinds(board)[:6] == ["power-on", "boot", "wdt", "soft-reset", "boot", "repl"]
    board.wait(lambda board: list(board.lines) == ["1", "5", "3"], WAIT)


@pytest.mark.parametrize("arguments", ["timeout=0", "timeout=-1", "1"])
def test_a_watchdog_cannot_be_disarmed(bench, arguments):
    board = bench(f"import machine\ntry:\n    machine.WDT({arguments})\nexcept ValueError:\n    print('no')")
    assert finished(board) == ["no"]


# Power.


def test_power_off_and_on(bench):
    board = bench("import machine\nprint(machine.reset_cause())\nwhile True: pass")
    board.wait_line("1", WAIT)
    with pytest.raises(GatehouseError, match="has power already"):
        board.power_on()
    board.power_off()
    assert not board.running
    board.power_off()
    board.lines.clear()
    board.power_on()
    board.wait_line("1", WAIT)


WRITER = """
    import os, esp32
    store = esp32.NVS("gatehouse")
    def kept():
        try:
            number = store.get_i32("number")
        except OSError:
            number = 0
        try:
            with open("text") as file:
                text = file.read()
        except OSError:
            text = ""
        return number, text
    number, text = kept()
    print("found", number, len(text), len(set(text)))
    store.set_i32("number", number + 1)
    with open("new", "w") as file:
        file.write(chr(97 + number % 26) * 700)
    os.rename("new", "text")
    print("done", *kept())
    """


def test_power_can_go_at_every_operation(bench, seed):
    """NVS, otadata and LittleFS in one run: after each cut the values are those before or those after."""
    board = bench(WRITER, power=False, seed=seed)
    before = 0
    cut = 0
    while True:
        cut += 1
        board.lines.clear()
        board.events.clear()
        board.power_on(cut_at=cut)
        board.wait(lambda board: not board.running or at_prompt(board), WAIT)
        if at_prompt(board):
            break
        assert board.events[-1] == ("cut", str(cut)) and board.operations == cut
        for line in board.lines:
            if line.startswith("found"):
                _, number, length, letters = line.split()
                assert int(number) in (before, before + 1) and length in ("0", "700") and letters in ("0", "1")
                before = int(number)
    assert cut > 10
    values = nvs.read_nvs(board.image.read_bytes()[part("nvs").offset : part("otadata").offset])
    assert int(values["gatehouse"]["number"]) > 3


def test_power_comes_back_by_itself_when_told(bench):
    board = bench(WRITER, power=False)
    board.auto_power = True
    board.power_on(cut_at=6)
    assert finished(board)[-1].startswith("done")
    assert kinds(board).count("cut") == 1 and board.boots == 2


def test_a_cut_can_be_set_while_it_runs(bench):
    board = bench("""
        print("ready")
        while True:
            with open("file", "w") as file:
                file.write("x" * 300)
        """)
    board.wait_line("ready", WAIT)
    board.cut_at(20)
    board.wait(lambda board: not board.running, WAIT)
    assert kinds(board)[-1] == "cut"


def test_an_erase_of_the_file_system_that_is_cut_is_done_half(bench, monkeypatch):
    half_erased: list[int] = []
    half_erase = Flash.half_erase

    def noted(self, address):
        half_erased.append(address)
        half_erase(self, address)

    monkeypatch.setattr(Flash, "half_erase", noted)
    board = bench(
        """
        for number in range(100):
            with open("file", "w") as file:
                file.write(chr(97 + number % 26) * 300)
        """,
        power=False,
    )
    for cut in range(3, 30):
        board.power_on(cut_at=cut)
        board.wait(lambda board: not board.running, WAIT)
        if half_erased:
            break
    vfs = part("vfs")
    address = half_erased[0]
    assert vfs.offset <= address < vfs.end and address % 4096 == 0
    data = board.image.read_bytes()
    assert b"\xff" * 2048 in (data[address : address + 2048], data[address + 2048 : address + 4096])


def test_a_program_that_sets_bits_ends_the_run(bench):
    board = bench("""
        from esp32 import Partition
        spare = Partition.find(Partition.TYPE_APP, label="ota_1")[0]
        spare.writeblocks(0, b"\\x0f", 0)
        spare.writeblocks(0, b"\\x0e", 0)
        print("cleared")
        spare.writeblocks(0, b"\\x1e", 0)
        print("went on")
        """)
    board.wait(lambda board: not board.running, WAIT)
    assert list(board.lines) == ["cleared"]
    assert board.events[-1] == ("fault", f"programmed a 0 back to 1 at 0x{part('ota_1').offset:x}")
    with pytest.raises(BoardStopped, match="programmed a 0 back to 1"):
        board.wait(lambda board: False, WAIT)


# Clock, sensor, pins.


def test_the_clock_starts_in_2000_and_outlives_a_reset_but_not_power(bench):
    board = bench("""
        import machine, time
        print(machine.reset_cause(), time.time() < 5, time.gmtime()[:3], time.localtime(0)[:6], time.gmtime(86400)[2])
        if machine.reset_cause() == 1:
            machine.RTC().datetime((2031, 3, 4, 0, 5, 6, 7, 0))
            print(machine.RTC().datetime()[:7])
            machine.reset()
        print("end")
        """)
    board.wait_line("end", WAIT)
    board.power_off()
    board.power_on()
    assert list(board.lines)[:4] == [
        "1 True (2000, 1, 1) (2000, 1, 1, 0, 0, 0) 2",
        "(2031, 3, 4, 1, 5, 6, 7)",
        "2 False (2031, 3, 4) (2000, 1, 1, 0, 0, 0) 2",
        "end",
    ]
    board.wait(lambda board: [line[:6] for line in board.lines].count("1 True") == 2, WAIT)


def test_the_bench_sets_the_clock(bench):
    board = bench("""
        import time, machine
        while time.time() < 100000:
            pass
        print(time.time() + 946684800 - 1800000000 in (0, 1, 2), time.time_ns() // 1000000000 - time.time())
        print(time.mktime((2027, 1, 15, 8, 0, 0, 0, 0)) + 946684800, machine.RTC().datetime()[:5])
        """)
    board.set_clock(1800000000)
    assert finished(board) == ["True 0", "1800000000 (2027, 1, 15, 4, 8)"]


def step_until(board, text, seconds):
    """Let `seconds` pass at once, and again if the device had not begun to sleep yet, until it prints `text`."""
    while not any(text in line for line in board.lines):
        board.step(seconds)
        with contextlib.suppress(BoardStopped):
            board.wait_line(text, 0.2)


def test_a_step_wakes_who_sleeps(bench):
    """An hour passes at once: for ticks_ms(), sleep(), and asyncio with and without a stream to wait for."""
    board = bench("""
        import asyncio, socket, time
        start = time.ticks_ms()
        print("ready")
        time.sleep(3600)
        print("slept", time.ticks_diff(time.ticks_ms(), start) >= 3600000, time.time() >= 3600)
        async def main():
            await asyncio.sleep(3600)
            print("awaited")
            quiet = asyncio.create_task(listen())
            try:
                await asyncio.wait_for(quiet, 3600)
            except asyncio.TimeoutError:
                print("timed out")
        async def listen():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            await asyncio.StreamReader(sock).read(1)
        asyncio.run(main())
        """)
    for line in ("slept", "awaited", "timed out"):
        step_until(board, line, 3600)
    assert finished(board) == ["ready", "slept True True", "awaited", "timed out"]


def test_a_step_does_not_starve_the_watchdog(bench):
    board = bench("""
        import machine, time
        watchdog = machine.WDT(timeout=5000)
        print("ready")
        time.sleep(60)
        print("slept")
        """)
    step_until(board, "slept", 60)
    assert "wdt-reset" not in kinds(board)


def test_the_sensor_shows_what_it_is_given(bench):
    board = bench(
        "import esp32\nprint(esp32.mcu_temperature())\nwhile esp32.mcu_temperature() != 85: pass\nprint('hot')",
        power=False,
    )
    board.set_sensor(-12.6)
    board.power_on()
    board.wait_line("-12", WAIT)
    board.set_sensor(85.0)
    board.wait_line("hot", WAIT)


def test_pins(bench):
    board = bench("""
        from machine import Pin
        button, light = Pin(0, Pin.IN, Pin.PULL_UP), Pin(2, Pin.OUT, value=1)
        print(button.value(), light.value())
        light.off()
        print(light())
        while button():
            pass
        print("pressed")
        """)
    board.wait_line("0", WAIT)
    board.set_pin(0, False)
    assert finished(board) == ["1 1", "0", "pressed"]


def test_fuses_that_are_burned_show_in_their_register(bench):
    board = bench("""
        import machine
        registers = machine.mem32
        print(hex(registers[0x3FF5A000]))
        while not registers[0x3FF5A000]:
            pass
        print(hex(registers[0x3FF5A000]), registers[0x3FF5A018])
        try:
            registers[0x3FF40000]
        except RuntimeError as error:
            print(error)
        """)
    board.wait_line("0x0", WAIT)
    board.burn(0x3FF5A000, 0x88000000)
    assert finished(board) == ["0x0", "0x88000000 0", "Guru Meditation Error: load from 0x3ff40000"]


def test_the_chip_has_an_id_of_its_own(bench):
    script = "import machine, network\nprint(machine.unique_id(), network.WLAN(0).config('mac') == machine.unique_id())"
    one, other = bench(script), bench(script, name="other.bin")
    given = bench(script, name="third.bin", unique_id=b"\x02abcde")
    assert finished(one) != finished(other)
    assert finished(given) == ["b'\\x02abcde' True"]


# Network.


CONNECT = """
    import network
    station = network.WLAN(network.STA_IF)
    station.active(True)
    station.connect("any", "password")
    """


@pytest.fixture
def server():
    """A TCP server on the loopback: (port, queue of its connections)."""
    connections: queue.Queue[socket.socket] = queue.Queue()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connections.put(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1], connections
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        while not connections.empty():
            connections.get().close()


def test_the_station_says_where_it_stands(bench):
    board = bench("""
        import network
        station, point = network.WLAN(network.STA_IF), network.WLAN(network.AP_IF)
        def show():
            print(station.active(), station.isconnected(), station.status(), station.ifconfig()[0])
        def attempt(action):
            try:
                print(action())
            except (OSError, ValueError) as error:
                print(type(error).__name__, *error.args)
        show()
        attempt(lambda: station.connect("a", "b"))
        station.active(True)
        show()
        attempt(lambda: point.connect("a", "b"))
        attempt(lambda: station.status("rssi"))
        station.connect("house", "secret")
        show()
        print(station.config("ssid"), station.status("rssi") < 0, station.ipconfig("addr4"), network.STAT_GOT_IP)
        attempt(lambda: station.config("nothing"))
        station.config(reconnects=5)
        network.hostname("thing")
        print(station.config("reconnects"), station.config("hostname"), point.active(), point.isconnected())
        station.disconnect()
        show()
        station.connect()
        station.active(False)
        show()
        """)
    assert finished(board) == [
        "False False 1000 0.0.0.0",
        "OSError Wifi Not Started",
        "True False 1000 0.0.0.0",
        "OSError STA required",
        "OSError Wifi Not Connected",
        "True True 1010 127.0.0.1",
        "house True ('127.0.0.1', '255.0.0.0') 1010",
        "ValueError unknown config param",
        "5 thing False False",
        "True False 1000 0.0.0.0",
        "False False 1000 0.0.0.0",
    ]


LISTENS = """
    import socket
    for number in range(2):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", 443))
        sock.listen(1)
        print("ready")
        taken, address = sock.accept()
        print("from", address[0])
        taken.close()
        sock.close()
"""


def test_port_443_is_a_port_of_the_loopback_for_each_board(bench):
    boards = [bench(LISTENS, name=f"flash{number}.bin") for number in range(2)]
    assert boards[0].https_port != boards[1].https_port
    for number in range(2):
        for board in boards:
            board.wait(lambda board, count=number + 1: board.lines.count("ready") == count, WAIT)
            with socket.create_connection(("127.0.0.1", board.https_port), WAIT):
                wanted = ["ready", "from 127.0.0.1"] * (number + 1)
                board.wait(lambda board, wanted=wanted: list(board.lines)[: len(wanted)] == wanted, WAIT)


def test_port_that_somebody_has(bench):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(GatehouseError, match="choose another one"):
            bench("", https_port=taken.getsockname()[1], power=False)
    board = bench("", name="other.bin", power=False)
    with socket.socket() as late, pytest.raises(OSError):
        late.bind(("127.0.0.1", board.https_port))  # nobody else gets it by chance


def test_without_a_link_sockets_fail_as_on_the_chip(bench, server):
    port, connections = server
    board = bench(f"""
        import errno, socket
        def attempt(action):
            try:
                print(action())
            except OSError as error:
                print(error.errno if error.errno < 0 else errno.errorcode[error.errno])
        sock = socket.socket()
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        def all_of_it():
            attempt(lambda: socket.getaddrinfo("127.0.0.1", {port})[0][:2])
            attempt(lambda: sock.connect(("127.0.0.1", {port})))
            attempt(lambda: datagram.sendto(b"x", ("127.0.0.1", 9)))
        all_of_it()
        import network
        station = network.WLAN()
        station.active(True)
        station.connect("any")
        all_of_it()
        """)
    assert finished(board) == ["-202", "EHOSTUNREACH", "EHOSTUNREACH", "(2, 1)", "None", "1"]
    connections.get(timeout=WAIT).close()


def test_an_open_connection_stands_still_while_the_link_is_gone(bench, server):
    port, connections = server
    board = bench(
        CONNECT
        + f"""
    import errno, socket
    sock = socket.socket()
    sock.connect(socket.getaddrinfo("127.0.0.1", {port})[0][-1])
    print(sock.recv(5), sock.send(b"first"))
    while station.isconnected():
        pass
    print(station.status())
    def attempt(action):
        try:
            print(action())
        except OSError as error:
            print(errno.errorcode[error.errno])
    sock.settimeout(0.05)
    attempt(lambda: sock.read(5))
    attempt(lambda: sock.recv(5))
    attempt(lambda: sock.write(b"lost?"))
    sock.setblocking(False)
    attempt(lambda: sock.read(5))
    attempt(lambda: sock.recv(5))
    attempt(lambda: sock.write(b"lost?"))
    sock.setblocking(True)
    print("waits")
    print(sock.read(5), sock.write(b"later"))
    """
    )
    peer = connections.get(timeout=WAIT)
    peer.settimeout(WAIT)
    peer.sendall(b"hello")
    assert peer.recv(5) == b"first"
    board.wifi(False)
    peer.sendall(b"again")
    board.wait_line("waits", WAIT)
    board.wifi(True)
    assert peer.recv(100) == b"later"
    peer.close()
    assert finished(board) == [
        *("b'hello' 5", "201", "ETIMEDOUT", "ETIMEDOUT", "ETIMEDOUT", "None", "EAGAIN", "None", "waits", "b'again' 5")
    ]


def test_asyncio_streams_work_over_the_link(bench, server):
    port, connections = server
    board = bench(
        CONNECT
        + f"""
    import asyncio
    async def main():
        reader, writer = await asyncio.open_connection("127.0.0.1", {port})
        writer.write(b"hello\\n" * 2000)
        await writer.drain()
        print(await reader.readline())
        for _ in range(100):
            assert await reader.readexactly(1000) == b"x" * 1000
        print("all")
        print("end", await reader.read(1))
    asyncio.run(main())
    """
    )
    peer = connections.get(timeout=WAIT)
    peer.settimeout(WAIT)
    with peer, peer.makefile("rwb") as stream:
        assert [stream.readline() for _ in range(2000)] == [b"hello\n"] * 2000
        stream.write(b"welcome\n" + b"x" * 100000)
        stream.flush()
        board.wait_line("all", WAIT)
        board.wifi(False)
        stream.write(b"!")
        stream.flush()
        board.wifi(True)
        assert finished(board) == ["b'welcome\\n'", "all", "end b'!'"]


# NVS and OTA through the device's own names.


def test_nvs_through_esp32(bench):
    board = bench(
        """
        import esp32
        nvs = esp32.NVS("gatehouse")
        buffer = bytearray(12)
        print(nvs.get_i32("epoch"), nvs.get_blob("identity", buffer), buffer)
        nvs.set_i32("epoch", -5)
        nvs.set_blob("identity", memoryview(b"new value")[4:])
        nvs.set_blob("empty", b"")
        nvs.commit()
        print(esp32.NVS("gatehouse").get_i32("epoch"), nvs.get_blob("identity", buffer), buffer)
        print(nvs.get_blob("empty", buffer))
        nvs.erase_key("empty")
        def attempt(action):
            try:
                action()
            except (OSError, OverflowError) as error:
                print(type(error).__name__, *error.args)
        attempt(lambda: nvs.get_blob("empty", buffer))
        attempt(lambda: nvs.get_i32("identity"))
        attempt(lambda: nvs.get_blob("identity", bytearray(4)))
        attempt(lambda: nvs.set_i32("sixteen_letters_", 1))
        attempt(lambda: nvs.set_i32("wide", 1 << 31))
        attempt(lambda: nvs.set_blob("large", bytes(13000)))
        """,
        values={"epoch": 3, "identity": b"secret"},
    )
    assert finished(board) == [
        "3 6 bytearray(b'secret\\x00\\x00\\x00\\x00\\x00\\x00')",
        "-5 5 bytearray(b'valuet\\x00\\x00\\x00\\x00\\x00\\x00')",
        "0",
        "OSError -4354 ESP_ERR_NVS_NOT_FOUND",
        "OSError -4354 ESP_ERR_NVS_NOT_FOUND",
        "OSError -4364 ESP_ERR_NVS_INVALID_LENGTH",
        "OSError -4361 ESP_ERR_NVS_KEY_TOO_LONG",
        "OverflowError overflow converting long int to machine word",
        "OSError -4366 ESP_ERR_NVS_VALUE_TOO_LONG",
    ]


def test_partitions(bench):
    board = bench("""
        from esp32 import Partition
        print([part.info() for part in Partition.find(Partition.TYPE_DATA)])
        print(Partition(Partition.RUNNING).info(), Partition(Partition.BOOT).info()[4])
        spare = Partition(Partition.RUNNING).get_next_update()
        print(spare.info()[4], spare.ioctl(4, 0), spare.ioctl(5, 0), Partition("ota_1").info() == spare.info())
        block = bytearray(b"block" * 900)[:4096]
        spare.writeblocks(3, block)
        back = bytearray(4096)
        spare.readblocks(3, back)
        print(back == block)
        spare.readblocks(3, memoryview(back)[:5], 10)
        print(bytes(back[:7]))
        spare.ioctl(6, 3)
        spare.readblocks(3, back)
        print(set(back))
        for action in (
            lambda: spare.readblocks(384, back), lambda: Partition("none"), lambda: Partition(7), spare.set_boot
        ):
            try:
                action()
            except (OSError, ValueError) as error:
                print(type(error).__name__, *error.args)
        """)
    vfs = part("vfs")
    assert finished(board) == [
        "[(1, 2, 36864, 16384, 'nvs', False), (1, 0, 53248, 8192, 'otadata', False), "
        f"(1, 1, 61440, 4096, 'phy_init', False), (1, 129, {vfs.offset}, {vfs.size}, 'vfs', False)]",
        "(0, 16, 65536, 1572864, 'ota_0', False) ota_0",
        "ota_1 384 4096 True",
        "True",
        "b'blockbl'",
        "{255}",
        "OSError -260 ESP_ERR_INVALID_SIZE",
        "OSError 2",
        "ValueError",
        "OSError -5379 ESP_ERR_OTA_VALIDATE_FAILED",
    ]


OTA = """
    import machine
    from esp32 import Partition
    running = Partition(Partition.RUNNING)
    print(machine.reset_cause(), running.info()[4], Partition(Partition.BOOT).info()[4])
    if machine.reset_cause() == 1:
        spare = running.get_next_update()
        first = bytearray(4096)
        running.readblocks(0, first)
        spare.writeblocks(0, first)
        spare.set_boot()
        print("next", Partition(Partition.BOOT).info()[4])
        machine.reset()
    """


def test_an_image_that_is_not_confirmed_is_reverted_at_the_next_reset(bench):
    board = bench(OTA + "\n    running.info()[4] == 'ota_1' and machine.reset()\n")
    assert finished(board) == ["1 ota_0 ota_0", "next ota_1", "2 ota_1 ota_1", "2 ota_0 ota_0"]


def test_an_image_that_is_confirmed_stays(bench):
    board = bench(
        OTA
        + """
    Partition.mark_app_valid_cancel_rollback()
    print("confirmed")
    """
    )
    board.wait_line("confirmed", WAIT)
    board.power_off()
    board.lines.clear()
    board.power_on()
    board.wait_line("1 ota_1 ota_1", WAIT)


def test_a_soft_reset_does_not_pass_through_the_bootloader(bench):
    board = bench(
        OTA.replace("== 1:", "== 1 and running.info()[4] == 'ota_0':")
        + """
    if machine.reset_cause() == 2:
        machine.soft_reset()
    if machine.reset_cause() == 5:
        machine.reset()
    """
    )
    lines = ["1 ota_0 ota_0", "next ota_1", "2 ota_1 ota_1", "5 ota_1 ota_1", "2 ota_0 ota_0"]
    board.wait(lambda board: len(board.lines) >= len(lines), WAIT)
    assert list(board.lines)[: len(lines)] == lines


def test_reset_causes(bench):
    board = bench("""
        import machine
        print(machine.reset_cause(), machine.PWRON_RESET, machine.HARD_RESET, machine.WDT_RESET, machine.SOFT_RESET)
        cause = machine.reset_cause()
        if cause == machine.PWRON_RESET:
            machine.reset()
        if cause == machine.HARD_RESET:
            machine.soft_reset()
        if cause == machine.SOFT_RESET:
            machine.WDT(timeout=50)
        """)
    board.wait_line("3 1 2 3 5", WAIT)
    assert [line[0] for line in board.lines] == ["1", "2", "5", "3"]
    board.power_off()
    board.lines.clear()
    board.power_on()
    board.wait_line("1 1 2 3 5", WAIT)


def test_a_pending_image_is_given_up_after_a_watchdog_reset_and_a_power_cut(bench):
    for name, end in (("watchdog", "machine.WDT(timeout=50)"), ("cut", "spare = running.ioctl(6, 300)")):
        trial = f"\n    if running.info()[4] == 'ota_1':\n        print('on trial')\n        {end}\n"
        board = bench(OTA + trial, name=name)
        if name == "cut":
            board.auto_power = True
            board.wait_line("next ota_1", WAIT)
            board.cut_at(3)  # after the two that make it pending
        board.wait_line("ota_0 ota_0" if name == "cut" else "3 ota_0 ota_0", WAIT)
        board.wait(lambda board: board.lines.count("on trial") == 1, WAIT)


SWITCH = """
    from esp32 import Partition
    running = Partition(Partition.RUNNING)
    print("runs", running.info()[4], Partition(Partition.BOOT).info()[4])
    spare = Partition("ota_1")
    spare.writeblocks(0, b"\\xe9" + bytes(4095))
    print("switch")
    spare.set_boot()
    print("switched")
    """


def test_a_cut_in_any_write_of_otadata_leaves_an_image_that_runs(bench):
    """The switch: before it is whole the old image runs, then the new one."""
    for cut in (1, 2, 3, 4):
        board = bench(SWITCH, name=f"{cut}.bin", power=False, seed=cut)
        board.power_on(cut_at=4 + cut)  # two of the bootloader, which names ota_0 in otadata; two of the image
        board.wait(lambda board: not board.running or at_prompt(board), WAIT)
        switched = "switched" in board.lines
        assert switched == (cut > 2)
        if board.running:
            board.power_off()
        board.lines.clear()
        # Cuts 3 and 4: the bootloader makes the new image pending, and loses its own entry over that.
        board.power_on(cut_at=cut - 2 if switched else None)
        board.wait(lambda board: not board.running or at_prompt(board), WAIT)
        if not board.running:
            board.power_on()
        line = board.wait_line("runs", WAIT)
        # Cut 3 is in an erase, which may leave the entry as it was: then the new image is tried once more.
        assert line in ("runs ota_0 ota_0", "runs ota_1 ota_1" if cut == 3 else None)


WITHOUT_OTA = """
    from esp32 import Partition
    running = Partition(Partition.RUNNING)
    print(running.info()[4])
    for action in (
        running.get_next_update, lambda: Partition(Partition.BOOT), running.set_boot,
        Partition.mark_app_valid_cancel_rollback,
    ):
        try:
            print(action().info()[4])
        except OSError as error:
            print(*error.args)
    """


def test_boards_without_a_second_partition(bench):
    rows = [one for one in TABLE if one.name not in ("otadata", "ota_1")]
    factory = [partitions.Partition("factory", 0, 0, one.offset, one.size) if one.type == 0 else one for one in rows]
    assert finished(bench(WITHOUT_OTA, table=factory)) == ["factory", "2", "2", "-261 ESP_ERR_NOT_FOUND", "-1 ESP_FAIL"]
    single = [one for one in TABLE if one.name != "ota_1"]
    assert finished(bench(WITHOUT_OTA, name="single.bin", table=single))[:3] == ["ota_0", "ota_0", "ota_0"]


def test_only_whole_sectors_are_erased_by_a_write(bench):
    board = bench("""
        from esp32 import Partition
        spare = Partition("ota_1")
        spare.writeblocks(0, bytes(8192))
        print("two")
        for data, part in ((bytes(100), spare), (bytes(4097), spare)):
            try:
                part.writeblocks(0, data)
            except OSError as error:
                print(*error.args)
        try:
            Partition("nvs").set_boot()
        except OSError as error:
            print(*error.args)
        print(spare.get_next_update().info()[4], Partition("ota_0").get_next_update().info()[4])
        """)
    assert finished(board) == [
        "two",
        "-260 ESP_ERR_INVALID_SIZE",
        "-260 ESP_ERR_INVALID_SIZE",
        "-258 ESP_ERR_INVALID_ARG",
        "ota_0 ota_1",
    ]


# What is left running, and what runs at once.


def test_nothing_is_left_when_the_board_is_closed(bench):
    board = bench("import machine\nprint('up')\nwhile True: pass")
    board.wait_line("up", WAIT)
    process = board._process._process
    board.close()
    assert process.returncode == -signal.SIGKILL
    board.close()
    with pytest.raises(GatehouseError, match="closed"):
        board.power_on()


def test_the_device_ends_when_its_supervisor_is_killed(tmp_path):
    image = make_image(
        tmp_path / "flash.bin", "while True:\n    try:\n        pass\n    except BaseException:\n        pass\n"
    )
    script = f"""
        import pathlib, signal, time
        from gatehouse_tools.sim import Board
        board = Board(pathlib.Path({str(image)!r}))
        board.power_on()
        board.wait(lambda board: len(board.events) == 2, {WAIT})
        print(board._process._process.pid, flush=True)
        signal.pause()
        """
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(runtime.__file__).parents[2])}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as supervisor:
        assert supervisor.stdout
        device = int(supervisor.stdout.readline())
        os.kill(device, 0)
        supervisor.kill()
    deadline = time.monotonic() + WAIT
    while pathlib.Path(f"/proc/{device}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not pathlib.Path(f"/proc/{device}").exists()


def test_one_image_one_board(bench, tmp_path):
    bench("while True: pass")
    with Board(tmp_path / "flash.bin") as second:
        with pytest.raises(GatehouseError, match="belongs to a board") as caught:
            second.power_on()
        assert caught.value.reason == "busy"


def test_lock_that_a_fork_keeps_for_a_moment_is_waited_for(bench, tmp_path):
    board = bench("while True: pass", power=False)
    with open(tmp_path / "flash.bin", "rb") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)
        opener = threading.Timer(0.05, lambda: fcntl.flock(kept, fcntl.LOCK_UN))
        opener.start()
        board.power_on()
        opener.join()
    assert board.running


def test_many_boards_at_once(bench):
    boards = [bench(WRITER, name=f"{number}.bin", power=False) for number in range(8)]
    threads = [threading.Thread(target=board.power_on) for board in boards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {finished(board)[-1] for board in boards} == {"done 1 " + "a" * 700}
    assert len({board.operations for board in boards}) == 1


def test_what_happens_is_told_and_logged(tmp_path):
    told: list[Event] = []
    image = make_image(tmp_path / "flash.bin", "print('up')")
    with Board(image, log=tmp_path / "log", on_event=told.append) as board:
        board.power_on()
        board.wait(at_prompt, WAIT)
        assert told == board.events
    assert told[-1] == ("power-off", "")
    port = board.https_port
    assert (tmp_path / "log").read_text().splitlines() == [
        "[board] power-on", f"[board] https 127.0.0.1:{port}", "[board] boot 1", "up", "[board] repl",
        "[board] power-off",
    ]  # fmt: skip


def test_an_event_handler_that_fails_ends_the_run_and_not_the_thread(bench, capfd):
    def fail(event):
        if event.kind == "boot":
            raise RuntimeError("handler")

    board = bench("while True: pass", on_event=fail)
    with pytest.raises(BoardStopped, match="its supervisor failed: RuntimeError"):
        board.wait(lambda board: False, WAIT)
    assert "RuntimeError: handler" in capfd.readouterr().err
    board.power_on()


def test_a_process_that_ends_by_itself_is_told(bench):
    board = bench("print('up')\nwhile True: pass")
    board.wait_line("up", WAIT)
    os.kill(board._process._process.pid, signal.SIGKILL)
    with pytest.raises(BoardStopped, match="ended by itself with status -9"):
        board.wait(lambda board: False, WAIT)
    assert not board.running and board.events[-1].kind == "died"


def test_waiting_ends_in_time(bench):
    board = bench("while True: pass")
    with pytest.raises(BoardStopped, match=r"not within 0\.05 s"):
        board.wait(lambda board: False, 0.05)
    board.power_off()
    with pytest.raises(BoardStopped, match="no power"):
        board.wait(lambda board: False, WAIT)


def test_the_heap_is_a_setting(bench):
    script = "import gc\ngc.collect()\nprint(gc.mem_free() + gc.mem_alloc())"
    assert finished(bench(script)) == ["259072"]
    assert finished(bench(script, name="other.bin", heap="80wK")) == ["161920"]


def test_endless_output_without_a_line_is_bounded(bench):
    board = bench("import sys\nfor _ in range(200):\n    sys.stdout.write('x' * 1000)\nprint('end')")
    board.wait_line("end", WAIT)
    assert all(len(line) < 200000 for line in board.lines)
