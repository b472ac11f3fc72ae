"""The board's side of its supervisor, which models the rest of the hardware: sim/board.py and sim/chip.py.

Three things lead there: a file of shared numbers, for what is asked often; a channel for events and for calls of
what a chip has in C; and the end of this process. What ends a run allocates nothing: a reset has to work when the
heap is full. become.py sets the open files.
"""

import struct
from array import array

from micropython import const

_BUSY = const(8)  # shared number: 1 between hold() and release(), where no interrupt may come
_WANTED = const(9)  # shared number: 1 while the supervisor decides whether it sends a signal
_DUE = const(10)  # shared number: 1 when the next release(True) is to raise an interrupt

numbers = None  # the file: 8 bytes each, signed, little-endian; sim/board.py has the list of places
channel = None  # the file: a packet each
system = None  # os.system
interruptible = False  # whether a KeyboardInterrupt can come from the UART

WORD = "l" if struct.calcsize("l") == 8 else "q"  # of an array: the first makes small integers, which are no objects
_word = array(WORD, (0,))  # neither this nor a call of get() or put() allocates: a chip asks its registers
_answer = bytearray(160)


def get(place):
    """One of the shared numbers."""
    numbers.seek(place * 8)
    numbers.readinto(_word)
    return _word[0]


def put(place, value):
    """Set one of the shared numbers."""
    _word[0] = value
    numbers.seek(place * 8)
    numbers.write(_word)


def hold():
    """No interrupt from here to release(): what a chip has in C is not torn apart by one."""
    if interruptible:
        put(_BUSY, 1)
        while get(_WANTED):
            pass


def release(late=False):
    """Interrupts may come again; with `late` one that came meanwhile is raised."""
    if interruptible:
        late = late and get(_DUE)
        if late:
            put(_DUE, 0)
        put(_BUSY, 0)
        if late:
            raise KeyboardInterrupt


def put_off():
    """An interrupt came where none may be raised: the next release(True) does, or it comes again."""
    put(_DUE, 1)
    channel.write(b"put-off")


def take():
    """Raise an interrupt that came."""
    try:
        hold()
    finally:
        release(True)


def interrupts(character):
    """This character on the UART is a KeyboardInterrupt from now on; with -1 none is. One that came is raised then."""
    global interruptible
    if character >= 0:
        interruptible = True
    try:
        ask(("uart", "interrupt"), (character,), {})
    finally:
        if character < 0:
            interruptible = False


def prompt():
    """The REPL opens as soon as this process lets it."""
    global interruptible
    interruptible = True
    ask(("uart", "prompt"), (), {})


def end(event):
    """Report an event (bytes) and be gone. Never returns, whatever code is around: the supervisor sends SIGKILL."""
    while True:
        try:
            if event:
                channel.write(event)
                event = None
            while channel.readinto(_word):
                pass
            system("kill -9 $PPID")  # end of file: nobody is left who would do it
        except BaseException:  # noqa: BLE001, S110 KeyboardInterrupt too
            pass


def ask(path, args=None, values=None, sent=None, filled=None):
    """Have the supervisor call what stands at `path`, or without arguments fetch it. Returns or raises what it says.

    `sent` goes along with the call, `filled` gets the bytes whose number is the answer. Between a packet and its
    answer nothing is allocated, so that no answer is left behind for the next call.
    """
    call = repr((path, args, values))
    try:
        hold()
        channel.write(call)
        if sent:
            channel.write(sent)
        channel.readinto(_answer)
        answer = eval(str(_answer, "utf-8"))  # noqa: S307 a literal, an exception or Remote(...)
        if filled and isinstance(answer, int) and answer:
            view = memoryview(filled)[:answer]
            channel.write(b"+")
            channel.readinto(view)
    finally:
        release(True)
    if isinstance(answer, BaseException):
        raise answer
    return answer


class Remote:
    """A module, class, object or method that the supervisor models."""

    def __init__(self, *path):
        self._path = path

    def __getattr__(self, name):
        return ask(self._path + (name,))

    def __getitem__(self, index):
        return ask(self._path + ("item",), (index,), {})

    def __call__(self, *args, **values):
        name = self._path[-1]
        sent = args[1] if name in ("set_blob", "writeblocks") else None
        filled = args[1] if name in ("get_blob", "readblocks") else None
        if sent is not None or filled is not None:
            args = (args[0], len(args[1])) + args[2:]
        return ask(self._path, args, values, sent, filled)
