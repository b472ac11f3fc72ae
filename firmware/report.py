"""The device's full report: what the core says (gatehouse.status) and what the application adds.

The evidence is `report`; `summary` and `sensor` tell the same to people and dashboards, unsigned. docs/report.md.
"""

import json
from binascii import hexlify

import network
from micropython import const

from gatehouse import status

# The application's keys of the private map, docs/report.cddl.
_SENSOR = const(32)
_LINK = const(33)
_WIFI = const(34)


class Reporter:
    """Gathers what is reported. `sensor` has name and unit; read() keeps the last reading in `value` and `time`."""

    def __init__(self, boot, installer, link, sensor):
        self._boot = boot
        self._installer = installer
        self._link = link
        self._sensor = sensor
        self.value = self.time = None
        self.fault = False

    def read(self):
        """Read the sensor. Returns whether its state changed: fault or none."""
        before = self.fault
        try:
            self.value = self._sensor.read()
            self.fault = False
        except OSError as error:
            print("sensor:", error)
            self.value = None
            self.fault = True
        self.time = self._boot.now()
        return self.fault != before

    def report(self, nonce=None):
        """The signed report, bytes. Answers `nonce` (8 to 64 bytes) where there is one."""
        claims = status.claims(self._boot, self._installer, nonce)
        found = claims[status.PRIVATE]
        if self.fault:
            found[status.HEALTH].append("sensor")
        found[_SENSOR] = {1: self._sensor.name, 2: self._sensor.unit, 3: self.value, 4: self.time}
        found[_LINK] = {1: self._link.connects, 2: self._link.dropped}
        found[_WIFI] = _wifi()
        return status.seal(self._boot, claims)

    def summary(self):
        """The main facts as JSON, bytes: for people, and no evidence of anything."""
        boot, update = self._boot, self._installer.state
        release = boot.release
        return json.dumps(
            {
                "signed": False,
                "id": boot.identity.id,
                "model": boot.identity.model,
                "name": release.name,
                "version": release.version,
                "slot": release.slot,
                "mode": boot.mode,
                "update": update["state"],
                "reason": update["reason"],
                "sensor_fault": self.fault,
                "boots": boot.boot_count,
                "boot_id": hexlify(boot.seed).decode(),
            }
        ).encode()

    def reading(self):
        """The last reading as JSON, bytes."""
        sensor = self._sensor
        return json.dumps({"name": sensor.name, "unit": sensor.unit, "value": self.value, "time": self.time}).encode()


def _wifi():
    station = network.WLAN(network.STA_IF)
    try:
        return {1: station.ifconfig()[0], 2: station.status("rssi")}
    except OSError:  # the connection went away meanwhile
        return {1: None, 2: None}
