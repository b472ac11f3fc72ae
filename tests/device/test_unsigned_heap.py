"""An envelope that nobody has signed fills no memory, whatever it is made of."""

HEAP = "160wK"


def test_what_nobody_has_signed_fills_no_memory():
    import hashlib

    from gatehouse import Refused, cbor, suit

    lists = b"\x87" + 7 * (b"\x99\x03\xe8" + 1000 * b"\x80")  # 7,000 lists: far more than this heap holds
    manifest = cbor.dumps({1: 1, 2: 5, 3: b""})
    digest = cbor.dumps(cbor.dumps([-16, hashlib.sha256(cbor.dumps(manifest)).digest()]))
    block = b"\xd2\x84\x43\xa1\x01\x28"
    header = block + b"\xa1\x04" + lists + b"\xf6\x40"
    many = block + b"\xb9\x03\xe8" + b"".join(cbor.dumps(n) + b"\x80" for n in range(1000)) + b"\xf6\x40"
    for rest in (lists, cbor.dumps(header), cbor.dumps(many)):
        data = cbor.dumps(cbor.Tag(107, {2: b"\x82" + digest + rest, 3: manifest}))
        try:
            suit.Envelope(data).authenticate(())
        except Refused as error:
            assert error.reason in ("format", "unsupported")
        else:
            raise AssertionError
