"""A board on a serial port, through esptool: which chip, whether it may be written; write it, read it back."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import serial
from esptool import cmds, logger
from esptool.util import FatalError

from . import cbor, flash_plan
from .boards import Board
from .errors import GatehouseError
from .flash_plan import Segment
from .image import flash, nvs, stock
from .image import partitions as tables

CONNECT_ATTEMPTS = 3
_UNTOUCHED = ("chip", "locked", "size", "state", "provisioned")  # refused before anything was written
_VERIFY = 1 << 20  # bytes that one MD5 of the chip covers
Step = Callable[[int], None]


class _Silent(logger.TemplateLogger):
    """esptool's talk, left out but for its progress."""

    def __init__(self) -> None:
        self.step: Callable[[int, int], None] = lambda done, total: None

    def print(self, *args: Any, **kwargs: Any) -> None: ...
    def note(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...
    def stage(self, finish: bool = False) -> None: ...
    def set_verbosity(self, verbosity: str) -> None: ...

    def progress_bar(
        self, cur_iter: int, total_iters: int, prefix: str = "", suffix: str = "", bar_length: int = 30
    ) -> None:
        self.step(cur_iter, total_iters)


@dataclass
class Found:
    """A board at a port, with esptool's stub running on it."""

    esp: Any
    port: str
    chip: str
    mac: str
    flash_size: int

    def provisioned(self, board_table: list[tables.Partition]) -> str | None:
        """The id of the device that this board is already; None for none. Reads partition table and NVS."""
        with _errors(self.port, "is read"):
            data = self.esp.read_flash(tables.TABLE_OFFSET, tables.TABLE_SIZE)
            try:
                table = tables.from_binary(data)
            except GatehouseError:
                table = board_table  # a damaged table hides no device
            part = next((one for one in table if one.kind() == "data, nvs" and one.end <= self.flash_size), None)
            data = self.esp.read_flash(part.offset, part.size) if part else b""
        try:
            values = nvs.read_nvs(data).get(flash.NAMESPACE, {})
        except GatehouseError:
            return None
        if "device_key" not in values:
            return None
        with contextlib.suppress(GatehouseError, KeyError, TypeError):
            identity = values["identity"]
            assert isinstance(identity, bytes)  # noqa: S101 a blob
            return str(cbor.loads(identity, "identity")[1])
        return "whose id cannot be read"

    def check(self, board: Board, replace: bool) -> None:
        """GatehouseError("size" | "provisioned") unless it has the board's flash, and is no device or may be lost."""
        if self.flash_size < board.flash_size:
            told = f"{self.port} has {flash_plan.size_words(self.flash_size)} of flash; {board.name} has"
            raise GatehouseError(f"{told} {flash_plan.size_words(board.flash_size)}: choose its board", "size")
        other = self.provisioned(board.partitions())
        if other and not replace:
            told = f"{self.port} is the device {other} already: its keys, counters and journal would be lost"
            raise GatehouseError(f"{told}; --replace does it all the same", "provisioned")

    def write(self, segments: list[Segment], step: Callable[[str, int, int], None]) -> None:
        """Erase the whole flash and write. step(name, done, total) tells how far each segment is."""
        silent = _logger()
        with _errors(self.port, "is written", "plug it in and call this again, with --replace: nothing here is lost"):
            self.esp.erase_flash()
            for one in segments:
                silent.step = functools.partial(step, one.name)
                cmds.write_flash(self.esp, [(one.offset, one.data)], flash_size="keep")

    def verify(self, image: bytes, step: Step) -> None:
        """GatehouseError("digest") unless the flash holds `image`: the chip's MD5 of each MiB is compared.

        step(bytes) follows each of them.
        """
        with _errors(self.port, "is read back", "call this again, with --replace"):
            for at in range(0, len(image), _VERIFY):
                piece = image[at : at + _VERIFY]
                wanted = hashlib.md5(piece, usedforsecurity=False).hexdigest()  # what the stub has; no attacker here
                if self.esp.flash_md5sum(at, len(piece)) != wanted:
                    told = (
                        f"{self.port}: from 0x{at:x} to 0x{at + len(piece):x} the flash does not hold what was written"
                    )
                    raise GatehouseError(f"{told}: call this again; if it stays so, the flash is worn", "digest")
                step(len(piece))

    def start(self) -> None:
        """Reset the chip, so that it starts what was written."""
        _reset(self.esp)


@contextlib.contextmanager
def connect(port: str, chip: str, board: str, baud: int) -> Iterator[Found]:
    """The board at `port`, once its chip is `chip` and nothing on it is locked. GatehouseError says what it is."""
    _logger()
    esp = None
    try:
        with _errors(port, "is looked for", "hold BOOT while you press RESET, and check cable and port"):
            try:
                esp = cmds.detect_chip(port, connect_attempts=CONNECT_ATTEMPTS)
            except ValueError as error:  # a URL of a kind that pyserial does not know
                raise OSError(str(error)) from None
        found = str(esp.CHIP_NAME)
        if found != stock.chip_name(chip):
            told = f"{port} has an {found}; {board} has an {stock.chip_name(chip)}"
            raise GatehouseError(f"{told}: plug in the right board, or provision for the one that is there", "chip")
        with _errors(port, "is asked what is locked"):
            _check_locks(esp, port)
        with _errors(port, "is started", "unplug it, plug it in, try again"):
            esp = cmds.run_stub(esp)
            if baud != esp._port.baudrate:
                esp.change_baud(baud)
            cmds.attach_flash(esp)
            size = cmds.detect_flash_size(esp)
            mac = ":".join(f"{byte:02x}" for byte in esp.read_mac())
        if size is None:
            raise GatehouseError(f"{port}: the size of its flash cannot be told: is there one, is it damaged?", "size")
        yield Found(esp, port, chip, mac, _bytes(size))
    except GatehouseError as error:
        if error.reason in _UNTOUCHED:  # it runs what it ran before
            _reset(esp)
        raise
    finally:
        with contextlib.suppress(AttributeError, OSError, serial.SerialException):
            esp._port.close()  # type: ignore[union-attr]  # esptool's own main() closes it so


def _reset(esp: Any) -> None:
    with contextlib.suppress(FatalError, OSError, serial.SerialException, termios.error):
        cmds.reset_chip(esp, "hard-reset")


def _check_locks(esp: Any, port: str) -> None:
    """GatehouseError("locked") for a chip whose eFuses keep this from working, or from being what it seems."""
    locked = ""
    if esp.secure_download_mode:
        locked = "secure download mode"
    elif esp.get_flash_encryption_enabled():
        locked = "flash encryption"
    elif esp.get_secure_boot_enabled():
        locked = "secure boot"
    if locked:
        told = f"{port}: {locked} is burned into the eFuses of this chip, which nobody can undo: a production device"
        raise GatehouseError(f"{told} takes signed updates only (docs/production.md)", "locked")


def _bytes(size: str) -> int:
    return int(size[:-2]) << (20 if size.endswith("MB") else 10)


@functools.cache  # esptool takes another logger once
def _logger() -> _Silent:
    silent = _Silent()
    logger.log.set_logger(silent)
    return silent


@contextlib.contextmanager
def _errors(port: str, what: str, advice: str = "check cable and port, try again") -> Iterator[None]:
    """Whatever esptool and the port raise, as one line: the board went away while it `what`."""
    try:
        yield
    except (FatalError, serial.SerialException, OSError, termios.error) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise GatehouseError(
            f"{port}: stopped while the board {what} ({lines[0].rstrip('.')}): {advice}", "port"
        ) from None
