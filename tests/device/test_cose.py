"""COSE_Sign1 and COSE_Mac0, HMAC and HKDF: standard vectors, agreement with cryptography, and what is refused."""

from binascii import a2b_base64

from gatehouse import Refused, cbor, cose, mac
from harness import cases, raises, shared

KEY = bytes(range(32))
ES256 = b"\xa1\x01\x26"  # protected header {1: -7}
CONTENT = b"This is the content."

# RFC 4231 section 4: key, data, HMAC-SHA-256 (case 5 is cut to 128 bits there)
RFC_4231 = (
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. "
        b"The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
)

# RFC 5869 appendix A, the SHA-256 cases: input key, salt, info, pseudorandom key, output
RFC_5869 = (
    (
        b"\x0b" * 22,
        bytes(range(13)),
        bytes(range(0xF0, 0xFA)),
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)),
        bytes(range(0x60, 0xB0)),
        bytes(range(0xB0, 0x100)),
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        b"\x0b" * 22,
        b"",
        b"",
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
)

# cose-wg/Examples mac0-tests/HMac-01
HMAC_01_KEY = bytes.fromhex("849b57219dae48de646d07dbb533566e976686457c1491be3a76dcea6c427188")
HMAC_01 = bytes.fromhex(
    "d18443a10105a054546869732069732074686520636f6e74656e742e"
    "5820a1a848d3471f9d61ee49018d244c824772f223ad4f935293f1789fc3a08d8c58"
)


def test_hmac_rfc_4231():
    for key, data, result in RFC_4231:
        result = bytes.fromhex(result)
        assert mac.hmac_sha256(key, data)[: len(result)] == result
        assert mac.hmac_sha256(key, data[:7], b"", data[7:])[: len(result)] == result


def test_hkdf_rfc_5869():
    for key, salt, info, middle, result in RFC_5869:
        middle, result = bytes.fromhex(middle), bytes.fromhex(result)
        assert mac.hmac_sha256(salt, key) == middle
        assert mac.expand(middle, info, len(result)) == result
        if not salt:
            assert mac.hkdf(key, info, len(result)) == result


def test_hkdf_length_limit():
    assert len(mac.hkdf(KEY, b"", 255 * 32)) == 255 * 32
    with raises(ValueError):
        mac.hkdf(KEY, b"", 255 * 32 + 1)


def test_hmac_and_hkdf_agree_with_cryptography():
    found = cases("cose")
    for case in found["hmac"]:
        result = mac.hmac_sha256(bytes.fromhex(case["key"]), bytes.fromhex(case["data"]))
        assert result == bytes.fromhex(case["result"]), case
    for case in found["hkdf"]:
        result = mac.hkdf(bytes.fromhex(case["key"]), bytes.fromhex(case["info"]), case["length"])
        assert result == bytes.fromhex(case["result"]), case


def test_equal():
    assert mac.equal(b"", b"") and mac.equal(KEY, bytearray(KEY))
    for other in (b"", KEY[:-1], KEY + b"\x00", b"\x01" + KEY[1:], KEY[:-1] + b"\x00", KEY[:15] + b"\xff" + KEY[16:]):
        assert not mac.equal(KEY, other) and not mac.equal(other, KEY)
    for bit in range(8):
        assert not mac.equal(b"\x00", bytes([1 << bit]))
    assert not mac.equal(b"\x01\x01", b"\x00\x00")  # differences must not cancel out


def sign1(protected=ES256, unprotected=None, payload=None, signature=bytes(64), tag=18):
    return cbor.dumps(cbor.Tag(tag, [protected, {} if unprotected is None else unprotected, payload, signature]))


def test_sign1_takes_the_one_form():
    assert cose.sign1(sign1()) == (ES256, -7, None, bytes(64))
    assert cose.sign1(sign1(unprotected={4: b"12345678"})) == (ES256, -7, b"12345678", bytes(64))
    protected = cbor.dumps({1: -46, 4: b"key"})
    assert cose.sign1(sign1(protected, signature=b"long" * 500)) == (protected, -46, b"key", b"long" * 500)
    # RFC 9052 section 4.4: exactly these bytes are signed
    assert cose.sig_structure(ES256, b"payload") == b"\x84\x6aSignature1\x43\xa1\x01\x26\x40\x47payload"


