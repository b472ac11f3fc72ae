"""Becomes the MicroPython process of a simulated board: `launch.py PARENT PROGRAM HEAP OPTION FILES ARGUMENTS...`.

OPTION is one more of MicroPython's: -i opens the REPL afterwards.
PROGRAM is an executable, or the folder of the PyPI module that has MicroPython inside. In the second case this process
runs it itself: that saves the start of another Python, and lets the board's own code lie in memory outside of the heap,
as MicroPython's read-only file system, where a chip has it in flash. It also makes SIGUSR1 what the UART's interrupt is
on a chip: KeyboardInterrupt between two steps of Python, where SIGINT raises it in the middle of C. Either way the
kernel ends this process when its supervisor ends.
"""

import ctypes
import mmap
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_START = "import start; start.run()"
_START_FROM_ROM = """import sys, uctypes, vfs
vfs.mount(vfs.VfsRom(uctypes.bytearray_at(%d, %d)), '/rom')
sys.path[:] = ['/rom', '.frozen']
import start
start.run()"""


def main() -> None:
    """Tie this process to its parent and turn into MicroPython."""
    parent, program, heap, option, files = int(sys.argv[1]), *sys.argv[2:6]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)
    line = ["micropython", "-X", f"heapsize={heap}", option, "-c"]
    if not os.path.isdir(program):
        os.environ["MICROPYPATH"] = f"{files}:.frozen"
        os.execvp(program, [*line, _START, *sys.argv[6:]])  # noqa: S606 there is no shell to go through
    with open(f"{files}/rom", "rb") as file:
        rom = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    address = ctypes.addressof(ctypes.c_char.from_buffer(rom))
    sys.path.insert(0, program)
    import micropython_run  # type: ignore[import-not-found]  # the program's own module

    libc, module = ctypes.CDLL(None), ctypes.CDLL(micropython_run.__file__)
    libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
    libc.signal(signal.SIGUSR1, ctypes.cast(module.mp_sched_keyboard_interrupt, ctypes.c_void_p))
    libc.siginterrupt(signal.SIGUSR1, 1)  # what waits for input is interrupted, too
    sys.exit(micropython_run.run_main([*line, _START_FROM_ROM % (address, len(rom)), *sys.argv[6:]]))


main()
