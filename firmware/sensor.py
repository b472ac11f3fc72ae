"""The device's one sensor. Replace this file: keep `name`, `unit` and `read()`.

The example reads the temperature of the chip itself, so that it needs no wiring.
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

    def read(self):
        """The value now, in `unit`. OSError when the sensor gives none."""
        if hasattr(esp32, "mcu_temperature"):  # all chips but the first
            value = esp32.mcu_temperature()
        else:
            value = (esp32.raw_temperature() - 32) / 1.8  # the first ESP32 measures in degrees Fahrenheit
        if not _LOW <= value <= _HIGH:
            raise OSError(errno.EIO)
        return value
