"""ECDSA on P-256 with SHA-256, verification only: ES256 (RFC 7518), ESP256 (RFC 9864), FIPS 186-5 section 6.4.2.

Everything verified here is public, so nothing runs in constant time. Python's own integers do the
arithmetic, whatever their digit size; time goes to products and reductions modulo p, so the formulas
below are arranged to need few of them:

- A point is (x, y2, z): the affine point (x / z**2, y2 / (2 * z**3)). Holding twice the ordinate
  saves three additions in each doubling. z = 0 is the point at infinity.
- u1*G + u2*Q is one chain of 256 doublings (Straus), the scalars in signed sliding windows (wNAF), so
  that a third or less of the usual additions remain.
- The tables of odd multiples hold affine points as bytes, 32 + 32 a point: a list of integers would
  need five times the heap.
"""

from hashlib import sha256

from micropython import const

# FIPS 186-5 / SP 800-186 section 3.2.1.3. The coefficient a is -3, the cofactor 1.
_P = const(0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF)
_N = const(0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551)
_B = const(0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B)

_G_WIDTH = const(6)  # wNAF digits -31, -29 ... 31: 16 points, 1 KiB
_Q_WIDTH = const(5)  # digits -15 ... 15: 8 points, made for each key; 16 would cost more than they save


def verify(public_key, message, signature):
    """Tell whether `signature` is the key's ECDSA signature of SHA-256(`message`).

    `public_key` is x || y and `signature` r || s, 64 bytes each, big-endian; all three are any bytes-like
    object. Whatever else they are or hold gives False, never an exception; only MemoryError passes
    through, because "no memory" must not read as "bad signature". As in every ES256 verifier, (r, n - s)
    verifies where (r, s) does: a signature proves who signed, it does not identify the message.
    """
    try:
        x, y = _pair(public_key)
        r, s = _pair(signature)
        e = int.from_bytes(sha256(message).digest(), "big")
    except (TypeError, ValueError):
        return False
    if not (0 < r < _N and 0 < s < _N and x < _P and y < _P):
        return False
    # On the curve, hence in the group: infinity has no such encoding, and the cofactor is 1.
    if (y * y - (x * x - 3) * x - _B) % _P:
        return False
    s = _inverse(s, _N)
    x, z = _combine(e * s % _N, r * s % _N, _odd_multiples(x, y))
    if not z:
        return False
    # x / z**2 modulo n must be r. It lies below p, so it is r or, if that is below p too, r + n.
    z = z * z % _P
    return (r * z - x) % _P == 0 or (r + _N < _P and ((r + _N) * z - x) % _P == 0)


def _pair(data):
    """The two 256-bit numbers in 64 bytes; ValueError for another length, TypeError without a buffer."""
    data = memoryview(data)
    if len(data) <= 64:  # copy nothing larger: a megabyte is a wrong length, not a lack of memory
        data = bytes(data)
    if len(data) != 64:
        raise ValueError
    return int.from_bytes(data[:32], "big"), int.from_bytes(data[32:], "big")


def _inverse(a, m):
    """1 / a modulo the prime m, 0 < a < m, by Euclid: six times faster than pow(a, m - 2, m).

    (MicroPython's pow() takes no negative exponent: pow(a, -1, m) is 0 there.)
    """
    b, u, v = m, 1, 0
    while a > 1:
        q = b // a
        a, b = b - q * a, a
        u, v = v - q * u, u
    return u % m


def _digits(k, width):
    """k's wNAF, most significant digit first: 257 bytes, each 0 or an odd digit modulo 256."""
    digits = bytearray(257)
    half = 1 << (width - 1)
    i = 256
    while k:
        if k & 1:
            d = k & (2 * half - 1)
            k >>= width
            if d & half:  # the upper half of the window stands for d - 2 * half, with a carry
                k += 1
                d += 256 - 2 * half
            digits[i] = d
            i -= width
        else:
            k >>= 1
            i -= 1
    return digits


