"""ES256 in MicroPython: time of a verification beside a textbook's, size of the module, smallest heap that will do.

    python -m bench.es256

Time is the best of interleaved single verifications: neither another program's load nor the allocator's search
through a full heap decides, which costs some verifications as much again. On another machine only the ratio holds.
Heap is the smallest `-X heapsize` at which a process that holds nothing else imports the compiled module and
verifies once.
"""

import json
import pathlib
import subprocess
import tempfile

from plugin import interpreter

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULE = ROOT / "lib" / "gatehouse" / "es256.py"
NAIVE = ROOT / "bench" / "naive_es256.py"

# RFC 6979 A.2.5, SHA-256, message "sample"
KEY = (
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)
SIGNATURE = (
    "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
)

# What MicroPython runs. The arguments are key and signature in hex.
ONCE = """
import es256
key, signature = [bytes(int(t[i : i + 2], 16) for i in range(0, 128, 2)) for t in {arguments!r}]
assert es256.verify(key, b"sample", signature)
print("verified")
"""
TIMES = """
import time
from binascii import unhexlify
import es256, naive_es256
key, signature = [unhexlify(t) for t in {arguments!r}]
functions = (es256.verify, naive_es256.verify, naive_es256.verify_joint)
best = [1 << 30] * 3
for _ in range(150):
    for i, verify in enumerate(functions):
        start = time.ticks_us()
        assert verify(key, b"sample", signature)
        best[i] = min(best[i], time.ticks_diff(time.ticks_us(), start))
print([t / 1000 for t in best])
"""


def measure() -> dict[str, float]:
    """Milliseconds of one verification (ours, the textbook's, the textbook's with Shamir's trick), bytes, KiB."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        for source in (MODULE, NAIVE):
            (path / source.name).write_bytes(source.read_bytes())
        interpreter.compile_folder(path, path)
        for source in (MODULE, NAIVE):
            (path / source.name).unlink()
        ours, naive, joint = json.loads(_run(path, TIMES))
        return {
            "verify_ms": ours,
            "naive_ms": naive,
            "naive_joint_ms": joint,
            "ratio": ours / naive,
            "ratio_joint": ours / joint,
            "mpy_bytes": (path / "es256.mpy").stat().st_size,
            "heap_kib": next(size for size in range(4, 64) if "verified" in _run(path, ONCE, size)),
        }


def _run(folder: pathlib.Path, program: str, heap_kib: int | None = None) -> str:
    """The output of a program in MicroPython; with a heap size it is compiled first and may fail."""
    program = program.format(arguments=(KEY, SIGNATURE))
    command = [interpreter.find()]
    if heap_kib:
        (folder / "run").mkdir(exist_ok=True)
        (folder / "run" / "once.py").write_text(program)
        interpreter.compile_folder(folder / "run", folder)
        command += ["-X", f"heapsize={heap_kib}K", "-m", "once"]
    else:
        command += ["-c", program]
    done = subprocess.run(
        command, env={"MICROPYPATH": str(folder)}, capture_output=True, text=True, timeout=120, check=not heap_kib
    )
    return done.stdout


if __name__ == "__main__":
    found = measure()
    print("one verification    {verify_ms:.2f} ms".format(**found))
    print("a textbook's        {naive_ms:.2f} ms, ours is {ratio:.2f} of it".format(**found))
    print("with Shamir's trick {naive_joint_ms:.2f} ms, ours is {ratio_joint:.2f} of it".format(**found))
    print("compiled            {mpy_bytes} bytes".format(**found))
    print("smallest heap       {heap_kib} KiB for the import and one verification".format(**found))
