"""The bench on which a simulated board stands: its power, reset line, watchdog, clock, air, and the flash under it."""

from __future__ import annotations

import collections
import fcntl
import hashlib
import mmap
import os
import random
import selectors
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import GatehouseError
from ..image import partitions as tables
from . import runtime
from .chip import EPOCH, Chip, Partitions
from .flash import Flash, FlashFault, PowerCut
from .nvs import Nvs
from .ota import Ota
from .process import PRODUCTION, RAW_REPL, SLOW_START, TERMINAL, Process
from .uart import Terminal, Wire

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5  # machine.reset_cause()

# Places of the numbers that the device shares, 8 bytes each; those of boards/unix/shims that use one name it, too.
_CUT, _OPERATIONS, _CLOCK, _STEP, _LINKED, _WDT_TIMEOUT, _WDT_FED, _FAULT, *_MORE = range(13)
_BUSY, _WANTED, _DUE, _HTTPS, _COUNT = _MORE
_RESETS = {"reset": HARD_RESET, "soft-reset": SOFT_RESET}
_KEPT_LINES = 2000
_LOCK_S = 1.0  # for which a fork that has not come to its exec() may keep a lock, on a loaded machine
_SHOWN_LINES = 15
_MAX_LINE = 65536
_HELD_S = 0.1  # an interrupt that comes again so soon is the same: MicroPython on Unix ends at a second that waits
_COMPUTES = 5  # clock ticks of its processor time until a device that was asked gets its interrupt as a signal
_RAW, _FRIENDLY = b"raw REPL; CTRL-B to exit", b'Type "help()"'  # what the REPL says when it becomes that
_SOFT_REBOOT = b"MPY: soft reboot\r\n"
_AT_PROMPT = "boot.py or main.py has ended; a chip would be at its prompt now"


class BoardStopped(GatehouseError):
    """What was waited for cannot happen any more, or did not in time."""


class Event(NamedTuple):
    """Something that happened to the board.

    kind: "power-on", "boot" (detail: the reset cause), "reset", "soft-reset", "wdt" (armed, or another timeout;
    detail: ms), "wdt-reset", "cut" (detail: the operation), "power-off", "repl" (boot.py or main.py has ended: a chip
    would be at its prompt now, and a board with a terminal is), "fault" (an impossible flash operation), "died" (the
    process ended by itself).
    """

    kind: str
    detail: str = ""


class _Bench:
    """What chip.Bench asks for, and the numbers that the device shares."""

    def __init__(self, unique_id: bytes, kind: str) -> None:
        self.cause = PWRON_RESET
        self.unique_id = unique_id
        self.kind = kind
        self.celsius = 21.5
        self.access_point = True
        self.address = "127.0.0.1"
        self.signal = -50
        self.pins: dict[int, bool] = {}
        self.fuses: dict[int, int] = {}
        self.interrupting = -1  # the character that interrupts
        self.prompt: Callable[[], None] = lambda: None
        self.memory = os.memfd_create("board")
        os.ftruncate(self.memory, _COUNT * 8)
        self._numbers = mmap.mmap(self.memory, _COUNT * 8)

    def get(self, place: int) -> int:
        return int(struct.unpack_from("<q", self._numbers, place * 8)[0])

    def put(self, place: int, value: int) -> None:
        struct.pack_into("<q", self._numbers, place * 8, value)

    def clock(self) -> float:
        return time.time() + self.get(_CLOCK) / 1e6

    def set_clock(self, unix: float) -> None:
        self.put(_CLOCK, round((unix - time.time()) * 1e6))

    def link(self, up: bool) -> None:
        self.put(_LINKED, int(up))

    def interrupt(self, character: int) -> None:
        self.interrupting = character

    def close(self) -> None:
        self._numbers.close()
        os.close(self.memory)


