"""`gatehouse conformance`: what standards ask for, and the evidence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import rich_click as click
from rich.table import Table
from rich.text import Text

from .. import conformance, product, ui
from ..errors import UsageError


@click.command("conformance")
@click.option(
    "--check", "junit", type=click.Path(path_type=Path), metavar="FILE",
    help="Hold the evidence against the JUnit file of a whole test run.",
)  # fmt: skip
@click.option("--write", type=click.Path(path_type=Path), metavar="FILE", help="Write it as Markdown.")
@ui.json_option
def command(junit: Path | None, write: Path | None) -> int:
    """Show what NIST IR 8259A, EN 303 645, PSTI, SB-327 and the Cyber Resilience Act ask for: how it is met, by which
    modules, shown by which tests, and what is left to the maker of a product or to the hardware. With --check, exit
    code 1 where a module is not there, or a test did not run, was skipped or failed.

    \b
    Example:
    $ gatehouse conformance
    $ gatehouse conformance --check build/junit.xml
    """
    if junit and write:
        raise UsageError("--check and --write do not go together")
    matrix = conformance.load()
    rows = matrix.rows
    if junit:
        return _check(matrix, junit)
    if write:
        product.write(write, conformance.markdown(matrix).encode())
        ui.show(f"{write}: {len(rows)} rows of {len(matrix.documents)} documents")
    else:
        _show(matrix)
    ui.result(
        {
            "ok": True,
            "documents": [
                {"name": one.name, "url": one.url, "rows": [_facts(row) for row in one.rows]}
                for one in matrix.documents
            ],
            "outside": [{"id": name, "why": why} for name, why in matrix.outside],
            **({"file": str(write)} if write else {}),
        }
    )
    return 0


def _check(matrix: conformance.Matrix, junit: Path) -> int:
    problems = conformance.check(matrix, conformance.outcomes(junit))
    named = {test for row in matrix.rows for test in row.tests}
    for problem in problems:
        ui.show(f"WRONG: {problem}", "red")
    if problems:
        ui.show("The matrix claims what the tests do not show: mend the test, or name another in docs/conformance.toml")
    else:
        ui.show(f"Conformance: {len(matrix.rows)} rows, all of their {len(named)} tests ran and passed", "green")
    ui.result(
        {
            "ok": not problems,
            "rows": len(matrix.rows),
            "tests": len(named),
            "problems": [
                {"document": one.row.document, "id": one.row.id, "what": one.what, "why": one.why} for one in problems
            ],
        }
    )
    return 1 if problems else 0


def _facts(row: conformance.Row) -> dict[str, object]:
    return {name: value for name, value in dataclasses.asdict(row).items() if name != "document"}


def _show(matrix: conformance.Matrix) -> None:
    """A table in a terminal; in a pipe lines that are not wrapped."""
    console = ui.out()
    for document in matrix.documents:
        ui.show(document.name, "bold")
        if not console.is_terminal:
            for row in document.rows:
                ui.rows([(row.id, row.asks), ("", row.how)], "  ")
                ui.rows([*(("shown by", test) for test in row.tests), ("left", row.left or "nothing")], "    ")
        elif not ui.json_mode():
            table = Table("", "asked for", "how", "tests", "left to do", show_lines=True)
            for row in document.rows:
                cells = (row.id, row.asks, row.how, str(len(row.tests)), row.left or "nothing")
                table.add_row(*(Text(cell) for cell in cells))
            console.print(table, soft_wrap=False)
        ui.show()
    open_ = sum(bool(row.left) for row in matrix.rows)
    ui.show(f"{len(matrix.rows)} rows, each with tests; {open_} leave something to the maker or the hardware.")
    ui.show("The names of the tests: docs/conformance.md. Whether they passed: gatehouse conformance --check FILE")
