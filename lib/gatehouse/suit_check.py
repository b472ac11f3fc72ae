"""What the sequences of a SUIT manifest may hold: all is checked before anything runs (section 8.4, the subset)."""

from micropython import const

from gatehouse import Refused
from gatehouse.suit_commands import COMPONENT_SLOT, COPY, FETCH, IMAGE_MATCH, INVOKE, WRITE, decode, uint

_VENDOR = const(1)
_CLASS = const(2)
_USE_BEFORE = const(4)
_SET_COMPONENT_INDEX = const(12)
_ABORT = const(14)
_TRY_EACH = const(15)
_OVERRIDE = const(20)
_DEVICE = const(24)
_RUN_SEQUENCE = const(32)

_MAX_SEQUENCE = const(2048)  # bytes of one sequence: it is decoded as a whole, to a few times its size
_MAX_NESTING = const(4)  # sequences inside each other: every level is a generator inside a generator
_MAX_POLICY = const(15)  # four bits of reporting policy

# Where a command may stand: a bit for each sequence, and one for what is nested in the shared sequence.
_WHERE = {"shared": 1, "payload-fetch": 4, "install": 8, "validate": 16, "load": 32, "invoke": 64}
_SHARED = const(1)
_IN_SHARED = const(2)
_BRING = const(12)  # payload-fetch, install
_CHANGE = const(44)  # payload-fetch, install, load
_INVOKE = const(64)
_ANYWHERE = const(127)

_ALLOWED = {
    _VENDOR: _SHARED,
    _CLASS: _SHARED,
    _DEVICE: _ANYWHERE,
    IMAGE_MATCH: _ANYWHERE,
    COMPONENT_SLOT: _ANYWHERE,
    _USE_BEFORE: _BRING,  # not at boot: no clock may stop a device from starting
    _ABORT: _ANYWHERE,
    FETCH: _BRING,
    COPY: _CHANGE,
    WRITE: _CHANGE,
    INVOKE: _INVOKE,
    _SET_COMPONENT_INDEX: _ANYWHERE,
    _OVERRIDE: _ANYWHERE,
    _TRY_EACH: _ANYWHERE,
    _RUN_SEQUENCE: _ANYWHERE,
}


def add(manifest, name, data):
    """Give a Manifest its encoded sequence `name` once that is checked, None if it was severed and is gone.

    Refused on what the standard or the subset does not allow.
    """
    if data is not None:
        _check(manifest, data, _WHERE[name], 0)
    manifest.sequences[name] = data


def _check(manifest, data, where, depth):
    """Check an encoded sequence with all that is nested in it."""
    if depth > _MAX_NESTING or not isinstance(data, bytes) or len(data) > _MAX_SEQUENCE:
        raise Refused("format", "sequence")
    commands = decode(data, list, "sequence")
    if not commands or len(commands) & 1:
        raise Refused("format", "sequence")
    if len(manifest.components) > 1 and not depth and commands[0] != _SET_COMPONENT_INDEX:
        raise Refused("format", "sequence")
    nested = _IN_SHARED if where == _SHARED else where
    for at in range(0, len(commands), 2):
        code, argument = commands[at], commands[at + 1]
        if type(code) is not int or code not in _ALLOWED or not _ALLOWED[code] & where:
            raise Refused("unsupported", "command %s" % (code,))  # which may be any item, a Tag too
        if code == _SET_COMPONENT_INDEX:
            manifest.indices(argument)
        elif code == _OVERRIDE:
            manifest.override({}, argument, depth)
        elif code == _RUN_SEQUENCE:
            _check(manifest, argument, nested, depth + 1)
        elif code == _TRY_EACH:
            count = len(argument) - (argument[-1:] == [None]) if isinstance(argument, list) else 0
            if count < 2:
                raise Refused("format", "try-each")
            for item in argument[:count]:  # nil may only be the last
                _check(manifest, item, nested, depth + 1)
        elif not uint(argument) or argument > _MAX_POLICY:
            raise Refused("format", "command %d" % code)
