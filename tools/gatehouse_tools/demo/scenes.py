"""The scenes of the demonstration. Each does one real thing to the device and reads the verdict from its reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import pack, releases, suit
from ..errors import GatehouseError
from . import attacks
from .act import ATTACKER, BENCH, DEVICE, VENDOR, Act, Bytes, Verdict

Claims = dict[str, Any]
Scene = Callable[[Act], Verdict]

SOON = 20.0  # seconds for an answer of the device
UPDATE = 60.0  # seconds for a whole update, its restart and its trial
_AROUND = 8  # bytes shown on each side of one that matters
_EXPIRES_S = 4  # seconds for which the release of freeze() may be installed


def update_of(claims: Claims) -> Claims:
    """The state of the update in a report."""
    found: Claims = claims.get("update", {})
    return found


def runs(claims: Claims) -> str:
    """What a report says that the device runs."""
    return f"runs {claims.get('version')} in slot {claims['slot']}"


def of_version(version: str | None) -> Callable[[Claims], Any]:
    """Whether a report says that this version runs, confirmed."""
    return lambda claims: claims.get("version") == version and claims["mode"] == "active"


def verdict_of(
    act: Act, tried: str, expected: str, since: int, wanted: Callable[[Claims], Any], within: float
) -> Verdict:
    """The verdict by the first verified report after `since` that `wanted` accepts, else by the last one that came."""
    witness = act.device.witness
    report = witness.wait(since, wanted, act.within(within))
    last = report or (witness.history[-1] if len(witness.history) > since else None)
    if last is None:
        return Verdict(tried, expected, "no verified report", False)
    update = update_of(last.claims)
    state = update.get("state", "")
    told = f"{state}({update['reason']})" if update.get("reason") else state
    words = f"{told}, {runs(last.claims)}" if told else runs(last.claims)
    return Verdict(tried, expected, words, report is not None, last.counter)


def birth(act: Act) -> Verdict:
    """The device starts, joins the network and reports."""
    board = act.device.board
    board.start()
    active = of_version("1.0.0")
    return verdict_of(
        act,
        "power on, first report",
        "runs 1.0.0",
        0,  # a board that was just written may have reported already
        lambda claims: active(claims) and claims["counter"][0] <= board.first_boots,
        SOON,
    )


def good_update(act: Act) -> Verdict:
    """A release as the vendor makes it: downloaded, installed, tried, confirmed."""
    version = act.stage.next_version()
    envelope = act.stage.release(version, f"release {version}: a second way to show the temperature")
    found = suit.parse(envelope.read_bytes())
    block = found.blocks[0]
    act.step(
        VENDOR,
        f"release {version} is built and signed; its manifest names every byte of the pack by digest",
        Bytes("digest of the manifest", found.digest),
        Bytes("signature by the vendor's key", block.signature),
    )
    return _installed(act, f"signed update {version}", envelope, version)


def roll_back(act: Act) -> Verdict:
    """The vendor signs an older release again: the one way down, for who holds the key."""
    version = act.device.claims.get("version", "")
    below = [one for one in act.stage.good if numbers(one) < numbers(version)]
    if not below:
        act.step(VENDOR, f"{version} is the first release there is: a good update comes before")
        first = good_update(act)
        if not first.good:
            return first
        below = [version]
    target = max(below, key=numbers)
    envelope = act.stage.roll_back(target)
    old, new = (suit.parse(one.read_bytes()).sequence for one in (act.stage.envelopes[target], envelope))
    act.step(
        VENDOR,
        f"release {target} is signed again, with a sequence number above all that were before",
        Bytes(f"sequence number then: {old}", _number(old)),
        Bytes(f"sequence number now: {new}", _number(new), (0, 4)),
    )
    return _installed(act, f"authorised roll back to {target}", envelope, target)


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers, to compare."""
    return tuple(int(part) for part in version.split("."))


def _installed(act: Act, tried: str, envelope: Path, version: str) -> Verdict:
    """Offer a release and wait until the device says that it has proved its health."""
    digest = suit.parse(envelope.read_bytes()).digest.hex()
    before, since = act.stage.sent(), act.device.witness.mark()
    act.publish(envelope)
    act.step(BENCH, "it is offered on the device's topic")
    verdict = verdict_of(act, tried, f"confirmed, runs {version}", since, _confirmed(version, digest), UPDATE)
    if verdict.good:
        act.stage.good.add(version)
        sent, whole = act.stage.sent() - before, releases.pack_path(envelope, suit.parse(envelope.read_bytes()))
        size = whole.stat().st_size
        act.step(BENCH, f"{sent:,} of the pack's {size:,} bytes went over the network: it has the others already")
    return verdict


