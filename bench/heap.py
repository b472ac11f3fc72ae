"""The smallest heap with which the core alone installs an update, and a whole device takes one.

    python -m bench.heap

Core alone: boot (verification of the running slot included) and Installer.offer() over HTTP, 200 KB, from compiled
.mpy that lies on the device's LittleFS and is loaded into the heap, garbage collected as often as memory.settle()
says. In the heap: interpreter, LittleFS, asyncio, the core's modules as they come and go, identity, anchors,
configuration and the NVS of this bench (1 KB). Not in the heap, as on the chip: the flash model and the bench itself.
Not loaded: link.py, mqtt.py, wifi.py, status.py, which recovery.py has on top; no TLS. "In ROM": the core's bytecode is
executed from a read-only file system, as a production build would have it frozen; its names stay in the heap.
Whole device: the simulated board with the real application, TLS to a broker, boots, takes a signed update over HTTP
or HTTPS and confirms it. Bisected in steps of 1 wK (core) and 2 wK (device); 1 wK is 2,024 bytes here, the 64-bit
stand-in for 1 KB of a chip.
"""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

from gatehouse_tools import reports
from gatehouse_tools.demo.stage import Stage
from gatehouse_tools.demo.witness import Witness
from gatehouse_tools.serve import StaticServer
from gatehouse_tools.sim.board import Board

from . import chip
from .table import Row

TITLE = "Smallest heap"
WHY = """
What holds it back: the bytecode of the core, which a stock board loads into its heap, and about 18 KB of names that
its modules have interned; a production build has both in flash. With the bytecode in ROM the aim is reached.
"""
DEVICE_S = 60  # seconds for an update of a whole device


def smallest(works: Callable[[int], bool], low: int, high: int, step: int = 1) -> int:
    """The least multiple of `step` in (low, high] that works, by bisection; `high` must."""
    if not works(high):
        raise chip.BenchError(f"not even {high} wK are enough")
    while high - low > step:
        middle = (low + high) // 2 // step * step
        if works(middle):
            high = middle
        else:
            low = middle
    return high


def core_alone(count: int, squeeze: bool, size: int = 200 * 1024, rom: bool = False) -> int:
    """wK that the core alone needs for an update of `count` files."""
    with chip.chip() as board:
        old = board.release(chip.tree(1, count=3, size=6000), 1, squeeze=True)
        new = board.release(chip.tree(2, count=count, size=size), 2, squeeze)
        image, nvs = board.image(old, {"/offer.suit": new.envelope})

        def works(heap: int) -> bool:
            found = board.run("install", image, heap=f"{heap}wK", nvs=chip.nvs_hex(nvs), resident=False, rom=rom)
            return bool(found.get("due"))

        return smallest(works, 16, 96)


def whole_device(secure: bool = False) -> int:
    """wK with which a device of the demonstration takes an update, over HTTPS where `secure`, and confirms it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "stage"
        with Stage(folder, "auto", lambda _: None, lambda _: None) as stage:
            stage.release("1.1.0", "a larger one", extra=True)
            ca = stage.product.root / "ca"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(ca / "broker.pem", ca / "broker-key.pem")
            packs = StaticServer(stage.product.dist, tls=context if secure else None)
            base = packs.url.replace("127.0.0.1", "localhost")
            numbers = iter(range(1, 100))

            def works(heap: int) -> bool:
                return _updates(stage, base, f"gh-bench-{next(numbers)}", heap)

            with packs:
                return smallest(works, 48, 144, 2)


def _updates(stage: Stage, base: str, device: str, heap: int) -> bool:
    house, root = stage.house, stage.product.root
    stage.gatehouse(
        *("provision", "--id", device, "--slot-release", str(stage.envelopes["1.0.0"])),
        *("--broker", house.broker_address, "--base-url", base, "--ntp", house.ntp_address),
        *("--trial-seconds", "20", "--report-seconds", "5", "--sensor-seconds", "2", "--watchdog-ms", "12000"),
    )
    ca = root / "ca"
    verifier = reports.Verifier(reports.known_devices(root / "devices"))
    credentials = (ca / "ca.pem", ca / "host.pem", ca / "host-key.pem")
    witness = Witness(device, verifier, *credentials, "localhost", house.broker.port)
    offer = ("publish", str(stage.envelopes["1.1.0"]), "--device", device, "--broker", house.broker_address)
    image = root / "devices" / device / "flash.bin"
    with contextlib.closing(witness), Board(image, heap=f"{heap}wK") as board:
        board.power_on()
        if not witness.wait(0, lambda claims: claims["mode"] == "active", DEVICE_S / 4):
            return False
        stage.gatehouse(*offer)

        def ended(claims: dict) -> bool:
            update = claims.get("update", {})
            done = claims.get("version") == "1.1.0" and claims["mode"] == "active"
            return done or update.get("state") in ("failed", "refused", "rolled-back")

        report = witness.wait(0, ended, DEVICE_S)
        return report is not None and report.claims.get("version") == "1.1.0"


def rows() -> list[Row]:
    """The measurements."""
    few, many = core_alone(40, False), core_alone(128, False)
    return [
        Row("core alone, 40 files of 200 KB, raw", few, "wK", 48, note="stretch: 32"),
        Row("core alone, 128 files of 200 KB, raw", many, "wK", 48, note="stretch: 32"),
        Row("core alone, 40 files of 200 KB, deflated", core_alone(40, True), "wK", 48),
        Row("core alone, 40 files of 400 KB, raw", core_alone(40, False, 400 * 1024), "wK", few + 1, note="constant"),
        Row("core alone, 40 files of 200 KB, raw, bytecode of the core in ROM", core_alone(40, False, rom=True), "wK"),
        Row("whole device, TLS, update over HTTP, confirmed", whole_device(), "wK", 80),
        Row("whole device, TLS, update over HTTPS, confirmed", whole_device(secure=True), "wK", 112),
    ]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what:48} {row.measured:6.0f} {row.unit} {row.bound:10} {row.verdict} {row.note}")
