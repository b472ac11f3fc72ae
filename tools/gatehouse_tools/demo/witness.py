"""Sees a device only as a customer's server would: through its reports, each one verified before it counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

from .. import topics
from ..errors import GatehouseError
from ..reports import Report, Verifier


class Witness:
    """Subscribed to one device's reports. `history` has the verified ones in order, `rejected` why others were not."""

    def __init__(self, device: str, verifier: Verifier, ca: Path, cert: Path, key: Path, host: str, port: int) -> None:
        self.device = device
        self.history: list[Report] = []
        self.rejected: list[str] = []
        self.on_report: Callable[[Report], None] = lambda report: None
        self._verifier = verifier
        self._changed = threading.Condition()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)  # a client id of its own: two must not share one
        self._client.tls_set(str(ca), str(cert), str(key))
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        try:
            self._client.connect(host, port)
        except OSError as error:
            raise GatehouseError(f"the broker at {host}:{port} does not answer: {error}", "network") from None
        self._client.loop_start()

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe(topics.topic("report", id=self.device), qos=1)

    def _message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        verdict = self._verifier.take(self.device, bytes(message.payload), message.retain)
        if verdict is None:
            return
        with self._changed:
            if verdict.verdict == "verified" and verdict.report:
                self.history.append(verdict.report)
                self.on_report(verdict.report)
            elif verdict.verdict == "refused":
                self.rejected.append(verdict.detail)
            self._changed.notify_all()

    def mark(self) -> int:
        """Where the history stands now: what comes later is news."""
        return len(self.history)

    def wait(self, since: int, wanted: Callable[[dict[str, Any]], Any], timeout: float) -> Report | None:
        """The first verified report after `since` whose claims `wanted` accepts, or None after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for report in self.history[since:]:
                    if wanted(report.claims):
                        return report
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
