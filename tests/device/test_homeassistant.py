"""Home Assistant's door: what it is told when, what it may ask for, and that a closed one leaves nothing behind."""

import asyncio
import json
import sys
from binascii import unhexlify

import fake_boot
import test_app
from harness import cases

OPEN = ("uart", "home-assistant")
CONFIG, BIRTH = "homeassistant/device/gh-1/config", b"homeassistant/status"
UPDATE, STATE, INSTALL = "gatehouse/gh-1/ha/update", "gatehouse/gh-1/ha/state", b"gatehouse/gh-1/ha/install"
SENSOR = "gatehouse/gh-1/sensor"


def made(interfaces=OPEN):
    """The application of a device with this policy."""
    boot = test_app.boot_of("active")
    boot.config.interfaces = interfaces
    boot.notes = []
    boot.note = lambda *note: boot.notes.append(note)
    return test_app.application(boot)


def run(app):
    """Its tasks, once it runs; Home Assistant's times are short."""
    from access import doors

    tasks = [test_app.running(app)]
    if "home-assistant" in app.boot.config.interfaces:
        import homeassistant

        homeassistant.Home.LOT_MS, homeassistant.Home.SETTLE_MS, homeassistant.Home.GAP_MS = 1, 1, 1
        tasks.append(asyncio.create_task(doors._serve("home-assistant", app.boot, app, app.access, lambda: None)))
    return tasks


def sent(app, topic):
    return [entry[1] for entry in app.link.sent if entry[0] == topic]


def last(app, topic):
    return json.loads(sent(app, topic)[-1])


async def opened(app):
    tasks = run(app)
    await test_app.until(lambda: sent(app, STATE), "state")
    return tasks


def end(tasks):
    for task in tasks:
        task.cancel()


# What it is told.


async def test_the_first_report_is_followed_by_announcement_update_and_state_all_retained():
    app = made()
    tasks = await opened(app)
    order = [entry[0] for entry in app.link.sent if "/ha/" in entry[0] or entry[0] in (CONFIG, "gatehouse/gh-1/report")]
    assert order[:4] == ["gatehouse/gh-1/report", CONFIG, UPDATE, STATE]
    assert all(entry[2] for entry in app.link.sent if entry[0] in (CONFIG, UPDATE, STATE))
    assert app.link.followed == {"homeassistant/status", "gatehouse/gh-1/ha/install", test_app.JOURNAL}
    end(tasks)


async def test_topics_are_followed_before_the_first_connect():
    app = made()
    assert app.link.followed == {"homeassistant/status", "gatehouse/gh-1/ha/install", test_app.JOURNAL}


async def test_announcement_is_what_the_device_is():
    app = made()
    tasks = await opened(app)
    found = last(app, CONFIG)
    assert found["dev"] == {"ids": "gh-1", "name": "example gh-1", "mdl": "UNIX", "hw": "1.0", "sw": "1.0.0"}
    assert found["o"]["name"] == "gatehouse" and found["avty_t"] == "gatehouse/gh-1/status"
    assert found["stat_t"] == STATE and sorted(found["cmps"]) == ["health", "sensor", "signal", "update", "uptime"]
    assert len({part["uniq_id"] for part in found["cmps"].values()}) == 5
    sensor, update = found["cmps"]["sensor"], found["cmps"]["update"]
    assert (sensor["unit_of_meas"], sensor["dev_cla"], sensor["stat_t"]) == ("\u00b0C", "temperature", SENSOR)
    assert (update["stat_t"], update["cmd_t"], update["pl_inst"]) == (UPDATE, "gatehouse/gh-1/ha/install", "install")
    assert len(sent(app, CONFIG)[-1]) < 2048
    end(tasks)


