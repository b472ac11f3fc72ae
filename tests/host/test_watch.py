"""`gatehouse watch`: what it shows as state, what it does not, and what it tells programs."""

import io
import json
import signal
import subprocess
import sys
import threading
import time

import pytest
from pki import Authority
from rich.console import Console
from test_broker import Client

from cases.report import claims, report_key, sealed
from gatehouse_tools import ca, fleet, product, reports, ui
from gatehouse_tools.broker import Broker
from gatehouse_tools.commands import watch as commands_watch

DEVICES = {"gh-1": reports.Device(report_key(0), b"D" * 16), "gh-2": reports.Device(b"2" * 32)}
WAIT = 60


def watched(**options):
    return fleet.Fleet(reports.Verifier(DEVICES), DEVICES, clock=lambda: 1000.0, **options)


def cells(found, device="gh-1", now=1000.0):
    return dict(zip(fleet.COLUMNS, fleet.row(found.entries[device], now), strict=True))


def test_verified_report_is_the_state():
    found = watched()
    update = {1: "downloading", 3: b"U" * 32, 4: 2000, 6: [3, 40]}
    event = found.take("gatehouse/gh-1/report", sealed(claims(p8=update)), False)
    assert (event["event"], event["device"], event["verdict"]) == ("report", "gh-1", "verified")
    assert event["claims"]["version"] == "1.0.0"
    assert event["counter"] == [7, 1]
    shown = cells(found, now=1030.0)
    assert shown["version"] == "example 1.0.0"
    assert shown["slot"] == "a active"
    assert shown["health"] == "ok"
    assert shown["update"] == "downloading 3/40"
    assert shown["seen"] == "30 s ago"
    assert shown["proof"] == "verified"


def test_devices_that_never_reported_are_listed():
    found = watched()
    assert cells(found, "gh-2") == {
        "device": "gh-2", "model": "", "version": "", "slot": "", "health": "", "update": "", "link": "",
        "seen": "never", "proof": "no report yet",
    }  # fmt: skip
    assert [entry.device for entry in found.unverified()] == ["gh-1", "gh-2"]


def test_degraded_device_says_why():
    found = watched()
    refusal = {1: "sequence", 3: b"", 4: 0, 6: 1}
    update = {1: "refused", 2: "sequence"}
    found.take("gatehouse/gh-1/report", sealed(claims(p17=["sensor", "clock"], p9=refusal, p8=update)), False)
    assert cells(found)["health"] == "degraded: sensor, clock"
    assert cells(found)["update"] == "refused (sequence)"


def test_recovery_is_shown_without_software():
    found = watched()
    changes = {"c270": None, "c271": None, "c273": None, "p2": "recovery", "p8": None, "p17": ["recovery"]}
    message = claims(**changes)
    for label in (1, 3, 4):
        message[-70001][label] = None
    found.take("gatehouse/gh-1/report", sealed(message), False)
    assert cells(found)["version"] == "none"
    assert cells(found)["slot"] == "recovery"
    assert cells(found)["update"] == "none"


def test_retained_report_is_no_state_until_a_newer_one_comes():
    found = watched()
    event = found.take("gatehouse/gh-1/report", sealed(claims(5)), True)
    assert event["verdict"] == "unproven"
    assert "claims" not in event
    assert event["retained_claims"]["version"] == "1.0.0"
    shown = cells(found)
    assert shown["version"] == "(example 1.0.0)"
    assert shown["health"] == "(ok)"
    assert shown["seen"] == "never"
    assert shown["proof"].startswith("unproven")
    assert found.entries["gh-1"] in found.unverified()
    assert found.take("gatehouse/gh-1/report", sealed(claims(5)), False) is None
    assert found.entries["gh-1"] in found.unverified()
    assert found.take("gatehouse/gh-1/report", sealed(claims(6)), False)["verdict"] == "verified"
    assert cells(found)["version"] == "example 1.0.0"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (sealed(claims(), key=b"?" * 32), "signature"),
        (sealed(claims(), kid=b"gh-2", key=b"2" * 32), "device"),
        (b"\xff", "format"),
    ],
)
def test_forged_report_shows_no_state(data, reason):
    found = watched()
    event = found.take("gatehouse/gh-1/report", data, False)
    assert (event["verdict"], event["reason"]) == ("refused", reason)
    assert "claims" not in event and "retained_claims" not in event
    shown = cells(found)
    assert not shown["version"] and not shown["health"]
    assert shown["proof"].startswith("refused: ") and shown["proof"].endswith(f"[{reason}]")
    assert found.entries["gh-1"] in found.unverified()


