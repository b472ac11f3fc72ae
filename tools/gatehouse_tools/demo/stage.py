"""What the demonstration plays on: a new product, its provisioned devices, and the network of one house."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import core, lms_keys, product, reports
from ..errors import GatehouseError
from ..house import LOCAL, House
from .bench import Bench, Simulated
from .wired import Wired, Wiring, warn_of
from .witness import Witness

MARK = ".gatehouse-demo"  # says that a folder is ours to replace
DEVICE = "gh-demo-1"  # the first of them
MOST = 5  # devices: their cards fit on one screen, and their processes on two cores
TRIAL_S = 20
_WIRED_TRIAL_S = 60  # of a real board, which joins a real Wi-Fi in that time
# HTTPS as well: the attack that guesses passwords needs a door (docs/http.md has the heap for it).
_DOORS = 'interfaces=["uart", "https", "mqtt-commands", "reset-button"]'
_EXTRA_FILES = 12
_EXTRA_SIZE = 4000  # bytes each

_CRASH = '''"""A release that was signed in a hurry."""


def run(boot):
    raise RuntimeError("this release was never tried on a device")
'''


class Device:
    """One provisioned device: its board, and its reports as a verifier sees them."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.id = name
        self.folder = stage.product.devices / name
        log = stage.folder / f"{name}.log"
        self.board: Bench = Wired(stage.wiring, log) if stage.wiring else Simulated(self.folder / "flash.bin", log)
        try:
            verifier = reports.Verifier(reports.known_devices(stage.product.devices))
            self.witness = Witness(name, verifier, *stage.credentials, stage.house.host, stage.house.broker.port)
        except BaseException:
            self.board.close()
            raise

    @property
    def claims(self) -> dict[str, Any]:
        """What its newest verified report states."""
        if not self.witness.history:
            raise GatehouseError(f"{self.id} has not sent one report that could be verified", "state")
        return self.witness.history[-1].claims

    def close(self) -> None:
        """Leave it: a simulated board without power, a real one running."""
        self.witness.close()
        self.board.close()


