"""What happens when a password comes. Loaded for it and forgotten after it; what it leaves is in auth.Auth."""

from access import auth as auths
from access import lockout, password
from gatehouse import Refused

_USERS = ("viewer", "operator", "owner", "service")  # one for each role, called so


async def login(auth, interface, user, text):
    """See Auth.login()."""
    is_label = await _evaluate(auth, interface, user, text, "login")
    session = auths.Session(user, user, interface, is_label)
    _admit(auth, session)
    auth.boot.note("login", interface, user)
    return session


async def change(auth, session, old, new):
    """See Auth.change()."""
    await _evaluate(auth, session.interface, session.user, old, "change")
    await _put(auth, session.user, new)
    session.fresh = False
    _close(auth, session.user, session)


async def set_password(auth, user, new):
    """See Auth.set_password()."""
    await _put(auth, user, new)
    _close(auth, user)


async def _evaluate(auth, interface, user, text, event):
    """Whether it was the label's password that was right. Refused("locked") or "password"."""
    known = user in _USERS
    name = user if known else "?"  # names that nobody has share a delay, and take no room
    key = interface + "/" + name
    left = auth.left(key)
    if left:
        raise Refused("locked", "%d s" % left)
    before = auth.levels.get(key)
    lockout.strike(auth, key)
    try:
        good, is_label = await password.evaluate(auth.boot.store, name, text)
    except MemoryError:
        lockout.restore(auth, key, before)  # nobody has learned anything, and the owner is not to wait for it
        raise
    if good:
        lockout.clear(auth, key)
        return is_label
    seconds = lockout.serve(auth, key)
    auth.boot.note("password", interface, name, event, seconds)
    if seconds and auth.on_change:
        auth.on_change()
    raise Refused("password", "wrong user or password")


async def _put(auth, user, new):
    await password.check(auth.boot.store, user, new)
    await password.put(auth.boot.store, user, new)


def _admit(auth, session):
    """Make room for a session: of its own user's the one that was idle longest, else of all, has to go."""
    most = auth.policy.session[2]
    while len(auth.sessions()) >= most:
        own = [one for one in auth.sessions() if one.user == session.user] or auth.sessions()
        auth.logout(min(own, key=lambda one: one.seen))
    auth.sessions().append(session)


def _close(auth, user, but=None):
    """End the sessions of a user whose password has changed."""
    for one in list(auth.sessions()):
        if one.user == user and one is not but:
            auth.logout(one)