@pytest.mark.parametrize("name", ["table", "talk"])
def test_nothing_that_is_told_of_a_message_steers_the_terminal(name, capsys, monkeypatch):
    found = watched()
    found.entries["gh-1"].refusal = ("format", "evil \x1b[2J\x9b2Jgood")
    text = fleet.proof(found.entries["gh-1"])
    if name == "table":
        out = io.StringIO()
        Console(file=out, width=400).print(commands_watch.table(found))
        shown = out.getvalue()
    else:
        ui.say(text)
        shown = capsys.readouterr().err
    assert "\x1b" not in shown and "\x9b" not in shown
    assert "evil" in shown and "good" in shown


def test_a_time_that_no_calendar_has_ends_no_command():
    assert ui.when(0) == "1970-01-01 00:00:00 UTC"
    for seconds in (1 << 38, 1 << 60, 1 << 80):
        assert str(seconds) in ui.when(seconds)


def test_report_of_a_newer_time_that_is_unproven_is_told():
    clock = [1_800_000_000.0]
    found = fleet.Fleet(reports.Verifier(DEVICES, lambda: clock[0]), DEVICES, clock=lambda: clock[0])
    found.take("gatehouse/gh-1/report", sealed(claims(5)), False)
    event = found.take("gatehouse/gh-1/report", sealed(claims(6, c6=None, p2="trial")), False)
    assert (event["verdict"], event["reason"]) == ("unproven", "undated") and "claims" not in event
    shown = cells(found, now=clock[0])
    assert shown["slot"] == "a active" and "newer one is unproven: the device has no clock" in shown["proof"]
    found.take("gatehouse/gh-1/report", sealed(claims(7, p2="trial")), False)
    assert cells(found, now=clock[0])["proof"] == "verified"


def test_flood_of_invented_devices_fills_neither_memory_nor_table():
    found = watched()
    for number in range(2 * fleet.STRANGERS):
        found.take(f"gatehouse/new-{number}/status", b"online", True)
        found.take(f"gatehouse/new-{number}/report", b"x", False)
    assert len(found.entries) == len(DEVICES) + fleet.STRANGERS
    assert found.take("gatehouse/gh-1/report", sealed(claims()), False)["verdict"] == "verified"
    assert found.take("gatehouse/new-0/report", b"y", False)["verdict"] == "refused"


def test_flood_of_messages_is_bounded_and_told():
    inbox = commands_watch.Inbox(None)
    for _ in range(commands_watch.WAITING + 5):
        inbox.arrived("gatehouse/gh-1/report", b"x" * (1 << 20), False)
    assert inbox.qsize() == commands_watch.WAITING
    assert len(inbox.get()[1]) == reports.MAX_REPORT + 1, "enough to be refused by its size"
    assert inbox.qsize() == commands_watch.WAITING - 1
    inbox.get()
    inbox.arrived("gatehouse/gh-1/report", b"last", False)
    found = [inbox.get() for _ in range(inbox.qsize())]
    assert "5 messages" in found[-2] and found[-1] == ("gatehouse/gh-1/report", b"last", False)
    inbox.arrived("gatehouse/gh-1/report", b"more", False)
    assert inbox.qsize() == 1, "told once"


# Nonces.


