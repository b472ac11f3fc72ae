"""Collects the functions test_* of tests/device/test_*.py and runs each in a MicroPython process of its own.

The files are read with `ast` and never imported by CPython.
"""

import ast
import inspect
import json
import os
import pathlib
import re
import runpy
import shutil
import signal
import subprocess
import tempfile

import pytest

from . import interpreter, seed

TESTS = pathlib.Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
RUNNER = TESTS / "plugin" / "device"
# What a device test can import, in this order. `-X heapsize=` tests get the same folders, compiled.
FOLDERS = (RUNNER, ROOT / "lib", ROOT / "firmware", TESTS / "device", ROOT / "build" / "microdot")
TIMEOUT = 120  # seconds; a test of more than one is rare, but two cores may serve many
SEED_MARK = "\x1eseed\n"
VERDICT = re.compile(r"\n\x1everdict (passed|failed|skipped)(?: ([^\n]*))?\n\Z")
HEAP = re.compile(r"\d+w?[KM]?\Z")
FRAME = re.compile(r'^  File "([^"]+)", line (\d+), in .*$', re.MULTILINE)
PROPERTY = "micropython"


class Failed(Exception):
    """A device test that did not pass; the text is what pytest shows."""


class Session:
    """What device tests of one pytest session share: the temporary folder, host-made cases, compiled modules."""

    def __init__(self, config):
        self.config = config
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gatehouse-tests-"))
        self.cases = self.folder / "cases"
        self.cases.mkdir()
        self.random_cases: set[str] = set()
        self.compiled = False

    def make_cases(self, name):
        """Run tests/cases/<name>.py once; True if its cases are random."""
        target = self.cases / f"{name}.json"
        if not target.exists():
            path = TESTS / "cases" / f"{name}.py"
            if not path.is_file():
                raise Failed(f"cases({name!r}): there is no {path.relative_to(ROOT)}")
            make = runpy.run_path(str(path))["make"]
            arguments = []
            if inspect.signature(make).parameters:
                arguments.append(seed.rng(self.config, name))
                self.random_cases.add(name)
            # As UTF-8, because MicroPython's json takes an escaped pair of surrogates for two characters.
            target.write_text(json.dumps(make(*arguments), default=bytes.hex, ensure_ascii=False), "utf-8")
        return name in self.random_cases

    def folders(self, compiled):
        """The device's import path, as source or compiled."""
        if not compiled:
            return [str(folder) for folder in FOLDERS]
        target = self.folder / "mpy"
        if not self.compiled:
            for folder in FOLDERS:
                interpreter.compile_folder(folder, target / folder.relative_to(ROOT))
            self.compiled = True
        return [str(target / folder.relative_to(ROOT)) for folder in FOLDERS]

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


KEY = pytest.StashKey[Session]()


def pytest_configure(config):
    config.stash[KEY] = Session(config)


def pytest_unconfigure(config):
    if KEY in config.stash:
        config.stash[KEY].close()


def pytest_pycollect_makemodule(module_path, parent):
    if module_path.resolve().parent == TESTS / "device":
        return DeviceFile.from_parent(parent, path=module_path)
    return None


class DeviceFile(pytest.File):
    """One file of tests/device."""

    def collect(self):
        try:
            tree = ast.parse(self.path.read_text(), str(self.path))
        except SyntaxError as error:
            raise self.CollectError(f"{self.path}:{error.lineno}: {error.msg}") from None
        constants = _constants(tree, ("HEAP", "HEAPS", "TIMEOUT"))
        functions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        functions = [node for node in functions if node.name.startswith("test_")]
        for_all = {name for node in tree.body if node not in functions for name in _cases_used(node)}
        seen: dict[str, int] = {}
        for node in functions:
            where = f"{self.path}:{node.lineno}: {node.name}"
            if node.name in seen:
                raise self.CollectError(f"{where} hides the test of that name in line {seen[node.name]}")
            if node.args.args or node.args.posonlyargs or node.args.kwonlyargs:
                raise self.CollectError(f"{where}: a device test takes no arguments")
            seen[node.name] = node.lineno
            heap = constants.get("HEAPS", {}).get(node.name, constants.get("HEAP"))
            if heap is not None and not (isinstance(heap, str) and HEAP.match(heap)):
                raise self.CollectError(f"{where}: {heap!r} is no heap size such as 48wK")
            yield DeviceTest.from_parent(
                self,
                name=node.name,
                lineno=node.lineno,
                heap=heap,
                timeout=constants.get("TIMEOUT", TIMEOUT),
                cases=sorted(for_all.union(_cases_used(node))),
            )
        unknown = set(constants.get("HEAPS", {})) - set(seen)
        if unknown:
            raise self.CollectError(f"{self.path}: HEAPS names no test: {', '.join(sorted(unknown))}")


