"""The mutant runner (mutants/run.py) on a small project of its own, and the list against the source as it is."""

import ast
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mutants import run

ROOT = Path(__file__).resolve().parents[2]

GUARD = """
def take(size, limit=8):
    if size > limit:
        raise ValueError
    return size


def other(size):
    if size > limit:
        return None
    else:
        if size > limit:
            return None
"""
TEST = """
import os
import pytest
import guard

def test_small():
    assert guard.take(8) == 8

def test_large():
    with pytest.raises(ValueError):
        guard.take(9)

def test_skipped():
    pytest.skip("not here")

def test_red():
    assert guard.take(1) == 2

def test_waits_for_a_child():
    try:
        guard.take(9)
    except ValueError:
        return
    assert os.system("sleep 600") == 0

def test_hangs():
    try:
        while guard.take(9):
            pass
    except ValueError:
        pass
"""
CAUGHT = {"name": "limit", "find": "if size > limit:", "replace": "if False:", "within": "take"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function that makes the project with one mutant and runs the runner: (exit code, output)."""
    monkeypatch.setattr(run, "GRACE", 3)
    (tmp_path / "guard.py").write_text(GUARD)
    (tmp_path / "test_guard.py").write_text(TEST)
    (tmp_path / "mutants").mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)

    def judged(capsys, *arguments, tests=("test_small", "test_large"), **changes):
        entry = {"why": "a reason", **CAUGHT, **changes}
        lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items() if value is not None]
        nodes = [f"test_guard.py::{name}" for name in tests]
        (tmp_path / "mutants" / "guard.toml").write_text(
            f"file = 'guard.py'\ntests = {nodes}\n[[mutant]]\n" + "\n".join(lines)
        )
        code = run.main(list(arguments), tmp_path)
        assert (tmp_path / "guard.py").read_text() == GUARD
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return judged


def test_caught(project, capsys):
    code, text = project(capsys)
    assert code == 0
    assert "test_guard.py::test_large" in text
    assert text.endswith("1 of 1 mutants caught\n")


def test_survivor_is_printed_as_a_patch(project, capsys):
    code, text = project(capsys, tests=("test_small",))
    assert code == 1
    assert "SURVIVED; its tests: test_guard.py::test_small" in text
    assert "-    if size > limit:\n+    if False:\n" in text
    assert text.endswith("0 of 1 mutants caught\n")


# What makes a mutant no mutant, and what is said of it.
MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "text that is gone": ({"find": "if size >= limit:"}, "holds 0 times: if size >= limit:"),
    "text that is there twice": ({"within": "other"}, "guard.py, other, holds 2 times"),
    "text of a function that is gone": ({"within": "take_all"}, "there is no take_all"),
    "patch that changes nothing": ({"replace": "if  size > limit:"}, "the patch changes nothing"),
    "patch that is no Python": ({"replace": "if size >"}, "the patch is no Python"),
    "two lines": ({"replace": "if False:\n"}, "limit: a patch is of one line"),
    "unknown field": ({"wihtin": "take"}, "limit: fields are find, name, replace, tests, why, within"),
    "no reason": ({"why": None}, "limit: fields are"),
    "test that is not there": ({"tests": ["test_gone"]}, "without any mutant: ERROR: not found"),
    "test that is red anyway": ({"tests": ["test_red"]}, "red without any mutant: test_guard.py::test_red"),
    "test that never runs": ({"tests": ["test_skipped"]}, "without any mutant: SKIPPED"),
    "no tests": ({"tests": []}, "limit names no tests"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_misfit(project, capsys, case):
    changes, expected = MISFITS[case]
    code, text = project(capsys, **changes)
    assert code == 1
    assert expected in text


def test_indentation_tells_a_line_from_a_deeper_one(project, capsys):
    code, text = project(capsys, "--list", within="other", find="        if size > limit:", replace="        if True:")
    assert code == 0
    assert "     else:\n-        if size > limit:\n+        if True:\n" in text


def test_endless_child_is_ended_and_its_test_reported(project, capsys):
    code, text = project(capsys, "--limit", "10", tests=("test_waits_for_a_child",))
    assert code == 0
    assert "test_guard.py::test_waits_for_a_child" in text


def test_mutant_without_a_verdict_is_not_caught(project, capsys):
    code, text = project(capsys, "--limit", "2", tests=("test_hangs",))
    assert code == 1
    assert "no verdict after 5 s" in text


def test_choice_by_name(project, capsys):
    assert project(capsys, "lim")[0] == 0
    code, text = project(capsys, "other")
    assert code == 2
    assert "no mutant is named other" in text


def test_children_are_found_at_any_depth():
    with subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        sleeper = int(shell.stdout.readline())
        assert {shell.pid, sleeper} <= set(run.descendants(os.getpid()))
        run.kill(run.descendants(shell.pid))
    assert not Path(f"/proc/{sleeper}").exists() or "Z" in Path(f"/proc/{sleeper}/stat").read_text()


def test_list_fits_the_source():
    """Each patch applies, and each test that it names is there: a list that rots would be found too late."""
    mutants = run.read_list(ROOT / "mutants")
    assert len(mutants) > 100
    wrong = [f"{mutant.name}: {why}" for mutant in mutants if (why := run.misfit(mutant, ROOT))]
    defined: dict[str, set[str]] = {}
    for mutant in mutants:
        for node in mutant.tests:
            path, _, name = node.partition("::")
            if path not in defined:
                tree = ast.parse((ROOT / path).read_text())
                functions = (ast.FunctionDef, ast.AsyncFunctionDef)
                defined[path] = {item.name for item in tree.body if isinstance(item, functions)}
            if name and name.partition("[")[0] not in defined[path]:
                wrong.append(f"{mutant.name}: there is no {node}")
    assert not wrong, "\n".join(wrong)
