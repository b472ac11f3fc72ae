"""The registry asks the chip, closes what the policy does not want and tells what it cannot; physical presence."""

import asyncio
import os
import sys

import fake_access as fake
import fake_nvs
from harness import raises

HEAP = "8M"
CORE = ("wifi-station", "update")
ALL = CORE + (
    "uart", "usb", "wifi-ap", "ble", "esp-now", "webrepl", "mdns", "https", "mqtt-commands", "home-assistant",
    "reset-button",
)  # fmt: skip


class Radio:
    """Something with active(), as WLAN, BLE and ESPNow have it; `stuck` stays on whatever is asked."""

    def __init__(self, on=False, stuck=False):
        self.on, self.stuck = on, stuck

    def active(self, on=None):
        if on is not None and not self.stuck:
            self.on = on
        return self.on


class Module:
    pass


class Chip:
    """All radios, off but for the station."""

    def __init__(self):
        self.station, self.ap, self.ble, self.now = Radio(True), Radio(), Radio(), Radio()
        self.terminal = None
        network = Module()
        network.STA_IF, network.AP_IF = 0, 1
        network.WLAN = lambda number: self.ap if number else self.station
        bluetooth, espnow, machine = Module(), Module(), Module()
        bluetooth.BLE = lambda: self.ble
        espnow.ESPNow = lambda: self.now
        for name, module in (("network", network), ("bluetooth", bluetooth), ("espnow", espnow), ("machine", machine)):
            sys.modules[name] = module
        self.machine = machine


class WebRepl:
    listen_s = client_s = None
    stopped = 0

    def stop(self):
        self.listen_s = None
        self.stopped += 1


def registry(able=("uart", "mqtt-commands"), **config):
    from access import policy

    made = policy.Registry(fake.Boot(**config))
    made.able = set(able)
    made.serving = {name for name in able if made.wants(name)}
    return made


def rows(made):
    return {row[0]: row[1:] for row in made.rows()}


# The registry.


def test_every_interface_of_the_chip_is_listed_and_a_quiet_device_agrees():
    Chip()
    made = registry()
    assert made.found() == {} and made.enforce()
    found = rows(made)
    assert tuple(row[0] for row in made.rows()) == ALL
    assert {name for name in found if found[name][0]} == set(CORE) | {"uart", "mqtt-commands"}
    assert {name for name in found if found[name][1]} == set(CORE) | {"uart", "mqtt-commands"}
    assert all(row[2] for row in found.values()) and made.disagreeing() == []
    assert found["reset-button"] == (False, False, True, "not in this firmware, or no hardware for it")
    assert found["mdns"][1] is None


def test_what_is_not_wanted_is_switched_off_and_journaled():
    chip = Chip()
    web = sys.modules["webrepl"] = WebRepl()
    web.listen_s = object()
    chip.ap.on = chip.ble.on = chip.now.on = True
    made = registry()
    found = rows(made)
    for name in ("wifi-ap", "ble", "esp-now", "webrepl"):
        assert found[name][:3] == (False, True, False), name
    assert made.enforce()
    assert not (chip.ap.on or chip.ble.on or chip.now.on) and web.stopped == 1 and chip.station.on
    assert made.disagreeing() == []
    assert sorted(made.boot.events("closed")) == [("ble",), ("esp-now",), ("webrepl",), ("wifi-ap",)]
    assert not made.enforce(), "nothing new"


def test_what_is_wanted_is_left_on():
    chip = Chip()
    chip.ble.on = True
    made = registry(interfaces=("uart", "ble"))
    made.enforce()
    assert chip.ble.on and made.disagreeing() == [] and not made.boot.events("closed")


def test_what_cannot_be_switched_off_is_told():
    chip = Chip()
    chip.ap.on = chip.ap.stuck = True
    made = registry()
    made.enforce()
    assert made.disagreeing() == ["wifi-ap"]
    assert rows(made)["wifi-ap"] == (False, True, False, "is active and cannot be switched off")
    chip.ap.stuck = False
    assert made.enforce() and made.disagreeing() == []


