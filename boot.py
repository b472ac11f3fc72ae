# Runs first on the chip. An exception here would skip main.py and open the REPL: everything stands inside one try.
import micropython

micropython.kbd_intr(-1)
try:
    import sys

    sys.path[:] = (".frozen", "/lib")  # never '': the root of the file system is not a place for modules
    from gatehouse import slots

    slots.boot()
except BaseException as error:
    import machine
    import sys

    sys.print_exception(error)
    machine.reset()
