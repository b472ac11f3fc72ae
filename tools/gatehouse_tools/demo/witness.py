"""Sees a device only as a customer's server would: through its reports, each one verified before it counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import paho.mqtt.client as mqtt

from .. import topics
from ..errors import GatehouseError
from ..reports import Report, Verdict, Verifier

Found = TypeVar("Found")


class Witness:
    """Subscribed to one device's reports. `history` has the verified ones in order, `refusals` what was not by it."""

    def __init__(self, device: str, verifier: Verifier, ca: Path, cert: Path, key: Path, host: str, port: int) -> None:
        self.device = device
        self.history: list[Report] = []
        self.refusals: list[Verdict] = []
        self.on_report: Callable[[Report], None] = lambda report: None
        self._verifier = verifier
        self._changed = threading.Condition()
        self._stopped = False
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
                self.refusals.append(verdict)
            self._changed.notify_all()

    def stop(self) -> None:
        """End every wait, now and later, with GatehouseError("state")."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def mark(self) -> int:
        """Where the history stands now: what comes later is news."""
        return len(self.history)

    def wait(self, since: int, wanted: Callable[[dict[str, Any]], Any], timeout: float) -> Report | None:
        """The first verified report after `since` whose claims `wanted` accepts, or None after `timeout` seconds."""
        return self._first(lambda: next((one for one in self.history[since:] if wanted(one.claims)), None), timeout)

    def wait_refusal(self, since: int, timeout: float) -> Verdict | None:
        """The first message after the first `since` refused ones that was refused too, or None."""
        return self._first(lambda: next(iter(self.refusals[since:]), None), timeout)

    def _first(self, look: Callable[[], Found | None], timeout: float) -> Found | None:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = look()
                if found is not None:
                    return found
                if self._stopped:
                    raise GatehouseError("stopped: everything goes back to the start", "state")
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
