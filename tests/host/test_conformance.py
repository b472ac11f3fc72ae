"""The conformance matrix claims nothing that a test run did not show."""

from __future__ import annotations

import ast
import html
import os
import pathlib
import subprocess
import sys

import pytest
import shop

from gatehouse_tools import conformance, core
from gatehouse_tools.errors import GatehouseError

ROOT = core.SOURCE
MATRIX = """
[[document]]
name = "A standard"
url = "https://standard.example"
[[document.row]]
id = "1"
asks = "that it adds"
how = "it adds"
modules = ["sum.py"]
tests = ["host/test_sum.py::test_adds", "host/test_sum.py::test_each[2]"]
left = ""
"""
TESTS = """
import pytest

def test_adds():
    assert 1 + 1 == 2

@pytest.mark.parametrize("n", [1, 2])
def test_each(n):
    assert n + 1 > n

def test_of_nothing():
    assert True
"""


def run(folder: pathlib.Path, tests: str = TESTS, *options: str) -> list[str]:
    """The problems that check() has with a real pytest run of `tests`, and what `gatehouse conformance` would do."""
    (folder / "tests" / "host").mkdir(parents=True, exist_ok=True)
    (folder / "tests" / "host" / "test_sum.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "sum.py").touch()
    (folder / "matrix.toml").write_text(MATRIX)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--junitxml=junit.xml",
        *options,
        "tests",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=60, check=False)
    ran = conformance.outcomes(folder / "junit.xml")
    return [str(one) for one in conformance.check(conformance.load(folder / "matrix.toml"), ran, folder)]


def test_an_honest_run_is_accepted(tmp_path: pathlib.Path) -> None:
    assert run(tmp_path) == []
    assert run(tmp_path, TESTS, "-n", "2") == []


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("def test_adds", "def test_sums", "host/test_sum.py::test_adds is not among the tests that ran"),
        ("[1, 2]", "[1, 3]", "host/test_sum.py::test_each[2] is not among the tests that ran"),
        ("    assert 1 + 1 == 2", "    pytest.skip('not here')", "host/test_sum.py::test_adds skipped"),
        ("def test_adds", "@pytest.mark.skip\ndef test_adds", "host/test_sum.py::test_adds skipped"),
        ("def test_adds", "@pytest.mark.xfail\ndef test_adds", None),  # it passes, unexpectedly
        ("    assert 1 + 1 == 2", "    pytest.xfail('one day')", "host/test_sum.py::test_adds skipped"),
        ("1 + 1 == 2", "1 + 1 == 3", "host/test_sum.py::test_adds failed"),
        ("def test_adds()", "def test_adds(nothing_of_this_name)", "host/test_sum.py::test_adds failed"),
        ("    assert True", "    raise SystemError", None),  # no evidence of the matrix
    ],
)
def test_a_deleted_skipped_or_failed_test_is_a_problem(
    tmp_path: pathlib.Path, before: str, after: str, problem: str | None
) -> None:
    assert before in TESTS
    found = run(tmp_path, TESTS.replace(before, after, 1))
    assert found == ([] if problem is None else [f"A standard, 1: {problem}"])


