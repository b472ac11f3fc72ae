"""What the demonstration plays on: a new product, one provisioned device, and the network of one house."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import core, lms_keys, product, reports
from ..errors import GatehouseError
from ..house import House
from ..sim.board import Board, BoardStopped
from .witness import Witness

MARK = ".gatehouse-demo"  # says that a folder is ours to replace
DEVICE = "gh-demo-1"
TRIAL_S = 20
_EXTRA_FILES = 12
_EXTRA_SIZE = 4000  # bytes each
_CUT_AT = 250  # flash operations: some of the extra files are written by then, most are not

_CRASH = '''"""A release that was signed in a hurry."""


def run(boot):
    raise RuntimeError("this release was never tried on a device")
'''


class Stage:
    """Use it in a with block: at its end everything that it started is stopped. `say` tells the audience."""

    def __init__(
        self,
        folder: Path,
        broker: str,
        say: Callable[[str], None],
        command: Callable[[str], None],
        keys: Sequence[str] = (),
    ) -> None:
        """broker: as House has it. keys: further options of `gatehouse init`."""
        self.folder = folder
        self.say = say
        self._command = command
        self._broker = broker
        self._keys = keys
        self._stack = contextlib.ExitStack()
        self.envelopes: dict[str, Path] = {}
        self.newest = folder

    def __enter__(self) -> Stage:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self) -> None:
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / MARK).exists():
                raise GatehouseError(f"{self.folder} holds something else: choose another folder with --dir")
            shutil.rmtree(self.folder)
        product.make_folder(self.folder)
        (self.folder / MARK).write_text("made by `gatehouse demo`, which replaces this folder at its next run\n")
        root = self.folder / "product"
        self.gatehouse("init", str(root), "--name", "demo", "--domain", "gatehouse.example", *self._keys)
        self.product = product.Product(root)
        self.source = self.folder / "firmware"
        shutil.copytree(core.source("firmware"), self.source, ignore=shutil.ignore_patterns("__pycache__"))
        self.release("1.0.0", "what the device leaves the factory with")
        self.house = self._stack.enter_context(House(self.product, broker=self._broker))
        self.gatehouse(
            *("provision", "--id", DEVICE, "--broker", self.house.broker_address, "--base-url", self.house.url),
            *("--ntp", self.house.ntp_address, "--trial-seconds", str(TRIAL_S), "--report-seconds", "5"),
            *("--sensor-seconds", "2", "--watchdog-ms", "12000"),
        )
        folder = root / "devices" / DEVICE
        self.board = self._stack.enter_context(
            Board(folder / "flash.bin", heap=os.environ.get("DEMO_HEAP", "128wK"), log=self.folder / "uart.log")
        )
        verifier = reports.Verifier(reports.known_devices(root / "devices"))
        ca = root / "ca"
        self.witness = Witness(
            DEVICE, verifier, ca / "ca.pem", ca / "host.pem", ca / "host-key.pem", "localhost", self.house.broker.port
        )
        self._stack.callback(self.witness.close)

    def gatehouse(self, *words: str) -> None:
        """Run one `gatehouse` command, as a user would. GatehouseError with its own line when it fails."""
        self._command("gatehouse " + shlex.join(words).replace(f"{self.folder.parent}/", ""))
        where = ["--product", str(self.product.root)] if hasattr(self, "product") else []
        result = subprocess.run(
            [sys.executable, "-m", "gatehouse_tools", *words, *where],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"NO_COLOR": "1", lms_keys.STATE_HOME: str(self.folder / "state")},
        )
        if result.returncode:
            raise GatehouseError(f"`gatehouse {words[0]}` failed: {result.stderr.strip() or result.stdout.strip()}")

    def release(self, version: str, description: str, extra: bool = False, crash: bool = False) -> Path:
        """Build and sign a release of the application; `extra` adds files to fetch, `crash` makes it fail at start."""
        note = {"version": version, "note": description}
        (self.source / "release.json").write_text(json.dumps(note) + "\n")
        application = self.source / "app.py"
        honest = application.read_text()
        if extra:
            noise = random.Random(8259)  # noqa: S311 bytes that do not deflate, the same at each run
            (self.source / "tables").mkdir(exist_ok=True)
            for number in range(_EXTRA_FILES):
                (self.source / "tables" / f"table{number:02}.bin").write_bytes(noise.randbytes(_EXTRA_SIZE))
        if crash:
            application.write_text(_CRASH)
        try:
            self.gatehouse("release", "--version", version, "--source", str(self.source), "--description", description)
        finally:
            application.write_text(honest)
        self.newest = self.product.root / "dist" / f"{self.product.name}-{version}.suit"
        self.envelopes[version] = self.newest
        return self.newest

    def publish(self, envelope: Path, force: bool = False) -> None:
        """Offer a release to the device, or an attack with `force`: the check of the command stands in its way."""
        broker = self.house.broker_address
        self.gatehouse(
            "publish", str(envelope), "--device", DEVICE, "--broker", broker, *(["--force"] if force else [])
        )

    def sent(self) -> int:
        """Bytes of packs that the server has sent so far."""
        return sum(request.body for request in self.house.server.log)

    def publish_and_cut(self, envelope: Path) -> None:
        """Offer a release, and take the power away in the middle of a flash operation while it is written.

        An idle device writes nothing, so the operations counted from now are the update's.
        """
        self.board.auto_power = False
        self.board.cut_at(_CUT_AT)
        self.publish(envelope)
        with contextlib.suppress(BoardStopped):
            self.board.wait(lambda board: not board.running, 20)
        if self.board.running:
            raise GatehouseError("the device did not begin the update, so its power was not cut", "timeout")
