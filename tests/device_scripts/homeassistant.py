"""Runs inside MicroPython: what a made-up device tells Home Assistant. Job: {path, folder, state, fault, offer}."""

import json
import os
import sys
from binascii import unhexlify

job = json.loads(sys.stdin.readline())
sys.path[:] = job["path"]
os.chdir(job["folder"])


class Network:
    STA_IF = 0

    class WLAN:
        def __init__(self, id):
            pass

        def status(self, what):
            return -61

        def ifconfig(self):
            return ("192.0.2.7",) * 4


class Esp32:
    @staticmethod
    def mcu_temperature():
        if job.get("fault"):
            raise OSError(5)
        return 21


sys.modules["network"], sys.modules["esp32"] = Network, Esp32

import announce  # noqa: E402 the path comes with the job
import fake_access  # noqa: E402
import fake_boot  # noqa: E402
import projection  # noqa: E402
import report  # noqa: E402
import sensor  # noqa: E402

application = fake_access.Application()
state = application.installer.state
state.update({name: job[name] for name in ("state", "done", "total") if name in job})
offer, digest = (unhexlify(item) for item in job.get("offer", ("", "")))
state["digest"], state["sequence"] = digest, 2000
application.offers.envelopes = lambda: iter([offer] if offer else [])
fake_boot.slot()
boot = fake_boot.Boot(job.get("mode", "active"))
application.reporter = report.Reporter(boot, application.installer, None, sensor.Sensor(), fake_access.Access())
application.reporter.read()
application.reporter.health = ["sensor"] if job.get("fault") else []
reading = application.reporter.reading().decode()
print(json.dumps({
    "ha-config": announce.announcement(boot, application.reporter),
    "ha-update": projection.update(boot, application),
    "ha-state": projection.state(application),
    "sensor": reading,
}))  # fmt: skip
