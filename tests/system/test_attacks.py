"""The attacks of docs/threat-model.md that need more than a bent byte, each on a whole device, and their honest twins.

One device takes all attacks on manifests and packs: none of them may change what runs. Attacks by a server have a
device each, which takes the honest answer afterwards.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish as mqtt_publish

from gatehouse_tools import ca, cbor, keys, pack, suit, topics
from gatehouse_tools.demo.stage import Stage
from servers.web import Peer, WebServer

from .conftest import Device
from .test_power import slots_on_flash
from .test_update import release

ES256 = -7  # the older label of ESP256


class Forge:
    """Writes releases that `gatehouse release` never would, signed by whatever key, with their packs on the server."""

    def __init__(self, shop: Stage) -> None:
        self.shop = shop
        self.product = shop.product
        self.vendor = self.product.vendor_id.bytes
        self.cls = self.product.class_id(self.product.board()).bytes
        self.release = self.product.signer("release")
        honest = release(shop, "1.1.0")
        self.envelope = honest.read_bytes()
        self.pack = honest.with_suffix(".pack").read_bytes()
        self._count = 0

    def sequence(self) -> int:
        """A fresh sequence number."""
        self._count += 1
        return max(int(time.time()), self.product.last_sequence()) + self._count

    def plant(self, data: bytes) -> str:
        """Put a pack on the server; its name."""
        name = f"forged-{hashlib.sha256(data).hexdigest()[:12]}.pack"
        (self.product.dist / name).write_bytes(data)
        return name

    def tree(self, *extra: tuple[str, bytes, bytes, int], **index: Any) -> suit.Component:
        """The honest application and more: (path, plain bytes, stored bytes, encoding); index: fields _1 to _6."""
        found, files = pack.unpack(self.pack)
        rows = [(path, data, data, pack.RAW) for path, data in files.items()] + list(extra)
        rows.sort(key=lambda row: row[0].encode())
        entries = [[path, len(data), hashlib.sha256(data).digest(), len(body), code] for path, data, body, code in rows]
        fields = {1: 1, 2: found.name, 3: "6.6.6", 4: found.core, 5: found.mpy, 6: entries}
        told = cbor.dumps(fields | {int(name[1:]): value for name, value in index.items()})
        whole = len(told).to_bytes(4, "big") + told + b"".join(body for _, _, body, _ in rows)
        return suit.Component("app", hashlib.sha256(told).digest(), len(told), self.plant(whole))

    def signed(self, *components: suit.Component, signers: Any = None, sequence: int | None = None) -> bytes:
        number = self.sequence() if sequence is None else sequence
        return suit.build_envelope(number, components, self.vendor, self.cls, signers or [self.release])

    def manifest(
        self, change: Callable[[suit.Manifest], None], *components: suit.Component, alg: int | None = None
    ) -> bytes:
        """The honest manifest after `change`, rightly signed."""
        made = suit.release_manifest(self.sequence(), components or [self.tree()], self.vendor, self.cls)
        change(made)
        encoded = made.encode()
        digest = cbor.dumps(suit.suit_digest(encoded))
        block = suit.cose.sign1_detached(self.release, digest, alg=alg)
        return suit.wrap(encoded, blocks=[block], members=made.members())


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -10)
    return packer.compress(data) + packer.flush()


TEXT = b"a line that deflates well\n" * 200
NOTHING = 0


def _no_change(_: suit.Manifest) -> None:
    pass


def _drop_match(manifest: suit.Manifest) -> None:
    for section in ("install", "validate"):
        manifest.sections[section] = manifest.sections[section][:-2]


def _unknown_command(manifest: suit.Manifest) -> None:
    manifest.sections["install"] = [*manifest.sections["install"], 33, 2]  # unlink, of trust-domains


def _without_identity(manifest: suit.Manifest) -> None:
    manifest.shared = list(manifest.shared or [])[:4]


def _dependency(manifest: suit.Manifest) -> None:
    manifest.extra[15] = b""  # dependency resolution


def mixed(forge: Forge) -> bytes:
    """The honest manifest's index with another release's pack under the name that it signs."""
    found = pack.split(forge.pack)
    other = forge.shop.envelopes["1.0.0"].with_suffix(".pack").read_bytes()
    component = suit.Component("app", found.digest, len(found.data), forge.plant(other))
    return forge.signed(component)


def replaced_body(forge: Forge) -> bytes:
    """The right index, and other bytes of the right length behind it."""
    found = pack.split(forge.pack)
    start = 4 + len(found.data)
    data = forge.pack[:start] + bytes(len(forge.pack) - start)
    return forge.signed(suit.Component("app", found.digest, len(found.data), forge.plant(data)))


def no_image(forge: Forge) -> bytes:
    """A text that says it is an application image."""
    index, whole = pack.build_firmware(TEXT, "demo", "6.6.6", "1.0.0")
    return forge.signed(suit.Component("firmware", index.digest, len(index.data), forge.plant(whole)))


def trust_by_release_key(forge: Forge) -> bytes:
    rows = [{1: key.kid, 2: key.alg, 3: key.public, 4: [1, 2, 3]} for key in [forge.release.key]]
    return forge.signed(suit.Component("trust", payload=cbor.dumps({1: 9, 2: rows})))


ATTACKS: dict[str, tuple[str, Callable[[Forge], bytes]]] = {
    "truncated": ("format", lambda forge: forge.envelope[:-7]),
    "bytes behind": ("format", lambda forge: forge.envelope + b"\0"),
    "manifest changed": ("digest", lambda forge: flip(forge.envelope, forge.envelope.index(b"\x01\x01\x02\x1a") + 6)),
    "algorithm confusion": ("signature", lambda forge: forge.manifest(_no_change, alg=-46)),
    "mixed pack": ("digest", mixed),
    "replaced pack": ("digest", replaced_body),
    "path traversal": ("path", lambda forge: forge.signed(forge.tree(("../../boot.py", b"x", b"x", 0)))),
    "absolute path": ("path", lambda forge: forge.signed(forge.tree(("/boot.py", b"x", b"x", 0)))),
    "manifest in the pack": ("path", lambda forge: forge.signed(forge.tree(("manifest.suit", b"x", b"x", 0)))),
    "core shadowed": ("module", lambda forge: forge.signed(forge.tree(("gatehouse/suit.mpy", b"x", b"x", 0)))),
    "bomb": ("size", lambda forge: forge.signed(forge.tree(("z.txt", TEXT, deflated(TEXT + bytes(1 << 20)), 1)))),
    "more behind a file": (
        "size",
        lambda forge: forge.signed(
            forge.tree(("y.txt", TEXT[1:], deflated(TEXT[1:]) + b"more", 1))
        ),  # not in the slot yet
    ),
    "newer core needed": ("core", lambda forge: forge.signed(forge.tree(_4="1.99.0"))),
    "far future": ("sequence", lambda forge: forge.signed(forge.tree(), sequence=int(time.time()) + 90000)),
    "another device": ("device", lambda forge: forge.manifest(_no_change, device_bound(forge, bytes(16)))),
    "nothing is matched": ("condition", lambda forge: forge.manifest(_drop_match)),
    "for any board": ("condition", lambda forge: forge.manifest(_without_identity)),
    "unknown command": ("unsupported", lambda forge: forge.manifest(_unknown_command)),
    "unknown member": ("unsupported", lambda forge: forge.manifest(_dependency)),
    "not an image": ("format", no_image),
    "trust anchors by the release key": ("right", trust_by_release_key),
}


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def device_bound(forge: Forge, device_id: bytes) -> suit.Component:
    component = forge.tree()
    component.device_id = device_id
    return component


def offer(device: Device, envelope: bytes) -> None:
    """Publish bytes as an attacker with a right to publish would."""
    folder = device.shop.product.root / "ca"
    mqtt_publish.single(
        topics.topic("offer", id=device.id),
        envelope,
        qos=1,
        retain=True,
        hostname="localhost",
        port=device.shop.house.broker.port,
        tls={
            "ca_certs": str(folder / "ca.pem"),
            "certfile": str(folder / "host.pem"),
            "keyfile": str(folder / "host-key.pem"),
        },
    )


@pytest.fixture(scope="module")
def forge(shop: Stage) -> Forge:
    return Forge(shop)


@pytest.fixture(scope="module")
def victim(shop: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """One device for all attacks: what they leave behind would show in the next.

    It has a heap that never runs short: what is looked for here is the reason of the attack, not `memory`.
    """
    made = Device(shop, tmp_path_factory.mktemp("victim"), 1, heap="144wK")
    made.board.power_on()
    made.runs("1.0.0")
    yield made
    made.close()


def refused(device: Device, envelope: bytes, reason: str) -> None:
    """The device refuses it for this reason, and runs on as before."""
    since = device.witness.mark()
    before = device.witness.history[-1].claims.get("refused")
    device.board.step(6)  # the time in which a refused offer's signature check is given back
    offer(device, envelope)

    def told(claims: dict) -> bool:
        found = claims.get("refused")
        return found and found["reason"] == reason and found != before

    report = device.witness.wait(since, told, 120)
    last = {str(item.claims.get("update")) for item in device.witness.history[since:]}
    assert report, f"not refused for {reason}, but {last}: {device.log.read_text()[-1500:]}"
    assert (report.claims["version"], report.claims["mode"], report.counter[0]) == ("1.0.0", "active", 1)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused_and_nothing_changes(victim: Device, forge: Forge, attack: str) -> None:
    reason, make = ATTACKS[attack]
    refused(victim, make(forge), reason)


TWINS: dict[str, Callable[[Forge, Device], bytes]] = {
    "forged tree": lambda forge, _: forge.signed(
        forge.tree(("tables/z.txt", TEXT, deflated(TEXT), 1), ("more.bin", b"x", b"x", 0), _4="1.0.0")
    ),
    "this device": lambda forge, device: forge.manifest(_no_change, device_bound(forge, device_number(device))),
    "older label of the same algorithm": lambda forge, _: forge.manifest(_no_change, alg=ES256),
    "within a day of the clock": lambda forge, _: forge.signed(forge.tree(), sequence=int(time.time()) + 86000),
}


def device_number(device: Device) -> bytes:
    import uuid

    return uuid.UUID(device.shop.product.device_facts(device.id)["uuid"]).bytes


@pytest.mark.parametrize("twin", TWINS)
def test_honest_twin_is_confirmed(device: Device, forge: Forge, twin: str) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    offer(device, TWINS[twin](forge, device))
    device.tells("confirmed", None)


def test_oversized_offer_is_skipped_and_the_honest_one_taken(device: Device, forge: Forge, shop: Stage) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    offer(device, forge.envelope + bytes(8192 - len(forge.envelope)) + b"\0")
    report = device.runs("1.0.0", since=device.witness.mark())
    assert (report.counter[0], report.claims["update"]["state"]) == (1, "idle")
    offer(device, forge.envelope)
    device.tells("confirmed", None)


@pytest.mark.parametrize("where", ["manifest", "wrapper", "header"])
def test_offer_of_many_small_items_does_not_keep_the_honest_one_out(
    device: Device, forge: Forge, shop: Stage, where: str
) -> None:
    """Retained, and newest by its claim: decoded, its empty lists would fill the heap at each connect."""
    lists = b"\x87" + 7 * (b"\x99\x03\xe8" + 1000 * b"\x80")
    claim = (1 << 60).to_bytes(8, "big")
    manifest = b"\xa3\x01\x01\x02\x1b" + claim + b"\x03" + (lists if where == "manifest" else b"\x40")
    digest = cbor.dumps([-16, hashlib.sha256(cbor.dumps(manifest)).digest()])
    block = b"\xd2\x84\x43\xa1\x01\x28\xa1\x04" + lists + b"\xf6\x40"
    rest = {"manifest": cbor.dumps(b""), "wrapper": lists, "header": cbor.dumps(block)}[where]
    bomb = cbor.dumps(cbor.Tag(107, {2: b"\x82" + cbor.dumps(digest) + rest, 3: manifest}))
    assert len(bomb) < 8192
    offer(device, bomb)
    device.board.power_on()
    device.tells("refused", "format")
    device.board.power_off()
    since = device.witness.mark()
    device.board.power_on()
    device.runs("1.0.0", since=since)
    device.publish(release(shop, "1.1.0"))
    device.tells("confirmed", None, since=since)


def test_flood_of_bogus_offers_leaves_the_device_to_the_honest_one(device: Device, forge: Forge, shop: Stage) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    operations = device.board.operations
    signature = forge.envelope.index(b"\x58\x40") + 2
    folder = shop.product.root / "ca"
    topic = topics.topic("offer", id=device.id)
    bogus = [forge.envelope[:signature] + n.to_bytes(64, "big") + forge.envelope[signature + 64 :] for n in range(1000)]
    mqtt_publish.multiple(
        [{"topic": topic, "payload": data, "qos": 1, "retain": True} for data in bogus],
        hostname="localhost",
        port=shop.house.broker.port,
        tls={
            "ca_certs": str(folder / "ca.pem"),
            "certfile": str(folder / "host.pem"),
            "keyfile": str(folder / "host-key.pem"),
        },
    )
    device.tells("refused", "signature")
    assert device.board.operations - operations < 100, "a flood wears no flash"
    device.publish(release(shop, "1.1.0"))
    for _ in range(12):
        device.board.step(6)
        time.sleep(0)
    assert device.tells("confirmed", None, within=120).claims["version"] == "1.1.0"


# Servers.


class Mirror:
    """A server of packs that is honest or not, as `mode` says."""

    def __init__(self, dist: Path) -> None:
        self.dist = dist
        self.mode = "honest"
        self.asked = 0

    def __call__(self, peer: Peer) -> None:
        while request := peer.request():
            path, start, end = request
            self.asked += 1
            file = self.dist / path.rpartition("/")[2]
            data = file.read_bytes() if file.exists() else b""
            getattr(self, self.mode)(peer, data, start or 0, len(data) if end is None else end)
            if self.mode != "honest":
                return

    def honest(self, peer: Peer, data: bytes, start: int, end: int) -> None:
        peer.partial(start, end, len(data), data[start:end])

    def missing(self, peer: Peer, *_: Any) -> None:
        peer.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def endless(self, peer: Peer, data: bytes, *_: Any) -> None:
        """An index of the signed length, then bytes for ever."""
        peer.send("HTTP/1.1 200 OK\r\n\r\n", data[:4])
        while True:
            peer.send(bytes(65536))

    def redirect(self, peer: Peer, *_: Any) -> None:
        peer.send("HTTP/1.1 302 Found\r\nLocation: /round/and/round.pack\r\nContent-Length: 0\r\n\r\n")
        peer.rest()

    def stalls(self, peer: Peer, data: bytes, start: int, end: int) -> None:
        """The head, a few bytes, and silence."""
        peer.send(f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{end - 1}/{len(data)}\r\n")
        peer.send(f"Content-Length: {end - start}\r\n\r\n", data[start : start + 2])
        peer.rest()

    def drips(self, peer: Peer, data: bytes, start: int, end: int) -> None:
        """What was asked for, a byte at a time."""
        peer.send(f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{end - 1}/{len(data)}\r\n")
        peer.send(f"Content-Length: {end - start}\r\n\r\n")
        for at in range(start, end):
            peer.send(data[at : at + 1])
            time.sleep(0.03)

    def longer(self, peer: Peer, data: bytes, start: int, end: int) -> None:
        """More than was asked for."""
        peer.partial(start, end + 100, len(data) + 100, data[start:end] + bytes(100))


@pytest.mark.parametrize(
    ("mode", "state", "reason"),
    [
        ("missing", "failed", "http"),
        ("endless", "refused", "digest"),
        ("redirect", "failed", "http"),
        ("stalls", "failed", "timeout"),
        ("drips", "failed", "timeout"),
        ("longer", "refused", "size"),
    ],
)
def test_hostile_server_is_survived_and_the_honest_one_used(
    shop: Stage, tmp_path: Path, mode: str, state: str, reason: str
) -> None:
    mirror = Mirror(shop.product.dist)
    with WebServer(mirror) as server:
        device = Device(shop, tmp_path, 2, "128wK", "--base-url", f"http://127.0.0.1:{server.port}/")
        try:
            mirror.mode = mode
            device.board.power_on()
            device.runs("1.0.0")
            device.publish(release(shop, "1.1.0"))
            deadline = time.monotonic() + 30
            while mode in ("stalls", "drips") and not mirror.asked and time.monotonic() < deadline:
                device.witness.wait(device.witness.mark(), lambda claims: True, 1)
            # The device's patience, without ours.
            if mode == "stalls":
                device.board.step(31)
            for _ in range(100 if mode == "drips" else 0):
                device.board.step(0.5)
                time.sleep(0.03)
            report = device.tells(state, reason)
            assert report.claims["version"] == "1.0.0"
            mirror.mode = "honest"
            # A refusal holds for this boot; a failure is tried again by itself.
            device.board.power_off()
            since = device.witness.mark()
            device.board.power_on()
            assert device.tells("confirmed", None, since=since).claims["version"] == "1.1.0"
        finally:
            device.close()


# Keys.


def anchors(forge: Forge, version: int, entries: list[tuple[Any, int]], **more: Any) -> bytes:
    """A trust store, signed by the root."""
    rows = [{1: key.kid, 2: key.alg, 3: key.public, 4: [role]} for key, role in entries]
    authority = ca.der(ca.load_certificate(forge.product.ca / "ca.pem"))
    store = {1: version, 2: rows, 5: [authority]} | {int(name[1:]): value for name, value in more.items()}
    component = suit.Component("trust", payload=cbor.dumps(store))
    return forge.signed(component, signers=[forge.product.signer("root")])


def test_revoked_key_signs_nothing_more_and_its_release_runs_on(device: Device, forge: Forge, shop: Stage) -> None:
    product = shop.product
    root, operator, new = product.signer("root"), product.signer("operator"), keys.generate()
    running = suit.parse(shop.envelopes["1.0.0"].read_bytes()).digest
    device.board.power_on()
    device.runs("1.0.0")
    entries = [(root, 1), (new, 2), (operator, 3)]
    offer(device, anchors(forge, 2, entries))
    device.tells("refused", "strands")
    offer(device, anchors(forge, 2, entries, _4=[running]))
    report = device.witness.wait(0, lambda claims: claims["trust"] == 2 and claims["mode"] == "active", 120)
    assert report and report.claims["version"] == "1.0.0"
    since = device.witness.mark()
    device.publish(release(shop, "1.1.0"))  # by the key that is no more
    device.tells("refused", "key", since=since)
    offer(device, forge.signed(forge.tree(), signers=[new]))
    assert device.tells("confirmed", None, since=since).claims["version"] == "6.6.6"


def test_release_by_one_key_is_refused_where_two_must_sign_and_taken_with_both(
    device: Device, forge: Forge, shop: Stage
) -> None:
    product = shop.product
    root, operator, second = product.signer("root"), product.signer("operator"), keys.generate()
    running = suit.parse(shop.envelopes["1.0.0"].read_bytes()).digest
    device.board.power_on()
    device.runs("1.0.0")
    entries = [(root, 1), (forge.release, 2), (second, 2), (operator, 3)]
    offer(device, anchors(forge, 2, entries, _3={"app": [[2, -9], [2, -9]]}, _4=[running]))
    assert device.witness.wait(0, lambda claims: claims["trust"] == 2 and claims["mode"] == "active", 120)
    since = device.witness.mark()
    device.publish(release(shop, "1.1.0"))
    device.tells("refused", "right", since=since)
    offer(device, forge.signed(forge.tree(), signers=[forge.release, second]))
    device.tells("confirmed", None, since=since)


# The flash in an attacker's hand.


def edited(device: Device, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the files on the flash of a device without power."""
    from gatehouse_tools.image import littlefs, partitions

    data = bytearray(device.image.read_bytes())
    part = partitions.find(partitions.from_binary(bytes(data[0x8000:0x9000])), "vfs")
    files, folders = littlefs.read(bytes(data[part.offset : part.end]))
    change(files)
    data[part.offset : part.end] = littlefs.build(files, folders, part.end - part.offset)
    device.image.write_bytes(data)


