"""Every operation of the device: declared here once, and nowhere else. Help, documents and tests come from it.

Loaded for a call and forgotten after it (passing.py).
"""

from gatehouse import Refused

# name, least role, interfaces (c: console, h: https, m: mqtt, a: home-assistant), module of this package that does it,
# and its arguments: name:kind:limits, with "?" before what may be left out. A module with "+" changes something, which
# is journaled, one with "!" besides is alone: only one of those runs at a time. Kinds: text and secret (characters
# least:most), int (least:most), bool, one (of these), ints (how many least:most). Secrets never travel over MQTT, where
# the broker would see them. Many short texts, because a heap in pieces has no room for one of 2 KB.
_ROWS = (
    "help viewer chm act_look",
    "logout viewer ch act_look",
    "state viewer chm act_look",
    "sensor viewer chm act_look",
    "interfaces viewer chm act_look",
    "interface.set owner chm act_policy! name:text:1:16 wanted:bool",
    "password.change viewer ch act_users+ old:secret:1:64 new:secret:8:64",
    "user.password owner ch act_users+ user:one:viewer|operator|service new:secret:8:64",
    "user.unlock owner chm act_users+ user:one:viewer|operator|owner|service",
    "keys owner ch act_users",
    "update.check operator chm act_update!",
    "update.install operator chma act_update!",
    "update.postpone operator chm act_update! hours:int:1:168",
    "update.rollback operator chm act_update! sequence:int:1:4294967295",
    "update.status viewer chm act_look",
    "update.receive operator h act_upload! envelope:int:1:8192 pack:int:0:4194304",
    "update.offer operator h act_upload!",
    "config.show operator chm act_look",
    "config.set owner chm act_policy! field:one:lockout|session values:ints:3:4",
    "config.restore owner chm act_device! to:one:last|factory",
    "wifi.set owner ch act_device! ssid:text:1:32 password:secret:0:63",
    "broker.set owner ch act_device! user:text:1:64 password:secret:0:64",
    "reboot operator chm act_device!",
    "identify operator chm act_device! ?seconds:int:1:60",
    "journal operator chm act_look ?from:int:0:2147483647 ?count:int:1:8",
    "erase owner ch act_device! confirm:text:1:32",
    "repl service c act_device! minutes:int:1:60",
)
_INTERFACES = (("c", "console"), ("h", "https"), ("m", "mqtt"), ("a", "home-assistant"))
_FRESH = ("help", "logout", "password.change")  # what the label password opens until it is changed


class Row:
    """One operation."""

    def __init__(self, text):
        fields = text.split(" ")
        self.name, self.role, letters, module = fields[:4]
        self.interfaces = tuple(name for letter, name in _INTERFACES if letter in letters)
        self.alone = module.endswith("!")
        self.changes = self.alone or module.endswith("+")
        self.module = module.rstrip("!+")
        self.arguments = " ".join(fields[4:])


def rows():
    """Each operation as a Row."""
    for text in _ROWS:
        yield Row(text)


def table():
    """See operations.table()."""
    return [(row.name, row.role, row.interfaces, row.arguments) for row in rows()]


def allowed(role, interface):
    """See operations.allowed()."""
    return [(row.name, row.arguments) for row in rows() if interface in row.interfaces and reaches(role, row.role)]


def find(name):
    """The Row of an operation, or None."""
    for text in _ROWS:
        if text[: text.index(" ")] == name:
            return Row(text)
    return None


def reaches(role, least):
    """Whether a session of `role` may do what asks for `least`. No role that is not known reaches anything."""
    order = ("viewer", "operator", "owner")
    if role == "service":
        return least in ("viewer", "service")
    return role in order and least in order and order.index(role) >= order.index(least)


def admit(session, name):
    """The Row of what a session asks for. Refused "operation", "denied" or "fresh"."""
    row = find(name)
    if row is None or session.interface not in row.interfaces:
        raise Refused("operation", "there is no such operation here")
    if not reaches(session.role, row.role):
        raise Refused("denied", "%s is for %s" % (name, row.role))
    if session.fresh and name not in _FRESH:
        raise Refused("fresh", "change the password of the label first")
    return row


def check(row, arguments):
    """The arguments of a call, each there and within its limits. Refused("argument") says which is not."""
    if not isinstance(arguments, dict):
        raise Refused("argument", "arguments are a map")
    known = []
    for text in row.arguments.split(" ") if row.arguments else ():
        fields = text.split(":")
        name = fields[0].lstrip("?")
        known.append(name)
        if name in arguments:
            if not _fits(arguments[name], fields[1], fields[2:]):
                raise Refused("argument", "%s must be %s" % (name, _words(fields[1], fields[2:])))
        elif fields[0] == name:
            raise Refused("argument", "%s is missing: %s" % (name, _words(fields[1], fields[2:])))
    for name in arguments:
        if name not in known:
            raise Refused("argument", "unknown argument")
    return arguments


def words(name, given):
    """The arguments in the words of a command line (list of str): {name: value}. A word too many stays, to be refused.

    int, bool and ints are read from their text; a word that is none stays a text, and check() refuses it.
    """
    row = find(name)
    found = {}
    wanted = row.arguments.split(" ") if row and row.arguments else []
    for at, word in enumerate(given):
        if at >= len(wanted):
            found["+"] = word
            break
        fields = wanted[at].split(":")
        found[fields[0].lstrip("?")] = _read(word, fields[1])
    return found


def _read(word, kind):
    if kind == "int":
        return int(word) if word.isdigit() and len(word) < 11 else word
    if kind == "bool":
        return {"on": True, "off": False, "true": True, "false": False}.get(word, word)
    if kind == "ints":
        return [_read(item, "int") for item in word.split(",")]
    return word


def _fits(value, kind, limits):
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "one":
        return isinstance(value, str) and value in limits[0].split("|")
    least, most = int(limits[0]), int(limits[1])
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    if kind == "ints":
        return isinstance(value, list) and least <= len(value) <= most and all(type(item) is int for item in value)
    if not isinstance(value, str) or not least <= len(value) <= most:
        return False
    before = 0
    for byte in value.encode():  # what is kept or shown later must not steer a terminal
        if byte < 32 or byte == 127 or (before == 0xC2 and byte < 160):  # in UTF-8 C2 leads U+0080 to U+00BF
            return False
        before = byte
    return True


def _words(kind, limits):
    if kind == "bool":
        return "true or false"
    if kind == "one":
        return limits[0].replace("|", ", ")
    what = {"int": "a number within %s..%s", "ints": "%s to %s numbers"}.get(kind, "%s to %s printable characters")
    return what % tuple(limits)