async def test_texts_of_the_product_cannot_break_the_announcement():
    app = made()
    app.boot.identity.model, app.boot.release.name = 'a "board"\n', "back\\slash"
    app.reporter.sensor.unit, app.reporter.sensor.kind = None, None
    tasks = await opened(app)
    found = last(app, CONFIG)
    assert found["dev"]["mdl"] == 'a "board"\n' and found["dev"]["name"] == "back\\slash gh-1"
    assert found["cmps"]["sensor"]["unit_of_meas"] is None and found["cmps"]["sensor"]["dev_cla"] is None
    end(tasks)


async def test_announced_once_in_each_session_and_the_update_when_it_changes():
    app = made()
    tasks = await opened(app)
    for _ in range(3):
        before = len(sent(app, STATE))
        app.changed.set()
        await test_app.until(lambda least=before: len(sent(app, STATE)) > least, "one more report")
    assert (len(sent(app, CONFIG)), len(sent(app, UPDATE))) == (1, 1)
    app.installer.state["state"], app.installer.state["sequence"] = "available", 2000
    app.changed.set()
    await test_app.until(lambda: len(sent(app, UPDATE)) == 2, "update")
    app.link.connects += 1
    app.changed.set()
    await test_app.until(lambda: len(sent(app, CONFIG)) == 2 and len(sent(app, UPDATE)) == 3, "new session")
    end(tasks)


async def test_state_follows_its_causes():
    app = made()
    tasks = await opened(app)
    found = last(app, STATE)
    assert found["problem"] == "OFF" and found["reasons"] == [] and found["phase"] == "idle"
    assert found["rssi"] is None and isinstance(found["uptime"], int)
    test_app.Network.WLAN.status = lambda self, what: -61
    test_app.Esp32.value = OSError(5)
    app.reporter.read()
    app.installer.state["state"], app.installer.state["reason"] = "refused", "signature"
    app.changed.set()
    await test_app.until(lambda: last(app, STATE)["problem"] == "ON", "problem")
    found = last(app, STATE)
    assert (found["reasons"], found["rssi"]) == (["sensor"], -61)
    assert (found["phase"], found["reason"]) == ("refused", "signature")
    end(tasks)


async def test_a_birth_of_home_assistant_is_answered_with_all_of_it():
    app = made()
    tasks = await opened(app)
    app.link.on_message(BIRTH, b"offline")
    app.link.on_message(b"gatehouse/gh-1/ha/other", b"online")
    await test_app.some_time()
    assert len(sent(app, CONFIG)) == 1
    counts = [len(sent(app, topic)) for topic in (CONFIG, UPDATE, STATE, SENSOR)]
    app.link.on_message(BIRTH, b"online")
    await test_app.until(lambda: len(sent(app, SENSOR)) > counts[3], "reading")
    assert [len(sent(app, topic)) for topic in (CONFIG, UPDATE, STATE, SENSOR)] == [count + 1 for count in counts]
    end(tasks)


async def test_a_flood_of_births_makes_few_announcements():
    app = made()
    tasks = await opened(app)
    app.access.home.GAP_MS = 10000
    for _ in range(100):
        app.link.on_message(BIRTH, b"online")
        await asyncio.sleep_ms(1)
    assert 2 <= len(sent(app, CONFIG)) <= 3
    end(tasks)


async def test_an_announcement_without_memory_comes_with_a_later_report():
    app = made()
    import homeassistant

    call, room = homeassistant._call, []

    def tight(module, name, *arguments):
        if name == "announcement" and not room:
            raise MemoryError
        return call(module, name, *arguments)

    homeassistant._call = tight
    tasks = run(app)
    await test_app.until(lambda: app.link.count("summary"), "report")
    await test_app.some_time()
    assert not sent(app, CONFIG) and not sent(app, STATE)
    room.append(1)
    app.changed.set()
    await test_app.until(lambda: sent(app, CONFIG) and sent(app, STATE), "announcement")
    end(tasks)


# What it may ask for.


