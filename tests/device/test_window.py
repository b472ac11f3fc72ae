"""The service window: what main.py is told, and how the application leaves for it."""

import asyncio

import fake_boot
import fake_chip as chip
import test_app
from harness import raises


def opens(mode="active", wanted=60, allowed=60):
    """What slots.window() says, and the watchdog's timeout afterwards."""
    chip.install()
    from gatehouse import slots

    slots.current = boot = fake_boot.Boot(mode)
    boot.window = wanted
    boot.config.repl_s = allowed
    chip.WDT.timeout = None
    return slots.window(), chip.WDT.timeout


def test_the_watchdog_ends_a_window():
    assert opens() == (True, 60000)
    assert opens(wanted=1) == (True, 1000)
    assert opens(wanted=3600, allowed=3600) == (True, 3600000)


def test_without_a_wish_there_is_none():
    assert opens(wanted=0) == (False, None)
    assert opens(wanted=-1) == (False, None)


def test_the_configuration_has_the_last_word():
    assert opens(allowed=0) == (False, None)
    assert opens(wanted=61) == (False, None)
    assert opens(wanted=3601, allowed=10**6) == (False, None)


def test_only_a_confirmed_release_has_one():
    for mode in ("trial", "recovery", "install"):
        assert opens(mode) == (False, None)


async def test_it_is_reported_before_the_application_ends():
    boot = test_app.boot_of("active")
    app = test_app.application(boot)
    task = test_app.running(app)
    await test_app.until(lambda: app.link.count("report"), "report")
    await test_app.some_time()
    assert not app.link.closed and boot.window == 0
    app.access.operations.repl_until = 10**9
    before = app.link.count("report")
    app.open_window(30)
    with raises(Exception) as caught:
        await task
    assert type(caught.value).__name__ == "Window"
    assert boot.window == 30 and boot.restarts == 0
    assert app.link.closed and app.link.sent[-1] == "closed" and app.link.count("report") > before


async def test_without_a_broker_it_opens_too():
    boot = test_app.boot_of("active")
    app = test_app.application(boot)
    app.link.reachable = False
    task = test_app.running(app)
    await asyncio.sleep_ms(5)
    app.open_window(30)
    with raises(Exception) as caught:
        await task
    assert type(caught.value).__name__ == "Window" and not app.link.count("report")


def run_of(boot, main):
    """What app.run() does with an application whose main() is this: None, or what it raises."""
    import app

    app.Application.main = main
    try:
        return app.run(boot)
    except BaseException as error:  # noqa: BLE001 it is what is asked for
        return error


def test_an_application_returns_for_a_window_only():
    async def window(self):
        import app

        raise app.Window

    async def fault(self):
        raise ValueError("fault")

    boot = test_app.boot_of("active")
    test_app.application(boot)
    assert run_of(boot, window) is None
    assert isinstance(run_of(boot, fault), ValueError)
