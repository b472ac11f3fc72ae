"""What each operation does once it is admitted, and what it refuses itself."""

import asyncio

import fake_access as fake
from harness import raises
from test_operations import CHOSEN, device, session

HEAP = "8M"

BOUNDS = {
    "interfaces": ["https"],
    "lockout": [[1, 1, 60, 1], [5, 10, 3600, 1]],
    "session": [[60, 600, 1], [300, 3600, 4]],
}


async def refused(reason, operations, who, name, arguments):
    from gatehouse import Refused

    with raises(Refused, reason) as caught:
        await operations.call(who, name, arguments)
    return caught.value.detail


async def test_help_names_what_the_role_may_do_here():
    _clock, operations = device()
    found = (await operations.call(session(operations, "viewer"), "help", {}))["operations"]
    assert sorted(found) == ["help", "interfaces", "logout", "password.change", "sensor", "state", "update.status"]
    assert found["password.change"] == "old:secret:1:64 new:secret:8:64"
    assert "logout" not in (await operations.call(session(operations, "viewer", "mqtt"), "help", {}))["operations"]


async def test_logout_ends_the_session():
    _clock, operations = device()
    who = session(operations, "owner")
    await operations.call(who, "logout", {})
    await refused("session", operations, who, "state", {})


async def test_passwords_by_operation():
    _clock, operations = device()
    owner = session(operations, "owner")
    await refused("password", operations, owner, "password.change", {"old": "wrong", "new": "another password"})
    await refused("argument", operations, owner, "password.change", {"old": CHOSEN, "new": "password"})
    await operations.call(owner, "password.change", {"old": CHOSEN, "new": "another password"})
    await operations.call(owner, "user.password", {"user": "viewer", "new": "a viewer's password"})
    assert (await operations.auth.login("https", "viewer", "a viewer's password")).role == "viewer"
    assert (await operations.auth.login("https", "owner", "another password")).role == "owner"


async def test_unlock_by_operation():
    from gatehouse import Refused

    _clock, operations = device()
    for _ in range(4):
        with raises(Refused, "password"):
            await operations.auth.login("https", "owner", "wrong password")
    owner = session(operations, "owner")
    assert await operations.call(owner, "user.unlock", {"user": "owner"}) == {"unlocked": True}
    assert await operations.call(owner, "user.unlock", {"user": "owner"}) == {"unlocked": False}
    await operations.auth.login("https", "owner", CHOSEN)


async def test_keys_are_those_of_the_owner_epoch():
    _clock, operations = device()
    owner = session(operations, "owner")
    first = await operations.call(owner, "keys", {})
    operations.boot.store.put_number("epoch", 1)
    second = await operations.call(owner, "keys", {})
    assert (first["epoch"], second["epoch"]) == (0, 1) and first["report_key"] != second["report_key"]
    assert len(second["report_key"]) == len(second["journal_key"]) == 64
    assert len({found[name] for found in (first, second) for name in ("report_key", "journal_key")}) == 4


# The policy.


async def test_interfaces_are_closed_and_opened_within_the_configuration():
    _clock, operations = device()
    owner = session(operations, "owner")
    found = await operations.call(owner, "interface.set", {"name": "mqtt-commands", "wanted": False})
    assert found == {"interfaces": ["uart", "reset-button"]}
    assert not operations.policy.wants("mqtt-commands") and operations.policy.changed.is_set()
    await operations.call(owner, "interface.set", {"name": "mqtt-commands", "wanted": True})
    assert operations.policy.wants("mqtt-commands")
    for name in ("https", "ble", "webrepl", "esp-now", "wifi-ap"):
        detail = await refused("argument", operations, owner, "interface.set", {"name": name, "wanted": True})
        assert "signed configuration" in detail and not operations.policy.wants(name)
    for wanted in (False, True):  # nobody takes physical presence away from who holds the device
        detail = await refused(
            "argument", operations, owner, "interface.set", {"name": "reset-button", "wanted": wanted}
        )
        assert "signed configuration" in detail and operations.policy.wants("reset-button")
    for name in ("wifi-station", "update"):
        await refused("argument", operations, owner, "interface.set", {"name": name, "wanted": False})
        assert operations.policy.wants(name)
    for wanted in (True, False):
        await refused("argument", operations, owner, "interface.set", {"name": "serial", "wanted": wanted})


