"""A product's folder: what init makes, what is never touched, how a product is found; the certificate authority."""

import datetime
import ipaddress
import json
import os
import ssl
import stat
import subprocess

import pytest
import shop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatehouse_tools import ca, product, suit, topics
from gatehouse_tools.errors import GatehouseError, UsageError


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    return shop.make(tmp_path_factory.mktemp("product") / "shop")


# The folder.


def test_private_keys_are_readable_by_their_owner_only(item):
    private = [path for path in item.root.rglob("*.pem") if b"PRIVATE" in path.read_bytes()]
    assert len(private) == 6
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(item.keys.stat().st_mode) == 0o700


# What commands put into the product's folder where nobody names another place, and what docs/ calls its files.
HERE = (
    *("gh-1-owner-anna.json", "gh-1-operator-anna.json", "gh-1-viewer-anna.json", "gh-1-service-anna.json"),
    *("home-assistant/home-assistant-key.pem", "kit/ca/host-key.pem", "kit/ca/session-key"),
    *("kit/devices/gh-1/secrets.json", "out.bin", "wifi.toml", "reports.db", "reports.db-wal"),
)


def test_git_takes_the_settings_and_no_secret(tmp_path):
    item = shop.make(tmp_path / "shop")
    (item.devices / "gh-1").mkdir()
    for name in ("flash.bin", "secrets.json", "device.json"):
        (item.devices / "gh-1" / name).write_bytes(b"PRIVATE" if name != "device.json" else b"{}")
    for name in HERE:
        (item.root / name).parent.mkdir(parents=True, exist_ok=True)
        (item.root / name).write_bytes(b"PRIVATE")
    environment = {"PATH": os.environ["PATH"], "GIT_DIR": str(tmp_path / "git"), "HOME": str(tmp_path)}
    git = ["git", "--work-tree", str(item.root)]
    subprocess.run([*git, "init", "-q"], env=environment, check=True)
    subprocess.run([*git, "add", "-A"], env=environment, check=True, cwd=item.root)
    done = subprocess.run([*git, "ls-files"], env=environment, check=True, capture_output=True, text=True)
    taken = set(done.stdout.split())
    assert {"product.toml", ".gitignore", "ca/ca.pem", "ca/host.pem", "devices/gh-1/device.json"} <= taken
    assert {path.relative_to(item.root).as_posix() for path in (item.root / "application").rglob("*.*")} <= taken
    assert [path for path in taken if b"PRIVATE" in (item.root / path).read_bytes()] == []


def test_nothing_is_made_over_something(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "shop", tmp_path / "file"):
        with pytest.raises(GatehouseError, match="never made over"):
            product.create(folder, "shop", "example.com", ["unix"])
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    assert product.create(tmp_path / "empty", "shop", "example.com", ["unix"])


def test_what_is_wrong_with_the_call_leaves_no_folder(tmp_path):
    good = ("shop", "example.com", ["unix"])
    for bad in (("Shop", *good[1:]), ("shop", "example", ["unix"]), ("shop", "example.com", ["esp"])):
        with pytest.raises(UsageError):
            product.create(tmp_path / "shop", *bad)
        assert not (tmp_path / "shop").exists()


def test_files_are_not_overwritten(tmp_path):
    path = tmp_path / "file"
    product.write_new(path, b"first", secret=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(GatehouseError, match="exists already"):
        product.write_new(path, b"second")
    assert path.read_bytes() == b"first"
    with pytest.raises(GatehouseError, match="Not a directory"):
        product.write_new(path / "below", b"x")
    with pytest.raises(GatehouseError, match="choose a place"):
        product.make_folder(path / "below")


# Settings.


def test_ids_follow_from_domain_and_model(item):
    assert item.vendor_id == suit.vendor_uuid("example.com")
    assert item.class_id(item.board()) == suit.class_uuid("example.com", "UNIX_SIM")
    assert item.vendor_id.version == item.class_id(item.board()).version == 5


GOOD = '[product]\nname = "shop"\ndomain = "example.com"\nboards = ["unix"]\n'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[product", "product.toml"),
        ("\xff", "product.toml"),
        ("", "name is missing"),
        (GOOD.replace("name", "nome"), "name is missing"),
        (GOOD.replace('"shop"', "7"), "name is missing"),
        (GOOD.replace("shop", "../shop"), "product name"),
        (GOOD.replace("shop", "s" * 25), "product name"),
        (GOOD.replace("example.com", "example"), "vendor domain"),
        (GOOD.replace("example.com", "-a.com"), "vendor domain"),
        (GOOD.replace('["unix"]', "[]"), "boards"),
        (GOOD.replace('["unix"]', '"unix"'), "boards"),
        ("product = 1", "must be a table"),
        (GOOD + "[device]\n[release]\n[device]\n", "product.toml"),
    ],
)
def test_damaged_settings_are_told(tmp_path, text, word):
    (tmp_path / "product.toml").write_text(text, encoding="latin-1")
    with pytest.raises(GatehouseError, match=word):
        product.Product(tmp_path)
    (tmp_path / "product.toml").write_text(GOOD)
    assert product.Product(tmp_path).name == "shop"


