"""The conformance matrix: what standards ask for, what does it, and which tests show it (docs/conformance.toml).

A matrix drifts: a test is renamed, skipped on the machine that counts, or deleted. So check() holds it against the
JUnit file that pytest wrote, and anything but "it ran and passed" is a problem.
"""

from __future__ import annotations

import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import core, product
from .errors import GatehouseError

TESTS = "tests"  # the names in the matrix are below it
GENERATED = "docs/conformance.md"
_MAX_JUNIT = 32 << 20  # bytes; 2,600 tests leave 400 KB, output of failures included a few MB
_ROW_TEXTS, _ROW_LISTS = ("id", "asks", "how", "left"), ("modules", "tests")
_OUTCOMES = ("passed", "skipped", "failed")  # from good to bad


@dataclass(frozen=True)
class Row:
    """One element of one document. asks and how: in our words. modules: paths in the checkout; tests: below tests/.

    left: what the maker of the product or the hardware still has to do, empty for nothing.
    """

    document: str
    id: str
    asks: str
    how: str
    left: str
    modules: list[str]
    tests: list[str]


@dataclass(frozen=True)
class Document:
    """A standard or law, and the rows of it that apply."""

    name: str
    url: str
    rows: list[Row]


@dataclass(frozen=True)
class Matrix:
    """All of it. outside: (element, why it does not apply)."""

    documents: list[Document]
    outside: list[tuple[str, str]]

    @property
    def rows(self) -> list[Row]:
        """The rows of all documents."""
        return [row for document in self.documents for row in document.rows]


@dataclass(frozen=True)
class Problem:
    """Evidence that does not hold: of which row, which module or test, and why."""

    row: Row
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.row.document}, {self.row.id}: {self.what} {self.why}"


def load(path: Path | None = None) -> Matrix:
    """The matrix of a file, by default of the checkout. GatehouseError names the row that is not whole.

    A row without a module or without a test is not whole: nothing is claimed without evidence.
    """
    path = path or core.source("docs", "conformance.toml")
    try:
        data = tomllib.loads(product.read(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GatehouseError(f"{path}: {error}") from None
    documents = []
    for item in data.get("document", []):
        name = _text(item, "name", f"{path}: a document")
        rows = [_row(row, name, path) for row in item.get("row", [])]
        ids = [row.id for row in rows]
        for twice in sorted({one for one in ids if ids.count(one) > 1}):
            raise GatehouseError(f"{path}: {name} has {twice} twice")
        documents.append(Document(name, _text(item, "url", f"{path}: {name}"), rows))
    if not documents or not all(document.rows for document in documents):
        raise GatehouseError(f"{path}: a document without rows")
    where = f"{path}: outside"
    return Matrix(documents, [(_text(one, "id", where), _text(one, "why", where)) for one in data.get("outside", [])])


def outcomes(path: Path) -> dict[str, str]:
    """What each test of a JUnit file did: passed, skipped or failed, by its name below tests/, cases apart.

    A test that failed in its set-up or afterwards has failed; one that was expected to fail counts as skipped.
    """
    data = product.read(path, "run `make test`, or pytest --junitxml=FILE")
    if len(data) > _MAX_JUNIT:
        raise GatehouseError(f"{path} is too large for the result of a test run", "size")
    try:
        tree = ElementTree.fromstring(data)  # noqa: S314 - our own pytest wrote it
    except ElementTree.ParseError as error:
        raise GatehouseError(f"{path} is not the JUnit file of a test run that came to its end: {error}") from None
    found: dict[str, str] = {}
    for case in tree.iter("testcase"):
        name = _test_name(case.get("classname", ""), case.get("name", ""))
        tags = {child.tag for child in case}
        told = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        found[name] = max(told, found.get(name, told), key=_OUTCOMES.index)
    return found


def check(matrix: Matrix, ran: dict[str, str], root: Path | None = None) -> list[Problem]:
    """What of the evidence does not hold, after a run of all tests. `ran`: of outcomes()."""
    root = root or core.SOURCE
    cases: dict[str, list[tuple[str, str]]] = {}
    for name, outcome in ran.items():
        cases.setdefault(name.partition("[")[0], []).append((name, outcome))
    found = []
    for row in matrix.rows:
        for module in row.modules:
            if not (root / module).is_file():
                found.append(Problem(row, module, "is not there"))
        for test in row.tests:
            told = [one for one in cases.get(test.partition("[")[0], []) if "[" not in test or one[0] == test]
            if not told:
                found.append(Problem(row, test, "is not among the tests that ran"))
            found += [Problem(row, name, outcome) for name, outcome in told if outcome != "passed"]
    return found


def markdown(matrix: Matrix) -> str:
    """docs/conformance.md."""
    lines = [
        "# Conformance",
        "",
        "Made from [conformance.toml](conformance.toml) by `gatehouse conformance --write docs/conformance.md`; do not"
        " edit. What a document asks",
        "for is told in our words; the document has the words that count. Tests are below `tests/`. After a whole"
        " `make test` each module named",
        "here is there, and each test ran and passed, or the target fails. All of it ran on the simulated board,"
        " **none of it on a chip**.",
        "",
    ]
    for document in matrix.documents:
        lines += [f"## {document.name}", "", f"<{document.url}>", ""]
        lines += ["| | asked for | how | where | shown by | left to do |", "| --- | --- | --- | --- | --- | --- |"]
        for row in document.rows:
            where = "<br>".join(f"`{module}`" for module in row.modules)
            shown = "<br>".join(f"`{test}`" for test in row.tests)
            cells = (row.id, row.asks, row.how, where, shown, row.left or "nothing")
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    lines += ["## What does not apply", "", "| | why |", "| --- | --- |"]
    lines += [f"| {name} | {why} |" for name, why in matrix.outside]
    return "\n".join(lines) + "\n"


def _row(data: Any, document: str, path: Path) -> Row:
    where = f"{path}: {document}, {data.get('id', 'a row') if isinstance(data, dict) else 'a row'}"
    texts = {name: _text(data, name, where, empty=name == "left") for name in _ROW_TEXTS}
    lists: dict[str, list[str]] = {}
    for name in _ROW_LISTS:
        value = data.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            raise GatehouseError(f"{where}: names no {name}; a row without evidence claims nothing")
        lists[name] = value
    unknown = sorted(set(data) - {*_ROW_TEXTS, *_ROW_LISTS})
    if unknown:
        raise GatehouseError(f"{where}: {unknown[0]} is not known here")
    return Row(document, texts["id"], texts["asks"], texts["how"], texts["left"], lists["modules"], lists["tests"])


def _text(data: Any, name: str, where: str, empty: bool = False) -> str:
    value = data.get(name) if isinstance(data, dict) else None
    if not isinstance(value, str) or not (value or empty):
        raise GatehouseError(f"{where}: {name} is missing, or not a text")
    return value


def _test_name(classname: str, name: str) -> str:
    """tests.host.test_x, test_y[case] -> host/test_x.py::test_y[case]; a class stays behind the file."""
    parts = classname.split(".")
    parts = parts[1:] if parts[0] == TESTS else parts
    last = max((n for n, part in enumerate(parts) if part.startswith("test_")), default=len(parts) - 1)
    return "::".join(["/".join(parts[: last + 1]) + ".py", *parts[last + 1 :], name])
