"""The dispatcher: each operation exactly for whom and where it is declared, each argument within its limits."""

import asyncio
import sys

import fake_access as fake
from harness import raises

HEAP = "8M"  # compiled: modules come and go at each call
TIMEOUT = 240
CHOSEN = "correct horse battery"
ROLES = ("viewer", "operator", "owner", "service")
INTERFACES = ("console", "https", "mqtt", "home-assistant")

# What this product promises, written down a second time: who (v, o, w for the owner, s), and where.
# A change of catalogue.py that opens anything has to be made here, too.
DECLARED = {
    "help": ("vows", "chm"),
    "logout": ("vows", "ch"),
    "state": ("vows", "chm"),
    "sensor": ("vows", "chm"),
    "interfaces": ("vows", "chm"),
    "interface.set": ("w", "chm"),
    "password.change": ("vows", "ch"),
    "user.password": ("w", "ch"),
    "user.unlock": ("w", "chm"),
    "keys": ("w", "ch"),
    "update.check": ("ow", "chm"),
    "update.install": ("ow", "chma"),
    "update.postpone": ("ow", "chm"),
    "update.rollback": ("ow", "chm"),
    "update.status": ("vows", "chm"),
    "update.receive": ("ow", "h"),
    "update.offer": ("ow", "h"),
    "config.show": ("ow", "chm"),
    "config.set": ("w", "chm"),
    "config.restore": ("w", "chm"),
    "wifi.set": ("w", "ch"),
    "broker.set": ("w", "ch"),
    "reboot": ("ow", "chm"),
    "identify": ("ow", "chm"),
    "journal": ("ow", "chm"),
    "erase": ("w", "ch"),
    "repl": ("s", "c"),
}
LETTERS = {
    "viewer": "v", "operator": "o", "owner": "w", "service": "s",
    "console": "c", "https": "h", "mqtt": "m", "home-assistant": "a",
}  # fmt: skip
GOOD = {
    "interface.set": {"name": "uart", "wanted": False},
    "password.change": {"old": CHOSEN, "new": "another password"},
    "user.password": {"user": "viewer", "new": "a viewer's password"},
    "user.unlock": {"user": "owner"},
    "update.postpone": {"hours": 5},
    "update.rollback": {"sequence": 7},
    "update.receive": {"envelope": 500, "pack": 0},
    "config.set": {"field": "lockout", "values": [3, 2, 900, 1]},
    "config.restore": {"to": "last"},
    "wifi.set": {"ssid": "a network", "password": "its password"},
    "broker.set": {"user": "gh-1", "password": "secret"},
    "identify": {"seconds": 1},
    "erase": {"confirm": "gh-1"},
    "repl": {"minutes": 1},
}


class Network:
    STA_IF, AP_IF = 0, 1

    class WLAN:
        def __init__(self, id):
            self.id = id

        def active(self, on=None):
            return self.id == Network.STA_IF


def device(**config):
    """(clock, operations) of a device whose owner has chosen a password."""
    from access import auth, operations, policy
    from gatehouse import cbor

    sys.modules["network"] = Network
    clock = fake.Clock()
    values = {"label": fake.label(), "users": cbor.dumps({"owner": fake.verifier(CHOSEN)})}
    boot = fake.Boot(fake.Nvs(values), **config)
    registry = policy.Registry(boot)
    return clock, operations.Operations(boot, fake.Application(), auth.Auth(boot, registry), registry)


def session(operations, role, interface="console", fresh=False):
    """An open session, as if a password had been given."""
    from access import auth

    made = auth.Session(role, role, interface, fresh)
    if interface not in ("mqtt", "home-assistant"):
        operations.auth._open.append(made)
    return made


async def outcome(operations, who, name, arguments):
    """The reason of a refusal, or None."""
    from gatehouse import Refused

    try:
        result = await operations.call(who, name, arguments)
        assert isinstance(result, dict)
        return None
    except Refused as error:
        return error.reason


def without_acts():
    """Admit as always, then do nothing: every operation's own act is replaced."""
    import access.dispatch as dispatch
    import access.passing as passing

    passing.forget = lambda *names: None
    done = []

    async def do(operations, session, row, arguments):
        done.append(row.name)
        return {}

    dispatch._do = do
    return done


# Who, where, what.


def test_the_table_is_the_promised_one():
    from access import operations

    found = {}
    for name, role, interfaces, _ in operations.table():
        letters = "".join(LETTERS[one] for one in interfaces)
        roles = "".join(LETTERS[one] for one in ROLES if name in dict(operations.allowed(one, "console")))
        if "c" not in letters:
            roles = "".join(LETTERS[one] for one in ROLES if name in dict(operations.allowed(one, interfaces[0])))
        assert role in ROLES
        found[name] = (roles, letters)
    assert found == DECLARED


