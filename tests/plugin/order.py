"""Deals the tests so that the long ones run first: pytest-xdist gives each worker a run of them, and steals ends.

As they are collected all system tests would be the last worker's, and at the end one core is idle. One worker begins
with the others: they compute while devices wait.
"""

import os
import pathlib

import pytest

SYSTEM = pathlib.Path(__file__).resolve().parents[1] / "system"
LONG = ("test_demo_page", "test_demo", "test_powercut", "test_power", "test_soak")  # a minute and more for few tests


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin the share of each worker but one with whole modules of tests/system; without workers the order stays."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        items[:] = dealt(items, workers)


def dealt(items, workers):
    """The same items in another order. A worker's share is what --dist worksteal gives it: a run, as even as can be."""
    modules: dict[pathlib.Path, list] = {}
    others = []
    for item in items:
        if item.path.parent == SYSTEM:
            modules.setdefault(item.path, []).append(item)
        else:
            others.append(item)
    shares: list[list] = [[] for _ in range(workers)]
    for module in sorted(modules, key=lambda path: (path.stem not in LONG, -len(modules[path]))):
        min(shares[: max(1, workers - 1)], key=len).extend(modules[module])
    left = len(items)
    for number, share in enumerate(shares):
        size = left // (workers - number)
        left -= size
        room = max(0, size - len(share))
        share += others[:room]
        del others[:room]
    return [item for share in shares for item in share] + others
