"""Deterministic CBOR: what is refused, beside its honest twin, and agreement with cbor2.

Sources: RFC 8949 sections 3 and 4.2.1, appendix A (examples) and appendix F (not well-formed).
"""

import struct

from gatehouse import cbor
from harness import cases, raises, shared

# Appendix A, one or two of each kind; the whole list is in ../shared/vectors.
EXAMPLES = (
    (0, "00"),
    (23, "17"),
    (24, "1818"),
    (100, "1864"),
    (1000, "1903e8"),
    (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (18446744073709551616, "c249010000000000000000"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (-18446744073709551617, "c349010000000000000000"),
    (-1, "20"),
    (-1000, "3903e7"),
    (0.0, "f90000"),
    (-0.0, "f98000"),
    (1.0, "f93c00"),
    (1.1, "fb3ff199999999999a"),
    (65504.0, "f97bff"),
    (100000.0, "fa47c35000"),
    (3.4028234663852886e38, "fa7f7fffff"),
    (1.0e300, "fb7e37e43c8800759c"),
    (5.960464477539063e-8, "f90001"),
    (0.00006103515625, "f90400"),
    (-4.1, "fbc010666666666666"),
    (float("inf"), "f97c00"),
    (float("-inf"), "f9fc00"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    (cbor.undefined, "f7"),
    (cbor.Simple(16), "f0"),
    (cbor.Simple(255), "f8ff"),
    (cbor.Tag(1, 1363896240), "c11a514b67b0"),
    (cbor.Tag(32, "http://www.example.com"), "d82076687474703a2f2f7777772e6578616d706c652e636f6d"),
    (b"", "40"),
    (b"\x01\x02\x03\x04", "4401020304"),
    ("", "60"),
    ('"\\', "62225c"),
    ("\u00fc", "62c3bc"),
    ("\u6c34", "63e6b0b4"),
    ("\U00010151", "64f0908591"),
    ([], "80"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"),
    ({1: 2, 3: 4}, "a201020304"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
)

# The cases of appendix A (RFC 7049 edition) that are not deterministic, and f818, which is not even well-formed.
APPENDIX_A_REFUSED = (
    "f818",  # a simple value below 32 in two bytes
    "fa7f800000 fa7fc00000 faff800000",  # infinities and NaN in 32 bits
    "fb7ff0000000000000 fb7ff8000000000000 fbfff0000000000000",  # and in 64
    "5f42010243030405ff 7f657374726561646d696e67ff 9fff",  # indefinite lengths
    "9f018202039f0405ffff 9f01820203820405ff 83018202039f0405ff 83019f0203ff820405",
    "9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff",
    "bf61610161629f0203ffff 826161bf61626163ff bf6346756ef563416d7421ff",
)

# Appendix F: subtypes of well-formedness error kinds 2 and 3.
NOT_WELL_FORMED = (
    "18 19 1a 1b 1901 1a0102 1b01020304050607 38 58 78 98 9a01ff00 b8 d8 f8 f900 fa0000 fb000000",  # ends in a head
    "41 61 5affffffff00 5bffffffffffffffff010203 7affffffff00 7b7fffffffffffffff010203",  # ends in a string
    "81 818181818181818181 8200 a1 a20102 a100 a2000000 c0",  # ends in a container
    "1c 1d 1e 3c 3d 3e 5c 5d 5e 7c 7d 7e 9c 9d 9e bc bd be dc dd de fc fd fe",  # reserved
    "f800 f801 f818 f81f",  # two-byte simple values
    "5f00ff 5f21ff 5f6100ff 7f4100ff 5f5f4100ffff ff 81ff a1ff a1ff00 a100ff 9f81ff 1f 3f df",  # indefinite
)


def refused(data, match=None, **more):
    with raises(ValueError, match):
        cbor.loads(data, **more)


def same(a, b):
    """Equal in type and value, all the way down (in Python 1 == 1.0 == True)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(a[i], b[i]) for i in range(len(a)))
    if isinstance(a, dict):
        return len(a) == len(b) and all(key in b and same(a[key], b[key]) for key in a)
    if isinstance(a, float):
        return struct.pack(">d", a) == struct.pack(">d", b) or (a != a and b != b)
    return a == b


def test_examples_of_the_rfc():
    for value, text in EXAMPLES:
        data = bytes.fromhex(text)
        assert cbor.dumps(value) == data, (value, cbor.dumps(value))
        assert same(cbor.loads(data), value), text


def test_not_well_formed_of_the_rfc():
    for line in NOT_WELL_FORMED:
        for text in line.split():
            refused(bytes.fromhex(text))
            refused(bytes.fromhex(text), max_depth=20)  # not only because it is deep


def test_appendix_a_whole():
    found = shared("cbor-appendix-a/appendix_a.json")
    no = " ".join(APPENDIX_A_REFUSED).split()
    assert len(found) == 82 and len(no) == 18
    for case in found:
        data = bytes.fromhex(case["hex"])
        if case["hex"] in no:
            refused(data)
            no.remove(case["hex"])
        else:
            value = cbor.loads(data)
            assert cbor.dumps(value) == data, case
            if "decoded" in case:
                assert value == case["decoded"], case
    assert not no, no


def test_not_well_formed_whole():
    found = shared("cbor-malformed/rfc8949_appendix_f.json")
    assert len(found) == 94
    for case in found:
        refused(bytes.fromhex(case["hex"]))
        refused(bytes.fromhex(case["hex"]), max_depth=20)


def test_empty_and_trailing():
    refused(b"")
    for _, text in EXAMPLES:
        for more in (b"\x00", b"\xff", b"\xf6"):
            refused(bytes.fromhex(text) + more, "trailing")


def test_truncated_at_each_byte():
    value = {
        1: [0, -300, "\u00fc" * 20, b"x" * 70, 1.5, 1.1, None],
        "k": cbor.Tag(1070, {b"": 2**70}),
        99: cbor.Simple(99),
    }
    data = cbor.dumps(value)
    assert same(cbor.loads(data), value)
    for end in range(len(data)):
        with raises(cbor.Truncated):
            cbor.loads(data[:end])


def test_input_may_be_any_buffer():
    data = cbor.dumps(["a", b"b", {1: 2.5}])
    for kind in (bytes, bytearray, memoryview):
        value = cbor.loads(kind(data))
        assert same(value, ["a", b"b", {1: 2.5}])  # bytes, not views
        assert cbor.dumps([kind(b"b")]) == b"\x81\x41b"


def test_decoded_bytes_are_copies():
    buffer = bytearray(b"\x43abc")
    value = cbor.loads(buffer)
    buffer[1] = 0
    assert value == b"abc"


def test_integer_not_shortest():
    # one before and one at each limit, for unsigned, negative and as length of each kind
    for honest, longer in (
        ("17", "1817 190017 1a00000017 1b0000000000000017"),
        ("1818", "190018 1a00000018"),
        ("18ff", "1900ff 1a000000ff 1b00000000000000ff"),
        ("190100", "1a00000100"),
        ("19ffff", "1a0000ffff 1b000000000000ffff"),
        ("1a00010000", "1b0000000000010000"),
        ("1affffffff", "1b00000000ffffffff"),
        ("20", "3800 390000"),
        ("4161", "580161 59000161"),
        ("6161", "780161 7b000000000000000161"),
        ("8100", "980100 9900 0100"),
        ("a10000", "b8010000"),
        ("c100", "d80100 d9000100"),
    ):
        cbor.loads(bytes.fromhex(honest))
        for text in longer.split():
            refused(bytes.fromhex(text))
    assert cbor.loads(bytes.fromhex("1b0000000100000000")) == 2**32


def test_bignum_only_beyond_64_bits():
    assert cbor.loads(bytes.fromhex("c249010000000000000000")) == 2**64
    assert cbor.loads(bytes.fromhex("c349ffffffffffffffffff")) == -(2**72)
    refused(bytes.fromhex("c248ffffffffffffffff"), "bignum")  # fits a head
    refused(bytes.fromhex("c348ffffffffffffffff"), "bignum")
    refused(bytes.fromhex("c24a00010000000000000000"), "bignum")  # leading zero
    for text in ("c240", "c200", "c26161", "c281c249010000000000000000", "c2c249010000000000000000"):
        refused(bytes.fromhex(text), "bignum")
    for tag in (2, 3):
        with raises(ValueError):
            cbor.dumps(cbor.Tag(tag, bytes(9)))


def test_float_not_shortest():
    assert cbor.loads(bytes.fromhex("fa3fc00001")) == struct.unpack(">f", b"\x3f\xc0\x00\x01")[0]
    refused(bytes.fromhex("fa3fc00000"))  # 1.5 has a half
    refused(bytes.fromhex("fb3ff8000000000000"))
    refused(bytes.fromhex("fb3ff8000020000000"))  # has a single
    refused(bytes.fromhex("fb8000000000000000"))  # -0.0
    assert cbor.loads(bytes.fromhex("fb3ff8000020000001")) > 1.5


def test_only_one_nan():
    value = cbor.loads(bytes.fromhex("f97e00"))
    assert value != value and cbor.dumps(value) == b"\xf9\x7e\x00"
    for text in ("f97e01", "f9fe00", "f97c01", "fa7fc00000", "fa7fc00001", "fb7ff8000000000000", "fb7ff0000000000001"):
        refused(bytes.fromhex(text))


def test_every_half_float():
    # By arithmetic and not by struct, whose "e" packs some of them wrongly in MicroPython 1.29.
    for bits in range(0x7C00):
        exponent = bits >> 10
        fraction = bits & 0x3FF
        value = (fraction + (1024 if exponent else 0)) * 2.0 ** (max(exponent, 1) - 25)
        for sign in (0, 0x8000):
            data = b"\xf9" + struct.pack(">H", sign | bits)
            assert cbor.loads(data) == (-value if sign else value), data
            assert cbor.dumps(-value if sign else value) == data, data


def test_map_order():
    # RFC 8949 section 4.2.1 is bytewise; RFC 7049 had the shorter first, which would put -1 before 100.
    order = {10: 1, 100: 2, -1: 3, b"": 4, b"a": 5, "z": 6, "aa": 7}
    data = bytes.fromhex("a7" + "0a01" + "186402" + "2003" + "4004" + "416105" + "617a06" + "62616107")
    assert cbor.dumps(order) == data
    assert same(cbor.loads(data), order)
    refused(bytes.fromhex("a2" + "2003" + "186402"), "order")
    refused(bytes.fromhex("a2" + "0200" + "0100"), "order")
    refused(bytes.fromhex("a2" + "61620061" + "6100"), "order")
    refused(bytes.fromhex("81" + "a2" + "0200" + "0100"), "order")  # inside something


def test_duplicate_key():
    assert cbor.loads(bytes.fromhex("a20100" + "0200")) == {1: 0, 2: 0}
    refused(bytes.fromhex("a20100" + "0100"), "duplicate")
    refused(bytes.fromhex("a3" + "0100" + "616100" + "616101"), "duplicate")


def test_key_that_python_takes_for_another():
    # true == 1.0 == 1: read as a label, such a key would be taken for the label 1
    assert cbor.loads(bytes.fromhex("a10126")) == {1: -7}
    for key in ("f4", "f5", "f6", "f93c00", "f90000", "e1", "c101", "80", "8101", "a0"):
        refused(bytes.fromhex("a1" + key + "26"), "key")
    for key in (True, None, 1.0, (1,), cbor.Simple(1)):
        with raises(ValueError, "key"):
            cbor.dumps({key: 1})


def test_depth_limit():
    for initial in (b"\x81", b"\xa1\x00", b"\xc1"):
        honest = initial * 8 + b"\x00"
        assert cbor.dumps(cbor.loads(honest)) == honest
        refused(initial * 9 + b"\x00", "deep")
        cbor.loads(initial * 9 + b"\x00", max_depth=9)
        refused(initial * 9 + b"\x00", "deep", max_depth=8)
        refused(initial * 60000, "deep" if len(initial) == 1 else None)  # no recursion beyond the limit
    assert cbor.loads(b"\x01", max_depth=0) == 1
    refused(b"\x80", "deep", max_depth=0)
    refused(b"\xc2" * 60000, "deep")
    refused(b"\xa1" * 60000, "deep")  # a map in each key


def test_count_limit():
    limit = cbor.MAX_ITEMS
    data = cbor.dumps([0] * limit)
    assert cbor.loads(data) == [0] * limit
    refused(cbor.dumps([0] * (limit + 1)), "items")
    data = cbor.dumps(dict.fromkeys(range(limit), 0))
    assert len(cbor.loads(data)) == limit
    refused(cbor.dumps(dict.fromkeys(range(limit + 1), 0)), "items")


def test_size_limit():
    limit = cbor.MAX_SIZE
    assert len(cbor.loads(cbor.dumps(bytes(limit - 3)))) == limit - 3
    refused(cbor.dumps(bytes(limit - 2)), "size")  # the head has five bytes now
    # A streaming reader must not be told to wait for what will never be taken.
    with raises(cbor.Truncated):
        cbor.decode(b"\x5a\x00\x01\x00\x00", 0)
    with raises(ValueError) as caught:
        cbor.decode(b"\x5a\x00\x01\x00\x01", 0)
    assert not isinstance(caught.value, cbor.Truncated)


def test_utf8():
    # RFC 3629: first and last of each length, and what must not be
    for honest in ("7f", "c280", "dfbf", "e0a080", "ed9fbf", "ee8080", "efbfbf", "f0908080", "f48fbfbf"):
        raw = bytes.fromhex(honest)
        assert cbor.dumps(cbor.loads(bytes([0x60 + len(raw)]) + raw)) == bytes([0x60 + len(raw)]) + raw
    for attack in (
        "80 bf c2 c241 e0a0 e0a041 f09080 f0908041",  # stray or missing continuation
        "c080 c1bf e08080 e09fbf f0808080 f08fbfbf",  # overlong
        "eda080 edbfbf eda080edb080",  # surrogates
        "f4908080 f7bfbfbf f880808080 fc8080808080 fe ff",  # beyond U+10FFFF
    ):
        for text in attack.split():
            raw = bytes.fromhex(text)
            refused(bytes([0x60 + len(raw)]) + raw)
            refused(bytes([0x62 + len(raw)]) + b"a" + raw + b"a")
    with raises(ValueError):
        cbor.dumps("\ud800")


def test_simple_values():
    for value in (0, 19, 32, 255):
        assert cbor.loads(cbor.dumps(cbor.Simple(value))) == cbor.Simple(value)
    assert cbor.loads(b"\xf7") is cbor.undefined
    for value in (-1, 20, 21, 22, 24, 31, 256):  # 20 to 22 are False, True and None
        with raises(ValueError):
            cbor.dumps(cbor.Simple(value))


def test_dumps_refuses_what_cbor_has_not():
    for value in (object(), {1, 2}, ValueError):
        with raises(TypeError):
            cbor.dumps(value)
    for tag in (-1, 2**64):
        with raises(ValueError):
            cbor.dumps(cbor.Tag(tag, 0))
    assert cbor.dumps((1, 2)) == cbor.dumps([1, 2])


def test_decode_one_item_of_many():
    items = [1, "text", {1: b"bytes"}, [2.5, None], cbor.Tag(61, [1])]
    data = b"".join(cbor.dumps(item) for item in items) + b"\xff"  # what follows is not looked at
    pos = 0
    for item in items:
        value, pos = cbor.decode(data, pos)
        assert same(value, item)
    assert pos == len(data) - 1
    with raises(ValueError):
        cbor.decode(data, pos)
    with raises(cbor.Truncated):
        cbor.decode(data, len(data))


def test_truncated_only_where_the_buffer_ends():
    def kind(data):
        try:
            cbor.decode(data, 0)
        except ValueError as error:
            return type(error)

    # 82ff and a2f4 announce more than is there, which is told before an item is looked at
    for text in ("", "18", "8201", "6261", "a101", "c2", "9903e8", "82ff", "a2f400"):
        assert kind(bytes.fromhex(text)) is cbor.Truncated, text
    for text in ("1c", "82ff00", "82f818", "a202000100", "9a0001000000", "9b0000000100000000"):
        assert kind(bytes.fromhex(text)) is ValueError, text


def test_head():
    assert cbor.head(b"\x00\xa6\x01", 1) == (5, 6, 2)
    assert cbor.head(b"\x99\x01\x00\x00", 0) == (4, 256, 3)
    assert cbor.head(b"\xf9\x3c\x00", 0) == (7, 0x3C00, 3)
    assert cbor.head(b"\x5b" + b"\xff" * 8, 0) == (2, 2**64 - 1, 9)
    for data in (b"", b"\x99\x01"):
        with raises(cbor.Truncated):
            cbor.head(data, 0)
    for data in (b"\x9f", b"\x98\x17", b"\xf8\x1f", b"\x1c"):
        with raises(ValueError, "head"):
            cbor.head(data, 0)


def build(notation):
    """The value that tests/cases/cbor.py wrote down."""
    kind, content = notation
    if kind == "int":
        return int(content)
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "text":
        return content
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(content))[0]
    if kind == "array":
        return [build(item) for item in content]
    if kind == "map":
        return {build(key): build(value) for key, value in content}
    if kind == "tag":
        return cbor.Tag(int(content[0]), build(content[1]))
    return (
        {20: False, 21: True, 22: None, 23: cbor.undefined}.get(content) if 20 <= content < 24 else cbor.Simple(content)
    )


def test_agrees_with_cbor2_on_random_values():
    found = cases("cbor")["values"]
    assert len(found) > 300
    for notation, text in found:
        value = build(notation)
        data = bytes.fromhex(text)
        assert cbor.dumps(value) == data, (notation, text)
        assert same(cbor.loads(data), value), (notation, text)


def test_agrees_with_cbor2_on_damaged_items():
    found = cases("cbor")["damaged"]
    accepted = 0
    for text, canonical in found:
        data = bytes.fromhex(text)
        try:
            value = cbor.loads(data)
        except ValueError:
            assert not canonical, "refused, but cbor2 finds it canonical: " + text
        else:
            assert cbor.dumps(value) == data, text
            assert canonical, "taken, but cbor2 does not find it canonical: " + text
            accepted += 1
    assert 100 < accepted < len(found) - 100
