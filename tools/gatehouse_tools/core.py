"""The device's own rules, run by the host: one text of them, so that nothing is signed that a device would refuse.

`lib/gatehouse/` is MicroPython, but its rules for paths, indexes and configuration are plain Python. `const` is the
only name of the platform that they need.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import GatehouseError

SOURCE = Path(__file__).resolve().parents[2]  # the checkout: boot.py, main.py, lib/, firmware/ and boards/ lie there
_LIB = SOURCE / "lib"


def source(*parts: str) -> Path:
    """A path in the checkout. GatehouseError when it is not there: the tools without the device's code are useless."""
    path = SOURCE.joinpath(*parts)
    if not path.exists():
        raise GatehouseError(f"{path} is missing: run the tools from a checkout of Gatehouse (pip install -e .)")
    return path


def module(name: str) -> ModuleType:
    """A module of the device's core, e.g. module("tree"), imported under CPython."""
    source("lib", "gatehouse", name + ".py")
    if "micropython" not in sys.modules:
        shim: Any = ModuleType("micropython")
        shim.const = lambda value: value
        sys.modules["micropython"] = shim
    sys.modules.setdefault("esp32", ModuleType("esp32"))  # some modules import it; no rule asks it
    sys.path.insert(0, str(_LIB))
    try:
        return importlib.import_module("gatehouse." + name)
    finally:
        sys.path.remove(str(_LIB))


def version() -> str:
    """The version of the core in this checkout."""
    found = re.search(r'^VERSION = "([^"]+)"', source("lib", "gatehouse", "__init__.py").read_text(), re.MULTILINE)
    if not found:
        raise GatehouseError("lib/gatehouse/__init__.py does not state VERSION")
    return found[1]


def check_path(path: str) -> None:
    """GatehouseError("path" | "module") unless an application tree may hold `path`."""
    _ask(module("tree").check_path, path)


def check_entry(entry: Any) -> None:
    """GatehouseError("format" | "size" | "path" | "module") unless `entry` is one of an index."""
    _ask(module("tree").check_entry, entry)


def check_firmware_index(data: bytes) -> None:
    """GatehouseError("format" | "size") unless `data` is the index of an application image."""
    image = module("image")
    if len(data) > image.MAX_INDEX:
        raise GatehouseError(f"the index of the image has {len(data)} bytes; devices take {image.MAX_INDEX}", "size")
    _ask(image._parse, data)


def check_uri(uri: str) -> None:
    """GatehouseError("format" | "unsupported") unless devices can fetch from an absolute URI."""
    _ask(module("uri").split, uri)


def block_size() -> int:
    """Bytes of a block of a pack over MQTT."""
    return int(module("blocks").BLOCK)


def mqtt_base() -> str:
    """The base URL that says: packs come as blocks over MQTT."""
    return str(module("uri").MQTT)


def limit(name: str) -> int:
    """A limit of the device's tree module: MAX_INDEX, MAX_FILES, MAX_FILE or BLOCK."""
    return int(getattr(module("tree"), name))


def check_config(values: dict[int, Any]) -> None:
    """GatehouseError("format") that names the first field of a configuration which a device would not take."""
    config = module("config")
    for key, value in values.items():
        if key not in config._FIELDS:
            raise GatehouseError(f"configuration has an unknown field {key}", "format")
        name, least, most, default = config._FIELDS[key]
        _ask(config._check, name, value, least, most, default)


def config_names() -> dict[int, str]:
    """The fields of a configuration by number, as the device calls them."""
    return {key: field[0] for key, field in module("config")._FIELDS.items()}


def _ask(rule: Callable[..., None], *arguments: Any) -> None:
    from gatehouse import Refused  # type: ignore[import-not-found]  # the device's package, loaded by module()

    try:
        rule(*arguments)
    except Refused as error:
        raise GatehouseError(error.detail or error.reason, error.reason) from None