async def test_bounds_of_the_configuration_let_an_interface_be_opened():
    _clock, operations = device(bounds=BOUNDS)
    owner = session(operations, "owner")
    await operations.call(owner, "interface.set", {"name": "https", "wanted": True})
    assert operations.policy.wants("https")
    await refused("argument", operations, owner, "interface.set", {"name": "ble", "wanted": True})


async def test_thresholds_within_the_bounds_of_the_configuration():
    from access import lockout

    _clock, operations = device()
    owner = session(operations, "owner")
    await refused("argument", operations, owner, "config.set", {"field": "lockout", "values": [3, 2, 900, 1]})
    __clock, operations = device(bounds=BOUNDS)
    owner = session(operations, "owner")
    for bad in (
        [0, 2, 900, 1],
        [6, 2, 900, 1],
        [3, 11, 900, 1],
        [3, 2, 59, 1],
        [3, 2, 3601, 1],
        [3, 2, 900, 0],
        [3, 2, 900],
    ):
        await refused("argument", operations, owner, "config.set", {"field": "lockout", "values": bad})
        assert tuple(operations.policy.lockout) == (3, 2, 900, 1)
    for good in ([1, 1, 60, 1], [5, 10, 3600, 1]):
        assert await operations.call(owner, "config.set", {"field": "lockout", "values": good}) == {"lockout": good}
        assert operations.policy.lockout == good
    await refused("argument", operations, owner, "config.set", {"field": "session", "values": [59, 3600, 4]})
    await operations.call(owner, "config.set", {"field": "session", "values": [60, 600, 1]})
    assert operations.policy.session == [60, 600, 1]
    assert lockout.delay(operations.policy, 6) == 10, "in force at once"


async def test_what_was_tuned_outlives_a_start_and_ends_with_its_configuration():
    from access import policy

    _clock, operations = device(bounds=BOUNDS)
    owner = session(operations, "owner")
    await operations.call(owner, "config.set", {"field": "lockout", "values": [1, 1, 60, 1]})
    await operations.call(owner, "interface.set", {"name": "uart", "wanted": False})
    boot = operations.boot
    assert policy.Registry(boot).lockout == [1, 1, 60, 1] and not policy.Registry(boot).wants("uart")
    boot.config_digest, boot.mode = b"N" * 32, "trial"
    assert policy.Registry(boot).wants("uart") and "tuned" in boot.store.values, "it may be rolled back"
    boot.config_digest, boot.mode = b"G" * 32, "active"
    assert policy.Registry(boot).lockout == [1, 1, 60, 1]
    boot.config_digest = b"N" * 32
    assert policy.Registry(boot).lockout == (3, 2, 900, 1) and "tuned" not in boot.store.values


async def test_damaged_policy_and_lockouts_do_not_keep_a_device_from_starting():
    from access import auth, policy

    for damage in (b"\xff", b"\x01", b"\x80", b"\x83\x01\x02\x03"):
        boot = fake.Boot(fake.Nvs({"tuned": damage, "locks": damage, "users": damage}))
        registry = policy.Registry(boot)
        assert registry.wants("uart")
        assert auth.Auth(boot, registry).lockouts() == {}
        auth.Auth(boot, registry).fresh()


async def test_configuration_is_shown_with_what_was_tuned():
    _clock, operations = device(bounds=BOUNDS)
    await operations.call(session(operations, "owner"), "config.set", {"field": "session", "values": [60, 600, 1]})
    found = await operations.call(session(operations, "operator"), "config.show", {})
    assert found["session"] == [60, 600, 1] and found["generation"] == 1 and found["lockout"] == [3, 2, 900, 1]


# Updates.


async def test_updates_by_operation():
    _clock, operations = device()
    who, application = session(operations, "operator"), operations.application
    assert (await operations.call(who, "update.check", {}))["state"] == "idle" and application.offers.looked == 1
    await refused("state", operations, who, "update.install", {})
    application.installer.waits = True
    await operations.call(who, "update.install", {})
    assert application.installer.approved == ["install"] and application.postponed == [0]
    assert await operations.call(who, "update.postpone", {"hours": 2}) == {"until": 7200}
    assert application.postponed == [0, 7200]