def test_each_device_is_asked_again_until_it_answers():
    clock = [1000.0]
    verifier = reports.Verifier(DEVICES, lambda: clock[0])
    found = fleet.Fleet(verifier, DEVICES, clock=lambda: clock[0])
    asked = []  # (time, nonce) for gh-1
    while clock[0] < 1200:
        asked += [(clock[0], nonce) for topic, nonce in found.challenges() if topic == "gatehouse/gh-1/nonce"]
        clock[0] += 1
    assert [when for when, _ in asked] == [1000, 1005, 1015, 1035, 1075, 1135, 1195]
    assert len({nonce for _, nonce in asked}) == 7 and all(len(nonce) == 16 for _, nonce in asked)
    assert "7 nonces not answered" in cells(found)["proof"]
    event = found.take("gatehouse/gh-1/report", sealed(claims(5, c10=asked[-2][1])), True)
    assert (event["verdict"], event["fresh"]) == ("verified", True)
    assert cells(found)["proof"] == "verified, fresh"
    assert [topic for topic, _ in found.challenges()] == []
    clock[0] += 61
    assert [topic for topic, _ in found.challenges()] == ["gatehouse/gh-2/nonce"]


def test_device_that_comes_online_is_asked_soon():
    clock = [1000.0]
    found = fleet.Fleet(reports.Verifier(DEVICES), ["gh-1"], clock=lambda: clock[0])
    for _ in range(300):
        found.challenges()
        clock[0] += 1
    found.take("gatehouse/gh-1/status", b"online", False)
    assert not found.challenges()
    clock[0] += 1
    assert len(found.challenges()) == 1


def test_nobody_is_asked_whose_answer_could_not_be_verified():
    found = fleet.Fleet(reports.Verifier(DEVICES), clock=lambda: 1000.0)
    found.take("gatehouse/gh-9/report", sealed(claims(), kid=b"gh-9"), False)
    assert list(found.entries) == ["gh-9"] and found.challenges() == []


def test_forged_report_leaves_the_verified_state_standing():
    found = watched()
    found.take("gatehouse/gh-1/report", sealed(claims(5)), False)
    found.take("gatehouse/gh-1/report", sealed(claims(6, p2="trial"), key=b"?" * 32), False)
    assert cells(found)["slot"] == "a active"
    assert "last message refused" in cells(found)["proof"]
    found.take("gatehouse/gh-1/report", sealed(claims(4, p2="trial")), False)
    assert cells(found)["slot"] == "a active"
    assert cells(found)["proof"].endswith("[counter]")
    found.take("gatehouse/gh-1/report", sealed(claims(6, p2="trial")), False)
    assert (cells(found)["slot"], cells(found)["proof"]) == ("a trial", "verified")


def test_device_that_nobody_provisioned():
    found = watched()
    event = found.take("gatehouse/gh-9/report", sealed(claims(), kid=b"gh-9"), False)
    assert event["reason"] == "key"
    assert cells(found, "gh-9")["proof"].startswith("refused: no report key of device gh-9")


def test_status_of_the_broker_is_told_apart():
    found = watched()
    event = found.take("gatehouse/gh-1/status", b"online", True)
    assert event == {"event": "status", "device": "gh-1", "status": "online", "signed": False, "time": 1000.0}
    assert found.take("gatehouse/gh-1/status", b"online", False) is None
    assert found.take("gatehouse/gh-1/status", b"\x1b[31mhacked", False) is None
    assert cells(found)["link"] == "online"
    assert found.entries["gh-1"] in found.unverified()


@pytest.mark.parametrize("topic", ["gatehouse/group/all/offer", "gatehouse/gh-1/sensor", "gatehouse/gh-1", "other"])
def test_other_topics_are_no_news(topic):
    assert watched().take(topic, sealed(claims()), False) is None


def test_report_that_was_taken_away_is_no_news():
    assert watched().take("gatehouse/gh-1/report", b"", False) is None


def test_only_the_devices_that_were_asked_for():
    found = watched(only=["gh-2"])
    assert found.take("gatehouse/gh-1/report", sealed(claims()), False) is None
    assert list(found.entries) == ["gh-2"]


