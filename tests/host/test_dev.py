"""`gatehouse dev` on the host: what is sent, for whom it is signed, what is said. Devices: tests/system/test_dev.py."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import pty
import threading
import tty

import pytest
import serial
import shop

from gatehouse_tools import build, cable, devloop, pack, releases, suit, trust_store
from gatehouse_tools.commands import dev as dev_command
from gatehouse_tools.errors import GatehouseError


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    """A product whose newest trust anchors are flagged dev, with release 1.0.0."""
    item = shop.make(tmp_path_factory.mktemp("product") / "shop")
    shop.release(item, "1.0.0")
    told = shop.run("trust", "next", "--dev", "--new-key", "dev", "--product", item.root)
    assert told.code == 0, told.err
    return item


def device(item, **changes):
    """What a device of the product says of itself."""
    index = build.build(item.firmware, item.name, "1.0.0").index
    found = {
        "id": "gh-1", "model": item.board().model, "vendor": item.vendor_id.bytes, "device": bytes(16),
        "mode": "active", "version": "1.0.0", "dev": True, "clock": 1_900_000_000, "index": index,
    }  # fmt: skip
    return devloop.Device(**(found | changes))


def changed(item, tmp_path):
    files = shop.APPLICATION | {"data/words.txt": "four five six\n" * 50}
    return build.build(shop.source(tmp_path / "copy", files), item.name, "1.0.0-dev.1")


def test_only_the_index_and_what_changed_is_sent(item, tmp_path):
    built = changed(item, tmp_path)
    offer = devloop.prepare(item, device(item), built)
    whole = bytearray(len(built.pack))
    for at, data in offer.missing:
        whole[at : at + len(data)] = data
    entry = next(entry for entry in built.index.entries if entry.path == "data/words.txt")
    assert len(offer.missing) == 2 and offer.size == 4 + len(built.index.data) + entry.stored
    assert pack.body(bytes(whole), entry, built.index) == b"four five six\n" * 50
    everything = devloop.missing(built, None)
    assert b"".join(data for _, data in everything) == built.pack


def test_a_build_is_for_this_device_and_this_hour(item, tmp_path):
    offer = devloop.prepare(item, device(item, device=b"D" * 16), changed(item, tmp_path))
    envelope = suit.parse(offer.envelope)
    (part,) = releases.parts(envelope)
    assert part["use_before"] == envelope.sequence + devloop.VALID_S
    (key,) = suit.verify(offer.envelope, item.public_keys().values())
    assert [entry.key for entry in trust_store.current(item).of_role("dev")] == [key]
    shared = dict(zip(envelope.sections["shared"][::2], envelope.sections["shared"][1::2], strict=False))
    assert any(b"D" * 16 in value.values() for value in shared.values() if isinstance(value, dict))
    assert not [one for one in item.releases() if "dev" in one["version"]] and not list(item.dist.glob("*dev.*"))


def test_version_is_a_pre_release_of_the_last(item):
    version = devloop.version(item)
    assert version.startswith("1.0.0-dev.") and len(version) <= 32


def test_somebody_elses_device_is_named(item):
    assert devloop.board_of(item, device(item)) == item.board()
    with pytest.raises(GatehouseError, match="another vendor id"):
        devloop.board_of(item, device(item, vendor=bytes(16)))
    with pytest.raises(GatehouseError, match="gh-1 is a ESP32_OTHER, and shop has no such board"):
        devloop.board_of(item, device(item, model="ESP32_OTHER"))


def test_product_without_the_flag_is_told_before_a_board_is_touched(tmp_path):
    item = shop.make(tmp_path / "shop")
    told = shop.run("dev", "--port", "/dev/null/none", "--product", item.root)
    told.refused(1, "take no developer's key", "gatehouse trust next --dev --new-key dev")


def test_port_that_is_not_there_or_busy(item):
    told = shop.run("dev", "--port", "/dev/there-is-none", "--product", item.root, "--json")
    assert told.code == 1 and told.json["reason"] == "port"
    assert "/dev/there-is-none cannot be opened" in told.json["error"]
    master, slave = pty.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    with serial.Serial(name, exclusive=True), pytest.raises(GatehouseError, match="no other program"):
        cable.Cable(name)
    with cable.Cable(name) as free:
        assert free.port == name
    os.close(master)
    os.close(slave)


class Board(cable.Cable):
    """In place of a cable: answers what it is told to."""

    def __init__(self, *answers):
        self.port = "/dev/ttyX"
        self.answers = list(answers)
        self.asked = []

    def run(self, code, shown=None):
        self.asked.append(code)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if shown:
            for byte in answer.encode():
                shown(bytes([byte]))
        return answer

    def put(self, name, offset, data, after=""):
        self.asked.append((name, offset, data, after))


def facts(**changes):
    found = {
        "id": "gh-1", "model": "UNIX_SIM", "vendor": "00" * 16, "device": "11" * 16, "mode": "active", "failure": "",
        "version": "1.0.0", "dev": True, "clock": None, "index": "",
    }  # fmt: skip
    return "gatehouse: boot 3 active 1.0.0\n\x1e" + json.dumps(found | changes) + "\r\n"


def test_board_without_a_device_is_named():
    found = devloop.greet(Board("", facts()))
    assert (found.id, found.device, found.index) == ("gh-1", b"\x11" * 16, None)
    with pytest.raises(GatehouseError, match=r"no identity \(state: no key\): gatehouse flash"):
        devloop.greet(Board("", facts(id=None, vendor="", device="", failure="state: no key")))
    nothing = GatehouseError("the board at /dev/ttyX says: ImportError: no module named 'gatehouse'", "state")
    with pytest.raises(GatehouseError, match=r"no device on this board yet: gatehouse flash"):
        devloop.greet(Board(nothing))
    lost = GatehouseError("gone", "port")
    with pytest.raises(GatehouseError, match=r"^gone$"):
        devloop.greet(Board(lost))


@pytest.mark.parametrize("answer", ["", "nothing marked", '{"id": null}', "\x1e", "\x1enot json", "\x1e[1]"])
def test_answer_that_is_none_is_an_error(answer):
    with pytest.raises(GatehouseError, match="did not answer as expected"):
        devloop.greet(Board("", answer))


def test_clock_is_set_only_where_there_is_none(item):
    board = Board("")
    assert devloop.set_clock(board, device(item, clock=None)) and "RTC().datetime((20" in board.asked[0]
    assert not devloop.set_clock(Board(), device(item))


def test_refusal_of_the_installer_is_what_is_told(item, tmp_path):
    offer = devloop.prepare(item, device(item), changed(item, tmp_path))
    steps = []
    told = devloop.Outcome(False, "refused", "key", "no block by a known key")
    board = Board("", "", "..\x1e" + json.dumps(dataclasses.asdict(told)))
    outcome = devloop.bring(board, offer, steps.append, lambda _: None)
    assert outcome == told and sum(steps) == offer.size
    assert base64.b64encode(offer.envelope).decode() in board.asked[-1]
    assert [one[1:3] for one in board.asked if isinstance(one, tuple)] == offer.missing
    assert all("boot.feed()" in one[3] for one in board.asked if isinstance(one, tuple)), "the watchdog is armed"


class Liar:
    """A board at a pseudo-terminal that is none: `story(file, over)` runs in a thread until it returns."""

    def __init__(self, story):
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self.heard = b""
        self.over = threading.Event()
        self._thread = threading.Thread(target=story, args=(self,))
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def hear(self, text=b""):
        """What is typed, up to a text; all that is there now without one."""
        os.set_blocking(self._master, False)
        while not self.over.is_set():
            try:
                self.heard += os.read(self._master, 4096)
            except BlockingIOError:
                self.over.wait(0.001)
            if text in self.heard:
                _, _, self.heard = self.heard.rpartition(text) if text else (b"", b"", self.heard)
                return

    def say(self, data):
        """As much of it as there is room for."""
        os.set_blocking(self._master, False)
        try:
            os.write(self._master, data)
        except BlockingIOError:
            self.over.wait(0.001)

    def flood(self, data):
        while not self.over.is_set():
            self.say(data)

    def raw_repl(self):
        """Play MicroPython up to the first command, which comes in pieces without an answer of the device."""
        self.hear(b"\x03")
        self.say(b">>> ")
        self.hear(b"\x01")
        self.say(b"raw REPL; CTRL-B to exit\r\n>")
        self.hear(b"\x05A\x01")
        self.say(b"R\x00")
        self.hear(b"\x04")


def command(port):
    """What `gatehouse dev` does first."""
    with cable.Cable(port) as at:
        at.interrupt(lambda _: None)
        return devloop.greet(at)


def prompts_for_ever(board):
    board.flood(b">>> " * 64)


def banners_for_ever(board):
    board.flood(b">>> raw REPL; CTRL-B to exit\r\n>R\x01\x00\x00" + b"\x01" * 64)


def output_for_ever(board):
    board.raw_repl()
    board.flood(b"OK" + b"x" * 1000)


@pytest.mark.parametrize("story", [prompts_for_ever, banners_for_ever, output_for_ever])
def test_board_that_never_stops_sending_is_left(story, monkeypatch):
    """The twin is every device of tests/system/test_dev.py."""
    monkeypatch.setattr(cable, "SILENCE_S", 1.0)
    monkeypatch.setattr(cable, "ENTRY_S", 0.5)
    monkeypatch.setattr(cable, "MOST", 5000)
    monkeypatch.setattr(cable, "ANSWER_S", 5.0)
    monkeypatch.setattr(cable, "WRITE_S", 0.2)
    with Liar(story) as board, pytest.raises(GatehouseError, match=r"sends without end|does not answer any more"):
        command(board.port)


@pytest.mark.parametrize(("most", "seconds"), [(2, 60.0), (100, -1.0)])
def test_answer_is_bounded_in_bytes_and_in_time(monkeypatch, most, seconds):
    def read(board, bytes_, seconds):
        monkeypatch.setattr(cable, "MOST", bytes_)
        monkeypatch.setattr(cable, "ANSWER_S", seconds)
        with cable.Cable(board.port) as at:
            at._expect()
            return at._transport.serial.read(3)

    with Liar(lambda board: board.flood(b"a")) as board:
        assert read(board, 3, 60.0) == b"aaa"
        with pytest.raises(GatehouseError, match="sends without end"):
            read(board, most, seconds)


def test_board_that_goes_on_for_ever_byte_by_byte_is_left(monkeypatch):
    def story(board):
        board.raw_repl()
        board.flood(b"OK.")

    monkeypatch.setattr(cable, "ANSWER_S", 0.2)
    with Liar(story) as board, pytest.raises(GatehouseError, match="sends without end"):
        command(board.port)


def test_board_that_reads_nothing_is_left(monkeypatch):
    """A UART takes every byte; USB keeps the writer waiting."""
    monkeypatch.setattr(cable, "WRITE_S", 0.2)
    monkeypatch.setattr(cable, "_CTRL_C", b"\x03" * 30_000)
    with Liar(lambda board: board.over.wait()) as board:
        with cable.Cable(board.port) as at:
            assert at._transport.serial.write_timeout == 0.2
        with pytest.raises(GatehouseError, match="Write timeout"):
            command(board.port)


def test_exception_without_a_word_is_one():
    def story(board):
        board.raw_repl()
        board.say(b"OK\x04 \r\n\x04>")
        board.hear()

    with Liar(story) as board, pytest.raises(GatehouseError, match="without a name; there is no device"):
        command(board.port)


@pytest.mark.parametrize(
    ("before", "failure", "told"),
    [
        (1, b"NameError: name 'pack' isn't defined", r"isn't defined: it has been reset meanwhile .*; run it again$"),
        (1, b"ValueError: NameError: x", r"says: ValueError: NameError: x$"),
        (0, b"NameError: name 'pack' isn't defined", r"says: NameError: name 'pack' isn't defined; there is no device"),
    ],
)
def test_board_that_forgot_what_it_was_told_has_been_reset(before, failure, told):
    def story(board):
        board.raw_repl()
        for _ in range(before):
            board.say(b"OK\x04\x04>")
            board.hear(b"\x04")
        board.say(b"OK\x04Traceback (most recent call last):\r\n" + failure + b"\r\n\x04>")
        board.hear()

    with Liar(story) as board, pytest.raises(GatehouseError, match=told):
        command(board.port)


def test_log_of_a_board_is_shown_in_lines_that_end():
    def story(board):
        board.hear(b"go")  # what comes before the port is open is lost
        for _ in range(200):
            board.say(b"\x1b[2J" * 100)
            board.over.wait(0.001)
        board.flood(b"\n")

    with Liar(story) as board, cable.Cable(board.port) as at:
        at._transport.serial.write(b"go")
        assert cable._LINE < len(next(at.log())) < 4 * cable._LINE

    def lines(board):
        board.hear(b"go")
        board.say(b"one\r\ntwo\r\n")

    with Liar(lines) as board, cable.Cable(board.port) as at:
        log = at.log()
        at._transport.serial.write(b"go")
        assert [next(log), next(log)] == ["one", "two"]


def test_end_of_the_log_is_not_told_as_a_lost_update():
    board = Liar(lambda _: None)
    with cable.Cable(board.port) as at, pytest.raises(GatehouseError, match="its log ends here, and it goes on"):
        board.__exit__()
        next(at.log())


@pytest.mark.parametrize("lost", [0, 2, 3])
def test_raw_repl_is_asked_for_again_where_the_board_had_no_room_to_hear_it(monkeypatch, lost):
    def story(board):
        board.hear(b"\x03")
        board.say(b">>> ")
        for _ in range(lost):
            board.hear(b"\x01")
        board.hear(b"\x01")
        board.say(b"raw REPL; CTRL-B to exit\r\n>")

    monkeypatch.setattr(cable, "ENTRY_S", 0.3)
    with Liar(story) as board, cable.Cable(board.port) as at:
        if lost < 3:
            at.interrupt(lambda _: None)
        else:
            with pytest.raises(GatehouseError, match="could not enter raw repl"):
                at.interrupt(lambda _: None)


def test_somebody_who_gives_up_leaves_no_board_at_its_prompt(monkeypatch):
    def story(board):
        board.hear(b"\x03")
        board.say(b">>> ")
        board.hear(b"\x01")
        board.hear(b"\x04")

    def stop(*_args, **_more):
        raise KeyboardInterrupt

    with Liar(story) as board, cable.Cable(board.port) as at:
        monkeypatch.setattr(at._transport, "enter_raw_repl", stop)
        with pytest.raises(KeyboardInterrupt):
            at.interrupt(lambda _: None)
        board._thread.join(5)
        assert not board._thread.is_alive(), "it has heard Ctrl-A, and what ends a command"


@pytest.mark.parametrize("port", ["nothing://x", "loop"])
def test_port_of_no_kind_is_one_line(item, port):
    shop.run("dev", "--port", port, "--product", item.root).refused(1, f"{port} cannot be opened", "[port]")


LIES: dict[str, dict[str, object]] = {
    "nothing": {"model": None},
    "a terminal's language": {"id": "\x1b]0;x\x07"},
    "a list": {"id": ["gh-1"]},
    "half a vendor": {"vendor": "00"},
    "no hex": {"device": "zz" * 16},
    "a number": {"index": 3},
    "no Base64": {"index": "!"},
    "a time": {"clock": "now"},
    "a word": {"dev": "yes"},
}


@pytest.mark.parametrize("lie", LIES)
def test_device_that_says_what_no_device_says(lie):
    with pytest.raises(GatehouseError, match="did not answer as expected"):
        devloop.greet(Board("", facts(**LIES[lie])))


@pytest.mark.parametrize(
    "lie", [{"reason": ["key"]}, {"reason": "\x1b[2J"}, {"restart": 1}, {"state": None}, {"detail": {}}]
)
def test_installer_that_says_what_no_installer_says(item, tmp_path, lie):
    offer = devloop.prepare(item, device(item), changed(item, tmp_path))
    told = {"restart": False, "state": "refused", "reason": "key", "detail": ""} | lie
    with pytest.raises(GatehouseError, match="did not answer as expected of its installer"):
        devloop.bring(Board("", "", "\x1e" + json.dumps(told)), offer, lambda _: None, lambda _: None)


def test_answer_that_nests_too_deep_is_an_error():
    with pytest.raises(GatehouseError, match="did not answer as expected"):
        devloop.greet(Board("", "\x1e" + "[" * 100_000))


@pytest.mark.parametrize(("told", "word"), [("OSError: 28", "has no room"), ("OSError: 5", "says: OSError: 5")])
def test_flash_that_is_full_is_told(item, tmp_path, monkeypatch, told, word):
    def full(*_):
        raise GatehouseError(f"the board at /dev/ttyX says: {told}", "state")

    board = Board("", "")
    monkeypatch.setattr(board, "put", full)
    offer = devloop.prepare(item, device(item), changed(item, tmp_path))
    with pytest.raises(GatehouseError, match=word):
        devloop.bring(board, offer, lambda _: None, lambda _: None)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), GatehouseError("the board says: ImportError", "state")])
def test_whatever_happens_at_the_prompt_the_board_is_let_go(item, monkeypatch, fault):
    """Somebody else's MicroPython, and Ctrl-C: no watchdog would end that prompt."""
    left = []
    monkeypatch.setattr(dev_command, "Cable", lambda port: Held(left))
    monkeypatch.setattr(devloop, "greet", lambda _: (_ for _ in ()).throw(fault))
    assert shop.run("dev", "--port", "/dev/ttyX", "--product", item.root).code == 1
    assert left == [devloop.CLEAN], "and what has come of the pack goes"


class Held(Board):
    def __init__(self, left):
        super().__init__()
        self.left = left

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def interrupt(self, say):
        pass

    def abandon(self, code="pass"):
        self.left.append(code)
