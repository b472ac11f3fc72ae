"""A provisioned device on the fake chip, made from the host's real envelopes and packs (tests/cases/device.py)."""

import asyncio
from binascii import unhexlify

import fake_chip as chip

MODULES = ("/slots", "/state")


class MemoryPack:
    """A source whose bytes are in RAM; counts what was read, so that a test can say what was fetched."""

    def __init__(self, data):
        self.data = data
        self.at = self.end = 0
        self.fetched = 0
        self.ranges = []

    async def open(self, start, end=None):
        if end is not None and end <= start:
            raise ValueError("range")  # as the real ones
        self.at = start
        self.end = len(self.data) if end is None else min(end, len(self.data))
        self.ranges.append((start, end))

    async def readinto(self, view):
        # Short reads, as a socket gives them.
        count = min(len(view), self.end - self.at, 700)
        view[:count] = self.data[self.at : self.at + count]
        self.at += count
        self.fetched += count
        return count

    async def skip(self, count):
        from gatehouse import Refused  # of the core as it is loaded now: forget() makes another

        if count > self.end - self.at:
            raise Refused("size", "too short")
        self.at += count
        self.fetched += count

    async def close(self):
        pass


def decode(value, common=None):
    """What cases("device") gave, its "hex:..." texts as bytes; every offer gets the field `common` of the whole."""
    if isinstance(value, dict):
        found = {key: decode(item) for key, item in value.items()}
        if common:
            for item in found["offers"].values():
                item[common] = found[common]
        return found
    if isinstance(value, str) and value.startswith("hex:"):
        return unhexlify(value[4:])
    return value


def provision(case, version="1.0.0", slot="a", ota_blocks=None):
    """An installed chip that leaves the factory with one release confirmed; `ota_blocks` as in fake_chip.install()."""
    chip.install(ota_blocks=ota_blocks)
    chip.forget()
    nvs = chip.NVS("gatehouse").values
    for key, value in case["nvs"].items():
        nvs[key] = value
    release = case["releases"][version]
    nvs["floors"] = release["floors"]
    for name, data in (
        ("trust.suit", case["trust"]),
        ("config-1.suit", case["config"]),
        ("boot.cbor", release["record"]),
    ):
        write("/state/" + name, data)
    put_release(release, "/slots/" + slot)


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def put_release(release, root):
    """Unpack a release into a slot, manifest included, by the core's own code."""
    from gatehouse import unpack

    pack = MemoryPack(release["pack"])
    asyncio.run(unpack.fill(pack, root, None, release["digest"], release["size"], lambda done, total: None))
    write(root + "/manifest.suit", release["envelope"])
    return pack


def boot(cause=chip.PWRON):
    """One boot of the core, as after a reset for this cause. Returns its Boot."""
    chip.forget()
    chip.start(cause)
    chip.mount()
    from gatehouse import slots

    return slots.boot()


def clock(seconds):
    """Set the clock that the core asks, Unix seconds or None."""
    import sys

    class Wifi:
        @staticmethod
        def now():
            return seconds

    import gatehouse

    sys.modules["gatehouse.wifi"] = Wifi
    gatehouse.wifi = Wifi


def offer(boot, release, pack=None, found=None):
    """Offer a release to a booted device, by a new Installer or the one `found`. Returns (Installer, MemoryPack)."""
    import sys

    import gatehouse
    from gatehouse import installer

    pack = pack or MemoryPack(release["pack"])

    class Source:
        @staticmethod
        def open_source(uri, base, authorities=(), link=None, digest=b""):
            return pack

    sys.modules["gatehouse.source"] = Source
    gatehouse.source = Source
    found = found or installer.Installer(boot)
    found.due = asyncio.run(found.offer(release["envelope"]))
    return found, pack
