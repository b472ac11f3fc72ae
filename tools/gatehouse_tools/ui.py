"""What a person or a program sees: results on stdout, talk on stderr, one JSON object on stdout with --json.

NO_COLOR is respected, and a pipe gets plain text whose lines are never wrapped.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

Item = TypeVar("Item")
Row = tuple[str, str]

_json = False


def json_mode() -> bool:
    """True when this call was given --json."""
    return _json


def set_json(wanted: bool) -> None:
    """Switch JSON on or off; each call of the CLI starts with off."""
    global _json
    _json = wanted


def _on_json(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        set_json(True)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the option --json. The command calls result(); show() is silent then."""
    return click.option(
        "--json",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_on_json,
        help="Print one JSON object on stdout, for programs.",
    )(function)


def product_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the option --product, passed on as `product_dir` for product.find()."""
    return click.option(
        "--product",
        "product_dir",
        metavar="DIR",
        help="The product's folder. Default: GATEHOUSE_PRODUCT, else the nearest folder upwards with product.toml.",
    )(function)


def out() -> Console:
    """The console of results, stdout."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def err() -> Console:
    """The console of talk, stderr."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def show(text: str = "", style: str = "") -> None:
    """One line of the result, on stdout; nothing with --json."""
    if not _json:
        out().print(Text(printable(text), style))


def rows(pairs: Iterable[Row], indent: str = "") -> None:
    """Label and text, one pair a line, the texts under each other. A repeated label is shown once."""
    pairs = list(pairs)
    width = max((len(label) for label, _ in pairs), default=0)
    last = None
    for label, text in pairs:
        shown = "" if label == last else label
        if not _json:
            out().print(Text(indent) + Text(shown.ljust(width), "bold") + Text("  " + printable(text)))
        last = label


def result(data: dict[str, Any]) -> None:
    """The whole result for a program: with --json one object on stdout, otherwise nothing."""
    if _json:
        sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")


def say(text: str, style: str = "dim") -> None:
    """Talk: what is being done. On stderr, with --json too."""
    err().print(Text(printable(text), style))


def warn(text: str) -> None:
    """Something that is not an error, but that its reader should know. On stderr."""
    err().print(Text("warning: ", "yellow") + Text(printable(text)))


def error(text: str, reason: str | None = None) -> None:
    """The one line of a failure, with its stable reason code; with --json an object on stdout as well."""
    told = Text("gatehouse: ", "red") + Text(printable(text))
    err().print(told + Text(f" [{reason}]" if reason else "", "dim"))
    result({"ok": False, "error": text, "reason": reason})


def printable(text: str) -> str:
    """`text` on one line and without control characters: what stands in a file must not steer a terminal."""
    return "".join(one if one.isprintable() else " " if one.isspace() else "\ufffd" for one in text)


def from_here(path: Path) -> str:
    """`path` as a command that is typed next takes it."""
    return shlex.quote(os.path.relpath(path))


def progress(items: Sequence[Item], label: str) -> Iterator[Item]:
    """The items, with a bar on stderr while they are worked on; no bar where there is no terminal."""
    with bar(label, len(items)) as step:
        for item in items:
            yield item
            step()


@contextlib.contextmanager
def bar(label: str, total: int | None, *, in_bytes: bool = False) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, with the time left; the function that it yields moves it by one, or by its argument.

    in_bytes: what is counted are bytes, and shown as KiB and MiB. total: None while nobody knows it.
    """
    console = err()
    label_column = TextColumn("{task.description}", markup=False)
    count_column = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
    columns = (label_column, BarColumn(), count_column, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal or _json) as shown:
        task = shown.add_task(label, total=total)
        yield lambda count=1: shown.advance(task, count)


def size(count: int) -> str:
    """A number of bytes for people, with the exact number."""
    return f"{count} bytes" if count < 10240 else f"{count / 1024:.1f} KiB ({count} bytes)"


def when(seconds: float) -> str:
    """Unix seconds as a date and time."""
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OSError, OverflowError, ValueError):  # a device may say any number
        return f"second {seconds} of Unix time"
