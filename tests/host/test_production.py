"""The production builds of boards/, as far as they can be checked without ESP-IDF and MicroPython's source."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gatehouse_tools import boards, core
from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.image import flash, partitions

PRODUCTION = core.source("boards", "production")
PAGE = core.source("docs", "production.md").read_text()
KNOWN = tomllib.loads((PRODUCTION / "build-options.toml").read_text())
NAMES = sorted(path.parent.name for path in core.source("boards").glob("*/micropython"))
FILES = ("mpconfigboard.cmake", "mpconfigboard.h", "sdkconfig.board", "manifest.py", "partitions.csv")
CLOSED = {  # what docs/production.md promises
    "SECURE_BOOT": "y", "SECURE_BOOT_V2_ENABLED": "y", "SECURE_BOOT_INSECURE": "n",
    "SECURE_SIGNED_APPS_RSA_SCHEME": "y",
    "SECURE_BOOT_BUILD_SIGNED_BINARIES": "n", "BOOTLOADER_APP_ROLLBACK_ENABLE": "y",
    "SECURE_FLASH_ENC_ENABLED": "y", "SECURE_FLASH_ENCRYPTION_MODE_RELEASE": "y", "SECURE_DISABLE_ROM_DL_MODE": "y",
    "NVS_ENCRYPTION": "y", "NVS_SEC_KEY_PROTECT_USING_FLASH_ENC": "y", "ESP_CONSOLE_NONE": "y", "BT_ENABLED": "n",
    "BOOTLOADER_SKIP_VALIDATE_IN_DEEP_SLEEP": "n",
}  # fmt: skip
OFF = (
    "MICROPY_HW_ENABLE_UART_REPL", "MICROPY_HW_ENABLE_USBDEV", "MICROPY_HW_USB_CDC", "MICROPY_HW_ESP_USB_SERIAL_JTAG",
    "MICROPY_HW_ENABLE_MDNS_RESPONDER", "MICROPY_PY_BLUETOOTH", "MICROPY_PY_ESPNOW",
)  # fmt: skip


def folder(name):
    return core.source("boards", name, "micropython")


def settings(*paths):
    """Options of sdkconfig files, the later over the earlier. A line that is none, or an unknown name, is an error."""
    found = {}
    for path in paths:
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                name, value = re.fullmatch(r'CONFIG_(\w+)=(y|n|0x[0-9a-f]+|"[^"]*")', line).groups()
                assert name in KNOWN["esp-idf"]["options"], (
                    f"{path}: {name} is no option of {KNOWN['esp-idf']['version']}"
                )
                assert (path, name) not in found
                found[name] = value
    return found


def test_each_real_board_has_one():
    assert (
        sorted(
            name for name in (path.parent.name for path in core.source("boards").glob("*/board.toml")) if name != "unix"
        )
        == NAMES
    )
    for name in NAMES:
        assert sorted(path.name for path in folder(name).iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", NAMES)
def test_options_exist_and_close_what_is_promised(name):
    board = boards.load(name)
    found = settings(PRODUCTION / "sdkconfig.production", folder(name) / "sdkconfig.board")
    assert {option: found[option] for option in CLOSED} == CLOSED
    assert int(found["PARTITION_TABLE_OFFSET"], 16) == board.table_offset
    assert found[f"ESPTOOLPY_FLASHSIZE_{board.flash_size >> 20}MB"] == "y"
    if board.chip != "esp32":  # it has no USB of its own
        assert found["ESP_CONSOLE_SECONDARY_NONE"] == "y"
    if board.chip in ("esp32", "esp32c3"):  # earlier revisions have no secure boot v2
        assert found[f"{board.chip.upper()}_REV_MIN_3"] == "y"


def test_an_option_that_does_not_exist_is_found(tmp_path):
    path = tmp_path / "sdkconfig.board"
    path.write_text("# fine\nCONFIG_SECURE_BOOT=y\n")
    assert settings(path) == {"SECURE_BOOT": "y"}
    path.write_text("CONFIG_SECURE_BOOT_V2=y\n")
    with pytest.raises(AssertionError, match=r"SECURE_BOOT_V2 is no option of v5\.5\.1"):
        settings(path)


def macros(path):
    return dict(re.findall(r"^#define (\w+) +(.+?)(?: *//.*)?$", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_macros_exist_and_close_what_is_promised(name):
    path = folder(name) / "mpconfigboard.h"
    include = re.findall(r'^#include "(.+)"$', path.read_text(), re.MULTILINE)
    assert [(path.parent / one).resolve() for one in include] == [PRODUCTION / "mpconfig_production.h"]
    found = macros(path) | macros(PRODUCTION / "mpconfig_production.h")
    assert set(found) <= set(KNOWN["micropython"]["macros"])
    assert {macro: found[macro] for macro in OFF} == dict.fromkeys(OFF, "(0)")


@pytest.mark.parametrize("name", NAMES)
def test_the_board_file_of_the_build(name):
    text = (folder(name) / "mpconfigboard.cmake").read_text()
    assert re.findall(r"set\(IDF_TARGET (\w+)\)", text) == [boards.load(name).chip]
    assert "set(MICROPY_FROZEN_MANIFEST ${MICROPY_BOARD_DIR}/manifest.py)" in text
    assert 'CONFIG_PARTITION_TABLE_CUSTOM_FILENAME=\\"${MICROPY_BOARD_DIR}/partitions.csv\\"' in text
    listed = re.search(r"set\(SDKCONFIG_DEFAULTS\n(.*?)\)", text, re.DOTALL)[1].split()
    assert listed[0] == "boards/sdkconfig.base" and listed[-1] == "${CMAKE_BINARY_DIR}/sdkconfig.place"
    for one in listed[:-1]:
        local = one.replace("${MICROPY_BOARD_DIR}", str(folder(name)))
        assert one in KNOWN["micropython"]["sdkconfig"] or core.SOURCE.joinpath(local).is_file()
    riscv = boards.chips()[boards.load(name).chip].arch == "rv32imc"
    assert ("boards/sdkconfig.riscv" in listed) == riscv
    assert listed.index("${MICROPY_BOARD_DIR}/sdkconfig.board") == len(listed) - 2  # over all before it


def resolve(path, board_dir):
    """What a manifest freezes: module paths. AssertionError where MicroPython's rules would not find a source."""
    known, frozen = KNOWN["micropython"], []

    def place(text):
        return core.SOURCE.joinpath(text.replace("$(BOARD_DIR)", str(board_dir))).resolve()

    def include(name):
        if name.startswith("$(MPY_DIR)"):
            assert name in known["includes"], name
            frozen.append(name.rpartition("/")[2])
        else:
            frozen.extend(resolve(place(name), board_dir))

    def freeze(base, names):
        assert base == "$(PORT_DIR)/modules" and set(names) <= set(known["modules"])
        frozen.extend(names)

    def require(name):
        assert name in known["packages"], name
        frozen.append(name)

    def package(name, base_path, opt):
        root = place(base_path)
        assert (root / name / "__init__.py").is_file(), root
        frozen.extend(f"{name}/{one.relative_to(root / name)}" for one in (root / name).rglob("*.py"))

    def module(name, base_path, opt):
        assert (place(base_path) / name).is_file(), place(base_path)
        frozen.append(name)

    words = {"include": include, "freeze": freeze, "require": require, "package": package, "module": module}
    exec(compile(path.read_text(), str(path), "exec"), {"__builtins__": {}} | words)  # noqa: S102 - a manifest of ours
    return frozen


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_freezes_the_core_and_both_scripts(name):
    frozen = resolve(folder(name) / "manifest.py", folder(name))
    modules = {f"gatehouse/{path.name}" for path in core.source("lib", "gatehouse").glob("*.py")}
    assert modules | {"boot.py", "main.py", "_boot.py"} <= set(frozen)
    assert len(frozen) == len(set(frozen))
    assert not any(name.startswith(("webrepl", "mip", "upysh", "firmware")) for name in frozen)
    listed = tomllib.loads(core.source("boards", "modules.toml").read_text())["production"]["frozen"]
    brought = {one.removesuffix(".py") for one in frozen if "/" not in one} - {"boot", "main"}
    assert brought | {"ssl"} == set(listed)  # umqtt.simple brings ssl


