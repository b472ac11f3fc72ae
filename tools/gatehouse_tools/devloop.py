"""The developer's loop: the working copy as an update over the cable. The device's own installer takes or refuses it.

Nothing goes around the device's checks: it gets a signed envelope for this one device, and beside it, where an upload
lies, those bodies of the pack that its running slot does not have. That a developer's key may sign is the word of a
trust store flagged dev (docs/keys.md), and the device reports itself degraded under it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import build, keys, pack, product, suit, topics, trust_store
from .cable import Cable
from .errors import GatehouseError

VALID_S = 3600  # a build is for now: an envelope that is found later installs nothing
_UNEXPECTED = "the device did not answer as expected"
_RESULT = "\x1e"  # before the answer, which other lines of the device come before

# What runs on the device, at its REPL. A started Boot has armed the watchdog: each step feeds it, and a cable that is
# pulled out ends in a reset and the release that ran before. Boots that we have cut short are no sign of a fault: nor
# that of a trial, and the one that our reset has ended.
_START = """
import sys
sys.path[:] = (".frozen", "/lib")
from gatehouse import memory, record, slots
if slots.current is None:
    memory.settle()
    slots.boot()
boot = slots.current
boot.healthy()
if boot.mode == "recovery" and boot.record and boot.record.active:
    boot.record.quiet = record.QUIET_LIMIT - 1
    boot.record.save()
if boot.mode == "trial":
    from gatehouse import transitions
    boot.record.tries = min(boot.record.tries + 2, transitions.TRIES)
    boot.record.save()
"""
_FACTS = """
import json
from binascii import b2a_base64
who, release = boot.identity, boot.release
index = open(release.root + "/index.cbor", "rb").read() if release else b""
print("\\x1e" + json.dumps({
    "id": who and who.id, "model": who and who.model, "vendor": who and who.vendor_id.hex(),
    "device": who and who.device_id.hex(), "mode": boot.mode, "failure": str(boot.failure or ""),
    "version": release and release.version, "dev": bool(boot.trust and boot.trust.dev), "clock": boot.now(),
    "index": b2a_base64(index).decode(),
}))
"""
_CLOCK = """
import machine
machine.RTC().datetime({})
"""
CLEAN = """
import os
for name in os.listdir("/state"):
    if name.startswith("upload-"):
        os.remove("/state/" + name)
"""
_OPEN = """
from binascii import unhexlify
pack = open(record.upload_path(unhexlify({!r})), "wb")
"""
_OFFER = """
pack.close()
import asyncio, json
from binascii import a2b_base64
from gatehouse import installer
taken = installer.Installer(boot)

async def beat():
    while True:
        boot.feed()
        print(".", end="")
        await asyncio.sleep_ms(500)

async def offer():
    task = asyncio.create_task(beat())
    try:
        return await taken.offer(a2b_base64({!r}))
    finally:
        task.cancel()

due = asyncio.run(offer())
found = taken.refused or taken.state
print("\\x1e" + json.dumps({{
    "restart": due, "state": taken.state["state"], "reason": found["reason"], "detail": found["detail"],
}}))
"""


@dataclass(frozen=True)
class Device:
    """What the device at the cable says of itself. index: of the release that runs, None in recovery."""

    id: str
    model: str
    vendor: bytes
    device: bytes
    mode: str
    version: str | None
    dev: bool
    clock: int | None
    index: pack.Index | None = None


@dataclass(frozen=True)
class Offer:
    """What one device is to take: the signed envelope, the whole pack, and the places in it that it does not have.

    missing: [(offset in the pack, bytes)], in order.
    """

    version: str
    envelope: bytes
    pack: bytes
    missing: list[tuple[int, bytes]]

    @property
    def size(self) -> int:
        """Bytes that go over the cable, Base64 aside."""
        return sum(len(data) for _, data in self.missing)


@dataclass(frozen=True)
class Outcome:
    """What the device's installer made of it. restart: it is installed, and a restart begins its trial."""

    restart: bool
    state: str
    reason: str | None
    detail: str


