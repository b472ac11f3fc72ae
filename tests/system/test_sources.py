"""Whole devices whose packs come over HTTPS, over MQTT, in deltas and in blocks."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from gatehouse_tools import ca, pack
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.serve import StaticServer
from gatehouse_tools.sim.board import BoardStopped

from .conftest import Device
from .test_power import check_whole, slots_on_flash
from .test_update import release


@contextlib.contextmanager
def provisioned(shop: Stage, folder: Path, seed: int, *options: str, heap: str = "128wK") -> Iterator[Device]:
    device = Device(shop, folder, seed, heap, *options)
    try:
        yield device
    finally:
        device.close()


def test_update_over_https(shop: Stage, tmp_path: Path, seed: int) -> None:
    context = ca.server_context(shop.product.ca)
    with StaticServer(shop.product.dist, tls=context) as server:
        base = server.url.replace("127.0.0.1", "localhost")
        with provisioned(shop, tmp_path, seed, "--base-url", base) as device:
            device.board.power_on()
            device.runs("1.0.0")
            device.publish(release(shop, "1.9.0", extra=True))
            assert device.tells("confirmed", None, 120).claims["version"] == "1.9.0"
            assert "MemoryError" not in device.log.read_text()
    assert any(request.span for request in server.log)


def publish_blocks(shop: Stage, device: Device, envelope: Path, *options: str) -> None:
    broker = shop.house.broker_address
    shop.gatehouse("publish", str(envelope), "--device", device.id, "--broker", broker, "--over", "mqtt", *options)


def test_update_over_mqtt(shop: Stage, tmp_path: Path, seed: int) -> None:
    envelope = release(shop, "1.9.0", extra=True)
    before = len(shop.house.server.log)
    with provisioned(shop, tmp_path, seed, "--base-url", "mqtt:") as device:
        device.board.power_on()
        device.runs("1.0.0")
        publish_blocks(shop, device, envelope)
        assert device.tells("confirmed", None, 120).claims["version"] == "1.9.0"
        assert "MemoryError" not in device.log.read_text()
        publish_blocks(shop, device, envelope, "--clear")
    assert len(shop.house.server.log) == before, "nothing came over HTTP"


def build(shop: Stage, folder: Path, version: str, files: dict[str, bytes]) -> Path:
    """A release of the application with just these files besides its own."""
    shutil.copytree(shop.source, folder, ignore=shutil.ignore_patterns("tables"), dirs_exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    shop.gatehouse("release", "--version", version, "--source", str(folder))
    return shop.product.root / "dist" / f"demo-{version}.suit"


_TABLES = 20  # files that the application does not use, beside its own


def test_one_changed_file_of_many_is_all_that_is_sent(shop: Stage, tmp_path: Path, seed: int) -> None:
    noise = random.Random(seed)
    tables = {f"table{number:02}.bin": noise.randbytes(3000) for number in range(_TABLES)}
    old = build(shop, tmp_path / "source", "2.0.0", tables)
    new = build(shop, tmp_path / "source", "2.1.0", {"table07.bin": noise.randbytes(3000)})
    index, _ = pack.unpack(new.with_suffix(".pack").read_bytes())
    assert len(index.entries) > 2 * _TABLES
    with provisioned(shop, tmp_path, seed, "--slot-release", str(old)) as device:
        device.board.power_on()
        device.runs("2.0.0")
        before = len(shop.house.server.log)
        device.publish(new)
        device.tells("confirmed", None)
        device.board.power_off()
        check_whole(device, "b", new)
    requests = shop.house.server.log[before:]
    # What the server sent: response heads and bodies, without those of TCP and IP.
    sent = sum(request.head + request.body for request in requests)
    assert sent <= 3000 + len(index.data) + 2048, requests
    tag = next(entry.stored for entry in index.entries if entry.path == "app.coswid")  # names the version
    fetched = [request.span[1] - request.span[0] for request in requests if request.span]
    assert fetched == [4 + len(index.data), tag, 3000]


def test_power_cut_in_a_large_file_goes_on_at_the_block_where_it_was(shop: Stage, tmp_path: Path, seed: int) -> None:
    size = 135_000  # three blocks, and what the file system of the board holds beside its core and two slots
    new = build(shop, tmp_path / "source", "2.2.0", {"zz.bin": random.Random(seed).randbytes(size)})
    data = new.with_suffix(".pack").read_bytes()
    entry = pack.split(data).entries[-1]
    with provisioned(shop, tmp_path, seed) as device:
        device.board.power_on()
        device.runs("1.0.0")
        before = len(shop.house.server.log)
        device.board.cut_at(1400)
        device.publish(new)
        with contextlib.suppress(BoardStopped):
            device.board.wait(lambda board: not board.running, 120)
        assert not device.board.running, "the update ended before the power was cut"
        have = len(slots_on_flash(device.image)["b"].get("zz.bin", b""))
        assert have % pack.BLOCK == 0 and pack.BLOCK <= have < size, "some blocks were committed, no part of one"
        device.board.power_on()
        assert device.tells("confirmed", None, 120).claims["version"] == "2.2.0"
        device.board.power_off()
        check_whole(device, "b", new)
    start = len(data) - size + have
    assert [request.span for request in shop.house.server.log[before:]][-1] == (start, len(data))
    assert entry.path == "zz.bin" and len(entry.blocks) == 3
