"""What `make bench` measures, each beside its limit or a peer. The modules of the tests and the tools are in reach."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT / "tests"), str(_ROOT / "tools")]
