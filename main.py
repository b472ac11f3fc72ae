# Runs second. Whatever the application does, the next thing is a reset: the REPL only where slots.window() opens it.
import micropython

micropython.kbd_intr(-1)
import machine

opened = None
try:
    try:
        from gatehouse import slots

        slots.run()
        opened = slots.window()
    except BaseException as error:
        import sys

        sys.print_exception(error)
finally:
    try:
        micropython.kbd_intr(-1)  # the application may have let Ctrl-C in
    finally:
        while opened is not True:
            machine.reset()
