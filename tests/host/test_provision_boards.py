"""`gatehouse provision` of real boards: twenty of them, their labels, the inventory, parts for a production build."""

import base64
import io
import json
import stat
import xml.etree.ElementTree as ElementTree
import zlib

import cbor2
import pytest
import shop
import zxingcpp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from esp_idf_nvs_partition_gen import nvs_partition_gen
from PIL import Image

from gatehouse_tools import device_image, identity, inventory, label, label_print
from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.image import flash, littlefs, nvs

WIFI = 'ssid = "hall 3"\npassword = "correct horse"\nbroker_user = "u-7"\nbroker_password = "battery staple"\n'


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    return shop.real(tmp_path_factory.mktemp("product") / "shop")


@pytest.fixture(scope="module")
def wifi(tmp_path_factory):
    path = tmp_path_factory.mktemp("wifi") / "wifi.toml"
    path.write_text(WIFI)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def device(item, wifi):
    done = shop.run("provision", "--product", item.root, "--id", "gh-1", "--wifi", wifi, "--production")
    assert (done.code, done.err) == (0, "")
    return item.devices / "gh-1"


def call(item, *arguments, **more):
    return shop.run("provision", "--product", item.root, *arguments, **more)


def values_of(folder):
    return nvs.read_nvs(flash.take_apart((folder / "flash.bin").read_bytes())["nvs"][1])["gatehouse"]


def test_twenty_devices_share_nothing_secret(item, wifi):
    done = call(item, "--board", "ESP32_GENERIC_S3", "--count", "20", "--wifi", wifi, "--json")
    assert done.code == 0, done.err
    folders = [item.devices / one["id"] for one in done.json["devices"]]
    held = [values_of(folder) for folder in folders]
    words = [json.loads((folder / "secrets.json").read_text()) for folder in folders]
    assert len(folders) == 20
    for name in ("identity", "device_key", "tls_key", "tls_cert", "label"):
        assert len({values[name] for values in held}) == 20
    for name in ("report_key", "label_password"):
        assert len({one[name] for one in words}) == 20
    again = call(item, "--board", "ESP32_GENERIC_S3", "--wifi", wifi, "--json").json["devices"][0]
    assert values_of(item.devices / again["id"])["device_key"] not in [values["device_key"] for values in held]


def test_the_image_is_the_boards(item, device):
    image = (device / "flash.bin").read_bytes()
    assert len(image) == 0x800000
    parts = flash.take_apart(image)
    assert parts["vfs"][0].size == 0x310000
    assert set(parts["ota_0"][1]) == {0xFF}  # MicroPython comes with `gatehouse flash`
    values, files = values_of(device), littlefs.read(parts["vfs"][1])[0]
    told = cbor2.loads(values["identity"])
    assert told[5] == "ESP32_GENERIC_S3" and told[9] == 0 and told[10] == 2
    assert cbor2.loads(values["wifi"]) == ["hall 3", "correct horse"]
    assert cbor2.loads(values["broker"]) == ["u-7", "battery staple"]
    assert {"/boot.py", "/main.py", "/slots/a/manifest.suit", "/state/trust.suit"} <= files.keys()


# Secrets.


def secrets_of(folder):
    """Every secret of a device, as bytes."""
    values = values_of(folder)
    private = json.loads((folder / "secrets.json").read_text())
    password = private["label_password"]
    found = [values["device_key"], values["tls_key"], values["label"], values["wifi"], values["broker"]]
    found += [b"correct horse", password.encode(), password.replace("-", "").encode(), b"battery staple"]
    key = serialization.load_der_private_key(values["tls_key"], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    found.append(key.private_numbers().private_value.to_bytes(32, "big"))
    found += [bytes.fromhex(private["report_key"]), *map(bytes.fromhex, private["journal_keys"].values())]
    if (folder / "production").is_dir():
        found.append((folder / "production" / "nvs-keys.bin").read_bytes()[: nvs.KEY_SIZE])
    return found


def forms(secret):
    """A secret as somebody might have written it."""
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret).rstrip(b"=")]


def test_no_secret_is_in_the_inventory_nor_told(item, device, wifi):
    done = call(item, "--id", "gh-told", "--wifi", wifi, "--json")
    said = (done.out + done.err).encode()
    for folder in (device, item.devices / "gh-told"):
        public = inventory.path(item).read_bytes() + (folder / "device.json").read_bytes() + said
        kept = b"".join(
            path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "device.json"
        )
        for secret in secrets_of(folder):
            assert not any(form in public for form in forms(secret))
        for secret in secrets_of(folder)[:7]:  # and the search finds what is there
            assert any(form in kept for form in forms(secret))


def test_whatever_is_secret_is_its_owners_alone(device):
    for path in device.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0 or path.name == "device.json", path


