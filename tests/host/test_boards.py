"""boards/: every board is good, a new one is a new folder, and each planted fault gets one clear line."""

import ast
import re
import shutil

import pytest
import shop

from gatehouse_tools import boards, build, cbor, core, identity, product, releases
from gatehouse_tools.errors import GatehouseError, UsageError
from gatehouse_tools.image import flash, littlefs, nvs, partitions

REAL = ("ESP32_GENERIC", "ESP32_GENERIC_S3", "ESP32_GENERIC_C3", "ESP32_GENERIC_C6")


def names():
    return sorted(path.parent.name for path in core.source("boards").glob("*/board.toml"))


@pytest.fixture
def folder(tmp_path):
    """A product's own board, a copy of the ESP32's: change() edits one of its files and returns what checking says."""
    copy = shutil.copytree(core.source("boards", "ESP32_GENERIC"), tmp_path / "boards" / "mine")
    path = copy / "board.toml"
    path.write_text(path.read_text().replace('name = "ESP32_GENERIC"', 'name = "mine"', 1))
    return copy


def test_a_copy_under_its_old_name_is_told(folder):
    boards.check(boards.load("mine", folder.parents[1]))
    assert "name is 'other' in the folder mine; look at model, too" in change(folder, '"mine"', '"other"')


def change(folder, before, after, file="board.toml"):
    path = folder / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(GatehouseError) as caught:
        boards.check(boards.load("mine", folder.parents[1]))
    told = str(caught.value)
    assert "\n" not in told and file in told
    return told


@pytest.mark.parametrize("name", names())
def test_every_board_is_good(name):
    board = boards.load(name)
    boards.check(board)
    assert (board.name, board.data["name"], board.data["partitions"]) == (name, name, "partitions.csv")
    assert [part.kind() for part in board.partitions() if part.type == partitions.APP] == ["app, ota_0", "app, ota_1"]


@pytest.mark.parametrize("name", REAL)
def test_the_boards_of_esp32_chips(name):
    board = boards.load(name)
    assert board.chip in boards.chips() and board.model == name
    assert board.pin("button") is not None and board.pin("led") is not None and board.pin("sensor_pin") is not None
    assert board.sensor == "chip"  # a bare dev board has a reading
    assert board.data["interfaces"] == list(boards.chips()[board.chip].interfaces)
    assert board.data["micropython"]["build"].startswith(name)


def test_classes_of_all_boards_differ(tmp_path):
    item = shop.make(tmp_path / "shop")
    assert len({item.class_id(boards.load(name)) for name in names()}) == len(names())


def test_a_board_holds_the_core_and_the_application_twice():
    """In each: the core, both slots full, and a state in use: journal, anchors, two configurations, an offer."""
    built = build.build(core.source("firmware"), "gatehouse", "1.0.0")
    slot = {item.target: item.data for item in built.sources} | {"index.cbor": built.index.data}
    slots = {f"/slots/{one}/{path}": data for one in "ab" for path, data in slot.items()}
    sizes = {"boot.cbor": 400, "boot.new": 400, "trust.suit": 2000, "config-1.suit": 900, "config-2.suit": 900}
    sizes |= {"offer.suit": 8192} | {f"journal-{number}": 4096 for number in range(4)}
    state = {f"/state/{name}": bytes(size) for name, size in sizes.items()}
    for name in names():
        room = partitions.find(boards.load(name).partitions(), "vfs").size
        littlefs.build(build.core_files() | slots | state, ["/slots/a", "/slots/b", "/state"], room)
    littlefs.build(build.core_files() | state, ["/slots/a", "/slots/b", "/state"], boards.LEAST_VFS)


def test_a_new_board_is_a_new_folder(tmp_path, folder):
    item = shop.make(tmp_path / "shop")
    shutil.move(folder.parent, item.root / "boards")
    path = item.root / "boards" / "mine" / "board.toml"
    path.write_text(
        path.read_text().replace('model = "ESP32_GENERIC"', 'model = "MINE"').replace("led = 2", "led = false")
    )
    settings = item.root / "product.toml"
    settings.write_text(settings.read_text().replace('boards = ["unix"]', 'boards = ["unix", "mine"]'))
    board = product.Product(item.root).board("mine")
    boards.check(board)
    assert (board.model, board.pin("led"), board.pin("button")) == ("MINE", None, 0)


