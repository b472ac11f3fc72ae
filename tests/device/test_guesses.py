"""Ten thousand wrong passwords at each door that takes any, through its own adapter, on a stepped clock."""

import json

import fake_access as fake
import fake_console

HEAP = "8M"  # compiled: modules come and go at each password
TIMEOUT = 300
GUESSES = 10000
POWER_CYCLE = 97  # guesses between two power cuts
CHOSEN = "correct horse battery"


class Place:
    """A device whose owner has changed the label password; one that has restarted, from `nvs` on."""

    def __init__(self, nvs=None):
        from access import auth, policy
        from gatehouse import cbor

        values = {"label": fake.label(iterations=1), "users": cbor.dumps({"owner": fake.verifier(CHOSEN, 1)})}
        self.nvs = nvs or fake.Nvs(values)
        self.clock = fake.Clock()
        boot = fake.Boot(self.nvs)
        self.auth = auth.Auth(boot, policy.Registry(boot))


class Console(Place):
    """`await guess(password)`: "in", "password" or "locked", as the screen tells it."""

    key = "console/owner"

    def __init__(self, nvs=None):
        from access import console

        super().__init__(nvs)
        self.keys, self.screen = fake_console.Keys(), fake_console.Screen()
        console.Console.POLL_MS = 0
        self.console = console.Console(fake_console.Operations(self.auth), self.auth, self.keys, self.screen)
        self.console._poll = self.keys

    async def guess(self, password):
        self.keys.bytes += b"login owner\r%s\r" % password.encode()
        await self.console._turn()
        shown = self.screen.take()
        assert password.encode() not in shown, shown
        if self.console._session:
            return "in"
        return str(shown.split(b"\r\n")[-2], "utf-8").split(":")[0]


class Https(Place):
    """The same over HTTPS: requests with all their bytes, without TLS."""

    key = "https/owner"

    def __init__(self, nvs=None):
        super().__init__(nvs)
        self.sessions = []
        self.boot = self.auth.boot
        self.HEAD_MS = self.ANSWER_MS = 60000

    def know(self):
        pass

    async def guess(self, password):
        from access import web

        wire = Wire(json.dumps({"user": "owner", "password": password}).encode())
        await web.serve(self, wire)
        status, body = int(wire.sent[9:12]), json.loads(wire.sent[wire.sent.index(b"\r\n\r\n") + 4 :])
        assert ("csrf" in body) is (status == 200) is bool(self.auth.sessions()), wire.sent
        if status == 200:
            return "in"
        assert status == {"password": 401, "locked": 429}[body["reason"]]
        assert (b"Retry-After" in wire.sent) is (status == 429), "its delay is told"
        return body["reason"]


class Wire:
    """A login as a browser sends it; what the device sends back."""

    def __init__(self, body):
        head = "POST /api/login HTTP/1.1|Host: x|Origin: https://x|Content-Type: application/json|Content-Length: %d|"
        self.lines = (head % len(body)).encode().split(b"|")
        self.body = body
        self.sent = b""

    async def line(self):
        return self.lines.pop(0)

    async def read(self, target, count):
        part, self.body = self.body[:count], self.body[count:]
        if target is not None:
            target[: len(part)] = part
        return len(part)

    async def send(self, data):
        self.sent += bytes(data)


async def ten_thousand(door):
    """All of them, each in its time; then the owner comes."""
    place = door()
    waited = 0
    for number in range(GUESSES):
        if number % POWER_CYCLE == 0:
            place = door(place.nvs)
            place.clock.step(place.auth.left(door.key))
        assert await place.guess("guess %d" % number) == "password", number
        left, level = place.auth.left(door.key), number + 1
        assert left == (0 if level <= 3 else min(900, 2 << min(level - 4, 20))), (number, left)
        if number % 10 == 0 and left:  # even with the right one: it is not looked at, and nothing gets longer
            assert await place.guess(CHOSEN) == "locked"
            assert place.auth.left(door.key) == left
        waited += left
        place.clock.step(left)
    assert waited > (GUESSES - 20) * 900, "104 days for what is nothing of the space"
    assert not place.auth.sessions() and place.nvs.writes < 100, "an attacker does not wear the flash"
    assert await place.guess(CHOSEN) == "in"


def stay():
    """Passing modules stay loaded: 10,000 times from a file would take minutes."""
    from access import passing

    passing.forget = lambda *names: None


async def test_ten_thousand_at_the_console():
    stay()
    await ten_thousand(Console)


async def test_ten_thousand_over_https():
    stay()
    await ten_thousand(Https)
