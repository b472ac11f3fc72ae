"""The device's configuration: what may be set, within which bounds, and what holds where nothing is set."""

from micropython import const

from gatehouse import Refused, cbor

_MAX_TEXT = const(128)
_MAX_GROUPS = const(4)  # each costs a subscription

# key: (name, least, most, default). For text, least and most are lengths.
_FIELDS = {
    1: ("broker", 1, _MAX_TEXT, "localhost"),
    2: ("port", 1, 65535, 8883),
    3: ("tls", False, True, True),
    4: ("base", 0, _MAX_TEXT, ""),
    5: ("ntp", 0, _MAX_TEXT, "pool.ntp.org"),
    6: ("ntp_port", 1, 65535, 123),
    7: ("groups", 0, _MAX_GROUPS, ()),
    8: ("report_s", 5, 86400, 300),
    9: ("sensor_s", 1, 86400, 60),
    10: ("trial_s", 5, 3600, 300),  # a trial that takes longer than an hour to show its health has none
    11: ("watchdog_ms", 12000, 120000, 30000),  # over the longest blocking step, the 10 s of mqtt.Client.CONNECT_MS
    12: ("keepalive_s", 5, 600, 60),
    13: ("updates", False, True, True),  # of the application and the firmware; a configuration can switch it on again
    14: ("auto_download", False, True, True),
    15: ("auto_install", False, True, True),
    16: ("notify", False, True, True),  # whether an update that waits is told
    17: ("window", 0, 1440, ()),  # [first minute of the UTC day, minutes] in which updates are installed; () for always
    18: ("interfaces", 0, 13, ("uart", "mqtt-commands", "reset-button")),  # open beside wifi-station and update
    19: ("lockout", (0, 1, 1, 0), (20, 3600, 86400, 1), (3, 2, 900, 1)),  # [free tries, first s, longest s, enabled]
    20: ("session", (30, 60, 1), (3600, 86400, 8), (300, 3600, 4)),  # [idle s, absolute s, at once]
    21: ("repl_s", 0, 3600, 0),  # how long the service may open the REPL; 0: never
    22: ("bounds", 0, 3, {}),  # what operations may change: {"interfaces": names, "lockout", "session": [least, most]}
}
_INTERFACES = "uart usb wifi-ap ble esp-now webrepl mdns https mqtt-commands home-assistant reset-button"


class Config:
    """One attribute per field, e.g. config.broker, config.report_s (seconds), config.watchdog_ms (milliseconds).

    Without methods, so that this module can be unloaded while its values live on.
    """


def parse(data=b"\xa0"):
    """The Config in the payload of a ["config"] component: a CBOR map {field number: value}, each within its bounds.

    Refused("format") names the first field that is not.
    """
    try:
        given = cbor.loads(data)
    except ValueError as error:
        raise Refused("format", "configuration: %s" % error)
    if not isinstance(given, dict):
        raise Refused("format", "configuration is not a map")
    for key in given:
        if key not in _FIELDS or isinstance(key, bool):
            raise Refused("format", "configuration has an unknown field %s" % key)
    found = Config()
    for key, (name, least, most, default) in _FIELDS.items():
        value = given.get(key, default)
        if key in given:
            _check(name, value, least, most, default)
        setattr(found, name, value)
    return found


def _check(name, value, least, most, default):
    if isinstance(default, bool):
        good = isinstance(value, bool)
    elif isinstance(default, int):
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    elif isinstance(default, str):
        good = isinstance(value, str) and least <= len(value) <= most
    elif name == "window":
        good = isinstance(value, list) and len(value) in (0, 2) and all(type(item) is int for item in value)
        good = good and (not value or (0 <= value[0] < most and 0 < value[1] <= most))
    elif isinstance(default, dict):
        good = isinstance(value, dict) and all(_is_bound(key, value[key]) for key in value)
    elif isinstance(least, tuple):
        good = _is_within(value, least, most)
    elif name == "interfaces":
        good = _are_interfaces(value)
    else:
        good = isinstance(value, list) and len(value) <= most
        for item in value if good else ():
            # A group is one level of a topic: no separator and no wildcard.
            if not isinstance(item, str) or not 0 < len(item) <= 32 or "/" in item or "+" in item or "#" in item:
                good = False
    if not good:
        raise Refused("format", "configuration: %s must be within %s..%s" % (name, least, most))


def _is_within(value, least, most):
    """Whether it is a list of so many integers, each within its bounds."""
    if not isinstance(value, list) or len(value) != len(least):
        return False
    return all(type(item) is int and low <= item <= high for item, low, high in zip(value, least, most))


def _are_interfaces(value):
    names = _INTERFACES.split(" ")
    return isinstance(value, list) and len(value) <= len(names) and all(item in names for item in value)


def _is_bound(key, value):
    """Whether it says which interfaces may be opened, or within which bounds a threshold may be."""
    if key == "interfaces":
        return _are_interfaces(value)
    field = {"lockout": _FIELDS[19], "session": _FIELDS[20]}.get(key)
    if not field or not isinstance(value, list) or len(value) != 2:
        return False
    return all(_is_within(one, field[1], field[2]) for one in value)
