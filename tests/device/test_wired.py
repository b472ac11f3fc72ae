"""Sensors on a wire, against drivers like those of MicroPython's library and sensors that fail as real ones."""

import sys

from harness import raises

ROM = b"\x28\x01\x02\x03\x04\x05\x06\x07"


class Line:
    """What hangs on the wire: set by each test."""

    present = True
    value = 21.5
    raw = b"\x58\x01"
    error = None
    converted = 0
    scans = 0


class Pin:
    def __init__(self, number):
        self.number = number


class OneWireError(Exception):
    pass


class Machine:
    Pin = Pin


class OneWire:
    class OneWire:
        def __init__(self, pin):
            assert isinstance(pin, Pin) and pin.number == 4


class Ds18x20:
    class DS18X20:
        def __init__(self, line):
            self.buf = bytearray(9)

        def scan(self):
            Line.scans += 1
            return [bytearray(ROM)] if Line.present else []

        def convert_temp(self):
            if not Line.present:
                raise OneWireError
            Line.converted += 1

        def read_temp(self, rom):
            assert rom == ROM
            if Line.error:
                raise Line.error
            self.buf[:2] = Line.raw
            return Line.value


class Dht:
    class DHT22:
        def __init__(self, pin):
            assert pin.number == 4
            self.buf = bytearray(5)

        def measure(self):
            if Line.error:
                raise Line.error
            self.buf[:2] = Line.raw

        def temperature(self):
            return Line.value


def sensor(kind):
    for name, module in (("machine", Machine), ("onewire", OneWire), ("ds18x20", Ds18x20), ("dht", Dht)):
        sys.modules[name] = module
    sys.modules["esp32"] = Machine  # imported, and not asked
    for name in ("wired", "sensor"):
        sys.modules.pop(name, None)
    Line.present, Line.value, Line.raw, Line.error = True, 21.5, b"\x58\x01", None
    Line.converted = Line.scans = 0
    import sensor

    return sensor.Sensor([kind, 4])


def test_ds18b20_is_read_after_its_conversion():
    probe = sensor("ds18b20")
    assert (probe.name, probe.unit, probe.kind) == ("temperature", "°C", "temperature")
    for value in (21.5, 0.0, -55.0, 125.0):
        Line.value = value
        assert probe.start() == 750
        assert probe.read() == value
    assert Line.converted == 4 and Line.scans == 1


def test_what_a_ds18b20_held_before_is_no_reading():
    probe = sensor("ds18b20")
    with raises(OSError):
        probe.read()
    probe.start()
    assert probe.read() == 21.5
    with raises(OSError):
        probe.read()  # the same conversion twice


def test_dht22():
    probe = sensor("dht22")
    assert probe.start() == 0 and probe.read() == 21.5


def test_a_sensor_that_is_not_there_is_a_fault_and_works_when_it_comes():
    probe = sensor("ds18b20")
    Line.present = False
    assert probe.start() == 0
    with raises(OSError):
        probe.read()
    Line.present = True
    assert probe.start() == 750 and probe.read() == 21.5


def test_every_error_of_a_driver_is_a_fault_of_the_sensor():
    for kind in ("ds18b20", "dht22"):
        probe = sensor(kind)
        for error in (Exception("CRC error"), OSError(116), ValueError(), IndexError()):
            probe.start()
            Line.error = error
            with raises(OSError):
                probe.read()
            Line.error = None
            probe.start()
            assert probe.read() == 21.5


def test_a_line_at_ground_is_no_zero_degrees():
    """Nine zeros have the right CRC, five the right checksum. A real zero has other bytes that are not."""
    for kind in ("ds18b20", "dht22"):
        probe = sensor(kind)
        probe.start()
        Line.value, Line.raw = 0.0, b"\x00\x00"
        with raises(OSError):
            probe.read()
        probe.start()
        Line.raw = b"\x00\x4b"
        assert probe.read() == 0.0


def test_values_that_no_sensor_has():
    for wrong in (-55.1, 125.1, float("nan")):
        probe = sensor("ds18b20")
        probe.start()
        Line.value = wrong
        with raises(OSError):
            probe.read()
        Line.value = 20.0
        probe.start()
        assert probe.read() == 20.0


def test_a_firmware_without_the_driver_is_a_fault():
    probe = sensor("ds18b20")

    class Nothing:
        pass

    sys.modules["ds18x20"] = Nothing
    assert probe.start() == 0
    with raises(OSError):
        probe.read()


def test_no_memory_is_not_the_sensors_fault():
    probe = sensor("ds18b20")
    probe.start()
    Line.error = MemoryError()
    with raises(MemoryError):
        probe.read()
