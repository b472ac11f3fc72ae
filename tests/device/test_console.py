"""The console: nothing before a login, everything through the dispatcher, and nothing on the screen that harms."""

import asyncio
import gc
import random
import sys

from fake_console import PASSWORDS, Bench
from gatehouse import Refused
from harness import raises, seed

HEAP = "1M"  # compiled: the catalogue of operations is loaded for each command


async def test_before_a_login_there_is_nothing_but_login():
    bench = Bench()
    for data in (
        "\r",
        "help\r",
        "state\r",
        "reboot\r",
        "login a b\r",
        "import os\r",
        "\x01print(1)\x04\r",
        "gatehouse\r",
    ):
        shown = await bench.type(data)
        assert shown.split(b"\r\n")[-2] == b"log in first: login USER", shown
    assert not bench.operations.calls and not bench.auth.attempts
    await bench.close()


async def test_it_says_nothing_by_itself():
    bench = Bench()
    assert await bench.type("") == b""
    assert await bench.type(b"\x00\x80\xff\x1b[A") == b""
    await bench.close()


async def test_login_opens_a_session():
    bench = Bench()
    shown = await bench.type("login owner\r")
    assert shown == b"login owner\r\npassword: "
    shown = await bench.type(PASSWORDS["owner"] + "\r")
    assert shown == b"\r\nowner> ", "the password is not echoed"
    assert bench.auth.attempts == [("console", "owner", "label-password")]
    shown = await bench.type("state\r")
    assert shown == b"state\r\ndone: yes\r\nowner> "
    assert bench.operations.calls == [("owner", "state", {})]
    await bench.close()


async def test_login_asks_for_the_user_too():
    bench = Bench()
    assert await bench.type("login\roperator\r") == b"login\r\nuser: operator\r\npassword: "
    assert (await bench.type("päss\r")).endswith(b"operator> ")
    await bench.close()


async def test_refused_logins_open_nothing():
    bench = Bench()
    wrong = await bench.type("login owner\rnot it\r")
    unknown = await bench.type("login nobody\rnot it\r")
    assert wrong == b"login owner\r\npassword: \r\npassword\r\n" and unknown == wrong.replace(b"owner", b"nobody")
    assert b"log in first" in await bench.type("state\r")
    bench.auth.refuse = Refused("locked", "8 s")
    assert b"\r\nlocked: 8 s\r\n" in await bench.type("login owner\rlabel-password\r")
    assert not bench.auth.open and not bench.operations.calls
    bench.auth.refuse = None
    await bench.login()
    await bench.close()


async def test_the_label_password_is_to_be_changed():
    bench = Bench()
    bench.auth.fresh = True
    assert b"change it with password.change" in await bench.login()
    await bench.close()


async def test_ctrl_c_leaves_the_question_and_the_session_stays():
    bench = Bench()
    await bench.type("login owner\rlabel-pass")
    assert await bench.type("\x03") == b"\r\n"
    assert not bench.auth.attempts
    await bench.login()
    assert await bench.type("reboot\x03") == b"reboot\r\nowner> "
    assert not bench.operations.calls and bench.auth.open
    await bench.close()


async def test_arguments_by_their_declaration():
    bench = Bench()
    await bench.login()
    for text, name, arguments in (
        ("interface.set https on", "interface.set", {"name": "https", "wanted": True}),
        ("identify 5", "identify", {"seconds": 5}),
        ("identify", "identify", {}),
        ("journal 7 2", "journal", {"from": 7, "count": 2}),
        ("config.set session 300,3600,4", "config.set", {"field": "session", "values": [300, 3600, 4]}),
        ('erase "gh 1"', "erase", {"confirm": "gh 1"}),
    ):
        await bench.type(text + "\r")
        assert bench.operations.calls[-1] == ("owner", name, arguments)
    await bench.type("no.such thing\r")
    assert bench.operations.calls[-1][1] == "no.such", "what is unknown is for the dispatcher to refuse"
    count = len(bench.operations.calls)
    assert b"a quote is not closed" in await bench.type("erase 'gh\r")
    assert len(bench.operations.calls) == count
    await bench.close()


async def test_secrets_are_asked_for_and_not_echoed():
    bench = Bench()
    await bench.login()
    shown = await bench.type("password.change\rold one\rnew one\rnew one\r")
    assert shown == b"password.change\r\nold: \r\nnew: \r\nnew again: \r\ndone: yes\r\nowner> "
    assert bench.operations.calls[-1] == ("owner", "password.change", {"old": "old one", "new": "new one"})
    shown = await bench.type('wifi.set "my net"\rsesame open\rsesame open\r')
    assert b"sesame" not in shown
    assert bench.operations.calls[-1][2] == {"ssid": "my net", "password": "sesame open"}
    count = len(bench.operations.calls)
    shown = await bench.type("user.password viewer\rone thing\ranother\r")
    assert b"the two are not the same" in shown and b"one thing" not in shown
    await bench.type("password.change\rold one\r\x03")
    assert len(bench.operations.calls) == count
    await bench.close()


