"""The scenes of the demonstration. Each does one real thing to the device and reads the verdict from its reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import suit
from ..errors import GatehouseError
from . import attacks

if TYPE_CHECKING:
    from .stage import Stage

Claims = dict[str, Any]

SOON = 20.0  # seconds for an answer of the device
UPDATE = 60.0  # seconds for a whole update, its restart and its trial


@dataclass(frozen=True)
class Verdict:
    """One row of the final table. `told` is what the device's verified report said, `good` whether that was right."""

    tried: str
    expected: str
    told: str
    good: bool


def _update(claims: Claims) -> Claims:
    found: Claims = claims.get("update", {})
    return found


def _runs(claims: Claims) -> str:
    return f"runs {claims.get('version')} in slot {claims['slot']}"


def _verdict(
    stage: Stage, tried: str, expected: str, since: int, wanted: Callable[[Claims], Any], within: float
) -> Verdict:
    report = stage.witness.wait(since, wanted, within)
    last = report or (stage.witness.history[-1] if len(stage.witness.history) > since else None)
    if last is None:
        return Verdict(tried, expected, "no verified report", False)
    update = _update(last.claims)
    state = update.get("state", "")
    told = f"{state}({update['reason']})" if update.get("reason") else state
    return Verdict(tried, expected, f"{told}, {_runs(last.claims)}" if told else _runs(last.claims), report is not None)


def birth(stage: Stage) -> Verdict:
    """The device starts, joins the network and reports."""
    since = stage.witness.mark()
    stage.board.power_on()
    return _verdict(
        stage,
        "power on, first report",
        "runs 1.0.0",
        since,
        lambda claims: claims.get("version") == "1.0.0" and claims["mode"] == "active" and claims["counter"][0] == 1,
        SOON,
    )


def good_update(stage: Stage) -> Verdict:
    """A release as the vendor makes it: downloaded, installed, tried, confirmed."""
    envelope = stage.release("1.1.0", "a second way to show the temperature")
    since = stage.witness.mark()
    stage.publish(envelope)
    return _verdict(stage, "signed update 1.1.0", "confirmed, runs 1.1.0", since, _confirmed("1.1.0"), UPDATE)


def _confirmed(version: str) -> Callable[[Claims], Any]:
    return lambda claims: (
        claims.get("version") == version and claims["mode"] == "active" and _update(claims).get("state") == "confirmed"
    )


def _refused(stage: Stage, tried: str, envelope: Path, reason: str) -> Verdict:
    """Publish an attack and wait until the device says that it refused just this, and still runs what it ran."""
    if not stage.witness.history:
        raise GatehouseError("the device has not sent one report that could be verified", "state")
    running = stage.witness.history[-1].claims.get("version")
    digest = suit.parse(envelope.read_bytes()).digest.hex()
    since = stage.witness.mark()
    stage.publish(envelope, force=True)

    def told(claims: Claims) -> bool:
        refused = claims.get("refused", {})
        if claims.get("version") != running or claims["mode"] != "active":
            return False
        return bool(refused.get("digest") == digest and refused.get("reason") == reason)

    def decided(claims: Claims) -> bool:
        """Any end of this offer: the wait is over, for better or worse."""
        update = _update(claims)
        taken = update.get("digest") == digest and update.get("state") in (
            "pending-reboot",
            "trial",
            "confirmed",
            "failed",
        )
        return taken or claims.get("refused", {}).get("digest") == digest

    verdict = _verdict(stage, tried, f"refused({reason}), runs {running}", since, decided, SOON)
    last = stage.witness.history[-1].claims
    return Verdict(verdict.tried, verdict.expected, verdict.told, verdict.good and told(last))


def tampered_pack(stage: Stage) -> Verdict:
    """The signature is right, but one bit of the pack on the server was flipped."""
    running = stage.newest
    envelope = stage.release("1.2.0", "what the server gives is not what was signed")
    path = attacks.tamper(envelope.with_suffix(".pack"), running.with_suffix(".pack"))
    stage.say(f"one bit of {path} is flipped in the pack on the server")
    return _refused(stage, "one bit flipped in the pack", envelope, "digest")


def stranger(stage: Stage) -> Verdict:
    """A good manifest, signed by a stranger who goes by the vendor's key id."""
    honest = stage.release("1.2.1", "signed again by a stranger")
    signer = attacks.impostor(stage.product.signer("release"))
    evil = attacks.resign(honest, signer, honest.with_name("stranger.suit"))
    return _refused(stage, "manifest signed by a stranger's key", evil, "signature")


def other_board(stage: Stage) -> Verdict:
    """Rightly signed, newest of all, but for another kind of board."""
    product = stage.product
    cls = suit.class_uuid(product.domain, "GREENHOUSE_VALVE").bytes
    newest = stage.newest
    evil = attacks.for_board(
        newest, product.signer("release"), product.vendor_id.bytes, cls, newest.with_name("other-board.suit")
    )
    return _refused(stage, "manifest for another board", evil, "class")


def older(stage: Stage) -> Verdict:
    """The release that the device left the factory with: rightly signed, and older than what runs."""
    return _refused(stage, "older version 1.0.0 again", stage.envelopes["1.0.0"], "sequence")


def power_cut(stage: Stage) -> Verdict:
    """Power fails in the middle of a real update. Power comes back, and the update ends by itself."""
    envelope = stage.release("1.3.0", "its files come over the network while the power fails", extra=True)
    since = stage.witness.mark()
    stage.publish_and_cut(envelope)
    stage.say("the power is gone in the middle of a flash write; now it comes back")
    before = stage.sent()
    stage.board.power_on()
    verdict = _verdict(
        stage, "power cut in the middle of update 1.3.0", "confirmed, runs 1.3.0", since, _confirmed("1.3.0"), UPDATE
    )
    again = stage.sent() - before
    whole = envelope.with_suffix(".pack").stat().st_size
    stage.say(f"after the cut {again:,} of the pack's {whole:,} bytes were fetched: what was there was kept")
    return Verdict(verdict.tried, verdict.expected, verdict.told, verdict.good and 0 < again < whole)


def bad_release(stage: Stage) -> Verdict:
    """Rightly signed by the vendor, but it crashes at its start: three tries, then the release before runs again."""
    envelope = stage.release("1.4.0", "crashes at start", crash=True)
    digest = suit.parse(envelope.read_bytes()).digest.hex()
    since = stage.witness.mark()
    stage.publish(envelope)
    return _verdict(
        stage,
        "release 1.4.0 that crashes at start",
        "rolled-back(health), runs 1.3.0",
        since,
        lambda claims: (
            claims.get("version") == "1.3.0"
            and claims["mode"] == "active"
            and _update(claims).get("state") == "rolled-back"
            and _update(claims).get("digest") == digest
        ),
        UPDATE,
    )


def play(scene: Callable[[Stage], Verdict], stage: Stage) -> Verdict:
    """The verdict of a scene. One that cannot be played to its end is a wrong one, and the next scene follows."""
    try:
        return scene(stage)
    except GatehouseError as error:
        if not stage.board.running:
            stage.board.power_on()
        name = scene.__name__.replace("_", " ")
        return Verdict(name, "a scene that can be played", str(error), False)


SCENES = (birth, good_update, tampered_pack, stranger, other_board, older, power_cut, bad_release)
