"""Make the project's virtual environment and have what it needs installed: `environment.py demo|test|lint|bench`.

This file runs under whatever `python3` the machine has, so it keeps to syntax that old Pythons can parse: that is
what lets it say "too old" in one line. The rest (packages.py) runs inside the environment.
"""

import contextlib
import fcntl
import json
import locale
import os
import platform
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, ".venv")
MARKER = os.path.join(VENV, "gatehouse-setup.json")  # written last: without it the environment is not finished
OLDEST = (3, 11)
WHEEL_PYTHON = (3, 11)  # the only CPython that PyPI's MicroPython wheel fits
GET_MICROPYTHON = (
    "install uv, or CPython 3.11 and run make with PYTHON=python3.11 (both on Linux x86-64), "
    "or put a MicroPython 1.24 or newer, unix port, on PATH as `micropython`"
)
# What the device side cannot do without; MicroPython's standard unix build has all three.
MICROPYTHON_PROBE = "import vfs, tls, asyncio; vfs.VfsLfs2"


class SetupError(Exception):
    """Set-up cannot go on; the text is the one line that the user sees."""


def say(text):
    """Tell the user what goes on, on stderr: stdout belongs to the command that runs after set-up."""
    sys.stderr.write("Set-up: " + text + "\n")
    sys.stderr.flush()


def output_of(command):
    """Standard output of a command, or None when it does not run or fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def wheel_platform():
    """Whether PyPI's MicroPython wheel fits this machine, whatever its Python."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"


def micropython_on_path():
    """The path of a `micropython` that can run the device side, or None."""
    found = shutil.which("micropython")
    return found if found and output_of([found, "-c", MICROPYTHON_PROBE]) is not None else None


def has_venv():
    """Whether this Python can make an environment with pip in it (Debian ships that part as python3-venv)."""
    return output_of([sys.executable, "-c", "import venv, ensurepip"]) is not None


def choose():
    """How to make the environment: "venv" with this Python, or "uv" with CPython 3.11.

    Raises SetupError with the line for the user when there is no way on this machine.
    """
    version = "%d.%d" % sys.version_info[:2]
    uv = shutil.which("uv") if wheel_platform() else None
    fits = wheel_platform() and sys.version_info[:2] == WHEEL_PYTHON and platform.python_implementation() == "CPython"
    if uv and not (fits and has_venv()):
        return "uv"
    if sys.version_info[:2] < OLDEST:
        raise SetupError(
            "Python 3.11 or newer is needed and %s is %s: name another with PYTHON=..., or install uv"
            % (sys.executable, version)
        )
    if not has_venv():
        raise SetupError("Python's venv module is missing: apt-get install python3-venv, then run make again")
    if not fits and not micropython_on_path():
        reason = "PyPI has no MicroPython for Python %s on %s" % (version, platform.machine())
        raise SetupError(reason + " and none on PATH serves: " + GET_MICROPYTHON)
    return "venv"


def check_spelling():
    """CPython before 3.13 reads the path of this clone, in .venv, by the locale: it would not even start."""
    if sys.version_info[:2] >= (3, 13):
        return
    try:
        spelt = os.fsencode(ROOT).decode(locale.nl_langinfo(locale.CODESET)) == os.fsencode(ROOT).decode("utf-8")
    except (LookupError, UnicodeDecodeError):
        spelt = False
    if not spelt:
        raise SetupError("the locale cannot spell the path of this clone: export LC_ALL=C.UTF-8, or another path")


@contextlib.contextmanager
def alone():
    """Keep a second set-up of this clone (another terminal, make -j) waiting until this one is done."""
    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    with open(os.path.join(ROOT, "build", "setup.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up of this clone")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def usable():
    """Whether .venv is there, finished, where it was made (its scripts hold absolute paths), and its Python runs."""
    try:
        with open(MARKER) as file:
            marker = json.load(file)
    except (OSError, ValueError):
        return False
    return marker.get("path") == VENV and os.access(os.path.join(VENV, "bin", "python"), os.X_OK)


def make():
    """Create .venv afresh, with pip in it."""
    way = choose()
    if way == "uv":
        say("making .venv with CPython 3.11 by uv, because the MicroPython wheel fits only that")
        command = ["uv", "venv", "--quiet", "--seed", "--python", "3.11", VENV]
    else:
        say("making .venv with Python %s" % platform.python_version())
        command = [sys.executable, "-m", "venv", VENV]
    if os.path.isdir(VENV):
        shutil.rmtree(VENV)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
        raise SetupError("%s could not make .venv: %s" % (way, lines[-1].strip() if lines else "no reason given"))
    with open(MARKER, "w") as file:
        json.dump({"path": VENV, "way": way}, file)


def main(wanted):
    """Bring the environment up to date for "demo", "test", "lint" or "bench"; the exit code for make."""
    started = time.time()
    try:
        if not os.access(ROOT, os.W_OK):
            raise SetupError("%s is not writable: work in a clone of your own" % ROOT)
        check_spelling()
        with alone():
            if not usable():
                make()
            packages = os.path.join(os.path.dirname(os.path.abspath(__file__)), "packages.py")
            code = subprocess.call([os.path.join(VENV, "bin", "python"), packages, wanted])
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        say("%s: %s" % (error.filename or "the environment", error.strerror))
        return 1
    except KeyboardInterrupt:
        say("stopped; run make again to go on")
        return 130
    if code == 0:
        say("ready for %s in %.1f s" % (wanted, time.time() - started))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
