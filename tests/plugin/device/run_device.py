"""Runs one test function inside MicroPython: `-m run_device FILE_STEM FUNCTION PATH...`.

The last line of stdout is the verdict. A process that ends without one has failed, whatever its exit code.
This file is small, and leaves the harness to those tests that import it, because some tests get a 16 KiB heap.
"""

import sys


def run(stem, function):
    try:
        result = getattr(__import__(stem), function)()
        if hasattr(result, "send"):  # an async test
            import asyncio

            asyncio.run(result)
    except BaseException as error:  # noqa: BLE001 SystemExit too: a test that ends the program has not passed
        if type(error).__name__ == "Skip":
            return "skipped " + str(error).replace("\n", " ")
        sys.print_exception(error, sys.stdout)
        return "failed"
    return "passed"


sys.path[:] = sys.argv[3:]
print("\n\x1everdict " + run(sys.argv[1], sys.argv[2]))