def test_what_is_wanted_and_not_there_is_told():
    chip = Chip()
    chip.station.on = False
    made = registry(interfaces=("uart", "ble"))
    made.serving.remove("uart")
    made.enforce()
    assert made.disagreeing() == ["wifi-station", "uart", "ble"]
    assert rows(made)["uart"][3] == "is wanted and not active"


def test_an_empty_policy_means_nobody():
    Chip()
    made = registry(interfaces=())
    assert {name for name in ALL if made.wants(name)} == set(CORE)


def test_a_chip_without_a_radio_has_it_off():
    Chip()
    del sys.modules["bluetooth"], sys.modules["espnow"]
    found = rows(registry())
    assert found["ble"][:3] == found["esp-now"][:3] == (False, False, True)


def test_usb_cannot_be_asked_where_a_chip_has_it():
    chip = Chip()
    assert rows(registry())["usb"][:3] == (False, False, True)
    chip.machine.USBDevice = object
    assert rows(registry())["usb"][:3] == (False, None, True)


# Doors.


class Doors:
    """doors.run() with adapters that count."""

    def __init__(self, able=("uart", "https"), **config):
        from access import doors

        Chip()
        self.application = fake.Application()
        self.boot = fake.Boot(**config)
        self.access = self.application.access = doors.Access(self.boot, self.application)
        self.running, self.ends = set(), {}
        doors._able = lambda boot: set(able)
        doors._serve = self.serve
        doors._retired = self.retire
        self.broker, self.retired, self.tries = False, 0, 0
        self.doors = doors

    async def retire(self, boot, application):
        self.retired += 1
        return self.broker

    async def serve(self, name, boot, application, access, opened):
        self.tries += 1
        if self.ends.get(name):  # before it is open
            raise self.ends[name]
        opened()
        self.running.add(name)
        try:
            while name not in self.ends:
                await asyncio.sleep_ms(1)
            if self.ends[name]:
                raise self.ends[name]
        finally:
            self.running.discard(name)

    async def turn(self, ms=100):
        await asyncio.sleep_ms(ms)


async def test_only_wanted_adapters_run_and_a_change_of_the_policy_is_followed():
    made = Doors(bounds={"interfaces": ["https"]})
    task = asyncio.create_task(made.doors.run(made.boot, made.application))
    await made.turn()
    assert made.running == {"uart"} == made.access.registry.serving and made.application.changed.is_set()
    made.access.registry.tune("interfaces", ["https"])
    await made.turn(100)
    assert made.running == {"uart"}, "the answer to the operation goes out first"
    await made.turn(1200)
    assert made.running == {"https"} == made.access.registry.serving
    task.cancel()


async def test_an_adapter_that_fails_ends_the_application():
    made = Doors()
    made.ends["uart"] = ValueError("a mistake in the console")
    with raises(ValueError, "a mistake in the console"):
        await asyncio.wait_for_ms(made.doors.run(made.boot, made.application), 3000)


async def test_an_adapter_without_memory_stays_closed_for_a_while_and_is_told():
    made = Doors()
    made.ends["uart"] = MemoryError()
    now = [0]
    made.doors.ticks_ms = lambda: now[0]
    task = asyncio.create_task(made.doors.run(made.boot, made.application))
    await made.turn(1300)
    assert made.running == set() == made.access.registry.serving
    assert made.access.registry.disagreeing() == ["uart"] and made.application.changed.is_set()
    made.application.changed.clear()
    tried, now[0] = made.tries, 10000
    made.access.registry.changed.set()
    await made.turn(2300)
    assert made.tries == tried + 1 and not made.application.changed.is_set(), "nothing is said to be open meanwhile"
    made.ends.clear()
    for now[0] in (19999, 20000):
        made.access.registry.changed.set()
        await made.turn(1200)
        assert (made.running == {"uart"}) == (now[0] == 20000)
    await made.turn(1100)
    assert made.application.changed.is_set() and made.access.registry.serving == {"uart"}
    assert not task.done() and not made.access.registry.disagreeing()
    task.cancel()


