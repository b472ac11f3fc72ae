"""The commands of a SUIT manifest (draft-ietf-suit-manifest-37, section 8.4): the subset's interpreter.

What the tables here and in suit_check.py do not have is refused, never skipped. Conditions on the device's identity and
on the clock are decided here; whatever touches a component is yielded to the caller. Running needs this module only.
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
NO_RETURN = const(-256)  # ours, from the private range: the release before this one must not run again

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

_MAX_STEPS = const(256)  # commands of one run, each time they run: a list of components multiplies them

# command -> (the parameter that must be set or 0, the reason when it is a condition that fails)
_COMMANDS = {
    _VENDOR: (_VENDOR, "vendor"),
    _CLASS: (_CLASS, "class"),
    _DEVICE: (_DEVICE, "device"),
    IMAGE_MATCH: (IMAGE_DIGEST, "digest"),
    COMPONENT_SLOT: (SLOT, "slot"),
    _USE_BEFORE: (_USE_BEFORE, "expired"),
    _ABORT: (0, "condition"),
    FETCH: (URI, None),
    COPY: (SOURCE_COMPONENT, None),
    WRITE: (CONTENT, None),
    INVOKE: (0, None),
}

# parameter -> type; an identifier has 16 bytes
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
    NO_RETURN: bool,
}
# condition on an identifier -> attribute of the device that it asks for
_IDENTIFIERS = {_VENDOR: "vendor_id", _CLASS: "class_id", _DEVICE: "device_id"}

_SHA256 = const(-16)  # COSE algorithm; the only digest of the subset


def decode(data, kind, what, depth=cbor.MAX_DEPTH):
    """The CBOR item in `data`, which must be a `kind` (dict or list). Refused "format" naming `what`."""
    try:
        value = cbor.loads(data, depth) if isinstance(data, bytes) else None
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
    return type(value) is int and not value >> 64  # a negative one leaves -1


class Parameters(dict):
    """The parameters of one component: label -> value, image-digest as the 32 bytes of a SHA-256."""

    def __getitem__(self, label):
        """The value; Refused "format" when the manifest uses it before it is set."""
        value = self.get(label)
        if value is None:
            raise Refused("format", "parameter %d is not set" % label)
        return value


class Manifest:
    """A manifest that was authenticated, parsed and checked, and its interpreter. Only from suit.Envelope.manifest().

    digest: 32 bytes; sequence: its sequence number; components: component ids, each a list of bytes.
    """

    def __init__(self, digest, sequence, components):
        self.digest = digest
        self.sequence = sequence
        self.components = components
        self._count = len(components)
        self.sequences = {}  # name -> encoded sequence that suit_check has passed, None if it was severed and is gone
        self._passed = {_VENDOR: 0, _CLASS: 0, IMAGE_MATCH: 0}  # condition -> a bit for each component where it held
        self._at = None  # (sequence's name, its bytes, number of the item in it) of the command that runs

    def indices(self, argument):
        """The component indices that an argument of set-component-index means (section 6.5)."""
        if argument is True:
            return range(self._count)
        indices = argument if isinstance(argument, list) and argument else [argument]
        for at, index in enumerate(indices):
            if not uint(index) or index in indices[:at]:
                raise Refused("format", "index")
            if index >= self._count:
                raise Refused("component", "index %d" % index)
        return indices

    def override(self, parameters, argument, depth):
        """Set the values of `argument`, decoded, in `parameters`."""
        if not isinstance(argument, dict) or not argument:
            raise Refused("format", "parameters")
        for label, value in argument.items():
            kind = _PARAMETERS.get(label)
            if not kind:
                raise Refused("unsupported", "parameter %s" % label)
            good = type(value) is kind and (kind is not int or uint(value))
            if not good or (label in _IDENTIFIERS and len(value) != 16) or (label == _SOFT_FAILURE and not depth):
                raise Refused("format", "parameter %d" % label)
            if label == SOURCE_COMPONENT and value >= self._count:
                raise Refused("component", "index %d" % value)
            parameters[label] = digest(decode(value, list, "image digest")) if label == IMAGE_DIGEST else value

    def run(self, section, device):
        """Run the shared sequence, then `section` ("payload-fetch", "install", "validate", "load", "invoke"), if any.

        A generator of (FETCH, COPY, WRITE, INVOKE, IMAGE_MATCH or COMPONENT_SLOT, component index, Parameters). Send
        True when it is done or holds, False when a condition does not hold. `device` has vendor_id, class_id, device_id
        (16 bytes each), now() (Unix seconds, None while the clock is unset) and not_before (which the clock must have
        reached). Refused with the reason in _COMMANDS of the condition that failed.
        """
        self._parameters = [Parameters() for _ in range(self._count)]
        self._steps = 0
        self._device = device
        self._at = None
        for name in ("shared", section):
            if name in self.sequences:
                if self.sequences[name] is None:
                    raise Refused("format", "%s was severed" % name)
                self._name = name
                yield from self._sequence(self.sequences[name], (0,), False, 0)
        self._at = None  # it is over

    def where(self):
        """Where the command stands that runs, or that failed: (sequence's name, offset in bytes, component index).

        The offset is that of a command of the sequence itself, which may be a try-each or run-sequence with it inside.
        None where no command was running.
        """
        if not self._at:
            return None
        name, data, at = self._at
        return name, len(data) - sum(len(cbor.dumps(item)) for item in cbor.loads(data)[at:]), self._index

    def idle(self):
        """What ran is given up half way: where() is None again."""
        self._at = None

    def _sequence(self, data, current, soft, depth):
        """Run one sequence for the components `current`. Returns None, or the failure of a condition if it was soft.

        Its component index and soft-failure are its own and end with it; the parameters that it set stay.
        """
        commands = cbor.loads(data)
        for at in range(0, len(commands), 2):
            code, argument = commands[at], commands[at + 1]
            if not depth:
                self._at, self._index = (self._name, data, at), current[0]
            if code == _SET_COMPONENT_INDEX:
                current = self.indices(argument)
                continue
            for index in current:
                self._steps += 1
                self._index = index
                if self._steps > _MAX_STEPS:
                    raise Refused("format", "steps")
                failure = None
                if code == _OVERRIDE:
                    self.override(self._parameters[index], argument, depth)
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
        needed, reason = _COMMANDS[code]
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
        if code in _IDENTIFIERS:
            return wanted == getattr(self._device, _IDENTIFIERS[code])
        if code == _USE_BEFORE:
            # A clock that is unset, or behind the last confirmed release, proves nothing: freezing it must not help.
            now = self._device.now()
            return now is not None and self._device.not_before <= now < wanted
        return False  # abort

    def complete(self):
        """Refused "condition" unless for each component vendor and class held, and image-match after its last write."""
        everyone = (1 << self._count) - 1
        for code, passed in self._passed.items():
            if passed != everyone:
                raise Refused("condition", "condition %d is missing for a component" % code)