def test_versions():
    for good in ("0.0.1", "1.0.0", "10.20.30"):
        assert product.check_version(good) == good
    for bad in ("1.0", "1.0.0.0", "v1.0.0", "1.0.0-rc1", "01.0.0", "1..0", "", "1.0.x", "1.0.1234567", "1.0.0\n"):
        with pytest.raises(UsageError):
            product.check_version(bad)


def test_boards(tmp_path, item):
    assert item.board().flash_size == 0x400000
    assert [part.name for part in item.board("unix").partitions()][-1] == "vfs"
    with pytest.raises(UsageError, match="has no board 'esp'; boards in"):
        item.board("esp")
    for name in ("esp", "../boards/unix", "unix/../unix", "unix/", "", "."):
        with pytest.raises(UsageError, match="there is no board"):
            product.load_board(name)
    folder = tmp_path / "boards" / "unix"
    folder.mkdir(parents=True)
    (folder / "board.toml").write_text(shop.BARE_BOARD + 'model = "OWN"\nflash_size = 0x200000\n')
    assert product.load_board("unix", tmp_path).model == "OWN"  # the product's own comes first
    (folder / "board.toml").write_text(shop.BARE_BOARD + 'model = "OWN"\nflash_size = "4MB"\n')
    with pytest.raises(GatehouseError, match="flash_size"):
        product.load_board("unix", tmp_path)


# Finding it.


def test_a_product_is_found(item, tmp_path, monkeypatch):
    monkeypatch.delenv(product.ENVIRONMENT, raising=False)
    monkeypatch.chdir(item.keys)
    assert product.find().root == item.root
    other = tmp_path / "other"
    other.mkdir()
    (other / "product.toml").write_text(GOOD)
    monkeypatch.setenv(product.ENVIRONMENT, str(other))
    assert product.find().root == other
    assert product.find(item.root).root == item.root
    monkeypatch.delenv(product.ENVIRONMENT)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="gatehouse init"):
        product.find()
    with pytest.raises(UsageError, match="not a product folder"):
        product.find(tmp_path)
    monkeypatch.setenv(product.ENVIRONMENT, str(tmp_path))
    with pytest.raises(UsageError, match=product.ENVIRONMENT):
        product.find()


# Sequence numbers.


def test_releases_are_remembered_in_order(tmp_path):
    item = shop.make(tmp_path / "shop")
    assert item.last_sequence() == 0
    for number in (5, 9, 7):
        item.record_release({"version": "1.0.0", "sequence": number})
    assert [one["sequence"] for one in item.releases()] == [5, 9, 7]
    assert item.last_sequence() == 9


BAD_LISTS = [
    "{",
    "[]",
    '{"releases": 1}',
    '{"releases": [1]}',
    '{"releases": [{}]}',
    '{"releases": [{"sequence": "5"}]}',
]


@pytest.mark.parametrize("text", BAD_LISTS)
def test_a_damaged_list_of_releases_stops_signing(tmp_path, text):
    item = shop.make(tmp_path / "shop")
    (item.root / "releases.json").write_text(text)
    with pytest.raises(GatehouseError, match="restore it"):
        shop.release(item, "1.0.0")
    assert not list(item.dist.glob("*.suit"))


# Certificates.


def certificate(item, name):
    return ca.load_certificate(item.ca / f"{name}.pem")