def test_a_manifest_that_names_nothing_is_found(tmp_path):
    shutil.copytree(PRODUCTION, tmp_path / "production")
    manifest = tmp_path / "production" / "manifest.py"
    board_dir = folder("ESP32_GENERIC")
    resolve(manifest, board_dir)
    for before, after in (
        ('module("boot.py"', 'module("bot.py"'),
        ('require("dht")', 'require("dth")'),
        ('/lib"', '/lob"'),
    ):
        text = manifest.read_text()
        manifest.write_text(text.replace(before, after))
        with pytest.raises(AssertionError):
            resolve(manifest, board_dir)
        manifest.write_text(text)


def test_a_signed_application_is_one_that_can_be_released(tmp_path):
    """The commands of docs/production.md, run."""
    plain, key, signed = (tmp_path / name for name in ("micropython.bin", "secure-boot.pem", "micropython-signed.bin"))
    plain.write_bytes(flash.stand_in_app("production"))
    for line in re.findall(r"^espsecure .*micropython\.bin$|^espsecure generate.*$", PAGE, re.MULTILINE):
        words = [word.replace("build/s3/", "") for word in line.split()[1:]]
        program = Path(sys.executable).with_name("espsecure")
        subprocess.run([program, *words], cwd=tmp_path, check=True, capture_output=True)
    flash.check_app(signed.read_bytes(), "the signed one")
    assert signed.read_bytes().startswith(plain.read_bytes()) and key.stat().st_size
    assert signed.stat().st_size % 0x1000 == 0  # padded, and a sector of signatures


def test_the_page_names_the_options():
    for option in ("SECURE_DISABLE_ROM_DL_MODE", "ESP_CONSOLE_NONE", "BOOTLOADER_APP_ROLLBACK_ENABLE", *OFF):
        assert option in PAGE or option == "MICROPY_PY_ESPNOW"
    assert KNOWN["esp-idf"]["version"] in PAGE and KNOWN["micropython"]["version"] in PAGE


@pytest.mark.parametrize("name", NAMES)
def test_the_partition_table(name):
    board = boards.load(name)
    table = board.build_partitions()
    boards.check_table(table)
    keys = partitions.find(table, "nvs_keys")
    assert (keys.kind(), keys.size, keys.flags) == ("data, nvs_keys", 0x1000, 1)  # encrypted, or NVS is open
    assert partitions.find(table, "vfs").flags == 1
    assert min(part.offset for part in table) == board.table_offset + partitions.TABLE_SIZE
    assert [part.kind() for part in table if part.type == partitions.APP] == ["app, ota_0", "app, ota_1"]
    assert not partitions.find(table, "nvs").flags  # NVS has its own encryption, and must not have both


def test_a_table_that_the_bootloader_would_overwrite_is_refused(tmp_path):
    board = boards.load("ESP32_GENERIC")
    text = (board.folder / "partitions.csv").read_text()  # that of the dev board, whose table lies at 0x8000
    partitions.parse_csv(text, board.flash_size)
    with pytest.raises(GatehouseError, match="'nvs': starts at 0x9000, inside the partition table"):
        partitions.parse_csv(text, board.flash_size, table_offset=board.table_offset)