async def test_an_adapter_that_gives_up_is_tried_again_more_seldom():
    """It has loaded all that it takes: not so one that has found no room for that."""
    made = Doors()
    made.ends["uart"] = None
    now = [0]
    made.doors.ticks_ms = lambda: now[0]
    task = asyncio.create_task(made.doors.run(made.boot, made.application))
    await made.turn(1300)
    for now[0], tries in ((10000, 1), (59999, 1), (60000, 2)):
        made.access.registry.changed.set()
        await made.turn(1200)
        assert made.tries == tries, now[0]
    task.cancel()


async def test_https_is_not_even_loaded_where_the_heap_has_no_room():
    from access import doors

    Chip()
    application, boot = fake.Application(), fake.Boot(interfaces=("https",))
    application.access = doors.Access(boot, application)

    def spare(size):
        assert size > 57344, "what http.py asks for at each connection, and what stays"
        raise MemoryError

    doors.spare = spare
    task = asyncio.create_task(doors.run(boot, application))
    await asyncio.sleep_ms(1300)
    assert "access.http" not in sys.modules and not task.done()
    assert application.access.registry.disagreeing() == ["https"]
    task.cancel()


async def test_home_assistant_is_left_once_the_broker_is_there_and_only_where_it_knew_this_device():
    made = Doors()

    async def look(event):
        await asyncio.sleep_ms(30)
        return False

    made.doors._wait = look
    made.boot.store.put_number("ha", 1)  # a configuration closed it, and the device has restarted
    task = asyncio.create_task(made.doors.run(made.boot, made.application))
    await made.turn(300)
    before = made.retired
    assert before > 1
    made.broker = True
    await made.turn(200)
    assert made.retired <= before + 2, "once it is done it is not done again"
    task.cancel()
    for values in ({"interfaces": ("uart",)}, {"interfaces": ("home-assistant",)}):
        made = Doors(("uart", "home-assistant"), **values)
        made.boot.store.put_number("ha", int("uart" not in values["interfaces"]))
        task = asyncio.create_task(made.doors.run(made.boot, made.application))
        await made.turn(200)
        assert made.retired == 0, values
        task.cancel()


async def test_home_assistant_is_not_left_for_want_of_memory():
    made = Doors(("uart", "home-assistant"), interfaces=("home-assistant",))
    made.boot.store.put_number("ha", 1)
    made.ends["home-assistant"] = MemoryError()
    task = asyncio.create_task(made.doors.run(made.boot, made.application))
    await made.turn(1300)
    assert made.running == set() and made.retired == 0
    task.cancel()


async def test_home_assistant_is_left_when_an_operation_closes_it():
    made = Doors(("uart", "home-assistant"), interfaces=("uart", "home-assistant"))
    task = asyncio.create_task(made.doors.run(made.boot, made.application))
    await made.turn()
    assert made.running == {"uart", "home-assistant"} and made.retired == 0
    made.access.registry.tune("interfaces", ["uart"])
    await made.turn(1300)
    assert made.running == {"uart"} and made.retired > 0
    task.cancel()


async def test_without_doors_in_the_policy_nothing_is_imported():
    from access import doors

    Chip()
    application, boot = fake.Application(), fake.Boot(interfaces=())
    boot.identity.button = 0
    application.access = doors.Access(boot, application)
    task = asyncio.create_task(doors.run(boot, application))
    await asyncio.sleep_ms(100)
    for name in ("access.console", "access.http", "access.remote", "access.presence", "homeassistant", "announce"):
        assert name not in sys.modules
    task.cancel()


# Physical presence.