async def test_every_operation_for_every_role_on_every_interface():
    _clock, operations = device()
    done = without_acts()
    for name, (roles, places) in DECLARED.items():
        for role in ROLES + ("nobody", "", "Owner", None):
            for interface in INTERFACES + ("ble", "", None):
                del done[:]
                reason = await outcome(operations, session(operations, role, interface), name, GOOD.get(name, {}))
                here = LETTERS.get(interface, "-") in places
                if not here:
                    assert (reason, done) == ("operation", []), (name, role, interface)
                elif LETTERS.get(role, "-") in roles:
                    assert (reason, done) == (None, [name]), (name, role, interface)
                else:
                    assert (reason, done) == ("denied", []), (name, role, interface)
                operations.auth.reset()


async def test_without_a_session_nothing():
    from access import auth

    _clock, operations = device()
    done = without_acts()
    for name in DECLARED:
        for interface in ("console", "https"):
            made_up = auth.Session("owner", "owner", interface)
            assert await outcome(operations, made_up, name, GOOD.get(name, {})) == "session"
    assert not done


async def test_a_session_that_has_expired_does_nothing_more():
    clock, operations = device()
    who = session(operations, "owner")
    clock.step(299)
    assert await outcome(operations, who, "state", {}) is None
    clock.step(300)
    assert await outcome(operations, who, "state", {}) == "session"


async def test_before_the_label_password_is_changed_only_its_change():
    _clock, operations = device()
    done = without_acts()
    here, elsewhere = (session(operations, "owner", name, fresh=True) for name in ("console", "https"))
    for name in DECLARED:
        who = here if "c" in DECLARED[name][1] else elsewhere
        reason = await outcome(operations, who, name, GOOD.get(name, {}))
        if name in ("help", "logout", "password.change"):
            assert reason is None, name
        elif name == "repl":
            assert reason == "denied"
        else:
            assert reason == "fresh", name
    assert sorted(done) == ["help", "logout", "password.change"]


async def test_unknown_names_are_refused_whatever_they_are():
    _clock, operations = device()
    who = session(operations, "owner")
    names = ["", " ", "hel", "helpp", "help ", "help viewer", "__init__", "state.", None, 5, b"help", [], "x" * 1000]
    for name in names:
        assert await outcome(operations, who, name, {}) == "operation", name
    assert {one[:4] for one in operations.boot.events("denied")} == {("console", "owner", "", "operation")}, "own texts"


def test_every_declared_operation_has_an_act_and_every_act_is_declared():
    import access.catalogue as catalogue

    wanted = {}
    for row in catalogue.rows():
        wanted.setdefault(row.module, set()).add(row.name.replace(".", "_"))
    for module, names in wanted.items():
        __import__("access." + module)
        space = sys.modules["access." + module].__dict__
        found = {
            name for name, value in space.items() if not name.startswith("_") and type(value).__name__ == "generator"
        }
        assert found == names, (module, found ^ names)


# Arguments.

