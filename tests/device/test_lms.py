"""HSS/LMS: genuine signatures of every type verify, everything else is False; pyhsslms agrees (cases/lms.py)."""

from array import array
from binascii import unhexlify

from gatehouse import lms
from harness import cases, raises, shared

LEVEL = b"\0\0\0\1"
NONE_SIGNED = bytes(4)


def group(name):
    for label, public, message, signature, verdict in cases("lms")[name]:
        yield label, unhexlify(public), unhexlify(message), unhexlify(signature), verdict


def twins():
    for case in cases("lms")["twins"]:
        yield [unhexlify(case[name]) for name in ("public", "message", "signature")]


def check(name, least):
    count = 0
    for label, public, message, signature, verdict in group(name):
        assert lms.verify(public, message, signature) is verdict, label
        assert lms.verify(public, message + b"\0", signature) is False, label
        count += verdict
    assert count >= least, count


def test_every_type():
    check("types", 2 * 4 * 4)


def test_first_and_last_leaf_and_one_beyond():
    check("leaves", 2 * 4 * 2)


def test_digits_of_many_messages():
    check("digests", 36)


def test_signature_of_another_type():
    # Every pair of types: with equal lengths only the types tell them apart, and none may be taken for another.
    rows = [row for row in group("types") if "H5" in row[0]]
    for label, public, message, signature, _ in rows:
        for other, _, _, foreign, _ in rows:
            if other != label:
                assert lms.verify(public, message, foreign) is False, (label, other)
        for base in (4, 8):  # the key says another type than the signature, at every value near
            for value in range(17):
                bad = bytearray(public)
                bad[base + 3] = value
                if bytes(bad) != public:
                    assert lms.verify(bad, message, signature) is False, (label, base, value)


def test_both_say_the_same_unknown_type():
    # LM-OTS and LMS types that are reserved, of height 25, or of SHAKE: no size of ours fits, or it must not matter.
    for public, message, signature in twins():
        at = len(signature) - 4 - (len(public) - 28) * (5 if public[7] in (5, 10) else 10)
        for type_ in range(256):
            for field, place in ((7, at + 3), (11, 11)):
                if type_ == public[field]:
                    assert signature[place] == type_
                    continue
                key, bad = bytearray(public), bytearray(signature)
                key[field] = bad[place] = type_
                assert lms.verify(key, message, bad) is False, (field, type_)


def test_a_type_is_a_word():
    # The owner's own signature, so that nothing but upper bytes of a type, in key and signature alike, is wrong.
    for public, message, signature in group_of("wide"):
        assert lms.verify(public, message, signature) is False
    assert len(cases("lms")["wide"]) == 4


def test_types_next_to_ours():
    # Made with the sizes that the neighbours' numbers would lead to: height 0, 25 and 30, and widths outside of 1 to 8.
    for public, message, signature in group_of("neighbours"):
        assert lms.verify(public, message, signature) is False, (public[7], public[11])
    assert len(cases("lms")["neighbours"]) > 6


def group_of(name):
    for row in cases("lms")[name]:
        yield [unhexlify(item) for item in row]


def test_one_flipped_bit_in_each_byte():
    for public, message, signature in twins():
        assert lms.verify(public, message, signature) is True
        arguments = [bytearray(public), bytearray(message), bytearray(signature)]
        for data in arguments:
            for i in range(len(data)):
                bit = 1 << (i * 5 % 8)
                data[i] ^= bit
                assert lms.verify(*arguments) is False, (len(data), i)
                data[i] ^= bit
        assert lms.verify(*arguments) is True


def test_every_wrong_length():
    for public, message, signature in twins():
        for length in range(len(signature)):
            assert lms.verify(public, message, signature[:length]) is False, length
        for length in range(len(public)):
            assert lms.verify(public[:length], message, signature) is False, length
        for more in (b"\0", signature[-1:], bytes(24), bytes(32), signature):
            assert lms.verify(public, message, signature + more) is False
            assert lms.verify(public, message, more + signature) is False
        for more in (b"\0", public[-1:], bytes(8), public):
            assert lms.verify(public + more, message, signature) is False
            assert lms.verify(more + public, message, signature) is False
    assert lms.verify(b"", b"", b"") is False