def _odd_multiples(x, y):
    """Q, 3Q, 5Q ... 15Q as a table like G_ODD, by co-Z additions (Meloni 2007).

    2Q and the multiple last reached share one z all the way, so adding them needs no z; each addition
    multiplies it by a known h, so the inverse of the last z gives all earlier ones by multiplication.
    The sums are never infinity and their terms never equal: Q has the order n, far above 15.
    """
    p = _P
    y2 = 2 * y % p
    table = bytearray(8 * 64)
    table[:32] = x.to_bytes(32, "big")
    table[32:64] = y2.to_bytes(32, "big")
    dx, dy2, z = _double(x, y2)  # 2Q
    g = z * z % p
    x = x * g % p  # Q again, with the z of 2Q
    y2 = g * g % p
    steps = []
    for i in range(64, 512, 64):
        h = 2 * (dx - x)
        c = h * h % p
        a = dx * c % p
        b = x * c % p
        f = dy2 - y2
        t = dy2 * (a - b) % p
        x = (f * f - a - b) % p
        y2 = 2 * (f * (a - x) - t) % p
        dx = a
        dy2 = 2 * t
        z = z * h % p
        steps.append(h)
        table[i : i + 32] = x.to_bytes(32, "big")
        table[i + 32 : i + 64] = y2.to_bytes(32, "big")
    z = _inverse(z, p)
    for i in range(448, 0, -64):
        c = z * z % p
        x = int.from_bytes(table[i : i + 32], "big") * c % p
        y2 = int.from_bytes(table[i + 32 : i + 64], "big") * (c * z % p) % p
        table[i : i + 32] = x.to_bytes(32, "big")
        table[i + 32 : i + 64] = y2.to_bytes(32, "big")
        z = z * steps.pop() % p
    return table


def _double(x, y2):
    """Twice the affine point (x, y2, 1), as (x, y2, z)."""
    p = _P
    g = y2 * y2 % p
    b = x * g % p
    a = 3 * (x * x - 1) % p
    x = (a * a - b - b) % p
    return x, (2 * a * (b - x) - g * g) % p, y2


def _combine(u1, u2, q_odd):
    """(x, z) of u1*G + u2*Q, where `q_odd` is the table of Q's odd multiples."""
    p = _P
    u1 = _digits(u1, _G_WIDTH)
    u2 = _digits(u2, _Q_WIDTH)
    x = y2 = 1
    z = 0
    for i in range(257):
        # Doubling, written out because it runs 257 times: 8 products, 7 reductions.
        d = z * z % p
        z = y2 * z % p
        g = y2 * y2 % p
        b = x * g % p
        a = 3 * (x - d) * (x + d) % p
        x = (a * a - b - b) % p
        y2 = (2 * a * (b - x) - g * g) % p
        if u1[i]:
            x, y2, z = _add(x, y2, z, G_ODD, u1[i])
        if u2[i]:
            x, y2, z = _add(x, y2, z, q_odd, u2[i])
    return x, z


def _add(x1, y1, z1, table, digit):
    """(x1, y1, z1), y1 being twice the ordinate, plus the multiple `digit` from a table of odd ones."""
    p = _P
    i = (256 - digit if digit & 128 else digit) // 2 * 64
    x2 = int.from_bytes(table[i : i + 32], "big")
    y2 = int.from_bytes(table[i + 32 : i + 64], "big")
    if digit & 128:
        y2 = p - y2
    if not z1:
        return x2, y2, 1
    d = z1 * z1 % p
    h = (x2 * d - x1) % p
    f = (y2 * (d * z1 % p) - y1) % p
    if not h:  # the same point or its opposite: the formula below has no answer for either
        return (1, 1, 0) if f else _double(x2, y2)
    c = 4 * h * h % p
    j = h * c % p
    b = x1 * c % p
    x = (f * f - j - b - b) % p
    y = 2 * (f * (b - x) - y1 * j) % p
    return x, y, 2 * z1 * h % p


