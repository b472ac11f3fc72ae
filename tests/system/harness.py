"""Runs of the harness of a long test (tests.powercut, tests.soak) in this checkout, or in one that is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mutants import run as mutants  # for its copy of the tree

ROOT = Path(__file__).resolve().parents[2]


def run(module: str, folder: Path, *options: object, tree: Path = ROOT, within: float = 300) -> tuple[int, dict, str]:
    """(exit code, result, talk) of a harness. What it keeps of failures is below `folder`; `within` seconds."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--json", "--keep", str(folder / "kept"), *map(str, options)],
        env=os.environ | {"PYTHONPATH": f"{tree / 'tools'}{os.pathsep}{tree}"},
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def broken(folder: Path, file: str, find: str, replace: str) -> Path:
    """A copy of the tree in which one place of one file is another."""
    tree = folder / "tree"
    mutants.copy_tree(ROOT, tree)
    path = tree / file
    text = path.read_text()
    assert text.count(find) == 1
    path.write_text(text.replace(find, replace))
    return tree
