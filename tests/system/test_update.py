"""A whole device takes updates and refuses attacks; every verdict is a verified report over Mosquitto."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatehouse_tools import keys, suit
from gatehouse_tools.demo import attacks
from gatehouse_tools.demo.stage import Stage

from .conftest import Device


def release(shop: Stage, version: str, **options: bool) -> Path:
    """A release of this version, made once for all tests."""
    if version not in shop.envelopes:
        shop.release(version, f"for the tests, {version}", **options)
    return shop.envelopes[version]


def test_update_is_confirmed_and_the_floor_moves(shop: Stage, device: Device) -> None:
    device.board.power_on()
    first = device.runs("1.0.0")
    envelope = release(shop, "1.1.0")
    device.publish(envelope)
    report = device.tells("confirmed", None)
    assert (report.claims["version"], report.claims["slot"], report.claims["mode"]) == ("1.1.0", "b", "active")
    sequence = suit.parse(envelope.read_bytes()).sequence
    assert report.claims["floors"]["app"]["install"] == sequence > first.claims["floors"]["app"]["install"]
    assert "MemoryError" not in device.log.read_text()


def test_update_in_a_small_heap(shop: Stage, tmp_path: Path, seed: int) -> None:
    device = Device(shop, tmp_path, seed, "104wK")
    try:
        device.board.power_on()
        device.runs("1.0.0")
        device.publish(release(shop, "1.9.0", extra=True))
        assert device.tells("confirmed", None, 120).claims["version"] == "1.9.0"
        assert "MemoryError" not in device.log.read_text()
    finally:
        device.close()


def test_the_same_offer_again_changes_nothing(shop: Stage, device: Device) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(release(shop, "1.1.0"))
    confirmed = device.tells("confirmed", None)
    operations = device.board.operations
    device.publish(release(shop, "1.1.0"))
    # The report after the next heartbeat: still this boot, nothing written, nothing refused.
    later = device.witness.wait(device.witness.mark(), lambda claims: True, 120)
    assert later and later.counter[0] == confirmed.counter[0] and "refused" not in later.claims
    assert device.board.operations - operations <= 12, "a sign of health at most"


def test_offer_to_a_group(shop: Stage, device: Device) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    group = ("--group", "all", "--broker", shop.house.broker_address)
    shop.gatehouse("publish", str(release(shop, "1.1.0")), *group)
    try:
        device.tells("confirmed", None)
    finally:
        shop.gatehouse("publish", "--clear", *group)


def stranger(shop: Stage, honest: Path) -> Path:
    return attacks.resign(honest, keys.generate(), honest.with_name("stranger.suit"))


def impostor(shop: Stage, honest: Path) -> Path:
    signer = attacks.impostor(shop.product.signer("release"))
    return attacks.resign(honest, signer, honest.with_name("impostor.suit"))


def other_board(shop: Stage, honest: Path) -> Path:
    product = shop.product
    cls = suit.class_uuid(product.domain, "OTHER").bytes
    target = honest.with_name("other-board.suit")
    return attacks.for_board(honest, product.signer("release"), product.vendor_id.bytes, cls, target)


def other_vendor(shop: Stage, honest: Path) -> Path:
    product = shop.product
    vendor, cls = suit.vendor_uuid("other.example").bytes, product.class_id(product.board()).bytes
    return attacks.for_board(honest, product.signer("release"), vendor, cls, honest.with_name("other-vendor.suit"))


def no_right(shop: Stage, honest: Path) -> Path:
    return attacks.resign(honest, shop.product.signer("operator"), honest.with_name("operator.suit"))


def flipped(shop: Stage, honest: Path) -> Path:
    data = bytearray(honest.read_bytes())
    data[data.index(b"\x58\x40") + 12] ^= 1  # within the 64 bytes of the signature
    target = honest.with_name("flipped.suit")
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (stranger, "key"),
        (impostor, "signature"),
        (other_board, "class"),
        (other_vendor, "vendor"),
        (no_right, "right"),
        (flipped, "signature"),
    ],
)
def test_forged_manifest_is_refused_and_the_honest_one_taken(
    shop: Stage, device: Device, attack: Callable[[Stage, Path], Path], reason: str
) -> None:
    honest = release(shop, "1.1.0")
    evil = attack(shop, honest)
    device.board.power_on()
    device.runs("1.0.0")
    publish_raw(shop, device, evil)
    report = device.tells("refused", reason)
    assert (report.claims["version"], report.claims["mode"]) == ("1.0.0", "active")
    device.publish(honest)
    assert device.tells("confirmed", None).claims["version"] == "1.1.0"


def publish_raw(shop: Stage, device: Device, envelope: Path) -> None:
    """Publish bytes as an attacker with a right to publish would, past the checks of `gatehouse publish`."""
    import paho.mqtt.publish as publish

    from gatehouse_tools import topics

    ca = shop.product.root / "ca"
    publish.single(
        topics.topic("offer", id=device.id),
        envelope.read_bytes(),
        qos=1,
        retain=True,
        hostname="localhost",
        port=shop.house.broker.port,
        tls={"ca_certs": str(ca / "ca.pem"), "certfile": str(ca / "host.pem"), "keyfile": str(ca / "host-key.pem")},
    )


def test_tampered_pack_is_refused_and_the_restored_one_taken(shop: Stage, device: Device) -> None:
    running, envelope = shop.envelopes["1.0.0"], release(shop, "1.5.0")
    pack = envelope.with_suffix(".pack")
    honest = pack.read_bytes()
    device.board.power_on()
    device.runs("1.0.0")
    try:
        attacks.tamper(pack, running.with_suffix(".pack"))
        device.publish(envelope)
        report = device.tells("refused", "digest")
        claims = report.claims
        digest, sequence = (lambda one: (one.digest.hex(), one.sequence))(suit.parse(envelope.read_bytes()))
        assert claims["version"] == "1.0.0" and claims["update"]["detail"]
        assert claims["update"]["digest"] == claims["refused"]["digest"] == digest
        assert claims["update"]["sequence"] == claims["refused"]["sequence"] == sequence
        assert claims["refused"] == claims["refused"] | {"reason": "digest", "detail": claims["update"]["detail"]}
        assert claims["refused"]["count"] == 1
    finally:
        pack.write_bytes(honest)
    # What was refused is not tried again in this boot; after the next one it is, and now the server tells the truth.
    device.board.power_off()
    since = device.witness.mark()
    device.board.power_on()
    assert device.tells("confirmed", None, since=since).claims["version"] == "1.5.0"


def test_older_release_is_refused(shop: Stage, device: Device) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(release(shop, "1.1.0"))
    device.tells("confirmed", None)
    since = device.witness.mark()
    device.publish(shop.envelopes["1.0.0"])
    report = device.tells("refused", "sequence", since=since)
    assert report.claims["version"] == "1.1.0"


def test_release_that_crashes_is_rolled_back_and_not_tried_again(shop: Stage, device: Device) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    envelope = release(shop, "1.6.0", crash=True)
    device.publish(envelope)
    report = device.tells("rolled-back", "health")
    assert (report.claims["version"], report.claims["mode"]) == ("1.0.0", "active")
    boots = report.counter[0]
    # The retained offer came again with this very connection; the device stays where it is.
    later = device.witness.wait(device.witness.mark(), lambda claims: True, 120)
    assert later and later.counter[0] == boots and later.claims["refused"]["reason"] == "failed-before"


def test_release_that_hangs_is_ended_by_the_watchdog(shop: Stage, device: Device) -> None:
    application = shop.source / "app.py"
    honest = application.read_text()
    application.write_text(
        "import time\n\ndef run(boot):\n    time.sleep(3600)  # hangs, and leaves the processor to others\n"
    )
    try:
        envelope = release(shop, "1.7.0")
    finally:
        application.write_text(honest)
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(envelope)
    report = device.tells("rolled-back", "health", within=120)
    assert report.claims["version"] == "1.0.0"
    assert [event.kind for event in device.board.events].count("wdt-reset") == 3


def test_expired_release_is_refused(shop: Stage, device: Device) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    if "1.8.0" not in shop.envelopes:
        source = ("--source", str(shop.source))
        shop.gatehouse("release", "--version", "1.8.0", "--expires", "1", *source)
        shop.envelopes["1.8.0"] = shop.product.root / "dist" / "demo-1.8.0.suit"
    shop.house.time.set(time.time() + 2 * 86400)
    try:
        device.board.power_off()
        since = device.witness.mark()
        device.board.power_on()
        device.runs("1.0.0", since=since)
        device.publish(shop.envelopes["1.8.0"])
        device.tells("failed", "expired", since=since)
    finally:
        shop.house.time.set(time.time())
    device.board.power_off()
    since = device.witness.mark()
    device.board.power_on()
    assert device.tells("confirmed", None, since=since).claims["version"] == "1.8.0"