def test_credentials_that_others_can_read_are_told(item, tmp_path):
    path = tmp_path / "wifi.toml"
    path.write_text(WIFI)
    path.chmod(0o644)
    done = call(item, "--wifi", path)
    assert done.code == 0 and f"chmod 600 {path}" in done.err
    path.chmod(0o600)
    assert call(item, "--wifi", path).err == ""


def test_no_credential_can_come_as_an_argument(item):
    names = {name for one in shop.command("provision").params for name in one.opts}
    assert "--wifi" in names and not {name for name in names if "pass" in name or "ssid" in name}


# The inventory: nothing is given twice, nothing is lost.


def test_an_id_is_never_given_twice(item, device, wifi):
    before = {path: path.read_bytes() for path in device.rglob("*") if path.is_file()}
    lines = inventory.path(item).read_bytes()
    call(item, "--id", "gh-1", "--wifi", wifi).refused(1, "there is a device gh-1", "choose another")
    assert {path: path.read_bytes() for path in before} == before and inventory.path(item).read_bytes() == lines
    # Also when its folder has gone to where secrets are kept.
    device.rename(item.root / "elsewhere")
    try:
        call(item, "--id", "gh-1", "--wifi", wifi).refused(1, "inventory.jsonl has a device gh-1", "never given twice")
        assert not device.exists()
    finally:
        (item.root / "elsewhere").rename(device)
    assert call(item, "--id", "gh-2", "--wifi", wifi).code == 0


def test_the_inventory_has_each_device_once_with_what_its_owner_must_know(item, device):
    records = {one["id"]: one for one in inventory.read(item)}
    assert len(records) == len(inventory.read(item)) == len(item.device_folders())
    assert records["gh-1"] == json.loads((device / "device.json").read_text())
    assert {"uuid", "model", "certificate_sha256", "root_keys", "release", "provisioned"} <= records["gh-1"].keys()


def test_a_run_cut_between_folder_and_line_loses_neither(item, device, wifi, monkeypatch):
    real, calls = inventory.add_missing, []

    def cut(where):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(where)

    monkeypatch.setattr(inventory, "add_missing", cut)
    done = call(item, "--id", "gh-cut", "--wifi", wifi)
    assert done.code == 1 and (item.devices / "gh-cut" / "flash.bin").exists()
    assert "gh-cut" not in [one["id"] for one in inventory.read(item)]
    monkeypatch.undo()
    with inventory.path(item).open("ab") as file:
        file.write(b'{"id": "gh-c')  # a line that was cut
    assert call(item, "--id", "gh-next", "--wifi", wifi).code == 0
    assert [one["id"] for one in inventory.read(item)][-2:] == ["gh-cut", "gh-next"]
    assert inventory.path(item).read_bytes().endswith(b"}\n")


def test_a_batch_that_is_stopped_keeps_what_it_made(item, wifi, monkeypatch):
    real, made = identity.provision, []

    def stopped(*arguments):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(real(*arguments))
        return made[-1]

    monkeypatch.setattr(identity, "provision", stopped)
    done = call(item, "--count", "5", "--wifi", wifi)
    assert done.code == 1 and "2 of 5 devices are made, and complete; for the rest: --count 3" in done.err
    for one in made:
        assert flash.take_apart((one.folder / "flash.bin").read_bytes())
        assert one.id in [record["id"] for record in inventory.read(item)]


def test_a_damaged_inventory_stops_provisioning(item, device, wifi):
    whole = inventory.path(item).read_bytes()
    inventory.path(item).write_bytes(b"x" + whole)
    try:
        call(item, "--wifi", wifi).refused(1, "inventory.jsonl, line 1 is damaged")
    finally:
        inventory.path(item).write_bytes(whole)


# The label.


