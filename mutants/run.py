"""`make mutants`: take out one defence or durability step after the other; each time a test must go red.

The list is mutants/*.toml, its form in mutants/README.md. All work is done on copies of the tree. Exit code 0 when
every mutant was caught, 1 when one survived or does not fit the source any more, 2 for wrong usage.
"""

import argparse
import ast
import contextlib
import difflib
import functools
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 2
Outcome = TypeVar("Outcome")
LIMIT = 180  # seconds; the longest list of tests takes 40 where nothing else runs
GRACE = 20  # seconds for pytest to report that; a run that takes longer has no verdict
FIELDS = {"name", "find", "replace", "why", "within", "tests"}


class ListError(Exception):
    """The list itself is wrong: the text says which mutant and how."""


class NoVerdict(Exception):
    """Tests that neither passed nor failed: not collected, skipped, or over the time limit."""


@dataclass(frozen=True)
class Mutant:
    """One patch: `find` in `file` becomes `replace`; one of `tests` (pytest node ids) must fail."""

    name: str
    file: str
    find: str
    replace: str
    why: str
    tests: tuple[str, ...]
    within: str | None = None

    def apply(self, source: str) -> str:
        """The mutated source. Raises ListError unless `find` is there exactly once and the result is Python."""
        start, end = section(source, self.within) if self.within else (0, len(source))
        # With its indentation, `find` means the start of a line, which tells a line from a deeper one of the same text.
        edge = "\n" if self.find[0] == " " else ""
        part = edge + source[start:end]
        where = self.file + (f", {self.within}," if self.within else "")
        if part.count(edge + self.find) != 1:
            raise ListError(f"{where} holds {part.count(edge + self.find)} times: {self.find}")
        part = part.replace(edge + self.find, edge + self.replace).removeprefix(edge)
        mutated = source[:start] + part + source[end:]
        if self.find.split() == self.replace.split():
            raise ListError(f"{where}: the patch changes nothing")
        try:
            ast.parse(mutated)
        except SyntaxError as error:
            raise ListError(f"{where}: the patch is no Python: {error.msg}: {self.replace}") from None
        return mutated

    def diff(self, root: Path) -> str:
        """The patch as a unified diff."""
        source = (root / self.file).read_text()
        old, new = source.splitlines(), self.apply(source).splitlines()
        return "\n".join(difflib.unified_diff(old, new, self.file, f"{self.file} ({self.name})", lineterm="", n=2))


@dataclass(frozen=True)
class Result:
    """What became of one mutant: `caught` by the test named in `note`, or why not."""

    mutant: Mutant
    caught: bool
    note: str
    seconds: float


@functools.cache
def section(source: str, name: str) -> tuple[int, int]:
    """Start and end of a function or class in the source; `name` may be the last part of "Class.method"."""
    found: list[tuple[int, int]] = []

    def search(body: list[ast.stmt], outer: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                full = f"{outer}.{node.name}"
                if full.endswith("." + name):
                    found.append((node.lineno - 1, node.end_lineno or node.lineno))
                search(node.body, full)

    search(ast.parse(source).body, "")
    if len(found) != 1:
        raise ListError(f"there is {'no' if not found else 'more than one'} {name}")
    lines = source.splitlines(keepends=True)
    first, last = found[0]
    return len("".join(lines[:first])), len("".join(lines[:last]))


def read_list(folder: Path) -> list[Mutant]:
    """Every mutant of folder/*.toml. Raises ListError for a wrong form."""
    found: dict[str, Mutant] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            content = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise ListError(f"{path.name}: {error}") from None
        for entry in content.get("mutant", []):
            name = entry.get("name", "a mutant without a name")
            if set(entry) - FIELDS or not {"name", "find", "replace", "why"} <= set(entry):
                raise ListError(f"{path.name}: {name}: fields are {', '.join(sorted(FIELDS))}")
            if name in found:
                raise ListError(f"{path.name}: {name} is there twice")
            if "\n" in entry["find"] + entry["replace"]:
                raise ListError(f"{path.name}: {name}: a patch is of one line")
            tests = tuple(entry.pop("tests", content.get("tests", [])))
            if not tests:
                raise ListError(f"{path.name}: {name} names no tests")
            found[name] = Mutant(file=content["file"], tests=tests, **entry)
    return list(found.values())


def copy_tree(root: Path, target: Path) -> None:
    """What git would see of the working copy, changes included, and what set-up fetched; nothing compiled."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    for name in ("umqtt", "microdot"):
        if (root / "build" / name).is_dir():
            shutil.copytree(root / "build" / name, target / "build" / name)


def environment(root: Path, tree: Path) -> dict[str, str]:
    """For tests of a copy: its own host package, no compiled remains, the same random cases each time."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree / "tools"), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GATEHOUSE_SEED": os.environ.get("GATEHOUSE_SEED", "1"),
        "GATEHOUSE_SHARED": os.environ.get("GATEHOUSE_SHARED", str(root.parent / "shared")),
    }


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and theirs, the youngest first."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [*descendants(int(child)), int(child)]
    return found