class Button:
    """machine.Pin of a button that is let go after so many looks; time passes with each."""

    IN, PULL_UP = 1, 2

    def __init__(self, looks):
        self.looks = looks

    def __call__(self, number, mode, pull):
        assert (number, mode, pull) == (0, 1, 2)
        return self

    def value(self):
        self.looks -= 1
        return int(self.looks < 0)


async def held(looks):
    """(boot, auth) after a start with the button held for so many tenths of a second."""
    chip = Chip()
    from access import auth, policy, presence
    from gatehouse import cbor, journal

    os.mkdir("state")
    journal.FOLDER = "state"
    fake_nvs.install(fake_nvs.page_with(b"a former password"))
    fake.Clock()
    values = dict.fromkeys(("identity", "device_key", "wifi", "broker", "root", "tls_key"), b"stays")
    values.update({"label": fake.label(), "users": cbor.dumps({"owner": fake.verifier("chosen password")})})
    values.update({"locks": cbor.dumps({"console/owner": 9}), "tuned": cbor.dumps([b"", {}])})
    boot = fake.Boot(fake.Nvs(values))
    boot.identity.button, boot.journal = 0, None
    presence.machine = chip.machine
    chip.machine.Pin = Button(looks)
    made = auth.Auth(boot, policy.Registry(boot))
    made._open.append(auth.Session("owner", "owner", "https"))

    class Quick:
        Event = asyncio.Event

        @staticmethod
        async def sleep_ms(ms):
            assert ms == 100
            await asyncio.sleep_ms(0)

    presence.asyncio = Quick
    task = asyncio.create_task(presence.watch(boot, made))
    await asyncio.sleep_ms(300)
    task.cancel()
    return boot, made


async def test_button_held_for_ten_seconds_returns_to_the_label():
    boot, auth = await held(130)
    values = boot.store.values
    assert not auth.sessions() and auth.fresh() and auth.lockouts() == {}
    assert values["epoch"] == 1 and not [key for key in ("users", "locks", "tuned") if key in values]
    for key in ("identity", "device_key", "wifi", "broker", "root", "tls_key"):
        assert values[key] == b"stays", key
    assert [note[0] for note in boot.notes] == ["presence", "owner-epoch"]
    left = bytes(fake_nvs.Partition.data)
    assert b"password" not in left and b"kept" in left, "what NVS has erased is overwritten"
    assert boot.restarts == 1
    from access import auth as auths
    from access import policy

    session = await auths.Auth(boot, policy.Registry(boot)).login("console", "owner", "k7mq-x2pd-9wfh-rt4e")
    assert session.fresh


async def test_button_held_for_less_does_nothing():
    for looks in (0, 1, 99):
        boot, auth = await held(looks)
        assert auth.sessions() and not auth.fresh() and not boot.notes and not boot.restarts
        assert "epoch" not in boot.store.values and "locks" in boot.store.values
        assert b"password" in bytes(fake_nvs.Partition.data)
        os.rmdir("state")


async def test_device_restarts_only_once_the_button_is_let_go():
    boot, auth = await held(1000000)
    assert auth.fresh() and not boot.restarts


async def test_journal_goes_on_under_the_new_key_of_an_owner_epoch():
    from access import epoch
    from gatehouse import journal, mac, memory

    os.mkdir("state")
    journal.FOLDER = "state"
    memory.unload = lambda *names: None
    fake_nvs.install()
    boot = fake.Boot()
    boot.journal = None
    boot.note = lambda event, *details: journal.append(boot, event, *details)
    boot.note("before")
    epoch.end(boot, "presence")
    boot.note("after")
    numbers = []
    for segment, number in ((1, 0), (2, 1)):
        key = fake.fake_boot.Store(number).derive("journal")
        for entry, tag, before in journal.entries(segment):
            assert tag == mac.hmac_sha256(key, before, entry)[:16]
            numbers.append(entry)
    assert len(numbers) == 4
    boot.journal = None  # the next start
    boot.note("later")
    assert boot.journal[:3] == [2, boot.journal[1], 5], "found whole, and went on in the same segment"
