"""What a chip has in C, under the names and with the errors of MicroPython on ESP32: esp32, network, machine, ...

The device's modules of these names ask for it through boards/unix/shims/host.py. It lies on this side because on a
chip it takes nothing of the firmware's heap. A name that begins with "_" is out of the device's reach.
"""

from __future__ import annotations

import ast
import calendar
import time
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, cast

from ..image.partitions import APP, DATA, Partition
from .flash import SECTOR, Flash
from .nvs import Nvs, NvsError
from .ota import Ota

MICROPYTHON = "1.29.0"
EPOCH = 946684800  # 2000-01-01 in Unix seconds: what ESP32 counts from, and where its clock starts


class Bench(Protocol):
    """What the chip needs from the board around it."""

    cause: int
    unique_id: bytes
    kind: str
    celsius: float
    access_point: bool
    address: str
    signal: int
    pins: dict[int, bool]
    fuses: dict[int, int]

    def clock(self) -> float:
        """The RTC, in Unix seconds."""

    def set_clock(self, unix: float) -> None:
        """Set it."""

    def link(self, up: bool) -> None:
        """Tell the sockets whether packets go through."""

    def interrupt(self, character: int) -> None:
        """That character on the UART is a KeyboardInterrupt; -1 for none."""

    def prompt(self) -> None:
        """The REPL opens."""


class Error(Exception):
    """An exception to raise in the device: the name of its class, and its arguments."""

    def __init__(self, kind: str, *arguments: object) -> None:
        super().__init__(kind, *arguments)
        self.kind = kind
        self.arguments = arguments


class Partitions:
    """esp32.Partition: the class."""

    BOOT, RUNNING = 0, 1
    TYPE_APP, TYPE_DATA = APP, DATA

    def __init__(self, flash: Flash, table: list[Partition], ota: Ota, running: Partition | None) -> None:
        self._flash, self._table, self._ota, self._running = flash, table, ota, running

    def __call__(self, id: int | str, block_size: int = SECTOR) -> OnePartition:
        if isinstance(id, str):
            rows = [row for kind in (APP, DATA) for row in self._table if row.type == kind and row.name == id]
            return self._one(rows[0] if rows else None, block_size)
        if id == self.BOOT:
            return self._one(self._ota.boot_partition(), block_size)
        if id == self.RUNNING:
            return self._one(self._running, block_size)
        raise Error("ValueError")

    def find(
        self,
        type: int = APP,
        subtype: int = 0xFF,
        label: str | None = None,
        block_size: int = SECTOR,
    ) -> list[OnePartition]:
        rows = [row for row in self._table if row.type == type and subtype in (0xFF, row.subtype)]
        return [self._one(row, block_size) for row in rows if label in (None, row.name)]

    def mark_app_valid_cancel_rollback(self) -> None:
        if not self._ota.mark_valid():
            raise Error("OSError", -1, "ESP_FAIL")

    def _one(self, row: Partition | None, block_size: int = SECTOR) -> OnePartition:
        if row is None:
            raise Error("OSError", 2)  # ENOENT
        if block_size != SECTOR:
            raise Error("ValueError", "the simulated board has blocks of 4096 bytes only")
        return OnePartition(self, row)


