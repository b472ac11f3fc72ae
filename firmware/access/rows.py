"""Asks the chip which interfaces are active, and switches off what the policy does not want. Loaded for a look."""

import os
import sys

import network

from access.policy import NAMES

# What an adapter of ours serves, or nothing.
_SERVED = ("uart", "https", "mqtt-commands", "home-assistant", "reset-button")
_UNASKED = "this port has no way to ask"


def look(registry):
    """Registry.rows(), a list of tuples."""
    found = []
    for name in NAMES.split(" "):
        wanted, detail = registry.wants(name), ""
        active = _active(registry, name)
        if wanted and name in _SERVED and name not in registry.able:
            # The policy may be meant for more kinds of boards than this one.
            wanted, detail = False, "not in this firmware, or no hardware for it"
        if active is None:
            agrees, detail = True, _UNASKED
        else:
            agrees = active == wanted
            if not agrees:
                detail = detail or ("is active and cannot be switched off" if active else "is wanted and not active")
        found.append((name, wanted, active, agrees, detail))
    return found


def enforce(registry):
    """Switch off what is active and not wanted, and journal it. Returns Registry.states of what is there then."""
    for name in NAMES.split(" "):
        if not registry.wants(name) and name not in _SERVED and _active(registry, name):
            _off(name)
            registry.boot.note("closed", name)
    return bytes([wanted | (4 if active is None else active << 1) for _, wanted, active, _, _ in look(registry)])


def _active(registry, name):
    """True, False, or None where it cannot be asked."""
    if name in _SERVED:
        return name in registry.serving
    if name == "update":
        return True  # the installer is part of every application
    if name in ("wifi-station", "wifi-ap"):
        return _wlan(name).active()
    if name == "ble":
        radio = _radio("bluetooth", "BLE")
        return bool(radio and radio.active())
    if name == "esp-now":
        radio = _radio("espnow", "ESPNow")
        return bool(radio and radio.active())
    if name == "webrepl":
        module = sys.modules.get("webrepl")
        return bool(module and (module.listen_s or module.client_s)) or _terminal() is not None
    if name == "usb":
        import machine

        return None if hasattr(machine, "USBDevice") else False
    return None  # mdns: a stock build answers once it has an address, and tells nobody


def _off(name):
    if name == "wifi-ap":
        _wlan(name).active(False)
    elif name == "ble":
        _radio("bluetooth", "BLE").active(False)
    elif name == "esp-now":
        _radio("espnow", "ESPNow").active(False)
    elif name == "webrepl":
        module = sys.modules.get("webrepl")
        if module:
            module.stop()
        _terminal()


def _wlan(name):
    return network.WLAN(network.STA_IF if name == "wifi-station" else network.AP_IF)


def _radio(module, kind):
    """The one object of a radio, None on a chip or build without it."""
    try:
        return getattr(__import__(module), kind)()
    except ImportError:
        return None


def _terminal():
    """What stands in for the console, None when nothing does. Asking takes it away: there is no other way to ask."""
    return os.dupterm(None) if hasattr(os, "dupterm") else None
