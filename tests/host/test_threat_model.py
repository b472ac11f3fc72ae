"""docs/threat-model.md: the tests that it names exist, and no attack on the lists that it goes by is left out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()

# RFC 9124 section 4.2, and the attacks that the TUF specification (section 1.5.2) lists.
THREATS = """IMG.EXPIRED|IMG.EXPIRED.OFFLINE|IMG.INCOMPATIBLE|IMG.FORMAT|IMG.LOCATION|NET.REDIRECT|NET.ONPATH
|IMG.REPLACE|IMG.NON_AUTH|UPD.WRONG_PRECURSOR|UPD.UNAPPROVED|IMG.DISCLOSURE|MFST.OVERRIDE|MFST.EXPOSURE|IMG.EXTRA
|KEY.EXPOSURE|MFST.MODIFICATION|MFST.TOCTOU""".replace("\n", "").split("|")
TUF = """arbitrary installation|endless data|extraneous dependencies|fast-forward|indefinite freeze|malicious mirror
|mix-and-match|rollback|slow retrieval|key compromise|wrong software""".replace("\n", "").split("|")


def rows(title: str) -> list[list[str]]:
    """The cells of an attack table."""
    table = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    found = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return found[2:]


def test_every_named_test_exists() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    collected = {line.removeprefix("tests/") for line in done.stdout.splitlines() if "::" in line}
    update, interfaces = rows("Attacks on the update"), rows("Attacks on the interfaces")
    on_reports = rows("Attacks on reports")
    assert len(update) > 40 and len(interfaces) > 40 and len(on_reports) > 12
    assert all(names for _, names, *_ in update)
    tests = [("system/", row[-2:], row[0]) for row in update] + [
        ("", row[-2:], row[0]) for row in interfaces + on_reports
    ]
    wrong = [
        f"{attack}: {cell}"
        for folder, cells, attack in tests
        for cell in cells
        if folder + cell.strip("`") not in collected and (cell != "the same test" or cell is not cells[1])
    ]
    assert not wrong, "\n".join(wrong)


def test_every_attack_of_the_lists_has_a_row() -> None:
    named = set(re.findall(r"`([A-Z]+\.[A-Z_.]+)`", TEXT))
    assert named == set(THREATS)
    assert [name for name in TUF if not re.search(rf"\bT [^|]*{name}", TEXT)] == []
