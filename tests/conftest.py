"""What all tests share: device tests run inside MicroPython, random cases print their seed (tests/README.md)."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

pytest_plugins = ("plugin.seed", "plugin.collector")
