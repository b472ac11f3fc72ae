"""The network of one house, by itself on this machine's loopback: a broker, a server of packs, a time server."""

from __future__ import annotations

import contextlib
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from . import ntp, product, serve
from .broker import Broker
from .errors import GatehouseError

LOCAL = "localhost"


def address_of(host: str) -> str:
    """The IPv4 address of a name, or the address itself. GatehouseError("network") where there is none."""
    if host == LOCAL:
        return "127.0.0.1"
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0])
    except (OSError, UnicodeError):
        raise GatehouseError(f"{host} is no IPv4 address, and no name of one", "network") from None


class House:
    """Use it in a with block: at its end all that it started is stopped.

    The broker has the product's certificates, the packs are those of dist/. Port 0 takes a free one. Inside the block
    there are `broker`, `server`, `time` and their addresses, as `gatehouse provision` takes them.
    """

    def __init__(
        self,
        item: product.Product,
        broker: str = "auto",
        *,
        host: str = LOCAL,
        broker_port: int = 0,
        server_port: int = 0,
        time_port: int = 0,
        workdir: Path | None = None,
        on_request: Callable[[serve.Request], None] | None = None,
    ) -> None:
        """broker: "auto", "mosquitto" or "amqtt". workdir: for the broker's configuration and log.

        host: the name or IPv4 address of this machine under which devices reach it, and the only one that is served.
        """
        self._item = item
        self.host = host
        self._kind = broker
        self._ports = (broker_port, server_port, time_port)
        self._workdir = workdir
        self._on_request = on_request
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> House:
        with contextlib.ExitStack() as stack:
            folder = self._workdir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatehouse-")))
            ca = self._item.ca
            credentials = (ca / "ca.pem", ca / "broker.pem", ca / "broker-key.pem")
            broker_port, server_port, time_port = self._ports
            bound = address_of(self.host)
            self.broker = stack.enter_context(
                Broker(folder, *credentials, kind=self._kind, host=bound, port=broker_port)
            )
            product.make_folder(self._item.dist)
            self.server = stack.enter_context(serve.StaticServer(self._item.dist, bound, server_port, self._on_request))
            self.time = stack.enter_context(ntp.Server(bound, time_port))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def broker_address(self) -> str:
        """HOST:PORT of the broker."""
        return f"{self.host}:{self.broker.port}"

    @property
    def url(self) -> str:
        """Where the packs are, with a slash at its end."""
        return self.server.url

    @property
    def ntp_address(self) -> str:
        """HOST:PORT of the time server."""
        return f"{self.host}:{self.time.port}"


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that what it started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        raise GatehouseError("signals can be taken in the main thread only")

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
