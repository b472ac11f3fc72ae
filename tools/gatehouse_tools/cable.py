"""MicroPython's REPL at the end of a cable, through mpremote's transport: how `gatehouse dev` reaches a stock build.

A device closes its REPL in the first statements of boot.py and of main.py. Before them Ctrl-C gets the prompt of a
stock build of MicroPython (docs/console.md); a production build has none.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
import struct
import textwrap
import time
from collections.abc import Callable, Iterator

import serial
from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from .errors import GatehouseError

BAUD = 115200  # that of a stock build; one that speaks USB does not care
RESET_S = 3.0  # from a reset to the end of main.py's first statements, at the slowest
RESETS = 2  # by cable: one that misses the window is a boot without a sign of health, and a fourth is recovery
BY_CABLE_S = 9.0  # for them
BY_HAND_S = 60.0  # somebody has to find the button
SILENCE_S = 20.0  # without a byte: over the slowest step of an update, an erased 64 KiB
QUIET_S = 0.1  # without a byte: the board has heard all that interrupted it, 260 bytes at most
ENTRIES, ENTRY_S = 3, 4.0  # times that the raw REPL is asked for, and seconds for it: what is sent may find no room
WRITE_S = 5.0  # for the board to take what is sent: at a UART it is gone at once, over USB somebody has to read
ANSWER_S = 600.0  # to one command: over the longest update
MOST = 1 << 18  # bytes of an answer: the largest index in Base64, or the dots of that update
_LINE = 4096  # bytes of the log that come without a line's end: shown as a line
_CHUNK = 1024  # bytes of a file in one command: what a small heap has room for beside its Base64
_GOES_ON = "it goes on with what it ran before; see that the cable is in, and try again"
_PROMPT = b">>> "
_CTRL_C = b"\x03" * 8
_OUT = b"\x03\x03\r\x01"  # of whatever runs or is being pasted, into the raw REPL


class Cable:
    """The board at a serial port. Use it in a with block; GatehouseError("port") when the cable is lost."""

    def __init__(self, port: str) -> None:
        self.port = port
        try:
            self._transport = SerialTransport(port, BAUD, timeout=SILENCE_S)
        except (TransportError, ValueError):  # that: a URL of a kind that pyserial does not know
            told = f"{port} cannot be opened: is the board there, and no other program (a monitor) at it?"
            raise GatehouseError(told, "port") from None
        # mpremote alone reads as long as bytes come, and writes as long as nobody takes them.
        self._until = self._left = math.inf  # of the answer that is waited for
        self._named = False  # whether it knows names that it was told
        self._read = self._transport.serial.read
        self._transport.serial.read = self._bounded
        self._transport.serial.write_timeout = WRITE_S

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, serial.SerialException):  # the port may be gone
            self._transport.close()

    def interrupt(self, say: Callable[[str], None]) -> None:
        """Reset the board and stop it before it closes its REPL; `say` asks a person to, where the port cannot.

        GatehouseError("locked") for a board that does not stop: a production build, or no MicroPython.
        """
        by_cable = self._reset()
        if not by_cable:
            say(f"{self.port} has no reset line: press the board's reset button, or take its power and give it back")
        end = time.monotonic() + (BY_CABLE_S if by_cable else BY_HAND_S)
        again, resets = time.monotonic() + RESET_S, 1
        seen = b""
        try:
            with self._lost():
                while _PROMPT not in seen:
                    if time.monotonic() > end:
                        told = f"no prompt at {self.port}: a production build has none, and a board without MicroPython"
                        raise GatehouseError(f"{told} neither (gatehouse flash)", "locked")
                    if by_cable and resets < RESETS and time.monotonic() > again:
                        self._reset()
                        again, resets = time.monotonic() + RESET_S, resets + 1
                    self._transport.serial.write(_CTRL_C)
                    time.sleep(0.002)
                    seen = (seen + self._read(self._transport.serial.in_waiting))[-1024:]
                self._enter()
        except BaseException as error:
            if _PROMPT in seen or isinstance(error, KeyboardInterrupt):
                self.abandon()
            raise

    def _enter(self) -> None:
        """From the prompt into the raw REPL. What interrupted the board is still under way, and fills its buffer."""
        port = self._transport.serial
        for attempt in range(ENTRIES):
            end, quiet = time.monotonic() + ENTRY_S, time.monotonic() + QUIET_S
            while time.monotonic() < min(end, quiet):
                if self._read(port.in_waiting):
                    quiet = time.monotonic() + QUIET_S
                time.sleep(0.002)
            self._expect()
            port.timeout = ENTRY_S
            try:
                with _quiet():
                    self._transport.enter_raw_repl(soft_reset=False, timeout_overall=ENTRY_S)
                break
            except TransportError:
                if attempt == ENTRIES - 1:
                    raise
            finally:
                port.timeout = SILENCE_S

    def _reset(self) -> bool:
        """Pull the EN line as a development board wires it. Whether this port has the lines."""
        try:
            self._transport.serial.dtr = False
            self._transport.serial.rts = True
            time.sleep(0.1)
            self._transport.serial.rts = False
        except OSError:  # a pseudo-terminal
            return False
        return True

    def run(self, code: str, shown: Callable[[bytes], None] | None = None) -> str:
        """Run code and return what it printed. `shown` gets each byte of it instead, as it comes.

        GatehouseError("state") with the exception that the board raised; "port" when it knows no name of before.
        """
        self._expect()
        try:
            with self._lost(), _quiet():
                told, failed = self._transport.exec_raw(code, timeout=SILENCE_S, data_consumer=shown)
        except TransportExecError as error:  # of another version of mpremote
            failed = error.error_output.encode()
        if failed:
            lines = failed.decode(errors="replace").strip().splitlines() or ["an exception without a name"]
            told = f"the board at {self.port} says: {textwrap.shorten(lines[-1], 200)}"
            if self._named and lines[-1].startswith("NameError: "):  # the names are ours, so they are gone
                told += ": it has been reset meanwhile (who else has the port open?); run it again"
                raise GatehouseError(told, "port")
            raise GatehouseError(told, "state")
        self._named = True
        return bytes(told).decode(errors="replace")

    def put(self, name: str, offset: int, data: bytes, after: str = "") -> None:
        """Write bytes into the open file that the board knows as `name`, and run `after` with each piece of them."""
        self.run(f"from binascii import a2b_base64; {name}.seek({offset})")
        for at in range(0, len(data), _CHUNK):
            piece = base64.b64encode(data[at : at + _CHUNK]).decode()
            self.run(f"{name}.write(a2b_base64('{piece}')); {after}")

    def restart(self) -> None:
        """Have the board reset itself, which ends the REPL."""
        self._expect()
        with self._lost():
            self._transport.exec_raw_no_follow("import machine; machine.reset()")

    def abandon(self, code: str = "pass") -> None:
        """Have the board run this code and reset itself, whatever its REPL is at; nothing is waited for."""
        last = f"import machine\ntry:\n{textwrap.indent(code, ' ')}\nfinally:\n machine.reset()\n"
        with contextlib.suppress(OSError):  # the port may be gone
            self._transport.serial.write(_OUT + last.encode() + b"\x04")

    def log(self) -> Iterator[str]:
        """What the board prints from now on, line by line; until the cable is lost."""
        line = b""
        with self._lost("its log ends here, and it goes on"):
            self._transport.serial.timeout = 0.1
            while True:
                line += self._read(max(1, self._transport.serial.in_waiting))
                *whole, line = line.split(b"\n")
                if len(line) > _LINE:
                    whole, line = [*whole, line], b""
                yield from (text.decode(errors="replace").rstrip("\r") for text in whole)

    def _expect(self) -> None:
        """An answer is waited for from now on."""
        self._until, self._left = time.monotonic() + ANSWER_S, MOST

    def _bounded(self, size: int = 1) -> bytes:
        """serial.read() for mpremote, within the limits of one answer."""
        data = self._read(size)
        self._left -= len(data)
        if self._left < 0 or time.monotonic() > self._until:
            told = f"the board at {self.port} sends without end, which no device of Gatehouse does"
            raise GatehouseError(f"{told}: look with a terminal what it is (mpremote connect {self.port} repl)", "size")
        return bytes(data)

    @contextlib.contextmanager
    def _lost(self, then: str = _GOES_ON) -> Iterator[None]:
        try:
            yield
        except TransportExecError:
            raise
        except (TransportError, serial.SerialException, OSError, struct.error) as error:
            told = f"the board at {self.port} does not answer any more ({error})"
            raise GatehouseError(f"{told}: {then}", "port") from None


def _quiet() -> contextlib.AbstractContextManager[object]:
    """mpremote prints what it did not expect: that is for no reader of ours."""
    return contextlib.redirect_stdout(io.StringIO())
