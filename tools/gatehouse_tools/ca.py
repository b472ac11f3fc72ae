"""The product's certificate authority: who is who on the broker (TLS, P-256 throughout).

The common name of a certificate is the user on the broker: the id of a device, or the host tools' own name.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import keys, product, topics
from .errors import GatehouseError

CA_YEARS = 20  # longer than a device serves; a new authority reaches devices by a signed trust update
SERVER_DAYS = 825  # the most that common TLS clients accept of a server
HOST_DAYS = 825
_BACKDATE = datetime.timedelta(days=1)  # a device's clock may lag behind ours
# RFC 1123, section 2.1, with the wildcard of RFC 9525; the last label of no name is a number, that of a bad address is.
_HOST = re.compile(
    r"(?=.{1,253}\Z)(?:\*\.)?(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)

BROKER_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Issued:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def key_der(self) -> bytes:
        """The private key as MicroPython's TLS takes it: DER, PKCS#8."""
        return self.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def cert_der(self) -> bytes:
        """The certificate as DER."""
        return der(self.certificate)


class Authority:
    """The certificate authority of a product: its certificate, and its key where that is on this machine."""

    def __init__(self, folder: Path) -> None:
        """Load it from the product's ca/. GatehouseError("key") when certificate or key is missing or not one."""
        path = folder / "ca.pem"
        data = product.read(path, "the product's certificate authority; `gatehouse init` makes one")
        try:
            self.certificate = x509.load_pem_x509_certificate(data)
        except ValueError:
            raise GatehouseError(f"{path} is not a certificate in PEM", "key") from None
        self._key = keys.load(folder / "ca-key.pem").private

    def issue(
        self,
        name: str,
        names: Sequence[str] = (),
        days: float | None = None,
        server: bool = False,
        client: bool | None = None,
    ) -> Issued:
        """A new key and its certificate for `name`; `names` are host names and addresses of a server.

        client: whether it may log in somewhere, by default where it is no server. Without `days` it is valid as long as
        the authority: a device in a wall is not visited to renew it.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = _now()
        end = self.certificate.not_valid_after_utc
        if days is not None:
            end = min(end, now + datetime.timedelta(days=days))
        usage = [ExtendedKeyUsageOID.SERVER_AUTH] if server else []
        usage += [ExtendedKeyUsageOID.CLIENT_AUTH] if client or (client is None and not server) else []
        issuer = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            _builder(name, self.certificate.subject, key, now, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_general(one) for one in names])
            builder = builder.add_extension(alternatives, critical=False)
        return Issued(builder.sign(self._key, hashes.SHA256()), key)


def create(folder: Path, name: str, broker_names: Sequence[str] = ()) -> list[Path]:
    """A new authority called `name` in `folder`, with the certificates of the broker and of the host tools.

    The broker's is for this machine, and for `broker_names`: more host names and addresses.
    Returns the files written. Nothing is overwritten.
    """
    product.make_folder(folder, secret=True)
    key = ec.generate_private_key(ec.SECP256R1())
    now = _now()
    end = now.replace(year=now.year + CA_YEARS, day=min(now.day, 28))
    title = f"{name} CA"
    certificate = (
        _builder(title, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)]), key, now, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = _save(folder, "ca", Issued(certificate, key))
    authority = Authority(folder)
    made += _save(folder, "broker", _own(authority, "broker", (*BROKER_NAMES, *broker_names)))
    made += _save(folder, "host", _own(authority, "host"))
    return made


def _own(authority: Authority, name: str, names: Sequence[str] = ()) -> Issued:
    """A new pair for the broker, with its host names, or for the host tools."""
    if name == "broker":
        return authority.issue("broker", names, SERVER_DAYS, server=True)
    return authority.issue(topics.HOST, days=HOST_DAYS)


@dataclass(frozen=True)
class Renewed:
    """A certificate that was issued anew: its file, its host names, and the files that hold the pair before."""

    path: Path
    certificate: x509.Certificate
    names: list[str]
    before: list[Path]


def renew(folder: Path, name: str, more: Sequence[str] = ()) -> Renewed:
    """Issue `name`.pem of `folder`, "broker" or "host", anew with a new key: for the names it has and for `more`.

    The pair before is kept under its serial number. A crash loses nothing: the same call again makes another one.
    GatehouseError("key" | "name") where the authority's key is not here, or a name is none.
    """
    authority = Authority(folder)
    path, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    names, before = list(BROKER_NAMES) if name == "broker" else [], []
    if path.exists():
        old = load_certificate(path)
        names = host_names(old) or names
        kept = f"{name}-before-{old.serial_number:x}"
        before = [folder / f"{kept}.pem", folder / f"{kept}-key.pem"]
    names = list(dict.fromkeys((*names, *more)))
    issued = _own(authority, name, names)
    fresh = folder / f"{name}-new.pem", folder / f"{name}-new-key.pem"
    try:
        for one in fresh:
            one.unlink(missing_ok=True)  # of a call that ended in the middle
        _save(folder, f"{name}-new", issued)
        for one, place in zip((path, key), before, strict=False):
            if one.exists() and not place.exists():
                place.hardlink_to(one)
        fresh[1].replace(key)
        fresh[0].replace(path)
    except OSError as error:
        raise GatehouseError(f"{folder}: {error.strerror}; choose a folder that can be written") from None
    return Renewed(path, issued.certificate, names, [one for one in before if one.exists()])


def check_host(name: str) -> str:
    """A host name or address as it is. GatehouseError("name") where it is neither."""
    _general(name)
    return name


def host_names(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses that a server's certificate is for."""
    try:
        told = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(one.value) for one in told]


