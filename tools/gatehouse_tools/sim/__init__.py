"""The simulated board: MicroPython's unix port that runs a device from its flash image (docs/simulated-board.md)."""

from .board import Board, BoardStopped, Event

__all__ = ["Board", "BoardStopped", "Event"]
