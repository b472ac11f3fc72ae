"""The peer that es256 is measured against: ECDSA P-256 verification as textbooks write it.

Jacobian coordinates (y**2 = x**3 - 3*x + b), double-and-add from the top bit, inverses by Fermat's
theorem; u1*G and u2*Q one after the other. `verify_joint` adds the first improvement that one
would make, Shamir's trick: both scalars in one chain of doublings.
Correct for genuine inputs; for comparison only.
"""

from hashlib import sha256

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    1,
)
INFINITY = (1, 1, 0)


def double(point):
    x, y, z = point
    yy = y * y % P
    zz = z * z % P
    s = 4 * x * yy % P
    m = 3 * (x - zz) * (x + zz) % P
    x3 = (m * m - 2 * s) % P
    return x3, (m * (s - x3) - 8 * yy * yy) % P, 2 * y * z % P


def add(first, second):
    x1, y1, z1 = first
    x2, y2, z2 = second
    if not z1:
        return second
    if not z2:
        return first
    zz1 = z1 * z1 % P
    zz2 = z2 * z2 % P
    u1 = x1 * zz2 % P
    u2 = x2 * zz1 % P
    s1 = y1 * z2 * zz2 % P
    s2 = y2 * z1 * zz1 % P
    if u1 == u2:
        return double(first) if s1 == s2 else INFINITY
    h = u2 - u1
    r = s2 - s1
    hh = h * h % P
    hhh = h * hh % P
    v = u1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return x3, (r * (v - x3) - s1 * hhh) % P, z1 * z2 * h % P


def multiply(k, point):
    total = INFINITY
    for i in range(255, -1, -1):
        total = double(total)
        if k >> i & 1:
            total = add(total, point)
    return total


def multiply_joint(k, first, m, second):
    both = add(first, second)
    total = INFINITY
    for i in range(255, -1, -1):
        total = double(total)
        bits = (k >> i & 1) + 2 * (m >> i & 1)
        if bits:
            total = add(total, (first, second, both)[bits - 1])
    return total


def _scalars(public_key, message, signature):
    if len(public_key) != 64 or len(signature) != 64:
        return None
    x = int.from_bytes(public_key[:32], "big")
    y = int.from_bytes(public_key[32:], "big")
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    if not (0 < r < N and 0 < s < N and x < P and y < P) or (y * y - x * x * x + 3 * x - B) % P:
        return None
    e = int.from_bytes(sha256(message).digest(), "big")
    w = pow(s, N - 2, N)
    return (x, y, 1), r, e * w % N, r * w % N


def _accept(point, r):
    x, _, z = point
    if not z:
        return False
    z = pow(z, P - 2, P)
    return x * z * z % P % N == r


def verify(public_key, message, signature):
    """ES256, by two separate multiplications."""
    scalars = _scalars(public_key, message, signature)
    if scalars is None:
        return False
    q, r, u1, u2 = scalars
    return _accept(add(multiply(u1, G), multiply(u2, q)), r)


def verify_joint(public_key, message, signature):
    """ES256, by one joint multiplication."""
    scalars = _scalars(public_key, message, signature)
    if scalars is None:
        return False
    q, r, u1, u2 = scalars
    return _accept(multiply_joint(u1, G, u2, q), r)
