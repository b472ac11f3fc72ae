"""The plugin itself, on a small tree of its own: above all, what fails on the device must be red here."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from plugin import order

TESTS = pathlib.Path(__file__).resolve().parents[1]

EXAMPLE = """
from harness import Skip, cases, raises, seed, shared

HEAPS = {"test_small_heap": "24K", "test_heap_exhausted": "24K"}
TIMEOUT = 20


def test_passes():
    import sys

    assert sys.implementation.name == "micropython"
    assert "" not in sys.path and not any(".micropython" in folder for folder in sys.path)


def test_fails():
    print("said before")
    helper(1)


def helper(number):
    assert number == 2, "the number is %d" % number


def test_skips():
    raise Skip("no\\nhardware")


def test_leaves_by_exit():
    raise SystemExit(0)


def test_process_ends():
    import os

    os.system("kill -9 $PPID")


async def test_async_passes():
    import asyncio

    await asyncio.sleep_ms(1)


async def test_async_fails():
    import asyncio

    await asyncio.sleep_ms(1)
    raise ValueError("later")


def test_cases():
    assert cases("plain") == {"text": "\\U0001f600", "data": "00ff"}


def test_cases_missing():
    cases("nowhere")


def test_cases_random():
    assert 0 <= cases("random")["number"] < 0, cases("random")["number"]


def test_seed():
    raise ValueError(seed())


def test_no_shared():
    shared("anything.json")


def test_raises():
    class Refused(Exception):
        reason = "size"

    with raises(Refused, "size") as caught:
        raise Refused
    assert caught.value.reason == "size"
    with raises(ValueError, "part"):
        raise ValueError("the part of a text")
    for kind, match, error in ((Refused, "digest", Refused()), (ValueError, "other", ValueError("text"))):
        try:
            with raises(kind, match):
                raise error
        except AssertionError:
            continue
        raise ValueError("raises took the wrong one")


def test_nothing_raised():
    with raises(ValueError):
        pass


def test_another_error_raised():
    with raises(ValueError):
        raise KeyError


def test_small_heap():
    import gc

    assert gc.mem_alloc() + gc.mem_free() < 24 * 1024
    import thing

    assert thing.__file__.endswith(".mpy")


def test_heap_exhausted():
    bytearray(24 * 1024)


def test_source_by_default():
    import thing

    assert thing.__file__.endswith(".py")
