"""The access part of an application without a chip: a Store over NVS in RAM, a clock to step, and stand-ins."""

import asyncio

import fake_boot


class Nvs:
    """The blobs and counters of NVS, as store.Store has them. `cut` counts down to a power cut after that write."""

    def __init__(self, values=None):
        self.values = values or {}
        self.writes = 0

    def blob(self, key):
        return self.values.get(key)

    def put(self, key, data):
        if self.values.get(key) != data:
            self.values[key] = bytes(data)
            self.writes += 1

    def remove(self, key):
        self.values.pop(key, None)

    def number(self, key):
        return self.values.get(key, 0)

    def put_number(self, key, value):
        self.values[key] = value

    def derive(self, purpose, role="", client=""):
        return fake_boot.Store(self.number("epoch")).derive(purpose, role, client)


class Config(fake_boot.Config):
    pass


class Boot(fake_boot.Boot):
    """As slots.Boot, with a journal that is a list."""

    def __init__(self, nvs=None, **config):
        super().__init__()
        self.store = nvs or Nvs()
        self.config = Config()
        for name, value in config.items():
            setattr(self.config, name, value)
        self.config_digest = b"G" * 32
        self.generation = 1
        self.notes = []
        self.restored = None

    def note(self, event, *details):
        self.notes.append((event,) + details)
        return True

    def events(self, name):
        return [note[1:] for note in self.notes if note[0] == name]

    def restore(self, factory):
        self.restored = factory


class Clock:
    """status.uptime() on a stepped clock."""

    def __init__(self):
        from gatehouse import status

        self.now = 0.0
        status.uptime_ms = lambda: int(self.now * 1000)

    def step(self, seconds):
        self.now += seconds


class _Part:
    pass


class Access:
    """What report.Reporter asks of doors.Access."""

    def __init__(self, rows=(("uart", True, True, True, ""),), sessions=0, fresh=True, lockouts=None, repl=0):
        self.registry, self.auth, self.operations = _Part(), _Part(), _Part()
        self.registry.found = lambda: {row[0]: [row[1], row[2]] for row in rows}
        self.registry.disagreeing = lambda: [row[0] for row in rows if not row[3]]
        self.auth.sessions = lambda: [None] * sessions
        self.auth.fresh = lambda: fresh
        self.auth.lockouts = lambda: lockouts or {}
        self.operations.repl_left = lambda: repl


class Installer:
    """As installer.Installer, with an offer that waits when `waits` says so."""

    def __init__(self):
        self.waits = False
        self.approved = []
        self.state = {
            "state": "idle",
            "reason": None,
            "detail": "",
            "digest": b"",
            "sequence": 0,
            "done": 0,
            "total": 0,
        }

    def approve(self, step):
        if self.waits:
            self.approved.append(step)
        return self.waits


class Reporter:
    @staticmethod
    def facts():
        return {"id": "gh-1"}

    @staticmethod
    def measured():
        return {"value": 21}


class Offers:
    looked = 0

    def soon(self):
        self.looked += 1


class Application:
    """As app.Application for operations; counts what is asked of it."""

    def __init__(self):
        self.installer, self.reporter, self.offers = Installer(), Reporter(), Offers()
        self.changed = asyncio.Event()
        self.postponed = []
        self.left = 0

    def postpone(self, seconds):
        self.postponed.append(seconds)

    async def leave(self):
        self.left += 1


def pbkdf2(password, salt, iterations):
    """PBKDF2 the plain way: what is tested against must not be what is tested."""
    from gatehouse import mac

    block = mac.hmac_sha256(password, salt, b"\0\0\0\1")
    total = int.from_bytes(block, "big")
    for _ in range(iterations - 1):
        block = mac.hmac_sha256(password, block)
        total ^= int.from_bytes(block, "big")
    return total.to_bytes(32, "big")


LABEL = "k7mq-x2pd-9wfh-rt4e"


def label(password=LABEL, iterations=2):
    """What the factory writes into NVS `label`, with so few iterations that tests are quick."""
    from gatehouse import cbor

    plain = password.replace("-", "").encode()
    return cbor.dumps([b"S" * 16, iterations, pbkdf2(plain, b"S" * 16, iterations)])


def verifier(password, iterations=2):
    """[salt, iterations, verifier] of a chosen password."""
    return [b"T" * 16, iterations, pbkdf2(password.encode(), b"T" * 16, iterations)]
