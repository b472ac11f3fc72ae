"""What the page shows, as named parts that change; a recording of it, and a recording played.

A part is a JSON value under a name such as `device:gh-demo-1`. Whoever watches gets all parts, and then each change.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import GatehouseError

FORMAT = "gatehouse-demo-recording"
VERSION = 1
KEPT = 120  # numbered parts of one kind, such as `sensor:gh-demo-1:17`: as many as the page shows
LONGEST_PAUSE_S = 2.0  # in a recording that is played; its page says so
MAX_LINE, MAX_LINES = 65536, 20000  # of a recording: a run of ten minutes has some 2,000 of at most 4 KB
_FIRST = f'{{"{FORMAT}":{VERSION},'  # a recording begins so
CLEAR = "clear"  # the message that takes all parts away

Message = dict[str, Any]
Watcher = Callable[[Message], None]


class Screen:
    """The parts, safe to change from any thread. `record`: a file that gets every change with its time."""

    def __init__(self, record: Path | None = None) -> None:
        self._parts: dict[str, Any] = {}
        self._watchers: list[Watcher] = []
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._file = None
        if record:
            try:
                self._file = record.open("w")
            except OSError as error:
                raise GatehouseError(f"{record}: {error.strerror}; name another file with --record") from None
            self._write({FORMAT: VERSION, "made": int(time.time())})

    def put(self, name: str, value: Any) -> None:
        """Set a part; None takes it away. One that is as it was is no change."""
        with self._lock:
            if self._parts.get(name) == value:
                return
            self._change(name, value)
            stem, _, number = name.rpartition(":")
            if number.isdigit() and value is not None:
                same = [one for one in self._parts if one.rpartition(":")[0] == stem]
                for old in same[:-KEPT]:
                    self._change(old, None)

    def clear(self) -> None:
        """Take all parts away."""
        with self._lock:
            self._parts = {}
            self._tell({CLEAR: True})

    def get(self, name: str) -> Any:
        """A part, or None."""
        with self._lock:
            return self._parts.get(name)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Have `watcher` told all parts now and every change from now on, in order. Returns what ends that."""
        with self._lock:
            watcher({CLEAR: True})
            for name, value in self._parts.items():
                watcher({"k": name, "v": value})
            self._watchers.append(watcher)

        def end() -> None:
            with self._lock:
                if watcher in self._watchers:
                    self._watchers.remove(watcher)

        return end

    def close(self) -> None:
        """End the recording."""
        with self._lock:
            if self._file:
                self._file.close()
                self._file = None

    def _change(self, name: str, value: Any) -> None:
        if value is None:
            if self._parts.pop(name, None) is None:
                return
        else:
            self._parts[name] = value
        self._tell({"k": name, "v": value})

    def _tell(self, message: Message) -> None:
        if self._file:
            self._write({"t": round(time.monotonic() - self._start, 2)} | message)
        for watcher in self._watchers:
            watcher(message)

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file  # noqa: S101 only called where it is open
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()


class Recording:
    """A run that was recorded: `made` is the Unix time at which, `changes` are (seconds, message)."""

    def __init__(self, path: Path) -> None:
        """GatehouseError("format") says which line is none of a recording."""
        self.path = path
        try:
            with path.open() as file:
                self._read(file)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no text"
            raise GatehouseError(f"{path}: {why}; `gatehouse demo --record FILE` makes a recording") from None

    def _read(self, file: Any) -> None:
        self.changes: list[tuple[float, Message]] = []
        for number, line in enumerate(_lines(file), 1):
            wrong = f"{self.path}, line {number}: not of a recording of this version of `gatehouse demo`"
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                found = None
            match found:
                case {"made": int(made)} if number == 1 and line.startswith(_FIRST):
                    self.made = made
                case {"t": int() | float() as at, "clear": True} if number > 1:
                    self.changes.append((float(at), {CLEAR: True}))
                case {"t": int() | float() as at, "k": str(name), "v": value} if number > 1:
                    self.changes.append((float(at), {"k": name, "v": value}))
                case _:
                    raise GatehouseError(wrong, "format")
        if not self.changes:
            raise GatehouseError(f"{self.path} has no run in it", "format")

    def play(self, screen: Screen, wait: Callable[[float], None]) -> None:
        """Show it, with `wait(seconds)` between changes."""
        screen.clear()
        last = 0.0
        for at, message in self.changes:
            wait(min(max(0.0, at - last), LONGEST_PAUSE_S))
            last = at
            if CLEAR in message:
                screen.clear()
            else:
                screen.put(message["k"], self.labelled(message))

    def labelled(self, message: Message) -> Any:
        """The value of a part; the one that says what the page is says that this is no live run."""
        value = message["v"]
        if message["k"] == "meta" and isinstance(value, dict):
            return value | {"mode": "recording", "made": self.made, "pause": LONGEST_PAUSE_S}
        return value


def _lines(file: Any) -> Iterator[str]:
    for _ in range(MAX_LINES):
        line = file.readline(MAX_LINE)
        if not line:
            return
        yield line
    raise GatehouseError(f"{file.name}: more than {MAX_LINES} lines: no recording of a demonstration", "format")
