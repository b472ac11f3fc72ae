"""A console with somebody before it: keys, a screen, and an Auth and Operations that note what comes."""

import asyncio
import io

import fake_boot
from gatehouse import Refused

PASSWORDS = {"owner": "label-password", "viewer": "only looking", "service": "with a screwdriver", "operator": "päss"}


class Keys(io.IOBase):
    """Bytes that have been typed and not read; like a chip's UART it can be polled."""

    def __init__(self):
        self.bytes = bytearray()

    def readinto(self, buffer):
        assert len(buffer) == 1, "a chip would wait for the rest"
        buffer[0] = self.bytes[0]
        self.bytes = self.bytes[1:]
        return 1

    def ipoll(self, timeout):
        """In place of a select.poll, which waits a millisecond for what has no file descriptor."""
        return (1,) if self.bytes else ()

    def ioctl(self, request, argument):
        if request != 3:
            return -1  # it has no file descriptor
        return argument & 1 if self.bytes else 0


class Screen:
    def __init__(self):
        self.bytes = b""

    def write(self, data):
        self.bytes += bytes(data)

    def take(self):
        """What it has shown since the last time."""
        found, self.bytes = self.bytes, b""
        return found


class Session:
    def __init__(self, role, interface, fresh):
        self.role = self.user = role
        self.interface = interface
        self.fresh = fresh


class Auth:
    def __init__(self):
        self.attempts = []
        self.open = []
        self.fresh = False
        self.refuse = None

    async def login(self, interface, user, password):
        self.attempts.append((interface, user, password))
        if self.refuse:
            raise self.refuse
        if PASSWORDS.get(user) != password:
            raise Refused("password")
        session = Session(user, interface, self.fresh)
        self.open.append(session)
        return session

    def logout(self, session):
        if session in self.open:
            self.open.remove(session)

    def sessions(self):
        return list(self.open)


class Application:
    opened = None

    def open_window(self, seconds):
        self.opened = seconds


class Operations:
    """Notes each call; answers with `answers[name]`, or raises it."""

    def __init__(self, auth):
        self.auth = auth
        self.calls = []
        self.answers = {}
        self.application = Application()
        self.left = 0

    def repl_left(self):
        return self.left

    async def call(self, session, name, arguments):
        if session not in self.auth.open:
            raise Refused("session")
        self.calls.append((session.user, name, arguments))
        answer = self.answers.get(name, {"done": True})
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer


class Bench:
    """`await type(text)` types and waits until all of it has been read and answered: what the screen shows then."""

    def __init__(self):
        from access import console

        console.Console.POLL_MS = 1
        self.boot = fake_boot.Boot()
        self.auth = Auth()
        self.operations = Operations(self.auth)
        self.keys, self.screen = Keys(), Screen()
        self.console = console.Console(self.operations, self.auth, self.keys, self.screen)
        self.console._poll = self.keys
        self.task = None

    async def type(self, data):
        if self.task is None:
            self.task = asyncio.create_task(self.console.run())
        self.keys.bytes += data.encode() if isinstance(data, str) else data
        while self.keys.bytes and not self.task.done():
            await asyncio.sleep_ms(0)
        shown = -1
        while shown != len(self.screen.bytes):
            shown = len(self.screen.bytes)
            for _ in range(8):
                await asyncio.sleep_ms(0)
            await asyncio.sleep_ms(3)
        return self.screen.take()

    async def login(self, user="owner"):
        shown = await self.type("login %s\r%s\r" % (user, PASSWORDS[user]))
        assert shown.endswith(b"%s> " % user.encode()), shown
        return shown

    async def close(self):
        if self.task:
            self.task.cancel()
            try:
                await self.task
            except asyncio.CancelledError:
                pass
