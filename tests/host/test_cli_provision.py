"""`gatehouse provision`: what a new device holds, that two have nothing in common, and what is refused."""

import hashlib
import json
import math
import re
import shutil
import stat
import subprocess
import sys
import types
import uuid

import cbor2
import pytest
import shop
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gatehouse_tools import bootrecord, ca, core, cose, device_image, identity, keys, label, product, suit
from gatehouse_tools.commands import provision
from gatehouse_tools.errors import GatehouseError, UsageError
from gatehouse_tools.image import flash, littlefs, nvs
from plugin import interpreter
from test_image import MOUNT


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    item = shop.make(tmp_path_factory.mktemp("product") / "shop")
    shop.release(item, "1.0.0")
    return item


def call(item, *arguments, **more):
    return shop.run("provision", "--product", item.root, *arguments, **more)


def parts(folder):
    """NVS values, files and folders of a device's flash image."""
    found = flash.take_apart((folder / "flash.bin").read_bytes())
    return nvs.read_nvs(found["nvs"][1])["gatehouse"], *littlefs.read(found["vfs"][1])


@pytest.fixture(scope="module")
def device(item):
    done = call(item, "--id", "gh-first", "--group", "greenhouse", "--group", "all", "--trial-seconds", "60", "--json")
    assert done.code == 0, done.err
    return item.devices / "gh-first"


# What it holds.


def test_a_device_is_its_files(item, device):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in device.iterdir()}
    secret = {"flash.bin", "secrets.json", "label.svg", "label.png"}
    assert modes.keys() == secret | {"device.json"}
    assert all(modes[name] == 0o600 for name in secret)
    assert (device / "flash.bin").stat().st_size == 0x400000
    assert not list(item.devices.glob(".*"))


def others(device):
    """What a new device has confirmed besides its application."""
    _, files, _ = parts(device)
    config, trust = (suit.parse(files[f"/state/{name}.suit"]) for name in ("config-1", "trust"))
    return {"config": (config.sequence, config.digest), "trust": (1, trust.digest)}


def test_nvs_holds_identity_and_keys(item, device):
    values, _, _ = parts(device)
    facts = json.loads((device / "device.json").read_text())
    told = cbor2.loads(values["identity"])
    assert told == {
        1: "gh-first",
        2: item.vendor_id.bytes,
        3: item.class_id(item.board()).bytes,
        4: uuid.UUID(facts["uuid"]).bytes,
        5: "UNIX_SIM",
        6: "1",
        7: "example.com",
        9: 0,  # the pins of the board's button and light
        10: 2,
        11: [[0x3FF5A000, 0x07F00000], [0x3FF5A018, 0x30], [0x3FF5A000, 0x08000000], [0x3FF5A018, 0x40]],
    }
    assert values["root"] == hashlib.sha256(item.signer("root").public).digest()
    assert len(values["device_key"]) == 32
    assert cbor2.loads(values["wifi"]) == ["gatehouse-sim", "simulated"]
    release = suit.parse((item.dist / "shop-1.0.0.suit").read_bytes())
    assert values["floors"] == bootrecord.floors(release.digest, release.sequence, others(device))
    assert "broker" not in values


def test_its_certificate_is_for_its_id_and_its_key(item, device):
    values, _, _ = parts(device)
    certificate = x509.load_der_x509_certificate(values["tls_cert"])
    key = serialization.load_der_private_key(values["tls_key"], None)
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "gh-first"
    assert isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(ca.load_certificate(item.ca / "ca.pem"))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gh-first", "gh-first.local"]
    usage = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert usage == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


def test_the_host_keeps_the_report_key_and_the_label_and_no_other_secret(device):
    values, _, _ = parts(device)
    secrets = json.loads((device / "secrets.json").read_text())
    assert secrets.keys() == {"report_key", "journal_keys", "label_password"}
    assert secrets["journal_keys"] == {"0": cose.journal_key(values["device_key"]).hex()}
    assert secrets["report_key"] == cose.report_key(values["device_key"]).hex()
    public = (device / "device.json").read_text() + (device / "secrets.json").read_text()
    for name in ("device_key", "tls_key"):
        assert values[name].hex() not in public
    assert "simulated" not in public and secrets["report_key"] not in (device / "device.json").read_text()


