"""docs/troubleshooting.md holds messages that the code really has, and every reason of a device."""

from __future__ import annotations

import re

import pytest

from gatehouse_tools import core

TEXT = core.source("docs", "troubleshooting.md").read_text()
FOLDERS = ("tools/gatehouse_tools", "tools/setup")


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    table = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")][2:]


MESSAGES = [
    row[0].strip("`") for title in ("Set-up", "Making and signing", "Broker, devices, packs") for row in rows(title)
]


def source() -> str:
    """All of the tools' code, with neighbouring string literals joined as Python joins them."""
    files = [path for folder in FOLDERS for path in sorted((core.SOURCE / folder).rglob("*.py"))]
    text = "\n".join(path.read_text() for path in files)
    return re.sub(r'"\s*(?:#[^\n]*)?\n\s*f?"', "", text)


CODE = source()


def is_in_the_code(message: str) -> bool:
    """Whether one line of the code has the message, `…` being a field of it."""
    parts = [re.escape(part) for part in message.split("…")]
    return re.search(r"(?:\{[^\n]*?\}|%s|%d)".join(parts), CODE) is not None


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_is_one_of_the_code(message: str) -> None:
    assert len(message.replace("…", "").strip()) > 8, "too little to be told from others"
    assert is_in_the_code(message), message


@pytest.mark.parametrize("message", ["port … is in use: stop what runs here", "no answer at all within … s"])
def test_a_message_that_nobody_gives_is_noticed(message: str) -> None:
    assert not is_in_the_code(message)


def test_every_reason_of_a_device_is_explained() -> None:
    named = [name.strip("` ") for row in rows("What a device says") for name in row[0].split(",")]
    assert sorted(named) == sorted(core.module("reasons").REASONS)


def test_each_row_says_what_to_do() -> None:
    for title in ("Set-up", "Making and signing", "Broker, devices, packs", "What a device says"):
        assert len(rows(title)) >= 8
        assert all(cell.strip() for row in rows(title) for cell in row)