class OnePartition:
    """esp32.Partition: an object."""

    def __init__(self, all_of_them: Partitions, row: Partition) -> None:
        self._all, self._row = all_of_them, row
        self._flash = all_of_them._flash
        self.mark_app_valid_cancel_rollback = all_of_them.mark_app_valid_cancel_rollback

    def info(self) -> tuple[object, ...]:
        row = self._row
        return row.type, row.subtype, row.offset, row.size, row.name, bool(row.flags & 1)

    def readblocks(self, block: int, size: int, offset: int = 0) -> bytes:
        return self._flash.read(self._address(block, offset, size), size)

    def writeblocks(self, block: int, data: bytes, offset: int | None = None) -> None:
        address = self._address(block, offset or 0, len(data))
        if offset is None:
            if len(data) % SECTOR:
                raise Error("OSError", -0x104, "ESP_ERR_INVALID_SIZE")  # only whole sectors can be erased
            for at in range(address, address + len(data), SECTOR):
                self._flash.erase(at)
        self._flash.program(address, data)

    def ioctl(self, command: int, argument: int) -> int | None:
        if command == 4:
            return self._row.size // SECTOR
        if command == 5:
            return SECTOR
        if command == 6:
            self._flash.erase(self._address(argument, 0, SECTOR))
        return 0 if 1 <= command <= 6 else None

    def set_boot(self) -> None:
        if self._row.type != APP:
            raise Error("OSError", -0x102, "ESP_ERR_INVALID_ARG")
        if not self._all._ota.has_otadata:
            raise Error("OSError", -0x105, "ESP_ERR_NOT_FOUND")
        if not self._all._ota.set_boot(self._row):
            raise Error("OSError", -0x1503, "ESP_ERR_OTA_VALIDATE_FAILED")

    def get_next_update(self) -> OnePartition:
        return self._all._one(self._all._ota.next_update(self._row))

    def _address(self, block: int, offset: int, size: int) -> int:
        at = block * SECTOR + offset
        if at < 0 or at + size > self._row.size:
            raise Error("OSError", -0x104, "ESP_ERR_INVALID_SIZE")
        return self._row.offset + at


class Namespace:
    """esp32.NVS."""

    def __init__(self, nvs: Nvs | None, namespace: str) -> None:
        if nvs is None:
            raise Error("OSError", -0x110F, "ESP_ERR_NVS_PART_NOT_FOUND")
        self._nvs, self._space = nvs, nvs.open(namespace)

    def get_i32(self, key: str) -> int:
        return self._nvs.get_i32(self._space, key)

    def set_i32(self, key: str, value: int) -> None:
        if not -(1 << 31) <= value < 1 << 31:
            raise Error("OverflowError", "overflow converting long int to machine word")
        self._nvs.set_i32(self._space, key, value)

    def get_blob(self, key: str, size: int) -> bytes:
        data = self._nvs.get_blob(self._space, key)
        if len(data) > size:
            raise NvsError(0x110C, "ESP_ERR_NVS_INVALID_LENGTH")
        return data

    def set_blob(self, key: str, data: bytes) -> None:
        self._nvs.set_blob(self._space, key, data)

    def erase_key(self, key: str) -> None:
        self._nvs.erase_key(self._space, key)

    def commit(self) -> None:
        """Nothing is left to do: as in ESP-IDF, every change is on flash already."""


class Esp32:
    """The module esp32."""

    def __init__(self, bench: Bench, nvs: Nvs | None, partitions: Partitions) -> None:
        self._bench, self._nvs = bench, nvs
        self.Partition = partitions

    def NVS(self, namespace: str) -> Namespace:
        return Namespace(self._nvs, namespace)

    def mcu_temperature(self) -> int:
        return int(self._bench.celsius + 0.5)


