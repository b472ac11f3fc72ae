"""The phases of a device's life that are cut: where each starts, what it does, and what must be true at its end.

A new phase is one class with the decorator: `prepare()` makes the flash image, `check()` looks at the one at the end.
"""

from __future__ import annotations

from typing import ClassVar

import cbor2

from .bench import HOLDS, IDLE, WAITS, Bench, Seen
from .world import World

OLD, NEW, BAD, WRITER = "1.0.0", "1.1.0", "1.2.0", "1.0.1"
WRITES = 60  # rounds of the NVS phase: its four pages are filled and moved more than once
HOLD = 4  # the pin that keeps a device before the restart that an update ends with

ALL: dict[str, Phase] = {}


def make_releases(world: World) -> None:
    """The releases that the phases use; the sequence number grows with each."""
    world.make_release(OLD)
    world.make_release(WRITER, writes=WRITES)
    world.make_release(NEW)
    world.make_release(BAD, bad=True)


class Phase:
    """One phase. `versions` may run after a cut; `target` must run in the end, from the slot `slot`."""

    name: ClassVar[str]
    about: ClassVar[str]
    versions: ClassVar[tuple[str, ...]]
    target: ClassVar[str]
    slot: ClassVar[str]
    until: ClassVar[str] = IDLE  # the application's line at which the phase is over
    online: ClassVar[bool] = True  # whether it needs the network
    pins: ClassVar[dict[int, bool]] = {}  # while the phase runs; afterwards all are high
    second: ClassVar[int] = 64  # of the boot after a cut so many operations are cut again; a boot has about 16
    second_step: ClassVar[int] = 1  # so manieth first cuts have second cuts: more where a boot has little to recover

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


def held(world: World, bench: Bench, name: str, offered: str) -> bytes:
    """The image of a device that has installed `offered` over OLD and waits for its restart."""
    bench.load(world.provision(name, OLD))
    world.offer(name, offered)
    run = bench.run(HOLDS, online=True, pins={HOLD: False})
    bench.power_off()
    assert run.end == HOLDS, (run.end, run.lines)
    return bench.image()


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
    versions = (OLD, NEW)
    target, slot = NEW, "b"
    until = HOLDS
    pins: ClassVar = {HOLD: False}
    second_step = 3

    def prepare(self, world: World, bench: Bench) -> bytes:
        world.offer(self.name, NEW)
        return world.provision(self.name, OLD)

    def check(self, world: World, seen: Seen) -> str:
        return floors(seen) or ("" if seen.version(world, "a") == OLD else "the release to fall back to is not whole")


@phase
class Trial(Phase):
    name = "trial"
    about = "boot of the trial, confirm"
    versions = (OLD, NEW)
    target, slot = NEW, "b"

    def prepare(self, world: World, bench: Bench) -> bytes:
        image = held(world, bench, self.name, NEW)
        world.offer(self.name)  # what was switched to completes by itself
        return image

    def check(self, world: World, seen: Seen) -> str:
        assert seen.record
        new, old = world.release(NEW), world.release(OLD)
        if seen.record["floors"][1] != {"app": [new.sequence, new.digest]}:
            return "the install floor has not moved"
        if seen.record["floors"][2] != {"app": old.sequence} or seen.record["floors"][3] != new.digest:
            return "the boot floor or the confirmed digest is wrong"
        return floors(seen)


@phase
class RollBack(Phase):
    name = "rollback"
    about = "a bad release uses up its tries, roll back"
    versions = (OLD,)
    target, slot = OLD, "a"
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
    versions = (OLD,)
    target, slot = OLD, "a"
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
    versions = (WRITER,)
    target, slot = WRITER, "a"
    until = WAITS
    online = False
    second = 24  # the rest of that boot is this phase once more

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