def test_a_name_without_a_case_means_all_cases(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sum.py").touch()
    (tmp_path / "matrix.toml").write_text(MATRIX.replace("test_each[2]", "test_each"))
    matrix = conformance.load(tmp_path / "matrix.toml")
    ran = {f"host/test_sum.py::{name}": "passed" for name in ("test_adds", "test_each[1]", "test_each[2]")}
    assert conformance.check(matrix, ran, tmp_path) == []
    ran["host/test_sum.py::test_each[1]"] = "skipped"
    assert [one.what for one in conformance.check(matrix, ran, tmp_path)] == ["host/test_sum.py::test_each[1]"]


def test_a_test_that_fails_after_it_passed_has_failed(tmp_path: pathlib.Path) -> None:
    late = "@pytest.fixture\ndef late():\n    yield\n    raise OSError\n\ndef test_adds(late)"
    assert run(tmp_path, TESTS.replace("def test_adds()", late)) == [
        "A standard, 1: host/test_sum.py::test_adds failed"
    ]


@pytest.mark.parametrize("order", [("", "<error/>"), ("<failure/>", "")])
def test_the_worse_of_two_entries_counts(tmp_path: pathlib.Path, order: tuple[str, str]) -> None:
    cases = "".join(f"<testcase classname='tests.host.test_sum' name='test_adds'>{told}</testcase>" for told in order)
    (tmp_path / "junit.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert conformance.outcomes(tmp_path / "junit.xml") == {"host/test_sum.py::test_adds": "failed"}


def test_a_module_that_is_gone_is_a_problem(tmp_path: pathlib.Path) -> None:
    run(tmp_path)
    (tmp_path / "sum.py").unlink()
    ran = conformance.outcomes(tmp_path / "junit.xml")
    found = conformance.check(conformance.load(tmp_path / "matrix.toml"), ran, tmp_path)
    assert [str(one) for one in found] == ["A standard, 1: sum.py is not there"]


def test_device_tests_have_their_names() -> None:
    name = "device/test_policy.py::test_bounds_of_the_window"
    path = ROOT / "build" / f"junit-{os.getpid()}.xml"
    path.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={path}", f"tests/{name}"]
    try:
        subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=True)
        assert conformance.outcomes(path) == {name: "passed"}
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('tests = ["host/test_sum.py::test_adds", "host/test_sum.py::test_each[2]"]', "tests = []", "names no tests"),
        ('modules = ["sum.py"]', "", "names no modules"),
        ('asks = "that it adds"', "", "asks is missing"),
        ('how = "it adds"', 'how = ""', "how is missing"),
        ('left = ""', "left = 1", "left is missing"),
        ('left = ""', 'left = ""\nstatus = "met"', "status is not known"),
        ('url = "https://standard.example"', "", "url is missing"),
        ("[[document.row]]", "[[document.other]]", "without rows"),
        (MATRIX, MATRIX + MATRIX.partition('example"\n')[2], "has 1 twice"),
        (MATRIX, "= 1", "matrix.toml"),
    ],
)
def test_a_matrix_that_is_not_whole(tmp_path: pathlib.Path, before: str, after: str, words: str) -> None:
    assert before in MATRIX
    path = tmp_path / "matrix.toml"
    path.write_text(MATRIX.replace(before, after, 1))
    with pytest.raises(GatehouseError, match=r"matrix\.toml") as caught:
        conformance.load(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("data", ["", "<testsuites><testcase", "no xml"])
def test_a_run_that_did_not_come_to_its_end(tmp_path: pathlib.Path, data: str) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(data)
    shop.run("conformance", "--check", path).refused(1, "came to its end")
    shop.run("conformance", "--check", tmp_path / "none.xml").refused(1, "none.xml", "make test")


# The project's own matrix.


def test_the_document_is_what_the_matrix_says() -> None:
    told = "run gatehouse conformance --write docs/conformance.md"
    assert (ROOT / conformance.GENERATED).read_text() == conformance.markdown(conformance.load()), told


def test_every_common_element_of_8259a_has_its_row() -> None:
    found = [row.id for row in conformance.load().documents[0].rows]
    numbers = {"DI": 2, "DC": 3, "DP": 3, "LA": 3, "SU": 5}
    wanted = [f"{name}-{number}" for name, count in numbers.items() for number in range(1, count + 1)]
    assert found == [*wanted, "SU-6a", "SU-6b", *(f"CS-{number}" for number in range(1, 6))]


def test_evidence_is_there_and_runs_on_any_machine() -> None:
    """What the check after the run would find late: modules and tests are there, and none may skip."""
    trees: dict[str, tuple[str, dict[str, ast.FunctionDef | ast.AsyncFunctionDef]]] = {}
    for row in conformance.load().rows:
        for module in row.modules:
            assert (ROOT / module).is_file(), f"{row.id}: {module}"
        for test in row.tests:
            file, name = test.partition("[")[0].split("::")
            if file not in trees:
                text = (ROOT / "tests" / file).read_text()
                functions = (
                    one for one in ast.parse(text).body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
                )
                trees[file] = text, {one.name: one for one in functions}
            text, known = trees[file]
            assert name in known, f"{row.id}: {test}"
            body = [ast.get_source_segment(text, part) or "" for part in (known[name], *known[name].decorator_list)]
            words = [
                word for word in ("shared(", ".skip(", ".skipif", "raise Skip") if any(word in part for part in body)
            ]
            assert not words, f"{row.id}: {test} may skip ({words[0]})"


def test_it_is_shown(tmp_path: pathlib.Path) -> None:
    done = shop.run("conformance")
    assert done.code == 0
    assert "SU-3" in done.out
    assert "system/test_firmware.py::test_authorised_roll_back" in done.out
    facts = shop.run("conformance", "--json").json
    assert facts["ok"] is True
    assert facts["documents"][0]["rows"][0]["id"] == "DI-1"
    assert shop.run("conformance", "--write", tmp_path / "c.md").code == 0
    assert (tmp_path / "c.md").read_text() == (ROOT / conformance.GENERATED).read_text()
    shop.run("conformance", "--write", tmp_path / "c.md", "--check", tmp_path / "x").refused(2, "do not go together")


def test_check_by_the_command(tmp_path: pathlib.Path) -> None:
    cases = []
    for test in sorted({test for row in conformance.load().rows for test in row.tests}):
        file, _, name = test.partition("::")
        classname = "tests." + file.removesuffix(".py").replace("/", ".")
        cases.append(f"<testcase classname='{classname}' name='{html.escape(name)}'/>")
    path = tmp_path / "junit.xml"
    path.write_text("<testsuites><testsuite>" + "".join(cases) + "</testsuite></testsuites>")
    assert shop.run("conformance", "--check", path).code == 0
    path.write_text("<testsuites><testsuite>" + "".join(cases[1:]) + "</testsuite></testsuites>")
    done = shop.run("conformance", "--check", path, "--json")
    assert done.code == 1
    assert done.json["problems"][0]["why"] == "is not among the tests that ran"


def test_make_test_checks_it_after_a_whole_run_only() -> None:
    def steps(*arguments: str) -> str:
        command = ["make", "--no-print-directory", "-n", "test", *arguments]
        environment = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "MFLAGS")}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    whole = steps().splitlines()
    assert whole[-2].split("#")[0].rstrip().endswith("--junitxml=build/junit.xml")
    assert whole[-1] == ".venv/bin/gatehouse conformance --check build/junit.xml"
    part = steps("ARGS=-k 'cbor or (tree, too)'").splitlines()
    assert "-k 'cbor or (tree, too)'" in part[-2]
    assert part[-1] == 'echo "Conformance: not checked since ARGS may have left tests out"'
