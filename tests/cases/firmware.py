"""Packs of application images as the host's own tool makes them: without and with a list of blocks."""

import hashlib
from typing import Any

from gatehouse_tools import pack
from gatehouse_tools.image import flash


def made(image: bytes, core: str) -> dict[str, Any]:
    index, whole = pack.build_firmware(image, "demo", "2.0.0", core)
    return {"pack": whole, "digest": hashlib.sha256(index.data).digest(), "size": len(index.data)}


def make() -> dict[str, Any]:
    return {
        "small": made(flash.stand_in_app("small", 8192), "1.1.0"),
        "listed": made(flash.stand_in_app("listed", pack.BLOCK + 4096), "1.2.0"),
    }
