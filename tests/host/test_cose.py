"""Keys, deterministic CBOR and COSE of the host tools."""

import hashlib
import os
import random
import stat

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from gatehouse_tools import cbor, cose, keys
from gatehouse_tools.errors import GatehouseError


@pytest.fixture(scope="module")
def signer():
    return keys.generate()


def refused(reason, function, *arguments):
    with pytest.raises(GatehouseError) as caught:
        function(*arguments)
    assert caught.value.reason == reason, caught.value
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Deterministic CBOR


def test_what_is_read_is_what_would_be_written(seed):
    """Whatever loads() takes, dumps() writes the same; whatever differs in order or form, it refuses."""
    chance = random.Random(seed)
    keys = [0, 1, 23, 24, 255, 256, 65536, -1, -24, -25, -70001, 2**64 - 1, 2**64, -(2**64) - 1, b"", b"a", b"bb"]
    keys += ["", "a", "\u00fc", "bb", "x" * 24, (1, 2)]
    plain = [0, 24, 2**32, 2**70, -5, 0.5, 1e300, float("inf"), 3.0, "text", b"bytes", None, True, False]

    def some(depth):
        kind = chance.randrange(6) if depth else 0
        if kind == 3:
            return [some(depth - 1) for _ in range(chance.randrange(4))]
        if kind == 4:
            return cbor.Tag(17, some(depth - 1))
        if kind == 5:
            return {key: some(depth - 1) for key in chance.sample(keys, chance.randrange(5))}
        return chance.choice(plain)

    different = 0
    for _ in range(3000):
        item = some(3)
        data = cbor.dumps(item)
        assert cbor.dumps(cbor.loads(data)) == data
        other = cbor2.dumps(item)  # maps as they came, floats of 64 bits
        if other != data:
            different += 1
            with pytest.raises(GatehouseError):
                cbor.loads(other)
    assert different > 300


def test_map_keys_are_sorted_by_bytes_not_by_length():
    # The example of RFC 8949, section 4.2.1; cbor2's own canonical form is the older one of section 4.2.3.
    keys_in_order = [10, 100, -1, "z", "aa", (100,), (-1,), False]
    mixed = dict.fromkeys(reversed(keys_in_order), 0)
    expected = b"\xa8" + b"".join(cbor2.dumps(key) + b"\x00" for key in keys_in_order)
    assert cbor.dumps(mixed) == expected
    assert cbor2.dumps(mixed, canonical=True) != expected


def test_maps_are_sorted_at_every_level():
    inner = {"z": 1, 100: 2, -1: 3}
    in_order = "a3 1864 02 20 03 617a 01"
    expected = f"81 d86b a2 01 81 {in_order} 02 {in_order}"
    assert cbor.dumps([cbor.Tag(107, {2: inner, 1: [inner]})]) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    "text",
    ["00", "1903e8", "3903e7", "fb3ff199999999999a", "f93e00", "f7", "f6", "a0", "80", "a201020304", "d8184101"],
)
def test_deterministic_cbor_is_read(text):
    data = bytes.fromhex(text)
    assert cbor.dumps(cbor.loads(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "1801",  # 1 in two bytes
        "a2020101 02",  # keys out of order
        "a201000100",  # the same key twice
        "5f4101ff",  # indefinite length
        "9f01ff",
        "fb3ff8000000000000",  # 1.5 fits in 16 bits
        "0000",  # something after it
        "42",  # ends too early
        "62c328",  # not UTF-8
        "1c",  # reserved
        "",
        "81" * 100 + "00",  # too deep
        "a1f501",  # to Python the map {1: 1}, and {1.0: 1}
        "a1f93c0001",
        "a1f601",
    ],
)
def test_other_cbor_is_refused(text):
    assert "the thing" in refused("format", cbor.loads, bytes.fromhex(text), "the thing")


def test_what_stands_in_a_tag_is_read_as_lists_and_maps():
    value = cbor.loads(cbor.dumps(cbor.Tag(18, [{1: [2]}, {(b"a",): 3}]))).value
    assert value == [{1: [2]}, {(b"a",): 3}]
    assert type(value) is list
    assert type(value[0]) is dict


def bomb(levels, fan):
    """Lists (tag 28) of `fan` references (29) to the list before: written again they would be fan ** levels."""
    found = [cbor.Tag(28, [])]
    for level in range(levels):
        found.append(cbor.Tag(28, [cbor.Tag(29, level)] * fan))
    return cbor.dumps(found)


