"""A board with a plug at one port: the ROM loader, until esptool has written it and left; then what it wrote runs.

A pseudo-terminal has no reset line. What stands for esptool's reset is that it closes the port after it has written;
the simulated board then starts from the very bytes in the flash, on the same port.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from pathlib import Path

from gatehouse_tools.sim.board import Board

from .rom_loader import Rom

_POLL_S = 0.02


class Chip(Rom):
    """`folder` gets the flash image and the log of the board. board: that one, once it has been written."""

    def __init__(self, folder: Path, heap: str = "160wK", flash: bytes = b"") -> None:
        super().__init__(flash=flash)
        os.close(self._slave)  # so that it is seen when whoever opened the port has left
        self._image, self._log, self._heap = folder / "chip.bin", folder / "chip.log", heap
        self.board: Board | None = None

    def _unplug(self) -> None:
        if not self._gone:
            self._slave = os.open(self.port, os.O_RDWR | os.O_NOCTTY)  # to be kept, as the base class says
        super()._unplug()

    def _hung_up(self) -> bool:
        if self.writes:
            return True
        select.select([self._ended], [], [], _POLL_S)
        return False

    def run(self) -> None:
        super().run()
        if self.writes and not self._gone and not select.select([self._ended], [], [], 0)[0]:
            self._image.write_bytes(self.flash)
            with Board(self._image, heap=self._heap, log=self._log, terminal=True, chip="esp32s3") as board:
                self.board = board
                board.power_on()
                self._bridge(board)

    def _bridge(self, board: Board) -> None:
        """What the board prints goes to who has the port open, what is typed there to the board."""
        os.set_blocking(self._master, False)
        terminal = os.open(board.terminal, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            while True:
                ready, _, _ = select.select([terminal, self._ended], [], [], _POLL_S)
                if self._ended in ready:
                    return
                if terminal in ready:
                    data = os.read(terminal, 4096)
                    with contextlib.suppress(OSError):  # nobody reads: on a wire it would be gone, too
                        os.write(self._master, data)
                with contextlib.suppress(OSError):  # nothing typed, or nobody there
                    os.write(terminal, os.read(self._master, 4096))
        finally:
            os.close(terminal)

    def pull(self, wait: Callable[[], None] = lambda: None) -> None:
        """Take the power away, and give it back."""
        assert self.board
        self.board.power_off()
        wait()
        self.board.power_on()
