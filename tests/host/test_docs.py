"""Links within the documents lead somewhere, decision records have their form, modules that are named exist."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests/README.md", ROOT / "mutants/README.md"]
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: pathlib.Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        to = (path.parent / target) if target else path
        assert to.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", to.read_text(), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, link


def test_decisions_have_one_form_and_are_listed() -> None:
    listed = (ROOT / "docs/decisions/README.md").read_text()
    records = sorted(path for path in (ROOT / "docs/decisions").glob("*.md") if path.name != "README.md")
    assert len(records) >= 6
    for number, path in enumerate(records, 1):
        text = path.read_text()
        title = text.splitlines()[0]
        assert title.startswith(f"# {number}. ") and path.name.startswith(f"{number:03}-")
        assert f"{number}. [{title.partition('. ')[2]}]({path.name})" in listed
        assert all(f"**{part}.**" in text for part in ("Choice", "Why", "Cost"))


def test_modules_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for name in set(re.findall(r"`([a-z_/]+\.py)`", text)):
        assert any((ROOT / folder / name).is_file() for folder in ("", "lib/gatehouse", "tools/gatehouse_tools")), name
    core = text.split("main.py\n")[1].split("| app: services")[0]
    names = """slots recovery tree trust suit installer offers update policy es256 lms cose mac unpack image cbor source
    journal status connection wifi link mqtt dial transitions record store"""
    for name in names.split():
        assert name in core and (ROOT / "lib/gatehouse" / f"{name}.py").is_file(), name