def _confirmed(version: str, digest: str) -> Callable[[Claims], Any]:
    active = of_version(version)

    def wanted(claims: Claims) -> bool:
        update = update_of(claims)
        return bool(active(claims) and update.get("state") == "confirmed" and update.get("digest") == digest)

    return wanted


def _refused(act: Act, tried: str, envelope: Path, reason: str) -> Verdict:
    """Publish an attack and wait until the device says that it refused just this, and still runs what it ran."""
    running = act.device.claims.get("version")
    digest = suit.parse(envelope.read_bytes()).digest.hex()
    since = act.device.witness.mark()
    act.publish(envelope, force=True)
    act.step(BENCH, "it is offered on the device's topic, as a release would be")

    def told(claims: Claims) -> bool:
        refused = claims.get("refused", {})
        if claims.get("version") != running or claims["mode"] != "active":
            return False
        return bool(refused.get("digest") == digest and refused.get("reason") == reason)

    def decided(claims: Claims) -> bool:
        """Any end of this offer: the wait is over, for better or worse."""
        update = update_of(claims)
        taken = update.get("digest") == digest and update.get("state") in (
            "pending-reboot",
            "trial",
            "confirmed",
            "failed",
        )
        return taken or claims.get("refused", {}).get("digest") == digest

    verdict = verdict_of(act, tried, f"refused({reason}), runs {running}", since, decided, SOON)
    last = act.device.claims
    refused, words = last.get("refused", {}), verdict.told
    if refused.get("digest") == digest:
        words = f"refused({refused['reason']}), {runs(last)}"
        why = f": {refused['detail']}" if refused.get("detail") else ""
        act.step(
            DEVICE,
            f"refused, reason {refused['reason']}{why}",
            Bytes("manifest that it refused", bytes.fromhex(digest)),
        )
    return Verdict(verdict.tried, verdict.expected, words, verdict.good and told(last), newest(act))


def newest(act: Act) -> tuple[int, int] | None:
    """The counter of the newest verified report: the one that act.device.claims is of."""
    history = act.device.witness.history
    return history[-1].counter if history else None


def tampered_pack(act: Act) -> Verdict:
    """The signature is right, but one bit of the pack on the server was flipped."""
    running = act.running()
    envelope = act.stage.release(act.stage.next_version(), "what the server gives is not what was signed")
    file = envelope.with_suffix(".pack")
    known = releases.pack_path(running, suit.parse(running.read_bytes())) if running else file
    honest = file.read_bytes()
    path, at = attacks.tamper(file, known)
    start = max(0, at - _AROUND)
    window = slice(start, at + _AROUND)
    mark = (at - start, at - start + 1)
    index = pack.split(honest, str(file))
    entry = next(item for item in index.entries if item.path == path)
    act.step(
        ATTACKER,
        f"one bit of {path} is flipped in the pack on the server, at byte {at:,}",
        Bytes("as it was signed", honest[window], mark),
        Bytes("as the server gives it", file.read_bytes()[window], mark),
        Bytes(f"SHA-256 that the signed index names for {path}", entry.digest),
    )
    return _refused(act, "one bit flipped in the pack", envelope, "digest")


def stranger(act: Act) -> Verdict:
    """A good manifest, signed by a stranger who goes by the vendor's key id."""
    honest = act.stage.release(act.stage.next_version(), "signed again by a stranger")
    known = act.stage.product.signer("release")
    signer = attacks.impostor(known)
    evil = attacks.resign(honest, signer, honest.with_name("stranger.suit"))
    mine, theirs = (suit.parse(one.read_bytes()).blocks[0] for one in (honest, evil))
    act.step(
        ATTACKER,
        "the manifest is signed with a key of the stranger's own, under the vendor's key id",
        Bytes("key id that both name", theirs.kid or b""),
        Bytes("the vendor's signature", mine.signature),
        Bytes("the stranger's signature", theirs.signature, (0, len(theirs.signature))),
    )
    return _refused(act, "manifest signed by a stranger's key", evil, "signature")


def other_board(act: Act) -> Verdict:
    """Rightly signed, newest of all, but for another kind of board."""
    product = act.stage.product
    cls = suit.class_uuid(product.domain, "GREENHOUSE_VALVE").bytes
    newest = act.stage.newest
    evil = attacks.for_board(
        newest, product.signer("release"), product.vendor_id.bytes, cls, newest.with_name("other-board.suit")
    )
    act.step(
        ATTACKER,
        "a manifest of the vendor for a greenhouse valve is sent to this device",
        Bytes("class id in the manifest", cls, (0, 16)),
        Bytes("class id of this device", product.class_id(product.board()).bytes),
    )
    return _refused(act, "manifest for another board", evil, "class")


