"""Runs inside MicroPython: the HTTPS interface with operations and passwords of its own, beside a CPython client.

The first line of stdin is the job (JSON) {certificate, key, port, limits, room, page}; each line after it is a command
[name, ...]. What happens is printed as one line of JSON [event, ...]. /state is a LittleFS in RAM.
"""

import asyncio
import gc
import json
import os
import socket
import sys
from binascii import hexlify, unhexlify

job = json.loads(sys.stdin.readline())
sys.path[:] = job["path"]

import vfs  # noqa: E402 the path comes with the job

from access import certificate, http  # noqa: E402
from gatehouse import Refused  # noqa: E402

PASSWORD = "correct horse"


class Ram:
    """A flash of 1 MB."""

    def __init__(self):
        self.data = bytearray(1 << 20)

    def readblocks(self, block, buffer, offset=0):
        at = block * 4096 + offset
        buffer[:] = memoryview(self.data)[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        at = block * 4096 + offset
        memoryview(self.data)[at : at + len(buffer)] = buffer

    def ioctl(self, request, argument):
        return {4: 256, 5: 4096}.get(request, 0)


class Os:
    """The module os where the flash has as much room as the job says."""

    def __getattr__(self, name):
        return getattr(os, name)

    def statvfs(self, path):
        return (4096, 4096, 0, 0, job["room"] // 4096, 0, 0, 0, 0, 0)


ram = Ram()
vfs.VfsLfs2.mkfs(ram)
vfs.mount(vfs.VfsLfs2(ram), "/state")
os.mkdir("slot")
os.mkdir("slot/access")
with open("slot/access/page.html", "w") as file:
    for _ in range(job["page"] // 12):
        file.write("<p>page</p>\n")
if job["room"] is not None:
    sys.modules["os"] = Os()


class Session:
    def __init__(self, user, fresh):
        self.user = self.role = user
        self.interface = "https"
        self.fresh = fresh


class Auth:
    def __init__(self):
        self.open = []
        self.known = []  # of each login, whether its browser has been here
        self.evaluated = 0

    async def login(self, interface, user, password, known=False):
        self.known.append(known)
        if user == "late":
            raise Refused("locked", "17 s")
        self.evaluated += 1
        if password != PASSWORD:
            raise Refused("password")
        self.open.append(Session(user, user == "fresh"))
        return self.open[-1]

    def logout(self, session):
        if session in self.open:
            self.open.remove(session)

    def touch(self, session):
        return session in self.open

    def sessions(self):
        return list(self.open)


class Operations:
    def __init__(self):
        self.calls = []
        self.application = Application

    async def call(self, session, name, arguments):
        self.calls.append([session.user, name, arguments])
        if name == "logout":
            the_auth.logout(session)
            return {}
        if name == "memory":
            raise MemoryError
        if name == "crash":
            raise KeyError("a mistake in an operation")
        if name.startswith("update."):
            from access import act_upload

            return await getattr(act_upload, name.replace(".", "_"))(self, session, arguments)
        if name != "state":
            raise Refused("denied", name)
        return {"id": "gh-1", "digest": b"\x01\x02", "list": [1, (2, b"\x03")]}


class Application:
    class installer:
        busy = False
        state = {"state": "idle", "reason": None}  # noqa: RUF012 of the one object
        knows = staticmethod(lambda data: data == b"known")

    class offers:
        taken = []  # noqa: RUF012 of the one object
        coming = False

        @staticmethod
        def busy():
            return Application.offers.coming

        @staticmethod
        def put(data):
            Application.offers.taken.append(hexlify(data).decode())


class Boot:
    class release:
        root = "slot"

    class store:
        @staticmethod
        def required(name):
            return unhexlify(job["certificate" if name == "tls_cert" else "key"])

        @staticmethod
        def derive(purpose):
            return purpose.encode() + b" of epoch %d" % job["epoch"]


most = 0  # connections at once


def tell(*event):
    print(json.dumps(event))


def no_room(size):
    raise MemoryError


async def watch():
    global most
    while True:
        most = max(most, len(server.tasks))
        await asyncio.sleep_ms(5)


async def obey(name, *arguments):
    if name == "heap":
        gc.collect()
        tell(name, gc.mem_alloc())
    elif name == "seen":
        tell(name, {
            "calls": the_operations.calls, "evaluated": the_auth.evaluated, "open": len(server.tasks), "most": most,
            "loaded": [module for module in sys.modules if module in ("microdot", "access.web", "access.message")],
            "sessions": len(server.sessions), "state": os.listdir("/state"), "offers": Application.offers.taken,
            "alive": len(the_auth.open), "known": the_auth.known,
        })  # fmt: skip
    elif name == "expire":
        del the_auth.open[:]
    elif name == "state":
        Application.installer.state["state"] = arguments[0]
    elif name == "installer":
        Application.installer.busy, Application.offers.coming = arguments[0] == "busy", arguments[0] == "coming"
        Application.installer.state["state"], Application.installer.state["reason"] = arguments[1:]
        await asyncio.sleep_ms(150)  # the listener looks
        tell(name, arguments[0])
    elif name == "plaintext":

        class Open:
            wrap_socket = staticmethod(lambda sock, **_: Open)
            read = staticmethod(lambda count: b"G")

        try:
            certificate.refuses_plaintext(Open)
            tell(name, "passed")
        except Refused as error:
            tell(name, error.reason)
    elif name == "checked":
        seen = []
        check, certificate.refuses_plaintext = certificate.refuses_plaintext, seen.append
        certificate.tls_context(Boot.store)
        certificate.refuses_plaintext = check
        tell(name, len(seen))
    elif name == "credentials":

        class Store:
            required = staticmethod(lambda key: b"none")

        try:
            certificate.tls_context(Store)
        except Refused as error:
            tell(name, error.reason)
    elif name == "close":
        serving.cancel()
        await asyncio.sleep_ms(10)
        tell(name, serving.done())
    elif name == "room":
        if not arguments[0]:
            http.spare = no_room
        else:
            http.spare = lambda size: None
        tell(name, arguments[0])
    elif name == "file":
        with open("/state/" + os.listdir("/state")[0], "rb") as file:
            tell(name, hexlify(file.read()).decode())
    else:
        raise ValueError(name)


async def main():
    global server, serving, the_auth, the_operations
    the_auth, the_operations = Auth(), Operations()
    server = http.Server(Boot, the_operations, the_auth, Application)
    for name, value in job["limits"].items():
        setattr(server, name, value)
    server.context = certificate.tls_context(Boot.store)
    address = socket.getaddrinfo("127.0.0.1", job["port"])[0][-1]
    asyncio.get_event_loop().set_exception_handler(lambda loop, context: tell("fault", repr(context["exception"])))
    watching = asyncio.create_task(watch())
    serving = asyncio.create_task(server.run(server.listen(address)))
    tell("listening")
    commands = asyncio.StreamReader(sys.stdin)
    while True:
        line = await commands.readline()
        if not line:
            break
        await obey(*json.loads(line))
    watching.cancel()
    tell("end", serving.done())


asyncio.run(main())
