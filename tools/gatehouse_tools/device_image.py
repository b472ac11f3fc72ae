"""What lies in the flash of a new device: everything but MicroPython itself, which `gatehouse flash` adds.

For a production build also its own parts, whose NVS is encrypted (docs/provisioning.md).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from . import build as builds
from . import releases
from .boards import Board
from .errors import GatehouseError
from .image import flash, littlefs, nvs, partitions

SIMULATED = "unix"  # the chip of boards/unix
FOLDERS = ["/slots/a", "/slots/b", "/state"]
# Files of the parts for a production build, by partition.
PRODUCTION = {"nvs": "nvs-encrypted.bin", "nvs_keys": "nvs-keys.bin", "vfs": "vfs.bin"}
Values = Mapping[str, bytes | int]


def whole(board: Board, values: Values, state: Mapping[str, bytes], release: releases.SlotRelease) -> bytes:
    """The flash image of a new device: partition table, NVS, file system; the simulated board's firmware too."""
    table = board.partitions()
    contents = {
        "nvs": flash.nvs_image(values, partitions.find(table, "nvs").size),
        "vfs": _files(builds.core_files(), state, release, partitions.find(table, "vfs").size),
    }
    if board.chip == SIMULATED:
        contents["ota_0"] = flash.stand_in_app("gatehouse-sim")
    return flash.compose(table, contents, board.flash_size)


def production(
    board: Board, values: Values, state: Mapping[str, bytes], release: releases.SlotRelease
) -> dict[str, bytes]:
    """The parts for the board's production build by file name: NVS encrypted, its keys, a file system without core.

    The keys are new for each device. The generator's own way to make them (its --keygen) draws from a generator of
    random numbers that can be predicted, so they are made here.
    """
    if not (board.folder / "micropython" / "partitions.csv").is_file():
        raise GatehouseError(f"board {board.name} has no production build: micropython/partitions.csv is missing")
    table = board.build_partitions()
    key = secrets.token_bytes(nvs.KEY_SIZE)
    parts = {
        "nvs": flash.nvs_image(values, partitions.find(table, "nvs").size, key),
        "nvs_keys": nvs.key_partition(key, partitions.find(table, "nvs_keys").size),
        "vfs": _files({}, state, release, partitions.find(table, "vfs").size),  # the core is frozen into the firmware
    }
    return {PRODUCTION[name]: data for name, data in parts.items()}


def _files(core: Mapping[str, bytes], state: Mapping[str, bytes], release: releases.SlotRelease, size: int) -> bytes:
    slot = {"manifest.suit": release.envelope, "index.cbor": release.index.data, **release.files}
    files = {**core, **state, **{f"/slots/a/{path}": data for path, data in slot.items()}}
    return littlefs.build(files, FOLDERS, size)
