"""Who may come in: sessions, and the way to passwords and lockouts (gate.py), which are loaded when one is needed."""

import asyncio
import gc

from access import passing
from gatehouse import Refused, cbor, status
from gatehouse.budget import Notes

_GATE = ("gate", "lockout", "password", "pbkdf2")


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
        self.wrong = 0  # passwords in a row, when it changed its own
        self.started = self.seen = status.uptime()


class Auth:
    """Passwords, lockouts and sessions of one device. `policy` is policy.Registry; on_change() tells of a lockout."""

    def __init__(self, boot, policy, on_change=None):
        self.boot = boot
        self.policy = policy
        self.on_change = on_change
        self.levels, self.until = {}, {}  # of lockout.py
        self.failures, self.logins = Notes(), Notes()  # apart: who fails often must not hide who came in
        self.ended = False  # an ownership has ended: nobody comes in, and nothing is written, until the restart
        self._open = []  # sessions
        self._lock = asyncio.Lock()  # one password at a time: each takes seconds of a chip and kilobytes of its heap
        from access import lockout

        lockout.load(self)
        del lockout
        passing.forget("lockout")

    async def login(self, interface, user, password, known=False):
        """A new Session. Refused("password") for any wrong user or password alike.

        Refused("locked", "N s") while a delay runs: the attempt is not evaluated, and extends nothing. `known`: it
        comes from where this user has logged in before, and has delays of its own, which strangers do not cause.
        """
        return await self._gate("login", interface + "-known" if known else interface, user, password, interface)

    async def change(self, session, old, new):
        """Change the password of the session's own user. Refused("password") or "argument" (why).

        The third wrong `old` ends the session: its user then has to log in, where the delays are.
        """
        await self._gate("change", session, old, new)

    async def set_password(self, user, new):
        """Set the password of another user: one who had none can come in from now on. Refused("argument")."""
        await self._gate("set_password", user, new)

    async def _gate(self, name, *arguments):
        async with self._lock:
            try:
                from access import gate

                if self.ended:
                    raise Refused("session", "this ownership has ended")
                return await getattr(gate, name)(self, *arguments)
            except MemoryError:
                gc.collect()
                raise Refused("memory", "the heap has no room for this now")
            finally:
                gate = None
                passing.forget(*_GATE)

    def unlock(self, user):
        """End the delays of a user on every interface. Whether there was any."""
        from access import lockout

        try:
            return lockout.unlock(self, user)
        finally:
            del lockout
            passing.forget("lockout")

    def left(self, key):
        """Seconds, rounded up, until a password of "interface/user" is evaluated again; 0 when it is now."""
        if not self.policy.lockout[3]:
            return 0
        return max(0, (self.until.get(key, 0) - status.uptime_ms() + 999) // 1000)

    def lockouts(self):
        """Wrong passwords in a row and the seconds that are left: {"interface/user": [level, seconds]}."""
        return {key: [level, self.left(key)] for key, level in self.levels.items()}

    def logout(self, session):
        """End a session."""
        if session in self._open:
            self._open.remove(session)

    def touch(self, session):
        """Note that a session is in use. False when it has expired or was closed: then it is gone."""
        if session not in self.sessions():
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

    def reset(self):
        """End every session and delay: an ownership has ended, and NVS is wiped by who calls, who then restarts.

        What is being evaluated just now must not write its password or open its session into the next ownership.
        """
        self.ended = True
        self._open = []
        self.levels, self.until = {}, {}
