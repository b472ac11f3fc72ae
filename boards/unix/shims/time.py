"""The chip's `time`: epoch 2000, 2000-01-01 at power-on, and a clock that the supervisor can move."""

import time as _host
from time import sleep_us, ticks_add, ticks_cpu, ticks_diff, ticks_us  # noqa: F401 the module's own names

from micropython import const

from . import host

_EPOCH = const(946684800)  # 2000-01-01 in Unix seconds
_SLICE_MS = const(20)  # how soon a sleeper sees that the clock was stepped


def time_ns():
    return _host.time_ns() + host.get(host.CLOCK) * 1000 - _EPOCH * 1000000000


def time():
    return time_ns() // 1000000000


def gmtime(seconds=None):
    return _host.gmtime((time() if seconds is None else seconds) + _EPOCH)[:8]


localtime = gmtime


def mktime(fields):
    return int(_host.mktime(fields)) - _EPOCH


def ticks_ms():
    return ticks_add(_host.ticks_ms(), host.get(host.STEP))


def sleep_ms(duration):
    end = ticks_add(ticks_ms(), duration)
    while True:
        left = ticks_diff(end, ticks_ms())
        if left <= 0:
            return
        _host.sleep_ms(min(left, _SLICE_MS))


def sleep(duration):
    sleep_ms(int(duration * 1000))
