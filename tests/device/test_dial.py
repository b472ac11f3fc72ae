"""What umqtt takes for a socket: how it collects what is written, and that nobody holds it up."""

import io
from errno import ETIMEDOUT

from harness import raises


class Raw(io.IOBase):
    """A connected socket of a peer that takes everything, and sends `endless` bytes for as long as one reads."""

    endless = b""

    def __init__(self):
        self.writes = []

    def setblocking(self, on):
        pass

    def setsockopt(self, *option):
        pass

    def write(self, data):
        self.writes.append(bytes(data))
        return len(data)

    def read(self, count):
        return (self.endless * count)[:count] or None

    def ioctl(self, request, argument):
        return argument if request == 3 else -1


def wire(raw):
    from gatehouse import dial

    made = dial.Wire(raw, None, "host", memoryview(bytearray(dial.BUFFER)))
    made.arm(60000)
    return made


def test_pieces_of_a_message_are_one_write():
    raw = Raw()
    made = wire(raw)
    for piece in (b"\x32", b"\x07more", b"topic"):
        made.write(piece, 1 if piece[0] == 7 else -1)
    assert not raw.writes
    made.flush()
    assert raw.writes == [b"\x32\x07topic"]
    made.flush()
    assert len(raw.writes) == 1


def test_large_message_goes_in_full_segments():
    raw = Raw()
    made = wire(raw)
    made.write(b"head")
    made.write(b"x" * 5000)
    made.flush()
    assert [len(piece) for piece in raw.writes] == [1400, 3604] and b"".join(raw.writes) == b"head" + b"x" * 5000


def test_who_sends_without_end_is_read_no_longer_than_the_time_given():
    raw = Raw()
    raw.endless = b"y"
    made = wire(raw)
    assert made.read(5) == b"yyyyy"
    made.arm(-1)
    with raises(OSError) as caught:
        made.read(5)
    assert caught.value.errno == ETIMEDOUT