def test_references_are_not_followed(monkeypatch):
    written = []
    real = cbor2.dumps

    def dumps(obj, **options):
        written.append(real(obj, **options))
        return written[-1]

    data = bomb(3, 20)
    monkeypatch.setattr(cbor2, "dumps", dumps)
    assert cbor.loads(data) == [cbor.Tag(28, [])] + [cbor.Tag(28, [cbor.Tag(29, level)] * 20) for level in range(3)]
    assert max(map(len, written)) == len(data)


@pytest.mark.parametrize(
    ("number", "content"),
    [
        (0, "2026-01-01T00:00:00Z"), (1, 0), (4, [2, 3]), (5, [2, 3]), (25, 0), (29, 0), (30, [1, 2]), (35, "[[a]"),
        (36, "a: b"), (37, b"D" * 16), (52, b"a"), (54, b"a"), (100, 1), (256, ["aaaa"]), (258, [1]),
        (260, b"abcd"), (261, {b"abcd": 8}), (1004, "2026-01-01"), (43000, [1.5, 2.5]), (55799, 1),
    ],
)  # fmt: skip
def test_a_tag_makes_no_object(number, content):
    found = cbor.loads(cbor.dumps(cbor.Tag(number, content)))
    assert (type(found), found.tag, found.value) == (cbor.Tag, number, content)
    assert type(found.value) is type(content)


# Keys


