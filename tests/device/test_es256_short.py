"""A number that begins with a zero byte is not a shorter number: there is one encoding of a key and of a signature."""

from binascii import unhexlify

from gatehouse import es256
from harness import cases


def test_dropped_zero_byte():
    case = {name: unhexlify(value) for name, value in cases("es256_short").items()}
    key, message, signature = case["key"], case["message"], case["signature"]
    assert key[32] == 0 and signature[32] == 0
    assert es256.verify(key, message, signature) is True
    short_key, short_signature = key[:32] + key[33:], signature[:32] + signature[33:]
    assert int.from_bytes(short_signature[32:], "big") == int.from_bytes(signature[32:], "big")
    assert es256.verify(short_key, message, signature) is False
    assert es256.verify(key, message, short_signature) is False
    assert es256.verify(short_key, message, short_signature) is False