class Interface:
    """network.WLAN: an interface. Of the air there is one access point, which takes any password."""

    def __init__(self, network: Network, number: int) -> None:
        self._network, self._number = network, number
        self._active = self._wanted = False
        self._settings: dict[str, object] = {"ssid": "", "channel": 1, "security": 0, "pm": 1, "txpower": 20.0}
        self._settings |= {"hidden": False, "key": "", "max_clients": 4} if number else {"reconnects": -1}

    def active(self, on: object = None) -> bool:
        if on is not None:
            self._active = bool(on)
            self._wanted = self._wanted and self._active
            self._network._update()
        return self._active

    def connect(self, ssid: str | None = None, key: str | None = None, *, bssid: bytes | None = None) -> None:
        self._require(0)
        if not self._active:
            raise Error("OSError", "Wifi Not Started")
        if ssid is not None:
            self._settings["ssid"] = ssid
        self._wanted = True
        self._network._update()

    def disconnect(self) -> None:
        self._wanted = False
        self._network._update()

    def isconnected(self) -> bool:
        return not self._number and self._network._linked()

    def status(self, what: str | None = None) -> object:
        if what == "rssi":
            self._require(0)
            if not self.isconnected():
                raise Error("OSError", "Wifi Not Connected")
            return self._network._bench.signal
        if what == "stations":
            self._require(1)
            return []
        if what is not None:
            raise Error("ValueError", "unknown status param")
        if self._number:
            return None
        if self.isconnected():
            return Network.STAT_GOT_IP
        return Network.STAT_NO_AP_FOUND if self._wanted else Network.STAT_IDLE

    def scan(self) -> list[object]:
        if not self._network._interfaces[0]._active:
            raise Error("OSError", "STA must be active")
        return [(b"simulated", b"\x02\0\0\0\0\x01", 1, -50, 3, False)] if self._network._bench.access_point else []

    def config(self, *names: str, **values: object) -> object:
        if values:
            if names:
                raise Error("TypeError", "either pos or kw args are allowed")
            for name, value in values.items():
                if name in ("hostname", "dhcp_hostname"):
                    self._network.hostname(str(value))
                else:
                    self._settings[self._setting(name)] = value
            return None
        if len(names) != 1:
            raise Error("TypeError", "can query only one param")
        if names[0] == "mac":
            mac = int.from_bytes(self._network._bench.unique_id, "big") + self._number
            return mac.to_bytes(6, "big")
        if names[0] in ("hostname", "dhcp_hostname"):
            return self._network.hostname()
        return self._settings[self._setting(names[0])]

    def ifconfig(self, config: object = None) -> tuple[str, ...] | None:
        if config is not None:
            return None  # this station lives on the host's loopback, whatever address it is given
        given = (self._network._bench.address, "255.0.0.0", "127.0.0.1", "127.0.0.1")
        return given if self.isconnected() else ("0.0.0.0",) * 4  # noqa: S104

    def ipconfig(self, *names: str, **values: object) -> object:
        if values:
            return None
        address, mask, gateway, _ = self.ifconfig() or ("",) * 4
        known = {"addr4": (address, mask), "gw4": gateway, "dhcp4": True}
        if len(names) != 1 or names[0] not in known:
            raise Error("ValueError", "unexpected key")
        return known[names[0]]

    def _setting(self, name: str) -> str:
        name = {"essid": "ssid", "authmode": "security", "password": "key"}.get(name, name)
        if name not in self._settings:
            raise Error("ValueError", "unknown config param")
        return name

    def _require(self, number: int) -> None:
        if self._number != number:
            raise Error("OSError", "AP required" if number else "STA required")


class Interfaces:
    """network.WLAN: the class."""

    IF_STA, IF_AP = 0, 1
    PM_NONE, PM_PERFORMANCE, PM_POWERSAVE = 0, 1, 2
    SEC_OPEN, SEC_WPA2, SEC_WPA3 = 0, 3, 6

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, id: int = 0) -> Interface:
        if id not in (0, 1):
            raise Error("ValueError", "invalid WLAN interface identifier")
        return self._network._interfaces[id]


class Network:
    """The module network."""

    STA_IF, AP_IF = 0, 1
    STAT_IDLE, STAT_CONNECTING, STAT_GOT_IP = 1000, 1001, 1010
    STAT_BEACON_TIMEOUT, STAT_NO_AP_FOUND, STAT_WRONG_PASSWORD = 200, 201, 202
    STAT_ASSOC_FAIL = STAT_CONNECT_FAIL = 203
    STAT_HANDSHAKE_TIMEOUT = 204
    AUTH_OPEN, AUTH_WPA2_PSK = 0, 3

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._interfaces = [Interface(self, 0), Interface(self, 1)]
        self._hostname = "mpy-esp32"
        self._country = "XX"
        self.WLAN = Interfaces(self)

    def hostname(self, name: str | None = None) -> str | None:
        if name is None:
            return self._hostname
        if len(name) > 32:
            raise Error("ValueError")
        self._hostname = name
        return None

    def country(self, code: str | None = None) -> str | None:
        if code is None:
            return self._country
        if len(code) != 2:
            raise Error("ValueError")
        self._country = code
        return None

    def _linked(self) -> bool:
        station = self._interfaces[0]
        return station._active and station._wanted and self._bench.access_point

    def _update(self) -> None:
        self._bench.link(self._linked())


