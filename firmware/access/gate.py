"""What happens when a password comes. Loaded for it and forgotten after it; what it leaves is in auth.Auth."""

from access import auth as auths
from access import lockout, password
from gatehouse import Refused

_USERS = ("viewer", "service", "operator", "owner")  # one for each role, called so, the least first
_WRONG = 3  # wrong passwords in a session's change of its own, then it ends


async def login(auth, door, user, text, interface):
    """See Auth.login(). `door` has the delays."""
    known = user in _USERS
    name = user if known else "?"  # names that nobody has share a delay, and take no room
    key = door + "/" + name
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
    _check_still(auth)
    if not good:
        seconds = lockout.serve(auth, key)
        auth.failures.tell(auth.boot.note, "password", door, name, seconds)
        if seconds and auth.on_change:
            auth.on_change()
        raise Refused("password", "wrong user or password")
    session = auths.Session(user, user, interface, is_label)
    lockout.clear(auth, key)
    _admit(auth, session)
    auth.logins.tell(auth.boot.note, "login", interface, user)
    return session


async def change(auth, session, old, new):
    """See Auth.change(). Strangers' tries do not keep an open session from it: what is wrong counts for itself."""
    good, _ = await password.evaluate(auth.boot.store, session.user, old)
    _check_still(auth)
    if not good:
        session.wrong += 1
        if session.wrong >= _WRONG:
            auth.logout(session)
        auth.failures.tell(auth.boot.note, "password", session.interface, session.user, "change")
        raise Refused("password", "wrong password")
    await _put(auth, session.user, new)
    session.fresh = False
    session.wrong = 0
    _close(auth, session.user, session)


async def set_password(auth, user, new):
    """See Auth.set_password()."""
    await _put(auth, user, new)
    _close(auth, user)


async def _put(auth, user, new):
    await password.check(auth.boot.store, user, new)
    verifier = await password.verifier(new)
    _check_still(auth)  # and no other task runs until it is written
    password.put(auth.boot.store, user, verifier)


def _check_still(auth):
    """Refused("session") where the ownership has ended while this was evaluated."""
    if auth.ended:
        raise Refused("session", "this ownership has ended")


def _admit(auth, session):
    """Make room for a session: of its own user's the one that was idle longest, else of all, has to go.

    Nobody's goes for a lesser user: then Refused("busy").
    """
    most = auth.policy.session[2]
    while len(auth.sessions()) >= most:
        others = [one for one in auth.sessions() if _USERS.index(one.user) <= _USERS.index(session.user)]
        own = [one for one in others if one.user == session.user] or others
        if not own:
            raise Refused("busy", "there are as many sessions as the policy allows")
        auth.logout(min(own, key=lambda one: one.seen))
    auth.sessions().append(session)


def _close(auth, user, but=None):
    """End the sessions of a user whose password has changed."""
    for one in list(auth.sessions()):
        if one.user == user and one is not but:
            auth.logout(one)