def greet(cable: Cable) -> Device:
    """Boot the device's core at the REPL, without its application. GatehouseError where it has none, or no identity."""
    try:
        cable.run(_START)
    except GatehouseError as error:
        if error.reason != "state":
            raise
        raise GatehouseError(f"{error}; there is no device on this board yet: gatehouse flash", "state") from None
    told = _answer(cable.run(_FACTS))
    if told.get("id") is None:
        why = told.get("failure")
        raise GatehouseError(f"the board at {cable.port} has no identity ({why}): gatehouse flash", "state")
    try:
        found, index = _device(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GatehouseError(f"{_UNEXPECTED}, but: {error!r}", "format") from None
    return dataclasses.replace(found, index=pack.parse_index(index, "the device's index") if index else None)


def _device(told: dict[str, Any]) -> tuple[Device, bytes]:
    """A device's own words, each held against what it can be, and its index. ValueError and its kin for others."""
    kinds = {"model": str, "mode": str, "version": str | None, "dev": bool, "clock": int | None}
    wrong = [name for name, kind in kinds.items() if not isinstance(told[name], kind)]
    vendor, device = bytes.fromhex(told["vendor"]), bytes.fromhex(told["device"])
    if wrong or not topics.is_device_id(told["id"]) or (len(vendor), len(device)) != (16, 16):
        raise ValueError(", ".join(wrong) or "id")
    found = Device(told["id"], told["model"], vendor, device, told["mode"], told["version"], told["dev"], told["clock"])
    return found, base64.b64decode(told["index"].strip(), validate=True)


def board_of(item: product.Product, device: Device) -> product.Board:
    """The product's board that the device is. GatehouseError("vendor" | "class") for a device of somebody else."""
    if device.vendor != item.vendor_id.bytes:
        raise GatehouseError(f"{device.id} is no device of {item.name}: it has another vendor id", "vendor")
    for name in item.boards:
        board = item.board(name)
        if board.model == device.model:
            return board
    raise GatehouseError(f"{device.id} is a {device.model}, and {item.name} has no such board in product.toml", "class")


def prepare(item: product.Product, device: Device, built: build.Built) -> Offer:
    """Sign a build for this one device with the developer's key, which has to be here."""
    board = board_of(item, device)
    now = int(time.time())
    until = now + VALID_S
    uri = f"{item.name}-{built.index.version}.pack"
    component = suit.Component(
        "app", built.index.digest, len(built.index.data), uri, until, None, device.device, built.index.version
    )
    envelope = suit.build_envelope(
        now, [component], item.vendor_id.bytes, item.class_id(board).bytes, signers(item), "A developer's build"
    )
    return Offer(built.index.version, envelope, built.pack, missing(built, device.index))


def signers(item: product.Product) -> list[keys.Signer]:
    """The developer's key. GatehouseError("key") where the product's newest trust store takes none."""
    if not trust_store.current(item).dev:
        told = f"the trust anchors of {item.name} take no developer's key"
        raise GatehouseError(f"{told}: gatehouse trust next --dev --new-key dev, for its devices too", "key")
    return item.signers("dev")[:1]


def version(item: product.Product) -> str:
    """The version of a build now: a pre-release of what was released last (Semantic Versioning)."""
    last = max((str(one["version"]) for one in item.releases() if one.get("version")), key=_numbers, default="")
    return f"{last or build.UNRELEASED}-dev.{int(time.time())}"


def _numbers(text: str) -> tuple[int, ...]:
    return product.numbers(text) or ()


def missing(built: build.Built, has: pack.Index | None) -> list[tuple[int, bytes]]:
    """What of a pack a device needs that runs a release with the index `has`: the index, and new bodies."""
    start = 4 + len(built.index.data)
    found = [(0, built.pack[:start])]
    here = {(entry.path, entry.size, entry.digest) for entry in has.entries} if has else set()
    for entry in built.index.entries:
        if (entry.path, entry.size, entry.digest) not in here and entry.stored:
            at = start + entry.offset
            found.append((at, built.pack[at : at + entry.stored]))
    return found


def set_clock(cable: Cable, device: Device) -> bool:
    """Give the device this machine's time where it has none, or no offer can be judged. Whether that was done."""
    if device.clock is not None:
        return False
    now = time.gmtime()
    cable.run(_CLOCK.format((now.tm_year, now.tm_mon, now.tm_mday, now.tm_wday, *now[3:6], 0)))
    return True


def bring(cable: Cable, offer: Offer, step: Callable[[int], None], shown: Callable[[bytes], None]) -> Outcome:
    """Write what is missing where an upload lies, and have the device's installer take the envelope.

    step(bytes) follows each body, shown(byte) what the device prints meanwhile.
    """
    cable.run(CLEAN)
    cable.run(_OPEN.format(hashlib.sha256(offer.envelope).hexdigest()))
    for at, data in offer.missing:
        try:
            cable.put("pack", at, data, "boot.feed()")
        except GatehouseError as error:
            if "OSError: 28" not in str(error) and "ENOSPC" not in str(error):
                raise
            full = f"the board's flash has no room for a pack of {len(offer.pack)} bytes beside what runs"
            raise GatehouseError(f"{full}: take something out of the working copy", "full") from None
        step(len(data))
    told = bytearray()

    def hear(byte: bytes) -> None:
        told.extend(byte)
        shown(byte)

    cable.run(_OFFER.format(base64.b64encode(offer.envelope).decode()), hear)
    found = _answer(told.decode(errors="replace"))
    restart, state, reason, detail = (found.get(name) for name in ("restart", "state", "reason", "detail"))
    named = reason is None or (isinstance(reason, str) and reason.replace("-", "").isalnum())
    if not (isinstance(restart, bool) and isinstance(state, str) and named and isinstance(detail, str)):
        raise GatehouseError(f"{_UNEXPECTED} of its installer", "format")
    return Outcome(restart, state, reason, detail)


def _answer(text: str) -> dict[str, Any]:
    """What the device printed behind the mark. GatehouseError where it printed none."""
    _, mark, told = text.rpartition(_RESULT)
    try:
        found = json.loads(told.splitlines()[0]) if mark else None
    except (ValueError, IndexError, RecursionError):
        found = None
    if not isinstance(found, dict):
        said = textwrap.shorten(text, 200) or "nothing"
        raise GatehouseError(f"{_UNEXPECTED}, but: {said}", "format")
    return found