class Rtc:
    """machine.RTC: (year, month, day, weekday, hours, minutes, seconds, microseconds)."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def datetime(self, fields: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
        if fields is None:
            now = self._bench.clock()
            at = time.gmtime(now)
            day = (at.tm_year, at.tm_mon, at.tm_mday, at.tm_wday)
            return (*day, at.tm_hour, at.tm_min, at.tm_sec, int(now % 1 * 1000000))
        year, month, day_of_month, _, hour, minute, second, micro = fields
        self._bench.set_clock(calendar.timegm((year, month, day_of_month, hour, minute, second)) + micro / 1000000)
        return None

    def init(self, fields: tuple[int, ...]) -> None:
        year, month, day, hour, minute, second, micro, _ = fields
        self.datetime((year, month, day, 0, hour, minute, second, micro))


class Pin:
    """machine.Pin: an object. An output keeps what it is given, an input has the level that the bench gives it."""

    IN, OUT, OPEN_DRAIN = 1, 3, 7
    PULL_DOWN, PULL_UP = 1, 2

    def __init__(self, bench: Bench, id: int, mode: int = -1, pull: int = -1, value: object = None) -> None:
        self._bench, self._id = bench, id
        self._mode, self._level = self.IN, 0
        self.init(mode, pull, value)

    def init(self, mode: int = -1, pull: int = -1, value: object = None) -> None:
        if mode != -1:
            self._mode = mode
        if value is not None:
            self._level = int(bool(value))

    def value(self, level: object = None) -> int | None:
        if level is not None:
            self._level = int(bool(level))
            return None
        return self._level if self._mode == self.OUT else int(self._bench.pins.get(self._id, True))

    __call__ = value

    def on(self) -> None:
        self.value(1)

    def off(self) -> None:
        self.value(0)


class Pins:
    """machine.Pin: the class."""

    IN, OUT, OPEN_DRAIN = Pin.IN, Pin.OUT, Pin.OPEN_DRAIN
    PULL_DOWN, PULL_UP = Pin.PULL_DOWN, Pin.PULL_UP

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def __call__(self, *arguments: Any, **values: Any) -> Pin:
        return Pin(self._bench, *arguments, **values)


FUSES = {  # where block 0 of the eFuses can be read; the offset and the six words of the later chips are the same
    "esp32": range(0x3FF5A000, 0x3FF5A01C, 4),
    "esp32s3": range(0x6000702C, 0x60007044, 4),
    "esp32c3": range(0x6000882C, 0x60008844, 4),
    "esp32c6": range(0x600B082C, 0x600B0844, 4),
}


class Memory:
    """machine.mem32: the registers of the eFuses can be read, and nothing else is there."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def item(self, address: int) -> int:
        """The 32-bit word at an address."""
        if address not in FUSES[self._bench.kind]:
            raise Error("RuntimeError", f"Guru Meditation Error: load from {address:#x}")
        return self._bench.fuses.get(address, 0)


class Machine:
    """The module machine, but for what the device does itself: reset(), soft_reset() and WDT."""

    PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.Pin = Pins(bench)
        self.mem32 = Memory(bench)

    def reset_cause(self) -> int:
        return self._bench.cause

    def unique_id(self) -> bytes:
        return self._bench.unique_id

    def freq(self, hertz: int | None = None) -> int | None:
        return 240000000 if hertz is None else None

    def RTC(self) -> Rtc:
        return Rtc(self._bench)

    def idle(self) -> None:
        """Nothing else waits for this processor."""

    def disable_irq(self) -> int:
        return 0

    def enable_irq(self, state: int) -> None:
        """There are no interrupts."""


class Time:
    """What the module time has beyond what the device does itself: dates. Seconds count from 2000-01-01."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def gmtime(self, seconds: int | None = None) -> tuple[int, ...]:
        at = time.gmtime(self._bench.clock() if seconds is None else seconds + EPOCH)
        return (*at[:6], at.tm_wday, at.tm_yday)

    localtime = gmtime

    def mktime(self, fields: tuple[int, ...]) -> int:
        return calendar.timegm(fields[:6]) - EPOCH

    def time_ns(self) -> int:
        return int((self._bench.clock() - EPOCH) * 1e9)


class Uart:
    """What the device says about its UART."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def interrupt(self, character: int) -> None:
        self._bench.interrupt(character)

    def prompt(self) -> None:
        self._bench.prompt()