def _reserve(port: int) -> socket.socket:
    """A port of the loopback for a device: bound and never listening, so that nobody else gets it.

    The device does all the same: both have SO_REUSEADDR.
    """
    reserved = socket.socket()
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", port))
    except OSError as error:
        reserved.close()
        raise GatehouseError(f"port {port} of 127.0.0.1: {error.strerror}; choose another one") from None
    return reserved


def _lock(descriptor: int) -> None:
    """Lock a flash image for one board. BlockingIOError where another one has it.

    A program that another thread of this process has just started holds our last lock too, until its exec() closes it.
    """
    end = time.monotonic() + _LOCK_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


class Board:
    """One board with the flash `image`, off at first. Use it in a with block: at its end nothing is left running.

    heap: -X heapsize=; log: a file that gets the UART's output and the events; seed: of what cuts leave behind;
    on_event: called with each Event, in the board's own thread; umqtt_dir: the folder that has umqtt/simple.py;
    unique_id: machine.unique_id() as 6 bytes, by default from the image's path; chip: whose eFuses it has;
    terminal: give its UART input, and a terminal for it to open from outside; production: its build has no REPL, hears
    no Ctrl-C, and resets where another would be at its prompt; https_port: of the host's loopback, which stands for the
    device's port 443, by default a free one that stays the same for this object; slow_start: boot.py and main.py begin
    25 ms late, in which a chip would read and compile them, and Ctrl-C gets its prompt.
    """

    def __init__(
        self,
        image: Path,
        heap: str = "128wK",
        log: Path | None = None,
        seed: int = 0,
        on_event: Callable[[Event], None] | None = None,
        umqtt_dir: Path | None = None,
        unique_id: bytes | None = None,
        chip: str = "esp32",
        terminal: bool = False,
        production: bool = False,
        https_port: int = 0,
        slow_start: bool = False,
    ) -> None:
        self.image = Path(image)
        self.heap = heap
        self.auto_power = False  # whether power comes back by itself after a cut
        self.boots = 0  # since this object was made
        self.lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)  # of the UART, newest last
        self.events: list[Event] = []
        self.running = False  # whether it has power
        self.failure = ""  # why nothing more will happen, while that is so
        self._terminal = Terminal() if terminal else None
        self.terminal = self._terminal.path if self._terminal else ""  # what a terminal program or mpremote opens
        self._wire = Wire()
        self._listens = False  # whether MicroPython runs, and hears its UART
        self._prompt = self._raw = False  # whether the REPL is open, and whether it was the raw one last
        self._reads = False  # whether that has come to reading its first line
        self._interrupted = 0.0  # when it was last
        self._asked: int | None = None  # to interrupt itself: its effort then
        kinds = ((TERMINAL, terminal), (PRODUCTION, production), (SLOW_START, slow_start))
        self._made = sum(bit for bit, wanted in kinds if wanted)
        self._files = runtime.device_files(umqtt_dir)
        self._on_event = on_event
        self._chance = random.Random(seed)  # noqa: S311 a seed that can be given again is the point
        self._log = open(log, "ab", buffering=0) if log else None  # noqa: SIM115 closed by close()
        path = str(self.image.resolve()).encode()
        self._bench = _Bench(unique_id or b"\x02" + hashlib.sha256(path).digest()[:5], chip)
        self._bench.prompt = self._at_prompt
        self._reserved = _reserve(https_port)
        self.https_port: int = self._reserved.getsockname()[1]
        self._bench.put(_HTTPS, self.https_port)
        self._descriptor = -1  # of the image, while there is power
        self._app: tables.Partition | None = None  # that the bootloader has started
        self._process: Process | None = None
        self._partial = b""  # a line of the UART that has not ended
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = os.pipe()
        self._selector.register(self._wake_out, selectors.EVENT_READ, self._take_order)
        if self._terminal:
            self._selector.register(self._terminal, selectors.EVENT_READ, self._read_terminal)
        self._orders: collections.deque[tuple[Callable[[], object], Future[None]]] = collections.deque()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name=f"board {self.image.name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What a bench does to a board.

    def power_on(self, cut_at: int | None = None) -> None:
        """Give it power. With `cut_at` the power goes again at that flash operation, the bootloader's included."""
        self._order(lambda: self._power_on(cut_at))

    def power_off(self) -> None:
        """Take the power away, now."""
        self._order(self._power_off)

    def cut_at(self, count: int) -> None:
        """Take the power away in the middle of the `count`-th flash operation from now."""
        self._bench.put(_CUT, self.operations + count)

    def set_clock(self, unix: float) -> None:
        """Set the device's clock, as NTP would. It goes on from there until power-off."""
        self._bench.set_clock(unix)

    def step(self, seconds: float) -> None:
        """Let time pass at once: the clock and ticks_ms() move, the watchdog does not."""
        self._bench.put(_CLOCK, self._bench.get(_CLOCK) + round(seconds * 1e6))
        self._bench.put(_STEP, self._bench.get(_STEP) + round(seconds * 1e3))

    def set_sensor(self, celsius: float) -> None:
        """What the temperature sensor shows."""
        self._bench.celsius = celsius

    def set_signal(self, dbm: int) -> None:
        """How strong the access point is received."""
        self._bench.signal = dbm

    def set_pin(self, number: int, level: bool) -> None:
        """The level at an input pin; high until it is set."""
        self._bench.pins[number] = level

    def burn(self, address: int, bits: int) -> None:
        """Burn eFuses: bits of the word that the chip shows at this address."""
        self._bench.fuses[address] = self._bench.fuses.get(address, 0) | bits

    def type(self, data: bytes) -> None:
        """Send bytes to its UART, at its speed. Needs a board with a terminal."""
        if not self._terminal:
            raise GatehouseError("this board was made without terminal")
        self._order(lambda: self._wire.put(data))

    def wifi(self, up: bool, address: str = "127.0.0.1") -> None:
        """Whether the access point is in reach, and which address it gives: the host's loopback is the network."""
        self._bench.access_point, self._bench.address = up, address
        self._order(lambda: self._chip.access_point_changed() if self.running else None)

    def close(self) -> None:
        """Power off and end everything that belongs to this board."""
        if self._closing:
            return
        self.power_off()
        self._closing = True
        os.write(self._wake_in, b"x")
        self._thread.join()
        self._selector.close()
        self._reserved.close()
        self._bench.close()
        if self._terminal:
            self._terminal.close()
        os.close(self._wake_out)
        os.close(self._wake_in)
        if self._log:
            self._log.close()

    # What can be seen of it.

    @property
    def pid(self) -> int | None:
        """The process that is the device now, for who asks the operating system about it; None without power."""
        process = self._process
        return process.pid if process else None

    @property
    def operations(self) -> int:
        """Flash operations (programs and erases of any part) since power-on, resets included."""
        return self._bench.get(_OPERATIONS)

    def wait(self, predicate: Callable[[Board], Any], timeout: float) -> Any:
        """The first true result of `predicate(board)`, asked after each line and event; it must only look.

        BoardStopped after `timeout` seconds, and at once when the board can do nothing more.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                result = predicate(self)
                if result:
                    return result
                left = deadline - time.monotonic()
                comes_back = self.auto_power and self.events and self.events[-1].kind == "cut"
                why = self.failure or ("" if self.running or comes_back else "it has no power")
                if why or left <= 0:
                    shown = [f"  {line}" for line in list(self.lines)[-_SHOWN_LINES:]]
                    raise BoardStopped("\n".join([f"{self.image.name}: {why or f'not within {timeout} s'}", *shown]))
                self._changed.wait(left)

    def wait_line(self, text: str, timeout: float) -> str:
        """The newest line of the UART that has `text` in it; waits for one."""
        line = self.wait(lambda board: next((line for line in reversed(board.lines) if text in line), ""), timeout)
        return str(line)

    # The board's thread. Only it starts and ends processes; the others give it orders.

    def _order(self, action: Callable[[], object]) -> None:
        if self._closing:
            raise GatehouseError("this board was closed")
        if threading.current_thread() is self._thread:  # an on_event that reacts
            action()
            return
        done: Future[None] = Future()
        self._orders.append((action, done))
        os.write(self._wake_in, b"x")
        done.result()

    def _take_order(self) -> None:
        os.read(self._wake_out, 1)
        if not self._orders:
            return
        action, done = self._orders.popleft()
        try:
            action()
        except BaseException as error:  # noqa: BLE001 it belongs to the thread that gave the order
            done.set_exception(error)
        else:
            done.set_result(None)

    def _serve(self) -> None:
        while not self._closing:
            waits = [left for left in (self._watchdog_left(), self._wire.left()) if left is not None]
            ready = self._selector.select(min(waits, default=None))
            for key, _ in sorted(ready, key=lambda one: one[0].fileobj is getattr(self._process, "uart", None)):
                if self._selector.get_map().get(key.fd) is key:  # the handler before may have ended the process
                    self._guarded(key.data)
            if self._watchdog_left() == 0:
                self._guarded(self._bite)
            self._guarded(self._hear)

    def _guarded(self, action: Callable[[], None]) -> None:
        """An error in here, or in on_event, ends the run; nobody may wait for a thread that is gone."""
        try:
            action()
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            self._on_event = None
            self._stop("died", f"its supervisor failed: {error!r}")

    def _bite(self) -> None:
        self._happened("wdt-reset", str(self._bench.get(_WDT_TIMEOUT)))
        self._kill()
        self._boot(WDT_RESET)

    def _watchdog_left(self) -> float | None:
        """Seconds until the watchdog bites; None while it is not armed."""
        timeout = self._bench.get(_WDT_TIMEOUT) if self._process else 0
        if not timeout:
            return None
        return max(0.0, self._bench.get(_WDT_FED) / 1e6 + timeout / 1e3 - time.monotonic())

    # The UART's way in.

    def _read_terminal(self) -> None:
        assert self._terminal  # noqa: S101 it is registered
        self._wire.put(self._terminal.typed())

    def _hear(self) -> None:
        """Bytes have come over the wire: for the program to read, but for the one that interrupts it."""
        data = self._wire.take()
        process = self._process
        if not data or not process or not self._listens:
            return
        interrupting = 3 if self._prompt else -1 if self._made & PRODUCTION else self._bench.interrupting
        if self._prompt and not self._reads:
            process.type(data)  # a chip keeps it until the REPL reads; here a signal would end MicroPython
        elif interrupting >= 0 and interrupting in data and not (self._prompt and process.at_prompt()):
            before, _, after = data.partition(bytes([interrupting]))
            process.type(before)
            if time.monotonic() - self._interrupted < _HELD_S:
                self._wire.back(after)
            elif self._interrupt(process):
                self._interrupted = time.monotonic()
                self._wire.back(after)
            else:
                self._wire.back(data[len(before) :])
        else:
            if self._asked is not None:  # its first byte is an interrupt, and what it was for has ended
                self._asked, data = None, data[1:]
                self._bench.put(_DUE, 0)
            process.type(data)

    def _interrupt(self, process: Process) -> bool:
        """KeyboardInterrupt; whether it came.

        A chip raises it between two steps of Python, and what it has in C is not torn apart. Here some of that is
        Python, too. So the device is asked to raise it where it calls what a chip has in C (shims/host.py), and gets a
        signal when it does not: while it waits, or has computed for a while.
        """
        waits, taken = process.effort()
        if self._asked is None:
            self._asked = taken
            self._bench.put(_DUE, 1)
            return False
        if not self._bench.get(_DUE):
            self._asked = None
            return True
        if not waits and taken - self._asked < _COMPUTES:
            return False
        self._bench.put(_WANTED, 1)  # from here on it does not begin to call
        calls = self._bench.get(_BUSY) or (self._prompt and process.at_prompt())
        if not calls:
            self._bench.put(_DUE, 0)
            self._asked = None
            process.interrupt()
        self._bench.put(_WANTED, 0)
        return not calls

    def _put_off(self) -> None:
        """A signal came in the middle of the file system: the interrupt is as if it were still on the wire."""
        interrupting = 3 if self._prompt else self._bench.interrupting
        if self._process and interrupting >= 0:
            self._asked, self._interrupted = self._process.effort()[1], 0.0
            self._wire.back(bytes([interrupting]))

    def _at_prompt(self) -> None:
        """The device's last words before its REPL opens."""
        process = self._process
        assert process  # noqa: S101 it asks
        self._print(process.printed() or b"")  # it waits for the answer, so that all of its output is there
        process.prompt()
        self._asked = None
        self._bench.put(_DUE, 0)
        self._prompt, self._reads = True, False
        if self._raw:
            process.type(b"\x01")  # it is the raw one again
        self._happened("repl")

    # Power.

    def _power_on(self, cut_at: int | None) -> None:
        if self.running:
            raise GatehouseError(f"{self.image} has power already")
        try:
            descriptor = os.open(self.image, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise GatehouseError(f"{self.image}: {error.strerror}") from None
        try:
            _lock(descriptor)
            self._table = tables.from_binary(os.pread(descriptor, tables.TABLE_SIZE, tables.TABLE_OFFSET))
            disk = tables.find(self._table, "vfs")
        except BlockingIOError:
            os.close(descriptor)
            raise GatehouseError(f"{self.image} belongs to a board that has power", "busy") from None
        except GatehouseError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._disk = (disk.offset, disk.size)
        self._flash = Flash(descriptor, self._count, self._chance)
        self._bench.put(_OPERATIONS, 0)
        self._bench.put(_CUT, cut_at or 0)
        self._bench.put(_STEP, 0)
        self._bench.set_clock(EPOCH)
        self._happened("power-on", running=True)
        if self._log:  # for who reads it: a browser needs the number
            self._log.write(b"[board] https 127.0.0.1:%d\n" % self.https_port)
        self._boot(PWRON_RESET)

    def _count(self) -> bool:
        """One more flash operation; true when the power goes in it."""
        self._bench.put(_OPERATIONS, self.operations + 1)
        return self.operations == self._bench.get(_CUT)

    def _power_off(self) -> None:
        if self.running:
            self._unplug("power-off")

    def _unplug(self, kind: str, detail: str = "", failure: str = "") -> None:
        self._kill()
        os.close(self._descriptor)
        self._happened(kind, detail, failure=failure, running=False)

    def _cut(self) -> None:
        self._unplug("cut", str(self.operations))
        if self.auto_power:
            self._power_on(None)

    def _stop(self, kind: str, why: str) -> None:
        """The run cannot go on."""
        self._unplug(kind, why, why)

    # One boot.

    def _boot(self, cause: int) -> None:
        """What the ROM, the bootloader and MicroPython do before Python, then the process."""
        self.failure = ""
        self.boots += 1
        self._bench.cause = cause
        if cause != SOFT_RESET:  # the chip's watchdog stays armed over that one
            self._bench.put(_WDT_TIMEOUT, 0)
            self._raw = False
        self._bench.put(_LINKED, 0)
        self._bench.put(_BUSY, 0)
        self._bench.put(_DUE, 0)
        self._bench.interrupt(-1)
        try:
            ota = Ota(self._flash, self._table)
            if cause != SOFT_RESET:  # that one starts MicroPython again and nothing before it
                self._app = ota.bootloader()
            store = next((row for row in self._table if row.name == "nvs"), None)
            nvs = Nvs(self._flash, store.offset, store.size) if store else None
        except PowerCut:
            self._cut()
            return
        except FlashFault as fault:
            self._stop("fault", str(fault))
            return
        self._chip = Chip(self._bench, nvs, Partitions(self._flash, self._table, ota, self._app))
        made = self._made | (RAW_REPL if self._raw else 0)
        process = Process(self._files, self.heap, self._descriptor, self._bench.memory, self._disk, made)
        self._process = process
        self._selector.register(process.uart, selectors.EVENT_READ, lambda: self._read_uart(process))
        self._selector.register(process.channel, selectors.EVENT_READ, lambda: self._read_packet(process))

    def _kill(self) -> int:
        """End the process, if there is one, and take in what it printed last. Returns its exit status."""
        process, self._process = self._process, None
        self._listens = self._prompt = False
        self._asked = None
        if not process:
            return 0
        self._selector.unregister(process.uart)
        self._selector.unregister(process.channel)
        printed, status = process.kill()
        self._print(printed + b"\n" if self._partial or (printed and not printed.endswith(b"\n")) else printed)
        return status

    def _read_uart(self, process: Process) -> None:
        printed = process.printed()
        if printed:
            self._print(printed)
        elif printed is not None:
            self._ended()

    def _read_packet(self, process: Process) -> None:
        packet = process.receive()
        if not packet:
            self._ended()
        elif packet == Chip.FETCH or packet.startswith(b"("):
            try:
                process.send(self._chip.answer(packet, process.receive))
            except PowerCut:
                self._cut()
            except FlashFault as fault:
                self._stop("fault", str(fault))
        else:
            kind, _, detail = packet.decode().partition(" ")
            if kind not in ("boot", "wdt", "put-off"):  # it waits for its end, so that all of its output is there
                self._print(process.printed() or b"")
            self._take_event(kind, detail)

    def _ended(self) -> None:
        """The process has ended by itself: at the prompt that is how Ctrl-D ends, but for a signal's end."""
        at_prompt = self._prompt
        status = self._kill()
        if at_prompt and status >= 0:
            self._print(_SOFT_REBOOT)
            self._happened("soft-reset")
            self._boot(SOFT_RESET)
        else:
            self._stop("died", f"the process ended by itself with status {status}")

    def _take_event(self, kind: str, detail: str) -> None:
        if kind in _RESETS:
            self._happened(kind)
            self._kill()
            self._boot(_RESETS[kind])
        elif kind == "cut":
            if detail:
                self._flash.half_erase(int(detail))
            self._cut()
        elif kind == "fault":
            self._stop(kind, f"programmed a 0 back to 1 at 0x{self._bench.get(_FAULT):x}")
        elif kind == "wdt":
            self._happened(kind, str(self._bench.get(_WDT_TIMEOUT)))
        elif kind == "put-off":
            self._put_off()
        elif kind == "repl":
            waits = self._bench.get(_WDT_TIMEOUT)  # then the watchdog will do something about it
            self._happened(kind, failure="" if waits else _AT_PROMPT)
        else:
            self._listens = True
            self._happened(kind, str(self._bench.cause))

    def _print(self, data: bytes) -> None:
        """Bytes from the UART."""
        if self._terminal:
            self._terminal.show(data)
        if self._prompt and (_RAW in data or _FRIENDLY in data):
            self._raw = data.rfind(_RAW) > data.rfind(_FRIENDLY)
        self._reads = self._reads or (self._prompt and any(said in self._partial + data for said in (_RAW, _FRIENDLY)))
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _MAX_LINE:
            lines, self._partial = [*lines, self._partial], b""
        if lines:
            if self._log:
                self._log.write(b"".join(line + b"\n" for line in lines))
            with self._changed:
                self.lines.extend(line.rstrip(b"\r").decode(errors="replace") for line in lines)
                self._changed.notify_all()

    def _happened(self, kind: str, detail: str = "", *, failure: str = "", running: bool | None = None) -> None:
        event = Event(kind, detail)
        if self._log:
            self._log.write(f"[board] {kind} {detail}".rstrip().encode() + b"\n")
        with self._changed:  # who waits sees all of it or nothing
            self.events.append(event)
            self.failure = failure
            self.running = self.running if running is None else running
            self._changed.notify_all()
        if self._on_event:
            self._on_event(event)
