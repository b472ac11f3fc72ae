"""What the cuts happen in: one product, its releases, its pack server, and a flash image where each phase starts.

A world is a folder. It is made once and can be used again, so that a failing case can be repeated from the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gatehouse_tools import build, ca, cbor, core, identity, keys, pack, product, releases, suit, trust_store
from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.image import flash
from gatehouse_tools.serve import StaticServer

APPLICATION = Path(__file__).resolve().parents[1] / "device_scripts" / "powercut"
SIZE = 198_000  # bytes of a release, in FILES files: the update that other updaters were measured with
FILES = 20
_LARGE = 70_000  # bytes of its one file over 64 KiB
_SHARED = 6  # of the files are the same in every release, so that an update copies them
_TEXTS = 4  # of the files deflate
_NAME = "powercut"
_FIRMWARE = "powercut-firmware"
_IMAGE = 80_000  # bytes of the firmware's image: more than one block of 64 KiB
_LATER_S = 3600  # a device that is provisioned after this was signed has a configuration of its own that is older
_THRESHOLD = 65536  # bytes between collections; needs HEAP of bench.py


@dataclass(frozen=True)
class Release:
    """A signed release: its envelope's bytes, and the slot that holds it, path -> bytes."""

    version: str
    envelope: bytes
    digest: bytes
    sequence: int
    slot: dict[str, bytes]


