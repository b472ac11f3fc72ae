"""A short run of `make soak`, another one in each session, and proof that it finds what it looks for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from . import harness

WITHIN = 600  # seconds


def test_short_soak_loses_nothing(tmp_path: Path, seed: int) -> None:
    options = ("--days", 1, "--restarts", 3, "--cuts", 2, "--power-cuts", 1, "--no-flood", "--seed", seed)
    code, told, talk = harness.run("tests.soak", tmp_path, *options, within=WITHIN)
    assert code == 0, (told.get("faults"), talk[-3000:])
    assert told["counts"] == {"restarts": 3, "cuts": 2, "power_cuts": 1}
    assert told["written"] == told["stored"] > 20 and told["dropped"] == 0
    assert told["boots"] == told["events"]["boot"] == 2


_TAKE = "items.append([entry, tag])"
_SENT = "        acknowledged = await self.link.publish_acked(topic, data, True, _ACK_MS)\n"
_ASK = "self._inbox.ask(device, wanted[0] - 1)"
# name: (file, (what stands there, what is put in its place), options, a fault that must be told)
BROKEN = {
    "device-leaves-an-entry-out": (
        "firmware/batch.py",
        ("if number <= after:", "if number <= after or number == 5:"),
        ("--restarts", 0, "--cuts", 1, "--power-cuts", 0),
        "entry 5 never arrived",
    ),
    "collector-does-not-ask": (
        "tools/gatehouse_tools/collector.py",
        (_ASK, "pass"),
        ("--restarts", 1, "--cuts", 0, "--power-cuts", 0),
        "never arrived",
    ),
    "device-sends-an-entry-twice-in-two-forms": (
        "firmware/batch.py",
        (_TAKE, "items.append([entry, tag if boot.boot_count == 1 else bytes(16)])"),
        ("--restarts", 0, "--cuts", 0, "--power-cuts", 1),
        "is at the collector 2 times",
    ),
    "device-keeps-what-it-sends": (
        "firmware/app.py",
        (_SENT, _SENT + "        events.kept = [bytes(300), getattr(events, 'kept', None)]\n"),
        ("--restarts", 0, "--cuts", 0, "--power-cuts", 0, "--days", 0.7),
        "heap: boot 1",
    ),
    "device-restarts-by-itself": (
        "firmware/app.py",
        (_SENT, _SENT + "        status.uptime() < 6000 or 1 // 0\n"),
        ("--restarts", 0, "--cuts", 0, "--power-cuts", 0),
        "reset: 1 times reset",
    ),
}


# Each takes a minute or two where other tests run beside it: `make soak` runs them all before the soak itself.
LONG = pytest.mark.skipif("GATEHOUSE_SOAK" not in os.environ, reason="long: make soak runs it")
NAMES = [name if name == "device-keeps-what-it-sends" else pytest.param(name, marks=LONG) for name in BROKEN]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_broken_is_found(tmp_path: Path, name: str) -> None:
    file, (find, replace), options, fault = BROKEN[name]
    tree = harness.broken(tmp_path, file, find, replace)
    options = ("--days", 0.15, "--no-flood", *options)
    code, told, talk = harness.run("tests.soak", tmp_path, *options, tree=tree, within=WITHIN)
    assert code == 1 and told, talk[-3000:]
    assert any(fault in one for one in told["faults"]), told