CASES = (
    ("interface.set", {"name": "x" * 17, "wanted": True}, {"name": "x" * 16, "wanted": True}),
    ("interface.set", {"name": "", "wanted": True}, {"name": "x", "wanted": True}),
    ("interface.set", {"name": "uart", "wanted": 1}, {"name": "uart", "wanted": True}),
    ("interface.set", {"name": "uart"}, {"name": "uart", "wanted": False}),
    ("interface.set", {"name": "ua\nrt", "wanted": True}, {"name": "ua rt", "wanted": True}),
    ("interface.set", {"name": "ua\x7frt", "wanted": True}, {"name": "ua~rt", "wanted": True}),
    ("interface.set", {"name": "ua\x9b2Jrt", "wanted": True}, {"name": "ua\u00a02Jrt", "wanted": True}),
    ("interface.set", {"name": "ua\x80rt", "wanted": True}, {"name": "u\u4e00\u20acrt", "wanted": True}),
    ("interface.set", {"name": "ua\x9brt", "wanted": True}, {"name": "uaärt", "wanted": True}),
    ("interface.set", {"name": b"uart", "wanted": True}, {"name": "uart", "wanted": True}),
    ("password.change", {"old": "x" * 65, "new": "x" * 64}, {"old": "x" * 64, "new": "x" * 64}),
    ("password.change", {"old": "", "new": "x" * 8}, {"old": "x", "new": "x" * 8}),
    ("password.change", {"old": "x", "new": "x" * 7}, {"old": "x", "new": "x" * 8}),
    ("password.change", {"old": "x", "new": "x" * 65}, {"old": "x", "new": "x" * 64}),
    ("user.password", {"user": "owner", "new": "x" * 8}, {"user": "viewer", "new": "x" * 8}),
    ("user.password", {"user": "viewer|operator", "new": "x" * 8}, {"user": "operator", "new": "x" * 8}),
    ("user.password", {"user": "", "new": "x" * 8}, {"user": "service", "new": "x" * 8}),
    ("user.password", {"user": "viewer", "new": "x" * 65}, {"user": "viewer", "new": "x" * 64}),
    ("user.unlock", {"user": "nobody"}, {"user": "owner"}),
    ("update.postpone", {"hours": 0}, {"hours": 1}),
    ("update.postpone", {"hours": 169}, {"hours": 168}),
    ("update.postpone", {"hours": True}, {"hours": 1}),
    ("update.postpone", {"hours": "5"}, {"hours": 5}),
    ("update.rollback", {"sequence": 0}, {"sequence": 1}),
    ("update.rollback", {"sequence": 4294967296}, {"sequence": 4294967295}),
    ("update.receive", {"envelope": 0, "pack": 0}, {"envelope": 1, "pack": 0}),
    ("update.receive", {"envelope": 8193, "pack": 0}, {"envelope": 8192, "pack": 0}),
    ("update.receive", {"envelope": 1, "pack": -1}, {"envelope": 1, "pack": 0}),
    ("update.receive", {"envelope": 1, "pack": 4194305}, {"envelope": 1, "pack": 4194304}),
    ("config.set", {"field": "interfaces", "values": [1, 2, 3]}, {"field": "session", "values": [1, 2, 3]}),
    ("config.set", {"field": "lockout", "values": [1, 2]}, {"field": "lockout", "values": [1, 2, 3]}),
    ("config.set", {"field": "lockout", "values": [1] * 5}, {"field": "lockout", "values": [1] * 4}),
    ("config.set", {"field": "lockout", "values": [1, 2, "3"]}, {"field": "lockout", "values": [1, 2, 3]}),
    ("config.set", {"field": "lockout", "values": [1, 2, True]}, {"field": "lockout", "values": [1, 2, 3]}),
    ("config.restore", {"to": "first"}, {"to": "factory"}),
    ("wifi.set", {"ssid": "", "password": ""}, {"ssid": "x", "password": ""}),
    ("wifi.set", {"ssid": "x" * 33, "password": ""}, {"ssid": "x" * 32, "password": ""}),
    ("wifi.set", {"ssid": "x", "password": "x" * 64}, {"ssid": "x", "password": "x" * 63}),
    ("broker.set", {"user": "", "password": ""}, {"user": "x", "password": ""}),
    ("broker.set", {"user": "x" * 65, "password": ""}, {"user": "x" * 64, "password": ""}),
    ("broker.set", {"user": "x", "password": "x" * 65}, {"user": "x", "password": "x" * 64}),
    ("identify", {"seconds": 0}, {"seconds": 1}),
    ("identify", {"seconds": 61}, {"seconds": 60}),
    ("identify", {"seconds": None}, {}),
    ("journal", {"from": -1}, {"from": 0}),
    ("journal", {"from": 2147483648}, {"from": 2147483647}),
    ("journal", {"count": 0}, {"count": 1}),
    ("journal", {"count": 9}, {"count": 8}),
    ("erase", {"confirm": ""}, {"confirm": "x"}),
    ("erase", {"confirm": "x" * 33}, {"confirm": "x" * 32}),
    ("state", {"more": 1}, {}),
    ("state", None, {}),
    ("state", [], {}),
    ("repl", {"minutes": 0}, {"minutes": 1}),
    ("repl", {"minutes": 61}, {"minutes": 60}),
)


async def test_limits_of_every_argument_with_their_twins():
    _clock, operations = device()
    done = without_acts()
    for name, bad, good in CASES:
        where = "https" if name == "update.receive" else "console"
        who = session(operations, "service" if name == "repl" else "owner", where)
        del done[:]
        assert await outcome(operations, who, name, bad) == "argument" and not done, (name, bad)
        assert await outcome(operations, who, name, good) is None and done == [name], (name, good)
        operations.auth.reset()
    tried = {name for name, _, _ in CASES}
    from access import operations as module

    assert {name for name, _, _, arguments in module.table() if arguments} <= tried


async def test_a_refusal_says_which_argument_and_its_limits_and_no_secret():
    from gatehouse import Refused

    _clock, operations = device()
    who = session(operations, "owner")
    with raises(Refused, "argument") as caught:
        await operations.call(who, "user.password", {"user": "viewer", "new": "secret7"})
    assert caught.value.detail == "new must be 8 to 64 printable characters"
    with raises(Refused, "argument") as caught:
        await operations.call(who, "update.postpone", {})
    assert caught.value.detail == "hours is missing: a number within 1..168"
    assert "secret7" not in repr(operations.boot.notes)


