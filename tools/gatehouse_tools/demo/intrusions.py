"""What is tried at the other doors: the web interface, the broker, the power. No file of a release plays a part."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import ssl
import time
from typing import Any

from .. import remote, topics
from ..errors import GatehouseError
from . import scenes
from .act import ATTACKER, BENCH, DEVICE, VENDOR, VERIFIER, Act, Bytes, Verdict

GUESSES = ("123456", "password", "admin", "gatehouse", "letmein", "owner", "qwertz", "00000000")
_LOGIN_S = 15.0  # a password check is slow on purpose, and a busy device answers 503
_TRIES = 12  # of one guess: the device closes the door while it needs the memory, "ask again" (docs/http.md)
_FREE = 3  # wrong passwords that cost no delay: the policy that devices are provisioned with
_HEAR_S = 10.0


def brute_force(act: Act) -> Verdict:
    """Passwords are guessed on the device's web interface, one after the other."""
    tried = f"{len(GUESSES)} guesses of the owner's password"
    since = act.device.witness.mark()
    answers = []
    for guess in GUESSES:
        status, answer = _login(act, guess)
        answers.append(status)
        told = ", ".join(str(answer[name]) for name in ("reason", "detail") if answer.get(name))
        act.step(ATTACKER, f"owner / {guess}: HTTP {status}, {told}")
    ignored = answers.count(429)
    act.step(
        BENCH,
        f"{answers.count(401)} guesses were looked at, {ignored} were not even evaluated: the delay doubles each time",
        Bytes(f"body of the last answer, {json.dumps(answer)}", json.dumps(answer).encode()),
    )

    def locked(claims: dict[str, Any]) -> bool:
        access = claims.get("access", {})
        levels = [one["level"] for key, one in access.get("lockouts", {}).items() if key.startswith("https")]
        return bool(max(levels, default=0) > _FREE and access["sessions"] == 0)

    found = act.device.witness.wait(since, locked, act.within(scenes.SOON))
    claims = act.device.claims
    lockouts = claims.get("access", {}).get("lockouts", {})
    words = (
        ", ".join(f"{key} level {one['level']}, {one['seconds']} s" for key, one in lockouts.items()) or "no lockout"
    )
    told = f"locked({words}), {claims.get('access', {}).get('sessions')} sessions, {scenes.runs(claims)}"
    good = bool(found) and ignored > 0 and 200 not in answers
    return Verdict(tried, "locked, 0 sessions", told, good, scenes.newest(act))


def _login(act: Act, guess: str) -> tuple[int, dict[str, Any]]:
    """(HTTP status, answer) of one guess. GatehouseError when the door does not answer."""
    (address, port), name = act.device.board.https(act.device.claims), act.device.id
    context = ssl.create_default_context(cafile=str(act.stage.product.ca / "ca.pem"))
    body = json.dumps({"user": "owner", "password": guess})
    headers = {"Origin": f"https://{name}:{port}", "Content-Type": "application/json"}
    why = ""
    for _ in range(_TRIES):
        try:
            raw = socket.create_connection((address, port), _LOGIN_S)
            connection = http.client.HTTPConnection(name, port)
            with contextlib.closing(connection):
                connection.sock = context.wrap_socket(raw, server_hostname=name)
                connection.request("POST", "/api/login", body, headers)
                answer = connection.getresponse()
                found = json.loads(answer.read())
            if answer.status != 503:  # no memory for it now
                return answer.status, found
            why = "HTTP 503"
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
        time.sleep(1)
    raise GatehouseError(f"the device's web interface does not answer ({why})", "network")


def replayed_command(act: Act) -> Verdict:
    """A real command is recorded on the network and sent again: the same bytes, with the same good MAC."""
    device, stage = act.device, act.stage
    boots = device.claims["boots"]
    since = device.witness.mark()
    with _broker(act, "command", "reply") as (client, inbox):
        sent = stage.gatehouse("send", device.id, "reboot", "--broker", stage.house.broker_address)
        command = _heard(inbox, "command", device.id)
        number = sent["counter"]
        at = command.find(number.to_bytes(4, "big"))
        shown = Bytes("the command, as it went over the network", command, (at, at + 4) if at >= 0 else (0, 0))
        act.step(VENDOR, f"the operator commands a restart, counter {number}", shown)
        if not device.witness.wait(since, lambda claims: claims["boots"] == boots + 1, act.within(scenes.UPDATE)):
            raise GatehouseError("the device did not restart when it was told to", "timeout")
        act.step(DEVICE, f"it restarts once: boot {boots + 1}")
        key = remote.derive(stage.product, device.id, "operator", "host")
        act.step(ATTACKER, "the very same bytes are published again", Bytes("their MAC, which is good", command[-32:]))
        since = device.witness.mark()
        client.publish(topics.topic("command", id=device.id), command, 1)
        end, found = time.monotonic() + act.within(scenes.SOON), None
        while time.monotonic() < end and not (found and found.reason):
            with contextlib.suppress(queue.Empty):
                name, data = inbox.get(timeout=0.5)
                if name == topics.topic("reply", id=device.id):
                    found = remote.answer(key, command, data)
    if found and found.reason:
        act.step(DEVICE, f"refused, reason {found.reason}: it has taken counter {found.seen} already")
    later = device.witness.wait(since, lambda claims: claims["uptime"] > 0, act.within(scenes.SOON))
    claims = device.claims
    reason = found.reason if found else "no answer"
    told = f"refused({reason}), boot {claims['boots']}, {scenes.runs(claims)}"
    good = bool(later) and reason == "counter" and claims["boots"] == boots + 1
    expected = f"refused(counter), boot {boots + 1}"
    return Verdict("command sent a second time", expected, told, good, scenes.newest(act))


