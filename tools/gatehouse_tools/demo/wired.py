"""A board on a serial port, for the demonstration: esptool writes it, a human takes its power, its UART is only read.

What is there may be a program behind a pseudo-terminal, as in the tests: then nothing says that it is a real board.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import boards, core, house, product, ui
from ..boards import Board
from ..commands import flash, provision
from ..device_image import SIMULATED
from ..errors import GatehouseError, UsageError
from ..identity import Credentials
from ..image import stock
from .bench import Kind

if TYPE_CHECKING:
    from .act import Act

_PATIENCE = 3.0  # a guess: no chip has told yet how much slower than a simulated board it is
_PLUG_S = 180.0  # for a human to pull a plug, and for the device to join again
_SLOW = 1500  # bytes/s of the packs while a plug is to be pulled; below 500 a device gives the server up
_UART = 115200  # MicroPython's
_POLL_S = 0.3
_MAX_LINE = 4096
_UNDER_WAY = ("downloading", "installing")


@dataclass(frozen=True)
class Wiring:
    """What is at a port, and with what it is to be made a device."""

    port: str
    board: Board
    firmware: Path
    host: str
    wifi: Credentials
    replace: bool

    @property
    def words(self) -> str:
        """What to call it."""
        return f"a program on {self.port}, no board" if is_terminal(self.port) else f"real board on {self.port}"

    @property
    def kind(self) -> Kind:
        """For terminal and page."""
        by_hand = "The plug was pulled by hand, when the demonstration asked for it."
        notes = [f"The house: broker, pack server and time server are real programs on this machine, at {self.host}."]
        notes.append(
            "The power: somebody pulls the plug when this page asks for it. A chip reports the same cause after a "
            "reset by its EN line, so that the power really went is that person's word."
        )
        if is_terminal(self.port):
            notes.insert(0, f"The board: {self.port} is a pseudo-terminal, so a program plays its part.")
            notes.append("Left out: guessing the password, for the program's port of HTTPS is not known.")
            return Kind(self.words, tuple(notes), frozenset({"password"}), resets=False, caption=by_hand)
        return Kind(self.words, tuple(notes), resets=False, caption=by_hand)


def is_terminal(port: str) -> bool:
    """Whether a port is a pseudo-terminal, behind which there is a program of this machine."""
    return os.path.realpath(port).startswith(("/dev/pts/", "/dev/ttys"))  # Linux, macOS


def wiring(
    port: str, host: str | None, firmware: Path | None, wifi: Path | None, board: str | None, replace: bool
) -> Wiring:
    """Look at everything before anything is made: what was given, then the board. Nothing is written to it.

    UsageError or GatehouseError says what is missing or wrong. The Wi-Fi is asked for at a terminal when no file is
    given.
    """
    if firmware is None:
        raise UsageError("--device writes a whole board: give --firmware FILE, MicroPython's .bin for it")
    data = product.read(firmware)
    kind = _board(data, firmware, board)
    stock.split(data, kind.chip, str(firmware))
    check_host(host, port)
    assert host  # noqa: S101 asked for above
    found = Wiring(port, kind, firmware.resolve(), host, provision.joining(kind, wifi), replace)
    from .. import flasher  # pyserial and esptool: slow to import, and only needed here

    with flasher.connect(port, kind.chip, kind.name, flash.BAUD) as connected:
        connected.check(kind, replace)
    return found


def _board(firmware: bytes, path: Path, name: str | None) -> Board:
    """The board that is named, else the only one that has the firmware's chip."""
    if name:
        board = boards.load(name)
        if board.chip == SIMULATED:
            raise UsageError(f"--board {name} is the simulated board: leave --device out, and it is played on that one")
        return board
    chip = stock.read_image(firmware, str(path)).chip
    names = sorted(one.parent.name for one in core.source("boards").glob(f"*/{boards.FILE}"))
    fitting = [one for one in map(boards.load, names) if one.chip == chip]
    if len(fitting) != 1:
        told = f"boards with an {stock.chip_name(chip)}: {', '.join(one.name for one in fitting) or 'none'}"
        raise UsageError(f"--device needs --board NAME with this firmware; {told}")
    return fitting[0]