def kill(pids: list[int]) -> None:
    """End these processes, whatever they do."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run_tests(root: Path, tree: Path, tests: tuple[str, ...], limit: float) -> str | None:
    """The first test that failed, or None when all passed. Raises NoVerdict."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfEs", "-p", "no:cacheprovider", "--color=no", *tests]
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment(root, tree),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = None
    for second in range(1 + GRACE):
        try:
            output, _ = process.communicate(timeout=1 if second else limit)
            break
        except subprocess.TimeoutExpired:
            # A mutant may run for ever. Ending what pytest waits for lets it report that test as failed.
            kill(descendants(process.pid))
    if output is None:
        kill([*descendants(process.pid), process.pid])
        process.communicate()
        raise NoVerdict(f"no verdict after {limit + GRACE:.0f} s")
    failed = re.search(r"^(?:FAILED|ERROR) (.*)", output, re.MULTILINE)  # an error is one of its fixtures
    if process.returncode == 1 and failed:
        return failed[1].split(" - ")[0]
    if process.returncode or not re.search(r"^\d+ passed", output, re.MULTILINE):
        lines = [line for line in output.splitlines() if line.startswith(("ERROR", "E  ", "SKIPPED"))]
        raise NoVerdict(lines[0] if lines else f"pytest ended with exit code {process.returncode}")
    return None


def judge(mutant: Mutant, root: Path, tree: Path, limit: float) -> Result:
    """Run the tests of one mutant in `tree`, which is as before afterwards."""
    started = time.monotonic()
    target = tree / mutant.file
    source = target.read_text()
    target.write_text(mutant.apply(source))
    try:
        failed = run_tests(root, tree, mutant.tests, limit)
    except NoVerdict as error:
        return Result(mutant, False, str(error), time.monotonic() - started)
    finally:
        target.write_text(source)
    return Result(mutant, failed is not None, failed or "SURVIVED", time.monotonic() - started)


def misfit(mutant: Mutant, root: Path) -> str | None:
    """Why a patch cannot be applied to the source as it is now."""
    try:
        mutant.apply((root / mutant.file).read_text())
    except FileNotFoundError:
        return f"there is no {mutant.file}"
    except ListError as error:
        return str(error)
    return None


def run_all(mutants: list[Mutant], root: Path, limit: float, tell: Callable[[Result], None]) -> list[Result]:
    """Judge every mutant, two at a time, and `tell(result)` as each is done.

    One that does not fit the source, or whose tests do not pass on the source as it is, is not caught either.
    """
    trees: queue.Queue[Path] = queue.Queue()
    with tempfile.TemporaryDirectory(prefix="gatehouse-mutants-") as scratch, ThreadPoolExecutor(WORKERS) as pool:
        for number in range(WORKERS):
            copy_tree(root, Path(scratch) / str(number))
            trees.put(Path(scratch) / str(number))

        def with_tree(work: Callable[[Path], Outcome]) -> Outcome:
            tree = trees.get()
            try:
                return work(tree)
            finally:
                trees.put(tree)

        def unmutated(tests: tuple[str, ...]) -> str | None:
            try:
                red = with_tree(lambda tree: run_tests(root, tree, tests, limit))
            except NoVerdict as error:
                return f"without any mutant: {error}"
            return red and f"red without any mutant: {red}"

        fitting = {mutant.tests for mutant in mutants if not misfit(mutant, root)}
        wrong = dict(zip(fitting, pool.map(unmutated, fitting), strict=True))

        def one(mutant: Mutant) -> Result:
            why = misfit(mutant, root) or wrong[mutant.tests]
            result = Result(mutant, False, why, 0) if why else with_tree(lambda tree: judge(mutant, root, tree, limit))
            tell(result)
            return result

        return list(pool.map(one, mutants))


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="make mutants", description="Every defence taken out must turn a test red.")
    parser.add_argument("pattern", nargs="*", help="only mutants whose name contains this, e.g. NAME=cbor")
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="S", help="seconds for the tests of one mutant")
    parser.add_argument("--list", action="store_true", help="show the patches and run nothing")
    options = parser.parse_args(arguments)
    try:
        mutants = read_list(root / "mutants")
        if options.pattern:
            mutants = [mutant for mutant in mutants if any(part in mutant.name for part in options.pattern)]
        if not mutants:
            print(f"no mutant is named {' or '.join(options.pattern)}", file=sys.stderr)
            return 2
        if options.list:
            for mutant in mutants:
                print(f"{mutant.name}: {mutant.why}\n{misfit(mutant, root) or mutant.diff(root)}\n")
            return 0
        width = max(len(mutant.name) for mutant in mutants)

        def tell(result: Result) -> None:
            verdict = "caught " if result.caught else "MISSED "
            print(f"{verdict} {result.mutant.name:{width}}  {result.seconds:4.1f} s  {result.note}", flush=True)

        results = run_all(mutants, root, options.limit, tell)
    except ListError as error:
        print(error, file=sys.stderr)
        return 1
    missed = [result for result in results if not result.caught]
    for result in missed:
        print(f"\n{result.mutant.name}: {result.mutant.why}\n{result.note}; its tests: {' '.join(result.mutant.tests)}")
        if not misfit(result.mutant, root):
            print(result.mutant.diff(root))
    print(f"\n{len(results) - len(missed)} of {len(results)} mutants caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
