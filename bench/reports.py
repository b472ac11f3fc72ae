"""Reports a second that one collector verifies and stores, and what a report weighs.

    python -m bench.reports

1,000 simulated devices, each with a TLS connection and a certificate of its own, publish ten reports each at QoS 1 to
Mosquitto; each waits for its PUBACK. One `gatehouse collect` verifies and stores them in SQLite, and acknowledges after
the commit. "paho" is the same client, subscription and messages with a handler that counts. Broker, devices and
collector share the machine's cores, so that rates are those of all of them; processor time is the receiver's alone.
Size: a report of the device's own code, beside its claims as compact JSON under the same short names, byte strings in
base64, without a signature: of a device without an update yet, and of one whose last update was confirmed.
"""

from __future__ import annotations

import base64
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2
from paho.mqtt import client as mqtt

from cases.report import claims, report_key, sealed
from gatehouse_tools import broker as brokers
from gatehouse_tools import ca, collector, coswid, reports
from gatehouse_tools.broker import Broker
from gatehouse_tools.database import Database
from servers import device as devices_code

from .publishers import name
from .table import Row

TITLE = "Reports"
WHY = """What holds it back: the broker and the thousand devices take their share of two cores, and verification in
Python takes the rest. More collectors of one group share the load, over as many cores as there are."""
ROOT = Path(__file__).resolve().parents[1]
DEVICES = 1000
EACH = 10
LIMIT_S = 120.0
NAMES = "wifi-station update uart usb wifi-ap ble esp-now webrepl mdns https mqtt-commands reset-button"


UPDATED = {1: "confirmed", 3: bytes(range(32)), 4: 1_800_000_000}
TAG = coswid.make("gatehouse.example", "example", "1.0.0", {})


def report(device: int, number: int) -> bytes:
    """A report as full as a device's."""
    found = claims(
        number,
        c256=b"\x01" + device.to_bytes(16, "big"), c262=False, c263=0, c274=[["gatehouse", [["app", 1]]]], c275=1,
        p20={1: True, 2: True, 3: True, 4: True}, p21={1: False, 2: False, 3: True, 4: True},
        p32={1: "temperature", 2: "°C", 3: 21.5, 4: 1_800_000_000}, p33={1: 1, 2: 0},
        p34={1: bytes([192, 0, 2, 7]), 2: -61},
        p35={one: [False, False] for one in NAMES.split(" ")}, p36={1: 0, 2: True, 3: {}, 4: 0},
        p8=UPDATED, c272=[[258, TAG]],
    )  # fmt: skip
    return sealed(found, name(device).encode())


def known() -> dict[str, reports.Device]:
    """What the collector holds of the devices."""
    return {name(one): reports.Device(report_key(0), one.to_bytes(16, "big")) for one in range(DEVICES)}


