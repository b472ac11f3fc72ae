"""Every refusal in the core has a code of the one list, and no code is left without a use."""

import re
from pathlib import Path

from gatehouse_tools import core

CORE = Path(__file__).resolve().parents[2] / "lib" / "gatehouse"
APPLICATION = CORE.parents[1] / "firmware"
# Reasons that are chosen by a table or a variable rather than written beside the word Refused.
INDIRECT = {"vendor", "class", "device", "expired", "slot", "condition", "full", "state", "digest", "memory"}


def test_reasons_are_known_and_used() -> None:
    known = set(core.module("reasons").REASONS)
    used = set()
    for path in [*CORE.glob("*.py"), *APPLICATION.rglob("*.py")]:
        used |= set(re.findall(r'Refused\(\s*"([^"]+)"', path.read_text()))
    assert used <= known
    assert known <= used | INDIRECT
