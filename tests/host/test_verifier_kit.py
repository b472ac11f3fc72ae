"""`gatehouse verifier-kit`: with it one verifies and collects, and can do nothing else."""

import json
import sqlite3
import subprocess
import sys

import pytest
import shop
from pki import Authority
from test_broker import Client

from cases.report import claims, report_key, sealed
from gatehouse_tools import broker as brokers
from gatehouse_tools import ca, product, reports, topics
from gatehouse_tools.broker import Broker

WAIT = 60


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "shop"
    product.create(made, "shop", "gatehouse.example", ["unix"])
    return made


@pytest.fixture
def authority(root):
    return Authority(root)


@pytest.fixture
def item(root, authority):
    device(root, "gh-1", report_key(0))
    return product.Product(root)


def device(root, name, key):
    folder = root / "devices" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "device.json").write_text(json.dumps({"id": name, "uuid": "44" * 16}))
    private = {"report_key": key.hex(), "journal_keys": {"0": "aa" * 32}, "label_password": "open sesame"}
    (folder / "secrets.json").write_text(json.dumps(private))
    (folder / "flash.bin").write_bytes(b"device key")


def make(item, folder):
    return shop.run("verifier-kit", folder, "--product", item.root, "--json")


def test_what_is_in_it_and_what_is_not(item, tmp_path):
    kit = tmp_path / "kit"
    done = make(item, kit)
    assert done.code == 0 and done.json["devices"] == ["gh-1"]
    files = {str(path.relative_to(kit)) for path in kit.rglob("*") if path.is_file()}
    assert files == {
        "product.toml", "ca/ca.pem", "ca/host.pem", "ca/host-key.pem", "ca/session-key",
        "devices/gh-1/device.json",
        "devices/gh-1/secrets.json",
    }  # fmt: skip
    kept = json.loads((kit / "devices/gh-1/secrets.json").read_text())
    assert kept == {"report_key": report_key(0).hex(), "journal_keys": {"0": "aa" * 32}}
    assert b"sesame" not in b"".join(path.read_bytes() for path in kit.rglob("*.*"))
    subject = ca.load_certificate(kit / "ca" / "host.pem").subject.rfc4514_string()
    assert topics.VERIFIER in subject and "host" not in subject
    for secret in ("ca/host-key.pem", "ca/session-key", "devices/gh-1/secrets.json"):
        assert not (kit / secret).stat().st_mode & 0o077
    assert reports.verify(sealed(claims()), reports.known_devices(product.find(kit).devices)).device == "gh-1"


def test_again_it_gets_new_devices_and_keeps_its_certificate(item, tmp_path):
    kit = tmp_path / "kit"
    make(item, kit)
    before = (kit / "ca" / "host.pem").read_bytes()
    device(item.root, "gh-2", b"2" * 32)
    device(item.root, "gh-1", report_key(1))
    assert make(item, kit).json["devices"] == ["gh-1", "gh-2"]
    assert (kit / "ca" / "host.pem").read_bytes() == before
    known = reports.known_devices(kit / "devices")
    assert (known["gh-1"].report_key, known["gh-2"].report_key) == (report_key(1), b"2" * 32)


def test_nothing_else_is_overwritten(item, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("mine")
    make(item, other).refused(1, "holds something else")
    make(item, item.root).refused(1, "is a product")


@pytest.mark.skipif(not brokers.mosquitto(), reason="no Mosquitto")
def test_with_it_one_watches_and_collects(item, authority, tmp_path):
    kit, path = tmp_path / "kit", tmp_path / "reports.db"
    make(item, kit)
    with (
        Broker(tmp_path / "broker", authority.ca, *authority.broker, kind="mosquitto") as broker,
        Client(broker, authority, "gh-1") as gh,
    ):
        where = ["--product", str(kit), "--broker", f"localhost:{broker.port}"]
        gh.subscribe("gatehouse/gh-1/nonce")
        program = [sys.executable, "-m", "gatehouse_tools"]
        collecting = [*program, "collect", "--database", f"sqlite:///{path}", "--idle", "4", *where]
        with (
            subprocess.Popen(collecting, stderr=subprocess.PIPE, text=True) as collector,
            subprocess.Popen([*program, "watch", "--json", "--once", "--timeout", "20", *where], stdout=-1) as watch,
        ):
            assert "connected" in collector.stderr.readline()
            _, nonce = gh.get()
            gh.publish("gatehouse/gh-1/report", sealed(claims(c10=nonce)), retain=True)
            out, _ = watch.communicate(timeout=WAIT)
            assert watch.returncode == 0
            assert any(json.loads(text).get("fresh") for text in out.splitlines())
            assert collector.wait(WAIT) == 0
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT device, number FROM reports").fetchall() == [("gh-1", 1)]
    connection.close()