@contextmanager
def broker(folder: Path):
    """A product's authority, and Mosquitto with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * DEVICES)), hard))
    ca.create(folder / "ca", "bench")
    files = [folder / "ca" / f"{one}.pem" for one in ("ca", "broker", "broker-key")]
    with Broker(folder / "broker", *files, kind="mosquitto") as running:
        yield running


def publish(folder: Path, port: int, receive: Callable[[Callable[[], None]], float]) -> tuple[float, float]:
    """Messages a second, and this process's processor time in ms a message.

    `receive(start)` calls start() when it is ready, and returns the seconds that it took.
    """
    command = [sys.executable, "-m", "bench.publishers", str(folder), str(port), str(DEVICES)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        talk, listen = process.stdin, process.stdout
        if not talk or not listen or listen.readline() != "ready\n":
            raise RuntimeError("the simulated devices did not connect")

        def start() -> None:
            talk.write("go\n")
            talk.flush()

        before = time.process_time()
        took = receive(start)
        spent = time.process_time() - before
        if process.wait(LIMIT_S):
            raise RuntimeError("the simulated devices failed")
    return DEVICES * EACH / took, spent * 1000 / (DEVICES * EACH)


def nothing(tls: Any, port: int) -> Callable[[Callable[[], None]], float]:
    """paho, and a handler that counts."""

    def receive(start: Callable[[], None]) -> float:
        left, done, times = [DEVICES * EACH], threading.Event(), []

        def count(_client: Any, _data: Any, _message: Any) -> None:
            times.append(time.monotonic())
            left[0] -= 1
            if not left[0]:
                done.set()

        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "bench", protocol=mqtt.MQTTv5)
        client.tls_set_context(tls)
        subscribed = threading.Event()

        def connected(client: mqtt.Client, *_: Any) -> None:
            client.subscribe("$share/nothing/gatehouse/+/report", 1)

        client.on_connect = connected
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = count
        client.connect("localhost", port)
        client.loop_start()
        subscribed.wait(LIMIT_S)
        start()
        if not done.wait(LIMIT_S):
            raise RuntimeError(f"{left[0]} messages did not come")
        client.disconnect()
        client.loop_stop()
        return times[-1] - times[0]

    return receive


def collected(tls: Any, port: int, folder: Path) -> Callable[[Callable[[], None]], float]:
    """A collector with SQLite."""

    def receive(start: Callable[[], None]) -> float:
        database = Database(f"sqlite:///{folder / 'reports.db'}")
        inbox = collector.Inbox("bench", "1", tls, lambda text: None)
        taker = collector.Collector(inbox, collector.Judge(known(), newest=database.newest), database, print)
        inbox.open("localhost", port, LIMIT_S)
        times: list[float] = []

        def step() -> None:
            if taker.messages:
                times.append(time.monotonic())
            if taker.messages == DEVICES * EACH:
                taker.stop.set()

        start()
        began = time.monotonic()
        taker.run(limit=LIMIT_S, step=step)
        inbox.close()
        database.close()
        if database.new != DEVICES * EACH or taker.refused:
            raise RuntimeError(f"{database.new} reports stored, {taker.refused} refused")
        return times[-1] - began

    return receive


def verified() -> float:
    """Verifications a second, and nothing else."""
    held, data = known(), [report(one, 1) for one in range(DEVICES)]
    began = time.process_time()
    for one, message in enumerate(data):
        reports.verify(message, held, name(one))
    return DEVICES / (time.process_time() - began)


def sizes(**update: Any) -> tuple[int, int]:
    """Bytes of a report of the device's code, and of its claims as JSON. `update`: what it says of its update."""
    idle = {"state": "idle", "reason": None, "detail": "", "digest": "", "sequence": 0, "done": 0, "total": 0}
    interfaces = [[one, False, False, True, ""] for one in NAMES.split(" ")]
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "folder": folder, "update": idle | update, "clock": 1_800_000_000, "access": {"rows": interfaces},
            "tag": TAG.hex(),
        }  # fmt: skip
        before = [str(ROOT / "tests" / "device"), str(ROOT / "firmware")]
        data = bytes.fromhex(devices_code.run("report.py", job, before=before)[0])
    found = cbor2.loads(cbor2.loads(data).value.value[2])
    return len(data), len(json.dumps(_plain(found), separators=(",", ":"), ensure_ascii=False).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def rows() -> list[Row]:
    """The measurements."""
    if not brokers.mosquitto():
        raise RuntimeError("Mosquitto is not installed")
    from gatehouse_tools.publish import tls_context

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with broker(folder) as running:
            made = [report(one, number) for number in range(1, EACH + 1) for one in range(DEVICES)]
            (folder / "reports.bin").write_bytes(b"".join(len(one).to_bytes(2, "big") + one for one in made))
            item: Any = type("Item", (), {"ca": folder / "ca"})
            plain, plain_ms = publish(folder, running.port, nothing(tls_context(item), running.port))
            ours, ours_ms = publish(folder, running.port, collected(tls_context(item), running.port, folder))
    size, plain_json = sizes()
    later, later_json = sizes(state="confirmed", digest=bytes(range(32)).hex(), sequence=1_800_000_000)
    return [
        Row(f"{DEVICES:,} devices: paho receives and does nothing", plain, "a second", note=f"{len(made[0])} bytes"),
        Row(f"{DEVICES:,} devices: collected, verified and stored", ours, "a second"),
        Row("collected / paho doing nothing", ours / plain, "times"),
        Row("processor time of paho doing nothing, a message", plain_ms, "ms"),
        Row("processor time of the collector, a message", ours_ms, "ms"),
        Row("verification alone, one core", verified(), "a second"),
        Row(
            "a report / its claims as compact JSON",
            size / plain_json,
            "times",
            0.6,
            note=f"{size} and {plain_json} bytes",
        ),
        Row(
            "the same after an update, with a MAC of its SUIT Report in both",
            later / later_json,
            "times",
            0.6,
            note=f"{later} and {later_json} bytes",
        ),
    ]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what:52} {row.measured:8.2f} {row.unit} {row.bound:16} {row.verdict} {row.note}")
