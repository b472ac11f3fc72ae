"""Passwords: their rules (NIST SP 800-63B), their verifiers in NVS, their evaluation. Loaded when it is needed.

A verifier is [salt, iterations, PBKDF2-HMAC-SHA-256]. NVS `label` holds that of the password on the label, which the
factory wrote and nothing changes; `users` holds {role: verifier} of those that somebody chose.
"""

import os

from micropython import const

from access import pbkdf2
from gatehouse import Refused, cbor, mac

_SALT = const(16)  # bytes; SP 800-132 section 5.1 asks for 128 bits
_LEAST, _MOST = const(8), const(64)  # characters
# The worst of the lists of leaked passwords that are long enough for the rule above; so is what repeats or counts.
_WORST = (
    "password passw0rd password1 password12 password123 p@ssword p@ssw0rd qwertyui qwertyuiop qwerty123 1q2w3e4r "
    "1qaz2wsx q1w2e3r4 iloveyou sunshine princess football baseball superman trustno1 starwars whatever letmein1 "
    "welcome1 welcome123 admin123 administrator changeme changeit default1 internet computer abc12345 asdfghjkl "
    "zaq12wsx michelle jennifer dragon123 monkey123 master123 gatehouse micropython raspberry esp32esp32"
)


def users(store):
    """The verifiers of chosen passwords, {role: [salt, iterations, verifier]}. Refused("state") where damaged."""
    data = store.blob("users")
    try:
        found = cbor.loads(data) if data else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused("state", "NVS users is damaged: physical presence returns to the label password")
    return found


def label(store):
    """The verifier of the label password, or None on a device without one."""
    data = store.blob("label")
    return cbor.loads(data) if data else None


def plain(password):
    """The label password as it was made: who types it may leave out its hyphens, or write capitals."""
    return password.lower().replace("-", "").replace(" ", "")


async def evaluate(store, user, password):
    """Whether this is the user's password, and whether it is that of the label: (right, label).

    Takes as long for a user who has none.
    """
    found = users(store).get(user)
    is_label = found is None and user == "owner"
    if is_label:
        found = label(store)
        password = plain(password)
    return await _fits(found, password[: _MOST + 1]), is_label


async def _fits(found, password):
    salt, iterations, verifier = found or (bytes(_SALT), pbkdf2.ITERATIONS, b"")
    return mac.equal(await pbkdf2.derive(password.encode(), salt, iterations), verifier)


async def check(store, user, new):
    """Refused("argument") where `new` cannot be a password, saying why."""
    if not isinstance(new, str) or not _LEAST <= len(new) <= _MOST:
        raise Refused("argument", "a password has %d to %d characters" % (_LEAST, _MOST))
    low = new.lower()
    if low in _WORST.split(" ") or _is_row(low):
        raise Refused("argument", "this is one of the passwords that everybody tries first")
    if user in low and len(new) - len(user) < _LEAST:
        raise Refused("argument", "a password is more than the user's name")
    if await _fits(label(store), plain(new)[: _MOST + 1]):
        raise Refused("argument", "the password of the label can be read on the device")


def _is_row(text):
    """Whether every letter is the one before, or every letter the next one: aaaaaaaa, 12345678, hgfedcba."""
    data = text.encode()  # MicroPython never forgets a letter that was taken out of a text
    steps = {data[at] - data[at - 1] for at in range(1, len(data))}
    # 1234567890 ends with a step back.
    return text in ("1234567890", "0987654321") or (len(steps) == 1 and steps.pop() in (-1, 0, 1))


async def verifier(new):
    """The verifier of a password that check() took."""
    salt = os.urandom(_SALT)
    return [salt, pbkdf2.ITERATIONS, await pbkdf2.derive(new.encode(), salt, pbkdf2.ITERATIONS)]


def put(store, user, verifier):
    """Make it the user's: one NVS write."""
    found = users(store)
    found[user] = verifier
    store.put("users", cbor.dumps(found))
