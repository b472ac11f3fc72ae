"""What the page shows of devices: their reports and journals as they come over the broker, each one verified first.

Nothing else of a device gets onto a card. What the broker's unsigned status topic says is marked as just that.
"""

from __future__ import annotations

import collections
import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import paho.mqtt.client as mqtt

from .. import fleet, journal, reports, topics
from ..errors import GatehouseError
from .screen import Screen
from .stage import Stage

_TICK_S = 1.0
_SEEN = ("report", "status", "journal")
_HEADS = 64  # of reports, against which a journal is held
_SWING, _PERIOD_S = 6.0, 60.0  # degrees and seconds: the temperature that the bench gives its boards


class _Log:
    """The journal of one device, as far as it came."""

    def __init__(self, keys: dict[int, bytes]) -> None:
        self.keys = keys
        self.records: dict[tuple[int, bytes], journal.Record] = {}
        self.heads: collections.deque[journal.Known] = collections.deque(maxlen=_HEADS)


class Cards:
    """Turns the messages of the broker into the parts of the page. `keys`: the journal keys of each device."""

    def __init__(
        self,
        devices: Mapping[str, reports.Device | bytes],
        keys: Mapping[str, dict[int, bytes]],
        screen: Screen,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._screen, self._clock = screen, clock
        self._fleet = fleet.Fleet(reports.Verifier(devices, clock), known=keys, clock=clock)
        self._logs = {device: _Log(dict(held)) for device, held in keys.items()}
        self._lock = threading.Lock()

    @property
    def topics(self) -> list[str]:
        """What to subscribe to."""
        return [topics.topic(name, id=device) for device in self._logs for name in _SEEN]

    def show(self) -> None:
        """Put an empty card for each device."""
        for device in self._logs:
            self._show(device)

    def challenges(self) -> list[tuple[str, bytes]]:
        """The nonces to publish now, (topic, payload)."""
        with self._lock:
            return self._fleet.challenges()

    def take(self, topic: str, payload: bytes, retained: bool) -> None:
        """One message of the broker."""
        where = topics.split(topic)
        device = where.get("id", "") if where else ""
        if where is None or device not in self._logs:
            return
        with self._lock:
            if where["name"] == "journal":
                with contextlib.suppress(GatehouseError):  # no journal, whoever sent it
                    self._journal(device, journal.parse_message(payload))
                return
            event = self._fleet.take(topic, payload, retained)
            if event and event.get("verdict") == "verified":
                self._verified(device, event["claims"])
            if event:
                self._show(device)

    def _verified(self, device: str, claims: dict[str, Any]) -> None:
        counter = claims["counter"]
        sensor = claims.get("sensor", {})
        if sensor.get("value") is not None:
            number = counter[0] * 100000 + counter[1]
            self._screen.put(f"sensor:{device}:{number}", [round(self._clock(), 1), sensor["value"]])
        if "journal" in claims and claims["journal"]["last"]:
            told = claims["journal"]
            head = journal.Known(told["last"], bytes.fromhex(told["tag"]), "its report")
            self._logs[device].heads.append(head)

    def _journal(self, device: str, records: list[journal.Record]) -> None:
        log = self._logs[device]
        log.records |= {(one.number, one.tag): one for one in records}
        last = max(one.number for one in log.records.values())
        found = journal.verify(log.records.values(), log.keys, [one for one in log.heads if one.number <= last])
        for entry in found.entries:
            words = [part.hex() if isinstance(part, bytes) else str(part) for part in entry.details]
            told = {"number": entry.number, "time": entry.time, "boot": entry.boot, "event": entry.event}
            self._screen.put(f"journal:{device}:{entry.number}", told | {"words": words})
        faults = [f"{fault.detail} [{fault.reason}]" for fault in found.faults]
        self._screen.put(f"chain:{device}", {"entries": len(found.entries), "faults": faults})

    def _show(self, device: str) -> None:
        self._screen.put(f"device:{device}", card(self._fleet.entries[device]))


class Feed:
    """The cards of a stage, from its broker. Use it in a with block, before the devices begin."""

    def __init__(self, stage: Stage, screen: Screen) -> None:
        self._stage = stage
        keys = {device.id: journal.keys_of(stage.product, device.id) for device in stage.devices}
        self._cards = Cards(reports.known_devices(stage.product.devices), keys, screen)
        self._over = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        ca, cert, key = stage.credentials
        self._client.tls_set(str(ca), str(cert), str(key))
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        self._ticker = threading.Thread(target=self._tick, name="feed", daemon=True)

    def __enter__(self) -> Feed:
        self._cards.show()
        host, port = self._stage.house.host, self._stage.house.broker.port
        try:
            self._client.connect(host, port)
        except OSError as error:
            raise GatehouseError(f"the broker at {host}:{port} does not answer: {error}", "network") from None
        self._client.loop_start()
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ticker.join()
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe([(name, 1) for name in self._cards.topics])

    def _message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._cards.take(message.topic, bytes(message.payload), message.retain)

    def _tick(self) -> None:
        start = time.monotonic()
        while not self._over.wait(_TICK_S):
            for topic, nonce in self._cards.challenges():
                self._client.publish(topic, nonce, 1)
            for number, device in enumerate(self._stage.devices):
                turn = (time.monotonic() - start) / _PERIOD_S + number / len(self._stage.devices)
                device.board.warm(round(21.5 + _SWING * math.sin(2 * math.pi * turn), 2))


def card(entry: fleet.Entry) -> dict[str, Any]:
    """What a device's card says. Its state is there only if its report was verified."""
    shown: dict[str, Any] = {
        "id": entry.device,
        "verified": entry.verified,
        "fresh": entry.fresh,
        "proof": fleet.proof(entry),
        "refusal": list(entry.refusal) if entry.refusal else None,
        "link": entry.link,
        "seen": entry.seen,
    }
    if entry.report is None:
        return shown
    claims = entry.report.claims
    update, access = claims.get("update", {}), claims.get("access", {})
    return shown | {
        "counter": list(entry.report.counter),
        "model": claims["model"],
        "name": claims.get("name"),
        "version": claims.get("version"),
        "slot": claims["slot"],
        "mode": claims["mode"],
        "degraded": claims["degraded"],
        "comparison": claims.get("comparison"),
        "boots": claims["boots"],
        "reset": claims["reset"],
        "uptime": claims["uptime"],
        "update": {"state": update.get("state", "idle"), "reason": update.get("reason"), "files": update.get("files")},
        "refused": claims.get("refused"),
        "floor": claims["floors"].get("app", {}).get("install"),
        "sensor": claims.get("sensor"),
        "lockouts": access.get("lockouts", {}),
        "manifest": claims["manifest"],
        "journal": claims.get("journal"),
    }