async def test_roll_back_takes_only_what_waits_under_that_number():
    _clock, operations = device()
    who, installer = session(operations, "operator"), operations.application.installer
    installer.waits = True
    for state, sequence in (("downloaded", 8), ("confirmed", 7), ("refused", 7), ("trial", 7), ("idle", 7)):
        installer.state["state"], installer.state["sequence"] = state, sequence
        await refused("state", operations, who, "update.rollback", {"sequence": 7})
    installer.state["state"], installer.waits = "downloaded", False
    installer.state["sequence"] = 7
    await refused("state", operations, who, "update.rollback", {"sequence": 7})
    assert not installer.approved
    installer.waits = True
    for state in ("available", "downloaded"):
        installer.state["state"] = state
        await operations.call(who, "update.rollback", {"sequence": 7})
    assert installer.approved == ["install", "install"]


# The device.


async def test_credentials_of_the_networks():
    from gatehouse import cbor

    _clock, operations = device()
    who, values = session(operations, "owner"), operations.boot.store.values
    await refused("argument", operations, who, "wifi.set", {"ssid": "net", "password": "1234567"})
    await refused("argument", operations, who, "wifi.set", {"ssid": "ä" * 17, "password": ""})
    assert "wifi" not in values
    await operations.call(who, "wifi.set", {"ssid": "ä" * 16, "password": "12345678"})
    assert cbor.loads(values["wifi"]) == ["ä" * 16, "12345678"]
    await operations.call(who, "wifi.set", {"ssid": "net", "password": ""})
    assert cbor.loads(values["wifi"]) == ["net", ""]
    await operations.call(who, "broker.set", {"user": "gh-1", "password": "a secret of it"})
    assert cbor.loads(values["broker"]) == ["gh-1", "a secret of it"]
    assert "12345678" not in repr(operations.boot.notes) and "a secret of it" not in repr(operations.boot.notes)


async def test_restarts_come_after_the_answer():
    from access import act_device

    _clock, operations = device()
    who = session(operations, "owner")
    assert await operations.call(who, "reboot", {}) == {"restart": True}
    await asyncio.sleep_ms(500)
    assert not operations.application.left
    await asyncio.sleep_ms(1200)
    assert operations.application.left == 1
    for to in ("last", "factory"):
        await operations.call(who, "config.restore", {"to": to})
        assert operations.boot.restored == (to == "factory")
    assert act_device


async def test_erase_asks_for_the_device_id_and_ends_the_ownership():
    import os

    import fake_nvs
    from gatehouse import cbor, journal

    fake_nvs.install()
    _clock, operations = device()
    os.mkdir("state")
    journal.FOLDER = "state"
    operations.boot.journal = None
    owner, values = session(operations, "owner"), operations.boot.store.values
    values.update(
        {"wifi": b"w", "broker": b"b", "tuned": cbor.dumps([b"G" * 32, {}]), "locks": cbor.dumps({"https/owner": 9})}
    )
    for key in ("identity", "device_key", "tls_cert", "tls_key", "root", "factory", "floors"):
        values[key] = b"stays"
    values["boots"] = 7
    for role in ("viewer", "operator", "owner", "service"):
        values["seen-" + role] = cbor.dumps([0, 0, {"anna": 1}])
    await refused("argument", operations, owner, "erase", {"confirm": "gh-2"})
    assert "wifi" in values and operations.auth.touch(owner) and not values.get("epoch")
    assert await operations.call(owner, "erase", {"confirm": "gh-1"}) == {"restart": True}
    assert sorted(values) == [
        "boots", "device_key", "epoch", "factory", "floors", "identity", "label", "root", "tls_cert", "tls_key"
    ]  # fmt: skip
    assert values["epoch"] == 1 and operations.auth.fresh() and not operations.auth.sessions()
    assert operations.boot.events("erase") == [()] and operations.boot.events("owner-epoch") == [(1,)]
    from access import auth, policy

    after = auth.Auth(operations.boot, policy.Registry(operations.boot))  # the restart
    assert (await after.login("console", "owner", "k7mq-x2pd-9wfh-rt4e")).fresh


