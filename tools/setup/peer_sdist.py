"""Fetch micropython-ota, the updater that `make bench` compares with. Like umqtt.simple, pip cannot install it."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import umqtt_sdist

NAME = "micropython-ota"
VERSION = "2.1.0"
SHA256 = "f340caa81d88ff78365daa255adcafd79fa4d880ed58ce779748e87d6f9f3973"
MODULE = "micropython_ota.py"


def ready(target: Path) -> bool:
    """Whether `target` holds the module that `fetch` wrote there, unchanged."""
    try:
        digest = hashlib.sha256((target / MODULE).read_bytes()).hexdigest()
        return (target / "stamp").read_text() == f"{SHA256} {digest}\n"
    except OSError:
        return False


def fetch(target: Path, offered: Iterable[bytes] | None = None) -> None:
    """Write the module into `target`. Raises umqtt_sdist.FetchError; then nothing is written."""
    found = umqtt_sdist.candidates(umqtt_sdist.pip_config(), NAME, VERSION) if offered is None else offered
    data = umqtt_sdist.pinned(found, NAME, VERSION, SHA256)
    module = umqtt_sdist.module_of(data, f"micropython_ota-{VERSION}/{MODULE}")
    target.mkdir(parents=True, exist_ok=True)
    (target / MODULE).write_bytes(module)
    (target / "stamp").write_text(f"{SHA256} {hashlib.sha256(module).hexdigest()}\n")
