"""The one network interface, the Wi-Fi station, and the clock that it brings (SNTP, RFC 4330)."""

import asyncio
import os
import socket
import time

import machine
import network
from micropython import const

from gatehouse import cbor

_DAY_S = const(86400)
_PACKET = const(48)  # bytes of an SNTP message
_BUILD_TIME = const(1767225600)  # 2026-01-01: no clock that shows less is right
_NTP_DELTA = const(2208988800)  # seconds from 1900, where NTP counts, to 1970
_NTP_ERA = const(0x100000000)  # seconds until NTP's counter begins again, in 2036
_EPOCH = 946684800 if time.gmtime(0)[0] == 2000 else 0  # where this port's own clock counts from, in Unix seconds

# Changed by tests.
JOIN_MS = 20000  # a slow access point with DHCP takes ten seconds
LOOK_MS = 1000
POLL_MS = 20
FIRST_RETRY_MS = 1000
LAST_RETRY_MS = 60000
ANSWER_MS = 2000  # of a time server
SYNC_MS = 21600000  # the ESP32's clock drifts by less than a second in six hours


losses = 0  # times that a connection of the station was found gone, in this boot


def now():
    """Unix seconds, or None while the clock is not set: after a power-on the ESP32 counts from the year 2000."""
    seconds = time.time() + _EPOCH
    return seconds if seconds >= _BUILD_TIME else None


async def run(boot):
    """Keep the station connected and the clock right; for ever. Without credentials in NVS there is only the clock."""
    data = boot.store.blob("wifi")
    if data:
        await asyncio.gather(Station(*cbor.loads(data)).keep(), _keep_clock(boot))
    else:
        print("gatehouse: wifi: no credentials in NVS")
        await _keep_clock(boot)


class Station:
    """The Wi-Fi station. The access point, which a chip may have on from an earlier firmware, is switched off."""

    def __init__(self, ssid, password):
        network.WLAN(network.AP_IF).active(False)
        self._wlan = network.WLAN(network.STA_IF)
        self._ssid = ssid
        self._password = password
        self.joins = 0

    async def keep(self):
        """Join, and join again whenever the network is lost, after growing pauses; for ever."""
        attempts = 0
        while True:
            try:
                self._wlan.active(True)
                self._wlan.connect(self._ssid, self._password)
                if await self._joined():
                    attempts = 0
                    self.joins += 1
                    # The chip itself tries to come back first, which is quicker than to begin anew.
                    while await self._joined(True):
                        await asyncio.sleep_ms(LOOK_MS)
                print("gatehouse: wifi: not connected, status", self._wlan.status())
                self._wlan.disconnect()
            except OSError as error:
                print("gatehouse: wifi:", error)
            await asyncio.sleep_ms(_pause(attempts))
            attempts += 1

    async def _joined(self, before=False):
        global losses
        started = time.ticks_ms()
        while not self._wlan.isconnected():
            losses += before
            before = False
            if time.ticks_diff(time.ticks_ms(), started) >= JOIN_MS:
                return False
            await asyncio.sleep_ms(POLL_MS)
        return True


async def _keep_clock(boot):
    attempts = 0
    while boot.config.ntp:
        # The newest confirmed release was signed before now, on a clock that may have been ahead by up to a day.
        if await sync_clock(boot.config.ntp, boot.config.ntp_port, boot.not_before - _DAY_S):
            attempts = 0
            await asyncio.sleep_ms(SYNC_MS)
        else:
            await asyncio.sleep_ms(_pause(attempts))
            attempts += 1


async def sync_clock(host, port=123, not_before=0):
    """Ask a time server and set the clock by its answer. Whether that was done, within ANSWER_MS.

    not_before: Unix seconds that the time must have reached. SNTP is not authenticated, so an answer counts only when
    it comes from the asked address, returns our random number and is later than this firmware; others are passed over,
    so that a forged one does not displace the right one. What a false clock could do is bounded where it is used.
    """
    nonce = os.urandom(8)
    sock = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        sock.connect(address)  # nothing that another address sends is received
        # Version 4, client. The server returns the transmit timestamp as its originate timestamp, whatever it says.
        sock.write(b"\x23" + bytes(39) + nonce)
        answer = bytearray(_PACKET)
        started = time.ticks_ms()
        while time.ticks_diff(time.ticks_ms(), started) < ANSWER_MS:
            count = sock.readinto(answer)
            if count is None:
                await asyncio.sleep_ms(POLL_MS)
                continue
            seconds = _time_in(answer, nonce) if count == _PACKET else 0
            if seconds >= max(not_before, _BUILD_TIME):
                date = time.gmtime(seconds - _EPOCH)
                machine.RTC().datetime(date[:3] + date[6:7] + date[3:6] + (0,))
                return True
            await asyncio.sleep_ms(0)
    except OSError as error:
        print("gatehouse: clock:", error)
    finally:
        if sock:
            sock.close()
    return False


def _time_in(answer, nonce):
    """Unix seconds in a server's answer, 0 when it is none to our question or says itself that it has no time."""
    leap, mode, stratum = answer[0] >> 6, answer[0] & 7, answer[1]
    if leap == 3 or mode != 4 or not 1 <= stratum <= 15 or answer[24:32] != nonce:
        return 0
    seconds = int.from_bytes(answer[40:44], "big")
    if seconds < _NTP_ERA // 2:
        seconds += _NTP_ERA
    return seconds - _NTP_DELTA


def _pause(attempts):
    # Half of it by lot: all devices of a house lose its network in one moment.
    half = min(LAST_RETRY_MS, FIRST_RETRY_MS << min(attempts, 10)) // 2
    return half + os.urandom(1)[0] * half // 255
