"""The core alone: its report gives way to an update that needs the memory, but not for ever."""

import asyncio
import sys

import fake_boot
from harness import raises
from test_app import Link, Module, Network, Wifi, until, without_memory


class Installer:
    """One that has nothing to do."""

    def __init__(self, boot, on_change):
        self.refused = None
        self.state = {"state": "idle", "reason": None, "detail": "", "digest": b"", "sequence": 0, "total": 0}


def alone(times):
    """The core alone on a device whose first reports find no memory, its broker there."""
    fake_boot.slot()
    import gatehouse

    sys.modules["network"] = Network
    for name in ("link", "installer", "wifi"):
        module = Module()
        sys.modules["gatehouse." + name] = module
        setattr(gatehouse, name, module)
    gatehouse.link.for_device, gatehouse.installer.Installer, gatehouse.wifi.run = Link, Installer, Wifi.run
    from gatehouse import recovery, status

    recovery.Recovery.PAUSE_MS = 1
    boot = fake_boot.Boot("recovery")
    boot.pending = None
    status.seal = without_memory(status.seal, times)
    core = recovery.Recovery(boot)
    core._link.connected = True
    core._changed.set()
    return core


async def test_report_that_finds_no_memory_comes_later():
    core = alone(9)
    task = asyncio.create_task(core._tell())
    await until(lambda: core._link.count("report"), "report")
    task.cancel()


async def test_ten_reports_without_memory_are_a_fault():
    core = alone(10)
    with raises(MemoryError):
        await asyncio.wait_for(core._tell(), 5)
    assert not core._link.count("report")