class Os:
    """What the module os has beyond the file system."""

    def uname(self) -> tuple[str, ...]:
        version = f"v{MICROPYTHON} on the unix port"
        return "esp32", "esp32", MICROPYTHON, version, "Gatehouse simulated board with ESP32"

    def sync(self) -> None:
        """Nothing to do: LittleFS has written what was closed."""

    def dupterm(self, stream: object, index: int = 0) -> None:
        """The terminal of this board is the supervisor's: there is no other to give back, and none can be set."""
        if stream is not None:
            raise Error("OSError", 19)  # ENODEV


class Chip:
    """All of it, for the boot whose `bench` this is; answers the device's calls.

    A call is one packet, (path, arguments, keyword arguments), or without arguments a wish to see what is there. The
    path begins with a module's name or an object's number. The answer is an expression for the device to evaluate, in
    a packet of ANSWER bytes, so that the device can take it whatever its heap is like. Bytes to fill a buffer with are
    fetched by a packet FETCH.
    """

    ANSWER = 160
    FETCH = b"+"
    _FILLING = ("get_blob", "readblocks")  # the device gives the length of its buffer in place of it
    _TAKING = ("set_blob", "writeblocks")  # likewise, and the bytes follow in a packet of their own
    _PLAIN: ClassVar = (type(None), bool, int, float, str, bytes, tuple)

    def __init__(self, bench: Bench, nvs: Nvs | None, partitions: Partitions) -> None:
        self._network = Network(bench)
        self._roots: dict[object, object] = {
            "esp32": Esp32(bench, nvs, partitions),
            "network": self._network,
            "machine": Machine(bench),
            "time": Time(bench),
            "os": Os(),
            "uart": Uart(bench),
        }
        self._bytes = b""

    def access_point_changed(self) -> None:
        """The bench has switched the access point on or off."""
        self._network._update()

    def answer(self, call: bytes, receive: Callable[[int], bytes]) -> bytes:
        """The packet for the device; `receive(size)` gets the bytes that it sends along."""
        if call == self.FETCH:
            return self._bytes
        try:
            path, arguments, values = ast.literal_eval(call.decode())
            shown = self._called(path, arguments, values, receive)
        except Error as error:
            shown = f"{error.kind}{error.arguments!r}"
        except NvsError as error:
            shown = f"OSError({-error.args[0]}, {error.args[1]!r})"
        except (TypeError, ValueError, SyntaxError) as error:  # a call that the chip would not take either
            shown = f"TypeError({str(error)[:100]!r})"
        answer = shown.encode().ljust(self.ANSWER)
        if len(answer) > self.ANSWER:
            raise RuntimeError(f"an answer of {len(answer)} bytes: {shown}")
        return answer

    def _called(self, path: tuple[object, ...], arguments: Any, values: Any, receive: Callable[[int], bytes]) -> str:
        found = self._roots[path[0]]
        for name in path[1:]:
            if str(name).startswith("_") or not hasattr(found, str(name)):
                raise Error("AttributeError", f"'{path[0]}' has no attribute '{name}'")
            found = getattr(found, str(name))
        if arguments is None:
            return self._shown(found, path)
        if path[-1] in self._TAKING:
            data = receive(arguments[1]) if arguments[1] else b""
            arguments = (arguments[0], data, *arguments[2:])
        result = cast(Callable[..., object], found)(*arguments, **values)
        if isinstance(result, bytes) and path[-1] in self._FILLING:
            self._bytes = result
            result = len(result)
        return self._shown(result)

    def _shown(self, value: object, path: tuple[object, ...] | None = None) -> str:
        """The expression that makes `value` in the device."""
        if isinstance(value, list):
            return f"[{', '.join(self._shown(one) for one in value)}]"
        if isinstance(value, self._PLAIN):
            return repr(value)
        if path is None:  # a new object
            path = (len(self._roots),)
            self._roots[path[0]] = value
        return f"Remote{path!r}"
