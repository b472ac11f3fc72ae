"""The demonstration tells the truth: 0 when all is as it should be, 1 as soon as one defence is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def demo(folder: Path, tree: Path = ROOT, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `gatehouse demo --once --json` from a checkout."""
    return subprocess.run(
        [sys.executable, "-m", "gatehouse_tools", "demo", "--once", "--json", "--dir", str(folder), *options],
        env=os.environ | {"PYTHONPATH": str(tree / "tools"), "PYTHONSAFEPATH": "1"},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("broker", ["mosquitto", "amqtt"])
def test_every_verdict_is_right(tmp_path: Path, broker: str) -> None:
    done = demo(tmp_path / "demo", ROOT, "--broker", broker)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["good"] and len(told["verdicts"]) == 8


def test_without_the_signature_check_it_says_so(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("lib", "firmware", "boards", "tools"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".mypy_cache"))
    for name in ("boot.py", "main.py"):
        shutil.copyfile(ROOT / name, tree / name)
    (tree / "build").mkdir()
    for name in ("umqtt", "microdot"):
        shutil.copytree(ROOT / "build" / name, tree / "build" / name)
    path = tree / "lib" / "gatehouse" / "suit.py"
    text = path.read_text()
    check = "if key.verify(message, signature):"
    assert text.count(check) == 1
    path.write_text(text.replace(check, "if True:"))
    done = demo(tmp_path / "demo", tree, "--broker", "mosquitto")
    assert done.returncode == 1, done.stderr[-3000:]
    wrong = [item["tried"] for item in json.loads(done.stdout)["verdicts"] if not item["good"]]
    assert "manifest signed by a stranger's key" in wrong
