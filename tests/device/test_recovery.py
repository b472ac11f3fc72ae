"""The core alone: its report gives way to an update that needs the memory, but not for ever."""

import asyncio
import sys

import fake_boot
from harness import raises
from test_app import Installer, Link, Module, Network, Wifi, envelope, until, without_memory


def alone(times):
    """The core alone on a device whose first reports find no memory, its broker there."""
    import gatehouse

    sys.modules["network"] = Network
    for name in ("link", "installer", "wifi"):
        module = Module()
        sys.modules["gatehouse." + name] = module
        setattr(gatehouse, name, module)
    gatehouse.link.for_device, gatehouse.installer.Installer, gatehouse.wifi.run = Link, Installer, Wifi.run
    from gatehouse import offers, recovery, status

    offers.Offers.GATHER_MS, offers.Offers.PAUSE_MS = 1, 0
    recovery.Recovery.PAUSE_MS = recovery.Recovery.RETRY_MS = recovery.Recovery.FAREWELL_MS = 1
    boot = fake_boot.Boot("recovery")
    boot.pending = None
    status.seal = without_memory(status.seal, times)
    core = recovery.Recovery(boot)
    core._link.connected = True
    core._changed.set()
    return core


async def test_offer_that_is_refused_does_not_hide_the_one_that_helps():
    core = alone(0)
    installer = core._installer
    installer.answers[envelope(7)] = ["refused"]
    core._received(b"gatehouse/gh-1/offer", envelope(5))
    core._received(b"gatehouse/group/all/offer", envelope(7))
    task = asyncio.create_task(core._update())
    await until(lambda: len(installer.offered) == 2, "both")
    assert installer.offered == [envelope(7), envelope(5)]
    task.cancel()


def left(core):
    core._boot.mode = "install"
    core._boot.pending = envelope(5)
    core._link.connected = True
    return core._installer


async def test_offer_that_was_left_is_tried_and_given_up():
    for answers, tries in ((["refused"], 1), (["failed"], 3), (["failed", True], 2), ([True], 1)):
        core = alone(0)
        installer = left(core)
        installer.answers[envelope(5)] = answers
        core._received(b"gatehouse/gh-1/offer", envelope(9))  # only what was left is looked at
        assert not len(core._offers), "or it would take memory from what was left"
        await asyncio.wait_for(core._update(), 5)
        assert (installer.offered, core._boot.restarts) == ([envelope(5)] * tries, 1), answers


async def test_core_alone_answers_nonces():
    from gatehouse import cbor

    core = alone(0)
    task = asyncio.create_task(core._tell())
    await until(lambda: core._link.count("report") == 1, "report")
    core._received(b"gatehouse/gh-1/nonce", b"7 bytes")
    core._received(b"gatehouse/gh-1/nonce", b"first one")
    core._received(b"gatehouse/gh-1/nonce", b"second one")
    await until(lambda: core._link.count("report") == 3, "two answers")
    found = [cbor.loads(cbor.loads(entry[1]).value.value[2]).get(10) for entry in core._link.sent]
    assert found == [None, b"first one", b"second one"]
    task.cancel()


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