def forged_report(act: Act) -> Verdict:
    """Somebody on the broker publishes a report in the device's name, to make it look as if all were well."""
    device = act.device
    claims = device.claims
    version = claims.get("version", "")
    with _broker(act, "report") as (client, inbox):
        honest = _heard(inbox, "report", device.id)
        at = honest.find(version.encode())
        if at < 0:
            raise GatehouseError("the report does not tell its version in clear", "format")
        forged = honest[:at] + b"9" + honest[at + 1 :]
        window = slice(max(0, at - 8), at + 16)
        mark = (at - window.start, at - window.start + 1)
        act.step(
            ATTACKER,
            f"the newest report is changed to say version 9{version[1:]}, and published in the device's name",
            Bytes("as the device sent it", honest[window], mark),
            Bytes("as it is forged", forged[window], mark),
            Bytes("the MAC, which cannot be made without the key", forged[-32:]),
        )
        since, before = device.witness.mark(), len(device.witness.refusals)
        client.publish(topics.topic("report", id=device.id), forged, 1).wait_for_publish(_HEAR_S)
        refusal = device.witness.wait_refusal(before, act.within(scenes.SOON))
    if refusal:
        act.step(VERIFIER, f"refused, reason {refusal.reason}: {refusal.detail}")
    report = device.witness.wait(since, lambda claims: True, act.within(scenes.SOON))
    claims = device.claims
    reason = refusal.reason if refusal else "not refused"
    told = f"refused({reason}), {scenes.runs(claims)}"
    good = bool(report) and reason == "signature" and claims.get("version") == version
    expected = f"refused(signature), runs {version}"
    return Verdict("report forged in the device's name", expected, told, good, scenes.newest(act))


def power_cut_now(act: Act) -> Verdict:
    """The power goes, whatever the device is doing, and comes back."""
    device = act.device
    claims = device.claims
    boots, version = claims["boots"], claims.get("version")
    busy = scenes.update_of(claims).get("state", "idle")
    since = device.witness.mark()
    act.step(BENCH, f"the power is about to go, in boot {boots}; its last report said {busy}")
    device.board.cut_now(act)
    act.step(BENCH, "the power is back: boot.py chooses a slot, verifies every byte of it, and starts it")

    def back(claims: dict[str, Any]) -> bool:
        return bool(claims["boots"] > boots and claims["reset"] == "power-on" and claims["comparison"] == "success")

    verdict = scenes.verdict_of(act, "power cut now", "runs a whole release", since, back, scenes.UPDATE)
    if verdict.good:
        last = device.claims
        compared = f"all files compared with the signed index: {last['comparison']}"
        act.step(DEVICE, f"boot {last['boots']}, cause {last['reset']}, {compared}")
        if last.get("version") != version:
            act.step(DEVICE, f"the update went on meanwhile: it runs {last.get('version')}, not {version}")
    return verdict


@contextlib.contextmanager
def _broker(act: Act, *names: str) -> Any:
    host, port = act.stage.house.host, act.stage.house.broker.port
    with remote.session(act.stage.product, host, port, act.device.id, names) as found:
        yield found


def _heard(inbox: queue.Queue[tuple[str, bytes]], name: str, device: str) -> bytes:
    """The next message of a topic."""
    end = time.monotonic() + _HEAR_S
    while time.monotonic() < end:
        with contextlib.suppress(queue.Empty):
            topic, data = inbox.get(timeout=0.2)
            if topic == topics.topic(name, id=device):
                return data
    raise GatehouseError(f"no {name} came over the broker within {_HEAR_S:.0f} s", "timeout")
