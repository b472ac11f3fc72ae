"""What all tests share: device tests run inside MicroPython, random cases print their seed (tests/README.md)."""

import atexit
import gc
import os
import pathlib
import shutil
import sys
import tempfile

# The counters of HSS/LMS keys that tests make do not belong into the developer's own state folder.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="gatehouse-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)

sys.path.insert(0, str(pathlib.Path(__file__).parent))

pytest_plugins = ("plugin.seed", "plugin.collector", "plugin.order", "plugin.terminal")


def pytest_collection_finish():
    """Thousands of items stay to the end: Python's garbage collector has no need to look through them."""
    gc.collect()
    gc.freeze()
