"""Lengths that a stranger declares cost nothing: all of this within a heap of 24 KiB, the import included."""

HEAP = "24K"


def refused(data):
    from gatehouse import cbor

    try:
        cbor.loads(data)
    except ValueError:
        return True
    return False


def test_declared_length_is_not_allocated():
    import gc

    from gatehouse import cbor

    for major in (0x40, 0x60, 0x80, 0xA0):
        for argument in ("19ffff", "1a00010000", "1affffffff", "1b0000000100000000", "1bffffffffffffffff"):
            head = bytes.fromhex(argument)
            assert refused(bytes([major | head[0]]) + head[1:] + b"\x00")
        head = b"\x19\x04\x00"  # 1,024 items or bytes: within the limits, but they are not there
        for _ in range(20):
            assert refused(bytes([major | head[0]]) + head[1:] + bytes(40))
    gc.collect()  # what was refused may lie about in pieces: the last two want one piece of 2 KiB
    assert len(cbor.loads(b"\x99\x01\x00" + bytes(256))) == 256
    assert len(cbor.loads(b"\x59\x04\x00" + bytes(1024))) == 1024


def test_nested_declared_lengths():
    # Each array declares as many items as bytes are left, and holds the next: 56 KiB of lists, if they were made.
    assert refused(b"\x99\x03\xe8" * 7 + b"\x9f" + bytes(1004))
    assert refused(b"\xc2\x5a\xff\xff\xff\xff" + bytes(9))


def test_deep_nesting_does_not_recurse():
    for initial in (b"\x81", b"\xa1\x00", b"\xa1", b"\xc1", b"\xc2"):
        assert refused(initial * 1000)
