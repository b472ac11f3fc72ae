"""Run a script of tests/device_scripts inside MicroPython, beside a server of this process."""

import json
import pathlib
import subprocess

from plugin import interpreter

TESTS = pathlib.Path(__file__).resolve().parents[1]
PATH = [str(TESTS.parent / "lib"), ".frozen"]


def start(script, job, **options):
    """The process; the first line of its input is the job as JSON, with the import path added.

    (An argument would do, were MicroPython's not limited to 255 bytes.)
    """
    command = [interpreter.find(), *options.pop("flags", ()), str(TESTS / "device_scripts" / script)]
    job = {"path": [*options.pop("before", ()), *PATH], **job}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    return process


def run(script, job, timeout=60, **options):
    """What the script printed last, from JSON. A script that fails shows its traceback here."""
    process = start(script, job, **options)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{script} did not end within {timeout} s\n{out}{err}") from None
    assert process.returncode == 0, f"{script} failed\n{out}{err}"
    return json.loads(out.splitlines()[-1])