def test_shape_is_judged_before_anything_is_taken_apart():
    inner = b"\x84\x43\xa1\x01\x26\xa0\xf6\x41s"
    for odd in (
        b"\x84" + inner + b"\xa0\xf6\x41s",
        b"\xd2\xa4" + b"".join(b"\x43\xa1\x01" + bytes([alg]) + b"\xa0" for alg in b"\x25\x26\x27\x28"),
    ):
        with raises(Refused, "format"):
            cose.sign1(odd)


def test_header_of_many_entries_is_not_built():
    many = cbor.dumps(dict.fromkeys(range(1000), 0))
    whole = b"\xd2\x84\x43\xa1\x01\x26" + many + b"\xf6\x41s"
    loads, built = cbor.loads, []
    cbor.loads = lambda *arguments: built.append(1) or loads(*arguments)
    try:
        with raises(Refused, "unsupported"):
            cose.sign1(whole)
    finally:
        cbor.loads = loads
    assert not built


def test_sign1_header_with_anything_more():
    for protected in (
        {},
        {4: b"kid"},
        {1: -7, 2: [1]},  # crit
        {1: -7, 3: 0},
        {1: -7, 33: b"x5chain"},
        {1: "ES256"},
        {1: None},
        {1: True},
        {1: b"\x26"},
        {1: -7.5},
        {"1": -7},
        {-1: -7},
    ):
        with raises(Refused, "unsupported"):
            cose.sign1(sign1(cbor.dumps(protected)))
    with raises(Refused, "unsupported"):
        cose.sign1(sign1(b""))  # no protected header at all
    for unprotected in ({1: -7}, {1: -7, 4: b"kid"}, {3: 0}, {4: b"kid", 5: b"iv"}, {"4": b"kid"}, {4: None}):
        with raises(Refused, "unsupported"):
            cose.sign1(sign1(unprotected=unprotected))
        with raises(Refused, "unsupported"):
            cose.sign1(sign1(b"", unprotected))  # an algorithm that is not signed


def test_sign1_key_id_twice():
    both = cbor.dumps({1: -7, 4: b"kid"})
    assert cose.sign1(sign1(both))[2] == b"kid"
    for kid in (b"kid", b"other"):
        with raises(Refused, "unsupported"):
            cose.sign1(sign1(both, {4: kid}))


def test_sign1_malformed():
    for value in (
        [ES256, {}, None, bytes(64)],  # no tag
        cbor.Tag(17, [ES256, {}, None, bytes(64)]),
        cbor.Tag(98, [ES256, {}, None, bytes(64)]),  # COSE_Sign
        cbor.Tag(18, cbor.Tag(18, [ES256, {}, None, bytes(64)])),
        cbor.Tag(18, [ES256, {}, None]),
        cbor.Tag(18, [ES256, {}, None, bytes(64), None]),
        cbor.Tag(18, {1: ES256, 2: {}, 3: None, 4: bytes(64)}),
        cbor.Tag(18, b"abcd"),
        cbor.Tag(18, "abcd"),
        cbor.Tag(18, None),
        cbor.Tag(18, [{1: -7}, {}, None, bytes(64)]),
        cbor.Tag(18, ["\xa1", {}, None, bytes(64)]),
        cbor.Tag(18, [None, {}, None, bytes(64)]),
        cbor.Tag(18, [b"\x80", {}, None, bytes(64)]),
        cbor.Tag(18, [b"\xf6", {}, None, bytes(64)]),
        cbor.Tag(18, [ES256, [], None, bytes(64)]),
        cbor.Tag(18, [ES256, None, None, bytes(64)]),
        cbor.Tag(18, [ES256, {}, False, bytes(64)]),
        cbor.Tag(18, [ES256, {}, "text", bytes(64)]),
        cbor.Tag(18, [ES256, {}, None, None]),
        cbor.Tag(18, [ES256, {}, None, "text"]),
        cbor.Tag(18, [ES256, {4: "kid"}, None, bytes(64)]),
        cbor.Tag(18, [ES256, {4: 1}, None, bytes(64)]),
    ):
        with raises(Refused, "format"):
            cose.sign1(cbor.dumps(value))
    for protected in (
        b"\xa1\x01\x26\x00",  # trailing
        b"\xa1\x01\x38\x06",  # not shortest
        b"\xbf\x01\x26\xff",  # indefinite
        b"\xa2\x01\x26\x01\x27",  # duplicate
        b"\xa2\x04\x40\x01\x26",  # order
        b"\xa1\xf5\x26",  # the label true, which is 1 to Python
        b"\xa1\x01",  # truncated
    ):
        with raises(Refused, "format"):
            cose.sign1(sign1(protected))
    good = sign1(unprotected={4: b"kid"})
    with raises(Refused, "format"):
        cose.sign1(good + b"\x00")
    for end in range(len(good)):
        with raises(Refused, "format"):
            cose.sign1(good[:end])