def client_files(authority: Path, folder: Path, name: str, days: float) -> list[Path]:
    """A new certificate and key by which `name` logs in at the broker, as files in `folder`: (certificate, key).

    authority: the product's ca/. Nothing is overwritten.
    """
    issued = Authority(authority).issue(name, days=days)
    product.make_folder(folder, secret=True)
    return _save(folder, name, issued)


def server_context(folder: Path, names: Sequence[str] = ()) -> ssl.SSLContext:
    """TLS of a pack server: server.pem of the product's ca/, made when it is first asked for.

    It is for this machine and for `names`. GatehouseError where one that is there is not, or has expired, or where the
    authority's key is needed and not here.
    """
    path, key = folder / "server.pem", folder / "server-key.pem"
    wanted = list(dict.fromkeys((*BROKER_NAMES, *names)))
    if not path.exists():
        _save(folder, "server", Authority(folder).issue("server", wanted, SERVER_DAYS, server=True))
    certificate = load_certificate(path)
    told = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    missing = [name for name in wanted if _general(name) not in told]
    if missing or certificate.not_valid_after_utc < _now():
        why = f"is not for {missing[0]}" if missing else "has expired"
        raise GatehouseError(f"{path} {why}: remove it and {key.name}, and the next call makes new ones", "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(path, key)
    except (OSError, ssl.SSLError):
        raise GatehouseError(f"{key} is missing or damaged: remove both, the next call makes new ones", "key") from None
    return context


def load_certificate(path: Path) -> x509.Certificate:
    """A certificate in PEM."""
    try:
        return x509.load_pem_x509_certificate(product.read(path))
    except ValueError:
        raise GatehouseError(f"{path} is not a certificate in PEM", "key") from None


def der(certificate: x509.Certificate) -> bytes:
    """A certificate as devices keep it."""
    return certificate.public_bytes(serialization.Encoding.DER)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, end: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names})


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not _HOST.fullmatch(name):
        raise GatehouseError(f"{name!r} is no host name: letters, digits, hyphens, dots, or an address", "name")
    return x509.DNSName(name)


def _save(folder: Path, name: str, issued: Issued) -> list[Path]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    keys.save(keys.Signer(issued.key), key)
    product.write_new(certificate, issued.certificate.public_bytes(serialization.Encoding.PEM))
    return [certificate, key]
