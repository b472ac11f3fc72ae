"""Becomes a chip for one measurement: `start.run()` with the arguments SCRIPT IMAGE NUMBERS.

The file system is the image, on the flash model of the simulated board, at "/". This code, the flash model and the
script lie in a read-only file system outside of the heap. NVS is a dict, and is in the heap.
"""

import json
import sys


class _Nothing:
    pass


class WDT:
    def __init__(self, id=0, timeout=5000):
        pass

    def feed(self):
        pass


class NVS:
    values = {}

    def __init__(self, namespace):
        pass

    def _get(self, key):
        if key not in self.values:
            raise OSError(-0x1102, "ESP_ERR_NVS_NOT_FOUND")
        return self.values[key]

    def get_blob(self, key, buffer):
        value = self._get(key)
        buffer[: len(value)] = value
        return len(value)

    def set_blob(self, key, value):
        self.values[key] = bytes(value)

    get_i32 = _get

    def set_i32(self, key, value):
        self.values[key] = value

    def commit(self):
        pass


class Stop(BaseException):
    """The end of a run: machine.reset()."""


def _reset():
    raise Stop


def _chip(clock):
    machine, esp32, wifi = _Nothing(), _Nothing(), _Nothing()
    machine.WDT = WDT
    machine.reset_cause = lambda: 1
    machine.reset = _reset
    esp32.NVS = NVS
    wifi.now = lambda: clock
    sys.modules["machine"] = machine
    sys.modules["esp32"] = esp32
    sys.modules["gatehouse.wifi"] = wifi  # the clock, without what sets it


def operations():
    """Flash operations until now."""
    from shims import host

    return host.get(1)


def run():
    """Be the chip, and do what the script says. Never returns; NUMBERS.json has the options, and then the result."""
    import os

    import vfs
    from shims import flash, host

    name, image, numbers = sys.argv[1:4]
    with open(numbers + ".json") as file:
        options = json.load(file)
    script = __import__(name)
    host.numbers = open(numbers, "r+b")
    host.system = os.system
    out = open(numbers + ".json", "w")

    def tell(found):
        """Give the result, and be gone: nothing may be finalised now that the flash model is in pieces."""
        out.write(json.dumps(found))
        out.close()
        while True:
            host.system("kill -9 $PPID")

    flash_file = open(image, "r+b")

    def end(event):
        """The power goes, or there was an impossible program: nobody else has to be told."""
        if event.startswith(b"cut "):  # in an erase: half of the sector
            flash_file.seek(int(event[4:]))
            flash_file.write(b"\xff" * 2048)
        tell({"end": event.decode()})

    host.end = end
    disk = flash.Disk(flash_file, 0, options["size"])
    os.umount("/")
    if not options.get("rom"):
        os.umount("/rom")
    os.mount(vfs.VfsLfs2(disk, progsize=32, readsize=32), "/")
    os.chdir("/")
    sys.path[:] = ("", ".frozen", "/rom" if options.get("rom") else "/lib")
    for key, value in options.get("nvs", {}).items():
        NVS.values[key] = bytes.fromhex(value)
    _chip(options.get("now"))
    try:
        found = script.run(options)
    except MemoryError:
        found = {"end": "MemoryError"}
    tell(found)
