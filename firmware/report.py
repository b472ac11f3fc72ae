"""The device's full report: what the core says (gatehouse.status) and what the application adds.

The evidence is `report`; `summary` and `sensor` tell the same to people and dashboards, unsigned. docs/report.md.
"""

import json
from binascii import hexlify
from errno import EIO

import network
from micropython import const

from gatehouse import status, wifi

# The application's keys of the private map, docs/report.cddl.
_SENSOR = const(32)
_LINK = const(33)
_WIFI = const(34)
_INTERFACES = const(35)
_ACCESS = const(36)

_MOST = const(0x3FFFFFFF)  # a reading beyond it is none; infinite is beyond


class Reporter:
    """Gathers what is reported. `sensor` is sensor.Sensor; read() keeps the last reading in `value` and `time`."""

    def __init__(self, boot, installer, link, sensor, access):
        self._boot = boot
        self._installer = installer
        self._link = link
        self.sensor = sensor
        self._access = access
        self.value = self.time = None
        self.fault = False
        self.left_out = 0  # reports of this boot for which there was no memory
        self.health = []  # of the last report: why the device may not work as expected
        self.postponed = 0  # uptime in seconds until which no update is taken

    def read(self):
        """Read the sensor. Returns whether its state changed: fault or none."""
        before = self.fault
        try:
            value = self.sensor.read()
            if not -_MOST < value < _MOST:  # not a number is none, and verifiers refuse a report that says it
                raise OSError(EIO)
            self.value = value
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
        self.health = found[status.HEALTH]
        self._judge(self.health)
        if "repl" in self.health:
            claims[status.DBGSTAT] = 0
        if self.postponed > status.uptime():
            found[status.POLICY][6] = self.postponed - status.uptime()
        found[_SENSOR] = {1: self.sensor.name, 2: self.sensor.unit, 3: self.value, 4: self.time}
        found[_LINK] = self._counted()
        found[_WIFI] = _wifi()
        found[_INTERFACES] = self._access.registry.found()
        found[_ACCESS] = self._told()
        return status.seal(self._boot, claims)

    def _judge(self, health):
        """Add why the device may not work as expected to `health`, a list."""
        if self.fault:
            health.append("sensor")
        for name in self._access.registry.disagreeing():
            health.append("interface:" + name)
        if self._access.operations.repl_left():
            health.append("repl")

    def _counted(self):
        """What became of the network in this boot, with the keys of docs/report.cddl."""
        link = self._link
        return {
            1: link.connects,
            2: link.dropped,
            3: wifi.losses,
            4: self.left_out,
            5: link.oversize,
            6: dict(link.failures),
        }

    def _told(self):
        """Sessions, delays and what is open for a time, with the keys of docs/report.cddl."""
        auth = self._access.auth
        return {
            1: len(auth.sessions()),
            2: auth.fresh(),
            3: auth.lockouts(),
            4: self._access.operations.repl_left(),
        }

    def facts(self):
        """The main facts, a dict of plain values."""
        boot, update = self._boot, self._installer.state
        release = boot.release
        return {
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

    def summary(self):
        """The main facts as JSON, bytes: for people, and no evidence of anything."""
        return json.dumps(dict(self.facts(), signed=False)).encode()

    def measured(self):
        """The last reading, a dict of plain values."""
        sensor = self.sensor
        return {"name": sensor.name, "unit": sensor.unit, "value": self.value, "time": self.time}

    def signal(self):
        """The strength of the Wi-Fi signal in dBm, or None."""
        return _wifi()[2]

    def reading(self):
        """The last reading as JSON, bytes."""
        return json.dumps(self.measured()).encode()


def _wifi():
    station = network.WLAN(network.STA_IF)
    try:
        address = bytes([int(part) for part in station.ifconfig()[0].split(".")])
        return {1: address, 2: station.status("rssi")}
    except (OSError, ValueError):  # the connection went away meanwhile
        return {1: None, 2: None}