def test_the_label_is_in_secrets_json_and_the_device_holds_only_its_verifier(item, device):
    values, files, _ = parts(device)
    password = json.loads((device / "secrets.json").read_text())["label_password"]
    bare = password.replace("-", "").encode()
    salt, iterations, verifier = cbor2.loads(values["label"])
    assert (len(salt), iterations) == (16, 10_000)
    assert verifier == hashlib.pbkdf2_hmac("sha256", bare, salt, iterations)
    image = (device / "flash.bin").read_bytes()
    for text in (password.encode(), bare):
        assert text not in image and text not in (device / "device.json").read_bytes()
        assert all(text not in data for data in files.values())
    assert "users" not in values  # nobody else has a password at birth
    done = call(item, "--id", "gh-quiet")
    told = json.loads((item.devices / "gh-quiet" / "secrets.json").read_text())["label_password"]
    assert told not in done.out + done.err and "label_password belongs on the device's label" in done.out + done.err
    shutil.rmtree(item.devices / "gh-quiet")


def test_label_passwords_are_random_readable_and_long_enough():
    made = {label.new() for _ in range(500)}
    assert len(made) == 500
    assert all(re.fullmatch("([a-hjkmnp-z2-9]{4}-){3}[a-hjkmnp-z2-9]{4}", one) for one in made)
    assert math.log2(len(set(label.ALPHABET))) * 16 >= 64 and not set("il1o0") & set(label.ALPHABET)
    assert set("".join(made)) - {"-"} == set(label.ALPHABET)
    one, other = (cbor2.loads(label.verifier("abcd-efgh")) for _ in range(2))
    assert one[0] != other[0] and one[2] != other[2]
    assert cbor2.loads(label.verifier("ABCD EFGH"))[2] != one[2]


def test_anchors_and_configuration_are_signed_by_who_may(item, device):
    _, files, _ = parts(device)
    trust, config = files["/state/trust.suit"], files["/state/config-1.suit"]
    root, release, operator = (item.signer(role) for role in product.ROLES)
    assert suit.verify(trust, [root.key]) and suit.verify(config, [operator.key])
    for data, key in ((trust, operator.key), (config, root.key), (config, release.key)):
        with pytest.raises(GatehouseError) as caught:
            suit.verify(data, [key])
        assert caught.value.reason == "key"
    store = cbor2.loads(suit.parse(trust).payloads["#trust"])
    assert store[1] == 1
    assert [(row[1], row[2], row[3], row[4]) for row in store[2]] == [
        (signer.kid, -9, signer.public, [number]) for number, signer in enumerate((root, release, operator), 1)
    ]
    assert store[5] == [ca.der(ca.load_certificate(item.ca / "ca.pem"))]
    fields = cbor2.loads(suit.parse(config).payloads["#config"])
    assert fields == {
        1: "localhost",
        2: 8883,
        4: "http://localhost:8080/",
        5: "pool.ntp.org",
        6: 123,
        7: ["greenhouse", "all"],
        10: 60,
    }


def test_slot_a_is_the_release_and_the_record_names_it(item, device):
    _, files, folders = parts(device)
    envelope = (item.dist / "shop-1.0.0.suit").read_bytes()
    parsed = suit.parse(envelope)
    assert files["/slots/a/manifest.suit"] == envelope
    assert files["/slots/a/index.cbor"] == (item.dist / "shop-1.0.0.index.cbor").read_bytes()
    assert files["/slots/a/data/words.txt"].decode() == shop.APPLICATION["data/words.txt"]
    assert sum(path.startswith("/slots/a/") for path in files) == 6
    assert not any(path.startswith("/slots/b/") for path in files) and "/slots/b" in folders
    assert files["/state/boot.cbor"] == bootrecord.factory(parsed.digest, parsed.sequence, others=others(device))
    assert files["/boot.py"] == core.source("boot.py").read_bytes()
    assert "/lib/gatehouse/slots.mpy" in files