FAULTS = [
    ("button = 0", "", "button is missing: the number of its pin, or false"),
    ("led = 2", "led = 24", "led: pin 24 is no pin of the esp32; choose another"),
    ("led = 2", "led = -1", "led: pin -1 is no pin of the esp32"),
    ("led = 2", "led = 40", "led: pin 40 is no pin of the esp32"),
    ("led = 2", "led = 6", "led: pin 6 belongs to the flash on the esp32"),
    ("led = 2", "led = 34", "led: pin 34 can only be an input on the esp32"),
    ("led = 2", "led = 0", "button: pin 0 is led's already"),
    ("led = 2", "led = true", "led = True is not the number of a pin"),
    ("button = 0", "button = 3", "button: pin 3 belongs to the console"),
    ("sensor_pin = 4", "sensor_pin = 35", "sensor_pin: pin 35 can only be an input"),
    ('sensor = "chip"', 'sensor = "bme280"', "sensor 'bme280' is none of chip, ds18b20, dht22"),
    ('chip = "esp32"', 'chip = "esp8266"', "chip 'esp8266' is none of esp32, esp32s3"),
    ('chip = "esp32"', "", "chip is missing"),
    ('model = "ESP32_GENERIC"', "", "model is missing"),
    ("flash_size = 0x400000", 'flash_size = "4MB"', "flash_size = '4MB' is not a number"),
    ("flash_size = 0x400000", "flash_size = true", "flash_size = True is not a number"),
    ("flash_size = 0x400000", "flash_size = 0x400001", "a multiple of 4096"),
    ('"ble"', '"usb"', "interface 'usb' is none that the esp32 has"),
    ("button = 0", "buton = 0", "unknown setting 'buton'; there are"),
    ("button = 0", "button = ", "board.toml: "),
]


@pytest.mark.parametrize("before, after, told", FAULTS)
def test_faults_of_a_board(folder, before, after, told):
    boards.check(boards.load("mine", folder.parents[1]))  # the same board without the fault
    assert told in change(folder, before, after)


def test_a_wired_sensor_needs_a_pin(folder):
    path = folder / "board.toml"
    path.write_text(path.read_text().replace('sensor = "chip"', 'sensor = "ds18b20"'))
    assert boards.load("mine", folder.parents[1]).sensor == "ds18b20"
    assert "sensor_pin is missing: the pin of the ds18b20's data line" in change(folder, "sensor_pin = 4", "")


def test_the_sensor_of_a_product(folder):
    board = boards.load("mine", folder.parents[1])
    assert boards.wired(board, {"broker": "localhost"}) is None
    assert boards.wired(board, {"sensor": "ds18b20"}) == ("ds18b20", 4)
    assert boards.wired(board, {"sensor": "dht22", "sensor_pin": 5}) == ("dht22", 5)
    for wrong, told in (
        ({"sensor": "bme280"}, "sensor 'bme280'"),
        ({"sensor": "dht22", "sensor_pin": 6}, "sensor_pin: pin 6"),
    ):
        with pytest.raises(GatehouseError, match=rf"product.toml, \[device\]: {told}"):
            boards.wired(board, wrong)
    path = folder / "board.toml"
    path.write_text(path.read_text().replace('sensor = "chip"', 'sensor = "dht22"'))
    board = boards.load("mine", folder.parents[1])
    assert boards.wired(board, {}) == ("dht22", 4)
    assert boards.wired(board, {"sensor": "chip"}) is None


def test_a_device_is_told_its_sensor(tmp_path):
    item = shop.make(tmp_path / "shop")
    path = item.root / "product.toml"
    path.write_text(path.read_text().replace('# sensor = "ds18b20"', 'sensor = "ds18b20"\nsensor_pin = 25 #'))
    shop.release(item, "1.0.0")
    wifi = identity.Credentials("home", "very secret word")
    for changed, told in ((item, None), (product.Product(item.root), ["ds18b20", 25])):
        board = changed.board()
        device = identity.provision(changed, board, releases.load(changed, board), identity.Config(), wifi)
        parts = flash.take_apart((device.folder / "flash.bin").read_bytes())
        found = nvs.read_nvs(parts["nvs"][1])["gatehouse"]["identity"]
        assert isinstance(found, bytes) and cbor.loads(found).get(12) == told