class Stage:
    """Use it in a with block: at its end everything that it started is stopped. `say` tells the audience."""

    def __init__(
        self,
        folder: Path,
        broker: str,
        say: Callable[[str], None],
        command: Callable[[str], None],
        keys: Sequence[str] = (),
        count: int = 1,
        wiring: Wiring | None = None,
    ) -> None:
        """broker: as House has it. keys: further options of `gatehouse init`. count: devices, 1 to MOST.

        wiring: the board at a port on which it is played; none: simulated ones.
        """
        self.wiring = wiring
        self.folder = folder
        self.say = say
        self._command = command
        self._broker = broker
        self._keys = keys
        self._count = count
        self._stack = contextlib.ExitStack()
        self.envelopes: dict[str, Path] = {}  # by version, those of the vendor
        self.by_digest: dict[str, Path] = {}  # by the manifest's digest, which reports name, roll backs too
        self.good: set[str] = {"1.0.0"}  # versions that a device has confirmed
        self.devices: list[Device] = []

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
        self.gatehouse(
            "init", str(root), "--name", "demo", "--domain", "gatehouse.example", *self._keys, *self._board()
        )
        self.product = product.Product(root)
        self.source = self.folder / "firmware"
        shutil.copytree(core.source("firmware"), self.source, ignore=shutil.ignore_patterns("__pycache__"))
        self.release("1.0.0", "what the device leaves the factory with")
        self.house = self._stack.enter_context(House(self.product, broker=self._broker, host=self.host))
        for number in range(1, self._count + 1):
            name = f"gh-demo-{number}"
            with self._joining() as joining:
                self.gatehouse(
                    *("provision", "--id", name, "--broker", self.house.broker_address, "--base-url", self.house.url),
                    *("--ntp", self.house.ntp_address, "--report-seconds", "5", "--sensor-seconds", "2"),
                    *("--set", _DOORS, *self._times(), *joining),
                )
            self.devices.append(Device(self, name))
            self._stack.callback(self.devices[-1].close)

    def begin(self) -> None:
        """Write the board at the port, which starts it. Whoever wants to see its first words listens by now."""
        if self.wiring:
            self._flash(self.wiring, self.devices[0])

    @property
    def host(self) -> str:
        """Under which name or address devices reach this machine."""
        return self.wiring.host if self.wiring else LOCAL

    def _board(self) -> list[str]:
        """For `gatehouse init`: the board, and what the broker's certificate is for."""
        return ["--board", self.wiring.board.name, "--broker-host", self.wiring.host] if self.wiring else []

    def _times(self) -> list[str]:
        if self.wiring:
            return ["--trial-seconds", str(_WIRED_TRIAL_S)]
        return ["--trial-seconds", str(TRIAL_S), "--watchdog-ms", "12000"]

    @contextlib.contextmanager
    def _joining(self) -> Iterator[list[str]]:
        """Options for the Wi-Fi: a file that is there in the block."""
        if not self.wiring:
            yield []
            return
        path, wifi = self.folder / "wifi.toml", self.wiring.wifi
        values = {"ssid": wifi.ssid, "password": wifi.password}
        if wifi.broker_user is not None:
            values |= {"broker_user": wifi.broker_user, "broker_password": wifi.broker_password or ""}
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items()]
        product.write_new(path, "".join(lines).encode(), secret=True)
        try:
            yield ["--wifi", str(path)]
        finally:
            path.unlink()

    def _flash(self, wiring: Wiring, device: Device) -> None:
        """Make the board at the port the device, as a user would."""
        warn_of(wiring)
        replace = ["--replace"] if wiring.replace else []
        told = self.gatehouse(
            *("flash", "--device", device.id, "--port", wiring.port, "--firmware", str(wiring.firmware), *replace)
        )
        written = sum(one["size"] for one in told["written"])
        self.say(f"{told['mac']} at {wiring.port}: {written:,} bytes written, all of the flash read back, started")
        device.board.start()

    @property
    def credentials(self) -> tuple[Path, Path, Path]:
        """Authority, certificate and key with which the host tools go to the broker."""
        ca = self.product.ca
        return ca / "ca.pem", ca / "host.pem", ca / "host-key.pem"

    def gatehouse(self, *words: str) -> dict[str, Any]:
        """Run one `gatehouse` command, as a user would: its JSON. GatehouseError with its own line when it fails."""
        self._command("gatehouse " + shlex.join(words).replace(f"{self.folder.parent}/", ""))
        where = ["--product", str(self.product.root)] if hasattr(self, "product") else []
        code, out, err = self._run([*words, *where, "--json"], {"NO_COLOR": "1", lms_keys.STATE_HOME: str(self.state)})
        if code:
            raise GatehouseError(f"`gatehouse {words[0]}` failed: {err.strip() or out.strip()}")
        told: dict[str, Any] = json.loads(out or "{}")
        return told

    def _run(self, words: Sequence[str], env: dict[str, str]) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `gatehouse` with these words and `env` beside the environment."""
        result = subprocess.run(
            [sys.executable, "-m", "gatehouse_tools", *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | env,
        )
        return result.returncode, result.stdout, result.stderr

    @property
    def newest(self) -> Path:
        """What was released last."""
        return list(self.envelopes.values())[-1]

    @property
    def state(self) -> Path:
        """Where this product's counters are: not in the user's own state folder."""
        return self.folder / "state"

    def next_version(self) -> str:
        """One that has not been released yet."""
        return f"1.{max(int(version.split('.')[1]) for version in self.envelopes) + 1}.0"

    def release(
        self, version: str, description: str, extra: bool = False, crash: bool = False, expires_s: int = 0
    ) -> Path:
        """Build and sign a release of the application; `extra` adds files to fetch, `crash` makes it fail at start.

        expires_s: seconds after which no device installs it; 0 for never.
        """
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
            source, told = str(self.source), ["--description", description]
            if expires_s:  # in days, and cut to whole seconds there
                told += ["--expires", str((expires_s + 0.5) / 86400)]
            made = self.gatehouse("release", "--version", version, "--source", source, *told)
        finally:
            application.write_text(honest)
        self.envelopes[version] = self.by_digest[made["digest"]] = Path(made["envelope"])
        return self.envelopes[version]

    def roll_back(self, version: str) -> Path:
        """Sign an older release again, as the newest."""
        made = self.gatehouse("release", "--rollback-to", version)
        self.by_digest[made["digest"]] = Path(made["envelope"])
        return self.by_digest[made["digest"]]

    def publish(self, device: Device, envelope: Path, force: bool = False) -> None:
        """Offer a release to a device, or an attack with `force`: the check of the command stands in its way."""
        broker = self.house.broker_address
        options = ("--broker", broker, *(["--force"] if force else []))
        self.gatehouse("publish", str(envelope), "--device", device.id, *options)

    def sent(self, since: float = 0.0) -> int:
        """Bytes of packs that the server has sent in answers that began at that Unix time or later."""
        return sum(request.body for request in self.house.server.log if request.began >= since)
