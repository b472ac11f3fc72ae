"""The commands of a SUIT manifest (draft-ietf-suit-manifest-37, section 8.4): the subset, its check, its interpreter.

What these tables do not have is refused, never skipped. Conditions on the device's identity and on the clock are
decided here; whatever touches a component is yielded to the caller.
"""

from micropython import const

from gatehouse import Refused, cbor

# Commands that run() yields (section 11.4).
IMAGE_MATCH = const(3)
COMPONENT_SLOT = const(5)
WRITE = const(18)
FETCH = const(21)
COPY = const(22)
INVOKE = const(23)

# Parameters that these need (section 11.5).
IMAGE_DIGEST = const(3)
SLOT = const(5)
IMAGE_SIZE = const(14)
CONTENT = const(18)
URI = const(21)
SOURCE_COMPONENT = const(22)

# Commands that are done here; the parameter of such a condition has its number.
_VENDOR = const(1)
_CLASS = const(2)
_USE_BEFORE = const(4)
_SET_COMPONENT_INDEX = const(12)
_ABORT = const(14)
_TRY_EACH = const(15)
_OVERRIDE = const(20)
_DEVICE = const(24)
_RUN_SEQUENCE = const(32)
_SOFT_FAILURE = const(13)  # a parameter of the interpreter itself

_MAX_SEQUENCE = const(2048)  # bytes of one sequence: it is decoded as a whole, to a few times its size
_MAX_NESTING = const(4)  # sequences inside each other: every level is a generator inside a generator
_MAX_STEPS = const(256)  # commands of one run, each time they run: a list of components multiplies them
_MAX_POLICY = const(15)  # four bits of reporting policy

# Where a command may stand: a bit for each sequence, and one for what is nested in the shared sequence.
WHERE = {"shared": 1, "payload-fetch": 4, "install": 8, "validate": 16, "load": 32, "invoke": 64}
_SHARED = const(1)
_IN_SHARED = const(2)
_BRING = const(12)  # payload-fetch, install
_CHANGE = const(44)  # payload-fetch, install, load
_INVOKE = const(64)
_ANYWHERE = const(127)

# command -> (where it may stand, the parameter that must be set or 0, the reason when it is a condition that fails)
_COMMANDS = {
    _VENDOR: (_SHARED, _VENDOR, "vendor"),
    _CLASS: (_SHARED, _CLASS, "class"),
    _DEVICE: (_ANYWHERE, _DEVICE, "device"),
    IMAGE_MATCH: (_ANYWHERE, IMAGE_DIGEST, "digest"),
    COMPONENT_SLOT: (_ANYWHERE, SLOT, "slot"),
    _USE_BEFORE: (_BRING, _USE_BEFORE, "expired"),  # not at boot: no clock may stop a device from starting
    _ABORT: (_ANYWHERE, 0, "condition"),
    FETCH: (_BRING, URI, None),
    COPY: (_CHANGE, SOURCE_COMPONENT, None),
    WRITE: (_CHANGE, CONTENT, None),
    INVOKE: (_INVOKE, 0, None),
    _SET_COMPONENT_INDEX: (_ANYWHERE, 0, None),
    _OVERRIDE: (_ANYWHERE, 0, None),
    _TRY_EACH: (_ANYWHERE, 0, None),
    _RUN_SEQUENCE: (_ANYWHERE, 0, None),
}

# parameter -> type; those of the identifier conditions have 16 bytes
_PARAMETERS = {
    _VENDOR: bytes,
    _CLASS: bytes,
    _DEVICE: bytes,
    IMAGE_DIGEST: bytes,
    CONTENT: bytes,
    URI: str,
    _SOFT_FAILURE: bool,
    IMAGE_SIZE: int,
    SLOT: int,
    SOURCE_COMPONENT: int,
    _USE_BEFORE: int,
}
_IDENTIFIERS = (_VENDOR, _CLASS, _DEVICE)

_SHA256 = const(-16)  # COSE algorithm; the only digest of the subset


