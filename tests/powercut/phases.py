"""The phases of a device's life that are cut: where each starts, what it does, and what must be true at its end.

A new phase is one class with the decorator: `prepare()` makes the flash image, `check()` looks at the one at the end.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, ClassVar

import cbor2

from gatehouse_tools.cose import hkdf

from .bench import HOLDS, IDLE, WAITS, Bench, Run, Seen, State
from .world import World

OLD, NEW, BAD, WRITER, LOGGER = "1.0.0", "1.1.0", "1.2.0", "1.0.1", "1.0.2"  # releases of the application alone,
BOTH, BAD_BOTH = "1.3.0", "1.4.0"  # and with a firmware
WRITES = 60  # rounds of the NVS phase: its four pages are filled and moved more than once
EVENTS = 96  # of the journal phase: it begins with two thirds of them, and its ring of four segments wraps in the rest
# Pins of the harness's application.
HOLD, LAST_GOOD, FACTORY, MORE = 4, 5, 6, 7
JOURNAL_HEADER, JOURNAL_TAG = 20, 16  # bytes, as lib/gatehouse/journal.py has them
BAD_SENSOR_S = 77  # a configuration with it does not work

ALL: dict[str, Phase] = {}


def make_releases(world: World) -> None:
    """What the phases offer; the sequence number grows with each."""
    world.make_release(OLD)
    world.make_release(WRITER, writes=WRITES)
    world.make_release(LOGGER, events=EVENTS)
    world.make_release(NEW)
    world.make_release(BAD, bad=True)
    world.make_release(BOTH, firmware=True)
    world.make_release(BAD_BOTH, firmware=True, bad=True)
    world.make_trust("trust", keep=world.release(OLD).digest)


class Phase:
    """One phase. One of `states` must run after a cut, and `target` in the end, from the slot `slot`."""

    name: ClassVar[str]
    about: ClassVar[str]
    states: ClassVar[tuple[State, ...]] = (State(OLD),)
    target: ClassVar[State] = State(OLD)
    slot: ClassVar[str] = "a"
    until: ClassVar[str] = IDLE  # the application's line at which the phase is over
    online: ClassVar[bool] = True  # whether it needs the network
    pins: ClassVar[dict[int, bool]] = {}  # while the phase runs, and
    later: ClassVar[dict[int, bool]] = {}  # after the cut: {pin: level}, all others are high
    second: ClassVar[int] = 64  # of the boot after a cut so many operations are cut again; a boot has about 16
    second_step: ClassVar[int] = 1  # so manieth first cuts have second cuts, all where there are few

    def prepare(self, world: World, bench: Bench) -> bytes:
        """The flash image where it starts; also puts on the server what the device is to find there."""
        raise NotImplementedError

    def check_cut(self, world: World, seen: Seen) -> str:
        """What is wrong with the flash right after a cut, "" for nothing."""
        return ""

    def check(self, world: World, seen: Seen) -> str:
        """What is wrong with the flash at the end, beyond the version that runs; "" for nothing."""
        return ""


def phase(made: type[Phase]) -> type[Phase]:
    """Decorator: `make powercut` runs this phase too."""
    ALL[made.name] = made()
    return made


def held(world: World, bench: Bench, name: str, *offered: str) -> bytes:
    """The image of a device that has installed the last of `offered` over OLD and waits for its restart.

    Those before it are confirmed, one after the other.
    """
    image = world.provision(name, OLD)
    for number, offer in enumerate(offered, 1):
        bench.load(image)
        world.offer(name, offer)
        if number < len(offered):
            done(bench.run(IDLE, online=True), IDLE)
        else:
            done(bench.run(HOLDS, online=True, pins={HOLD: False}), HOLDS)
        bench.power_off()
        image = bench.image()
    return image


def done(run: Run, end: str) -> None:
    """Assert that a run ended so."""
    assert run.end == end, (run.end, run.detail, run.lines)


def journal(seen: Seen) -> tuple[str, list[list[Any]]]:
    """What is wrong with the chain of the journal ("" for nothing), and its events, oldest first."""
    secret = seen.nvs["device_key"]
    assert isinstance(secret, bytes)
    key = hkdf(secret, cbor2.dumps(["gatehouse/1", "journal", "", "", seen.nvs.get("epoch", 0)]))
    segments = {int(path.rpartition("-")[2]): data for path, data in seen.files.items() if "/journal-" in path}
    events: list[list[Any]] = []
    number = tag = None
    for name, data in sorted(segments.items()):
        if len(data) < JOURNAL_HEADER:
            if name != max(segments):
                return f"segment {name} has no header", events
            continue
        if number is not None and data[:JOURNAL_HEADER] != number.to_bytes(4, "big") + tag:
            return f"segment {name} does not continue the chain", events
        number, tag, at = int.from_bytes(data[:4], "big"), data[4:JOURNAL_HEADER], JOURNAL_HEADER
        while at < len(data):
            size = int.from_bytes(data[at : at + 2], "big")
            entry, told = data[at + 2 : at + 2 + size], data[at + 2 + size : at + 2 + size + JOURNAL_TAG]
            tag = hmac.digest(key, tag + entry, hashlib.sha256)[:JOURNAL_TAG]
            number += 1
            if told != tag or cbor2.loads(entry)[0] != number:
                return f"segment {name} breaks at byte {at}, entry {number}", events
            events.append(cbor2.loads(entry))
            at += 2 + size + JOURNAL_TAG
    return "", events


def floors(seen: Seen) -> str:
    """What is wrong with the copy of the floors that NVS holds, "" for nothing."""
    assert seen.record
    found = seen.nvs.get("floors", b"")
    if not isinstance(found, bytes) or cbor2.loads(found) != seen.record["floors"]:
        return "NVS floors differ from the record's"
    return ""


@phase
class Install(Phase):
    name = "install"
    about = "download, install and switch to trial"
    states = (State(OLD), State(NEW))
    target, slot = State(NEW), "b"
    until = HOLDS
    pins: ClassVar = {HOLD: False}
    second_step = 48

    def prepare(self, world: World, bench: Bench) -> bytes:
        world.offer(self.name, NEW)
        return world.provision(self.name, OLD)

    def check(self, world: World, seen: Seen) -> str:
        return floors(seen) or ("" if seen.version(world, "a") == OLD else "the release to fall back to is not whole")


@phase
class Trial(Phase):
    name = "trial"
    about = "boot of the trial, confirm"
    states = (State(OLD), State(NEW))
    target, slot = State(NEW), "b"

    def prepare(self, world: World, bench: Bench) -> bytes:
        image = held(world, bench, self.name, NEW)
        world.offer(self.name)  # what was switched to completes by itself
        return image

    def check(self, world: World, seen: Seen) -> str:
        assert seen.record
        new, old = world.release(NEW), world.release(OLD)
        if seen.record["floors"][1]["app"] != [new.sequence, new.digest]:
            return "the install floor has not moved"
        if seen.record["floors"][2] != {"app": old.sequence} or seen.record["floors"][3] != new.digest:
            return "the boot floor or the confirmed digest is wrong"
        return floors(seen)


@phase
class RollBack(Phase):
    name = "rollback"
    about = "a bad release uses up its tries, roll back"
    until = WAITS
    online = False

    def prepare(self, world: World, bench: Bench) -> bytes:
        return held(world, bench, self.name, BAD)

    def check(self, world: World, seen: Seen) -> str:
        assert seen.record
        if seen.record["floors"][4] != [world.release(BAD).digest] or seen.record["outcome"][0] != "rolled-back":
            return "the bad release is not remembered"
        return floors(seen)


@phase
class Health(Phase):
    name = "health"
    about = "an ordinary boot and its sign of health"
    until = WAITS
    online = False

    def prepare(self, world: World, bench: Bench) -> bytes:
        return world.provision(self.name, OLD)

    def check(self, world: World, seen: Seen) -> str:
        assert seen.record
        return "the sign of health is not recorded" if seen.record["quiet"] else floors(seen)


@phase
class NvsWrites(Phase):
    name = "nvs"
    about = "writes to NVS, through full pages"
    states = (State(WRITER),)
    target = State(WRITER)
    until = WAITS
    online = False
    second = 24  # the rest of that boot is this phase once more
    second_step = 24

    def prepare(self, world: World, bench: Bench) -> bytes:
        return world.provision(self.name, WRITER)

    def check_cut(self, world: World, seen: Seen) -> str:
        count, blob = seen.nvs.get("count", 0), seen.nvs.get("blob", b"")
        assert isinstance(count, int) and isinstance(blob, bytes)
        number = blob[0] if blob else 0
        if number - count not in (0, 1) or blob != (bytes([number]) * (64 + number * 7 % 400) if number else b""):
            return f"NVS holds count {count} and blob {number}"
        return ""

    def check(self, world: World, seen: Seen) -> str:
        return self.check_cut(world, seen) or ("" if seen.nvs.get("count") == WRITES else "the writes are not done")


@phase
class Journal(Phase):
    name = "journal"
    about = "appends to the journal, through a wrap of its ring"
    states = (State(LOGGER),)
    target = State(LOGGER)
    until = WAITS
    online = False
    pins: ClassVar = {MORE: False}
    later: ClassVar = {MORE: False}
    second = 24  # as for NVS
    second_step = 16

    def prepare(self, world: World, bench: Bench) -> bytes:
        world.offer(self.name)
        bench.load(world.provision(self.name, LOGGER))
        done(bench.run(WAITS, online=False), WAITS)
        bench.power_off()
        return bench.image()

    def check(self, world: World, seen: Seen) -> str:
        wrong, events = journal(seen)
        told = [event[4] for event in events if event[3] == "harness"]
        if not wrong and (told != list(range(told[0], EVENTS + 1)) or told[0] == 1):
            wrong = f"the journal has the harness's events {told}, and should have the last ones"
        return wrong


class Config(Phase):
    """What the phases of configurations share."""

    def configs(self, world: World, bench: Bench) -> None:
        """Sign the configurations of this phase: -1 and -2 are good, -bad does not work."""
        for offset, name in enumerate(("1", "2", "bad")):
            sensor = BAD_SENSOR_S if name == "bad" else 60 + offset
            world.make_config(f"{self.name}-{name}", self.name, sensor_seconds=sensor)

    def check(self, world: World, seen: Seen) -> str:
        assert seen.record
        if "config" not in seen.record["floors"][1]:
            return "no floor of the configuration"
        return floors(seen)


@phase
class ConfigInstall(Config):
    name = "config"
    about = "a configuration: install, trial, confirm"
    states = (State(OLD), State(OLD, 2))
    target = State(OLD, 2)

    def prepare(self, world: World, bench: Bench) -> bytes:
        self.configs(world, bench)
        world.offer(self.name, f"{self.name}-1")
        return world.provision(self.name, OLD)

    def check(self, world: World, seen: Seen) -> str:
        if seen.files.get("/state/config-2.suit") != world.envelope(f"{self.name}-1"):
            return "configuration 2 is not the one that was offered"
        return super().check(world, seen)


@phase
class ConfigRollBack(Config):
    name = "config-rollback"
    about = "a configuration that does not work, roll back"
    states = (State(OLD, 2),)
    target = State(OLD, 2)
    until = WAITS
    online = False

    def prepare(self, world: World, bench: Bench) -> bytes:
        self.configs(world, bench)
        return held(world, bench, self.name, f"{self.name}-1", f"{self.name}-bad")

    def check(self, world: World, seen: Seen) -> str:
        assert seen.record
        if seen.record["outcome"][0] != "rolled-back" or len(seen.record["floors"][4]) != 1:
            return "the bad configuration is not remembered"
        return super().check(world, seen)


@phase
class Restore(Config):
    name = "restore"
    about = "the last good configuration comes back by command"
    states = (State(OLD, 3), State(OLD, 2))
    target = State(OLD, 2)
    pins: ClassVar = {LAST_GOOD: False}
    later: ClassVar = {LAST_GOOD: False}

    def prepare(self, world: World, bench: Bench) -> bytes:
        self.configs(world, bench)
        bench.load(held(world, bench, self.name, f"{self.name}-1", f"{self.name}-2"))
        done(bench.run(IDLE, online=True), IDLE)
        bench.power_off()
        world.offer(self.name)
        return bench.image()


@phase
class RestoreFactory(Config):
    name = "restore-factory"
    about = "the factory's configuration comes back by command"
    states = (State(OLD, 2), State(OLD))
    pins: ClassVar = {FACTORY: False}
    later: ClassVar = {FACTORY: False}

    def prepare(self, world: World, bench: Bench) -> bytes:
        self.configs(world, bench)
        bench.load(held(world, bench, self.name, f"{self.name}-1"))
        done(bench.run(IDLE, online=True), IDLE)
        bench.power_off()
        world.offer(self.name)
        return bench.image()


@phase
class Rotation(Phase):
    name = "trust"
    about = "trust anchors with a new root and a new release key"
    states = (State(OLD), State(OLD, 1, 2))
    target = State(OLD, 1, 2)

    def prepare(self, world: World, bench: Bench) -> bytes:
        world.offer(self.name, "trust")
        return world.provision(self.name, OLD)

    def check(self, world: World, seen: Seen) -> str:
        assert seen.record
        if seen.files.get("/state/trust.suit") != world.envelope("trust"):
            return "the trust anchors are not those that were offered"
        if seen.nvs.get("root") != world.root_digest("trust"):
            return "NVS does not pin the new root alone"
        return floors(seen) or ("" if seen.record["floors"][1]["trust"][0] == 2 else "the floor has not moved")


class Firmware(Phase):
    """What the phases of firmware share: one manifest that brings an image and an application."""

    states: ClassVar[tuple[State, ...]] = (State(OLD), State(BOTH, partition="ota_1"))
    target, slot = State(BOTH, partition="ota_1"), "b"
    otadata: ClassVar[tuple[tuple[str, str] | None, ...]] = (("ota_1", "valid"),)  # what it may say in the end

    def check(self, world: World, seen: Seen) -> str:
        assert seen.record
        if seen.record["active"][3] != self.target.partition:
            return f"the record names partition {seen.record['active'][3]}"
        told = seen.otadata and (f"ota_{seen.otadata.slot}", seen.otadata.state)
        if told not in self.otadata:
            return f"otadata: {told}"
        return floors(seen)


@phase
class FirmwareInstall(Firmware):
    name = "firmware"
    about = "firmware and application: download, install and switch to trial"
    until = HOLDS
    pins: ClassVar = {HOLD: False}
    second_step = 48

    def prepare(self, world: World, bench: Bench) -> bytes:
        world.offer(self.name, BOTH)
        return world.provision(self.name, OLD)


@phase
class FirmwareTrial(Firmware):
    name = "firmware-trial"
    about = "boot of a firmware's trial, confirm"

    def prepare(self, world: World, bench: Bench) -> bytes:
        image = held(world, bench, self.name, BOTH)
        world.offer(self.name)
        return image


@phase
class FirmwareRollBack(Firmware):
    name = "firmware-rollback"
    about = "firmware whose application is bad: both go back"
    states = (State(OLD),)
    target, slot = State(OLD), "a"
    otadata = (("ota_1", "aborted"), ("ota_0", "valid"))
    until = WAITS
    online = False

    def prepare(self, world: World, bench: Bench) -> bytes:
        return held(world, bench, self.name, BAD_BOTH)


@phase
class FirmwareReturn(Firmware):
    name = "firmware-return"
    about = "the same from the second partition, back to a firmware that was itself an update"
    states = (State(BOTH, partition="ota_1"),)
    otadata = (("ota_1", "valid"), ("ota_0", "aborted"))
    until = WAITS
    online = False

    def prepare(self, world: World, bench: Bench) -> bytes:
        return held(world, bench, self.name, BOTH, BAD_BOTH)
