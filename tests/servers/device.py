"""Run a script of tests/device_scripts inside MicroPython, beside a server of this process."""

import contextlib
import json
import pathlib
import queue
import subprocess
import threading

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
    assert process.stdin
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


class Session:
    """A script that goes on: tell() gives it a line, get() waits for the next event of a kind."""

    def __init__(self, script, job, **options):
        self.process = start(script, job, **options)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.seen = []

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def tell(self, *command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def get(self, kind, timeout=20):
        """The rest of the next event [kind, ...]; others before it go to `seen`."""
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                raise AssertionError(f"no {kind} within {timeout} s; before: {self.seen}") from None
            assert line is not None, f"ended before {kind}\n{self.process.stderr.read()}"
            try:
                event = json.loads(line)
            except ValueError:
                event = ["text", line]
            if event[0] == kind:
                return event[1:]
            self.seen.append(event)

    def ask(self, *command):
        """tell() and get() of the same name; the first thing told."""
        self.tell(*command)
        return self.get(command[0])[0]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        """The script must end by itself when there are no more commands."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            if kind is None:
                raise AssertionError("the script did not end") from None
        error = self.process.stderr.read()
        self._reader.join(5)
        self.process.stdout.close()
        self.process.stderr.close()
        assert kind is not None or self.process.returncode == 0, error
