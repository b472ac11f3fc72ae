"""Fetch the core of Microdot, the web framework behind the device's HTTPS interface (firmware/access/web.py).

pip could install it, but into the host's Python: it is compiled into the application tree. `gatehouse demo` loads this
same file for its page.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import umqtt_sdist

NAME = "microdot"
VERSION = "2.7.0"
SHA256 = "e11f39f0f5564bb5db69f728902740ed592d632ae7a03e24ca3a88cd59ad2f53"
MODULE = "microdot.py"
LICENSE = "LICENSE"
_MEMBERS = {MODULE: f"{NAME}-{VERSION}/src/microdot/microdot.py", LICENSE: f"{NAME}-{VERSION}/LICENSE"}


def ready(target: Path) -> bool:
    """Whether `target` holds what `fetch` wrote there, unchanged."""
    try:
        return (target / "stamp").read_text() == _stamp({name: (target / name).read_bytes() for name in _MEMBERS})
    except OSError:
        return False


def fetch(target: Path, offered: Iterable[bytes] | None = None) -> None:
    """Write microdot.py and its license into `target`. Raises umqtt_sdist.FetchError; then nothing is written."""
    found = umqtt_sdist.candidates(umqtt_sdist.pip_config(), NAME, VERSION) if offered is None else offered
    archive = umqtt_sdist.pinned(found, NAME, VERSION, SHA256)
    files = {name: umqtt_sdist.module_of(archive, member) for name, member in _MEMBERS.items()}
    target.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (target / name).write_bytes(data)
    (target / "stamp").write_text(_stamp(files))


def _stamp(files: dict[str, bytes]) -> str:
    return f"{SHA256} {hashlib.sha256(b''.join(files[name] for name in _MEMBERS)).hexdigest()}\n"
