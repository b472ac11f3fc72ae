"""Makes this process the board, then runs /boot.py and /main.py as the chip does.

Arguments: the file descriptors of the flash image, the shared numbers and the channel, then the address and size of
the file system's partition.
"""

import gc
import sys

_SHIMS = ("time", "os", "vfs", "select", "socket", "machine", "ussl")
_REMOTE = ("esp32", "network")


def _become():
    """Replace what the unix port has by what the chip has. Returns the way to the supervisor, which nobody else has."""
    import os

    import vfs
    from shims import flash, host

    image, numbers, channel, address, size = (int(text) for text in sys.argv[1:])
    system = os.system
    host.attach(open(numbers, "r+b"), open(channel, "r+b"), lambda: system("kill -9 $PPID"))
    flash.attach(open(image, "r+b"))
    for name in _SHIMS + _REMOTE:
        module = host.Remote(name) if name in _REMOTE else __import__("shims." + name, None, None, ("*",))
        sys.modules[name] = module
        if name[0] != "u":
            sys.modules["u" + name] = module  # else that name would still lead to the unix port's module
    try:
        __import__("umqtt.simple")  # frozen into stock firmware, so that it is there without a file
    except ImportError:
        pass
    for name in list(sys.modules):
        if name == "start" or name.startswith("shims"):
            del sys.modules[name]
    del sys.argv[:]
    sys.path[:] = ("", ".frozen", "/lib")
    os.umount("/")
    os.mount(vfs.VfsLfs2(flash.Disk(address, size), progsize=32, readsize=32), "/")
    os.chdir("/")
    return host


def _run(path, names):
    """Run a script in the namespace `names`: "" when it ended well or is not there, else the event that follows."""
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


def run():
    """Be the board until the supervisor ends this process."""
    try:
        host = _become()
    except OSError as error:
        sys.print_exception(error)
        return  # the supervisor reports that the process has ended
    names = __import__("__main__").__dict__
    names.clear()
    names["__name__"] = "__main__"
    gc.collect()
    host.tell(b"boot")
    host.end(_run("boot.py", names) or _run("main.py", names) or b"repl")
