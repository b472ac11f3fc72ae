"""A whole device of a hybrid product: both signatures or no update; its keys change over the air."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gatehouse_tools import build, keys, suit
from gatehouse_tools.demo import attacks
from gatehouse_tools.demo.stage import Stage

from .conftest import Device
from .test_update import publish_raw

HEAP = "128wK"


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A product whose root and release keys are ECDSA and HSS/LMS, both required."""
    options = ("--root", "both", "--release", "both", "--lms", "H10/W4")
    folder = tmp_path_factory.mktemp("hybrid") / "stage"
    with Stage(folder, "mosquitto", lambda _: None, lambda _: None, options) as stage:
        yield stage


@pytest.fixture
def device(hybrid: Stage, tmp_path: Path, seed: int) -> Iterator[Device]:
    made = Device(hybrid, tmp_path, seed, HEAP)
    yield made
    made.close()


def signers(hybrid: Stage, *names: str) -> list[keys.Signer]:
    item = hybrid.product
    return [keys.load(item.keys / name, item.ledger) for name in names]


@pytest.mark.parametrize("name", ["release.pem", "release.lms"])
def test_one_signature_is_refused_and_both_are_taken(hybrid: Stage, device: Device, name: str) -> None:
    if "1.1.0" not in hybrid.envelopes:
        hybrid.release("1.1.0", "signed by both")
    honest = hybrid.envelopes["1.1.0"]
    one = attacks.resign(honest, signers(hybrid, name)[0], honest.with_name("one.suit"))
    device.board.power_on()
    device.runs("1.0.0")
    publish_raw(hybrid, device, one)
    report = device.tells("refused", "right")
    assert (report.claims["version"], report.claims["mode"]) == ("1.0.0", "active")
    device.publish(honest)
    assert device.tells("confirmed", None).claims["version"] == "1.1.0"


def test_all_keys_change_over_the_air(hybrid: Stage, device: Device) -> None:
    item = hybrid.product
    stolen = signers(hybrid, "release.pem", "release.lms")
    device.board.power_on()
    device.runs("1.0.0")
    hybrid.gatehouse(
        *(
            "trust",
            "next",
            "--new-key",
            "root:ecdsa",
            "--new-key",
            "root:lms",
            "--revoke",
            "root",
            "--revoke",
            "root-lms",
        ),
        *("--new-key", "release:ecdsa", "--new-key", "release:lms", "--revoke", "release", "--revoke", "release-lms"),
        *("--keep", str(hybrid.envelopes["1.0.0"]), "--keep", str(hybrid.newest)),
    )
    path = item.dist / "trust-unix-2.suit"
    old = signers(hybrid, "root.pem", "root.lms")
    # Signed by the old roots alone: nobody has shown that he has the new ones.
    store = suit.parse(path.read_bytes()).payloads["#trust"]
    kind = item.class_id(item.board()).bytes
    component = suit.Component("trust", payload=store)
    alone = item.dist / "old-roots.suit"
    alone.write_bytes(suit.build_envelope(item.last_sequence(), [component], item.vendor_id.bytes, kind, old))
    publish_raw(hybrid, device, alone)
    device.tells("refused", "key")
    since = device.witness.mark()
    hybrid.gatehouse("publish", str(path), "--device", device.id, "--broker", hybrid.house.broker_address)
    device.tells("confirmed", None, since=since)
    report = device.runs("1.0.0", since=since)  # its release is kept
    assert report.claims["mode"] == "active"
    # The thief's release, and the owner's.
    source = build.build(hybrid.source, item.name, "1.2.0")
    evil = build.release(item, source, "1.2.0", signers=stolen)
    publish_raw(hybrid, device, evil.envelope)
    device.tells("refused", "key", since=since)
    device.publish(hybrid.release("1.3.0", "signed by the new keys"))
    device.runs("1.3.0", since=since)
