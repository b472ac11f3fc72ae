"""Device code imports nothing that a chip's stock build lacks, and does no arithmetic that only 64 bits can."""

import ast
import tomllib

import pytest

from gatehouse_tools import boards, build, core

MODULES = tomllib.loads(core.source("boards", "modules.toml").read_text())
CHIPS = [name for name in boards.chips() if name != "unix"]
# Modules whose name is made at run time: in one place each, and absent ones are caught there.
ASKED = {"firmware/access/rows.py": ("bluetooth", "espnow")}
DYNAMIC = {  # __import__ of a name: own modules, which these lists in the same file hold
    "lib/gatehouse/memory.py", "firmware/homeassistant.py", "firmware/events.py", "firmware/access/passing.py",
    "firmware/access/dispatch.py", "firmware/access/policy.py", "firmware/access/rows.py",
}  # fmt: skip


def sources():
    found = {name: core.source(name) for name in ("boot.py", "main.py")}
    for folder in ("lib", "firmware"):
        found |= {str(path.relative_to(core.SOURCE)): path for path in core.source(folder).rglob("*.py")}
    return {name: ast.parse(path.read_text()) for name, path in found.items()}


def own():
    """Modules of the core, the application, and those that its packages.txt brings."""
    core_names = {path.stem for path in core.source("lib", "gatehouse").glob("*.py")}
    application = {
        target.removesuffix(".mpy").replace("/", ".") for _, target in build.sources(core.source("firmware"))
    }
    names = {"gatehouse"} | {f"gatehouse.{name}" for name in core_names} | application
    return names | {name.rpartition(".")[0] for name in application if "." in name}


def imports(tree):
    """Full names of the modules that a file imports by a statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level  # relative imports cost more, and are not used
            yield node.module


def missing(tree, modules):
    return sorted(name for name in set(imports(tree)) if name not in modules and name not in own())


def stock():
    names = set(MODULES["stock"]["builtin"]) | set(MODULES["stock"]["frozen"])
    return names | {name.partition(".")[0] for name in names}


def test_a_stock_build_has_every_module_that_device_code_imports():
    lacking = {name: missing(tree, stock()) for name, tree in sources().items()}
    assert not {name: names for name, names in lacking.items() if names}
    assert missing(ast.parse("import ntptime, numpy\nfrom typing import Any"), stock()) == ["numpy", "typing"]


def test_so_has_a_production_build():
    names = set(MODULES["stock"]["builtin"]) - set(MODULES["production"]["missing"]) | set(
        MODULES["production"]["frozen"]
    )
    names |= {name.partition(".")[0] for name in names}
    lacking = {name: missing(tree, names) for name, tree in sources().items()}
    assert not {name: found for name, found in lacking.items() if found}


def test_names_made_at_run_time_are_where_they_are_known():
    found = set()
    for name, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "__import__":
                found.add(name)
    assert found == DYNAMIC
    for name, wanted in ASKED.items():
        text = core.source(name).read_text()
        assert all(f'_radio("{module}"' in text and module in stock() for module in wanted)
        assert "except ImportError" in text


@pytest.mark.parametrize("chip", CHIPS)
def test_the_temperature_function_is_the_chips_own(chip):
    own_function = boards.chips()[chip].temperature
    assert MODULES["functions"][chip] == [f"esp32.{own_function}"]
    assert f"esp32.{own_function}()" in core.source("firmware", "sensor.py").read_text()


def test_a_slot_cannot_bring_what_a_stock_build_has():
    """Else it would shadow, or be shadowed by, a module that the core relies on."""
    reserved = core.module("tree")._RESERVED.split()
    tops = {name.partition(".")[0] for name in stock()}
    assert sorted(tops - set(reserved)) == []


# Where numbers beyond a chip's small integers, of 31 bits, stand: it holds them as big ones, slowly and on the heap.
WIDE = {
    "lib/gatehouse/es256.py": "the field of P-256",
    "lib/gatehouse/wifi.py": "seconds of NTP and of Unix, once a synchronisation",
    "firmware/access/command.py": "the limit of a client's counter",
}


def test_numbers_that_a_chip_keeps_on_its_heap_are_known():
    wide = set()
    for name, tree in sources().items():
        values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is int]
        if any(value.bit_length() > 30 for value in values):
            wide.add(name)
    assert wide == set(WIDE)


def test_floats_are_a_sensors_alone():
    """A chip's have 32 bits, 24 of them digits: no time in seconds and no size fits into one."""
    found = set()
    for name, tree in sources().items():
        for node in ast.walk(tree):
            divides = isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)
            if divides or (isinstance(node, ast.Constant) and isinstance(node.value, float)):
                found.add(name)
    assert found == {"firmware/sensor.py"}


def test_bytes_in_flash():
    """What docs/hardware.md says, within 5 %."""
    text = core.source("docs", "hardware.md").read_text()
    files = build.core_files()
    application = build.build(core.source("firmware"), "gatehouse", "1.0.0")
    measured = {
        "core": sum(map(len, files.values())),
        "application": sum(len(item.data) for item in application.sources),
        "pack": len(application.pack),
    }
    for name, size in measured.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        told = int(row.split("|")[2].strip().replace(",", ""))
        assert abs(told - size) <= size / 20, (name, size)