# The command, against a broker.


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A product with one device, and its broker."""
    root = tmp_path_factory.mktemp("product") / "shop"
    product.create(root, "shop", "gatehouse.example", ["unix"])
    authority = Authority(root)
    folder = root / "devices" / "gh-1"
    folder.mkdir(parents=True)
    (folder / "device.json").write_text(json.dumps({"id": "gh-1", "uuid": "44" * 16}))
    (folder / "secrets.json").write_text(json.dumps({"report_key": report_key(0).hex()}))
    with Broker(tmp_path_factory.mktemp("broker"), authority.ca, *authority.broker) as broker:
        yield root, authority, broker


def watch(root, broker, *options):
    where = ["--product", str(root), "--broker", f"localhost:{broker.port}"]
    return subprocess.Popen(
        [sys.executable, "-m", "gatehouse_tools", "watch", *where, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        # Who runs the tests in the background of a shell has Ctrl-C ignored, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def event(process, wanted):
    """The next event of a kind, from the JSON on stdout."""
    for text in process.stdout:
        found = json.loads(text)
        if found.get("event") == wanted:
            return found
    raise AssertionError(process.stderr.read())


def test_json_events_as_they_come(shop):
    root, authority, broker = shop
    with Client(broker, authority, "gh-1") as device:
        device.publish("gatehouse/gh-1/report", sealed(claims(1)), retain=True)
        with watch(root, broker, "--json", "--once", "--timeout", str(WAIT)) as process:
            assert event(process, "report")["verdict"] == "unproven"
            device.publish("gatehouse/gh-1/report", sealed(claims(9), key=b"?" * 32))
            assert event(process, "report")["reason"] == "signature"
            device.publish("gatehouse/gh-1/report", sealed(claims(2, c6=int(time.time()))), retain=True)
            found = event(process, "report")
            assert (found["verdict"], found["claims"]["version"]) == ("verified", "1.0.0")
            assert process.wait(WAIT) == 0


def test_once_says_what_could_not_be_verified(shop):
    root, authority, broker = shop
    with Client(broker, authority, "gh-1") as device:
        device.publish("gatehouse/gh-1/report", sealed(claims(3)), retain=True)
        with watch(root, broker, "--once", "--timeout", "1.5") as process:
            out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert "(example 1.0.0)" in out
    assert "gh-1: unproven" in err and "Traceback" not in err


def test_lines_for_a_pipe(shop):
    root, authority, broker = shop
    with Client(broker, authority, "gh-1") as device, watch(root, broker) as process:
        assert "connected" in process.stderr.readline()
        device.publish("gatehouse/gh-1/report", sealed(claims(7, c6=int(time.time()))))
        timer = threading.Timer(WAIT, process.kill)  # a line that never comes is a failure, not a wait for ever
        timer.start()
        for text in process.stdout:
            if "verified" in text:
                timer.cancel()
                assert text == "gh-1: example 1.0.0, a active, ok, idle; verified\n"
                break
        process.send_signal(2)
        assert process.wait(WAIT) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--broker", "localhost:1"], 1, "nothing listens there"),
        (["--broker", "no such"], 2, "not a host"),
        (["--device", "gh-7"], 1, "no device 'gh-7'"),
        (["--product", "nowhere"], 2, "not a product folder"),
    ],
)
def test_bad_input_is_one_clear_line(shop, options, code, words):
    root, _, broker = shop
    with watch(root, broker, *options) as process:
        _, err = process.communicate(timeout=WAIT)
    assert process.returncode == code
    assert words in err and len(err.strip().splitlines()) == 1


def test_passive_watch_sends_nothing(shop):
    root, authority, broker = shop
    with Client(broker, authority, "gh-1") as device:
        device.subscribe("gatehouse/gh-1/nonce")
        with watch(root, broker, "--passive", "--timeout", "1.5") as process:
            assert process.wait(WAIT) == 0
        with Client(broker, authority, "host") as host:
            host.publish("gatehouse/gh-1/nonce", b"the first")
        assert device.get() == ("gatehouse/gh-1/nonce", b"the first")


def test_certificate_of_another_authority(shop, tmp_path):
    broker = shop[2]
    product.create(tmp_path / "other", "other", "gatehouse.example", ["unix"])
    ca.create(tmp_path / "other" / "ca", "other")
    with watch(tmp_path / "other", broker) as process:
        _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert "certificate does not hold here" in err
