"""The MQTT broker of the house: Mosquitto where it is installed, else amqtt from PyPI, both with the same rules.

TLS only, a client certificate from everyone, its common name is the user. A device has just the topics that
lib/gatehouse/topics.py gives it; the host's own certificate has everything below gatehouse/ and homeassistant/, Home
Assistant's what it needs of both, a verifier's reads reports and sends nonces.

Mosquitto has one limit here: a client that takes another's client id ends that one's connection, though it gets none of
its topics. Only who holds a certificate of the product can do that; amqtt_broker keeps the ids of each name apart.
"""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from . import product, topics
from .errors import GatehouseError, UsageError

START_S = 20.0  # amqtt imports for a second or two on a slow machine
STOP_S = 5.0
POLL_S = 0.02
QUEUED = 50000  # messages kept for a collector that is away: 50 MB of reports, where Mosquitto keeps 1,000 by itself
PORT_TRIES = 3  # somebody else may take a free port between our look and the broker's bind
KINDS = ("auto", "mosquitto", "amqtt")
_BUSY = re.compile(r"address already in use|errno 98", re.IGNORECASE)
# Where distributions put the access list plugin that Mosquitto 2.1 has instead of its option acl_file.
_PLUGIN = (
    "/usr/lib/*/mosquitto_acl_file.so",
    "/usr/lib*/mosquitto_acl_file.so",
    "/usr/local/lib*/mosquitto_acl_file.so",
)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def mosquitto() -> str | None:
    """The Mosquitto program: on PATH or in sbin, which users often do not have there."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin")


def mosquitto_version(program: str) -> tuple[int, ...]:
    """For example (2, 0, 11)."""
    result = subprocess.run([program, "-h"], capture_output=True, text=True, timeout=10, check=False)
    match = re.search(r"mosquitto version (\d+)\.(\d+)\.(\d+)", result.stdout + result.stderr)
    if not match:
        raise GatehouseError(f"{program} does not tell its version; reinstall it or use the built-in broker (amqtt)")
    return tuple(int(part) for part in match.groups())


def acl_text() -> str:
    """The access list in Mosquitto's form; %u is the common name of the client's certificate."""
    host = "".join(f"topic readwrite {root}/#\n" for root in ("gatehouse", topics.DISCOVERY))
    home = "".join(f"topic {access} {filter_}\n" for access, filter_ in topics.home_assistant_rules())
    home += f"topic read {topics.DISCOVERY}/#\n"
    seen = "".join(f"topic {access} {filter_}\n" for access, filter_ in topics.verifier_rules())
    users = f"user {topics.HOST}\n{host}\nuser {topics.HOME_ASSISTANT}\n{home}\nuser {topics.VERIFIER}\n{seen}\n"
    return users + "".join(f"pattern {access} {filter_}\n" for access, filter_ in topics.device_rules("%u"))


def write_acl(path: Path) -> None:
    """Write the access list, readable by its owner only: Mosquitto 2.0.19 and later warn about any other."""
    product.write(path, acl_text().encode())
    path.chmod(0o600)


def mosquitto_config(
    listeners: Sequence[tuple[int, str]],
    host: str | None,
    ca: Path,
    cert: Path,
    key: Path,
    acl: Path,
    plugin: Path | None = None,
    data: Path | None = None,
    user: str | None = None,
) -> list[str]:
    """The lines of a configuration for Mosquitto 2.0 and 2.1: TLS, who is who by certificate, the access list.

    listeners: (port, "mqtt" or "websockets"); plugin: what applies the list in place of the option acl_file, from 2.1
    on; data: the folder of what is retained, which is only in memory without it; user: whom root becomes.
    """
    lines = ["allow_anonymous false", *([f"user {user}"] if user else []), f"max_queued_messages {QUEUED}"]
    lines += ["persistence true", f"persistence_location {data.resolve()}/"] if data else ["persistence false"]
    if plugin:
        lines += [f"global_plugin {plugin}", f"plugin_opt_acl_file {acl}"]
    else:
        lines.append(f"acl_file {acl}")  # deprecated since 2.1, there until 3.0
    for port, protocol in listeners:
        lines += [
            f"listener {port} {host}" if host else f"listener {port}",
            f"protocol {protocol}",
            f"cafile {ca}",
            f"certfile {cert}",
            f"keyfile {key}",
            "require_certificate true",
            "use_identity_as_username true",
        ]
    return lines


def _busy(port: int) -> GatehouseError:
    return GatehouseError(f"port {port} is in use: stop what runs there or choose another port", "busy")


class Broker:
    """One broker as a child process, in a `with` block or between start() and stop().

    `ca`, `cert`, `key` are PEM files; `workdir` gets the configuration and the log. Port 0 takes a free one.
    `websockets` is None for none, 0 for a free port, else its port. After start(): `kind`, `port`, `websockets`.
    """

    def __init__(
        self,
        workdir: Path,
        ca: Path,
        cert: Path,
        key: Path,
        *,
        kind: str = "auto",
        host: str = "127.0.0.1",
        port: int = 0,
        websockets: int | None = None,
    ) -> None:
        if kind not in KINDS:
            raise UsageError(f"no broker kind '{kind}': one of {', '.join(KINDS)}")
        for path, what in ((ca, "certificate authority"), (cert, "broker certificate"), (key, "broker key")):
            if not path.is_file():
                raise GatehouseError(f"{what} {path} is missing: make it with 'gatehouse init'")
        self.kind = ("mosquitto" if mosquitto() else "amqtt") if kind == "auto" else kind
        if self.kind == "mosquitto" and not mosquitto():
            raise GatehouseError("Mosquitto is not installed: install it, or take the built-in broker (amqtt)")
        self.workdir, self.ca, self.cert, self.key, self.host = (
            workdir,
            ca.resolve(),
            cert.resolve(),
            key.resolve(),
            host,
        )
        self.port = port
        self.websockets = websockets
        self._wanted = (port, websockets)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.workdir / "broker.log"

    def start(self) -> "Broker":
        """Start the broker and wait until it accepts connections. GatehouseError says why it does not."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        for port in self._wanted:
            if port and self._listens(port):
                raise _busy(port)
        for tries_left in reversed(range(PORT_TRIES)):
            port, websockets = self._wanted
            self.port = port or free_port(self.host)
            self.websockets = free_port(self.host) if websockets == 0 else websockets
            command = self._mosquitto() if self.kind == "mosquitto" else self._amqtt()
            with self.log.open("wb") as log:
                # A session of its own: Ctrl-C reaches only us, and we end the broker after its clients.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            try:
                self._wait()
                return self
            except GatehouseError as error:
                self.stop()
                if error.reason != "busy" or port or not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    def stop(self) -> None:
        """End the broker; nothing happens if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()

    def __enter__(self) -> "Broker":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait(self) -> None:
        process = self._process
        if process is None:
            raise GatehouseError("the broker was not started")
        end = time.monotonic() + START_S
        for port in [self.port, *([self.websockets] if self.websockets else [])]:
            while not self._accepts(port):
                if process.poll() is not None:
                    raise self._failure()
                if time.monotonic() > end:
                    raise GatehouseError(f"the broker does not answer on port {port}; its log is {self.log}")
                time.sleep(POLL_S)

    def _listens(self, port: int) -> bool:
        try:
            socket.create_connection((self.host, port), 1.0).close()
        except OSError:
            return False
        return True

    def _accepts(self, port: int) -> bool:
        """Whether a TLS server with our certificate answers."""
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = False
        try:
            with socket.create_connection((self.host, port), 1.0) as raw, context.wrap_socket(raw) as tls:
                return tls.version() is not None
        except OSError:
            return False

    def _failure(self) -> GatehouseError:
        text = self.log.read_text(errors="replace").strip()
        if _BUSY.search(text):
            return _busy(self.port)
        last = text.splitlines()[-1] if text else "it said nothing"
        return GatehouseError(f"the broker ({self.kind}) did not start: {last}")

    def _mosquitto(self) -> list[str]:
        program = mosquitto()
        if program is None:
            raise GatehouseError("Mosquitto is not installed any more")
        acl = self.workdir / "acl.txt"
        write_acl(acl)
        config = self.workdir / "mosquitto.conf"
        config.write_text(self._mosquitto_config(mosquitto_version(program), acl))
        # With setpriv (util-linux) it ends when we are killed outright, too; amqtt_broker sees its standard input end.
        leash = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        return [*leash, program, "-c", str(config)]

    def _mosquitto_config(self, version: tuple[int, ...], acl: Path) -> str:
        found = next((path for pattern in _PLUGIN for path in sorted(Path("/").glob(pattern[1:]))), None)
        listeners = [(self.port, "mqtt"), *([(self.websockets, "websockets")] if self.websockets else [])]
        user = "root" if os.geteuid() == 0 else None  # else it gives up root and cannot read a key that is 0600
        plugin = found if version >= (2, 1) else None
        lines = mosquitto_config(listeners, self.host, self.ca, self.cert, self.key, acl, plugin, None, user)
        return "\n".join(["log_dest stdout", "log_type error", "log_type warning", *lines, ""])

    def _amqtt(self) -> list[str]:
        config = self.workdir / "amqtt.json"
        settings = {
            "host": self.host,
            "port": self.port,
            "websockets": self.websockets,
            "ca": str(self.ca),
            "cert": str(self.cert),
            "key": str(self.key),
        }
        config.write_text(json.dumps(settings))
        return [sys.executable, "-m", "gatehouse_tools.amqtt_broker", str(config)]
