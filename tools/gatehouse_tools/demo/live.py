"""A demonstration that takes orders: the story, then the buttons of the page, each one done to a live device."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Protocol

from . import scenes
from .act import YOU, Act, Step, Verdict
from .bench import SIMULATED, Kind
from .buttons import BUTTONS, BY_NAME, POWER
from .feed import Feed
from .scenes import Scene
from .screen import Screen
from .stage import MOST, Device, Stage

SETTING, STORY, READY, BUSY, OVER = "setting", "story", "ready", "busy", "over"
_KEPT_RUNS = 30  # with their steps, on the page


class Teller(Protocol):
    """Narrates in the terminal."""

    def say(self, text: str) -> None: ...
    def scene(self, number: int, total: int, text: str) -> None: ...
    def verdict(self, item: Verdict) -> None: ...
    def button(self, title: str, device: str, text: str) -> None: ...
    def ask(self, text: str) -> None: ...


class Live:
    """Plays on one stage after the other; `take` gets the page's orders, from any thread."""

    def __init__(self, screen: Screen, teller: Teller, kind: Kind = SIMULATED) -> None:
        self.screen = screen
        self.kind = kind
        self._buttons = tuple(one for one in BUTTONS if one.name not in kind.left_out)
        self._teller = teller
        self._orders: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._lock = threading.Lock()
        self._phase = SETTING
        self._stage: Stage | None = None
        self._numbers = itertools.count(1)
        self._skip = False
        self.pressed: list[Verdict] = []  # what became of the buttons
        self._powers: list[threading.Thread] = []

    # Orders.

    def take(self, order: dict[str, Any]) -> str:
        """Take an order of the page: why not, or "" when it is taken."""
        match order:
            case {"do": "act", "button": str(name), "device": str(device)} if len(order) == 3:
                return self._take_act(name, device)
            case {"do": "reset", "devices": int(count)} if len(order) == 2 and type(count) is int:
                return self._take_reset(count)
            case {"do": "skip"} if len(order) == 1:
                with self._lock:
                    self._skip = True
                return ""
        return "there is no such order"

    def _take_act(self, name: str, device: str) -> str:
        with self._lock:
            button, stage = BY_NAME.get(name), self._stage
            found = next((one for one in stage.devices if one.id == device), None) if stage else None
            if button is None or button not in self._buttons:
                return "there is no such button"
            if stage is None or self._phase in (SETTING, STORY, OVER):
                return "not now: wait until the stage is free"
            if found is None:
                return "there is no such device"
            if name == POWER:
                thread = threading.Thread(target=self._act, args=(stage, found, name), daemon=True)
                self._powers = [one for one in self._powers if one.is_alive()]
                if self._powers:
                    return "the power is gone already"
                self._powers.append(thread)
                thread.start()
                return ""
            if self._phase != READY:
                return "one thing at a time: another is under way"
            self._set(BUSY, f"{button.title}, {device}")
        self._orders.put(("act", (name, found)))
        return ""

    def _take_reset(self, count: int) -> str:
        if not self.kind.resets:
            return "a button wipes no board: end this, and start the demonstration again with --replace"
        if not 1 <= count <= MOST:
            return f"1 to {MOST} devices"
        with self._lock:
            if self._phase == SETTING:
                return "the stage is being set already"
            self._set(SETTING, "everything goes back to the start")
            if self._stage:
                for device in self._stage.devices:
                    device.witness.stop()
        self._orders.put(("reset", count))
        return ""

    # What the page shows of the run itself.

    def _set(self, phase: str, text: str) -> None:
        self._phase = phase
        self.screen.put("phase", {"phase": phase, "text": text})

    def phase(self, phase: str, text: str) -> None:
        """Say where the demonstration is."""
        with self._lock:
            self._set(phase, text)

    def set(self, count: int) -> None:
        """Clear the page for a stage that is being set for `count` devices."""
        with self._lock:
            self._stage = None
            self.screen.clear()
            self.screen.put(
                "meta",
                {
                    "mode": "live",
                    "devices": count,
                    "most": MOST,
                    "label": self.kind.label,
                    "resets": self.kind.resets,
                    "simulated": list(self.kind.notes),
                    "buttons": [
                        {"name": one.name, "kind": one.kind, "title": one.title, "hint": one.hint}
                        for one in self._buttons
                    ],
                },
            )
            self._set(SETTING, "a new product is made: keys, certificates, a signed release, devices")

    @contextlib.contextmanager
    def on(self, stage: Stage) -> Iterator[None]:
        """Play on this stage: its devices are shown, and orders may come for them."""
        with Feed(stage, self.screen):
            with self._lock:
                self._stage = stage
            try:
                yield
            finally:
                with self._lock:
                    self._stage, powers = None, self._powers
                for device in stage.devices:
                    device.witness.stop()
                for thread in powers:
                    thread.join()

    # Acts.

    def story(self, stage: Stage) -> list[Verdict]:
        """The scenes of the terminal, on the first device; the others run beside it."""
        for device in stage.devices[1:]:
            device.board.start()
        verdicts: list[Verdict] = []
        total = len(scenes.STORY)
        for number, scene in enumerate(scenes.STORY, 1):
            with self._lock:
                if self._skip or (self._phase == SETTING and number > 1):
                    break
                self._set(STORY, f"the story of the terminal: scene {number} of {total}")
            self._teller.scene(number, total, scene.__doc__ or "")
            verdicts.append(self._play(stage, stage.devices[0], scene, "story", scene.__doc__ or ""))
            if self._stopped():
                return verdicts[:-1]
        return verdicts

    def start(self, stage: Stage) -> None:
        """Give power to all devices, and wait for their first reports."""
        for device in stage.devices:
            device.board.start()
        for device in stage.devices:
            within = scenes.SOON * device.board.patience
            device.witness.wait(0, lambda claims: claims["mode"] == "active", within)

    def serve(self, stage: Stage) -> int:
        """Do what the page orders until it wants everything back at the start: with how many devices."""
        with self._lock:
            if self._phase != SETTING or self._orders.empty():
                self._set(READY, "ready")
        while True:
            kind, what = self._orders.get()
            if kind == "reset":
                return int(what)
            name, device = what
            self._act(stage, device, name)
            with self._lock:
                if self._phase == BUSY:
                    self._set(READY, "ready")

    def _stopped(self) -> bool:
        with self._lock:
            return self._phase == SETTING

    def _act(self, stage: Stage, device: Device, name: str) -> None:
        button = BY_NAME[name]
        text = button.scene.__doc__ or ""
        self._teller.button(button.title, device.id, text)
        verdict = self._play(stage, device, button.scene, name, text)
        if not self._stopped():
            self.pressed.append(verdict)

    def _play(self, stage: Stage, device: Device, scene: Scene, name: str, text: str) -> Verdict:
        number = next(self._numbers)
        title = BY_NAME[name].title if name in BY_NAME else text
        run: dict[str, Any] = {"button": name, "title": title, "text": text, "device": device.id, "began": time.time()}
        self.screen.put(f"run:{number}", run | {"verdict": None})
        counts = itertools.count(1)

        def tell(step: Step) -> None:
            asked = step.who == YOU
            if asked:
                self._teller.ask(step.text)
            else:
                self._teller.say(f"{step.who}: {step.text}")
            self._ask(number, step.text if asked else None)
            shown = [one.plain() for one in step.shown]
            part = {"who": step.who, "text": step.text, "bytes": shown}
            self.screen.put(f"step:{number}:{next(counts)}", part)

        verdict = scenes.play(scene, Act(stage, device, tell))
        self._ask(number, None)
        if not self._stopped():
            self.screen.put(f"run:{number}", run | {"verdict": asdict(verdict)})
            self._teller.verdict(verdict)
        self._forget(number - _KEPT_RUNS)
        return verdict

    def _ask(self, number: int, text: str | None) -> None:
        """Show what somebody is to do in this run, or nothing any more."""
        if text or self.screen.get(f"ask:{number}"):
            self.screen.put(f"ask:{number}", text)

    def _forget(self, number: int) -> None:
        self.screen.put(f"run:{number}", None)
        for step in itertools.count(1):
            if self.screen.get(f"step:{number}:{step}") is None:
                return
            self.screen.put(f"step:{number}:{step}", None)


def replay(screen: Screen, recording: Any, again: queue.Queue[None], said: Callable[[str], None]) -> None:
    """Show a recording, and once more whenever the page wants it. Ends by KeyboardInterrupt."""
    while True:
        said("playing")
        recording.play(screen, time.sleep)
        screen.put("phase", {"phase": OVER, "text": "the recording is over"})
        said("over; the page has a button that plays it again. Ctrl-C ends it")
        again.get()


class Replay:
    """Takes the orders of a page that shows a recording: there is one."""

    def __init__(self) -> None:
        self.again: queue.Queue[None] = queue.Queue(1)

    def take(self, order: dict[str, Any]) -> str:
        """Take an order: why not, or ""."""
        if order != {"do": "again"}:
            return "this is a recording: nothing can be done to it"
        with contextlib.suppress(queue.Full):
            self.again.put_nowait(None)
        return ""
