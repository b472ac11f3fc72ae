# Runs first on the chip. An exception here would skip main.py and open the REPL: everything stands inside one try.
import micropython

micropython.kbd_intr(-1)
try:
    import sys

    sys.path[:] = (".frozen", "/lib")  # never '': the root of the file system is not a place for modules
    from gatehouse import memory

    memory.settle()
    from gatehouse import slots

    slots.boot()
except BaseException as error:
    import sys

    import machine

    try:
        sys.print_exception(error)
    finally:
        machine.reset()
