"""ES256: genuine signatures verify, everything else is False; most verdicts are OpenSSL's too (cases/es256.py)."""

from array import array
from binascii import unhexlify

from gatehouse import es256
from harness import cases, raises

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

# RFC 6979 A.2.5, SHA-256
KEY = unhexlify(
    "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
    "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
)
SAMPLE = unhexlify(
    "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
    "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
)
TEST = unhexlify(
    "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367"
    "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083"
)


class Identity:
    """In the place of hashlib.sha256: the message is its own digest, which no real message can choose."""

    def __init__(self, message):
        self._message = message

    def digest(self):
        return self._message


def number(data):
    return int.from_bytes(data, "big")


def pair(a, b):
    return a.to_bytes(32, "big") + b.to_bytes(32, "big")


def check(group, least, digests=False):
    """Compare verify() with the verdicts of one group of cases, of which there are at least so many of each kind."""
    rows = cases("es256")[group]
    if digests:
        es256.sha256 = Identity
    accepted = 0
    for name, key, message, signature, verdict in rows:
        result = es256.verify(unhexlify(key), unhexlify(message), unhexlify(signature))
        assert result is verdict, (name, key, message, signature, result)
        accepted += verdict
    assert accepted >= least and len(rows) - accepted >= least, (accepted, len(rows))


def test_rfc6979_signatures():
    assert es256.verify(KEY, b"sample", SAMPLE) is True
    assert es256.verify(KEY, b"test", TEST) is True
    assert es256.verify(KEY, b"sample", TEST) is False
    assert es256.verify(KEY, b"test", SAMPLE) is False


def test_random_signatures_and_altered_twins():
    check("random", 100)


def test_keys_near_the_base_point():
    check("keys", 80)


def test_r_and_s_out_of_range():
    check("range", 5)


def test_x_of_r_at_or_above_n():
    check("wrap", 15)


def test_scalars_at_the_ends_of_the_windows():
    check("scalars", 100, digests=True)


def test_sums_that_meet_doubling_or_infinity():
    check("meetings", 120, digests=True)


def test_result_at_infinity():
    check("infinity", 12)


def test_last_step_refuses_r_zero_and_infinity():
    # Nobody knows the u1 for which u1*G has x = 0, so the outcome of the arithmetic is put in its place.
    def outcome(x, z, r):
        es256._combine = lambda u1, u2, q_odd: (x, z)
        return es256.verify(KEY, b"sample", pair(r, 1))

    assert outcome(5, 1, 5) is True
    assert outcome(20, 2, 5) is True
    assert outcome(20, 1, 5) is False
    assert outcome(0, 1, 0) is False
    assert outcome(N, 1, 0) is False
    assert outcome(0, 0, 5) is False


def test_keys_that_are_no_point():
    check("curve", 4, digests=True)


def test_one_flipped_bit_in_each_byte():
    message = bytes(range(100))
    key, signature = genuine(message)
    assert es256.verify(key, message, signature) is True
    for which, data in enumerate((key, message, signature)):
        for i in range(len(data)):
            bad = bytearray(data)
            bad[i] ^= 1 << (i * 5 % 8)
            arguments = [key, message, signature]
            arguments[which] = bad
            assert es256.verify(*arguments) is False, (which, i)


def genuine(message):
    """A key and its signature of the message, by the arithmetic of this file: private key 3, nonce 7."""
    from hashlib import sha256

    point = G
    multiples = [None, G]
    for _ in range(6):
        point = add(point, G)
        multiples.append(point)
    r = multiples[7][0] % N
    s = pow(7, N - 2, N) * (number(sha256(message).digest()) + 3 * r) % N
    return pair(*multiples[3]), pair(r, s)


def test_both_values_of_s():
    # ECDSA as FIPS 186-5 has it takes both; nothing in Gatehouse takes a signature for an identifier.
    r, s = number(SAMPLE[:32]), number(SAMPLE[32:])
    assert es256.verify(KEY, b"sample", pair(r, N - s)) is True
    assert es256.verify(KEY, b"sample", pair(N - r, s)) is False


def test_every_wrong_length():
    for length in list(range(64)) + list(range(65, 140)) + [1000]:
        for filler in (SAMPLE + SAMPLE + SAMPLE, bytes(192)):
            bad = (filler * 6)[:length]
            assert es256.verify(KEY, b"sample", bad) is False, length
        assert es256.verify((KEY * 20)[:length], b"sample", SAMPLE) is False, length
        assert es256.verify((bytes(32) + KEY * 20)[:length], b"sample", SAMPLE) is False, length
    # Other encodings of the same values: SEC 1 points, DER, leading and trailing zeros.
    compressed = bytes([2 + KEY[63] % 2]) + KEY[:32]
    for key in (b"\x04" + KEY, compressed, b"\0" + KEY, KEY + b"\0", KEY[:32] + b"\0" + KEY[32:]):
        assert es256.verify(key, b"sample", SAMPLE) is False
    der = b"\x30\x46\x02\x21\x00" + SAMPLE[:32] + b"\x02\x21\x00" + SAMPLE[32:]
    for signature in (der, b"\0" + SAMPLE, SAMPLE + b"\0", SAMPLE + SAMPLE, TEST[:63]):
        assert es256.verify(KEY, b"sample", signature) is False
    assert es256.verify(b"", b"", b"") is False


