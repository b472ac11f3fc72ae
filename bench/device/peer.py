"""micropython-ota, unchanged, updates the files of the root folder."""

import gc
import sys
from time import clock, ticks_diff, ticks_us

import start
import urequests


def run(options):
    """{"us", "cpu", "operations", "reset": whether it wanted to restart, as it does after an update}."""
    sys.modules["urequests"] = urequests
    import micropython_ota

    gc.threshold(options["threshold"])
    gc.collect()
    reset = False
    before, cpu, started = start.operations(), clock(), ticks_us()
    try:
        micropython_ota.ota_update(options["host"], "bench", options["names"], use_version_prefix=False)
    except start.Stop:
        reset = True
    us, cpu = ticks_diff(ticks_us(), started), clock() - cpu
    return {"us": us, "cpu": cpu * 1e6, "operations": start.operations() - before, "reset": reset}
