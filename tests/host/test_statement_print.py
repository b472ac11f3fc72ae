"""The statement for customers on paper: Chromium prints it, and no section is lost.

There is no PDF reader among the locked packages, and none is needed: Chromium writes an outline whose entries are the
headings that it printed, each with the page and the place of its words, and it tags each paragraph, each row of a table
and each item of a list. Of a PDF all of that stands uncompressed. What is printed but cut off the browser itself tells.
"""

from __future__ import annotations

import datetime
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import shop

from gatehouse_tools import statement
from servers import browser

pytestmark = pytest.mark.skipif(not browser.program(), reason="no chromium here: apt-get install chromium, as root")

PAPERS = {"A4": (8.27, 11.69), "letter": (8.5, 11.0)}  # inches
POINTS = 72  # of an inch
MARGIN = 20 / 25.4 * POINTS  # the 2 cm of the style sheet
LEAST = 40_000  # bytes: with its fonts and words it has twice that


class Printed(NamedTuple):
    """What a PDF says of itself. headings: (text, index of its page, points above the lower edge)."""

    pages: int
    paper: tuple[int, int]
    headings: list[tuple[str, int, float]]
    paragraphs: int
    rows: int
    items: int


def read(data: bytes) -> Printed:
    """A PDF of Chromium's."""
    assert data.startswith(b"%PDF-1.") and data.rstrip().endswith(b"%%EOF")
    objects = dict(re.findall(rb"^(\d+) 0 obj\n(.*?)^endobj$", data, re.MULTILINE | re.DOTALL))
    pages = [number for number, text in objects.items() if re.match(rb"<</Type /Page\s", text)]
    boxes = set(re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", data))
    assert len(boxes) == 1
    width, height = boxes.pop()
    outline = re.findall(rb"^<</Title \((.*)\)\n/Dest \[(\d+) 0 R /XYZ [\d.]+ (-?[\d.]+) 0\]", data, re.MULTILINE)
    headings = [(title.decode("ascii"), pages.index(page), float(place)) for title, page, place in outline]
    headings.sort(key=lambda one: (one[1], -one[2]))  # as they are read; the outline has the title last
    counts = [len(re.findall(rb"/S /" + tag + rb"\s", data)) for tag in (b"P", b"TR", b"LI")]
    return Printed(len(pages), (round(float(width)), round(float(height))), headings, *counts)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> statement.Statement:
    item = shop.make(tmp_path_factory.mktemp("print") / "shop", domain="gatehouse.example")
    shop.release(item, "1.0.0")
    return statement.make(item, datetime.date(2026, 11, 26))


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Browser]:
    with browser.Browser() as page:
        yield page


def lost(made: statement.Statement, printed: Printed) -> list[str]:
    """What of a statement is not on paper."""
    found = [title for title, _, _ in printed.headings]
    parts = [title for title in (made.title, *(title for title, _ in made.sections)) if title not in found]
    blocks = [block for _, blocks in made.sections for block in blocks]
    several = [block for block in blocks if not isinstance(block, str)]
    rows = sum(len(block) for block in several if isinstance(block[0], tuple))
    counts = {
        "paragraphs": (printed.paragraphs, len(blocks) - len(several)),
        "rows": (printed.rows, rows),
        "items": (printed.items, sum(map(len, several)) - rows),
    }
    return parts + [name for name, (there, wanted) in counts.items() if there != wanted]


def put(page: browser.Browser, folder: pathlib.Path, text: str) -> None:
    path = folder / "statement.html"
    path.write_text(text)
    assert page.open(path.as_uri()) == ""


@pytest.mark.parametrize("name", PAPERS)
def test_no_section_is_lost(
    made: statement.Statement, chromium: browser.Browser, tmp_path: pathlib.Path, name: str
) -> None:
    put(chromium, tmp_path, statement.page(made))
    width, height = PAPERS[name]
    data = chromium.pdf(width, height)
    printed = read(data)
    assert all(abs(a / POINTS - b) < 0.02 for a, b in zip(printed.paper, PAPERS[name], strict=True))
    assert printed.pages >= 2 and len(data) > LEAST
    assert len(made.sections) > 8 and printed.rows > 10 and printed.items > 5  # there is something to lose
    assert lost(made, printed) == []
    # In the order of the text, each page with a heading, within the margins, and none alone at the foot of a page.
    titles = [title for title, _, _ in printed.headings]
    assert titles == [made.title, *(title for title, _ in made.sections)]
    assert {page for _, page, _ in printed.headings} == set(range(printed.pages))
    assert all(MARGIN + 24 < place < height * POINTS - MARGIN + 24 for _, _, place in printed.headings)


@pytest.mark.parametrize("name", PAPERS)
def test_nothing_is_cut_off(
    made: statement.Statement, chromium: browser.Browser, tmp_path: pathlib.Path, name: str
) -> None:
    cut = """(() => {
        const root = document.documentElement;
        return root.scrollWidth > root.clientWidth || [...document.querySelectorAll('body *')].some((one) =>
            getComputedStyle(one).overflowY !== 'visible' && one.scrollHeight > one.clientHeight);
    })()"""
    width = round((PAPERS[name][0] - 2 * MARGIN / POINTS) * 96)  # what the margins leave, in the pixels of CSS
    chromium.ask("Emulation.setEmulatedMedia", media="print")
    chromium.ask("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
    try:
        text = statement.page(made)
        put(chromium, tmp_path, text)
        assert chromium.js(cut) is False
        for style in ("td { white-space: nowrap }", "section:last-of-type { height: 3em; overflow: hidden }"):
            put(chromium, tmp_path, text.replace("@media print {", "@media print { " + style))
            assert chromium.js(cut) is True, style
    finally:
        chromium.ask("Emulation.clearDeviceMetricsOverride")
        chromium.ask("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize(
    ("style", "missing"),
    [
        ("section:nth-of-type(4) { display: none }", "What it can do, and how to use it"),
        ("section:last-of-type { visibility: hidden }", "End of life"),
        ("section:last-of-type { position: absolute; top: -9cm }", "End of life"),
        ("section:last-of-type p { display: none }", "paragraphs"),
        ("tr:nth-of-type(2) { display: none }", "rows"),
        ("li:nth-of-type(2) { display: none }", "items"),
    ],
    ids=["a section gone", "a section hidden", "off the paper", "paragraphs gone", "rows gone", "items gone"],
)
def test_a_loss_is_found(
    made: statement.Statement, chromium: browser.Browser, tmp_path: pathlib.Path, style: str, missing: str
) -> None:
    text = statement.page(made)
    assert text.count("@media print {") == 1
    put(chromium, tmp_path, text.replace("@media print {", "@media print { " + style))
    assert missing in lost(made, read(chromium.pdf(*PAPERS["A4"])))
