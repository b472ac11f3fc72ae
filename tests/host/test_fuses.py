"""boards/fuses.toml is what espefuse knows of each chip, and every device gets its own chip's."""

import importlib
import tomllib
from pathlib import Path

import espefuse  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from gatehouse_tools import core, identity, product

TABLES = tomllib.loads(core.source("boards", "fuses.toml").read_text())
# The fuses whose bits each entry has, by espefuse's names.
OLD: list[tuple[str, ...]] = [
    ("FLASH_CRYPT_CNT",),
    ("ABS_DONE_0", "ABS_DONE_1"),
    ("UART_DOWNLOAD_DIS",),
    ("JTAG_DISABLE",),
]
NEW: list[tuple[str, ...]] = [("SPI_BOOT_CRYPT_CNT",), ("SECURE_BOOT_EN",), ("DIS_DOWNLOAD_MODE",)]
NAMES: dict[str, list[tuple[str, ...]]] = {
    "esp32": OLD,
    "unix": OLD,
    "esp32s2": [*NEW, ("HARD_DIS_JTAG",)],
    "esp32s3": [*NEW, ("DIS_PAD_JTAG", "DIS_USB_JTAG")],
    "esp32c3": [*NEW, ("DIS_PAD_JTAG", "DIS_USB_JTAG")],
    "esp32c6": [*NEW, ("DIS_PAD_JTAG", "DIS_USB_JTAG")],
}


@pytest.mark.parametrize("chip", TABLES)
def test_registers_are_those_of_espefuse(chip):
    known = "esp32" if chip == "unix" else chip
    folder = Path(espefuse.__file__).parent
    fuses = yaml.safe_load((folder / "efuse_defs" / f"{known}.yaml").read_text())["EFUSES"]
    blocks = importlib.import_module(f"espefuse.efuse.{known}.mem_definition").EfuseDefineBlocks.BLOCKS
    start = blocks[0][3]  # where block 0 is read
    assert list(TABLES[chip]) == list(identity.FUSES)
    for pairs, names in zip(TABLES[chip].values(), NAMES[chip], strict=True):
        masks: dict[int, int] = {}
        for fuse in (fuses[name] for name in names):
            address = start + 4 * fuse["word"]
            masks[address] = masks.get(address, 0) | ((1 << fuse["len"]) - 1) << fuse["pos"]
        assert {pairs[at]: pairs[at + 1] for at in range(0, len(pairs), 2)} == masks


def test_a_device_gets_those_of_its_chip(tmp_path):
    def of(chip):
        return identity._fuses(product.Board("x", tmp_path, "X", 4096, {"chip": chip}))

    assert of("esp32s3")[3] == [0x60007030, 0x00080000, 0x60007038, 0x00400000]
    assert of("esp32x9") is None
