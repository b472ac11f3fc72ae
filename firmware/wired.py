"""Temperature sensors on a wire, by the drivers that stock firmware has frozen. Loaded where the identity names one."""

import errno

import machine
from micropython import const

_CONVERSION = const(750)  # ms a DS18B20 takes for its twelve bits
_LOW, _HIGH = const(-55), const(125)  # what a DS18B20 is specified for; a DHT22 ends earlier, at -40 and 80


class DS18B20:
    """The first DS18B20 on a 1-Wire line."""

    def __init__(self, pin):
        import ds18x20
        import onewire

        self._driver = ds18x20.DS18X20(onewire.OneWire(machine.Pin(pin)))
        self._rom = None
        self._asked = False

    def start(self):
        """Begin a measurement. Returns the ms until it can be read."""
        self._driver.convert_temp()  # raises where nothing answers
        self._asked = True
        return _CONVERSION

    def read(self):
        """Degrees Celsius of the measurement begun before."""
        if not self._asked:
            self.start()
            raise OSError(errno.EAGAIN)  # what the sensor holds now may be of any time
        self._asked = False
        if self._rom is None:
            self._rom = self._driver.scan()[0]
        value = self._driver.read_temp(self._rom)  # checks the CRC, which nine zeros of a line at ground have too
        if not any(self._driver.buf):
            raise OSError(errno.EIO)
        return value


class DHT22:
    """A DHT22 (AM2302), which measures humidity too; a reading here is one value."""

    def __init__(self, pin):
        import dht

        self._driver = dht.DHT22(machine.Pin(pin))

    def start(self):
        """There is nothing to begin: it answers with the measurement of the time before."""
        return 0

    def read(self):
        """Degrees Celsius."""
        self._driver.measure()  # checks the checksum, which five zeros of a line at ground have too
        if not any(self._driver.buf):
            raise OSError(errno.EIO)
        return self._driver.temperature()


KINDS = {"ds18b20": DS18B20, "dht22": DHT22}


class Wired:
    """One of KINDS on a pin. What its driver raises, of any kind, is an OSError: a sensor's fault is no program's."""

    def __init__(self, kind, pin):
        self._kind, self._pin = kind, pin
        self._probe = None  # made at the first use, and again after a fault: it may have been plugged in since

    def start(self):
        """Begin a measurement. Returns the ms until it can be read."""
        try:
            return self._found().start()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - drivers raise bare ones
            print("sensor:", repr(error))
            return 0  # read() tries again, and says it

    def read(self):
        """Degrees Celsius. OSError when there are none."""
        try:
            value = self._found().read()
            if not _LOW <= value <= _HIGH:
                raise ValueError(value)
            return value
        except (OSError, MemoryError):
            self._probe = None
            raise
        except Exception as error:  # noqa: BLE001 - drivers raise bare ones
            self._probe = None
            print("sensor:", repr(error))
            raise OSError(errno.EIO)

    def _found(self):
        if self._probe is None:
            self._probe = KINDS[self._kind](self._pin)
        return self._probe
