"""Becomes the MicroPython process of a simulated board: `launch.py PARENT PROGRAM ARGUMENTS...`.

PROGRAM is an executable, or the folder of the PyPI module that has MicroPython inside: then this process runs it
itself, which saves the start of a second Python. Either way the kernel ends it when its supervisor ends.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and turn into MicroPython."""
    parent, program, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[2:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)
    if not os.path.isdir(program):
        os.execvp(program, arguments)  # noqa: S606 there is no shell to go through
    sys.path.insert(0, program)
    from micropython_run import run_main  # type: ignore[import-not-found]  # the program's own module

    sys.exit(run_main(arguments))


main()
