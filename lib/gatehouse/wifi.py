"""The one network interface: the Wi-Fi station, and the clock that it brings."""

import asyncio
import os
import socket
import struct
import time

import machine
import network
from micropython import const

from gatehouse import cbor

_JOIN_MS = const(20000)  # a slow access point with DHCP takes ten seconds
_POLL_MS = const(200)
_LOOK_MS = const(1000)
_FIRST_RETRY_MS = const(1000)
_LAST_RETRY_MS = const(60000)

_SNTP_DELTA = const(2208988800)  # seconds from 1900, where NTP counts, to 1970
_SNTP_MS = const(2000)
_SYNC_S = const(21600)  # the ESP32's clock drifts by less than a second in six hours
_BUILD_TIME = const(1767225600)  # 2026-01-01: no clock that shows less is right
_EPOCH = 946684800 if time.gmtime(0)[0] == 2000 else 0  # where this port's clock begins, in Unix seconds


def now():
    """Unix seconds, or None while the clock is not set. After a power-on the ESP32 counts from the year 2000."""
    seconds = time.time() + _EPOCH
    return seconds if seconds >= _BUILD_TIME else None


class Station:
    """The Wi-Fi station, kept connected. The access point interface is switched off and stays off."""

    def __init__(self, ssid, password):
        network.WLAN(network.AP_IF).active(False)
        self._wlan = network.WLAN(network.STA_IF)
        self._ssid = ssid
        self._password = password
        self.joins = 0

    async def keep(self):
        """Join, and join again whenever the network is lost, with a growing pause."""
        pause = _FIRST_RETRY_MS
        while True:
            if self._wlan.isconnected():
                pause = _FIRST_RETRY_MS
                await asyncio.sleep_ms(_LOOK_MS)
                continue
            self._wlan.active(True)
            try:
                self._wlan.connect(self._ssid, self._password)
                for _ in range(_JOIN_MS // _POLL_MS):
                    if self._wlan.isconnected():
                        self.joins += 1
                        break
                    await asyncio.sleep_ms(_POLL_MS)
                else:
                    self._wlan.disconnect()
            except OSError as error:
                print("gatehouse: wifi:", error)
            if not self._wlan.isconnected():
                jitter = os.urandom(1)[0] * pause // 512
                await asyncio.sleep_ms(pause // 2 + jitter)
                pause = min(2 * pause, _LAST_RETRY_MS)


async def run(boot):
    """Keep the station connected and the clock right. Without Wi-Fi credentials there is nothing to do but wait."""
    data = boot.store.blob("wifi")
    if data is None:
        print("gatehouse: wifi: no credentials in NVS")
    else:
        ssid, password = cbor.loads(data)
        await asyncio.gather(Station(ssid, password).keep(), _keep_clock(boot.config))


async def _keep_clock(config):
    pause = _FIRST_RETRY_MS
    while config.ntp:
        if network.WLAN(network.STA_IF).isconnected():
            if await sync_clock(config.ntp, config.ntp_port):
                pause = _FIRST_RETRY_MS
                await asyncio.sleep(_SYNC_S)
                continue
            pause = min(2 * pause, _LAST_RETRY_MS)
        await asyncio.sleep_ms(pause)


async def sync_clock(host, port=123):
    """Ask an SNTP server (RFC 4330) for the time and set the clock. True when that was done.

    SNTP is not authenticated. So the answer must carry our random number back and lie beyond this firmware's own time;
    what a false clock could do is bounded where it is used (sequence numbers, use-before).
    """
    nonce = os.urandom(8)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        address = socket.getaddrinfo(host, port)[0][-1]
        sock.setblocking(False)
        sock.connect(address)  # answers from elsewhere are not received
        packet = bytearray(48)
        packet[0] = 0x23  # version 4, client
        packet[40:] = nonce  # the server sends our transmit timestamp back as its originate timestamp
        sock.send(packet)
        for _ in range(_SNTP_MS // _POLL_MS * 4):
            try:
                answer = sock.recv(49)
            except OSError:
                answer = None  # nothing yet
            if answer:
                seconds = _sntp_seconds(answer, nonce)
                if seconds is None:
                    return False
                year, month, day, hour, minute, second, weekday, _ = time.gmtime(seconds - _EPOCH)
                machine.RTC().datetime((year, month, day, weekday, hour, minute, second, 0))
                return True
            await asyncio.sleep_ms(_POLL_MS // 4)
    except OSError as error:
        print("gatehouse: clock:", error)
    finally:
        sock.close()
    return False


def _sntp_seconds(answer, nonce):
    """Unix seconds in a server's answer, or None when it is not one to ours."""
    if len(answer) != 48 or answer[0] & 7 != 4 or answer[0] >> 6 == 3 or not 1 <= answer[1] <= 15:
        return None  # not a server's, or a server that says itself that it has no time
    if answer[24:32] != nonce:
        return None
    seconds = struct.unpack(">I", answer[40:44])[0]
    if seconds < 0x80000000:
        seconds += 0x100000000  # era 1 begins in 2036
    seconds -= _SNTP_DELTA
    return seconds if seconds >= _BUILD_TIME else None
