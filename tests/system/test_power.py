"""Whole devices whose power is cut by SIGKILL in the middle of a flash operation, and devices whose slots are lost."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

from gatehouse_tools import pack, suit
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.image import flash, littlefs, partitions
from gatehouse_tools.sim.board import BoardStopped

from .conftest import Device
from .test_update import release

CUTS = 6  # every operation is cut in tests/device/test_power_cut.py; here the whole device is


def slots_on_flash(image: Path) -> dict[str, dict[str, bytes]]:
    """The files of each slot, read from the image without the device's help."""
    _, data = flash.take_apart(image.read_bytes())["vfs"]
    files, _ = littlefs.read(data)
    return {
        slot: {path.split("/", 3)[3]: body for path, body in files.items() if path.startswith(f"/slots/{slot}/")}
        for slot in "ab"
    }


def check_whole(device: Device, slot: str, envelope: Path) -> None:
    """The slot holds just the files of this release, every byte."""
    found = slots_on_flash(device.image)[slot]
    index, files = pack.unpack(envelope.with_suffix(".pack").read_bytes())
    assert found.pop("manifest.suit") == envelope.read_bytes()
    assert found.pop("index.cbor") == index.data
    assert found == files


def test_power_cut_in_the_middle_of_an_update(shop: Stage, device: Device, seed: int) -> None:
    chance = random.Random(seed)
    new = release(shop, "1.9.0", extra=True)
    device.board.power_on()
    device.runs("1.0.0")
    device.board.wait(lambda board: board.operations, 120)
    cuts = sorted(chance.sample(range(1, 700), CUTS))
    device.board.cut_at(cuts[0])
    device.publish(new)
    done = None
    for number, cut in enumerate(cuts):
        with contextlib.suppress(BoardStopped):
            device.board.wait(lambda board: not board.running, 30)
        if device.board.running:
            break  # the update ended before this cut came
        check_whole(device, "a", shop.envelopes["1.0.0"])
        since = device.witness.mark()
        device.board.power_on(cut_at=cuts[number + 1] - cut if number + 1 < len(cuts) else None)
    if not device.board.running:
        device.board.power_on()
    done = device.witness.wait(0, lambda claims: claims.get("update", {}).get("state") == "confirmed", 120)
    assert done and done.claims["version"] == "1.9.0", device.log.read_text()[-3000:]
    device.board.power_off()
    check_whole(device, done.claims["slot"], new)
    check_whole(device, "a", shop.envelopes["1.0.0"])
    assert since is not None


def damage(image: Path, slots: str) -> None:
    """Flip a byte of the first file of these slots, in the image itself."""
    data = bytearray(image.read_bytes())
    part = partitions.find(partitions.from_binary(bytes(data[0x8000:0x9000])), "vfs")
    files, folders = littlefs.read(bytes(data[part.offset : part.end]))
    for slot in slots:
        for path in list(files):
            if path.startswith(f"/slots/{slot}/") and path.endswith("app.mpy"):
                files[path] = files[path][:-1] + bytes([files[path][-1] ^ 1])
    data[part.offset : part.end] = littlefs.build(files, folders, part.end - part.offset)
    image.write_bytes(data)


def test_device_without_a_good_slot_reports_recovery_and_takes_an_offer(shop: Stage, device: Device) -> None:
    damage(device.image, "ab")
    device.board.power_on()
    report = device.witness.wait(0, lambda claims: claims["mode"] == "recovery", 120)
    assert report and "version" not in report.claims and "recovery" in report.degraded
    device.publish(release(shop, "1.1.0"))
    assert device.tells("confirmed", None).claims["version"] == "1.1.0"


def test_sequence_in_the_report_is_the_manifests(shop: Stage, device: Device) -> None:
    device.board.power_on()
    report = device.runs("1.0.0")
    found = suit.parse(shop.envelopes["1.0.0"].read_bytes())
    assert report.claims["sequence"] == found.sequence
    assert report.claims["manifest"] == found.digest.hex()