def decode(data, kind, what):
    """The CBOR item in `data`, which must be a `kind` (dict or list). Refused "format" naming `what`."""
    try:
        value = cbor.loads(data) if isinstance(data, bytes) else None
    except ValueError as error:
        raise Refused("format", "%s: %s" % (what, error))
    if not isinstance(value, kind):
        raise Refused("format", what)
    return value


def digest(pair):
    """The 32 bytes in `pair`, a list that should be a SUIT_Digest (section 10)."""
    if len(pair) != 2 or type(pair[0]) is not int or not isinstance(pair[1], bytes):
        raise Refused("format", "digest")
    if pair[0] != _SHA256:
        raise Refused("unsupported", "digest algorithm %d" % pair[0])
    if len(pair[1]) != 32:
        raise Refused("format", "digest")
    return pair[1]


def uint(value):
    """Whether `value` is what CDDL calls a uint."""
    return type(value) is int and value >= 0 and not value >> 64


class Parameters(dict):
    """The parameters of one component: label -> value, image-digest as the 32 bytes of a SHA-256."""

    def __getitem__(self, label):
        """The value; Refused "format" when the manifest uses it before it is set."""
        value = self.get(label)
        if value is None:
            raise Refused("format", "parameter %d is used before it is set" % label)
        return value