def test_the_devices_own_code_verifies_the_slot(item, device, tmp_path):
    """MicroPython mounts the file system; the core in it takes the slot, and refuses it with a byte changed."""
    release = suit.parse((item.dist / "shop-1.0.0.suit").read_bytes())
    index = (item.dist / "shop-1.0.0.index.cbor").read_bytes()
    program = """
from binascii import unhexlify
sys.path[:] = ["/chip/lib"]
from gatehouse import Refused, tree
digest = unhexlify(%r)
print(*tree.verify("/chip/slots/a", digest, %d))
with open("/chip/slots/a/data/words.txt", "r+b") as file:
    file.write(b"X")
try:
    tree.verify("/chip/slots/a", digest, %d)
except Refused as error:
    print(error.reason)
"""
    program %= (hashlib.sha256(index).hexdigest(), len(index), len(index))
    vfs = flash.take_apart((device / "flash.bin").read_bytes())["vfs"][1]
    (tmp_path / "fs.img").write_bytes(vfs)
    command = [interpreter.find(), "-X", "heapsize=16M", "-c", MOUNT + program, str(tmp_path / "fs.img")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.split() == ["shop", "1.0.0", "digest"], done.stderr + done.stdout
    assert release.components == [[b"app"]]


def test_devices_share_no_secret_and_no_id(item):
    made = call(item, "--count", "3", "--json").json["devices"]
    found = [parts(item.devices / one["id"])[0] for one in made]
    for name in ("device_key", "tls_key", "tls_cert", "identity"):
        assert len({values[name] for values in found}) == 3
    assert len({one["id"] for one in made}) == len({one["uuid"] for one in made}) == 3
    assert len({(item.devices / one["id"] / "secrets.json").read_text() for one in made}) == 3
    assert all(one["id"].startswith("gh-") and len(one["id"]) == 11 for one in made)


def test_settings_from_the_call_and_from_the_product(item, tmp_path):
    credentials = tmp_path / "wifi.toml"
    credentials.write_text('ssid = "Halle 3"\npassword = "correct horse"\nbroker_user = "u"\nbroker_password = "p"\n')
    done = call(
        item, "--id", "gh-set", "--broker", "10.0.0.5:1883", "--base-url", "http://10.0.0.6/packs",
        "--ntp", "10.0.0.7:1123",
        "--report-seconds", "30", "--sensor-seconds", "5", "--watchdog-ms", "16000", "--keepalive-seconds", "20",
        "--credentials", credentials,
    )  # fmt: skip
    assert done.code == 0, done.err
    values, files, _ = parts(item.devices / "gh-set")
    fields = cbor2.loads(suit.parse(files["/state/config-1.suit"]).payloads["#config"])
    assert fields == {
        1: "10.0.0.5", 2: 1883, 4: "http://10.0.0.6/packs/", 5: "10.0.0.7", 6: 1123, 7: ["all"],
        8: 30, 9: 5, 11: 16000, 12: 20,
    }  # fmt: skip
    assert cbor2.loads(values["wifi"]) == ["Halle 3", "correct horse"]
    assert cbor2.loads(values["broker"]) == ["u", "p"]
    assert "correct horse" not in done.out + done.err + (item.devices / "gh-set" / "device.json").read_text()
    assert "10.0.0.5:1883" in done.out


def test_config_fields_are_the_devices_own():
    names = ["broker", "port", "tls", "base", "ntp", "ntp_port", "groups", "report_s", "sensor_s", "trial_s"]
    assert list(core.config_names().values()) == [
        *names, "watchdog_ms", "keepalive_s", "updates", "auto_download", "auto_install", "notify", "window",
        "interfaces", "lockout", "session", "repl_s", "bounds",
    ]  # fmt: skip
    assert len(identity.dataclasses.fields(identity.Config)) == len(core.config_names())
    assert identity.Config().payload() == b"\xa0"


def test_the_root_key_can_be_away_after_the_first_device(tmp_path):
    item = shop.make(tmp_path / "shop")
    shop.release(item, "1.0.0")
    first = call(item, "--id", "one")
    assert first.code == 0
    root = item.keys / "root.pem"
    public = item.signer("root").private.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    root.write_bytes(pem)  # what stays here is the public half
    assert call(item, "--id", "two").code == 0
    anchors = [parts(item.devices / name)[1]["/state/trust.suit"] for name in ("one", "two")]
    assert anchors[0] == anchors[1]
    # A lost dist/ needs the root again.
    (item.dist / "trust-unix-1.suit").unlink()
    call(item, "--id", "three").refused(1, "root.pem", "not a private key")
    assert not (item.devices / "three").exists()


def test_a_key_that_is_not_the_one_in_the_trust_store_signs_nothing(tmp_path):
    item = shop.make(tmp_path / "shop")
    shop.release(item, "1.0.0")
    assert call(item, "--id", "one").code == 0
    operator = item.keys / "operator.pem"
    operator.unlink()
    keys.save(keys.generate(), operator)
    call(item, "--id", "two").refused(1, "operator.pem is not the operator key", "--add-key")
    assert not (item.devices / "two").exists()


# What is refused.


def stranger(item, tmp_path):
    """A release of the same product signed by another key, in its dist/."""
    return shop.release(item, "9.0.0", signers=[keys.generate()]).envelope


def other_vendor(item, tmp_path):
    other = shop.make(tmp_path / "other", domain="example.org")
    other.keys.joinpath("release.pem").write_bytes((item.keys / "release.pem").read_bytes())
    return shop.release(product.Product(other.root), "1.0.0").envelope


def other_board(item, tmp_path):
    made = shop.release(item, "1.0.0")
    data = suit.build_envelope(
        7,
        [suit.Component("app", b"x" * 32, 1, "x.pack")],
        item.vendor_id.bytes,
        uuid.uuid4().bytes,
        [item.signer("release")],
    )
    (made.envelope.parent / "valve.suit").write_bytes(data)
    return made.envelope.parent / "valve.suit"


def configuration(item, tmp_path):
    signer = item.signer("release")
    component = suit.Component("config", payload=b"\xa0")
    data = suit.build_envelope(7, [component], item.vendor_id.bytes, item.class_id(item.board()).bytes, [signer])
    (tmp_path / "config.suit").write_bytes(data)
    return tmp_path / "config.suit"


def no_pack(item, tmp_path):
    made = shop.release(item, "1.0.0")
    made.pack.unlink()
    return made.envelope


def wrong_pack(item, tmp_path):
    made, other = shop.release(item, "1.0.0"), shop.release(item, "1.0.1")
    made.pack.write_bytes(other.pack.read_bytes())
    return made.envelope


def damaged_pack(item, tmp_path):
    made = shop.release(item, "1.0.0")
    data = bytearray(made.pack.read_bytes())
    data[-1] ^= 1
    made.pack.write_bytes(data)
    return made.envelope


def damaged_envelope(item, tmp_path):
    made = shop.release(item, "1.0.0")
    data = bytearray(made.envelope.read_bytes())
    data[len(data) // 2] ^= 1
    made.envelope.write_bytes(data)
    return made.envelope


RELEASES = {
    stranger: "[key]",
    other_vendor: "[vendor]",
    other_board: "[class]",
    configuration: "[component]",
    no_pack: "expected beside it",
    wrong_pack: "[digest]",
    damaged_pack: "[digest]",
    damaged_envelope: "gatehouse: ",
}


@pytest.mark.parametrize("prepare", RELEASES, ids=lambda one: one.__name__)
def test_a_release_that_a_device_would_refuse(tmp_path, prepare):
    item = shop.make(tmp_path / "shop")
    call(item, "--slot-release", prepare(item, tmp_path)).refused(1, RELEASES[prepare])
    assert list(item.devices.iterdir()) == []


def test_without_a_release_it_says_how_to_make_one(tmp_path):
    call(shop.make(tmp_path / "shop")).refused(1, "gatehouse release --version 1.0.0")


BAD = {
    "id of a word that means something": (["--id", "host"], 2, "device id 'host'"),
    "id with a topic in it": (["--id", "a/b"], 2, "device id 'a/b'"),
    "id with a path": (["--id", ".."], 2, "device id"),
    "id too long": (["--id", "x" * 33], 2, "at most 32"),
    "id that is taken": (["--id", "gh-first"], 1, "there is a device gh-first: an id is never given twice"),
    "one id for two": (["--id", "gh-x", "--count", "2"], 2, "--count"),
    "no device": (["--count", "0"], 2, "--count"),
    "board": (["--board", "esp99"], 2, "no board 'esp99'"),
    "release that is not there": (["--slot-release", "none.suit"], 1, "none.suit"),
    "release that is a pack": (["--slot-release", "{dist}/shop-1.0.0.pack"], 1, "the envelope is damaged"),
    "trial too short": (["--trial-seconds", "4"], 2, "trial_s must be within 5..3600"),
    "watchdog too short": (["--watchdog-ms", "100"], 2, "watchdog_ms"),
    "too many groups": ([word for name in "abcde" for word in ("--group", name)], 2, "groups"),
    "group with a wildcard": (["--group", "a#"], 2, "groups"),
    "broker with a bad port": (["--broker", "x:99999"], 2, "broker 'x:99999'"),
    "broker that is a URL": (["--broker", "mqtt://x"], 2, "broker 'mqtt://x'"),
    "base URL of another kind": (["--base-url", "ftp://x/"], 2, "base URL 'ftp://x/'"),
    "base URL that is a broker": (["--base-url", "mqtt://x/"], 2, "base URL 'mqtt://x/'"),
    "base URL with a password": (["--base-url", "http://u:p@x/"], 2, "base URL"),
    "time server": (["--ntp", "a b"], 2, "time server 'a b'"),
    "credentials that are not there": (["--credentials", "none.toml"], 1, "none.toml"),
    "credentials of another form": (["--credentials", "{root}/product.toml"], 2, "expected TOML with ssid"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calls_make_nothing(item, device, name):
    before = sorted(item.devices.iterdir()), (device / "flash.bin").stat().st_mtime_ns
    arguments, code, word = BAD[name]
    call(item, *[one.format(dist=item.dist, root=item.root) for one in arguments]).refused(code, word)
    assert (sorted(item.devices.iterdir()), (device / "flash.bin").stat().st_mtime_ns) == before


def test_wifi_limits():
    assert identity.Credentials("x" * 32, "")
    for ssid, password in (
        ("", "long enough"),
        ("x" * 33, "long enough"),
        ("\u00e9" * 17, ""),
        ("x", "short"),
        ("x", "y" * 64),
    ):
        with pytest.raises(UsageError):
            identity.Credentials(ssid, password)


def test_a_real_board_asks_at_a_terminal_only(tmp_path, monkeypatch):
    item = shop.make(tmp_path / "shop")
    folder = item.root / "boards" / "unix"
    folder.mkdir(parents=True)
    (folder / "board.toml").write_text(
        shop.BARE_BOARD.replace("unix", "esp32") + 'model = "UNIX_SIM"\nflash_size = 0x400000\n'
    )
    (folder / "partitions.csv").write_bytes(core.source("boards", "unix", "partitions.csv").read_bytes())
    shop.release(item, "1.0.0")
    call(item, stdin="home\nsecret\n").refused(2, "--wifi FILE")
    assert list(item.devices.iterdir()) == []
    terminal = types.SimpleNamespace(stdin=types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(provision, "sys", terminal)
    asked = []

    def ask(*arguments: object) -> None:
        asked.append(arguments[4])
        sys.exit(0)

    monkeypatch.setattr(provision.identity, "provision", ask)
    done = call(item, stdin="home\nlong enough\n\n")
    assert asked == [identity.Credentials("home", "long enough")]
    done = call(item, stdin="home\nlong enough\nuser\nbroker's word\n")
    assert asked.pop() == identity.Credentials("home", "long enough", "user", "broker's word")
    assert "broker's word" not in done.out + done.err
    assert "Wi-Fi password" in done.err and "long enough" not in done.out + done.err
    done = call(item, stdin="home\nshort\n")
    assert done.code == 2 and "8 to 63 characters" in done.err and len(asked) == 1


def test_missing_keys(tmp_path):
    item = shop.make(tmp_path / "shop")
    shop.release(item, "1.0.0")
    for path, word in ((item.keys / "operator.pem", "operator.pem"), (item.ca / "ca-key.pem", "ca-key.pem")):
        data = path.read_bytes()
        path.unlink()
        call(item).refused(1, word, "[key]")
        path.write_bytes(data)
    assert list(item.devices.iterdir()) == []
    assert call(item).code == 0


def test_a_file_system_that_is_full(item, monkeypatch):
    monkeypatch.setattr(device_image.flash, "nvs_image", lambda values, size: b"\xff" * (size + 1))
    call(item, "--id", "gh-full").refused(1, "do not fit partition nvs", "[full]")
    assert not (item.devices / "gh-full").exists()


def test_an_interrupted_run_leaves_nothing_and_can_be_repeated(item, monkeypatch):
    real = product.write_new

    def cut(path, data, secret=False):
        real(path, data, secret)
        if path.name == "secrets.json":
            raise KeyboardInterrupt

    monkeypatch.setattr(product, "write_new", cut)
    call(item, "--id", "gh-cut").refused(1, "stopped")
    assert not (item.devices / "gh-cut").exists() and not list(item.devices.glob(".*"))
    monkeypatch.undo()
    assert call(item, "--id", "gh-cut").code == 0


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("https://packs.example.com", "https://packs.example.com/"),
        ("https://10.0.0.1:8443/a", "https://10.0.0.1:8443/a/"),
        ("mqtt:", "mqtt:"),
    ],
)
def test_bases_that_devices_take(item, given, base):
    done = call(item, "--base-url", given, "--json")
    assert done.code == 0, done.err
    assert [one["base"] for one in done.json["devices"]] == [base]