def test_file_that_is_not_in_the_index_keeps_a_slot_from_running(device: Device, shop: Stage) -> None:
    edited(device, lambda files: files.update({"/slots/a/extra.mpy": b"x"}))
    device.board.power_on()
    report = device.witness.wait(0, lambda claims: claims["mode"] == "recovery", 120)
    assert report and "boot:extraneous" in report.degraded
    device.board.power_off()
    edited(device, lambda files: files.__delitem__("/slots/a/extra.mpy"))
    since = device.witness.mark()
    device.board.power_on()
    device.runs("1.0.0", since=since)


@pytest.mark.parametrize("step", ["switched", "honest"])
def test_payload_switched_between_check_and_use_does_not_run(device: Device, shop: Stage, step: str) -> None:
    device.board.power_on()
    device.runs("1.0.0")
    device.board.auto_power = False
    since = device.witness.mark()
    device.publish(release(shop, "1.1.0"))
    assert device.witness.wait(since, lambda claims: claims.get("update", {}).get("state") == "pending-reboot", 120)
    device.board.power_off()
    assert slots_on_flash(device.image)["b"]
    if step == "switched":
        edited(device, lambda files: files.update({"/slots/b/app.mpy": files["/slots/b/app.mpy"][:-1] + b"!"}))
    since = device.witness.mark()
    device.board.auto_power = True
    device.board.power_on()
    if step == "switched":
        assert device.tells("rolled-back", "digest", since=since).claims["version"] == "1.0.0"
    else:
        assert device.tells("confirmed", None, since=since).claims["version"] == "1.1.0"