ROWS = [
    ("0x190000,  0x180000", "0x180000,  0x180000", "'ota_1': starts at 0x180000, inside ota_0, which ends at 0x190000"),
    ("0x190000,  0x180000", "0x191000,  0x17f000", "'ota_1': offset 0x191000 is not a multiple of 0x10000"),
    ("0x310000,  0xf0000", "0x310000,  0x100000", "'vfs': ends at 0x410000, beyond the flash of 0x400000 bytes"),
    ("vfs,      data", "a_name_too_long_, data", "'a_name_too_long_': a name is 1 to 15 printable ASCII characters"),
    ("otadata,  data, ota,      0xd000,    0x2000\n", "", "partition 'otadata' is missing"),
    ("0xd000,    0x2000", "0xd000,    0x1000", "'otadata': size 0x1000 is not 0x2000"),
    ("phy_init, data, phy", "phy_init, data, efuse", "partition 'phy_init' is data, efuse; it is wanted as data, phy"),
    ("0x190000,  0x180000", "0x190000,  0x170000", "ota_0 and ota_1 differ in size"),
    ("0x310000,  0xf0000", "0x310000,  0x50000", "vfs has 0x50000 bytes"),
    ("0x9000,    0x4000", "0x9000,    0x4001", "'nvs': size 0x4001 is not a positive multiple of 0x1000"),
    ("0x9000,    0x4000", "0x8000,    0x4000", "'nvs': starts at 0x8000, inside the partition table"),
    ("0x9000,    0x4000", "0x9000,    0x2000", "'nvs': size 0x2000 is under 0x3000"),
    ("0xd000,    0x2000", "0xd000,    0x2000,    readonly", "'otadata': is always written to"),
    ("phy_init, data, phy,      0xf000,    0x1000", "again, data, ota, 0xe000, 0x2000", "'again': "),
    (
        "vfs,      data, fat,      0x310000,  0xf0000",
        "vfs, data, fat, 0x310000, 0xe0000\nend, data, ota, 0x3f0000, 0x2000",
        "'end': there is another of type data, ota",
    ),
    (
        "nvs,      data, nvs,      0x9000,    0x4000\notadata,  data, ota,      0xd000,    0x2000",
        "otadata, data, ota, 0xd000, 0x2000\nnvs, data, nvs, 0x9000, 0x4000",
        "'nvs' lies before 'otadata'",
    ),
]


@pytest.mark.parametrize("before, after, told", ROWS)
def test_faults_of_a_partition_table(folder, before, after, told):
    boards.check(boards.load("mine", folder.parents[1]))
    assert told in change(folder, before, after, "partitions.csv")


def test_flash_that_is_too_small(folder):
    told = "'ota_1': ends at 0x310000, beyond the flash of 0x200000 bytes"
    path = folder / "board.toml"
    path.write_text(path.read_text().replace("flash_size = 0x400000", "flash_size = 0x200000"))
    with pytest.raises(GatehouseError, match=told):
        boards.check(boards.load("mine", folder.parents[1]))


def test_a_board_without_a_second_slot_is_possible(folder):
    shutil.copy(core.source("boards", "ESP32_GENERIC_C3", "partitions-single.csv"), folder / "partitions.csv")
    boards.check(boards.load("mine", folder.parents[1]))
    assert "no partition for the firmware" in change(
        folder, "ota_0,    app,  ota_0", "app,  app,  factory", "partitions.csv"
    )


def test_a_board_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="there is no board 'mine'; boards: ESP32_GENERIC, "):
        boards.load("mine", tmp_path)


# What the documents say.


def test_every_setting_is_explained():
    text = core.source("docs", "new-board.md").read_text()
    table = text.split("## board.toml")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`\[?(\w+)\]?`", row)}
    assert set(boards._SETTINGS) <= told
    assert told - set(boards._SETTINGS) == {"version", "table_offset"}  # of the two tables
    for kind in boards.SENSORS:
        assert f"| `{kind}`" in text


def test_the_example_of_a_sensor_is_one(tmp_path):
    text = core.source("docs", "new-application.md").read_text()
    path = tmp_path / "sensor.py"
    path.write_text(text.split("```python\n")[1].split("```")[0])
    assert build.compile_file(path, "sensor.py")
    example, real = (
        {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}
        for file in (path, core.source("firmware", "sensor.py"))
    )
    assert example == real


def test_provisioning_checks_the_board(tmp_path):
    item = shop.make(tmp_path / "shop")
    shutil.copytree(
        core.source("boards", "unix"), item.root / "boards" / "unix", ignore=shutil.ignore_patterns("*.py*")
    )
    shop.release(item, "1.0.0")
    wifi = identity.Credentials("home", "very secret word")
    table = item.root / "boards" / "unix" / "partitions.csv"
    good = table.read_text()
    table.write_text("\n".join(row for row in good.splitlines() if not row.startswith("otadata")))
    arguments = (item, item.board(), releases.load(item, item.board()), identity.Config(), wifi, "gh-1")
    with pytest.raises(GatehouseError, match="partition 'otadata' is missing"):
        identity.provision(*arguments)
    assert not (item.devices / "gh-1").exists()
    table.write_text(good)
    identity.provision(*arguments)