G_ODD = (  # G, 3G, 5G ... 31G, each as x || 2y
    b"\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2"
    b"\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96"
    b"\x9f\xc6\x85\xc5\xfc\x34\xff\x37\x1d\xcf\xd6\x94\xf8\x1f\x3c\x2c"
    b"\x57\x9c\x66\xae\xd6\x62\xbd\x9d\x97\x6c\x80\xd0\x6f\x7e\xa3\xea"
    b"\x5e\xcb\xe4\xd1\xa6\x33\x0a\x44\xc8\xf7\xef\x95\x1d\x4b\xf1\x65"
    b"\xe6\xc6\xb7\x21\xef\xad\xa9\x85\xfb\x41\x66\x1b\xc6\xe7\xfd\x6c"
    b"\x0e\x68\xc8\x19\x93\x31\xfe\xfb\x6e\x96\x0d\x9c\x34\xc9\x45\xd9"
    b"\xb0\x55\x60\x6b\x70\x9f\x70\x7b\x34\xf3\x62\x4f\x44\xfa\xa0\x65"
    b"\x51\x59\x0b\x7a\x51\x51\x40\xd2\xd7\x84\xc8\x56\x08\x66\x8f\xdf"
    b"\xef\x8c\x82\xfd\x1f\x5b\xe5\x24\x21\x55\x4a\x0d\xc3\xd0\x33\xed"
    b"\xc1\x82\xfb\x52\x20\x94\xe4\xfa\x15\xc3\x7e\x6d\x7f\x14\xf2\x4c"
    b"\x1a\x02\x5e\x00\xa9\xb0\x11\x11\xa3\xa1\x76\x89\xfb\x42\xdb\x49"
    b"\x8e\x53\x3b\x6f\xa0\xbf\x7b\x46\x25\xbb\x30\x66\x7c\x01\xfb\x60"
    b"\x7e\xf9\xf8\xb8\xa8\x0f\xef\x5b\x30\x06\x28\x70\x31\x87\xb2\xa3"
    b"\xe7\xd6\x3b\x7b\xc0\x66\x30\x6c\xda\x0d\x3f\x07\x4d\xeb\x20\x00"
    b"\xa7\x8e\x6c\x67\x96\x08\x36\x43\x8a\xbc\x35\x0d\x83\xe8\x01\x68"
    b"\xea\x68\xd7\xb6\xfe\xdf\x0b\x71\x87\x89\x38\xd5\x1d\x71\xf8\x72"
    b"\x9e\x0a\xcb\x8c\x2c\x6d\xf8\xb3\xd7\x9e\x8a\x4b\x90\x94\x9e\xe0"
    b"\x54\x4e\x89\x92\xe5\x93\xf9\xcf\x0e\x02\x95\x2c\x95\x1d\x41\x90"
    b"\x9a\xe2\x9f\xd5\x49\xbd\x04\x7f\xd0\xb4\x44\x94\x9b\xa0\x91\xf4"
    b"\x3e\xd1\x13\xb7\x88\x3b\x4c\x59\x06\x38\x37\x9d\xb0\xc2\x1c\xda"
    b"\x16\x74\x2e\xd0\x25\x50\x48\xbf\x43\x33\x91\xd3\x74\xbc\x21\xd1"
    b"\x21\x32\x41\x36\x99\x89\x91\x43\x49\x90\x87\x5f\x49\xe9\x8d\x14"
    b"\x12\x1a\x09\xb3\xbd\x31\x13\xb5\xc5\xf1\xdd\xf9\xd0\x54\x6e\x81"
    b"\x17\x7c\x83\x7a\xe0\xac\x49\x5a\x61\x80\x5d\xf2\xd8\x5e\xe2\xfc"
    b"\x79\x2e\x28\x4b\x65\xea\xd5\x8a\x98\xe1\x5d\x9d\x46\x07\x2c\x01"
    b"\xc7\x76\xb1\x9a\x9d\x7d\x4a\xb1\x44\x81\x23\x5b\x68\x1e\x9c\xe4"
    b"\x4d\xdc\x29\x87\x43\xf6\x9b\xe7\x38\x87\x77\xc5\xdf\x8f\x7f\xb0"
    b"\xf0\x45\x4d\xc6\x97\x1a\xba\xe7\xad\xfb\x37\x89\x99\x88\x82\x65"
    b"\xae\x03\xaf\x92\xde\x3a\x0e\xf1\x63\x66\x8c\x63\xe5\x9b\x9d\x5f"
    b"\x6b\x72\x7d\xc7\xb2\x5c\x5a\x3d\x9c\xcb\x29\xca\x3f\x2c\x87\xcc"
    b"\x54\x76\x43\x9b\xeb\x6b\xf4\x7e\x8f\xcb\x39\xbc\x1a\x06\x9e\x6d"
    b"\x47\x77\x69\x04\xc0\xf1\xcc\x3a\x9c\x09\x84\xb6\x6f\x75\x30\x1a"
    b"\x5f\xa6\x86\x78\xf0\xd6\x4a\xf8\xba\x1a\xbc\xe3\x47\x38\xa7\x3e"
    b"\x54\x00\xbd\xce\x6b\x72\xae\x4f\xc4\x63\x0a\xca\xee\xc9\x1d\x07"
    b"\x03\x65\x00\x87\x51\xaa\xe6\x7e\x65\xef\x0f\xfe\xe3\xe3\xf9\xb9"
    b"\xcb\x6d\x28\x61\x10\x2c\x0c\x25\xce\x39\xb7\xc1\x71\x08\xc5\x07"
    b"\x78\x2c\x45\x22\x57\x88\x48\x95\xc1\xfc\x7b\x74\xab\x03\xed\x83"
    b"\xb1\xae\xc2\x96\x49\xb3\xde\xa2\xb8\x6b\xce\x20\x1a\xda\xd9\xc9"
    b"\x49\x2c\xe2\xdc\x61\xf4\x7c\x07\xc7\x22\xa0\xea\x57\x9d\x9b\x54"
    b"\x32\x50\xfc\xf6\x86\x63\x7c\x7b\x2e\x4a\xc8\x6e\xb4\x73\xbc\xa5"
    b"\x3a\x58\x21\x39\xf4\x2b\x15\x23\xfd\x76\x36\x4e\x67\x39\x9e\x83"
    b"\x85\xcf\x86\x84\xcc\xfa\x6b\x27\x2f\x66\x12\x1a\x3a\xfd\x71\x19"
    b"\x12\xf9\xa7\x86\x76\xac\xd5\x04\x2b\xbc\x49\x40\xe3\xa9\x18\x12"
    b"\x0e\x91\xc7\x23\x9c\x26\x40\xd7\xd2\x8a\x3e\x39\xd4\x58\x3f\xa6"
    b"\x3c\x0b\xc0\xa5\xdf\x64\xa4\xfe\x67\x2e\x57\x30\x45\xca\x78\x96"
    b"\xbb\xec\xb8\x76\xaa\x1b\x74\x44\x34\x44\xe6\x77\x71\xc1\x7a\xda"
    b"\xfc\xd1\x06\x6a\xeb\xcf\x4b\x5c\x27\x00\x8c\xa8\x62\x81\x5a\xaa"
    b"\x3a\x67\xe2\x55\x4b\x0c\x0b\xb6\x85\xf4\xf5\x2d\x8c\x07\xfa\x84"
    b"\x41\x65\x2f\xc5\xb7\x6f\x1b\x24\x84\xa4\xdc\x45\xf2\x00\xd6\x87"
    b"\x4f\xa1\xe3\x0e\x5e\x3f\x9e\x86\x4d\xb5\xe4\xce\x2c\x75\xf6\x1b"
    b"\x18\x31\x15\xee\x6b\x4e\xc3\x15\x53\xda\x2d\x66\x05\xef\x26\x48"
    b"\x18\x4f\xfa\x58\x19\xd8\x0d\x51\xde\xba\x2f\xac\x46\x11\xf3\x78"
    b"\x57\x63\x55\xbd\x68\x3e\x54\xab\xf2\xe2\x01\x17\x3b\x08\x83\xd1"
    b"\x81\x4c\xdc\x4f\xcd\x11\xe6\xb2\x49\x8d\xb2\x10\x4d\x97\x33\x2a"
    b"\x8b\x7b\xd9\x97\xc7\xe0\x92\x2c\x41\xa4\x85\x84\xc1\x20\xdc\xdf"
    b"\xd6\xd3\x3a\xde\xfa\x19\x5b\x07\xa7\xc3\x6d\xa0\x90\x85\x3b\x8c"
    b"\xfd\x8c\xd1\xc6\x88\xb5\x8a\x41\xde\xdd\x69\x3d\x1c\x78\x4d\xef"
    b"\x09\x55\x74\x2e\xdc\x32\xba\xfb\x7e\xf0\x48\xbe\xab\x14\xbb\x96"
    b"\x13\x42\xcd\x55\x97\x2b\xdb\xda\xaa\x18\x24\x8b\x27\xa3\x79\x4d"
    b"\x30\x1d\x9e\x50\x2d\xc7\xe0\x5d\xa8\x5d\xa0\x26\xa7\xae\x9a\xa0"
    b"\xfa\xc9\xdb\x7d\x52\xa9\x5b\x3e\x3e\x3f\x9a\xa0\xa1\xb4\x5b\x8b"
    b"\xca\xa3\x6d\xed\x66\x0c\x24\x47\xc1\xa4\x78\x04\xd6\x02\xfa\xe4"
    b"\x53\x1b\x35\xc8\xd1\x0f\x94\xc3\xab\x1b\x6d\x5d\x42\xfd\xc4\xce"
)
