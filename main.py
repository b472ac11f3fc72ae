# Runs second. Whatever the application does, the next thing is a reset, never the REPL.
import micropython

micropython.kbd_intr(-1)
try:
    from gatehouse import slots

    slots.run()
except BaseException as error:
    import sys

    sys.print_exception(error)
import machine

machine.reset()
