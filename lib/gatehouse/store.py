"""Secrets and counters in NVS: what a factory writes once, and the few numbers that must outlive the file system."""

import errno

import esp32
from micropython import const

from gatehouse import Refused, cbor, mac

_MAX_BLOB = const(1024)  # bytes; the largest, a DER certificate of a P-256 key, is about half of it
_NOT_FOUND = const(-0x1102)  # ESP_ERR_NVS_NOT_FOUND


class Identity:
    """Who this device is, as the factory wrote it. vendor_id, class_id and device_id are 16-byte UUIDs (RFC 9124)."""

    def __init__(self, data):
        fields = cbor.loads(data)
        self.id = fields[1]
        self.vendor_id = fields[2]
        self.class_id = fields[3]
        self.device_id = fields[4]
        self.model = fields[5]
        self.hardware = fields[6]
        self.domain = fields.get(7, "")
        self.install_alone = fields.get(8, False)  # the board's heap does not hold the application and an update
        self.button = fields.get(9)  # pin of the board's button, low while it is held; None where there is none
        self.led = fields.get(10)  # pin of a light that people see
        self.sensor = fields.get(12)  # [kind, pin] of one that is wired to it; None for the application's default
        self.fuses = fields.get(11)  # where the chip's eFuses are, as measure.fuses() takes it; None where unknown


class Store:
    """The NVS namespace `gatehouse`. A put is one NVS write: after a power cut the value is the old or the new one."""

    def __init__(self):
        self._nvs = esp32.NVS("gatehouse")
        self._buffer = bytearray(_MAX_BLOB)  # for life: a piece of this size is hard to find later

    def blob(self, key):
        """The bytes under `key` (at most 15 characters), or None when there are none."""
        try:
            size = self._nvs.get_blob(key, self._buffer)
        except OSError as error:
            if error.errno in (_NOT_FOUND, errno.ENOENT):
                return None
            raise
        return bytes(memoryview(self._buffer)[:size])

    def put(self, key, data):
        """Write `data` under `key`, unless that is what stands there: flash is not worn for nothing."""
        if self.blob(key) != data:
            self._nvs.set_blob(key, data)
            self._nvs.commit()

    def remove(self, key):
        """Remove the blob under `key`, if it is there. NVS marks it as erased and leaves its bytes in the flash."""
        try:
            self._nvs.erase_key(key)
        except OSError as error:
            if error.errno not in (_NOT_FOUND, errno.ENOENT):
                raise
        self._nvs.commit()

    def number(self, key):
        """The 32-bit signed counter under `key`, 0 when there is none."""
        try:
            return self._nvs.get_i32(key)
        except OSError as error:
            if error.errno in (_NOT_FOUND, errno.ENOENT):
                return 0
            raise

    def put_number(self, key, value):
        """Write the counter under `key`."""
        self._nvs.set_i32(key, value)
        self._nvs.commit()

    def required(self, key):
        """Like blob(), for what a provisioned device always has. Refused("state") when it is missing."""
        data = self.blob(key)
        if data is None:
            raise Refused("state", "NVS has no '%s': provision this device" % key)
        return data

    def identity(self):
        """The device's Identity. Refused("state") when it is missing or damaged."""
        try:
            return Identity(self.required("identity"))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Refused("state", "NVS identity: %s" % error)

    def derive(self, purpose, role="", client=""):
        """32 bytes from the device key for a purpose, role and client (HKDF, RFC 5869), ended by a new owner epoch."""
        info = cbor.dumps(["gatehouse/1", purpose, role, client, self.number("epoch")])
        return mac.hkdf(self.required("device_key"), info)
