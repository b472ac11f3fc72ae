"""Simulated devices as one program: each with a TLS connection and certificate of its own, publishing as devices do.

    python -m bench.publishers FOLDER PORT DEVICES

FOLDER/ca is the authority, FOLDER/reports.bin has the reports, a 2-byte length before each: number 1 of every device,
number 2 of every device, and so on. Prints "ready" when all are connected, begins at a line on stdin, ends when the
broker has acknowledged everything.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gatehouse_tools import ca, topics

HANDSHAKES = 40  # at once


def name(device: int) -> str:
    """The id of a simulated device."""
    return f"gh-{device}"


def read(path: Path, devices: int) -> list[list[bytes]]:
    """The reports of each device."""
    found: list[list[bytes]] = [[] for _ in range(devices)]
    data, at, nth = path.read_bytes(), 0, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        found[nth % devices].append(data[at + 2 : at + 2 + size])
        at, nth = at + 2 + size, nth + 1
    return found


def packet(kind: int, body: bytes) -> bytes:
    """An MQTT packet."""
    length, head = len(body), bytearray([kind])
    while True:
        length, low = divmod(length, 128)
        head.append(low | (128 if length else 0))
        if not length:
            return bytes(head) + body


def text(value: str) -> bytes:
    """A text as MQTT has it."""
    return len(value.encode()).to_bytes(2, "big") + value.encode()


Session = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(folder: Path, authority: ca.Authority, port: int, device: int, gate: asyncio.Semaphore) -> Session:
    """A session: (reader, writer)."""
    async with gate:
        issued = authority.issue(name(device))
        context = ssl.create_default_context(cafile=folder / "ca" / "ca.pem")
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(issued.certificate.public_bytes(Encoding.PEM))
            file.write(issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            context.load_cert_chain(file.name)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(packet(0x10, text("MQTT") + b"\x04\x02\0\0" + text(name(device))))
        if await reader.readexactly(4) != b"\x20\x02\0\0":
            raise ConnectionError(f"{name(device)} is refused")
        return reader, writer


async def publish(session: Session, device: int, reports: list[bytes]) -> None:
    """Publish all reports at QoS 1, each after the broker has acknowledged the one before."""
    reader, writer = session
    topic = text(topics.topic("report", id=name(device)))
    for number, report in enumerate(reports, 1):
        writer.write(packet(0x32, topic + number.to_bytes(2, "big") + report))
        await reader.readexactly(4)
    writer.write(b"\xe0\0")
    writer.close()


async def main(folder: Path, port: int, devices: int) -> None:
    """All of them."""
    reports = read(folder / "reports.bin", devices)
    authority, gate = ca.Authority(folder / "ca"), asyncio.Semaphore(HANDSHAKES)
    sessions = await asyncio.gather(*(connect(folder, authority, port, one, gate) for one in range(devices)))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await asyncio.gather(*(publish(sessions[one], one, reports[one]) for one in range(devices)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