"""


@pytest.fixture
def tree(tmp_path):
    """A repository with the plugin, a module and one file of device tests."""
    root = tmp_path / "repository"
    shutil.copytree(TESTS / "plugin", root / "tests" / "plugin", ignore=shutil.ignore_patterns("test_*", "__pycache__"))
    shutil.copy(TESTS / "conftest.py", root / "tests")
    for folder in ("lib", "firmware", "tests/device", "tests/cases"):
        (root / folder).mkdir(parents=True)
    (root / "lib" / "thing.py").write_text("VALUE = 1\n")
    (root / "tests" / "cases" / "plain.py").write_text(
        "def make():\n    return {'text': '\\U0001f600', 'data': b'\\0\\xff'}\n"
    )
    (root / "tests" / "cases" / "random.py").write_text("def make(rng):\n    return {'number': rng.randrange(10**9)}\n")
    (root / "tests" / "device" / "test_example.py").write_text(EXAMPLE)
    return root


def run(tree, *arguments, **environment):
    """What pytest prints in `tree`, and its exit code."""
    environment = {**os.environ, "GATEHOUSE_SEED": "42", "NO_COLOR": "1", **environment}
    environment.pop("GATEHOUSE_SHARED", None)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments]
    result = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return result.stdout + result.stderr, result.returncode


def outcome(text, name):
    """ "PASSED", "FAILED" or None, from the short summary."""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("PASSED", "FAILED", "ERROR") and rest.split(" - ")[0] == f"tests/device/test_example.py::{name}":
            return word
    return None


def section(text, name):
    """What is shown for one failure."""
    start = next(i for i, line in enumerate(text.splitlines()) if line.strip("_") == f" {name} ")
    lines = text.splitlines()[start + 1 :]
    return "\n".join(lines[: next(i for i, line in enumerate(lines) if line.startswith(("____", "====")))])


def test_each_outcome(tree):
    text, code = run(tree)
    assert code == 1
    for name in ("passes", "async_passes", "cases", "raises", "small_heap", "source_by_default"):
        assert outcome(text, f"test_{name}") == "PASSED", text
    for name in (
        "fails",
        "leaves_by_exit",
        "process_ends",
        "async_fails",
        "cases_missing",
        "cases_random",
        "seed",
        "nothing_raised",
        "another_error_raised",
        "heap_exhausted",
    ):
        assert outcome(text, f"test_{name}") == "FAILED", (name, text)
    lines = EXAMPLE.splitlines()
    assert f"SKIPPED [1] tests/device/test_example.py:{lines.index('def test_skips():') + 1}: no hardware" in text
    assert "../shared/vectors/anything.json is not there" in text
    assert "10 failed, 6 passed, 2 skipped" in text
    # All but the two skipped and the one whose cases could not be made.
    assert "15 tests ran inside MicroPython " in text

    failure = section(text, "test_fails")
    assert "said before" in failure
    line = lines.index("    helper(1)") + 1
    assert f'File "tests/device/test_example.py", line {line}, in test_fails\n    helper(1)' in failure
    assert "AssertionError: the number is 1" in failure
    assert "GATEHOUSE_SEED" not in failure
    assert "later" in section(text, "test_async_fails")
    assert "there is no tests/cases/nowhere.py" in section(text, "test_cases_missing")
    assert "the process ended with exit code -9" in section(text, "test_process_ends")
    assert "MemoryError" in section(text, "test_heap_exhausted")
    for name in ("test_seed", "test_cases_random"):
        assert "GATEHOUSE_SEED=42" in section(text, name)
    assert "ValueError: 42" in section(text, "test_seed")
    again, _ = run(tree, "-k", "test_cases_random")
    number = next(line for line in section(text, "test_cases_random").splitlines() if "AssertionError" in line)
    assert number in again


def test_one_by_name(tree):
    text, code = run(tree, "tests/device/test_example.py::test_passes")
    assert code == 0 and "1 passed" in text and "1 tests ran inside MicroPython " in text
    text, code = run(tree, "-k", "test_async_passes")
    assert code == 0 and "1 passed, 17 deselected" in text


def test_a_hanging_test_is_killed(tree):
    (tree / "tests" / "device" / "test_example.py").write_text("TIMEOUT = 1\ndef test_hangs():\n    while True: pass\n")
    text, code = run(tree)
    assert code == 1 and "not finished after 1 s" in text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def test_a(): pass\ndef test_a(): pass\n", "test_a hides the test of that name in line 1"),
        ("def test_a(thing): pass\n", "a device test takes no arguments"),
        ("HEAP = '48 kB'\ndef test_a(): pass\n", "is no heap size"),
        ("HEAPS = {'test_b': '48K'}\ndef test_a(): pass\n", "HEAPS names no test: test_b"),
        ("def test_a(: pass\n", "test_example.py:1: "),
    ],
)
def test_mistakes_are_told_when_collecting(tree, source, message):
    (tree / "tests" / "device" / "test_example.py").write_text(source)
    text, code = run(tree)
    assert code == 2 and message in text


def test_no_micropython_is_a_failure(tree):
    text, code = run(tree, "-k", "test_passes or test_skips", GATEHOUSE_MICROPYTHON="/nowhere/micropython")
    assert code == 1 and "2 failed" in text
    assert "GATEHOUSE_MICROPYTHON names /nowhere/micropython, which is no program" in text
    assert "Traceback" not in text


class Item:
    def __init__(self, path, number):
        self.path = path
        self.number = number


def test_each_worker_but_one_begins_with_whole_system_modules():
    system = TESTS / "system"
    items = [Item(TESTS / "device" / "test_a.py", n) for n in range(50)]
    items += [Item(system / f"test_{name}.py", n) for name in "bcdefg" for n in range(3)]
    found = order.dealt(items, 4)
    assert sorted(map(id, found)) == sorted(map(id, items))
    runs, start = [], 0
    for workers in range(4, 0, -1):  # as pytest-xdist divides them
        size = (len(found) - start) // workers
        runs.append(found[start : start + size])
        start += size
    for number, run in enumerate(runs):
        kinds = [item.path.parent == system for item in run]
        assert kinds[0] == (number < 3), "one computes while devices wait"
        assert kinds == sorted(kinds, reverse=True), "the long ones first"
    for path in {item.path for item in items if item.path.parent == system}:
        assert sum(any(item.path == path for item in run) for run in runs) == 1, "a module's fixture is made once"


def test_few_items_are_all_dealt():
    items = [Item(TESTS / "system" / "test_a.py", n) for n in range(5)] + [Item(TESTS / "host" / "test_b.py", 0)]
    assert sorted(map(id, order.dealt(items, 4))) == sorted(map(id, items))
