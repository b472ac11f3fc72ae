"""One seed for all random cases of a session, printed beside every failure that used it."""

import os
import random
import zlib

import pytest

VARIABLE = "GATEHOUSE_SEED"


def of(config):
    """The session's seed: GATEHOUSE_SEED, or a new one at each session."""
    return config.stash[KEY]


def rng(config, name):
    """A generator of its own for `name`, so that a new user of randomness does not shift the others."""
    return random.Random(of(config) ^ zlib.crc32(name.encode()))


KEY = pytest.StashKey[int]()


def pytest_configure(config):
    worker = getattr(config, "workerinput", None)  # pytest-xdist: all workers share one seed
    text = os.environ.get(VARIABLE, "")
    if text and not text.isdigit():
        raise pytest.UsageError(f"{VARIABLE} must be a whole number, not {text!r}")
    config.stash[KEY] = worker["seed"] if worker else int(text) if text else random.SystemRandom().getrandbits(31)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["seed"] = of(node.config)


@pytest.fixture
def seed(pytestconfig):
    """The session's seed, for a host test; a failure prints it."""
    return of(pytestconfig)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and (getattr(item, "used_seed", False) or "seed" in getattr(item, "fixturenames", ())):
        report.sections.append(("seed", f"run it again with {VARIABLE}={of(item.config)}"))
    return report