def check_host(host: str | None, port: str) -> None:
    """UsageError unless a board at `port` can reach this machine as `host`, as far as that can be told here."""
    advice = "the address that this machine has in the board's Wi-Fi, such as 192.168.1.20"
    if not host:
        raise UsageError(f"a board cannot reach this machine's loopback: give --host ADDRESS, {advice}")
    try:
        address = house.address_of(host)
        found = ipaddress.ip_address(address)
        with socket.socket() as probe:
            probe.bind((address, 0))
    except GatehouseError as error:
        raise UsageError(f"--host {host}: {error}; give {advice}") from None
    except OSError:
        raise UsageError(f"--host {host} is not an address of this machine; give {advice}") from None
    if found.is_unspecified or found.is_multicast or found.is_reserved:  # that: 255.255.255.255, too
        raise UsageError(f"--host {host} is no address that can be reached; give {advice}")
    if found.is_loopback and not is_terminal(port):
        raise UsageError(f"--host {host} is this machine's loopback, which a board cannot reach; give {advice}")


class Wired:
    """A board that `gatehouse flash` has written and started. Its UART goes into `log`, and proves nothing."""

    patience = _PATIENCE
    first_boots = 2  # a serial adapter may reset the chip when its port is opened

    def __init__(self, wiring: Wiring, log: Path) -> None:
        self.label = wiring.words
        self._port = wiring.port
        self._log = log.open("ab", buffering=0)
        self._last = b""
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"uart {wiring.port}", daemon=True)

    def start(self) -> None:
        """It runs since it was written; from now on its UART is read."""
        if not self._reader.is_alive():
            self._reader.start()

    def cut_in_update(self, act: Act, offer: Callable[[], None]) -> float:
        """By hand, while the files come slowly."""
        witness = act.device.witness
        since = witness.mark()
        server = act.stage.house.server
        server.rate = _SLOW
        try:
            act.bench(f"the pack server is slow now, {_SLOW:,} bytes a second: so that there is time for a plug")
            offer()
            begun = witness.wait(since, _half_way, act.within(60))
            if not begun:
                raise GatehouseError("the device did not begin the update, so its power was not cut", "timeout")
            back = self._unplugged(act, "Pull the plug now, in the middle of the update, and put it back.")
        finally:
            server.rate = 0
        boots = begun.claims["boots"]
        before = [one.claims for one in witness.history[since:] if one.claims["boots"] == boots][-1]
        if before.get("update", {}).get("state") not in _UNDER_WAY:
            raise GatehouseError("all was fetched already when the plug was pulled: once more, and faster", "state")
        return back

    def cut_now(self, act: Act) -> None:
        """By hand."""
        self._unplugged(act, "Pull the plug now, and put it back.")

    def _unplugged(self, act: Act, text: str) -> float:
        """Ask for it until a later boot reports that power came on: when that boot began, in Unix time."""
        witness, boots = act.device.witness, act.device.claims["boots"]
        since = witness.mark()
        act.ask(text)
        report = witness.wait(since, lambda told: told["boots"] > boots and told["reset"] == "power-on", _PLUG_S)
        if not report:
            told = f"within {_PLUG_S:.0f} s no report told of a boot after the power came on"
            raise GatehouseError(f"{told}: was the plug pulled, and put back?", "timeout")
        act.reported(f"boot {report.claims['boots']}, cause {report.claims['reset']}")
        return time.time() - report.claims["uptime"]

    def restore(self) -> None:
        """Nobody here can."""

    def warm(self, celsius: float) -> None:
        """It has a sensor of its own."""

    def https(self, claims: dict[str, Any]) -> tuple[str, int]:
        """Where its own report says that it is."""
        address = claims.get("wifi", {}).get("address")
        if not address:
            raise GatehouseError("the device does not report its address", "network")
        return address, 443

    def last_line(self) -> str:
        """Of the UART."""
        return self._last.decode(errors="replace").strip()

    def close(self) -> None:
        """Leave the port; the board keeps running."""
        self._over.set()
        if self._reader.is_alive():
            self._reader.join()
        self._log.close()

    def _read(self) -> None:
        """Keep what the UART says. Without power a chip's own USB is gone, and comes back."""
        import serial  # slow to import, as below

        gone = (serial.SerialException, OSError, termios.error)
        while not self._over.wait(_POLL_S):
            with contextlib.suppress(*gone), serial.Serial(self._port, _UART) as port:
                port.timeout = _POLL_S
                while not self._over.is_set():
                    line = port.read_until(b"\n", _MAX_LINE)
                    self._log.write(line)
                    if line.endswith(b"\n") and line.strip():
                        self._last = line


def _half_way(claims: dict[str, Any]) -> bool:
    """Whether some of an update's files are there, and not all."""
    update = claims.get("update", {})
    files = update.get("files") or {"done": 0, "total": 0}
    return update.get("state") in _UNDER_WAY and 0 < files["done"] < files["total"]


def warn_of(found: Wiring) -> None:
    """Say what is going to happen to the board."""
    ui.warn(f"{found.port}: its whole flash is erased and written; it becomes a device of this demonstration")