def test_sign1_attached_payload():
    for payload in (b"", b"payload"):
        with raises(Refused, "unsupported"):
            cose.sign1(sign1(payload=payload))


def test_sign1_agrees_with_cryptography():
    from gatehouse import es256

    for case in cases("cose")["sign1"]:
        wanted = {name: bytes.fromhex(text) for name, text in case.items() if isinstance(text, str)}
        found = cose.sign1(wanted["block"])
        assert found == (wanted["protected"], case["alg"], wanted.get("kid"), wanted["signature"])
        structure = cose.sig_structure(found[0], wanted["payload"])
        assert structure == wanted["structure"]
        assert es256.verify(wanted["public"], structure, found[3])
        assert not es256.verify(wanted["public"], structure + b"\x00", found[3])


def test_mac0_round_trip():
    message = mac.mac0(KEY, b"gh-1", CONTENT)
    assert message[:6] == b"\xd1\x84\x43\xa1\x01\x05"
    assert cose.mac0_open(KEY, message) == (b"gh-1", CONTENT)
    assert cbor.loads(mac.CWT + message).tag == 61
    with raises(Refused, "format"):
        cose.mac0_open(KEY, mac.CWT + message)


def test_mac0_example():
    assert cose.mac0_open(HMAC_01_KEY, HMAC_01) == (None, CONTENT)


def test_mac0_wrong_key():
    message = mac.mac0(KEY, b"gh-1", CONTENT)
    for key in (b"", KEY[1:], bytes(32), KEY + b"\x01"):
        with raises(Refused, "signature"):
            cose.mac0_open(key, message)


def test_mac0_each_bit_counts():
    message = mac.mac0(KEY, b"gh-1", CONTENT)
    kid = message.find(b"gh-1")
    for at in range(len(message)):
        for bit in range(8):
            changed = bytearray(message)
            changed[at] ^= 1 << bit
            try:
                found, payload = cose.mac0_open(KEY, changed)
            except Refused as refused:
                assert refused.reason in ("format", "unsupported", "signature")
            else:
                # The kid says which key to try and is not covered by the MAC (RFC 9052 section 3.1).
                assert kid <= at < kid + 4 and payload == CONTENT and found != b"gh-1", (at, bit)


def test_mac0_short_or_long_tag():
    message = cbor.loads(mac.mac0(KEY, b"gh-1", CONTENT))
    tag = message.value[3]
    for wrong in (b"", tag[:8], tag[:31], tag + b"\x00"):  # tag[:8] is HMAC 256/64, another algorithm
        message.value[3] = wrong
        with raises(Refused, "signature"):
            cose.mac0_open(KEY, cbor.dumps(message))


def test_mac0_other_algorithm():
    for alg in (4, 6, -7, -9):
        protected = cbor.dumps({1: alg})
        tag = mac.hmac_sha256(KEY, cbor.dumps(["MAC0", protected, b"", CONTENT]))
        with raises(Refused, "unsupported"):
            cose.mac0_open(KEY, cbor.dumps(cbor.Tag(17, [protected, {4: b"gh-1"}, CONTENT, tag])))