async def test_erase_that_nvs_interrupts_ends_in_a_restart():
    import os

    import fake_nvs
    from gatehouse import journal

    fake_nvs.install()
    _clock, operations = device()
    os.mkdir("state")
    journal.FOLDER = "state"
    operations.boot.journal = None
    owner, store = session(operations, "owner"), operations.boot.store

    def full(key, value):
        raise OSError(28)

    store.put_number = full
    try:
        await operations.call(owner, "erase", {"confirm": "gh-1"})
    except OSError:
        pass
    assert not operations.auth.sessions()
    await asyncio.sleep_ms(1700)
    assert operations.application.left == 1


async def test_repl_opens_only_where_the_policy_allows_and_for_no_longer():
    clock, operations = device()
    who = session(operations, "service")
    await refused("disabled", operations, who, "repl", {"minutes": 1})
    assert operations.repl_left() == 0
    clock, operations = device(repl_s=90)
    who = session(operations, "service")
    assert await operations.call(who, "repl", {"minutes": 1}) == {"seconds": 60}
    clock.step(59)
    assert operations.repl_left() == 1
    clock.step(1)
    assert operations.repl_left() == 0
    assert await operations.call(who, "repl", {"minutes": 60}) == {"seconds": 90}
    assert operations.boot.events("repl") == [("console", "service", 60), ("console", "service", 90)]


async def test_repl_waits_for_updates_and_trials():
    _clock, operations = device(repl_s=90)
    who = session(operations, "service")
    state = operations.application.installer.state
    for word in ("downloading", "installing"):
        state["state"] = word
        await refused("busy", operations, who, "repl", {"minutes": 1})
    state["state"] = "confirmed"
    operations.boot.mode = "trial"
    await refused("busy", operations, who, "repl", {"minutes": 1})
    assert operations.repl_left() == 0
    operations.boot.mode = "active"
    await operations.call(who, "repl", {"minutes": 1})
    assert operations.repl_left() == 60


async def test_identify_needs_a_light():
    _clock, operations = device()
    who = session(operations, "operator")
    await refused("unsupported", operations, who, "identify", {})
    levels = []

    class Pin:
        OUT = 3

        def __init__(self, number, mode):
            assert (number, mode) == (2, 3)

        def value(self, level):
            levels.append(level)

    class Machine:
        pass

    import sys

    Machine.Pin = Pin
    sys.modules["machine"] = Machine
    operations.boot.identity.led = 2
    assert await operations.call(who, "identify", {"seconds": 1}) == {"seconds": 1}
    await asyncio.sleep_ms(1200)
    assert levels == [0, 1, 0, 1, 0]
    import gc

    used = []
    for _ in range(40):  # the last one counts
        await operations.call(who, "identify", {"seconds": 60})
        await asyncio.sleep_ms(0)
        gc.collect()
        used.append(gc.mem_alloc())
    assert used[-1] - used[10] < 8000, "a task takes three kilobytes"
    operations.light.cancel()


async def test_restart_that_cannot_be_told_is_done():
    _clock, operations = device()
    who = session(operations, "owner")

    async def fails():
        raise OSError(5)

    operations.application.leave = fails
    await operations.call(who, "reboot", {})
    await asyncio.sleep_ms(1700)
    assert operations.boot.restarts == 1


async def test_journal_by_operation():
    import os

    from gatehouse import cbor, journal

    _clock, operations = device()
    who, boot = session(operations, "operator"), operations.boot
    boot.journal = None
    os.mkdir("state")
    journal.FOLDER = "state"
    from gatehouse import memory

    memory.unload = lambda *names: None
    for number in range(1, 31):
        assert journal.append(boot, "event", number, b"\x01\xff")
    found = (await operations.call(who, "journal", {}))["entries"]
    assert [one[0] for one in found] == list(range(23, 31))
    assert found[0][2:6] == [7, "event", 23, "01ff"] and len(found[0][6]) == 32
    found = (await operations.call(who, "journal", {"from": 4, "count": 3}))["entries"]
    assert [one[0] for one in found] == [4, 5, 6]
    assert (await operations.call(who, "journal", {"from": 31}))["entries"] == []
    assert len(cbor.dumps({"entries": found})) < 4096