def test_certificates_are_p256_and_say_who_and_until_when(item):
    now = datetime.datetime.now(datetime.UTC)
    for name, common in (("ca", "shop CA"), ("broker", "broker"), ("host", topics.HOST)):
        found = certificate(item, name)
        assert isinstance(found.public_key().curve, ec.SECP256R1)
        assert found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == common
        assert found.not_valid_before_utc < now
        assert found.serial_number.bit_length() > 100
    years = (certificate(item, "ca").not_valid_after_utc - now).days / 365
    assert 19.9 < years < 20.1
    for name in ("broker", "host"):
        assert 823 <= (certificate(item, name).not_valid_after_utc - now).days <= 825


def test_the_broker_is_this_machine_and_nobody_else_is_a_server(item):
    names = certificate(item, "broker").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    addresses = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    assert names.get_values_for_type(x509.IPAddress) == addresses
    usage = {}
    for name in ("broker", "host"):
        usage[name] = certificate(item, name).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage["broker"]) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert list(usage["host"]) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate(item, "host").extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_device_is_certified_as_long_as_the_authority(item):
    authority = ca.Authority(item.ca)
    end = certificate(item, "ca").not_valid_after_utc
    issued = authority.issue("gh-1")
    assert issued.certificate.not_valid_after_utc == end
    assert authority.issue("gh-2", days=10_000).certificate.not_valid_after_utc == end
    issued.certificate.verify_directly_issued_by(certificate(item, "ca"))
    assert x509.load_der_x509_certificate(issued.cert_der()) == issued.certificate
    assert len(issued.key_der()) < 200


def handshake(server, client):
    """A TLS handshake in memory; raises ssl.SSLError at whoever refuses first."""
    pipes = [ssl.MemoryBIO() for _ in range(4)]
    ends = [
        client.wrap_bio(pipes[0], pipes[1], server_hostname="localhost"),
        server.wrap_bio(pipes[1], pipes[0], server_side=True),
    ]
    done = [False, False]
    for _ in range(6):
        for number, end in enumerate(ends):
            try:
                if not done[number]:
                    end.do_handshake()
                    done[number] = True
                elif number == 1:
                    end.read(1)  # with TLS 1.3 the server looks at the client's certificate after its own handshake
            except ssl.SSLWantReadError:
                pass
    assert all(done)


def contexts(item, client_item, name="host"):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(item.ca / "broker.pem", item.ca / "broker-key.pem")
    server.load_verify_locations(item.ca / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=client_item.ca / "ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(client_item.ca / f"{name}.pem", client_item.ca / f"{name}-key.pem")
    return server, client


def test_tls_both_ways(item):
    handshake(*contexts(item, item))


def test_a_server_certificate_is_no_client_and_another_authority_nobody(item, tmp_path):
    other = shop.make(tmp_path / "other")
    with pytest.raises(ssl.SSLError):
        handshake(*contexts(item, item, "broker"))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(*contexts(item, other))
    server, client = contexts(item, other)
    client.load_verify_locations(item.ca / "ca.pem")  # now the client believes us; we still do not believe it
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(server, client)


def test_a_missing_or_damaged_authority(tmp_path):
    with pytest.raises(GatehouseError, match="gatehouse init"):
        ca.Authority(tmp_path)
    item = shop.make(tmp_path / "shop")
    (item.ca / "ca-key.pem").unlink()
    with pytest.raises(GatehouseError, match="ca-key"):
        ca.Authority(item.ca)
    (item.ca / "ca.pem").write_text("x")
    with pytest.raises(GatehouseError, match="not a certificate"):
        ca.Authority(item.ca)


def test_device_facts_name_the_devices_there_are(tmp_path):
    item = shop.make(tmp_path / "shop")
    with pytest.raises(GatehouseError, match="there is none yet"):
        item.device_facts("gh-1")
    number = str(item.vendor_id)
    good = {
        "id": "gh-2",
        "uuid": number,
        "vendor_id": number,
        "class_id": number,
        "groups": [],
        "release": {"sequence": 1},
    }
    path = item.devices / "gh-2" / "device.json"
    path.parent.mkdir()
    path.write_text(json.dumps(good))
    assert item.device_facts("gh-2") == good
    with pytest.raises(GatehouseError, match="known: gh-2"):
        item.device_facts("gh-1")
    for bad in ({"uuid": "x"}, {"groups": "all"}, {"release": None}, {"release": {"sequence": -1}}, {"id": "gh-3"}):
        path.write_text(json.dumps(good | bad))
        with pytest.raises(GatehouseError, match="is damaged"):
            item.device_facts("gh-2")