class DeviceTest(pytest.Item):
    """One test function, in a process of its own."""

    def __init__(self, *, lineno, heap, timeout, cases, **more):
        super().__init__(**more)
        self.lineno = lineno
        self.heap = heap
        self.timeout = timeout
        self.cases = cases
        self.used_seed = False

    def runtest(self):
        session = self.config.stash[KEY]
        for name in self.cases:
            self.used_seed |= session.make_cases(name)
        program = interpreter.find()
        self.user_properties.append((PROPERTY, interpreter.version()))
        folders = session.folders(compiled=self.heap is not None)
        heap = ["-X", f"heapsize={self.heap}"] if self.heap else []
        command = [program, *heap, "-m", "run_device", self.path.stem, self.name, ".frozen", *folders]
        output, why = self._run(session, command, folders[0])
        if SEED_MARK in output:
            self.used_seed = True
            output = output.replace(SEED_MARK, "")
        verdict = VERDICT.search(output)
        output = output[: verdict.start()] if verdict else output
        if why or not verdict:
            raise Failed(f"{_with_source(output)}\n{why or 'the process ended without a verdict'}".strip())
        if verdict[1] == "failed":
            raise Failed(_with_source(output).strip())
        if output.strip():
            self.add_report_section("call", "stdout", output)
        if verdict[1] == "skipped":
            pytest.skip(verdict[2] or "no reason given")

    def _run(self, session, command, runner):
        """The process's output, and why it did not end well (None if it did)."""
        with tempfile.TemporaryDirectory(dir=session.folder) as folder:
            environment = {
                **os.environ,
                # Set, so that the interpreter does not add its default, the host user's ~/.micropython.
                "MICROPYPATH": runner,
                "GATEHOUSE_CASES": str(session.cases),
                "GATEHOUSE_SHARED": os.environ.get("GATEHOUSE_SHARED", str(ROOT.parent / "shared")),
                "GATEHOUSE_SEED": str(seed.of(self.config)),
            }
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            why = None
            try:
                output, _ = process.communicate(timeout=self.timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
                why = f"not finished after {self.timeout} s"
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
        if process.returncode and why is None:
            why = f"the process ended with exit code {process.returncode}"
        return output.decode(errors="replace").replace("\r\n", "\n"), why

    def repr_failure(self, excinfo, style=None):
        if excinfo.errisinstance((Failed, interpreter.Unusable)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def skipped_here(self, report):
        """Give the test's own line for a skip, not this file's."""
        if report.skipped and isinstance(report.longrepr, tuple):
            report.longrepr = (str(self.path), self.lineno, report.longrepr[2])

    def reportinfo(self):
        return self.path, self.lineno - 1, self.name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if isinstance(item, DeviceTest):
        item.skipped_here(report)
    return report


def pytest_terminal_summary(terminalreporter):
    versions = [
        value
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call"
        for key, value in report.user_properties
        if key == PROPERTY
    ]
    for version in sorted(set(versions)):
        terminalreporter.write_line(f"{versions.count(version)} tests ran inside MicroPython {version}")


def _constants(tree, names):
    """The literal values of module-level assignments to `names`."""
    return {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in names
    }


def _cases_used(tree):
    """The names in calls of cases("name")."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="cases"), args=[ast.Constant(value=str(name))]):
                yield name


def _with_source(text):
    """The traceback with each frame's source line, which MicroPython does not print."""

    def line(match):
        path = pathlib.Path(match[1])
        if not path.is_file():
            return match[0]
        lines = path.read_text().splitlines()
        number = int(match[2])
        source = lines[number - 1].strip() if 0 < number <= len(lines) else ""
        shown = os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)
        return f"{match[0].replace(match[1], shown)}\n    {source}"

    return FRAME.sub(line, text)
