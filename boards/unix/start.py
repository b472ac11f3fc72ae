"""Runs /boot.py and /main.py as the chip does, once become.py has made this process the board.

Arguments: the file descriptors of the flash image, the shared numbers and the channel, then the address and size of
the file system's partition.
"""

import gc
import sys


def _run(path, names):
    """Run a script in the namespace `names`: b"" when it ended well or is not there, else the event that follows."""
    import os

    try:
        os.stat(path)
    except OSError:
        return b""
    try:
        execfile(path, names)  # noqa: F821 the port has it
    except SystemExit:
        return b"soft-reset"
    except BaseException as error:  # noqa: BLE001 as on the chip: printed, and then the prompt
        sys.print_exception(error)
        return b"repl"
    return b""


def _become():
    """Become the board; a function of its own, because a frame keeps alive whatever it has touched."""
    from become import board

    for name in ("become", "start"):
        del sys.modules[name]
    return board()


def run():
    """Be the board until the supervisor ends this process."""
    host = _become()
    names = __import__("__main__").__dict__
    names.clear()
    names["__name__"] = "__main__"
    gc.collect()
    host.channel.write(b"boot")
    host.end(_run("boot.py", names) or _run("main.py", names) or b"repl")