def test_any_kind_of_buffer():
    whole = b"<" + KEY + b"sample" + SAMPLE + b">"
    view = memoryview(whole)
    for kind in (bytes, bytearray, memoryview):
        assert es256.verify(kind(KEY), kind(b"sample"), kind(SAMPLE)) is True
        assert es256.verify(kind(KEY), kind(b"Sample"), kind(SAMPLE)) is False
    assert es256.verify(view[1:65], view[65:71], view[71:135]) is True
    assert es256.verify(view[1:65], view[65:72], view[71:135]) is False
    # A buffer counts in bytes, whatever its items: 64 items of two bytes are too long.
    assert es256.verify(array("B", KEY), b"sample", array("B", SAMPLE)) is True
    assert es256.verify(array("H", list(KEY)), b"sample", SAMPLE) is False
    assert es256.verify(KEY, b"sample", array("H", list(SAMPLE))) is False
    assert es256.verify(KEY, b"sample", array("I", list(SAMPLE))) is False
    assert whole == b"<" + KEY + b"sample" + SAMPLE + b">"


def test_what_is_no_buffer_is_false():
    for bad in (None, 0, 1, 64, -1, 1 << 300, True, [], [0] * 64, (), {}, "", "x" * 64, object(), KEY.hex()):
        assert es256.verify(bad, b"sample", SAMPLE) is False, bad
        assert es256.verify(KEY, b"sample", bad) is False, bad
        assert es256.verify(KEY, bad, SAMPLE) is False, bad


def test_memory_error_is_not_a_bad_signature():
    def no_memory(*arguments):
        raise MemoryError

    for name in ("sha256", "_odd_multiples", "_combine"):
        before = getattr(es256, name)
        setattr(es256, name, no_memory)
        with raises(MemoryError):
            es256.verify(KEY, b"sample", SAMPLE)
        setattr(es256, name, before)
    assert es256.verify(KEY, b"sample", SAMPLE) is True


def test_a_long_input_is_not_copied():
    import gc

    gc.collect()
    signature = bytearray(gc.mem_free() // 3 * 2)
    gc.collect()
    assert gc.mem_free() < len(signature)  # a copy would not fit
    assert es256.verify(KEY, b"sample", signature) is False
    assert es256.verify(signature, b"sample", SAMPLE) is False
    assert es256.verify(KEY, signature, SAMPLE) is False


def add(a, b):
    """Affine addition as in SP 800-186; a and b are not opposite."""
    (x1, y1), (x2, y2) = a, b
    rise, run = (3 * x1 * x1 - 3, 2 * y1) if a == b else (y2 - y1, x2 - x1)
    slope = rise * pow(run % P, P - 2, P) % P
    x = (slope * slope - x1 - x2) % P
    return x, (slope * (x1 - x) - y1) % P


def test_table_of_the_base_point():
    assert (G[1] ** 2 - G[0] ** 3 + 3 * G[0] - B) % P == 0
    assert len(es256.G_ODD) == 16 * 64
    point, twice = G, add(G, G)
    for i in range(0, 16 * 64, 64):
        assert es256.G_ODD[i : i + 64] == pair(point[0], 2 * point[1] % P), i
        point = add(point, twice)


def test_table_of_a_key():
    x, y = number(KEY[:32]), number(KEY[32:])
    table = es256._odd_multiples(x, y)
    point, twice = (x, y), add((x, y), (x, y))
    for i in range(0, 8 * 64, 64):
        assert table[i : i + 64] == pair(point[0], 2 * point[1] % P), i
        point = add(point, twice)


def test_digits():
    for k in (0, 1, 2, 31, 32, 33, 1 << 255, N - 1, N >> 1, (1 << 256) - 1, (1 << 256) - 31, int("5" * 64, 16)):
        for width in (5, 6):
            value, last = 0, -width
            for i, digit in enumerate(es256._digits(k, width)):
                value *= 2
                if digit:
                    digit -= digit // 128 * 256
                    assert digit % 2 and abs(digit) < 1 << (width - 1), (k, digit)
                    assert i - last >= width, (k, i)
                    value, last = value + digit, i
            assert value == k, (k, width)


def test_inverse():
    for m in (P, N):
        for a in (1, 2, 3, m - 1, m - 2, m // 2, m // 2 + 1, 1 << 128, number(KEY[:32])):
            assert es256._inverse(a, m) * a % m == 1, a
            assert 0 < es256._inverse(a, m) < m, a
