"""The board's side of its supervisor, which models the rest of the hardware: sim/board.py and sim/chip.py.

Three things lead there: a file of shared numbers, for what is asked often; a channel for events and for calls of
what a chip has in C; and the end of this process. What ends a run allocates nothing: a reset has to work when the
heap is full.
"""

import struct

from micropython import const

# Places of the shared numbers: 8 bytes each, signed, little-endian. sim/board.py has the same list.
_CUT = const(0)  # the flash operation at which the power goes, 0 for none
_OPERATIONS = const(1)  # flash operations since power-on
CLOCK = const(2)  # microseconds: the RTC's Unix time minus the host's
STEP = const(3)  # milliseconds added to ticks_ms()
LINKED = const(4)  # 1 while packets go through the station
WDT_TIMEOUT = const(5)  # milliseconds, 0 while not armed
WDT_FED = const(6)  # ticks_us() of the last feed
FAULT = const(7)  # the flash address of an impossible program

_FILLED = ("get_blob", "readblocks")  # methods whose second argument is a buffer that they fill,
_SENT = ("set_blob", "writeblocks")  # or take

_numbers = _channel = _system = None
_word = bytearray(8)
_cut = bytearray(8)
_operations = None
_answer = bytearray(160)


def attach(numbers, channel, system):
    """Take the two open files, and os.system for the case that the supervisor is gone."""
    global _numbers, _channel, _system, _operations
    _numbers, _channel, _system = numbers, channel, system
    _operations = get(_OPERATIONS)


def get(place):
    """One of the shared numbers."""
    _numbers.seek(place * 8)
    _numbers.readinto(_word)
    return struct.unpack("<q", _word)[0]


def put(place, value):
    """Set one of the shared numbers."""
    struct.pack_into("<q", _word, 0, value)
    _numbers.seek(place * 8)
    _numbers.write(_word)


def count():
    """Count one flash operation; true when it is the one to be done half."""
    global _operations
    _operations += 1
    struct.pack_into("<q", _word, 0, _operations)
    _numbers.seek(_CUT * 8)
    _numbers.readinto(_cut)
    _numbers.write(_word)  # _OPERATIONS comes next
    return _word == _cut


def tell(event):
    """Report an event (bytes)."""
    _channel.write(event)


def end(event):
    """Report an event and be gone. Never returns, whatever Python code is around: the supervisor sends SIGKILL."""
    while True:
        try:
            if event:
                _channel.write(event)
                event = None
            while _channel.readinto(_word):
                pass
            _system("kill -9 $PPID")  # end of file: nobody is left who would do it
        except BaseException:  # noqa: BLE001, S110 KeyboardInterrupt too
            pass


def ask(path, args=None, values=None, sent=None, filled=None):
    """Have the supervisor call what stands at `path`, or without arguments fetch it. Returns or raises what it says.

    `sent` goes along with the call, `filled` gets the bytes whose number is the answer. Between a packet and its
    answer nothing is allocated, so that no answer is left behind for the next call.
    """
    global _operations
    _channel.write(repr((path, args, values)))
    if sent:
        _channel.write(sent)
    _channel.readinto(_answer)
    _operations = get(_OPERATIONS)  # the supervisor may have done some
    answer = eval(str(_answer, "utf-8"))  # noqa: S307 a literal, an exception or Remote(...)
    if isinstance(answer, BaseException):
        raise answer
    if filled and answer:
        view = memoryview(filled)[:answer]
        _channel.write(b"+")
        _channel.readinto(view)
    return answer


class Remote:
    """A module, class, object or method that the supervisor models."""

    def __init__(self, *path):
        self._path = path

    def __getattr__(self, name):
        return ask(self._path + (name,))

    def __call__(self, *args, **values):
        sent = filled = None
        if self._path[-1] in _FILLED + _SENT:
            if self._path[-1] in _SENT:
                sent = args[1]
            else:
                filled = args[1]
            args = (args[0], len(args[1])) + args[2:]
        return ask(self._path, args, values, sent, filled)
