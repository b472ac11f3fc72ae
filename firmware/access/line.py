"""A line that somebody types on a UART, where anything may come: noise, other programs' protocols, half characters."""

from micropython import const

MAX = const(256)  # bytes: the longest command is an SSID and a quote; of a password 64 characters may be 4 bytes each

END, CANCEL, LEAVE = const(1), const(2), const(3)  # what feed() tells

_CTRL_C, _CTRL_D, _BELL, _BACKSPACE, _CTRL_U, _ESCAPE, _DELETE = 3, 4, 7, 8, 21, 27, 127
_AFTER_ESCAPE, _IN_SEQUENCE, _ONE_MORE = const(1), const(2), const(3)


class Line:
    """Takes bytes, echoes what it keeps. What it holds is always whole, printable UTF-8 of at most MAX bytes.

    `write(data)` shows bytes; `hidden`: nothing is echoed; `lost`: more was typed than fits.
    """

    def __init__(self, write):
        self._write = write
        self._buffer = bytearray(MAX)
        self._view = memoryview(self._buffer)
        self._one = bytearray(1)
        self._after_return = False
        self._skip = 0  # where in an escape sequence, which is left out
        self.size = 0
        self.start(False)

    def start(self, hidden):
        """Forget what was typed, and begin anew."""
        for at in range(MAX):
            self._buffer[at] = 0  # it may have been a password, also where it was deleted
        self.hidden = hidden
        self.lost = False
        self.size = 0
        self._begin = 0  # where a character begins that has not ended
        self._need = 0  # bytes that it still lacks

    def text(self):
        """What was typed (str)."""
        self._drop()
        return str(self._view[: self.size], "utf-8")

    def redraw(self):
        """Show again what is there."""
        if not self.hidden:
            self._write(self._view[: self._begin if self._need else self.size])

    def feed(self, byte):
        """Take a byte. Tells END (Enter), CANCEL (Ctrl-C) or LEAVE (Ctrl-D in an empty line), else None."""
        second = self._after_return and byte == 10
        self._after_return = byte == 13
        if second:
            return None
        if byte in (10, 13):
            self._skip = 0
            return END
        if byte == _CTRL_C:
            self._skip = 0
            return CANCEL
        if self._skip:
            self._in_escape(byte)
        elif byte == _ESCAPE:
            self._skip = _AFTER_ESCAPE
        elif byte == _CTRL_D:
            return None if self.size else LEAVE
        elif byte in (_BACKSPACE, _DELETE):
            self._erase()
        elif byte == _CTRL_U:
            while self.size:
                self._erase()
        elif byte >= 128:
            self._add_part(byte)
        elif byte >= 32:
            self._drop()
            self._add(byte)
        return None

    def _in_escape(self, byte):
        if byte == _ESCAPE:
            self._skip = _AFTER_ESCAPE
        elif self._skip == _AFTER_ESCAPE:
            self._skip = _IN_SEQUENCE if byte == 0x5B else _ONE_MORE if byte == 0x4F else 0
        elif self._skip == _ONE_MORE or 0x40 <= byte <= 0x7E:
            self._skip = 0

    def _add(self, byte):
        if self.size == MAX:
            self._overflow()
            return
        self._buffer[self.size] = byte
        self.size += 1
        if not self._need:
            self._echo(self.size - 1)

    def _add_part(self, byte):
        """A byte of a character of several: shown when it is whole."""
        if byte >= 0xC0:
            self._drop()
            self._need = 1 if 0xC2 <= byte < 0xE0 else 2 if 0xE0 <= byte < 0xF0 else 3 if 0xF0 <= byte < 0xF5 else 0
            if self.size + self._need >= MAX:
                self._need = 0
                self._overflow()
            elif self._need:
                self._begin = self.size
                self._add(byte)
        elif self._need:
            if self.size == self._begin + 1 and not _second(self._buffer[self._begin], byte):
                self._drop()
                return
            self._need -= 1
            self._buffer[self.size] = byte
            self.size += 1
            if not self._need:
                self._echo(self._begin)

    def _drop(self):
        """Forget a character that has not ended."""
        if self._need:
            self.size = self._begin
            self._need = 0

    def _erase(self):
        self._drop()
        if not self.size:
            return
        self.size -= 1
        while self.size and self._buffer[self.size] & 0xC0 == 0x80:
            self.size -= 1
        if not self.hidden:
            self._write(b"\b \b")

    def _echo(self, start):
        if not self.hidden:
            self._write(self._view[start : self.size])

    def _overflow(self):
        if not self.lost:
            self._one[0] = _BELL
            self._write(self._one)
        self.lost = True


def _second(first, byte):
    """Whether `byte` may follow as second one: no overlong form, no surrogate, nothing beyond Unicode, no control."""
    if first == 0xC2:
        return byte >= 0xA0  # below are control characters, which a terminal would obey
    if first == 0xE0:
        return byte >= 0xA0
    if first == 0xED:
        return byte < 0xA0
    if first == 0xF0:
        return byte >= 0x90
    if first == 0xF4:
        return byte < 0x90
    return True


def split(text):
    """The words of a command line: "..." and '...' hold spaces, and a backslash in "..." takes the next as it is.

    None when a quote is not closed. Byte by byte: MicroPython keeps every letter that a loop over a str has seen, for
    ever, so that whoever types a hundred thousand different ones would fill the heap.
    """
    words = []
    word = bytearray()
    begun = taken = False
    quote = 0
    for byte in text.encode():
        if taken:
            taken = False
        elif byte == quote:
            quote = 0
            continue
        elif quote:
            if byte == 0x5C and quote == 0x22:
                taken = True
                continue
        elif byte in (0x22, 0x27):
            quote = byte
            begun = True
            continue
        elif byte == 32:
            if begun:
                words.append(word.decode())
            word = bytearray()
            begun = False
            continue
        word.append(byte)
        begun = True
    if quote:
        return None
    if begun:
        words.append(word.decode())
    return words
