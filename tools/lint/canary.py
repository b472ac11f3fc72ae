"""Wrong ESP32 calls, one a line marked `# wrong`: `make lint` fails unless mypy refuses just those lines.

Where the stubs are not found, or device code goes unchecked, mypy finds no fault either, and all looks clean.
"""

import asyncio
import socket

import esp32
import machine
import network
import tls


async def unannotated(pin):
    machine.WDT(timout=30000)  # wrong
    machine.Pin(pin).toggle_()  # wrong
    esp32.NVS("gatehouse").get_i32()  # wrong
    esp32.NVS("gatehouse").set_blob("key")  # wrong
    esp32.Partition(esp32.Partition.RUNNING).set_boot()
    esp32.Partition("ota_0").mark_valid()  # wrong
    network.WLAN(network.STA_IF).conect("ssid")  # wrong
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    context.verify_mod = tls.CERT_REQUIRED  # wrong
    await asyncio.sleep_ms(1)
    asyncio.sleep_ms(1)  # wrong
    socket.create_connection(("localhost", 1))  # wrong
    machine.reset(1)  # wrong
