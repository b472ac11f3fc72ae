"""HSS/LMS verification beside ES256, in MicroPython, compiled.

    python -m bench.lms

One level, height 10, both hash lengths; W4 is the design's choice, W8 is shorter and slower. Time is the best of
interleaved verifications; only the ratio holds on another machine.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
from pathlib import Path

from cases import lms
from plugin import interpreter

from . import es256
from .chip import ROOT
from .table import Row

TITLE = "Signatures"
MESSAGE = b"sample"

TIMES = """
import json, sys, time
from binascii import unhexlify
from gatehouse import es256, lms
with open(sys.argv[1]) as file:
    cases = [(name, unhexlify(key), unhexlify(signature)) for name, key, signature in json.load(file)]
best = {}
for _ in range(100):
    for name, key, signature in cases:
        verify = es256.verify if name == "es256" else lms.verify
        start = time.ticks_us()
        assert verify(key, b"sample", signature), name
        took = time.ticks_diff(time.ticks_us(), start)
        best[name] = min(best.get(name, took), took)
print(json.dumps(best))
"""


def measure() -> dict[str, int]:
    """Microseconds of one verification by name."""
    rng = random.Random(1)  # noqa: S311 a key for a measurement
    cases = [("es256", es256.KEY, es256.SIGNATURE)]
    for n in (32, 24):
        for w in (4, 8):
            leaf = lms.Leaf(rng, n, 10, w, 3)
            cases.append((f"LMS M{n} H10 W{w}", leaf.public.hex(), leaf.sign(MESSAGE).hex()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        interpreter.compile_folder(ROOT / "lib", folder)
        (folder / "cases.json").write_text(json.dumps(cases))
        (folder / "times.py").write_text(TIMES)
        done = subprocess.run(
            [interpreter.find(), str(folder / "times.py"), str(folder / "cases.json")],
            env={"MICROPYPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return dict(json.loads(done.stdout))


def rows() -> list[Row]:
    """The measurements, those of bench.es256 included."""
    found = es256.measure()
    times = measure()
    made = [
        Row(
            "ES256 / a textbook's",
            found["ratio"],
            "times",
            4 / 6.3,
            note="the design's 4 ms / 6.3 ms",
        ),
        Row("ES256 / a textbook's with Shamir's trick", found["ratio_joint"], "times"),
        Row("ES256, one verification", found["verify_ms"], "ms"),
        Row("ES256, compiled", found["mpy_bytes"], "bytes", 3072),
        Row("ES256, smallest heap for import and one verification", found["heap_kib"], "KiB", 16),
    ]
    for name, us in times.items():
        if name != "es256":
            limit = 10 if name.endswith("W4") else None
            made.append(
                Row(f"ES256 / {name}", times["es256"] / us, "times", limit, least=True, note=f"{us / 1000:.2f} ms")
            )
    return made


if __name__ == "__main__":
    for row in rows():
        print(f"{row.what:56} {row.measured:8.2f} {row.unit} {row.bound:14} {row.verdict} {row.note}")
