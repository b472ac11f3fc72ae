"""Cases for ES256: genuine signatures, forgeries, and scalars that drive the point arithmetic into its corners.

Corner cases are made backwards. Who may choose the digest e, or the key, can have any u1, u2 and R = u1*G + u2*Q:
r = x(R) mod n, s = r/u2, e = u1*s; or, for a given e, Q = (s*R - e*G)/r. Real messages cannot reach some of them
(nobody knows a message whose digest is 0), so those cases come with a digest in the message's place.
Each verdict is OpenSSL's too, or make() fails.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, Hash

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
INFINITY = None
# A root of the cubic x**3 - 3*x + b = 5**2: a point whose y + p still fits 256 bits.
SMALL_Y = (0xD7325D7646CD60D80A92738CEB345F844CFFAF35841022CAB176F692DE8DE1D7, 5)


def add(a, b):
    """Affine addition. It never uses b, so it also adds on the other curves y**2 = x**3 - 3*x + c."""
    if a is INFINITY or b is INFINITY:
        return b if a is INFINITY else a
    (x1, y1), (x2, y2) = a, b
    if x1 == x2 and (y1 + y2) % P == 0:
        return INFINITY
    rise, run = (3 * x1 * x1 - 3, 2 * y1) if a == b else (y2 - y1, x2 - x1)
    slope = rise * pow(run, -1, P) % P
    x = (slope * slope - x1 - x2) % P
    return x, (slope * (x1 - x) - y1) % P


def base(k):
    """k*G, quickly."""
    if k % N == 0:
        return INFINITY
    point = ec.derive_private_key(k % N, ec.SECP256R1()).public_key().public_numbers()
    return point.x, point.y


def multiply(k, point):
    total = INFINITY
    while k:
        if k & 1:
            total = add(total, point)
        point = add(point, point)
        k >>= 1
    return total


def lift(x):
    """A point with this x, or None."""
    square = (x**3 - 3 * x + B) % P
    y = pow(square, (P + 1) // 4, P)
    return (x, y) if y * y % P == square else None


def pair(a, b):
    return a.to_bytes(32, "big") + b.to_bytes(32, "big")


def sha256(message):
    state = Hash(SHA256())
    state.update(message)
    return state.finalize()


def number(data):
    return int.from_bytes(data, "big")


def sign(private, digest, nonce):
    """An ECDSA signature with a nonce of our choice."""
    r = base(nonce)[0] % N
    return pair(r, pow(nonce, -1, N) * (number(digest) + r * private) % N)


def key_for(digest, point, r, s):
    """The public key under which (r, s) leads to R = `point`."""
    minus_e = base(-number(digest) % N)
    return pair(*multiply(pow(r, -1, N), add(multiply(s, point), minus_e)))


def openssl_accepts(public_key, digest, signature):
    if len(public_key) != 64 or len(signature) != 64:
        return False
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public_key)
        der = encode_dss_signature(number(signature[:32]), number(signature[32:]))
        key.verify(der, digest, ec.ECDSA(Prehashed(SHA256())))
    except (ValueError, InvalidSignature):
        return False
    return True


class Table:
    """Rows [name, public key, message or digest, signature, verdict], each verdict confirmed by OpenSSL."""

    def __init__(self, hashed):
        self.rows = []
        self._digest = sha256 if hashed else bytes

    def add(self, name, public_key, message, signature, verdict):
        if openssl_accepts(public_key, self._digest(message), signature) != verdict:
            raise AssertionError(f"OpenSSL disagrees: {name}")
        self.rows.append([name, public_key, message, signature, verdict])


def make(rng):
    return {
        "random": random_cases(rng),
        "keys": key_cases(rng),
        "range": range_cases(rng),
        "wrap": wrap_cases(rng),
        "scalars": scalar_cases(rng),
        "meetings": meeting_cases(rng),
        "infinity": infinity_cases(rng),
        "curve": curve_cases(rng),
    }


def random_cases(rng):
    """Genuine signatures over messages of many lengths, their (r, n - s) and one altered twin of each."""
    table = Table(hashed=True)
    lengths = [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000]
    for i in range(100):
        private = rng.randrange(1, N)
        key = pair(*base(private))
        message = rng.randbytes(lengths[i] if i < len(lengths) else rng.randrange(200))
        signature = sign(private, sha256(message), rng.randrange(1, N))
        r, s = number(signature[:32]), number(signature[32:])
        table.add("genuine", key, message, signature, True)
        table.add("n - s", key, message, pair(r, N - s), True)
        wrong = [
            ("longer message", key, message + b"\0", signature),
            ("another message", key, rng.randbytes(32), signature),
            ("another key", pair(*base(rng.randrange(1, N))), message, signature),
            ("the opposite key", key[:32] + pair(0, P - number(key[32:]))[32:], message, signature),
            ("r and s swapped", key, message, signature[32:] + signature[:32]),
            ("n - r", key, message, pair(N - r, s)),
            ("s + 1", key, message, pair(r, s % (N - 1) + 1)),
            ("1 / s", key, message, pair(r, pow(s, -1, N))),
        ][i % 8]
        table.add(*wrong, False)
    return table.rows


def key_cases(rng):
    """Private keys whose public key is near G or -G: the tables of odd multiples of G and Q share points."""
    table = Table(hashed=True)
    small = [*range(1, 36), 62, 63, 64, 65, 1 << 31, 1 << 32, 1 << 128, 1 << 255, (N - 1) // 2, (N + 1) // 2]
    for d in small:
        for private in (d, N - d):
            message = rng.randbytes(20)
            signature = sign(private, sha256(message), rng.randrange(1, N))
            key = pair(*base(private))
            table.add(f"private key {private}", key, message, signature, True)
            table.add(f"private key {private}, another message", key, message + b"x", signature, False)
    for nonce in (1, 2, 3, N - 1, N - 2, 1 << 128):
        private = rng.randrange(1, N)
        message = rng.randbytes(20)
        table.add(f"nonce {nonce}", pair(*base(private)), message, sign(private, sha256(message), nonce), True)
    return table.rows


def range_cases(rng):
    """r and s just inside their range, and the same signatures with r or s out of it."""
    table = Table(hashed=True)
    message = rng.randbytes(40)
    digest = sha256(message)
    small, large = lift(5), lift(N - 2)
    top = 2**256 - 1
    for name, point, s in (
        ("small", small, 1),
        ("small", small, 2),
        ("large", large, N - 1),
        ("large", large, N - 2),
        ("usual", base(rng.randrange(1, N)), rng.randrange(1, N)),
    ):
        r = point[0]
        key = key_for(digest, point, r, s)
        table.add(f"{name} r, s = {s}", key, message, pair(r, s), True)
        # What stands for the same residues, and a two's complement reader's negatives.
        for label, bad_r, bad_s in (
            ("r + n", r + N, s),
            ("s + n", r, s + N),
            ("r - n, two's complement", (r - N) % 2**256, s),
            ("s - n, two's complement", r, (s - N) % 2**256),
            ("-s, two's complement", r, 2**256 - s),
            ("-r, two's complement", 2**256 - r, s),
        ):
            if bad_r <= top and bad_s <= top:
                table.add(f"{name} r, s = {s}: {label}", key, message, pair(bad_r, bad_s), False)
        for bad in (0, N, N + 1, P, P - 1, P + 1, top):
            table.add(f"r = {bad:#x}", key, message, pair(bad, s), False)
            table.add(f"s = {bad:#x}", key, message, pair(r, bad), False)
            table.add(f"r = s = {bad:#x}", key, message, pair(bad, bad), False)
    return table.rows


def wrap_cases(rng):
    """x(R) from n to p - 1, so that r = x(R) - n; and the r for which only (r + n) mod p would be x(R)."""
    table = Table(hashed=True)
    points = [point for i in range(1, 12) if (point := lift(N + i))]
    points += [point for i in range(1, 12) if (point := lift(P - i))]
    for point in points:
        r, s = point[0] - N, rng.randrange(1, N)
        message = rng.randbytes(24)
        key = key_for(sha256(message), point, r, s)
        table.add(f"x(R) = n + {r}", key, message, pair(r, s), True)
        table.add(f"x(R) = n + {r}, not reduced", key, message, pair(point[0], s), False)
        table.add(f"x(R) = n + {r}, r + 1", key, message, pair(r + 1, s), False)
    for x in (5, 6, 8, 9):  # x(R) itself is small: below p - n too, where r + n is also looked at
        point, s = lift(x), rng.randrange(1, N)
        message = rng.randbytes(24)
        table.add(f"x(R) = {x}", key_for(sha256(message), point, x, s), message, pair(x, s), True)
        r = x + P - N
        table.add(f"r + n = p + {x}", key_for(sha256(message), point, r, s), message, pair(r, s), False)
    return table.rows


def _add_scalars(table, name, u1, u2, k):
    """A signature by Q = k*G that leads to these u1 and u2, and its twin with another digest. e = u1*s."""
    point = base((u1 + u2 * k) % N)
    key = pair(*base(k))
    if point is INFINITY:
        for r in (1, 5, N - 1, G[0]):
            s = r * pow(u2, -1, N) % N
            table.add(f"{name}: R is infinity, r = {r}", key, pair(0, u1 * s % N)[32:], pair(r, s), False)
        return
    r = point[0] % N
    s = r * pow(u2, -1, N) % N
    digest = pair(0, u1 * s % N)[32:]
    table.add(name, key, digest, pair(r, s), True)
    table.add(f"{name}: e + 1", key, pair(0, number(digest) + 1)[32:], pair(r, s), False)


def scalar_cases(rng):
    """u1 and u2 at the ends of the signed windows: 0, powers of two, runs of ones, carries to digit 256."""
    table = Table(hashed=False)
    special = [1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, N - 1, N - 2, N - 31, (N - 1) // 2, (N + 1) // 2]
    special += [1 << 255, (1 << 255) - 1, (1 << 256) - (1 << 224) - 1, (1 << 128) - 1, 1 << 31, (1 << 64) - 1]
    special += [int("10" * 128, 2) % N, int("01" * 128, 2), int("100001" * 42, 2)]
    for u in special:
        k = rng.randrange(1, N)
        _add_scalars(table, f"u1 = {u:#x}", u, rng.randrange(1, N), k)
        _add_scalars(table, f"u2 = {u:#x}", rng.randrange(1, N), u, k)
        _add_scalars(table, f"u1 = 0, u2 = {u:#x}", 0, u, k)
        _add_scalars(table, f"u1 = u2 = {u:#x}", u, u, k)
    # Digests that are 0 modulo n, or not below n.
    for digest in (0, N, N + 1, 2**256 - 1, P):
        private = rng.randrange(1, N)
        digest = pair(0, digest)[32:]
        key = pair(*base(private))
        signature = sign(private, digest, rng.randrange(1, N))
        table.add(f"digest {digest.hex()}", key, digest, signature, True)
        table.add(f"digest {digest.hex()}, signature of another", key, bytes(31) + b"\x07", signature, False)
    return table.rows


def meeting_cases(rng):
    """Q = k*G chosen so that the running sum meets the point to be added, or its opposite, at a chosen step."""
    table = Table(hashed=False)
    odd = (1, 3, 5, 7, 9, 11, 13, 15)
    for k in (1, N - 1, 2, 3, N - 3, 5, 7, 15, 17, 31, pow(2, -1, N), pow(3, -1, N), N - pow(5, -1, N)):
        for u1, u2 in ((1, 1), (k, 1), (N - k, 1), (1, N - 1), (k * 5, 5), (7, 7), (rng.randrange(N), 1)):
            _add_scalars(table, f"Q = {k}*G, u1 = {u1 % N}, u2 = {u2}", u1 % N, u2, k)
    for _ in range(80):
        # The sum is u*Q after the digit u, then 2**gap times that; k makes it +-d*G where G's digit d is added.
        u, d = rng.choice(odd), rng.choice((*odd, 17, 31))
        gap, shift = rng.choice((0, 0, 6, 7, 20, 100)), rng.choice((0, 0, 8, 40))
        sign_ = rng.choice((1, -1))
        k = sign_ * d * pow(u << gap, -1, N) % N
        low = rng.getrandbits(shift - 7) if shift else 0  # what follows after the meeting
        u1, u2 = (d << shift) + low, (u << gap + shift) + low
        _add_scalars(table, f"{sign_} * {d} G met by {u} Q << {gap}, {shift}", u1, u2, k)
        # The other way round: the sum is d*G << gap, and Q's digit u is added.
        k = sign_ * (d << gap) * pow(u, -1, N) % N
        u1, u2 = (d << gap + shift) + low, (u << shift) + low
        _add_scalars(table, f"{sign_} * {u} Q met by {d} G << {gap}, {shift}", u1, u2, k)
    return table.rows


def infinity_cases(rng):
    """R = infinity for real messages: with Q = -(e/r)*G every (r, s) leads there, and none may be accepted."""
    table = Table(hashed=True)
    for i in range(12):
        message = rng.randbytes(30)
        e = number(sha256(message)) % N
        r = (1, 5, N - 1, P - N)[i] if i < 4 else rng.randrange(1, N)
        private = -e * pow(r, -1, N) % N
        key = pair(*base(private))
        for s in (1, rng.randrange(1, N), N - 1):
            table.add(f"R is infinity, r = {r}, s = {s}", key, message, pair(r, s), False)
        table.add("the same key's genuine signature", key, message, sign(private, sha256(message), i + 2), True)
    return table.rows


def curve_cases(rng):
    """Public keys that are no point of P-256, each with a signature that the equation without that check accepts."""
    table = Table(hashed=False)
    zero = bytes(32)
    genuine = base(rng.randrange(1, N))
    for name, (x, y) in (
        ("y + 1", (genuine[0], genuine[1] + 1)),
        ("x + 1", (genuine[0] + 1, genuine[1])),
        ("x and y swapped", (genuine[1], genuine[0])),
        ("x of no point of P-256", (1, 1)),
        ("x = 0", (0, 7)),
    ):
        # With e = 0, R = u2*Q lies on the curve y**2 = x**3 - 3*x + c through Q, and no c is ever needed.
        for _ in range(3):
            u2 = rng.randrange(1, N)
            r = multiply(u2, (x, y))[0] % N
            table.add(f"{name}: forged", pair(x, y), zero, pair(r, r * pow(u2, -1, N) % N), False)
    # Genuine points, then the same with a coordinate that is congruent modulo p but not below p.
    for name, (x, y) in (("x = 0", lift(0)), ("x = 5", lift(5)), ("y = 5", SMALL_Y), ("y = -5", (SMALL_Y[0], P - 5))):
        u1, u2 = rng.randrange(1, N), rng.randrange(1, N)
        r = add(base(u1), multiply(u2, (x, y)))[0] % N
        s = r * pow(u2, -1, N) % N
        digest, signature = pair(0, u1 * s % N)[32:], pair(r, s)
        table.add(name, pair(x, y), digest, signature, True)
        table.add(f"{name}: opposite", pair(x, P - y), digest, signature, False)
        if x + P < 2**256:
            table.add(f"{name}: x + p", pair(x + P, y), digest, signature, False)
        if y + P < 2**256:
            table.add(f"{name}: y + p", pair(x, y + P), digest, signature, False)
    digest = rng.randbytes(32)
    signature = sign(3, digest, 5)
    top = 2**256 - 1
    coordinates = [(x, y) for x in (0, 1, P, top, G[0]) for y in (0, 1, P, top, G[1])]
    for x, y in coordinates[:-1]:  # the last is G
        table.add(f"key ({x:#x}, {y:#x})", pair(x, y), digest, signature, False)
    return table.rows