async def test_secrets_on_the_line_are_too_many_arguments():
    bench = Bench()
    await bench.login()
    await bench.type("password.change old-one new-one\rx\ry\ry\r")
    assert "+" in bench.operations.calls[-1][2], "which the dispatcher refuses"
    await bench.close()


async def test_refusals_are_shown_and_the_session_goes_on():
    bench = Bench()
    await bench.login("viewer")
    bench.operations.answers["reboot"] = Refused("denied", "reboot is for operator")
    assert b"denied: reboot is for operator\r\nviewer> " in await bench.type("reboot\r")
    bench.operations.answers["state"] = MemoryError()
    assert b"memory: " in await bench.type("state\r")
    assert b"done: yes" in await bench.type("sensor\r")
    await bench.close()


async def test_logout_and_ctrl_d():
    for keys in ("logout\r", "\x04"):
        bench = Bench()
        await bench.login()
        assert (await bench.type(keys)).endswith(b"logged out\r\n")
        assert not bench.auth.open
        assert b"log in first" in await bench.type("state\r")
        await bench.close()


async def test_a_session_that_has_ended_is_over_here_too():
    from access import console

    console._LOOK_MS = 0
    bench = Bench()
    console.time = Clock()
    await bench.login()
    bench.auth.open.clear()  # idle
    console.time.now += 1000
    assert b"session: it has ended\r\n" in await bench.type("")
    assert b"log in first" in await bench.type("state\r")
    await bench.login()
    bench.auth.open.clear()
    assert b"session" in await bench.type("state\r")
    assert b"log in first" in await bench.type("state\r")
    assert not bench.operations.calls
    await bench.close()


async def test_a_question_waits_a_minute():
    from access import console

    console.time = Clock()
    bench = Bench()
    await bench.type("login owner\rlabel-pass")
    console.time.now += 59000
    await bench.type("")
    console.time.now += 2000
    assert await bench.type("") == b"\r\n"
    assert bench.task.done(), "and what comes then is no password"
    assert not bench.auth.attempts


async def test_it_ends_when_nobody_is_there_and_nobody_is_logged_in():
    from access import console

    console.time = Clock()
    bench = Bench()
    await bench.type("")
    console.time.now += 59000
    assert b"log in first" in await bench.type("x\r")
    console.time.now += 59000
    await bench.login()
    console.time.now += 3600000
    await bench.type("")
    assert not bench.task.done(), "a session ends as Auth says"
    await bench.type("logout\r")
    console.time.now += 61000
    assert await bench.type("") == b""
    assert bench.task.done() and print is bench.console._real_print


class Access:
    pass


async def test_the_console_is_loaded_for_a_visit_only_and_does_without_memory():
    from access import console, knock

    console.time = Clock()
    bench = Bench()
    made = []
    visits = []

    class Visit:
        def __init__(self, operations, auth):
            made.append(operations)

        async def run(self):
            bench.keys.bytes = bytearray()
            if len(made) == 1:
                raise MemoryError
            visits.append(sys.modules["access.console"])

    access = Access()
    access.operations, access.auth = bench.operations, bench.auth
    console.Console = Visit
    module = sys.modules["access.console"]
    task = asyncio.create_task(knock.serve(access, bench.keys, 1))
    await asyncio.sleep_ms(50)
    assert not made, "nobody has typed"
    bench.keys.bytes += b"x"
    await asyncio.sleep_ms(50)
    assert made and "access.console" not in sys.modules and not task.done()
    sys.modules["access.console"] = module
    import access as package

    package.console = module
    bench.keys.bytes += b"x"
    await asyncio.sleep_ms(100)
    assert visits and "access.console" not in sys.modules and not task.done()
    task.cancel()


class Clock:
    now = 0

    def ticks_ms(self):
        return self.now

    def ticks_diff(self, one, other):
        return one - other


async def test_a_long_line_is_refused_whole():
    bench = Bench()
    await bench.login()
    assert b"a line has at most 256 bytes" in await bench.type("identify " + "1" * 400 + "\r")
    assert not bench.operations.calls
    await bench.close()


async def test_results_are_bounded_and_harm_no_terminal():
    bench = Bench()
    await bench.login()
    bench.operations.answers["state"] = {"detail": "a\x1b[2J\r\nb\x9b1m\u202ec", "key\n": b"\x01\xff", "none": None}
    shown = await bench.type("state\r")
    assert shown == "state\r\ndetail: a?[2J??b??1m???c\r\nkey?: 01ff\r\nnone: -\r\nowner> ".encode()
    bench.operations.answers["state"] = {"rows": [["x" * 9000, "y" * 9000]] * 500, "deep": [[[[[[1]]]]]]}
    shown = await bench.type("state\r")
    assert len(shown) < 80 * 163 + 20 and b"\r\n...\r\n" in shown
    bench.operations.answers["state"] = {"a": {"b": {"c": {"d": {"e": 1}}}}}
    assert b"\r\n      {'d': {'e': 1}}\r\n" in await bench.type("state\r")
    bench.operations.answers["state"] = Refused("state", "\x1b]0;x\x07")
    assert b"\x1b" not in await bench.type("state\r")
    await bench.close()


