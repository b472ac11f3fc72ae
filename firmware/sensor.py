"""The device's one sensor. Replace this file: keep `name`, `unit`, `kind`, `start()` and `read()`.

The example reads the temperature of the chip itself, so that it needs no wiring, or a sensor on a wire where the
device's identity names one (docs/new-board.md).
"""

import errno

import esp32
from micropython import const

_LOW, _HIGH = const(-40), const(125)  # what ESP32 chips are specified for: beyond it the sensor is wrong, not the room


class Sensor:
    """`name` and `unit` go into every reading; Home Assistant gets `kind` too, its device class, or None for none."""

    name = "temperature"
    unit = "°C"
    kind = "temperature"

    def __init__(self, wired=None):
        """`wired`: [kind, pin], or None for the chip's own."""
        self._wired = None
        if wired:
            import wired as sensors

            self._wired = sensors.Wired(wired[0], wired[1])

    def start(self):
        """Begin a measurement. Returns the ms after which read() has it; never raises for the sensor's sake."""
        return self._wired.start() if self._wired else 0

    def read(self):
        """The value now, in `unit`. OSError when the sensor gives none."""
        if self._wired:
            return self._wired.read()
        if hasattr(esp32, "mcu_temperature"):  # all chips but the first
            value = esp32.mcu_temperature()
        elif hasattr(esp32, "raw_temperature"):
            value = (esp32.raw_temperature() - 32) / 1.8  # the first ESP32 measures in degrees Fahrenheit
        else:
            raise OSError(errno.ENODEV)
        if not _LOW <= value <= _HIGH:
            raise OSError(errno.EIO)
        return value
