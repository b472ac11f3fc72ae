"""The console: a login shell on the UART, in place of the REPL. docs/console.md."""

import asyncio
import builtins
import gc
import select
import sys
import time

from micropython import const

from access import line as lines
from access import operations as operation
from access import show
from gatehouse import Refused

_BURST = const(32)  # bytes until others get their turn: a flood at full speed must not stop the device
_DIALOGUE_MS = const(60000)  # for the answer to a question; then who asked has gone
_LOOK_MS = const(1000)  # between looks whether the session has expired
_HINT = "log in first: login USER"


class Console:
    """Text in, text out. `operations` is the dispatcher, `auth` knows the passwords; `keys` and `screen`: for tests.

    Nothing is told before a login but that one is needed. Every command goes through operations.call().
    """

    POLL_MS = 20  # less than 260 bytes take at 115200 baud, which is what the chip keeps unread

    def __init__(self, operations, auth, keys=None, screen=None):
        self._operations = operations
        self._auth = auth
        self._keys = keys or sys.stdin.buffer  # bytes: as text a read would wait for the rest of a character
        self._screen = screen or sys.stdout.buffer
        self._poll = select.poll()
        self._poll.register(self._keys, select.POLLIN)
        self._byte = bytearray(1)
        self._line = lines.Line(self._write)
        self._session = None
        self._prompt = None  # what stands before the line that is being typed; None while nobody types
        self._gone = False  # whether nobody seems to be there
        self._real_print = print

    async def run(self):
        """Serve whoever is there, until nobody is logged in and nobody has typed a line for a minute."""
        setattr(builtins, "print", self._print)  # noqa: B010 MicroPython's way; the stubs know of none
        try:
            while not self._gone:
                await self._turn()
        finally:
            setattr(builtins, "print", self._real_print)  # noqa: B010
            if self._session:  # the policy has closed this interface
                self._auth.logout(self._session)

    async def _turn(self):
        """One line, and what it asks for."""
        text = await self._ask(self._session.user + "> " if self._session else "")
        words = lines.split(text) if text is not None else []
        if words is None:
            self._say("argument: a quote is not closed")
        elif self._session:
            if words:
                await self._command(words)
        elif text is not None:
            if words and words[0] == "login" and len(words) <= 2:
                await self._login(words)
            else:
                self._say(_HINT)

    async def _login(self, words):
        user = words[1] if len(words) == 2 else await self._ask("user: ")
        password = await self._ask("password: ", True) if user else None
        if password is None:
            return
        try:
            self._session = await self._auth.login("console", user, password)
        except Refused as error:
            self._say(str(error))
            return
        if self._session.fresh:
            self._say("this is the password of the label: change it with password.change")

    async def _command(self, words):
        session = self._session
        try:
            arguments = await self._arguments(session, words)
            if arguments is None or self._session is not session:
                return
            result = await self._operations.call(session, words[0], arguments)
            arguments = None
        except Refused as error:
            self._say(str(error))
            if error.reason == "session":
                self._session = None
            return
        except MemoryError:
            gc.collect()
            self._say("memory: there is no room for it now")
            return
        await self._tell(result)
        if words[0] == "logout":
            self._leave("logged out")
        elif self._operations.repl_left():
            seconds = self._operations.repl_left()
            self._leave("the REPL opens; the device resets after %d s" % seconds)
            self._operations.application.open_window(seconds)

    async def _arguments(self, session, words):
        """What a command line means: a dict. Secrets are asked for, not echoed; None when the answer did not come."""
        given = words[1:]
        all_words = []
        for field in self._declared(session, words[0]):
            name, _, kind = field.partition(":")
            if not kind.startswith("secret"):
                if given:
                    all_words.append(given.pop(0))
                continue
            secret = await self._ask(name + ": ", True)
            again = secret if secret is None or name == "old" else await self._ask(name + " again: ", True)
            if again is None:
                return None
            if again != secret:
                raise Refused("argument", "the two are not the same")
            all_words.append(secret)
        return operation.from_words(words[0], all_words + given)

    def _declared(self, session, name):
        for known, text in operation.allowed(session.role, "console"):
            if known == name:
                return text.split(" ") if text else ()
        return ()

    async def _ask(self, prompt, hidden=False):
        """The line that is typed now (str), or None when none came: cancelled, too long, nobody there."""
        self._write(prompt.encode())
        self._line.start(hidden)
        self._prompt = prompt
        try:
            return await self._typed()
        finally:
            self._prompt = None
            self._line.start(False)

    async def _typed(self):
        began = looked = time.ticks_ms()
        while True:
            pause = 0
            for _ in range(_BURST):
                if not self._read():
                    pause = self.POLL_MS
                    break
                event = self._line.feed(self._byte[0])
                if event:
                    self._write(b"\r\n")
                if event == lines.LEAVE and self._session:
                    self._auth.logout(self._session)
                    self._leave("logged out")
                    return None
                if event == lines.END and self._line.lost:
                    self._say("argument: a line has at most %d bytes" % lines.MAX)
                elif event == lines.END:
                    return self._line.text()
                if event:
                    return None
            now = time.ticks_ms()
            if time.ticks_diff(now, looked) >= _LOOK_MS:
                looked = now
                if self._session and self._session not in self._auth.sessions():
                    self._write(b"\r\n")
                    self._leave("session: it has ended")
                    return None
                if not self._session and time.ticks_diff(now, began) >= _DIALOGUE_MS:
                    self._gone = True
                    if self._prompt:
                        self._write(b"\r\n")
                    return None
            await asyncio.sleep_ms(pause)

    def _read(self):
        """Whether a byte has come; it is in self._byte then."""
        for _ in self._poll.ipoll(0):
            return self._keys.readinto(self._byte) == 1
        return False

    def _leave(self, why):
        if self._session:
            self._auth.logout(self._session)
        self._session = None
        self._say(why)

    async def _tell(self, result):
        for text in show.lines(result):
            self._say(text)
            await asyncio.sleep_ms(0)  # a line takes milliseconds on the wire

    def _say(self, text):
        self._write(show.clean(text))
        self._write(b"\r\n")

    def _write(self, data):
        self._screen.write(data)

    def _print(self, *values, **options):
        """print() while the console runs: a line of the log goes above the one that is being typed."""
        typing = self._prompt is not None and (self._prompt or self._line.size)
        if typing:
            self._write(b"\r\x1b[K")
        self._real_print(*values, **options)
        if typing:
            self._write(self._prompt.encode())
            self._line.redraw()
