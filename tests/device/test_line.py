"""Line editing: whatever comes over a UART, what is kept is whole text of a bounded length."""

import random

from access import line as lines
from harness import seed


def typed(data, hidden=False):
    """(the text, what was echoed, the last thing told, the Line) after these bytes."""
    shown = bytearray()
    line = lines.Line(shown.extend)
    line.start(hidden)
    told = None
    for byte in data:
        told = line.feed(byte)
    return line.text(), bytes(shown), told, line


def check(data, text, shown=None):
    found = typed(data)
    assert found[0] == text, (data, found)
    if shown is not None:
        assert found[1] == shown, (data, found)


def test_plain_text_is_kept_and_echoed():
    check(b"update.check", "update.check", b"update.check")


def test_enter_in_all_its_forms_ends_one_line_each():
    for data in (b"a\r", b"a\n", b"a\r\n"):
        line = lines.Line(lambda data: None)
        assert [line.feed(byte) for byte in data if line.feed is not None].count(lines.END) == 1, data
    line = lines.Line(lambda data: None)
    assert [line.feed(byte) for byte in b"\r\r\n\n"] == [lines.END, lines.END, None, lines.END]


def test_control_keys():
    assert typed(b"abc\x03")[2] == lines.CANCEL
    assert typed(b"\x04")[2] == lines.LEAVE
    assert typed(b"a\x04") == ("a", b"a", None, typed(b"")[3]) or typed(b"a\x04")[:3] == ("a", b"a", None)
    check(b"abc\x15de", "de", b"abc" + b"\b \b" * 3 + b"de")


def test_backspace_takes_a_whole_character():
    check(b"ab\x7f\x08\x08c", "c", b"ab" + b"\b \b" * 2 + b"c")
    check("aä€😀".encode() + b"\x7f\x7f\x7f", "a", "aä€😀".encode() + b"\b \b" * 3)
    check(b"a\xe2\x82\x7f", "")


def test_control_characters_are_left_out():
    check(bytes(byte for byte in range(32) if byte not in (3, 4, 8, 10, 13, 21, 27)) + b"x", "x", b"x")


def test_escape_sequences_are_left_out():
    for sequence in (b"\x1b[A", b"\x1b[1;5C", b"\x1bOP", b"\x1bx", b"\x1b[200~", b"\x1b\x1b[D", b"\x1b[?25h"):
        check(b"a" + sequence + b"b", "ab", b"ab")


def test_an_endless_escape_sequence_ends_with_the_line():
    text, _, told, line = typed(b"a\x1b[" + b"1;" * 5000 + b"\r")
    assert (text, told) == ("a", lines.END)
    line.start(False)
    line.feed(ord("b"))
    assert line.text() == "b"
    assert typed(b"\x1b[11\x03")[2] == lines.CANCEL


def test_characters_of_several_bytes_are_kept_whole():
    for text in ("ä", "€", "😀", "Grüße aus 東京 😀", "\u00a0", "\ud7ff", "\ufffd"):
        check(text.encode(), text, text.encode())


def test_what_is_no_utf_8_is_left_out():
    for noise in (
        b"\x80", b"\xbf\xbf", b"\xc0\xaf", b"\xc1\x81", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xf5\x80\x80\x80",
        b"\xff\xfe",        b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc2\x9b",
        b"\xc2\x80", b"\xc3\xc3",
    ):  # fmt: skip
        check(b"a" + noise + b"b", "ab", b"ab")


def test_a_line_is_bounded_and_its_loss_told():
    text, shown, _, line = typed(b"x" * 5000)
    assert line.lost and text == "x" * lines.MAX and shown == b"x" * lines.MAX + b"\x07", "one bell, no more"
    exact = typed(b"x" * lines.MAX)[3]
    assert not exact.lost
    text, _, _, line = typed(b"x" * (lines.MAX - 1) + "ä".encode())
    assert line.lost and text == "x" * (lines.MAX - 1)
    for size in range(lines.MAX - 5, lines.MAX + 1):
        text = typed(b"x" * size + "😀".encode())[0]
        assert text in ("x" * size, "x" * size + "😀")


def test_hidden_lines_are_not_echoed_and_not_kept():
    text, shown, _, line = typed("secret ä\x08\x08t\x15again".encode(), hidden=True)
    assert (text, shown) == ("again", b"")
    shown = bytearray()
    line._write = shown.extend
    line.redraw()
    line.start(False)
    assert not shown and not any(line._buffer)


def test_any_bytes_give_text():
    rng = random
    rng.seed(seed())
    shown = bytearray()
    line = lines.Line(shown.extend)
    special = b"\r\n\x03\x04\x08\x15\x1b[O\x7f\xc2\xc3\xe2\xed\xf0\x9f\x98\x80\xff"
    for _ in range(30000):
        byte = special[rng.randrange(len(special))] if rng.getrandbits(1) else rng.getrandbits(8)
        if line.feed(byte):
            text = line.text()
            assert len(text.encode()) <= lines.MAX
            for letter in text:
                assert ord(letter) >= 32 and not 127 <= ord(letter) < 160, text
            line.start(bool(rng.getrandbits(1)))
    text = bytes(shown).decode()  # what was echoed is text, too
    for letter in text:
        assert letter in "\b\x07" or (ord(letter) >= 32 and not 127 <= ord(letter) < 160)


def test_words():
    for text, words in (
        ("", []),
        ("   ", []),
        ("update.check", ["update.check"]),
        ("  a  b ", ["a", "b"]),
        ('wifi.set "my net"', ["wifi.set", "my net"]),
        ("a 'b c' d", ["a", "b c", "d"]),
        ('a "" b', ["a", "", "b"]),
        ('a "b \\" \\\\ c"', ["a", 'b " \\ c']),
        ("a 'b \\ c'", ["a", "b \\ c"]),
        ('a b"c d"e', ["a", "bc de"]),
        ("a\\b", ["a\\b"]),
        ('a "b', None),
        ("a 'b", None),
        ('a "b\\"', None),
        ('"', None),
    ):
        assert lines.split(text) == words, (text, lines.split(text))