def test_key_file_is_private_and_never_overwritten(tmp_path, signer):
    path = tmp_path / "release.pem"
    old = os.umask(0)
    try:
        keys.save(signer, path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(GatehouseError, match="exists already"):
        keys.save(keys.generate(), path)
    assert path.read_bytes() == before
    assert keys.load(path).public == signer.public
    assert keys.load_public(path) == signer.key


def test_public_key_file(tmp_path, signer):
    path = tmp_path / "release.pub"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(signer.private.public_key().public_bytes(serialization.Encoding.PEM, form))
    assert keys.load_public(path) == signer.key
    refused("key", keys.load, path)


def test_files_that_are_no_keys(tmp_path, signer):
    def written(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    def pem(key, encryption=None):
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            encryption or serialization.NoEncryption(),
        )

    assert "gatehouse init" in refused("key", keys.load, tmp_path / "none.pem")
    refused("key", keys.load, tmp_path)
    refused("key", keys.load, written("junk.pem", b"junk"))
    refused("key", keys.load_public, written("junk2.pem", b"junk"))
    refused("key", keys.load, written("p384.pem", pem(ec.generate_private_key(ec.SECP384R1()))))
    refused("key", keys.load_public, written("ed.pem", pem(ed25519.Ed25519PrivateKey.generate())))
    locked = pem(signer.private, serialization.BestAvailableEncryption(b"x"))
    assert "passphrase" in refused("key", keys.load, written("locked.pem", locked))
    with pytest.raises(GatehouseError, match="folder"):
        keys.save(signer, tmp_path / "none" / "a.pem")


def test_key_id_and_public_bytes(signer):
    numbers = signer.private.public_key().public_numbers()
    assert signer.public == numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    assert signer.kid == signer.key.kid == hashlib.sha256(signer.public).digest()[:8]
    assert signer.alg == -9


def test_signatures(signer):
    signature = signer.sign(b"message")
    assert len(signature) == 64
    assert signature == signer.sign(b"message")  # RFC 6979: the same release signed again is the same file
    assert signer.key.verify(b"message", signature)
    assert not signer.key.verify(b"messagf", signature)
    assert not signer.key.verify(b"message", signature[:-1])
    assert not signer.key.verify(b"message", bytes(64))
    assert not keys.generate().key.verify(b"message", signature)
    assert not keys.PublicKey(keys.HSS_LMS, signer.public).verify(b"message", signature)
    assert not keys.PublicKey(keys.ESP256, b"\xff" * 64).verify(b"message", signature)


# COSE_Sign1


def test_detached_sign1(signer):
    block = cose.sign1_detached(signer, b"payload")
    tagged = cbor2.loads(block)
    assert tagged.tag == 18
    assert list(tagged.value[:3]) == [b"\xa1\x01\x28", {4: signer.kid}, None]
    parsed = cose.parse_sign1(block)
    assert (parsed.alg, parsed.kid) == (-9, signer.kid)
    assert parsed.signed_by([keys.generate().key, signer.key], b"payload") == signer.key
    assert parsed.signed_by([signer.key], b"other") is None
    assert parsed.signed_by([keys.generate().key], b"payload") is None


def test_sig_structure():
    expected = cbor2.dumps(["Signature1", b"\xa1\x01\x28", b"", b"payload"])
    assert cose.sig_structure(b"\xa1\x01\x28", b"payload") == expected


def test_the_algorithm_is_the_keys(signer):
    es256 = cose.parse_sign1(cose.sign1_detached(signer, b"payload", alg=keys.ES256))
    assert es256.signed_by([signer.key], b"payload") == signer.key
    other = cose.parse_sign1(cose.sign1_detached(signer, b"payload", alg=keys.HSS_LMS))
    assert other.signed_by([signer.key], b"payload") is None


def test_sign1_without_a_key_id(signer):
    parsed = cose.parse_sign1(cose.sign1_detached(signer, b"payload", kid=False))
    assert parsed.kid is None
    assert parsed.signed_by([keys.generate().key, signer.key], b"payload") == signer.key


ALG = b"\xa1\x01\x28"


@pytest.mark.parametrize(
    ("reason", "block"),
    [
        ("format", b"\x84"),
        ("format", cbor.dumps([ALG, {}, None, b""])),
        ("unsupported", cbor.dumps(cbor.Tag(98, [ALG, {}, None, []]))),
        ("format", cbor.dumps(cbor.Tag(18, [ALG, {}, None]))),
        ("format", cbor.dumps(cbor.Tag(18, [ALG, {}, None, "x"]))),
        ("format", cbor.dumps(cbor.Tag(18, [ALG, {}, b"payload", b""]))),
        ("format", cbor.dumps(cbor.Tag(18, [b"", {1: -9}, None, b""]))),
        ("format", cbor.dumps(cbor.Tag(18, [b"\xa0", {}, None, b""]))),
        ("format", cbor.dumps(cbor.Tag(18, [cbor.dumps({1: True}), {}, None, b""]))),
        ("unsupported", cbor.dumps(cbor.Tag(18, [ALG, {1: -7}, None, b""]))),
        ("unsupported", cbor.dumps(cbor.Tag(18, [cbor.dumps({1: -9, 2: [99]}), {}, None, b""]))),
        ("unsupported", cbor.dumps(cbor.Tag(18, [cbor.dumps({1: -9, 4: b"a"}), {4: b"b"}, None, b""]))),
        ("format", cbor.dumps(cbor.Tag(18, [ALG, {4: "text"}, None, b""]))),
    ],
)
def test_malformed_sign1_is_refused(reason, block):
    refused(reason, cose.parse_sign1, block)


# COSE_Mac0


def test_mac0_round_trip():
    key = bytes(range(32))
    message = cose.mac0(key, b"device-1", b"payload")
    assert cbor2.loads(message).tag == 17
    assert cose.mac0_kid(message) == b"device-1"
    assert cose.mac0_open(key, message) == (b"device-1", b"payload")


def test_every_changed_byte_of_a_mac0_is_refused():
    key = bytes(32)
    message = cose.mac0(key, b"device", b"payload")
    kid = message.index(b"device")
    for at in range(len(message)):
        damaged = bytearray(message)
        damaged[at] ^= 1
        if kid <= at < kid + len(b"device"):
            # The key id is not under the MAC: it only says which key to try.
            assert cose.mac0_open(key, bytes(damaged))[1] == b"payload"
            continue
        with pytest.raises(GatehouseError):
            cose.mac0_open(key, bytes(damaged))
    refused("signature", cose.mac0_open, b"\x01" * 32, message)


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        ("format", [b"\xa1\x01\x05", {4: b"a"}, None, bytes(32)]),
        ("format", [b"\xa1\x01\x05", {4: b"a"}, b"p", bytes(31)]),
        ("unsupported", [b"\xa1\x01\x05", {}, b"p", bytes(32)]),
        ("unsupported", [b"\xa1\x01\x04", {4: b"a"}, b"p", bytes(32)]),
    ],
)
def test_malformed_mac0_is_refused(reason, value):
    refused(reason, cose.mac0_open, bytes(32), cbor.dumps(cbor.Tag(17, value)))
    refused("format", cose.mac0_open, bytes(32), cbor.dumps(value))


def test_hkdf_rfc5869_case_3():
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert cose.hkdf(b"\x0b" * 22, b"", 42).hex() == expected


def test_report_keys_differ_by_device_and_epoch():
    found = {cose.report_key(bytes([device]) * 32, epoch) for device in range(3) for epoch in range(3)}
    assert len(found) == 9
    assert cose.report_key(bytes(32)) == cose.hkdf(bytes(32), cbor2.dumps(["gatehouse/1", "report", "", "", 0]))
