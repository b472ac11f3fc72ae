"""A certificate authority for tests, made as `gatehouse init` makes a product's."""

import ssl
from pathlib import Path

from gatehouse_tools import ca


class Authority:
    """Its files are in `folder`; issue("gh-1") gives the paths of a client's certificate and key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ca"
        ca.create(self.folder, "test")
        self._authority = ca.Authority(self.folder)
        self.ca = self.folder / "ca.pem"
        self.der = ca.der(self._authority.certificate)
        self.broker = self.folder / "broker.pem", self.folder / "broker-key.pem"

    def issue(self, name: str) -> tuple[Path, Path]:
        """Paths of the certificate and key of `name`, made when they are first asked for."""
        stem = "client-" + name.encode().hex()
        if not (self.folder / f"{stem}.pem").exists():
            ca._save(self.folder, stem, self._authority.issue(name))
        return self.folder / f"{stem}.pem", self.folder / f"{stem}-key.pem"

    def context(self, *names: str, days: float = 30) -> ssl.SSLContext:
        """A server's TLS, with a certificate for these host names and addresses; expired where `days` is negative."""
        stem = "server-" + f"{names}{days}".encode().hex()
        if not (self.folder / f"{stem}.pem").exists():
            ca._save(self.folder, stem, self._authority.issue("server", names, days, server=True))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{stem}.pem", self.folder / f"{stem}-key.pem")
        return context
