"""Who may come in: sessions, lockouts, and the way to the passwords (password.py, which comes and goes)."""

import asyncio
import gc

from access import lockout, passing
from gatehouse import Refused, cbor, status

_USERS = ("viewer", "operator", "owner", "service")  # one for each role, called so


class Session:
    """Someone who has come in. Adapters keep it and hand it to Operations.call().

    role: viewer, operator, owner or service; user: the same, or a client's name over MQTT; interface: "console",
    "https" or "mqtt"; fresh: the label password has to be changed before anything else.
    """

    def __init__(self, role, user, interface, fresh=False):
        self.role = role
        self.user = user
        self.interface = interface
        self.fresh = fresh
        self.started = self.seen = status.uptime()


class Auth:
    """Passwords, lockouts and sessions of one device. `policy` is policy.Registry."""

    def __init__(self, boot, policy):
        self.boot = boot
        self.policy = policy
        self.lockout = lockout.Lockout(boot.store, policy)
        self._open = []  # sessions
        self._lock = asyncio.Lock()  # one password is evaluated at a time: two at once would share one delay

    async def login(self, interface, user, password):
        """A new Session. Refused("password") for any wrong user or password alike.

        Refused("locked", "N s") while a delay runs: the attempt is not evaluated, and extends nothing.
        """
        async with self._lock:
            _, is_label = await self._evaluate(interface, user, password, "login")
            session = Session(user, user, interface, is_label)
            self._admit(session)
        self.boot.note("login", interface, user)
        return session

    async def change(self, session, old, new):
        """Change the password of the session's own user. Refused("password"), "locked" or "argument" (why)."""
        async with self._lock:
            await self._evaluate(session.interface, session.user, old, "change")
            await self._set(session.user, new)
        session.fresh = False
        self._close(session.user, session)

    async def set_password(self, user, new):
        """Set the password of another user: one who has none can come in from now on. Refused("argument")."""
        async with self._lock:
            await self._set(user, new)
        self._close(user)

    def unlock(self, user):
        """End the delays of a user on every interface. Whether there was any."""
        return self.lockout.unlock(user)

    def logout(self, session):
        """End a session."""
        if session in self._open:
            self._open.remove(session)

    def touch(self, session):
        """Note that a session is in use. False when it has expired or was closed: then it is gone."""
        self.sessions()
        if session not in self._open:
            return False
        session.seen = status.uptime()
        return True

    def sessions(self):
        """The sessions that are open now."""
        idle, absolute, _ = self.policy.session
        now = status.uptime()
        self._open = [one for one in self._open if now - one.seen < idle and now - one.started < absolute]
        return self._open

    def fresh(self):
        """Whether the owner's password is still that of the label."""
        data = self.boot.store.blob("users")
        try:
            return not data or "owner" not in cbor.loads(data)
        except (ValueError, TypeError):
            return False  # damaged: neither opens

    def close_all(self):
        """End every session."""
        self._open = []

    async def _evaluate(self, interface, user, password, event):
        """password.evaluate() within the lockout. Refused("locked") or "password"."""
        known = user in _USERS
        key = interface + "/" + (user if known else "?")  # names that nobody has share a delay, and take no room
        left = self.lockout.left(key)
        if left:
            raise Refused("locked", "%d s" % left)
        self.lockout.strike(key)
        from access import password as passwords

        try:
            good, is_label = await passwords.evaluate(self.boot.store, user if known else "?", password)
        except MemoryError:
            gc.collect()
            raise Refused("memory", "the heap has no room for this now")
        finally:
            del passwords
            passing.forget("password", "pbkdf2")
        if good:
            self.lockout.clear(key)
            return good, is_label
        seconds = self.lockout.wrong(key)
        self.boot.note("password", interface, user if known else "?", event, seconds)
        raise Refused("password", "wrong user or password")

    async def _set(self, user, new):
        from access import password as passwords

        try:
            await passwords.check(self.boot.store, user, new)
            await passwords.put(self.boot.store, user, new)
        finally:
            del passwords
            passing.forget("password", "pbkdf2")

    def _admit(self, session):
        """Make room for a session: of its own user's the one that was idle longest, else of all, has to go."""
        most = self.policy.session[2]
        while len(self.sessions()) >= most:
            own = [one for one in self._open if one.user == session.user] or self._open
            self._open.remove(min(own, key=lambda one: one.seen))
        self._open.append(session)

    def _close(self, user, but=None):
        """End the sessions of a user whose password has changed."""
        self._open = [one for one in self._open if one.user != user or one is but]