async def pressed(app, payload=b"install", retained=False, topic=INSTALL):
    app.link.retained = retained
    app.link.on_message(topic, payload)
    await test_app.some_time()
    approved, app.installer.approved = app.installer.approved, []
    return approved


async def test_install_allows_what_waits_and_is_journaled():
    app = made()
    tasks = await opened(app)
    for state in ("available", "downloaded"):
        app.installer.state["state"] = state
        assert await pressed(app) == ["install"]
    assert [note for note in app.boot.notes if note[0] == "did"] == [
        ("did", "home-assistant", "home-assistant", "update.install")
    ] * 2
    end(tasks)


async def test_nothing_else_is_an_install():
    app = made()
    tasks = await opened(app)
    app.installer.state["state"] = "available"
    for payload in (b"", b"INSTALL", b"install ", b"install\n", b"1", b"x" * 5000):
        assert await pressed(app, payload) == [], payload
    assert await pressed(app, topic=b"gatehouse/gh-1/install") == []
    assert await pressed(app) == ["install"]
    end(tasks)


async def test_an_install_that_the_broker_kept_is_none():
    app = made()
    tasks = await opened(app)
    app.installer.state["state"] = "available"
    assert await pressed(app, retained=True) == []
    assert await pressed(app, retained=False) == ["install"]
    end(tasks)


async def test_where_nothing_waits_nothing_is_done_or_journaled():
    app = made()
    tasks = await opened(app)
    for state in ("idle", "downloading", "installing", "pending-reboot", "trial", "confirmed", "refused", "failed"):
        app.installer.state["state"] = state
        assert await pressed(app) == [], state
    assert not app.boot.notes
    app.installer.state["state"] = "downloaded"
    assert await pressed(app) == ["install"]
    end(tasks)


async def test_a_flood_of_installs_is_one():
    app = made()
    tasks = await opened(app)
    app.access.home.GAP_MS = 10000
    app.installer.state["state"] = "available"
    for _ in range(100):
        app.link.on_message(INSTALL, b"install")
        await asyncio.sleep_ms(1)
    assert app.installer.approved == ["install"] and len(app.boot.notes) == 1
    end(tasks)


async def test_an_install_that_is_refused_ends_nothing():
    app = made()
    tasks = await opened(app)
    app.installer.state["state"] = "available"
    app.access.operations.busy = True
    assert await pressed(app) == []
    app.access.operations.busy = False
    assert await pressed(app) == ["install"]
    end(tasks)


# Closed.


async def test_a_closed_door_follows_tells_and_does_nothing():
    app = made(("uart",))
    tasks = run(app)
    await test_app.until(lambda: app.link.count("summary"), "report")
    app.installer.state["state"] = "available"
    app.link.on_message(BIRTH, b"online")
    assert await pressed(app) == []
    app.changed.set()
    await test_app.some_time()
    assert app.link.followed == {test_app.JOURNAL} and not [entry for entry in app.link.sent if "ha/" in entry[0]]
    assert not sent(app, CONFIG) and "homeassistant" not in sys.modules
    end(tasks)


async def test_a_door_that_closes_follows_nothing_more():
    app = made()
    tasks = await opened(app)
    tasks[1].cancel()
    await test_app.until(lambda: app.access.home is None, "end")
    assert app.link.followed == {test_app.JOURNAL}
    app.link.on_message(INSTALL, b"install")
    before = len(sent(app, STATE))
    app.changed.set()
    await test_app.some_time()
    assert len(sent(app, STATE)) == before
    end(tasks)