def older(act: Act) -> Verdict:
    """A release older than what runs, rightly signed then: the holes that were closed since would be open again."""
    running, first = act.running(), act.stage.envelopes["1.0.0"]
    floor = act.device.claims["floors"]["app"]["install"]
    product = act.stage.product
    if suit.parse(first.read_bytes()).sequence < floor:
        envelope, name = first, "older version 1.0.0 again"
    else:  # nothing older was ever released: the vendor's key signs what there would be
        if running is None:
            raise GatehouseError("it is not known what the device runs", "state")
        envelope = attacks.dated(running, product.signer("release"), product, floor - 86400)
        name = "manifest from a day before"
    number = suit.parse(envelope.read_bytes()).sequence
    act.step(
        ATTACKER,
        "an old manifest, with the vendor's own signature, is offered again",
        Bytes(f"its sequence number: {number}", _number(number), (0, 4)),
        Bytes(f"lowest that the device still takes, by its report: {floor}", _number(floor)),
    )
    return _refused(act, name, envelope, "sequence")


def freeze(act: Act) -> Verdict:
    """A release is kept back on the network until its time is over, and offered then as if it were the newest."""
    envelope = act.stage.release(
        act.stage.next_version(),
        "kept back until its time is over",
        expires_s=_EXPIRES_S,
    )
    until = releases.facts(suit.parse(envelope.read_bytes()))["use_before"]
    act.step(ATTACKER, f"the offer is held back; it may be installed for {_EXPIRES_S} s after it was signed")
    time.sleep(max(0.0, until - time.time()) + 2.0)  # the device's clock is the time server's, to the second
    now = int(time.time())
    act.step(
        ATTACKER,
        "now that its time is over it is let through",
        Bytes(f"use-before in the signed manifest: {until}, a Unix time", _number(until), (0, 4)),
        Bytes(f"the time now: {now}", _number(now)),
    )
    return _refused(act, "release held back until it had expired", envelope, "expired")


def power_cut(act: Act) -> Verdict:
    """Power fails in the middle of a real update. Power comes back, and the update ends by itself."""
    stage, version = act.stage, act.stage.next_version()
    envelope = stage.release(version, "its files come over the network while the power fails", extra=True)
    digest = suit.parse(envelope.read_bytes()).digest.hex()
    since = act.device.witness.mark()
    back = act.device.board.cut_in_update(act, lambda: act.publish(envelope))
    verdict = verdict_of(
        act,
        f"power cut in the middle of update {version}",
        f"confirmed, runs {version}",
        since,
        _confirmed(version, digest),
        UPDATE,
    )
    again = stage.sent(back)
    whole = envelope.with_suffix(".pack").stat().st_size
    act.step(BENCH, f"after the cut {again:,} of the pack's {whole:,} bytes were fetched: what was there was kept")
    if verdict.good:
        stage.good.add(version)
    good = verdict.good and 0 < again < whole
    return Verdict(verdict.tried, verdict.expected, verdict.told, good, verdict.counter)


def bad_release(act: Act) -> Verdict:
    """Rightly signed by the vendor, but it crashes at its start: three tries, then the release before runs again."""
    running, version = act.device.claims.get("version"), act.stage.next_version()
    envelope = act.stage.release(version, "crashes at start", crash=True)
    digest = suit.parse(envelope.read_bytes()).digest.hex()
    since = act.device.witness.mark()
    act.step(
        VENDOR,
        f"release {version} is signed in a hurry: its app.py raises RuntimeError at the start",
        Bytes("digest of its manifest", bytes.fromhex(digest)),
    )
    act.publish(envelope)
    active = of_version(running)

    def back(claims: Claims) -> bool:
        update = update_of(claims)
        return bool(active(claims) and update.get("state") == "rolled-back" and update.get("digest") == digest)

    verdict = verdict_of(
        act, f"release {version} that crashes at start", f"rolled-back(health), runs {running}", since, back, UPDATE
    )
    if verdict.good:
        boots = act.device.claims["boots"] - act.device.witness.history[since - 1].claims["boots"]
        act.step(DEVICE, f"{boots} boots later it runs {running} again, and will not try this manifest any more")
    return verdict


def _number(value: int) -> bytes:
    """Seconds and sequence numbers as CBOR has them, without its first byte."""
    return value.to_bytes(4, "big")


def play(scene: Scene, act: Act) -> Verdict:
    """The verdict of a scene. One that cannot be played to its end is a wrong one, and the next scene follows."""
    try:
        verdict = scene(act)
        if not verdict.good and (line := act.device.board.last_line()):
            act.bench(f"last on its UART, which proves nothing: {line}")
        return verdict
    except GatehouseError as error:
        act.device.board.restore()
        name = scene.__name__.replace("_", " ")
        return Verdict(name, "a scene that can be played", str(error), False)


STORY: tuple[Scene, ...] = (birth, good_update, tampered_pack, stranger, other_board, older, power_cut, bad_release)