def test_words_of_a_command_line():
    from access.operations import from_words

    assert from_words("interface.set", ["uart", "off"]) == {"name": "uart", "wanted": False}
    assert from_words("interface.set", ["uart", "maybe"]) == {"name": "uart", "wanted": "maybe"}
    assert from_words("config.set", ["lockout", "3,2,900,1"]) == {"field": "lockout", "values": [3, 2, 900, 1]}
    assert from_words("update.postpone", ["5"]) == {"hours": 5}
    assert from_words("update.postpone", ["5x"]) == {"hours": "5x"}
    assert from_words("update.postpone", ["9" * 11]) == {"hours": "9" * 11}
    assert from_words("update.postpone", ["5", "6"]) == {"hours": 5, "+": "6"}
    assert from_words("wifi.set", ["a", "12345678"]) == {"ssid": "a", "password": "12345678"}
    assert from_words("help", []) == {} and from_words("none", ["x"]) == {"+": "x"}


# The frame.


async def test_one_change_at_a_time_and_looking_goes_on():
    _clock, operations = device()
    who = session(operations, "owner")
    waits = asyncio.Event()
    import access.act_policy as act

    async def slow(*arguments):
        await waits.wait()
        return {}

    act.config_set = slow
    task = asyncio.create_task(operations.call(who, "config.set", GOOD["config.set"]))
    await asyncio.sleep_ms(5)
    assert await outcome(operations, who, "update.check", {}) == "busy"
    assert await outcome(operations, who, "state", {}) is None
    assert await outcome(operations, who, "user.unlock", {"user": "owner"}) is None, (
        "passwords have an order of their own"
    )
    waits.set()
    await task
    assert await outcome(operations, who, "update.check", {}) is None
    done = ["user.unlock", "config.set", "update.check"]
    assert operations.boot.events("did") == [("console", "owner", name) for name in done]


async def test_who_changes_his_password_all_day_does_not_keep_the_owner_from_throwing_him_out():
    from gatehouse import cbor

    _clock, operations = device()
    users = {"owner": fake.verifier(CHOSEN), "viewer": fake.verifier("a viewer's secret", 300)}
    operations.boot.store.values["users"] = cbor.dumps(users)
    viewer, owner = session(operations, "viewer", "https"), session(operations, "owner")

    async def all_day():
        while await outcome(operations, viewer, "password.change", {"old": "a guess", "new": CHOSEN}) == "password":
            viewer.wrong = 0

    task = asyncio.create_task(all_day())
    await asyncio.sleep_ms(5)
    assert not task.done()
    assert await outcome(operations, owner, "user.password", {"user": "viewer", "new": "thrown out now"}) is None
    await task
    assert not operations.auth.touch(viewer)


async def test_an_operation_that_fails_frees_the_place():
    _clock, operations = device()
    who = session(operations, "owner")
    import access.act_policy as act

    async def broken(*arguments):
        raise MemoryError

    act.config_set = broken
    assert await outcome(operations, who, "config.set", GOOD["config.set"]) == "memory"
    assert not operations.busy and not operations.boot.events("did")


async def test_refusals_are_journaled_but_a_flood_of_them_does_not_fill_the_journal():
    _clock, operations = device()
    who = session(operations, "viewer")
    for _ in range(160):
        assert await outcome(operations, who, "reboot", {}) == "denied"
    noted = operations.boot.events("denied")
    assert noted == [("console", "viewer", "reboot", "denied", 0)] * 4
    operations.refusals._budget._since -= 600000  # ten minutes later
    assert await outcome(operations, who, "reboot", {}) == "denied"
    assert operations.boot.events("denied")[4:] == [("console", "viewer", "reboot", "denied", 156)]


async def test_looking_is_not_journaled():
    _clock, operations = device()
    who = session(operations, "owner")
    for name in ("help", "state", "sensor", "interfaces", "config.show"):
        assert await outcome(operations, who, name, {}) is None, name
    assert not operations.boot.notes


async def test_no_module_of_an_operation_stays():
    _clock, operations = device()
    who = session(operations, "owner")
    for name in ("help", "interfaces", "config.show", "user.unlock", "update.check"):
        await outcome(operations, who, name, GOOD.get(name, {}))
    stay = [name for name in sys.modules if name.startswith("access")]
    assert sorted(stay) == ["access", "access.auth", "access.operations", "access.passing", "access.policy"]