class World:
    """The folder and what is in it. `build()` makes one, `World(folder)` opens it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.product = product.Product(folder / "product")
        told = json.loads((folder / "world.json").read_text())
        self.host, self.port = told["host"], told["port"]
        self.clock = float(told["clock"])  # what a device's clock shows after power-on
        self.firmware = flash.stand_in_app(_FIRMWARE, _IMAGE)
        self._releases: dict[str, Release] = {}

    @property
    def images(self) -> Path:
        """The folder of the flash images."""
        return self.folder / "images"

    def start(self, phase: str) -> bytes:
        """The flash image where a phase starts."""
        return (self.images / f"{phase}.bin").read_bytes()

    def release(self, version: str) -> Release:
        """A release that was made here."""
        if version not in self._releases:
            dist = self.product.dist / f"{_NAME}-{version}.suit"
            data = dist.read_bytes()
            index, files = pack.unpack(dist.with_suffix(".pack").read_bytes())
            told = suit.parse(data)
            slot = {"manifest.suit": data, "index.cbor": index.data, **files}
            self._releases[version] = Release(version, data, told.digest, told.sequence, slot)
        return self._releases[version]

    def releases(self) -> list[Release]:
        """Every release, oldest first."""
        return [self.release(item["version"]) for item in self.product.releases() if item["version"]]

    def make_release(
        self, version: str, *, bad: bool = False, writes: int = 0, events: int = 0, firmware: bool = False
    ) -> Release:
        """Build and sign a release of the harness's application.

        bad: it crashes on trial; writes, events: its jobs for NVS and journal; firmware: an image comes with it in one
        manifest.
        """
        source = self.folder / "source" / version
        shutil.copytree(APPLICATION, source)
        (source / "job.py").write_text(f"BAD = {bad}\nWRITES = {writes}\nEVENTS = {events}\n")
        compiled = {f"{path.stem}.mpy": build.compile_file(path, path.name) for path in source.glob("*.py")}
        for path, data in _data(version, sum(map(len, compiled.values())), len(compiled)).items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(data)
        made = build.build(source, _NAME, version)
        assert len(made.index.entries) == FILES
        assert sum(entry.size for entry in made.index.entries) == SIZE
        (self.product.dist / f"{_NAME}-{version}.pack").write_bytes(made.pack)
        components = [
            suit.Component("app", made.index.digest, len(made.index.data), f"{_NAME}-{version}.pack", version=version)
        ]
        if firmware:
            index, data = pack.build_firmware(self.firmware, _NAME, version, core.version())
            (self.product.dist / f"{_FIRMWARE}-{version}.pack").write_bytes(data)
            components.insert(
                0, suit.Component("firmware", index.digest, len(index.data), f"{_FIRMWARE}-{version}.pack")
            )
        self._sign(f"{_NAME}-{version}", components, "release", version=version)
        return self.release(version)

    def make_config(self, name: str, phase: str, sensor_seconds: int) -> None:
        """Sign a configuration for the devices of a phase."""
        self._sign(name, [suit.Component("config", payload=self._config(phase, sensor_seconds).payload())], "operator")

    def make_trust(self, name: str, keep: bytes) -> None:
        """Sign trust anchors of version 2 with a new root and a new release key; `keep`: the release that stays."""
        new = {role: keys.generate() for role in ("root", "release")}
        held = {**self.product.public_keys(), **{role: signer.key for role, signer in new.items()}}
        rows = [
            {1: held[role].kid, 2: held[role].alg, 3: held[role].public, 4: [number]}
            for role, number in trust_store.ROLES.items()
            if role in held
        ]
        authority = ca.der(ca.load_certificate(self.product.ca / "ca.pem"))
        payload = cbor.dumps({1: 2, 2: rows, 4: [keep], 5: [authority]})
        self._sign(name, [suit.Component("trust", payload=payload)], "root", new["root"])
        (self.product.dist / f"{name}.root").write_bytes(trust_store.root_digest([held["root"].public]))

    def root_digest(self, name: str) -> bytes:
        """What NVS pins once these trust anchors are in force."""
        return (self.product.dist / f"{name}.root").read_bytes()

    def envelope(self, name: str) -> bytes:
        """The envelope of a configuration or of trust anchors."""
        return (self.product.dist / f"{name}.suit").read_bytes()

    def envelopes(self) -> dict[str, bytes]:
        """All that was signed here, by the name of its file."""
        return {path.stem: path.read_bytes() for path in self.product.dist.glob("*.suit")}

    def _sign(
        self, name: str, components: list[suit.Component], role: str, *others: keys.Signer, version: str = ""
    ) -> None:
        item = self.product
        sequence = build.next_sequence(item, int(time.time()) + _LATER_S)
        kind = item.class_id(item.board()).bytes
        signers = [item.signer(role), *others]
        data = suit.build_envelope(sequence, components, item.vendor_id.bytes, kind, signers)
        item.record_release({"version": version, "sequence": sequence, "board": item.boards[0], "file": f"{name}.suit"})
        (item.dist / f"{name}.suit").write_bytes(data)

    def offer(self, phase: str, *envelopes: str) -> None:
        """Put an offer (a version, or another envelope's name) where a phase's devices look; none takes it away."""
        folder = self.folder / "served" / phase
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "offer.suit").unlink(missing_ok=True)
        for name in envelopes:
            path = self.product.dist / f"{_NAME}-{name}.suit"
            shutil.copyfile(path if path.exists() else self.product.dist / f"{name}.suit", folder / "offer.suit")
            for data in self.product.dist.glob("*.pack"):
                if not (folder / data.name).exists():
                    (folder / data.name).hardlink_to(data)  # the server follows no link out of its folder

    def provision(self, phase: str, version: str) -> bytes:
        """The flash image of a new device with a release, whose packs come from the folder of this phase."""
        board = self.product.board()
        release = releases.load(self.product, board, self.product.dist / f"{_NAME}-{version}.suit")
        config = self._config(phase, 60)
        joined = identity.Credentials(*identity.SIMULATED_WIFI)
        made = identity.provision(self.product, board, release, config, joined, f"pc-{phase}")
        return (made.folder / "flash.bin").read_bytes()

    def _config(self, phase: str, sensor_seconds: int) -> identity.Config:
        base = f"http://{self.host}:{self.port}/{phase}/"
        return identity.Config(base_url=base, watchdog_ms=30000, sensor_seconds=sensor_seconds)

    @contextmanager
    def served(self) -> Iterator[StaticServer]:
        """The pack server, at the address that the signed configurations name."""
        (self.folder / "served").mkdir(exist_ok=True)
        with StaticServer(self.folder / "served", host=self.host, port=self.port) as server:
            yield server


def create(folder: Path) -> World:
    """A new product without releases. GatehouseError when the folder is not empty."""
    root = folder / "product"
    product.create(root, _NAME, "powercut.example", ["unix"])
    ca.create(root / "ca", _NAME)
    (folder / "images").mkdir()
    # An address of its own in the loopback network: nobody else has this port there, today or when it is used again.
    chance = random.SystemRandom()
    host = f"127.{chance.randrange(16, 250)}.{chance.randrange(1, 250)}.{chance.randrange(1, 250)}"
    told = {"host": host, "port": 8259, "clock": time.time()}
    (folder / "world.json").write_text(json.dumps(told) + "\n")
    return World(folder)


def quicken() -> bool:
    """Have the cores that this process puts into flash images collect garbage less often. False when that is not known.

    It is the one difference to the real core: it halves the time of a boot, and no flash operation depends on it.
    """
    path = core.source("lib", "gatehouse", "memory.py")
    text = path.read_text()
    quick = re.sub(r"^_THRESHOLD = const\(\d+\)", f"_THRESHOLD = const({_THRESHOLD})", text, flags=re.MULTILINE)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / path.name
        copy.write_text(quick)
        build.core_files()["/lib/gatehouse/memory.mpy"] = build.compile_file(copy, "gatehouse/memory.py")
    return quick != text


def is_world(folder: Path) -> bool:
    """Whether the folder holds a world that was made to its end."""
    return (folder / "complete").exists()


def check_new(folder: Path) -> None:
    """GatehouseError unless a world can be made in `folder`."""
    if folder.exists() and any(folder.iterdir()):
        raise GatehouseError(f"{folder} holds something that is no finished world: remove it, or name another folder")


def _data(version: str, taken: int, files: int) -> dict[str, bytes]:
    """The data files of a release: what makes it FILES files and SIZE bytes, beside `files` of `taken` bytes.

    The same version gives the same bytes. The first _SHARED are those of every version; folders are up to three deep.
    """
    count = FILES - files
    found: dict[str, bytes] = {}
    sizes = [300, 1, 2048, 4096, 4097, 9000][:_SHARED]
    for number in range(count - 1):
        chance = random.Random(hashlib.sha256(f"{number} {version if number >= _SHARED else ''}".encode()).digest())
        size = sizes[number] if number < _SHARED else _LARGE if number == _SHARED else 2000 + 1100 * (number - _SHARED)
        folder = ("", "data/", "data/more/", "data/more/deep/")[number % 4]
        data = chance.randbytes(size)
        if number >= count - 1 - _TEXTS:
            data = b"".join(b"%08x of %s\n" % (chance.getrandbits(8), version.encode()) for _ in range(size))[:size]
        found[f"{folder}file{number:02}.bin"] = data
    rest = SIZE - taken - sum(map(len, found.values()))
    found["rest.bin"] = random.Random(f"rest {version}").randbytes(rest)
    return found
