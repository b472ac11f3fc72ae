"""One board under test, and what is on its flash, taken apart on the host."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from littlefs import LittleFS, LittleFSError, UserContext

from gatehouse_tools import bootrecord
from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.image import flash, littlefs
from gatehouse_tools.image.nvs import Value, read_nvs
from gatehouse_tools.sim.board import Board, BoardStopped, Event

from .world import World

HEAP = "160wK"  # room for the garbage of world.quicken()
CUT, WAITS, HOLDS, IDLE = "cut", "waits", "holds", "idle"
RECORD = "/state/boot.cbor"
_MARK = "harness: "
_GEOMETRY: dict[str, Any] = {"read_size": 1024, "prog_size": 1024, "cache_size": 1024, "lookahead_size": 32}
_TIMEOUT_S = 60  # of one run; it takes under one second on an idle machine
_MAX_BOOTS = 10  # from power-on to rest: five tries of a firmware, the roll back, an update and its trial are eight


@dataclass(frozen=True)
class State:
    """What runs: the application's version, the generations of configuration and trust anchors, the OTA partition."""

    version: str
    config: int = 1
    trust: int = 1
    partition: str = "ota_0"

    def __str__(self) -> str:
        return f"{self.version} config {self.config} trust {self.trust} on {self.partition}"


@dataclass
class Seen:
    """A flash image taken apart. What cannot be read is None, with the reason in `damage`."""

    files: dict[str, bytes]
    nvs: dict[str, Value]
    record: dict[str, Any] | None
    otadata: flash.OtaEntry | None
    apps: dict[str, bytes] = field(default_factory=dict)  # the OTA partitions by label
    damage: str = ""

    def slot(self, name: str) -> dict[str, bytes]:
        """The files of a slot by their path in it."""
        root = f"/slots/{name}/"
        return {path[len(root) :]: data for path, data in self.files.items() if path.startswith(root)}

    def content(self) -> object:
        """All that it holds but counters and the journal: a device goes on from equal contents in the same way."""
        files = {path: data for path, data in self.files.items() if path != RECORD and "/journal-" not in path}
        record = {key: value for key, value in (self.record or {}).items() if key != "quiet"}
        return files, record, {key: value for key, value in self.nvs.items() if key != "boots"}, self.otadata

    def version(self, world: World, name: str) -> str | None:
        """The release that a slot holds, complete and with nothing else in it; None when there is none such."""
        found = self.slot(name)
        return next((item.version for item in world.releases() if item.slot == found), None)


class Reader:
    """Takes images of one layout apart on the host, without the device's help."""

    def __init__(self, image: bytes) -> None:
        parts = flash.take_apart(image)
        self._spans = {name: slice(part.offset, part.end) for name, (part, _) in parts.items()}

    def read(self, image: bytes, only: str = "") -> Seen:
        """All of an image; of the file system only the file `only`, where that is named."""
        spans = self._spans
        seen = Seen({}, {}, None, flash.parse_otadata(image[spans["otadata"]]))
        seen.apps = {name: image[span] for name, span in spans.items() if name.startswith("ota_")}
        try:
            seen.nvs = read_nvs(image[spans["nvs"]]).get(flash.NAMESPACE, {})
            seen.files = _files(image[spans["vfs"]], only)
            seen.record = bootrecord.parse(seen.files.get(RECORD, b""))
        except (GatehouseError, LittleFSError, OSError, ValueError) as error:
            seen.damage = str(error) or type(error).__name__
        return seen


def _files(image: bytes, only: str) -> dict[str, bytes]:
    """The files of a LittleFS: as image/littlefs.py reads them, but with a cache that suits a host."""
    count = len(image) // littlefs.BLOCK
    context = UserContext(buffer=bytearray(image))
    system = LittleFS(context, mount=False, block_size=littlefs.BLOCK, block_count=count, **_GEOMETRY)
    system.mount()
    found = {}
    for root, _, leaves in [("/", None, [only])] if only else system.walk("/"):
        for leaf in leaves:
            path = leaf if only else f"{root.rstrip('/')}/{leaf}"
            with system.open(path, "rb", buffering=0) as file:
                found[path] = file.read()
    return found


@dataclass
class Run:
    """How a run ended: at a "cut", at one of the application's lines, or with a word for what went wrong."""

    end: str
    operations: int
    boots: int
    lines: list[str]
    detail: str = ""

    @property
    def last(self) -> str:
        """The last that it said."""
        return " | ".join(self.lines[-3:])

    @property
    def running(self) -> tuple[str, str, State] | None:
        """(mode, slot, what runs) as the application told it last."""
        told = [line.split() for line in self.lines if line.startswith((_MARK + "up", _MARK + "waits"))]
        if not told:
            return None
        mode, slot, version, config, trust, partition = told[-1][2:]
        return mode, slot, State(version, int(config), int(trust), partition)


class Bench:
    """A board on a scratch file. Use it in a with block. `seed`: of what half-done erases leave behind."""

    def __init__(self, world: World, path: Path, seed: str = "") -> None:
        self._path = path
        self._clock = world.clock + 60
        if not path.exists():
            path.write_bytes(bytes(0))
        self._board = Board(path, heap=HEAP, seed=zlib.crc32(seed.encode()), on_event=self._happened)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._board.close()

    def load(self, image: bytes) -> None:
        """Put an image on the flash."""
        with self._path.open("r+b") as file:
            file.write(image)

    def image(self) -> bytes:
        """What is on the flash."""
        return self._path.read_bytes()

    def run(
        self, until: str, *, online: bool, cut_at: int | None = None, pins: Mapping[int, bool] | None = None
    ) -> Run:
        """Power on and wait for the cut, or for the line `until` of the application. At that the power stays on."""
        board = self._board
        board.power_off()
        board.wifi(online)
        for number in (*range(8), *(pins or {})):
            board.set_pin(number, (pins or {}).get(number, True))
        board.lines.clear()
        board.events.clear()
        board.power_on(cut_at)
        return self._wait(until)

    def go_online(self, until: str) -> Run:
        """The network comes; wait for the line `until`. At that the power stays on."""
        self._board.wifi(True)
        return self._wait(until)

    def power_off(self) -> None:
        """Take the power away."""
        self._board.power_off()

    def _happened(self, event: Event) -> None:
        if event.kind == "power-on":  # before anything of the device runs
            self._board.set_clock(self._clock)

    def _wait(self, until: str) -> Run:
        board, detail = self._board, ""
        try:
            end = board.wait(lambda board: _ended(board, until), _TIMEOUT_S)
        except BoardStopped as error:
            end, detail = board.events[-1].kind if board.failure else "timeout", str(error).splitlines()[0]
        boots = sum(event.kind == "boot" for event in board.events)
        return Run(end, board.operations, boots, list(board.lines), detail)


def _ended(board: Board, until: str) -> str:
    """The word for how the run has ended, "" while it has not."""
    for line in board.lines:
        for end in (until, IDLE):  # nothing comes after that
            if line.startswith(_MARK + end):
                return end
        if line.startswith("gatehouse: recovery"):
            return "recovery"
    last = board.events[-1].kind if board.events else ""
    if last in (CUT, "repl", "fault", "died"):
        return last
    if sum(event.kind == "boot" for event in board.events) > _MAX_BOOTS:
        return "boots"
    return ""
