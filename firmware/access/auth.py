"""Who may come in: sessions, and the way to the passwords (password.py, which comes and goes)."""

from access import passing
from gatehouse import Refused, status


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
    """Passwords, lockouts and sessions of one device."""

    def __init__(self, boot, policy):
        self.boot = boot
        self.policy = policy
        self._sessions = []

    async def login(self, interface, user, password):
        """A new Session. Refused("password") for a wrong user or password alike; Refused("locked", "N s") during a delay,
        where the attempt is not evaluated and extends nothing."""
        raise Refused("password")

    def logout(self, session):
        """End a session."""
        if session in self._sessions:
            self._sessions.remove(session)

    def touch(self, session):
        """Note that a session is in use. False when it has expired or was closed: then it is gone."""
        return session in self._sessions

    def sessions(self):
        """The sessions that are open."""
        return list(self._sessions)