def test_a_bare_lms_key_is_not_an_hss_key():
    public, message, signature = next(twins())
    assert lms.verify(public[4:], message, signature[4:]) is False
    assert lms.verify(public[4:], message, signature) is False
    assert lms.verify(public, message, signature[4:]) is False


def test_levels():
    for public, message, signature in twins():
        for level in (0, 2, 3, 8, 255, 1 << 8, 1 << 16, 1 << 24, (1 << 24) + 1):
            assert lms.verify(level.to_bytes(4, "big") + public[4:], message, signature) is False, level
            if level:
                assert lms.verify(public, message, level.to_bytes(4, "big") + signature[4:]) is False, level


def test_leaf_numbers():
    for public, message, signature in twins():
        own = int.from_bytes(signature[4:8], "big")
        for number in (0, 31, 32, 1023, 1024, own + 32, own + 1024, (1 << 31) + own, (1 << 32) - 1):
            if number != own:
                bad = signature[:4] + number.to_bytes(4, "big") + signature[8:]
                assert lms.verify(public, message, bad) is False, number


def test_rfc_8554_appendix_f():
    # Two levels: refused as a whole, and each level by itself is a signature of one level.
    for case in shared("lms-rfc8554/rfc8554_appendix_f.json"):
        public, message, signature = [unhexlify(case[name]) for name in ("public_key", "message", "signature")]
        assert lms.verify(public, message, signature) is False
        lower = len(signature)
        while True:  # the lower public key is what the upper signature covers
            lower -= 1
            key = signature[lower : lower + 56]
            if key[:3] == key[4:7] == bytes(3) and 5 <= key[3] <= 6 and 3 <= key[7] <= 4:
                if lms.verify(LEVEL + public[4:], key, signature[:4][:3] + b"\0" + signature[4:lower]):
                    break
        assert lms.verify(LEVEL + key, message, NONE_SIGNED + signature[lower + 56 :]) is True
        assert lms.verify(LEVEL + key, message + b"x", NONE_SIGNED + signature[lower + 56 :]) is False


def test_rfc_9858_vectors():
    verdicts = []
    for case in shared("lms-rfc9858/rfc9858_and_draft.json"):
        public, message, signature = [unhexlify(case[name]) for name in ("public_key", "message", "signature")]
        verdicts.append((case["lms_type"], lms.verify(public, message, signature)))
    assert verdicts == [(10, True), (10, True), (20, False), (15, False)]  # the last two are SHAKE256


def test_any_kind_of_buffer():
    public, message, signature = next(twins())
    for kind in (bytes, bytearray, memoryview):
        assert lms.verify(kind(public), kind(message), kind(signature)) is True
        assert lms.verify(kind(public), kind(message + b"x"), kind(signature)) is False
    view = memoryview(b"<" + public + message + signature + b">")
    first, second = 1 + len(public), 1 + len(public) + len(message)
    assert lms.verify(view[1:first], view[first:second], view[second:-1]) is True
    assert lms.verify(array("B", public), message, array("B", signature)) is True
    # A buffer counts in bytes, whatever its items.
    for code in ("H", "I"):
        assert lms.verify(array(code, list(public)), message, signature) is False
        assert lms.verify(public, message, array(code, list(signature))) is False


def test_what_is_no_buffer_is_false():
    public, message, signature = next(twins())
    for bad in (None, 0, 1, -1, 1 << 300, True, [], [0] * 60, (), {}, "", "x" * 60, object()):
        assert lms.verify(bad, message, signature) is False, bad
        assert lms.verify(public, message, bad) is False, bad
        assert lms.verify(public, bad, signature) is False, bad


def test_memory_error_is_not_a_bad_signature():
    def no_memory(*arguments):
        raise MemoryError

    public, message, signature = next(twins())
    for name in ("sha256", "_digits"):
        before = getattr(lms, name)
        setattr(lms, name, no_memory)
        with raises(MemoryError):
            lms.verify(public, message, signature)
        setattr(lms, name, before)
    assert lms.verify(public, message, signature) is True


def test_a_long_input_is_not_copied():
    import gc

    public, message, signature = next(twins())
    gc.collect()
    long = bytearray(gc.mem_free() // 3 * 2)
    gc.collect()
    assert gc.mem_free() < len(long)  # a copy would not fit
    assert lms.verify(public, message, long) is False
    assert lms.verify(long, message, signature) is False
    assert lms.verify(public, long, signature) is False