async def test_what_was_announced_is_on_flash_before_and_taken_away_once_the_broker_has_it():
    import announce

    app = made()
    known = []
    publish = app.link.publish
    app.link.publish = lambda topic, *rest: (
        known.append(app.boot.store.number("ha")) if topic == CONFIG else None,
        publish(topic, *rest),
    )
    tasks = await opened(app)
    assert known == [1]
    end(tasks)
    await test_app.some_time()
    app.link.connected, app.link.sent = False, []
    assert await announce.retire(app.boot, app.link) is False and app.link.sent == []
    app.link.connected, app.link.acknowledge = True, False
    assert await announce.retire(app.boot, app.link) is False
    assert app.boot.store.number("ha") == 1
    app.link.acknowledge, app.link.sent = True, []
    assert await announce.retire(app.boot, app.link) is True
    assert app.link.sent == [(CONFIG, b"", True), (UPDATE, b"", True), (STATE, b"", True)]
    assert app.boot.store.number("ha") == 0
    app.link.sent = []
    assert await announce.retire(app.boot, app.link) is True and app.link.sent == []


# What it is told of an update.


def told(state, name=None, mode="active", **more):
    """The update entity's message while an offer of cases("homeassistant") is in this state."""
    import projection

    class app:
        installer = test_app.Installer(None, None)
        offers = test_app.Module()

    app.offers.envelopes = lambda: iter([])
    app.installer.state["state"] = state
    if name:
        data, digest = (unhexlify(item) for item in cases("homeassistant")[name])
        app.installer.state["digest"], app.installer.state["sequence"] = digest, 2000
        app.offers.envelopes = lambda: iter([b"no envelope", data])
    app.installer.state.update(more)
    return json.loads(projection.update(fake_boot.Boot(mode), app))


KEYS = {"installed_version", "latest_version", "title", "release_summary", "update_percentage", "in_progress"}


def test_without_an_update_installed_is_the_latest():
    for state in ("idle", "confirmed", "refused", "failed", "rolled-back"):
        found = told(state, "app")
        assert set(found) == KEYS
        assert (found["installed_version"], found["latest_version"], found["title"]) == ("1.0.0", "1.0.0", "example")
        assert (found["in_progress"], found["update_percentage"], found["release_summary"]) == (False, None, "")


def test_an_update_that_waits_is_told_by_version_and_description():
    for state in ("available", "downloaded"):
        found = told(state, "app")
        assert (found["installed_version"], found["latest_version"]) == ("1.0.0", "1.1.0")
        assert found["release_summary"] == 'Better in "every" way.\n' and found["in_progress"] is False
    assert told("available", "both")["latest_version"] == "1.3.0"
    assert told("available", "firmware")["latest_version"] == "1.27.0"
    assert told("available", "long")["release_summary"] == "x" * 120


def test_an_update_on_its_way_is_in_progress():
    found = told("downloading", "app", done=3, total=12)
    assert (found["latest_version"], found["in_progress"], found["update_percentage"]) == ("1.1.0", True, 25)
    for state in ("downloading", "installing", "pending-reboot"):
        found = told(state, "app", done=0, total=0)
        assert (found["in_progress"], found["update_percentage"]) == (True, None), state
    found = told("trial", mode="trial")
    assert (found["installed_version"], found["latest_version"], found["in_progress"]) == ("1.0.0", "1.0.0", True)


def test_a_configuration_is_no_update():
    found = told("downloading")
    assert (found["latest_version"], found["in_progress"]) == ("1.0.0", False)


def test_a_text_that_was_not_signed_is_not_told():
    assert told("available", "altered")["latest_version"] == "2000"
    assert told("available", "stripped")["latest_version"] == told("available", "none")["latest_version"] == "2000"


def test_another_offer_is_not_told():
    import projection

    data, digest = (unhexlify(item) for item in cases("homeassistant")["app"])
    assert projection.described(data, digest)[0] == "1.1.0"
    assert projection.described(data, b"M" * 32) is None
    for size in range(len(data)):
        projection.described(data[:size], digest)
    bent = bytearray(data)
    for at in range(len(data)):
        for mask in (1, 128):
            bent[at] ^= mask
            found = projection.described(bytes(bent), digest)
            assert found in (None, ("", ""), projection.described(data, digest)), (at, found)
            bent[at] ^= mask
