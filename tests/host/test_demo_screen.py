"""What the demonstration's page shows, its recording, and the orders that it takes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatehouse_tools.commands import demo
from gatehouse_tools.demo import act, bench, buttons, live, screen
from gatehouse_tools.errors import GatehouseError


def test_watcher_gets_all_and_then_each_change() -> None:
    shown = screen.Screen()
    shown.put("device:a", 1)
    seen: list[Any] = []
    end = shown.watch(seen.append)
    shown.put("device:a", 1)
    shown.put("device:a", 2)
    shown.put("device:a", None)
    shown.clear()
    end()
    shown.put("device:a", 3)
    assert seen == [
        {"clear": True},
        {"k": "device:a", "v": 1},
        {"k": "device:a", "v": 2},
        {"k": "device:a", "v": None},
        {"clear": True},
    ]


def test_old_readings_go() -> None:
    shown = screen.Screen()
    for number in range(screen.KEPT + 5):
        shown.put(f"sensor:a:{number}", number)
    shown.put("sensor:b:1", 1)
    assert shown.get("sensor:a:4") is None and shown.get("sensor:a:5") == 5
    assert shown.get("sensor:b:1") == 1


def recorded(folder: Path) -> Path:
    path = folder / "run.jsonl"
    shown = screen.Screen(path)
    shown.clear()
    shown.put("meta", {"mode": "live", "devices": 1})
    shown.put("device:a", {"version": "1.0.0"})
    shown.put("device:a", None)
    shown.close()
    return path


def test_recording_shows_the_same_and_says_that_it_is_one(tmp_path: Path) -> None:
    recording = screen.Recording(recorded(tmp_path))
    seen: list[Any] = []
    shown = screen.Screen()
    shown.watch(seen.append)
    recording.play(shown, lambda seconds: None)
    meta = next(one["v"] for one in seen if one.get("k") == "meta")
    assert meta["mode"] == "recording" and meta["made"] == recording.made
    assert [one for one in seen if one.get("k") == "device:a"] == [
        {"k": "device:a", "v": {"version": "1.0.0"}},
        {"k": "device:a", "v": None},
    ]


def test_recording_cannot_say_that_it_is_live(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    with path.open("a") as file:
        file.write(json.dumps({"t": 9, "k": "meta", "v": {"mode": "live"}}) + "\n")
    shown = screen.Screen()
    screen.Recording(path).play(shown, lambda seconds: None)
    assert shown.get("meta")["mode"] == "recording"


def test_long_pauses_are_shortened(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    with path.open("a") as file:
        file.write('{"t": 5000, "k": "phase", "v": 1}\n{"t": 1, "k": "phase", "v": 2}\n')
    pauses: list[float] = []
    screen.Recording(path).play(screen.Screen(), pauses.append)
    assert min(pauses) >= 0 and max(pauses) == screen.LONGEST_PAUSE_S


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", '{"t": "0", "clear": true}', '{"t": 0}', '{"t": 0, "k": 1, "v": 2}', "\udcff", "[" * 3000],
)
def test_line_that_is_none_of_a_recording_is_named(tmp_path: Path, line: str) -> None:
    path = recorded(tmp_path)
    with path.open("a", errors="surrogateescape") as file:
        file.write(line + "\n")
    with pytest.raises(GatehouseError) as caught:
        screen.Recording(path)
    assert "run.jsonl" in str(caught.value)


def test_recording_that_was_cut_off_or_is_another_file_is_an_error(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    data = path.read_bytes()
    for wrong in (b"", data[:-3], data.split(b"\n")[0] + b"\n", data.replace(b'recording":1', b'recording":2')):
        path.write_bytes(wrong)
        with pytest.raises(GatehouseError):
            screen.Recording(path)
    with pytest.raises(GatehouseError):
        screen.Recording(tmp_path / "none")
    path.write_bytes(data + b'{"t":1,"k":"a","v":"' + b"x" * screen.MAX_LINE + b'"}\n')
    with pytest.raises(GatehouseError):
        screen.Recording(path)


def test_recording_that_comes_with_gatehouse_is_whole_and_small() -> None:
    """It was made by a real run: every button was pressed, and every verdict is by a verified report."""
    recording = screen.Recording(demo.RECORDING)
    assert demo.RECORDING.stat().st_size < 256 * 1024
    last = {message["k"]: message["v"] for _, message in recording.changes if message.get("v") is not None}
    runs = [value for name, value in last.items() if name.startswith("run:")]
    assert {run["button"] for run in runs} >= {one.name for one in buttons.BUTTONS}
    assert all(run["verdict"] and run["verdict"]["good"] and run["verdict"]["counter"] for run in runs)


class Silent:
    """A terminal that shows nothing."""

    def say(self, text: str) -> None: ...
    def scene(self, number: int, total: int, text: str) -> None: ...
    def verdict(self, item: Any) -> None: ...
    def button(self, title: str, device: str, text: str) -> None: ...
    def ask(self, text: str) -> None: ...


def ready(kind: bench.Kind) -> live.Live:
    """A stage that is free, with one device."""
    made = live.Live(screen.Screen(), Silent(), kind)
    made.set(1)
    device = SimpleNamespace(id="gh-1", witness=SimpleNamespace(stop=lambda: None))
    made._stage = SimpleNamespace(devices=[device])  # type: ignore[assignment]
    made.phase(live.READY, "ready")
    return made


@pytest.fixture
def show() -> live.Live:
    return ready(bench.SIMULATED)


ACT = {"do": "act", "button": "tampered", "device": "gh-1"}


def test_order_is_taken_when_the_stage_is_free(show: live.Live) -> None:
    assert show.take(ACT) == ""
    assert show._phase == live.BUSY
    assert "one thing at a time" in show.take(ACT)


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"do": "erase"},
        {"do": "act"},
        {"do": "act", "button": "tampered"},
        ACT | {"button": "birth"},
        ACT | {"button": "__class__"},
        ACT | {"device": "gh-2"},
        ACT | {"device": ["gh-1"]},
        ACT | {"more": 1},
        {"do": "reset", "devices": 0},
        {"do": "reset", "devices": 6},
        {"do": "reset", "devices": True},
        {"do": "reset", "devices": 1.0},
        {"do": "again"},
    ],
)
def test_order_that_is_none_is_refused(show: live.Live, order: dict[str, Any]) -> None:
    assert show.take(order)
    assert show._phase == live.READY


@pytest.mark.parametrize("phase", [live.SETTING, live.STORY, live.OVER])
@pytest.mark.parametrize("button", ["tampered", "power"])
def test_order_waits_for_its_stage(show: live.Live, phase: str, button: str) -> None:
    show.phase(phase, "")
    assert "not now" in show.take(ACT | {"button": button})


def test_reset_ends_what_is_under_way(show: live.Live) -> None:
    ended: list[bool] = []
    stage: Any = show._stage
    stage.devices[0].witness.stop = lambda: ended.append(True)
    assert show.take(ACT) == ""
    assert show.take({"do": "reset", "devices": 5}) == ""
    assert ended == [True] and show._phase == live.SETTING
    assert "already" in show.take({"do": "reset", "devices": 5})


PLUGGED = bench.Kind("a board on a wire", ("its power is taken by hand",), frozenset({"password"}), resets=False)


def test_what_a_board_cannot_do_is_not_offered_and_not_taken(show: live.Live) -> None:
    wired = ready(PLUGGED)
    meta = wired.screen.get("meta")
    assert meta["label"] == "a board on a wire" and meta["simulated"] == ["its power is taken by hand"]
    assert {one["name"] for one in meta["buttons"]} == set(buttons.BY_NAME) - {"password"}
    order = ACT | {"button": "password"}
    assert "no such button" in wired.take(order) and wired._phase == live.READY
    assert show.take(order) == ""


def test_no_button_wipes_a_board(show: live.Live) -> None:
    wired, order = ready(PLUGGED), {"do": "reset", "devices": 1}
    assert "wipes no board" in wired.take(order) and wired._phase == live.READY
    assert wired.screen.get("meta")["resets"] is False
    assert show.take(order) == ""


def test_what_somebody_is_asked_to_do_is_shown_until_it_is_done(show: live.Live, monkeypatch: Any) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(show._teller, "ask", lambda text: seen.append(("ask", text)))

    def scene(given: act.Act) -> act.Verdict:
        """It asks."""
        given.ask("Pull the plug")
        seen.append(show.screen.get("ask:1"))
        given.reported("boot 2")
        seen.append(show.screen.get("ask:1"))
        given.ask("Push the button")
        return act.Verdict("it", "done", "done", True)

    stage: Any = show._stage
    show._play(stage, stage.devices[0], scene, "it", "")
    assert seen == [("ask", "Pull the plug"), "Pull the plug", None, ("ask", "Push the button")]
    assert show.screen.get("ask:1") is None
    assert show.screen.get("step:1:1")["who"] == "you"


def test_nothing_can_be_done_to_a_recording() -> None:
    replay = live.Replay()
    for order in (ACT, {"do": "reset", "devices": 1}, {"do": "skip"}, {}):
        assert "recording" in replay.take(order)
    assert replay.again.empty()
    assert replay.take({"do": "again"}) == "" and replay.take({"do": "again"}) == ""
    assert replay.again.qsize() == 1
