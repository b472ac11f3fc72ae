"""A whole device takes application images into its OTA partitions, alone and with an application: both or neither."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from gatehouse_tools import bootrecord, pack, suit
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.image import flash, littlefs, partitions
from gatehouse_tools.sim.board import BoardStopped

from .conftest import Device
from .test_update import release

SIZE = 1 << 20  # bytes of an image, as those of MicroPython are
SECTOR = 4096


def firmware(shop: Stage, version: str, *options: str, size: int = SIZE) -> Path:
    """A signed manifest with an image of this version, made once; `options` as `gatehouse release` takes them."""
    name = f"firmware-{version}"
    if name not in shop.envelopes:
        path = shop.folder / f"{version}.bin"
        path.write_bytes(flash.stand_in_app(version, size))
        shop.gatehouse("release", "--firmware", str(path), "--firmware-version", version, *(options or ("--no-app",)))
        app = options[options.index("--version") + 1] if "--version" in options else name
        shop.envelopes[name] = shop.product.root / "dist" / f"demo-{app}.suit"
    return shop.envelopes[name]


def image(shop: Stage, version: str) -> bytes:
    return (shop.folder / f"{version}.bin").read_bytes()


def on_flash(device: Device) -> dict[str, Any]:
    """What the flash holds, read without the device's help: each partition's bytes, otadata, the boot record."""
    device.board.power_off()
    found = flash.take_apart(device.image.read_bytes())
    files, _ = littlefs.read(found["vfs"][1])
    parts: dict[str, Any] = {name: data for name, (_, data) in found.items() if name.startswith("ota_")}
    return parts | {
        "otadata": flash.parse_otadata(found["otadata"][1]),
        "record": bootrecord.parse(files["/state/boot.cbor"]),
    }


def test_image_of_a_megabyte_alone_is_confirmed(shop: Stage, device: Device) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(firmware(shop, "5.0.0"))
    report = device.tells("confirmed", None, within=120)
    assert (report.claims["version"], report.claims["mode"], report.claims["slot"]) == ("1.0.0", "active", "a")
    assert "MemoryError" not in device.log.read_text()
    found = on_flash(device)
    assert found["ota_1"][:SIZE] == image(shop, "5.0.0")
    assert found["record"]["active"][0] == "a" and found["record"]["active"][3] == "ota_1"
    assert (found["otadata"].slot, found["otadata"].state) == (1, "valid")
    # It stays over a power cycle: confirmed to the bootloader too.
    since = device.witness.mark()
    device.board.power_on()
    device.runs("1.0.0", since=since)
    found = on_flash(device)
    assert (found["otadata"].slot, found["otadata"].state) == (1, "valid")


def test_image_and_application_switch_together(shop: Stage, device: Device) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(firmware(shop, "5.1.0", "--version", "3.1.0", "--source", str(shop.source), size=200000 // 16 * 16))
    report = device.tells("confirmed", None, within=120)
    assert (report.claims["version"], report.claims["slot"]) == ("3.1.0", "b")
    floors = report.claims["floors"]
    assert floors["firmware"]["install"] == floors["app"]["install"]
    found = on_flash(device)
    assert found["record"]["active"][0] == "b" and found["record"]["active"][3] == "ota_1"
    assert (found["otadata"].slot, found["otadata"].state) == (1, "valid")


def test_roll_back_of_the_application_rolls_the_image_back(shop: Stage, device: Device) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    application = shop.source / "app.py"
    honest = application.read_text()
    application.write_text("def run(boot):\n    raise ValueError('a bad release')\n")
    try:
        options = ("--version", "3.2.0", "--source", str(shop.source))
        bad = firmware(shop, "5.2.0", *options, size=65536)
    finally:
        application.write_text(honest)
    device.publish(bad)
    report = device.tells("rolled-back", "health", within=120)
    assert (report.claims["version"], report.claims["slot"], report.claims["mode"]) == ("1.0.0", "a", "active")
    found = on_flash(device)
    assert found["record"]["active"][0] == "a" and found["record"]["active"][3] in (None, "ota_0")
    assert found["record"]["trial"] is None
    assert found["otadata"].slot == 0 or found["otadata"].state == "aborted", found["otadata"]
    # The twin: the same image with a good application is taken.
    since = device.witness.mark()
    device.board.power_on()
    device.runs("1.0.0", since=since)
    device.publish(firmware(shop, "5.2.1", "--version", "3.2.1", "--source", str(shop.source), size=65536))
    assert device.tells("confirmed", None, within=120, since=since).claims["version"] == "3.2.1"


def test_cut_at_half_of_a_megabyte_resumes_at_the_block(shop: Stage, device: Device) -> None:
    envelope = firmware(shop, "5.3.0")
    name = "demo-firmware-5.3.0.pack"
    data = (envelope.parent / name).read_bytes()
    body = len(data) - SIZE
    device.board.power_on()
    device.runs("1.0.0")
    served = shop.house.server.log
    mark = len(served)
    device.board.cut_at(SIZE // SECTOR * 5 // 2)  # an erase and four programs a sector
    device.publish(envelope)
    with contextlib.suppress(BoardStopped):
        device.board.wait(lambda board: not board.running, 120)
    found = on_flash(device)
    whole = [
        at // pack.BLOCK
        for at in range(0, SIZE, pack.BLOCK)
        if found["ota_1"][at : at + pack.BLOCK] == image(shop, "5.3.0")[at : at + pack.BLOCK]
    ]
    assert 5 < len(whole) < 11 and 0 not in whole, whole
    assert found["ota_1"][0] == 0xFF, "the bootloader could take what is not verified"
    after = len(served)
    assert after > mark
    device.board.power_on()
    device.tells("confirmed", None, within=120)
    asked = [one for one in served[after:] if one.path.endswith(name)]
    print("asked again:", [one.span for one in asked])
    # The index, then from the block on in which the power went, then the first block, which comes last.
    assert asked[0].span == (0, body)
    assert asked[1].span == (body + pack.BLOCK * (len(whole) + 1), len(data))
    assert asked[2].span == (body, body + pack.BLOCK) and len(asked) == 3
    assert sum(one.body for one in asked) == len(data) - pack.BLOCK * len(whole)
    assert on_flash(device)["ota_1"][:SIZE] == image(shop, "5.3.0")


def test_cut_while_the_bootloader_is_told(shop: Stage, device: Device) -> None:
    """Cuts at the end of the update and around its trial: the device always ends with the new image, confirmed."""
    envelope = firmware(shop, "5.4.0", size=65536)
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(envelope)
    # The trial's first boots: the bootloader's own writes and the record's first ones.
    device.board.wait(lambda board: board.boots >= 2, 120)
    device.board.power_off()
    for cut in (1, 2, 3, 5):
        with contextlib.suppress(BoardStopped):
            device.board.power_on(cut_at=cut)
            device.board.wait(lambda board: not board.running, 15)
    if device.board.running:
        device.board.power_off()
    since = device.witness.mark()
    device.board.power_on()
    report = device.witness.wait(since, lambda claims: claims["mode"] == "active", 120)
    assert report and report.claims["version"] == "1.0.0", device.log.read_text()[-3000:]
    found = on_flash(device)
    runs = f"ota_{found['otadata'].slot}"
    assert found["record"]["active"][3] in (runs, None) and found["record"]["trial"] is None


def without_ota(path: Path) -> None:
    """Make a flash image one of a board with a single application partition, as stock builds without OTA have it."""
    data = bytearray(path.read_bytes())
    rows = partitions.from_binary(bytes(data[0x8000:0x9000]))
    kept = [
        partitions.Partition("factory", 0, 0, row.offset, row.size) if row.name == "ota_0" else row
        for row in rows
        if row.name not in ("otadata", "ota_1")
    ]
    data[0x8000:0x9000] = partitions.to_binary(kept)
    path.write_bytes(data)


def test_board_without_a_second_partition_refuses_an_image_and_takes_an_application(
    shop: Stage, device: Device
) -> None:
    without_ota(device.image)
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(firmware(shop, "5.4.0", size=65536))
    report = device.tells("refused", "component")
    assert report.claims["version"] == "1.0.0"
    device.publish(release(shop, "1.1.0"))
    assert device.tells("confirmed", None).claims["version"] == "1.1.0"


@pytest.mark.parametrize("step", ["tampered", "honest"])
def test_tampered_image_is_refused(shop: Stage, device: Device, step: str) -> None:
    envelope = firmware(shop, "5.5.0", size=200000 // 16 * 16)
    path = envelope.parent / "demo-firmware-5.5.0.pack"
    honest = path.read_bytes()
    device.board.power_on()
    device.runs("1.0.0")
    try:
        if step == "tampered":
            path.write_bytes(honest[:-70000] + bytes([honest[-70000] ^ 1]) + honest[-69999:])
        device.publish(envelope)
        if step == "tampered":
            device.tells("refused", "digest")
            assert on_flash(device)["ota_1"][0] == 0xFF
        else:
            device.tells("confirmed", None, within=120)
    finally:
        path.write_bytes(honest)


def test_authorised_roll_back(shop: Stage, device: Device) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    device.publish(release(shop, "1.1.0"))
    device.tells("confirmed", None)
    dist = shop.product.root / "dist"
    before = set(dist.glob("*rollback*"))
    shop.gatehouse("release", "--rollback-to", "1.0.0")
    (path,) = set(dist.glob("*rollback*")) - before
    since = device.witness.mark()
    device.publish(path)
    report = device.tells("confirmed", None, since=since)
    assert report.claims["version"] == "1.0.0"
    assert report.claims["sequence"] == suit.parse(path.read_bytes()).sequence
