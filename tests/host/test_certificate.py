"""`gatehouse certificate`: the broker's and the host tools' certificate, issued anew by the same authority."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import ssl
import stat

import pytest
import shop

from gatehouse_tools import ca, cli, product


@pytest.fixture
def item(tmp_path: pathlib.Path) -> product.Product:
    return shop.make(tmp_path / "the shop", domain="gatehouse.example")


def certificate(item: product.Product, *arguments: str) -> shop.Result:
    return shop.run("certificate", *arguments, "--json", "--product", item.root)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> None:
    """A handshake without a network. Raises what the client does not like."""
    at_server, at_client = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    ends = [client.wrap_bio(*at_client, server_hostname=host), server.wrap_bio(*at_server, server_side=True)]
    for _ in range(6):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
        at_server[0].write(at_client[1].read())
        at_client[0].write(at_server[1].read())
    assert ends[0].version()


def pair(folder: pathlib.Path, name: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / f"{name}.pem", folder / f"{name}-key.pem")
    return made


def test_the_broker_gets_a_new_pair_for_its_names_and_one_more(item: product.Product) -> None:
    client = ssl.create_default_context(cafile=str(item.ca / "ca.pem"))
    before = {name: (item.ca / name).read_bytes() for name in ("broker.pem", "broker-key.pem", "host.pem", "ca.pem")}
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(pair(item.ca, "broker"), client, "broker.example.com")
    done = certificate(item, "broker", "--broker-host", "broker.example.com")
    assert done.code == 0, done.err
    assert done.json["names"] == [*ca.BROKER_NAMES, "broker.example.com"]
    for host in ("broker.example.com", "localhost", "127.0.0.1"):
        shake_hands(pair(item.ca, "broker"), client, host)
    for name in ("broker.pem", "broker-key.pem"):
        assert (item.ca / name).read_bytes() != before[name]
    for name in ("host.pem", "ca.pem"):
        assert (item.ca / name).read_bytes() == before[name]
    assert [pathlib.Path(name).read_bytes() for name in done.json["before"]] == [
        before["broker.pem"],
        before["broker-key.pem"],
    ]
    for path in item.ca.glob("broker*-key.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = certificate(item, "broker")
    assert again.json["names"] == done.json["names"] and len(list(item.ca.glob("broker-before-*"))) == 4


def test_the_host_tools_get_one_for_the_same_user(item: product.Product) -> None:
    before = ca.load_certificate(item.ca / "host.pem")
    assert certificate(item, "host").code == 0
    after = ca.load_certificate(item.ca / "host.pem")
    assert after.subject == before.subject and after.serial_number != before.serial_number
    after.verify_directly_issued_by(ca.load_certificate(item.ca / "ca.pem"))
    pair(item.ca, "host")


def test_a_pair_that_is_lost_is_made_again(item: product.Product) -> None:
    for name in ("broker.pem", "broker-key.pem"):
        (item.ca / name).unlink()
    done = certificate(item, "broker")
    assert done.code == 0 and done.json["before"] == [] and done.json["names"] == list(ca.BROKER_NAMES)
    pair(item.ca, "broker")


@pytest.mark.parametrize("left", ["broker-new.pem", "broker-new-key.pem"])
def test_what_a_crash_left_is_no_obstacle(item: product.Product, left: str) -> None:
    (item.ca / left).write_bytes(b"half")
    assert certificate(item, "broker").code == 0
    assert not list(item.ca.glob("broker-new*"))
    pair(item.ca, "broker")


def test_a_crash_between_key_and_certificate_keeps_the_pair_before(
    item: product.Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (item.ca / name).read_bytes() for name in ("broker.pem", "broker-key.pem")}
    real = pathlib.Path.replace

    def replace(path: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        if target.name == "broker.pem":
            raise OSError(5, "the power went")
        return real(path, target)

    with monkeypatch.context() as crash:
        crash.setattr(pathlib.Path, "replace", replace)
        certificate(item, "broker").refused(1, "the power went")
    done = certificate(item, "broker")
    assert done.code == 0, done.err
    assert [pathlib.Path(name).read_bytes() for name in done.json["before"]] == list(before.values())
    pair(item.ca, "broker")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("broker", "--broker-host", "not a name"), 1, "is no host name"),
        (("broker", "--broker-host", "127.1"), 1, "is no host name"),
        (("broker", "--broker-host", "-x.example"), 1, "is no host name"),
        (("host", "--broker-host", "broker.example"), 2, "--broker-host is for the broker's certificate"),
        (("ca",), 2, "ca"),
    ],
)
def test_bad_input_changes_nothing(item: product.Product, arguments: tuple[str, ...], code: int, told: str) -> None:
    before = {path: path.read_bytes() for path in item.ca.iterdir()}
    shop.run("certificate", *arguments, "--product", item.root).refused(code, told)
    assert {path: path.read_bytes() for path in item.ca.iterdir()} == before


def test_without_the_authoritys_key_nothing_changes(item: product.Product, tmp_path: pathlib.Path) -> None:
    shutil.move(item.ca / "ca-key.pem", tmp_path / "away.pem")
    before = {path: path.read_bytes() for path in item.ca.iterdir()}
    shop.run("certificate", "broker", "--product", item.root).refused(1, "ca-key.pem")
    assert {path: path.read_bytes() for path in item.ca.iterdir()} == before


@pytest.mark.parametrize("host", ["broker.example.com", "*.example.com", "hall_3.local", "10.0.0.7", "fe80::1"])
def test_names_and_addresses_that_a_broker_may_have(item: product.Product, host: str) -> None:
    assert host in certificate(item, "broker", "--broker-host", host).json["names"]


def test_init_makes_nothing_for_a_bad_name(tmp_path: pathlib.Path) -> None:
    call = ("init", tmp_path / "new", "--broker-host", "no/name")
    shop.run(*call).refused(1, "is no host name")
    assert not (tmp_path / "new").exists() and "certificate" in cli.COMMANDS
