"""HSS/LMS signatures (RFC 8554), verification only: one level, SHA-256 with 32 or 24 bytes (RFC 9858).

LMS types are LMS_SHA256_M32 and _M24 of height 5, 10, 15 and 20, with the LM-OTS types W1 to W8 of the same length.
The public key fixes both types; a signature must repeat them. Everything verified here is public, so nothing runs in
constant time. The time goes into the hash chains, so one buffer holds the input of all of them.
"""

from hashlib import sha256

from micropython import const

_M32 = const(4)  # LMS types start above these: type - base is the height in steps of five (RFC 8554, 5.1; RFC 9858)
_M24 = const(9)
_N32 = const(1)  # the first LM-OTS type of each length: type - base is log2(w) (RFC 8554, 4.1; RFC 9858)
_N24 = const(5)
_KEY = const(28)  # bytes of a public key before its root: level, LMS type, LM-OTS type, I (16)


def verify(public_key, message, signature):
    """Tell whether `signature` is an HSS signature of `message` by `public_key` (RFC 8554 section 6), of one level.

    All three are any bytes-like object. Whatever else they are or hold gives False, never an exception; only
    MemoryError passes through, because "no memory" must not read as "bad signature".
    """
    try:
        return _verify(memoryview(public_key), message, memoryview(signature))
    except (TypeError, ValueError):
        return False


def _verify(key, message, signature):
    n = 32 if len(key) == _KEY + 32 else 24
    if len(key) != _KEY + n:  # copy nothing larger
        return False
    key = bytes(key)
    lms = key[7] - (_M32 if n == 32 else _M24)
    ots = key[11] - (_N32 if n == 32 else _N24)
    if key[:7] != b"\0\0\0\1\0\0\0" or key[8:11] != b"\0\0\0" or not 1 <= lms <= 4 or not 0 <= ots <= 3:
        return False
    w = 1 << ots
    sums = b"\x09\x05\x03\x02"[ots]  # digits of the checksum
    if w == 1 and n == 24:
        sums = 8
    p = 8 * n // w + sums
    height = 5 * lms
    path = 12 + n * (p + 1)  # where the LMS type stands, before the path
    if len(signature) != path + 4 + n * height:
        return False
    # No signed public keys (one level); then q and the types. An array of wider items fails here: bytes() shows all.
    if bytes(signature[:4]) != bytes(4) or bytes(signature[8:12]) != key[8:12]:
        return False
    node = int.from_bytes(bytes(signature[4:8]), "big") + (1 << height)
    if node >> height != 1 or bytes(signature[path : path + 4]) != key[4:8]:
        return False

    # I, q, then what the hash is for: the prefix of every hash of LM-OTS, later of the tree.
    block = bytearray(22 + 64)
    whole = memoryview(block)
    block[:16] = key[12:_KEY]
    block[16:20] = signature[4:8]
    state = sha256(whole[:20])
    state.update(b"\x81\x81")
    state.update(signature[12 : 12 + n])
    state.update(message)
    digits = _digits(state.digest(), n, w, sums)

    # Algorithm 4b: each chain from the signature's element to its end. A digest has 32 bytes: for n = 24 the last
    # eight land behind what is hashed.
    top = (1 << w) - 1
    hashed = whole[: 23 + n]
    element = whole[23 : 23 + n]
    digest = whole[23:55]
    state = sha256(whole[:20])
    state.update(b"\x80\x80")
    at = 12 + n
    for i in range(p):
        block[20] = i >> 8
        block[21] = i & 255
        element[:] = signature[at : at + n]
        for j in range(digits[i], top):
            block[22] = j
            digest[:] = sha256(hashed).digest()
        state.update(element)
        at += n

    # Algorithm 6a: from the leaf to the root.
    block[16:20] = node.to_bytes(4, "big")
    block[20] = block[21] = 0x82
    whole[22:54] = state.digest()
    value = sha256(whole[: 22 + n]).digest()[:n]
    block[20] = block[21] = 0x83
    hashed = whole[: 22 + 2 * n]
    at += 4
    for _ in range(height):
        left, right = (signature[at : at + n], value) if node & 1 else (value, signature[at : at + n])
        whole[22 : 22 + n] = left
        whole[22 + n : 22 + 2 * n] = right
        node >>= 1
        block[16:20] = node.to_bytes(4, "big")
        value = sha256(hashed).digest()[:n]
        at += n
    return value == key[_KEY:]


def _digits(digest, n, w, sums):
    """The first n bytes of the message's hash in digits of w bits, then their checksum in `sums` of them (4.4)."""
    digits = bytearray(8 * n // w + sums)
    top = (1 << w) - 1
    total = (8 * n // w) * top
    i = 0
    for k in range(n):
        for shift in range(8 - w, -1, -w):
            digit = digest[k] >> shift & top
            digits[i] = digit
            total -= digit
            i += 1
    for k in range(sums - 1, -1, -1):
        digits[i] = total >> k * w & top
        i += 1
    return digits