async def test_lists_and_maps_are_readable():
    bench = Bench()
    await bench.login()
    bench.operations.answers["interfaces"] = {
        "rows": [["uart", True, None], ["ble", False, False]],
        "more": {"a": [1, 2]},
    }
    shown = await bench.type("interfaces\r")
    assert shown.split(b"\r\n")[1:-1] == [b"more:", b"  a: 1  2", b"rows:", b"  uart  yes  -", b"  ble  no  no"]
    await bench.close()


async def test_the_log_does_not_cut_the_line_that_is_typed():
    bench = Bench()
    await bench.login()
    await bench.type("upd")
    print("a line of the log")
    assert bench.screen.take() == b"\r\x1b[Kowner> upd"
    assert await bench.type("ate.check\r") == b"ate.check\r\ndone: yes\r\nowner> "
    await bench.type("\x04login owner\rsecret")
    bench.screen.take()
    print("another")
    assert bench.screen.take() == b"\r\x1b[Kpassword: "
    await bench.close()
    assert print is bench.console._real_print


async def test_the_log_alone_is_left_alone():
    bench = Bench()
    await bench.type("")
    print("a line of the log")
    assert bench.screen.take() == b""
    await bench.close()


async def test_the_repl_opens_only_after_the_operation_has_said_so():
    bench = Bench()
    await bench.login("service")
    bench.operations.answers["repl"] = Refused("disabled")
    assert b"disabled" in await bench.type("repl 5\r")
    assert bench.operations.application.opened is None and not bench.task.done()

    def allowed():
        bench.operations.left = 300
        return {"seconds": 300}

    bench.operations.answers["repl"] = allowed
    shown = await bench.type("repl 5\r")
    assert b"the REPL opens; the device resets after 300 s\r\n" in shown
    assert bench.operations.application.opened == 300 and not bench.auth.open
    await bench.close()


async def test_a_console_that_is_closed_ends_its_session():
    bench = Bench()
    await bench.login()
    await bench.close()
    assert not bench.auth.open


async def test_a_fault_of_an_operation_ends_the_console_and_with_it_the_application():
    bench = Bench()
    await bench.login()
    bench.operations.answers["state"] = ValueError("a fault")
    await bench.type("state\r")
    with raises(ValueError, "a fault"):
        await bench.task
    print("not on the screen")
    assert b"\x1b[K" not in bench.screen.take()


async def test_any_bytes_leave_it_running_and_the_heap_level():
    bench = Bench()
    rng = random
    rng.seed(seed())
    pieces = (
        b"login owner\r", b"label-password\r", b"\r", b"\n", b"login ", b"owner\r\n", b"\x03", b"\x04", b"\x1b[",
        b"\x1bO", b'"', b"help\r", b"state\r", b"password.change\r", b"repl 60\r", b"\xc3", b"\xf0\x9f", b"\xff\xfe",
        b"x" * 300, b"\x00" * 40, b"\x01\x05A\x01", b"raw REPL\r", b"import os\x04",
    )  # fmt: skip
    gc.collect()
    free = None
    others = 0

    async def other():
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep_ms(1)

    task = asyncio.create_task(other())
    for turn in range(400):
        data = b""
        for _ in range(6):
            data += (
                pieces[rng.randrange(len(pieces))]
                if rng.getrandbits(1)
                else bytes(rng.getrandbits(8) for _ in range(9))
            )
        shown = await bench.type(data)
        assert len(shown) < 4000
        assert not bench.task.done()
        bench.operations.calls.clear()
        bench.auth.attempts.clear()
        if turn % 20 == 10:
            gc.collect()
            now = gc.mem_free()
            assert free is None or now > free - 2000, "the heap is level"
            free = free or now
    assert others > 400
    task.cancel()
    await bench.type("\x15\x03\x03")
    bench.auth.open.clear()
    await bench.close()


async def test_many_different_letters_do_not_stay_in_memory():
    """A loop over a str makes MicroPython keep each letter for ever: anybody at the UART could fill the heap."""
    bench = Bench()

    async def some(first):
        for start in range(first, first + 3000, 60):
            data = b""
            for code in range(start, start + 60):
                data += bytes((0xE0 | code >> 12, 0x80 | code >> 6 & 63, 0x80 | code & 63))
            await bench.type(data + b"\r")

    await some(0x4E00)
    gc.collect()
    before = gc.mem_free()
    await some(0x6000)
    gc.collect()
    assert gc.mem_free() > before - 500, before - gc.mem_free()
    await bench.close()


async def test_a_flood_does_not_stop_the_others():
    bench = Bench()
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1 if bench.keys.bytes else 0
            await asyncio.sleep_ms(0)

    task = asyncio.create_task(other())
    await bench.type(b"x" * 3200)
    assert turns >= 80, turns
    task.cancel()
    await bench.close()
