"""A Boot without a chip, for what only reads it: reports and the application."""

DEVICE_KEY = bytes(range(32))  # as in tests/cases/report.py


class Store:
    def __init__(self, epoch=0):
        self.epoch = epoch
        self.numbers = {}

    def number(self, key):
        return self.numbers.get(key, 0)

    def put_number(self, key, value):
        self.numbers[key] = value

    def blob(self, key):
        return None

    def derive(self, purpose, role="", client=""):
        from gatehouse import cbor, mac

        return mac.hkdf(DEVICE_KEY, cbor.dumps(["gatehouse/1", purpose, role, client, self.epoch]))


class Identity:
    id = "gh-1"
    vendor_id = b"V" * 16
    class_id = b"C" * 16
    device_id = b"D" * 16
    model = "UNIX"
    hardware = "1.0"
    button = led = fuses = sensor = None


class Release:
    slot = "a"
    digest = b"M" * 32
    sequence = 1000
    config = 1
    name = "example"
    version = "1.0.0"
    root = "slot"
    index = b"I" * 32, 5


class Record:
    tries = 0
    quiet = 1
    outcome = trial = None

    def __init__(self):
        self.floors = {1: {"app": [1000, b"M" * 32]}, 2: {}, 3: b"M" * 32, 4: []}


class Trust:
    version = 4
    dev = False


class Config:
    broker = "localhost"
    port = 8883
    tls = True
    base = ""
    ntp = ""
    ntp_port = 123
    groups = ("all",)
    report_s = 300
    sensor_s = 60
    trial_s = 300
    watchdog_ms = 30000
    keepalive_s = 60
    updates = auto_download = auto_install = notify = True
    window = ()
    interfaces = ("uart", "mqtt-commands", "reset-button")
    lockout = (3, 2, 900, 1)
    session = (300, 3600, 4)
    repl_s = 0
    bounds = {}


class Boot:
    """As slots.Boot; counts what is asked of it."""

    def __init__(self, mode="active", clock=1_800_000_000):
        self.mode = mode
        self.clock = clock
        self.release = None if mode == "recovery" else Release()
        self.identity = Identity()
        self.trust = Trust()
        self.config = Config()
        self.record = Record()
        self.store = Store()
        self.boot_count = 7
        self.cause = 1
        self.seed = b"S" * 16
        self.failure = None
        self.config_digest = b""
        self.generation = 1
        self.window = 0
        self.journal = None
        self.fed = self.signs = self.confirms = self.restarts = 0

    def now(self):
        return self.clock

    def feed(self):
        self.fed += 1

    def healthy(self):
        self.signs += 1

    def confirm(self):
        self.confirms += 1
        self.mode = "active"

    def note(self, event, *details):
        return True

    def restart(self):
        self.restarts += 1


def slot():
    """The folder that Release.root names, with an index; returns the index's bytes."""
    import os

    os.mkdir("slot")
    with open("slot/index.cbor", "wb") as file:
        file.write(b"index")
    return b"index"
