"""A sample of `make powercut`, another one in each session, and proof that it does report a device that is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import harness

CORE = "lib/gatehouse/"


def test_sample_of_all_phases_survives(tmp_path: Path, seed: int) -> None:
    code, told, talk = harness.run("tests.powercut", tmp_path, "--sample", 1, "--second", "--seed", seed)
    assert code == 0, (told.get("failures"), talk[-3000:])
    for name, counts in told["phases"].items():
        assert counts["tried"] >= 1 and counts["survived"] == counts["tried"], name


_MANIFEST = 'records.save(trial.root + "/manifest.suit", data)'
_SWITCH = "start_trial(record, trial, manifest.digest, manifest.sequence, names, no_return)"
# name: (file of the core, (what stands there, what is put in its place), where to cut, the verdict that must follow)
BROKEN = {
    "record-removed-before-the-rename": (
        "record.py",
        ("    os.rename(new, path)\n", "    if load(path):\n        os.remove(path)\n    os.rename(new, path)\n"),
        ("--phase", "health", "--to", 9),
        "lost",
    ),
    "switch-before-the-manifest": (
        "transitions.py",
        (_MANIFEST, f"{_SWITCH}\n        record.save()\n        {_MANIFEST}"),
        ("--phase", "install", "--from", -24),
        "stuck",
    ),
    "floors-of-nvs-are-not-mended": (
        "choose.py",
        ('boot.store.put("floors", cbor.dumps(boot.record.floors))', "pass"),
        ("--phase", "trial", "--from", -18),
        "stuck",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_core_without_a_step_of_durability_is_reported(tmp_path: Path, name: str) -> None:
    file, (find, replace), options, verdict = BROKEN[name]
    tree = harness.broken(tmp_path, CORE + file, find, replace)
    code, told, talk = harness.run("tests.powercut", tmp_path, *options, tree=tree)
    assert code == 1, talk[-3000:]
    counts = next(iter(told["phases"].values()))
    assert counts[verdict] > 0, told
    failure = next(item for item in told["failures"] if item["verdict"] == verdict)
    assert "--world" in failure["again"] and Path(failure["image"]).stat().st_size == 0x400000