def test_a_phone_reads_the_label_and_so_does_a_person(device):
    password = json.loads((device / "secrets.json").read_text())["label_password"]
    picture = Image.open(device / "label.png")
    found = zxingcpp.read_barcodes(picture)
    assert [one.text for one in found] == [f"gatehouse:1:gh-1:{password}"]
    assert picture.size == (708, 354) and round(picture.info["dpi"][0]) == 300
    tree = ElementTree.fromstring((device / "label.svg").read_bytes())  # noqa: S314 it is ours
    words = [one.text or "" for one in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert "".join(words[-2:]) == password and "gh-1" in words and "ESP32_GENERIC_S3" in words


def test_svg_and_png_have_the_same_code(device):
    picture = Image.open(device / "label.png").convert("L")
    tree = ElementTree.fromstring((device / "label.svg").read_bytes())  # noqa: S314 it is ours
    path = next(tree.iter("{http://www.w3.org/2000/svg}path")).attrib["d"]
    drawn = Image.new("L", picture.size, 255)
    for move in path.split("M")[1:]:
        at, _, rest = move.partition("h")
        x, y = map(int, at.split())
        side = int(rest.partition("v")[0])
        drawn.paste(0, (x, y, x + side, y + side))
    code = (0, 0, 340, 354)
    assert drawn.crop(code).tobytes() == picture.crop(code).tobytes()


@pytest.mark.parametrize("name", ["x", "a-product-of-a-long-name"])
def test_the_longest_words_stay_on_the_label(name):
    picture = Image.open(io.BytesIO(label_print.png(name, "M" * 24, "w" * 32, label.new())))
    edge = picture.crop((label_print.WIDTH - 8, 0, label_print.WIDTH, label_print.HEIGHT))
    assert edge.getextrema() == (255, 255)
    assert zxingcpp.read_barcodes(picture)


# For a production build.


def test_encrypted_nvs_says_the_same_with_its_keys_and_nothing_without(item, device):
    folder = device / "production"
    assert {path.name for path in folder.iterdir()} == set(device_image.PRODUCTION.values())
    data, keys = (folder / "nvs-encrypted.bin").read_bytes(), (folder / "nvs-keys.bin").read_bytes()
    assert len(data) == 0x6000 and len(keys) == 0x1000
    assert keys[64:68] == zlib.crc32(keys[:64], 0xFFFFFFFF).to_bytes(4, "little") and set(keys[68:]) == {0xFF}
    clear = nvs.decrypt(data, keys)
    assert nvs.read_nvs(clear)["gatehouse"] == values_of(device)
    assert "gatehouse" not in nvs.read_nvs(data)
    assert values_of(device)["device_key"] not in data
    with pytest.raises(GatehouseError, match="CRC"):
        nvs.decrypt(data, bytes(68))


def test_the_generators_own_decryption_reads_it(device):
    """A second reader: the package that ESP-IDF uses."""
    folder = device / "production"
    data, key = (folder / "nvs-encrypted.bin").read_bytes(), (folder / "nvs-keys.bin").read_bytes()[:64]
    clear = bytearray(data)
    for page in range(len(data) // 4096):
        for entry in range(126):
            at = 4096 * page + 64 + 32 * entry
            if data[at : at + 32] != b"\xff" * 32:
                clear[at : at + 32] = nvs_partition_gen.decrypt_data(data[at : at + 32], key, page, entry, 32)
    assert nvs.read_nvs(bytes(clear))["gatehouse"] == values_of(device)


def test_no_two_devices_share_nvs_keys(item, device, wifi):
    assert call(item, "--id", "gh-other", "--wifi", wifi, "--production").code == 0
    one, other = ((item.devices / name / "production" / "nvs-keys.bin").read_bytes() for name in ("gh-1", "gh-other"))
    assert one[:64] != other[:64]


def test_the_production_file_system_has_no_core(device):
    files, folders = littlefs.read((device / "production" / "vfs.bin").read_bytes())
    assert "/slots/a/manifest.suit" in files and "/slots/b" in folders
    assert not any(path.startswith("/lib/") or path in ("/boot.py", "/main.py") for path in files)


def test_a_broker_that_a_board_would_look_for_in_itself_is_told(item, wifi):
    done = call(item, "--wifi", wifi, "--broker", "localhost", "--base-url", "http://localhost:8080/")
    assert done.code == 0 and "broker and packs on localhost" in done.err
    assert "--port PORT" in done.out
    done = call(item, "--wifi", wifi, "--broker", "127.0.0.1", "--base-url", "mqtt:")
    assert done.code == 0 and "broker on localhost" in done.err
    done = call(item, "--wifi", wifi)
    assert (done.code, done.err) == (0, "")


def test_a_board_without_a_release_is_told_how_it_gets_one(tmp_path, wifi):
    item = shop.real(tmp_path / "shop")
    path = item.root / "product.toml"
    path.write_text(path.read_text().replace("]  # folders", ', "ESP32_GENERIC_C3"]  # folders'))
    told = call(item, "--board", "ESP32_GENERIC_C3", "--wifi", wifi)
    told.refused(1, "ESP32_GENERIC_C3 to start with")
    words = told.err.partition(": gatehouse release ")[2].split()
    assert shop.run("release", *words, "--product", item.root).code == 0
    assert call(item, "--board", "ESP32_GENERIC_C3", "--wifi", wifi).code == 0


def test_no_production_parts_with_a_store_for_development(tmp_path, wifi):
    item = shop.real(tmp_path / "shop")
    assert shop.run("trust", "next", "--dev", "--new-key", "dev", "--product", item.root).code == 0
    call(item, "--id", "gh-1", "--wifi", wifi, "--production").refused(1, "flagged dev", "[dev]", "--no-dev")
    assert not (item.devices / "gh-1").exists()
    assert call(item, "--id", "gh-1", "--wifi", wifi).code == 0


def test_a_board_without_production_build_says_so(tmp_path):
    item = shop.make(tmp_path / "shop")
    shop.release(item, "1.0.0")
    call(item, "--production").refused(1, "board unix has no production build")
    assert list(item.devices.iterdir()) == []