def test_mac0_detached_payload():
    protected = b"\xa1\x01\x05"
    tag = mac.hmac_sha256(KEY, cbor.dumps(["MAC0", protected, b"", b""]))
    assert cose.mac0_open(KEY, cbor.dumps(cbor.Tag(17, [protected, {}, b"", tag]))) == (None, b"")
    with raises(Refused, "unsupported"):
        cose.mac0_open(KEY, cbor.dumps(cbor.Tag(17, [protected, {}, None, tag])))


def test_mac0_is_no_sign1():
    with raises(Refused, "format"):
        cose.sign1(mac.mac0(KEY, b"gh-1", CONTENT))
    with raises(Refused, "format"):
        cose.mac0_open(KEY, sign1())


def test_mac0_agrees_with_cryptography():
    for case in cases("cose")["mac0"]:
        key, kid, payload, message = (bytes.fromhex(case[name]) for name in ("key", "kid", "payload", "message"))
        assert mac.mac0(key, kid, payload) == message
        assert cose.mac0_open(key, message) == (kid, payload)


def unpadded(text):
    return a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))


def test_cose_wg_mac0():
    # The profile refuses the three mac-pass: their algorithm is not protected, and the last has no tag.
    for name, reason in (
        ("HMac-01", None),
        ("mac-pass-01", "unsupported"),
        ("mac-pass-02", "unsupported"),
        ("mac-pass-03", "format"),
        ("mac-fail-01", "format"),  # another tag
        ("mac-fail-02", "signature"),
        ("mac-fail-03", "unsupported"),  # algorithm -999
        ("mac-fail-04", "unsupported"),  # algorithm "unknown"
        ("mac-fail-06", "unsupported"),  # one more protected header
        ("mac-fail-07", "signature"),  # one removed
    ):
        case = shared("cose-wg-examples/mac0-tests/%s.json" % name)
        key = unpadded(case["input"]["mac0"]["recipients"][0]["key"]["k"])
        message = bytes.fromhex(case["output"]["cbor"])
        if reason is None:
            assert cose.mac0_open(key, message)[1] == CONTENT, name
        else:
            with raises(Refused, reason):
                cose.mac0_open(key, message)


def test_cose_wg_sign1():
    from gatehouse import es256

    # With the payload taken out, as in Gatehouse. False: taken apart, but the signature does not verify.
    for name, reason in (
        ("sign-pass-01", "unsupported"),  # the algorithm is not protected
        ("sign-pass-02", False),  # external data, which Gatehouse has none of
        ("sign-pass-03", "format"),  # no tag
        ("sign-fail-01", "format"),  # another tag
        ("sign-fail-02", False),  # signature or content changed
        ("sign-fail-03", False),  # algorithm -999
        ("sign-fail-04", "unsupported"),  # algorithm "unknown"
        ("sign-fail-06", "unsupported"),  # one more protected header
        ("sign-fail-07", False),  # one removed
    ):
        case = shared("cose-wg-examples/sign1-tests/%s.json" % name)
        key = case["input"]["sign0"]["key"]
        public = unpadded(key["x"]) + unpadded(key["y"])
        data = bytes.fromhex(case["output"]["cbor"])
        with raises(Refused):
            cose.sign1(data)  # the payload is attached, if nothing else
        message = cbor.loads(data)
        parts = message.value if isinstance(message, cbor.Tag) else message
        payload = parts[2]
        parts[2] = None
        if reason:
            with raises(Refused, reason):
                cose.sign1(cbor.dumps(message))
            continue
        protected, alg, kid, signature = cose.sign1(cbor.dumps(message))
        assert kid == b"11" and signature == parts[3]
        assert alg == (-999 if name == "sign-fail-03" else -7)
        assert not es256.verify(public, cose.sig_structure(protected, payload), signature), name
    # None of the nine is a plain one, so make it: pass-03 has a good signature and lacks only the tag.
    case = shared("cose-wg-examples/sign1-tests/sign-pass-03.json")
    parts = cbor.loads(bytes.fromhex(case["output"]["cbor"]))
    payload = parts[2]
    parts[2] = None
    protected, _, _, signature = cose.sign1(cbor.dumps(cbor.Tag(18, parts)))
    structure = cose.sig_structure(protected, payload)
    assert structure == bytes.fromhex(case["intermediates"]["ToBeSign_hex"])
    assert es256.verify(public, structure, signature)
