"""The HTTPS interface: listens, and has each connection served by web.py, which is in memory while there is one.

What stays loaded is this listener, its TLS context and the table of sessions. Off unless the policy wants `https`: then
nobody makes a Server, and nothing listens. docs/http.md.
"""

import asyncio
import gc
import select
import socket
import sys

from micropython import const

from access import passing
from gatehouse import Refused
from gatehouse.memory import spare, unload

PORT = const(443)
_CONNECTIONS = const(2)  # served at once: a chip's TLS takes tens of kilobytes for each
_STRANGERS = const(1)  # of them, who have not shown a session yet: the memory is for those who have
_BACKLOG = const(4)  # more wait in the kernel until one ends
# Bytes that must be free: 41 KB for what serves a request (measured with 64-bit words; a chip needs less), 15 KB for an
# operation, a report and what else goes on. Where they are not, nobody is served: loading a part of it would take the
# others' room. A second connection finds the modules there.
_SPARE, _SPARE_MORE = const(57344), const(32768)
_POLL_MS = const(50)  # between looks for a new connection, as between the link's for a message


class Server:
    """Listens for ever in run(). `sessions`: [SHA-256 of the cookie, CSRF token, Session] of who has logged in.

    The limits are attributes, so that a test can shorten them.
    """

    HEAD_MS = 8000  # from the connection to the end of the request's head, the TLS handshake included; for a JSON body
    STALL_MS = 5000  # without any byte, also of a peer that does not take its answer
    ANSWER_MS = 30000  # of waiting for a peer to take all of one answer
    LEAST_RATE = 2000  # bytes/s of a body: 1 MB takes nine minutes at most

    def __init__(self, boot, operations, auth, application):
        self.boot = boot
        self.operations = operations
        self.auth = auth
        self.application = application
        self.sessions = []
        self.receiving = False  # an upload
        self.context = None
        self.tasks = []  # one for each connection,
        self.known = []  # those of them that have shown a session
        self.updating = False  # an update needs the memory

    def listen(self, address=("0.0.0.0", PORT)):  # noqa: S104 the station's address is not known yet
        """A socket that listens. OSError where the address is taken."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
            return sock
        except BaseException:
            sock.close()
            raise

    async def run(self, sock):
        """Serve what connects to `sock`, until cancelled."""
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        try:
            while True:
                self._make_way()
                if self._has_room() and poller.poll(0):
                    try:
                        raw = sock.accept()[0]
                    except OSError:  # it went away meanwhile, or the network did
                        raw = None
                    if raw:
                        self.tasks.append(asyncio.create_task(self._serve(raw)))
                await asyncio.sleep_ms(_POLL_MS)
                self.tasks = [task for task in self.tasks if not task.done()]
                self.known = [task for task in self.known if not task.done()]
        finally:  # the policy closed the door: nobody stays inside
            sock.close()  # nor comes in
            for task in self.tasks:
                task.cancel()
            for entry in self.sessions:
                self.auth.logout(entry[2])

    def _has_room(self):
        """Whether one more may come: strangers one by one, and while there is an update only for who has logged in."""
        if self.updating:
            return not self.tasks and bool(self.auth.sessions())
        return len(self.tasks) < _CONNECTIONS and len(self.tasks) - len(self.known) < _STRANGERS

    def _make_way(self):
        """An update has the memory first: strangers go when it begins, and stay out when it found too little."""
        installer = self.application.installer
        state = installer.state
        busy = installer.busy or self.application.offers.busy()
        updating = busy or (state["state"] == "failed" and state["reason"] == "memory")
        if updating and not self.updating:
            for task in self.tasks:
                if task not in self.known:
                    task.cancel()
        self.updating = updating

    def know(self):
        """The connection that is served just now has shown a session."""
        task = asyncio.current_task()
        if task not in self.known:
            self.known.append(task)

    async def _serve(self, raw):
        try:
            await self._answer(raw)
        except (Refused, OSError, asyncio.TimeoutError):
            pass  # a peer that breaks off, stalls or speaks no TLS gets no answer
        except MemoryError:  # the device goes on; who asks again may find room
            pass
        finally:
            raw.close()
            if len(self.tasks) < 2:
                _forget()
            gc.collect()

    async def _answer(self, raw):
        gc.collect()  # TLS takes tens of kilobytes in one piece
        from gatehouse import connection

        wire = connection.Connection()
        wire.STALL_MS = self.STALL_MS
        wire.LEAST_RATE = self.LEAST_RATE
        try:
            wire.adopt(raw, self.context)
            spare(_SPARE_MORE if "access.web" in sys.modules else _SPARE)
            from access import web

            await web.serve(self, wire)
        finally:
            wire.close()


def _forget():
    passing.forget("web", "message", "upload")
    sys.modules.pop("microdot", None)
    unload("connection")


async def run(boot, operations, auth, application, opened):
    """Serve HTTPS for ever; calls opened() once it listens. Returns where it cannot: no usable credentials, no port."""
    server = Server(boot, operations, auth, application)
    try:
        from access import certificate, upload
        from access import web as _  # for its names alone: see gatehouse.memory.settle()

        upload.clean()  # what a power cut left
        server.context = certificate.tls_context(boot.store)
        sock = server.listen()
    except (Refused, OSError, MemoryError) as error:
        # The registry reports that it is wanted and not active, and tries again.
        print("https:", repr(error))
        return
    finally:
        certificate = upload = _ = None
        passing.forget("certificate")
        _forget()
        gc.collect()
    opened()
    await server.run(sock)
