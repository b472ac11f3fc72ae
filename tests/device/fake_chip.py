"""A chip for unit tests: LittleFS on NOR flash in RAM, NVS, watchdog and reset, with a power cut at any operation.

`install()` puts `machine`, `esp32` and `network` into sys.modules and mounts /slots and /state. One operation counter
runs over both file systems, NVS, otadata and the partitions of applications, so that a sweep can cut at each of them.

`install()` is a board with one application partition, `install(ota_blocks=N)` one with two of that many (fake_ota.py);
`start(cause)` is then what happens before MicroPython: `machine.reset_cause()` tells `cause`, and the bootloader
chooses, but not at SOFT. fake_device.boot(cause) does it, and mount(), for each boot.
"""

import os
import sys

import vfs

BLOCK = 4096
PWRON, HARD, WATCHDOG, DEEPSLEEP, SOFT = 1, 2, 3, 4, 5  # machine.reset_cause()


class PowerCut(BaseException):
    pass


class Reset(BaseException):
    pass


class Power:
    """Counts operations; at number `cut` the operation is done half and the power is gone until `on()`."""

    def __init__(self):
        self.count = 0
        self.cut = None
        self.off = False

    def on(self, cut=None):
        self.count = 0
        self.cut = cut
        self.off = False

    def operation(self):
        """True when the operation that now begins is to be done half."""
        if self.off:
            raise PowerCut
        self.count += 1
        if self.count == self.cut:
            self.off = True
            return True
        return False


power = Power()


class Flash:
    def __init__(self, blocks):
        self.data = memoryview(bytearray(blocks * BLOCK))  # a view, because slice assignment to it moves no tail
        for block in range(blocks):
            self.data[block * BLOCK : (block + 1) * BLOCK] = b"\xff" * BLOCK
        self.blocks = blocks

    def readblocks(self, block, buffer, offset=0):
        if power.off:
            raise PowerCut
        at = block * BLOCK + offset
        buffer[:] = self.data[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        half = power.operation()
        at = block * BLOCK + offset
        size = len(buffer) // 2 if half else len(buffer)
        self.data[at : at + size] = memoryview(buffer)[:size]
        if half:
            raise PowerCut

    def ioctl(self, request, argument):
        if request == 4:
            return self.blocks
        if request == 5:
            return BLOCK
        if request == 6:
            half = power.operation()
            at = argument * BLOCK
            size = BLOCK // 2 if half else BLOCK
            self.data[at : at + size] = b"\xff" * size
            if half:
                raise PowerCut
        return 0


class NVS:
    store = {}

    def __init__(self, namespace):
        self.values = NVS.store.setdefault(namespace, {})

    def _get(self, key):
        if power.off:
            raise PowerCut
        if key not in self.values:
            raise OSError(-0x1102, "ESP_ERR_NVS_NOT_FOUND")
        return self.values[key]

    def _set(self, key, value):
        # ESP-IDF's NVS is old or new after a cut; which of both is what the half-done operation decides.
        if power.operation():
            if power.count % 2:
                self.values[key] = value
            raise PowerCut
        self.values[key] = value

    def get_blob(self, key, buffer):
        value = self._get(key)
        buffer[: len(value)] = value
        return len(value)

    def set_blob(self, key, value):
        self._set(key, bytes(value))

    def get_i32(self, key):
        return self._get(key)

    def set_i32(self, key, value):
        self._set(key, value)

    def commit(self):
        pass


class WDT:
    fed = 0
    timeout = None

    def __init__(self, id=0, timeout=5000):
        WDT.timeout = timeout

    def feed(self):
        WDT.fed += 1


class _Module:
    pass


devices = {}
ota = None  # fake_ota.Ota of a board that has it
_cause = [PWRON]


def install(blocks=64, ota_blocks=None):
    """Make a new, empty chip; `ota_blocks`: of each of its two application partitions."""
    global ota
    import fake_ota

    machine = _Module()
    machine.WDT = WDT
    for name, number in (("PWRON", 1), ("HARD", 2), ("WDT", 3), ("DEEPSLEEP", 4), ("SOFT", 5)):
        setattr(machine, name + "_RESET", number)
    machine.reset_cause = lambda: _cause[0]

    def reset():
        raise Reset

    machine.reset = reset
    esp32 = _Module()
    esp32.NVS = NVS
    ota = fake_ota.Ota(ota_blocks) if ota_blocks else None
    esp32.Partition = fake_ota.partition_class(ota)
    NVS.store = {}
    sys.modules["machine"] = machine
    sys.modules["esp32"] = esp32
    sys.modules["network"] = _Module()
    power.on()
    for path in ("/slots", "/state"):
        devices[path] = Flash(blocks if path == "/slots" else 16)
        vfs.VfsLfs2.mkfs(devices[path], progsize=32, readsize=32)
    mount()
    os.mkdir("/slots/a")
    os.mkdir("/slots/b")
    start()


def start(cause=PWRON):
    """What comes before MicroPython: the reset's cause, and the bootloader's choice."""
    _cause[0] = cause
    if ota and cause != SOFT:
        ota.bootloader()


def mount():
    """Mount the flash as a boot would: what was in RAM is forgotten."""
    for path, device in devices.items():
        try:
            vfs.umount(path)
        except OSError:
            pass
        vfs.mount(vfs.VfsLfs2(device, progsize=32, readsize=32), path)


def snapshot():
    """The whole chip as it is, to come back to."""
    flash = {path: bytes(device.data) for path, device in devices.items()}
    nvs = {name: dict(values) for name, values in NVS.store.items()}
    return flash, nvs, ota and ota.save()


def restore(saved):
    """Put a snapshot back and mount it."""
    flash, nvs, partitions = saved
    for path, device in devices.items():
        device.data[:] = flash[path]
    NVS.store = {name: dict(values) for name, values in nvs.items()}
    if ota:
        ota.load(partitions)
    power.on()
    mount()


def forget():
    """Forget the modules of the core, as a reset does."""
    for name in list(sys.modules):
        if name == "gatehouse" or name.startswith("gatehouse."):
            del sys.modules[name]


def tree_of(root):
    """{path: bytes} of all files under `root`."""
    found = {}
    stack = [root]
    while stack:
        folder = stack.pop()
        for item in os.ilistdir(folder):
            path = folder + "/" + item[0]
            if item[1] & 0x4000:
                stack.append(path)
            else:
                with open(path, "rb") as file:
                    found[path[len(root) + 1 :]] = file.read()
    return found
