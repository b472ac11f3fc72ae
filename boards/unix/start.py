"""Runs /boot.py and /main.py as the chip does, once become.py has made this process the board.

Arguments: the file descriptors of the flash image, the shared numbers and the channel, then the address and size of
the file system's partition, and how the board was made.
"""

import gc
import sys

from micropython import const

# How the board was made, as in sim/process.py.
_TERMINAL = const(1)  # its UART has input: the REPL is a real one
_PRODUCTION = const(2)  # no REPL is ever opened, and no Ctrl-C heard
_RAW_REPL = const(4)  # the raw REPL was open before a soft reset: then main.py does not run

_SLOW_START = const(8)  # its scripts begin late

_CTRL_C = const(3)
_READS_MS = const(25)  # in which a chip would read and compile a script; longer than a step of the UART's wire


def _run(path, names, host, late):
    """Run a script in the namespace `names`: b"" when it ended well or is not there, else the event that follows.

    As on the chip, Ctrl-C interrupts it until it says otherwise, and does nothing once it has ended.
    """
    import os

    try:
        os.stat(path)
    except OSError:
        return b""
    try:
        host.interrupts(_CTRL_C)
        if late:
            import time

            time.sleep_ms(_READS_MS)
        execfile(path, names)  # noqa: F821 the port has it
        host.interrupts(-1)
    except SystemExit:
        return b"soft-reset"
    except BaseException as error:  # noqa: BLE001 as on the chip: printed, and then the prompt
        _deaf(host)
        sys.print_exception(error)
        return b"repl"
    return b""


def _deaf(host):
    """No more Ctrl-C from now on; one that comes on the way here is the same as the one before."""
    while True:
        try:
            host.interrupts(-1)
            return
        except KeyboardInterrupt:
            pass


def _become():
    """Become the board; a function of its own, because a frame keeps alive whatever it has touched."""
    from become import board

    for name in ("become", "start"):
        del sys.modules[name]
    return board()


def run():
    """Be the board until the supervisor ends this process; returns where the REPL follows."""
    host, made = _become()
    names = __import__("__main__").__dict__
    names.clear()
    names["__name__"] = "__main__"
    gc.collect()
    host.channel.write(b"boot")
    event = _run("boot.py", names, host, made & _SLOW_START)
    if not event and not made & _RAW_REPL:
        event = _run("main.py", names, host, made & _SLOW_START)
    event = event or b"repl"
    if event == b"repl" and made & _PRODUCTION:
        event = b"reset"
    elif event == b"repl" and made & _TERMINAL:
        host.prompt()
        return
    host.end(event)
