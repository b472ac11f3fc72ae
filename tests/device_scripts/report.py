"""Runs inside MicroPython: the application's report of a made-up device. Job: {path, mode, nonce, journal, ...}."""

import json
import os
import sys
from binascii import hexlify, unhexlify

job = json.loads(sys.stdin.readline())
sys.path[:] = job["path"]
os.chdir(job["folder"])


class Network:
    STA_IF = 0

    class WLAN:
        def __init__(self, id):
            pass

        def ifconfig(self):
            return ("192.0.2.7",) * 4

        def status(self, what):
            return -61


class Sensor:
    name = "temperature"
    unit = "°C"

    def read(self):
        if job.get("fault"):
            raise OSError(5)
        return 21.5


class Link:
    connects, dropped, oversize = 2, 0, 1

    def __init__(self):
        self.failures = {"network": 3, "timeout": 1}


class Installer:
    def __init__(self):
        self.refused = job.get("refused")
        self.state = job["update"]
        for state in (self.refused, self.state):
            if state:
                state["digest"] = unhexlify(state["digest"])


sys.modules["network"] = Network

import fake_access  # noqa: E402 the path comes with the job
import fake_boot  # noqa: E402
import report  # noqa: E402
from gatehouse import wifi  # noqa: E402

wifi.losses = 4
fake_boot.slot()
if job.get("tag"):
    with open("slot/app.coswid", "wb") as file:
        file.write(unhexlify(job["tag"]))
boot = fake_boot.Boot(job.get("mode", "active"), job.get("clock"))
if job.get("journal"):
    boot.journal = [1, 4000, job["journal"], b"T" * 16, 0, job["journal"] - 2]  # as lib/gatehouse/journal.py keeps it
reporter = report.Reporter(boot, Installer(), Link(), Sensor(), fake_access.Access(**job.get("access", {})))
reporter.read()
reporter.left_out = 5
nonce = unhexlify(job["nonce"]) if job.get("nonce") else None
print(json.dumps([hexlify(reporter.report(nonce)).decode() for _ in range(2)]))