class Processor:
    """Checks and runs the sequences of one manifest, which sets `count`, the number of its components."""

    def __init__(self, count):
        self._count = count
        self._passed = {_VENDOR: 0, _CLASS: 0, IMAGE_MATCH: 0}  # condition -> a bit for each component where it held
        self._parameters = []
        self._steps = 0
        self._device = None

    def check(self, data, where, depth=0):
        """Refuse an encoded sequence that the standard or the subset does not allow, with all that is nested in it."""
        if depth > _MAX_NESTING or not isinstance(data, bytes) or len(data) > _MAX_SEQUENCE:
            raise Refused("format", "sequence nesting or size")
        commands = decode(data, list, "sequence")
        if not commands or len(commands) & 1:
            raise Refused("format", "sequence")
        if self._count > 1 and not depth and commands[0] != _SET_COMPONENT_INDEX:
            raise Refused("format", "sequence without component index")
        nested = _IN_SHARED if where == _SHARED else where
        for at in range(0, len(commands), 2):
            code, argument = commands[at], commands[at + 1]
            if type(code) is not int or code not in _COMMANDS or not _COMMANDS[code][0] & where:
                raise Refused("unsupported", "command %s in this place" % code)
            if code == _SET_COMPONENT_INDEX:
                self._indices(argument)
            elif code == _OVERRIDE:
                self._override({}, argument, depth)
            elif code == _RUN_SEQUENCE:
                self.check(argument, nested, depth + 1)
            elif code == _TRY_EACH:
                _check_alternatives(argument)
                for item in argument:
                    if item is not None:
                        self.check(item, nested, depth + 1)
            elif not uint(argument) or argument > _MAX_POLICY:
                raise Refused("format", "policy of command %d" % code)

    def _indices(self, argument):
        """The component indices that an argument of set-component-index means (section 6.5)."""
        if argument is True:
            return range(self._count)
        indices = argument if isinstance(argument, list) and argument else [argument]
        for at, index in enumerate(indices):
            if not uint(index) or index in indices[:at]:
                raise Refused("format", "component index")
            if index >= self._count:
                raise Refused("component", "index %d of %d components" % (index, self._count))
        return indices

    def _override(self, parameters, argument, depth):
        """Set the values of `argument`, decoded, in `parameters`."""
        if not isinstance(argument, dict) or not argument:
            raise Refused("format", "override-parameters")
        for label, value in argument.items():
            kind = _PARAMETERS.get(label)
            if not kind:
                raise Refused("unsupported", "parameter %s" % label)
            if type(value) is not kind or (kind is int and not uint(value)):
                raise Refused("format", "parameter %d" % label)
            if label in _IDENTIFIERS and len(value) != 16:
                raise Refused("format", "identifier")
            if label == _SOFT_FAILURE and not depth:
                raise Refused("format", "soft-failure at top level")
            if label == SOURCE_COMPONENT and value >= self._count:
                raise Refused("component", "source component %d" % value)
            parameters[label] = digest(decode(value, list, "image digest")) if label == IMAGE_DIGEST else value

    def execute(self, sequences, device):
        """Run encoded, checked sequences one after the other from empty parameters; see Manifest.run()."""
        self._parameters = [Parameters() for _ in range(self._count)]
        self._steps = 0
        self._device = device
        for data in sequences:
            yield from self._sequence(data, (0,), False, 0)

    def _sequence(self, data, current, soft, depth):
        """Run one sequence for the components `current`. Returns None, or the failure of a condition if it was soft.

        Its component index and soft-failure are its own and end with it; the parameters that it set stay.
        """
        commands = cbor.loads(data)
        for at in range(0, len(commands), 2):
            code, argument = commands[at], commands[at + 1]
            if code == _SET_COMPONENT_INDEX:
                current = self._indices(argument)
                continue
            for index in current:
                self._steps += 1
                if self._steps > _MAX_STEPS:
                    raise Refused("format", "too many commands")
                failure = None
                if code == _OVERRIDE:
                    self._override(self._parameters[index], argument, depth)
                    soft = argument.get(_SOFT_FAILURE, soft)
                elif code == _RUN_SEQUENCE:
                    yield from self._sequence(argument, (index,), False, depth + 1)
                elif code == _TRY_EACH:
                    yield from self._try_each(argument, index, depth + 1)
                else:
                    failure = yield from self._command(code, index)
                if failure and soft:
                    return failure
                if failure:
                    raise failure
        return None

    def _try_each(self, alternatives, index, depth):
        """Run sequences until one does not fail. Refused as the last one was when none is left."""
        failure = None
        for data in alternatives:
            failure = None
            if data is not None:
                failure = yield from self._sequence(data, (index,), True, depth)
            if not failure:
                return
        raise failure

    def _command(self, code, index):
        """Do or yield one condition or directive. Returns None, or the Refused of a condition that does not hold."""
        _, needed, reason = _COMMANDS[code]
        parameters = self._parameters[index]
        wanted = parameters[needed] if needed else None
        bit = 1 << index
        if code in (FETCH, COPY, WRITE):
            self._passed[IMAGE_MATCH] &= ~bit
        if code in (FETCH, COPY, WRITE, INVOKE, IMAGE_MATCH, COMPONENT_SLOT):
            done = yield code, index, parameters
        else:
            done = self._holds(code, wanted)
        if done and code in self._passed:
            self._passed[code] |= bit
        if done:
            return None
        failure = Refused(reason or "condition", "command %d of component %d failed" % (code, index))
        if not reason:
            raise failure  # a directive: soft failure is for conditions (section 6.4)
        return failure

    def _holds(self, code, wanted):
        device = self._device
        if code == _VENDOR:
            return wanted == device.vendor_id
        if code == _CLASS:
            return wanted == device.class_id
        if code == _DEVICE:
            return wanted == device.device_id
        if code == _USE_BEFORE:
            # A clock that is unset, or behind the last confirmed release, proves nothing: freezing it must not help.
            now = device.now()
            return now is not None and device.not_before <= now < wanted
        return False  # abort

    def complete(self):
        """To be called when all is done: that what makes a manifest safe was in it, and held.

        Refused "condition" unless vendor and class were checked for every component, and image-match held for each
        after the last command that wrote to it.
        """
        everyone = (1 << self._count) - 1
        for code, passed in self._passed.items():
            if passed != everyone:
                raise Refused("condition", "condition %d is missing for a component" % code)


def _check_alternatives(argument):
    sequences = len(argument) - (argument[-1:] == [None]) if isinstance(argument, list) else 0
    if sequences < 2 or None in argument[:sequences]:
        raise Refused("format", "try-each")
