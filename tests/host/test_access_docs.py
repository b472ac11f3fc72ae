"""docs/access.md says what the device does: the table of operations, the numbers of the policy."""

import importlib
import re
import sys

import pytest

from gatehouse_tools import core, label


@pytest.fixture
def access(monkeypatch):
    """The module firmware/access/catalogue.py, in CPython."""
    core.module("config")  # the core's package and a stand-in for `micropython`
    monkeypatch.syspath_prepend(str(core.source("firmware")))
    yield importlib.import_module("access.catalogue")
    for name in [name for name in sys.modules if name.split(".")[0] == "access"]:
        del sys.modules[name]


def test_table_of_operations(access):
    text = core.source("docs", "access.md").read_text()
    found = {}
    for line in text.splitlines():
        row = re.fullmatch(r"\| `([a-z.]+)` \| (\w+) \| ([a-z, -]+) \| (?:`(.*)`)? ?\|", line)
        if row:
            found[row[1]] = (row[2], tuple(row[3].split(", ")), (row[4] or "").replace("\\|", "|"))
    assert found == {name: (role, interfaces, words) for name, role, interfaces, words in access.table()}


def test_numbers_of_the_policy():
    text = core.source("docs", "access.md").read_text()
    defaults = {field[0]: field[3] for field in core.module("config")._FIELDS.values()}
    for name in ("lockout", "session"):
        assert f"{name} = {list(defaults[name])}" in text
    assert str(list(defaults["interfaces"])).replace("'", '"') in text


def test_host_and_device_agree_on_the_label():
    text = core.source("firmware", "access", "pbkdf2.py").read_text()
    assert f"ITERATIONS = const({label.ITERATIONS})" in text
