"""QoS 1 publishes a second over TLS on loopback, one after the other, and the heap that a connected device needs.

    python -m bench.link

The broker is the house's own (Mosquitto where it is installed). Each publish waits for its PUBACK. "plain" is
umqtt.simple on the same TLS connection without what lib/gatehouse/mqtt.py puts around it. Heap is the smallest
`-X heapsize=NwK` at which a process that holds nothing else connects with TLS and publishes 3,000 bytes.
"""

import json
import pathlib
import subprocess
import tempfile

from gatehouse_tools import ca
from gatehouse_tools.broker import Broker
from plugin import interpreter

from .table import Row

ROOT = pathlib.Path(__file__).resolve().parents[1]
TITLE = "QoS 1 publishes over TLS"
ID = "gh-1"
SIZES = (50, 1000, 1400, 3000, 8000)
COUNT = 1000
UMQTT = ROOT / "build" / "umqtt"

START = """
import sys
sys.path[:] = {path!r}
"""
SPEED = (
    START
    + """
import asyncio, json, time, tls
from binascii import unhexlify
from gatehouse import mqtt
from gatehouse.dial import dial, tls_context

class Raw:
    "What umqtt calls a socket, with TLS and nothing else."
    def __init__(self, sock):
        self.sock = sock
        self.read, self.write, self.close = sock.read, sock.write, sock.close
    def connect(self, address): pass
    def settimeout(self, limit): pass
    def setblocking(self, flag): pass

def rate(publish, size, count):
    payload = bytes(size)
    started = time.ticks_us()
    for _ in range(count):
        publish(b"gatehouse/{id}/reply", payload, False, 1)
    return count * 1000000 // time.ticks_diff(time.ticks_us(), started)

async def main():
    credentials = [unhexlify(item) for item in {credentials!r}]
    context = tls_context(credentials[:1], *credentials[1:])
    client = mqtt.Client(await dial("127.0.0.1", {port}, 5000), "127.0.0.1", context,
                         mqtt.buffer(), b"{id}", keepalive=60)
    client.set_callback(print)
    client.open()
    found = {{"": {{size: rate(client.publish, size, {count}) for size in {sizes!r}}}}}
    client.disconnect()
    client.open = client.publish = None

    sock = await dial("127.0.0.1", {port}, 5000)
    sock.setblocking(True)
    simple = mqtt.simple.MQTTClient(b"{id}", "127.0.0.1", 1883)
    wrapped = Raw(context.wrap_socket(sock, server_hostname="127.0.0.1"))
    module = mqtt.simple.socket
    class Shim:
        socket = staticmethod(lambda *_: wrapped)
        getaddrinfo = staticmethod(lambda *_: ((None,),))
    mqtt.simple.socket = Shim
    simple.connect()
    found["plain "] = {{size: rate(simple.publish, size, 30) for size in {sizes!r}}}
    print(json.dumps(found))

asyncio.run(main())
"""
)
HEAP = (
    START
    + """
import asyncio
from binascii import unhexlify
from gatehouse import link

async def main():
    credentials = [unhexlify(item) for item in {credentials!r}]
    made = link.Link("{id}", "127.0.0.1", {port}, print, ["gatehouse/{id}/offer"], None,
                     (credentials[:1], credentials[1], credentials[2]))
    running = asyncio.create_task(made.run())
    if await made.publish_acked("gatehouse/{id}/reply", bytes(3000), timeout_ms=3000):
        print("acknowledged")

asyncio.run(main())
"""
)


def measure() -> dict[str, float]:
    """Publishes a second by payload size, ours and plain, and the heap in KiB (wK)."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ca.create(folder / "ca", "bench")
        issued = ca.Authority(folder / "ca").issue(ID)
        authority = ca.der(ca.load_certificate(folder / "ca" / "ca.pem"))
        compiled = folder / "mpy"
        interpreter.compile_folder(ROOT / "lib", compiled)
        interpreter.compile_folder(UMQTT, compiled)
        files = [folder / "ca" / f"{name}.pem" for name in ("ca", "broker", "broker-key")]
        with Broker(folder / "broker", *files) as broker:
            values = {
                "path": [str(compiled), ".frozen"],
                "port": broker.port,
                "id": ID,
                "credentials": [item.hex() for item in (authority, issued.cert_der(), issued.key_der())],
                "count": COUNT,
                "sizes": SIZES,
            }
            rates = json.loads(_run(folder, SPEED.format(**values)))
            found = {f"{kind}{size}": rates[kind][str(size)] for kind in ("", "plain ") for size in SIZES}
            heap = HEAP.format(**values)
            found["heap_wkib"] = next(size for size in range(16, 128) if "acknowledged" in _run(folder, heap, size))
    return found


def rows() -> list[Row]:
    """The measurements, each payload size beside the aim, and umqtt.simple as it is."""
    found = measure()
    made = [Row(f"publishes of {size} bytes", found[str(size)], "a second", 2000, least=True) for size in SIZES]
    made += [Row(f"umqtt.simple alone, {size} bytes", found[f"plain {size}"], "a second") for size in SIZES]
    return [*made, Row("smallest heap, connected and publishing 3,000 bytes", found["heap_wkib"], "wK")]


def _run(folder: pathlib.Path, program: str, heap: int | None = None) -> str:
    """The output of a program in MicroPython; with a heap size it is compiled first, and may fail."""
    path = folder / "program.py"
    path.write_text(program)
    command = [interpreter.find()]
    if heap:
        interpreter.compile_folder(_alone(path), folder / "main")
        command += ["-X", f"heapsize={heap}wK", "-c", "import program"]
    else:
        command += ["-X", "heapsize=2M", str(path)]
    where = folder / "main" if heap else folder
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode and not heap:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def _alone(path: pathlib.Path) -> pathlib.Path:
    """A folder that has only this file."""
    folder = path.parent / "alone"
    folder.mkdir(exist_ok=True)
    (folder / path.name).write_bytes(path.read_bytes())
    return folder


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what:52} {row.measured:8.0f} {row.unit} {row.bound:16} {row.verdict}")
