"""Offer a release to devices: a retained SUIT envelope on their topic, checked before it is sent."""

from __future__ import annotations

import collections
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paho.mqtt import client as mqtt

from . import core, identity, product, releases, suit, topics, trust_store
from .errors import GatehouseError

MAX_ENVELOPE = 8192  # bytes; what the device's parser takes
_CONNECT_S = 10.0
_ACKNOWLEDGE_S = 10.0
_KEEPALIVE_S = 30
_WINDOW = 20  # messages under way without an acknowledgement; what brokers allow a client by default


@dataclass
class Offer:
    """An envelope that is to be offered. `problems`: why devices would refuse it, or could not install it."""

    data: bytes
    digest: bytes | None = None
    sequence: int | None = None
    problems: list[GatehouseError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what whoever offers it should know
    packs: list[tuple[bytes, bytes]] = field(default_factory=list)  # (digest of the index, pack) of each component
    uris: list[str] = field(default_factory=list)  # where each of them is to be fetched


def check(item: product.Product, path: Path, targets: Iterable[dict[str, Any]]) -> Offer:
    """Read an envelope and judge it as its targets (device.json of each) will; the pack beside it is verified too.

    GatehouseError only where the file cannot be read; what devices would refuse is in `problems`.
    """
    offer = Offer(product.read(path))
    steps = (
        lambda: _check_signers(offer, item),
        lambda: _check_size(offer),
        lambda: _check_manifest(item, offer, path, list(targets)),
    )
    for step in steps:
        try:
            step()
        except GatehouseError as error:
            offer.problems.append(GatehouseError(f"{path}: {error}", error.reason))
    return offer


def broker_address(item: product.Product, option: str | None) -> tuple[str, int]:
    """Host and port of the broker: of --broker HOST[:PORT], else of product.toml."""
    given = option or str(item.device.get("broker", "localhost"))
    return identity.host_and_port(given, item.device.get("port", product.BROKER_PORT), "broker")


def in_group(item: product.Product, group: str) -> list[dict[str, Any]]:
    """device.json of each device that takes the offers of a group."""
    found = [item.device_facts(folder.name) for folder in item.device_folders()]
    return [facts for facts in found if group in facts["groups"]]


def block_messages(digest: bytes, data: bytes) -> list[tuple[str, bytes]]:
    """A pack as the retained messages (topic, payload) that devices with the base URL `mqtt:` fetch it by."""
    size = core.block_size()
    return [
        (topics.topic("block", digest=digest.hex(), n=number), data[at : at + size])
        for number, at in enumerate(range(0, len(data), size))
    ]


def check_way(offer: Offer, over: str, targets: Iterable[dict[str, Any]]) -> None:
    """Judge whether the targets look for packs where they will be: over "mqtt", or over "http" from a server.

    A device that would look elsewhere is a problem of a pack over MQTT, and else a warning: its blocks may be there.
    """
    base = core.mqtt_base()
    if over == "mqtt" and not offer.packs and not offer.problems:
        offer.problems.append(GatehouseError("it has no pack that could go over MQTT", "component"))
    for uri in offer.uris if over == "mqtt" else ():
        if "://" in uri:
            told = f"its manifest names {uri}, so devices fetch there; sign a release with a relative URI"
            offer.problems.append(GatehouseError(told, "component"))
    for device in targets:
        found = device.get("base")
        if over == "mqtt" and found != base:
            told = f"{device['id']} fetches packs from {found or 'a server'}, not over MQTT"
            offer.problems.append(GatehouseError(f"{told}: leave out --over mqtt, or give it the base URL {base}"))
        elif over != "mqtt" and found == base:
            offer.warnings.append(f"{device['id']} takes packs over MQTT: if its blocks are not there, add --over mqtt")


def send(
    item: product.Product,
    host: str,
    port: int,
    messages: Iterable[tuple[str, bytes]],
    step: Callable[[], None] = lambda: None,
) -> None:
    """Publish retained messages (topic, payload) with QoS 1 in order, and wait until each is acknowledged.

    A few are under way at a time; `step()` is called after each acknowledgement. An empty payload removes what is
    retained. GatehouseError says why the broker cannot be reached or does not answer.
    """
    where = f"broker {host}:{port}"
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"gatehouse-{uuid.uuid4().hex[:8]}")
    client.tls_set_context(tls_context(item))
    client.connect_timeout = _CONNECT_S
    settled = threading.Event()
    failed: list[str] = []

    def connected(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            failed.append(f"it refuses us: {reason}")
        settled.set()

    def disconnected(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        # A broker that does not take our certificate says so only by closing.
        failed.append(f"it closed the connection ({reason}); is ca/host.pem by the authority that it trusts?")
        settled.set()

    client.on_connect, client.on_disconnect = connected, disconnected
    try:
        client.connect(host, port, _KEEPALIVE_S)
    except (OSError, ValueError) as error:
        raise GatehouseError(f"{where}: {network_words(error)}", "network") from None
    client.loop_start()
    try:
        if not settled.wait(_CONNECT_S):
            raise GatehouseError(f"{where}: no answer within {_CONNECT_S:.0f} s; is it an MQTT broker?", "timeout")
        under_way: collections.deque[tuple[str, mqtt.MQTTMessageInfo]] = collections.deque()
        for topic, payload in messages:
            if len(under_way) == _WINDOW:
                _acknowledged(*under_way.popleft(), failed, where)
                step()
            if failed:
                raise GatehouseError(f"{where}: {failed[0]}", "network")
            under_way.append((topic, client.publish(topic, payload, qos=1, retain=True)))
        for one in under_way:
            _acknowledged(*one, failed, where)
            step()
    finally:
        client.on_disconnect = None
        client.disconnect()
        client.loop_stop()


def tls_context(item: product.Product) -> ssl.SSLContext:
    """TLS as the host tools: trusts the product's authority only, shows the certificate of ca/host.pem."""
    for name in ("ca.pem", "host.pem", "host-key.pem"):
        if not (item.ca / name).is_file():
            raise GatehouseError(f"{item.ca / name} is missing; restore it from the backup", "key")
    try:
        context = ssl.create_default_context(cafile=item.ca / "ca.pem")
        context.load_cert_chain(item.ca / "host.pem", item.ca / "host-key.pem")
    except ssl.SSLError as error:
        raise GatehouseError(f"{item.ca}: certificate or key is damaged ({error.reason})", "key") from None
    return context


def network_words(error: Exception) -> str:
    """Why a broker cannot be reached, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold here: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({error.reason}); is this its TLS port?"
    if isinstance(error, socket.gaierror):
        return "no such host; give --broker HOST:PORT"
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT_S:.0f} s"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; start the broker, or give --broker HOST:PORT"
    return str(error)


def closed_words(reason: object) -> str:
    """Why a broker has closed a connection; where it said no word of it the client's own are "Unspecified error"."""
    return "without a word" if str(reason) == "Unspecified error" else str(reason)


def _check_signers(offer: Offer, item: product.Product) -> None:
    """By the newest trust store; a trust store itself by the one before it, and by its own."""
    components = ["/".join(map(_text, parts)) for parts in suit.parse(offer.data).components]
    if components == ["trust"]:
        trust_store.check_envelope(item, offer.data)
        return
    store = trust_store.current(item)
    signers = suit.verify(offer.data, item.public_keys().values())
    for name in components:
        if store.chosen(name, signers) is None:
            told = f"{name} is not signed by all that devices ask for: {trust_store.needs_words(store.needs(name))}"
            raise GatehouseError(told, "right")


def _text(part: bytes) -> str:
    return part.decode("ascii", "replace")


def _check_size(offer: Offer) -> None:
    if len(offer.data) > MAX_ENVELOPE:
        raise GatehouseError(f"{len(offer.data)} bytes; devices take {MAX_ENVELOPE}", "size")


def _check_manifest(item: product.Product, offer: Offer, path: Path, targets: list[dict[str, Any]]) -> None:
    envelope = suit.parse(offer.data)
    offer.digest, offer.sequence = envelope.digest, envelope.sequence
    parts = releases.parts(envelope)
    for part in parts:
        if releases.is_integrated(part):
            releases.check_payload(part, envelope)
    releases.check_packs(path, envelope)
    fetched = [part for part in parts if not releases.is_integrated(part)]
    offer.packs += [(part["digest"], releases.read_pack(path, envelope, part)) for part in fetched]
    offer.uris += [part["uri"] for part in fetched]
    if any(part["use_before"] is not None and part["use_before"] < time.time() for part in parts):
        raise GatehouseError("its use-before has passed; sign a new release", "expired")
    wrong = [(one["id"], reason) for one in targets if (reason := _refused_by(envelope.sequence, parts, one))]
    if targets and len(wrong) == len(targets):
        who = wrong[0][0] if len(wrong) == 1 else f"all {len(wrong)} devices"
        raise GatehouseError(f"for nobody: {who} would refuse it ({wrong[0][1]})", wrong[0][1])
    offer.warnings += [f"{name} will refuse it: {reason}" for name, reason in wrong]
    version = releases.version_of(envelope, "app")
    before = releases.rolls_back(item, envelope.sequence, version)
    if before:
        offer.notes.append(f"rolls devices back from {before} to {version}")


def _refused_by(sequence: int, parts: list[dict[str, Any]], device: dict[str, Any]) -> str | None:
    """The reason code with which a device refuses a manifest that is not for it, or older than what it left with."""
    for part in parts:
        for reason, name in (("vendor", "vendor_id"), ("class", "class_id"), ("device", "uuid")):
            wanted = part[f"{reason}_id"]
            if wanted is not None and wanted != uuid.UUID(device[name]).bytes:
                return reason
    # Of what it left with, only the application's sequence number is known here.
    app = any(part["name"] == "app" for part in parts)
    return "sequence" if app and sequence < device["release"]["sequence"] else None


def _acknowledged(topic: str, information: mqtt.MQTTMessageInfo, failed: list[str], where: str) -> None:
    deadline = time.monotonic() + _ACKNOWLEDGE_S
    while not information.is_published():
        if failed or time.monotonic() > deadline:
            told = failed[0] if failed else f"it did not acknowledge {topic} within {_ACKNOWLEDGE_S:.0f} s"
            raise GatehouseError(f"{where}: {told}", "network" if failed else "timeout")
        information.wait_for_publish(0.2)
