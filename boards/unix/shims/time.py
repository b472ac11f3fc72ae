"""The chip's `time`: epoch 2000, 2000-01-01 at power-on, and a clock that the supervisor can move."""

import time as _host
from time import sleep_us, ticks_add, ticks_cpu, ticks_diff, ticks_us  # noqa: F401 the module's own names

from micropython import const

from . import host

_CLOCK = const(2)  # shared number: microseconds, the RTC's Unix time minus the host's
_STEP = const(3)  # shared number: milliseconds added to ticks_ms()
_EPOCH_US = const(946684800000000)  # 2000-01-01 in Unix time
_SLICE_MS = const(20)  # how soon a sleeper sees that the clock was stepped


def time():
    return (_host.time_ns() // 1000 + host.get(_CLOCK) - _EPOCH_US) // 1000000


def ticks_ms():
    return ticks_add(_host.ticks_ms(), host.get(_STEP))


def sleep_ms(duration):
    end = ticks_add(ticks_ms(), duration)
    while True:
        left = ticks_diff(end, ticks_ms())
        if left <= 0:
            return
        _host.sleep_ms(min(left, _SLICE_MS))
        if host.interruptible:
            host.take()


def sleep(duration):
    sleep_ms(int(duration * 1000))


def __getattr__(name):
    return host.ask(("time", name))
