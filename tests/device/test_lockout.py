"""Lockouts on a stepped clock, and what the owner loses by them. Ten thousand guesses: test_guesses.py."""

import asyncio

import fake_access as fake
from harness import raises

HEAP = "8M"  # compiled: modules come and go at each password
TIMEOUT = 300
LABEL = "k7mq-x2pd-9wfh-rt4e"
CHOSEN = "correct horse battery"


def device(nvs=None, **config):
    """(clock, auth) of a device that has just started, with the label password and an owner who has changed it."""
    from access import auth, policy

    clock = fake.Clock()
    nvs = nvs or fake.Nvs()
    boot = fake.Boot(nvs, **config)
    return clock, auth.Auth(boot, policy.Registry(boot))


def provisioned():
    from gatehouse import cbor

    return fake.Nvs({"label": fake.label(iterations=1), "users": cbor.dumps({"owner": fake.verifier(CHOSEN, 1)})})


def staying():
    """The module of passwords, which from now on is not forgotten after each."""
    from access import passing, password

    passing.forget = lambda *names: None
    return password


async def refused(auth, reason, interface="console", user="owner", password=None):
    from gatehouse import Refused

    with raises(Refused, reason) as caught:
        await auth.login(interface, user, password or "wrong password")
    return caught.value


async def test_delays_are_those_of_the_policy():
    clock, auth = device(provisioned())
    waited = []
    for _ in range(14):
        await refused(auth, "password")
        seconds = auth.left("console/owner")
        waited.append(seconds)
        if seconds:
            clock.step(seconds - 0.001)
            assert (await refused(auth, "locked", password=CHOSEN)).detail == "1 s"
            clock.step(0.001)
    assert waited == [0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert (await auth.login("console", "owner", CHOSEN)).role == "owner"
    assert auth.lockouts() == {}


async def test_attempts_during_a_delay_are_not_evaluated_and_do_not_extend_it():
    clock, auth = device(provisioned())
    for _ in range(4):
        await refused(auth, "password")
    writes, level = auth.boot.store.writes, auth.lockouts()["console/owner"][0]
    evaluated = []
    passwords = staying()
    real = passwords.evaluate

    async def counted(store, user, text):
        evaluated.append(text)
        return await real(store, user, text)

    passwords.evaluate = counted
    for _ in range(1000):
        assert (await refused(auth, "locked", password=CHOSEN)).detail == "2 s"
    assert not evaluated and auth.boot.store.writes == writes
    assert auth.lockouts()["console/owner"] == [level, 2]
    clock.step(2)
    await auth.login("console", "owner", CHOSEN)
    assert evaluated == [CHOSEN]


async def test_power_cycle_saves_nobody_a_delay():
    nvs = provisioned()
    clock, auth = device(nvs)
    for _ in range(6):
        await refused(auth, "password")
        clock.step(auth.left("console/owner"))
    assert auth.left("console/owner") == 0
    for _ in range(3):
        clock, auth = device(nvs)
        assert auth.left("console/owner") == 8, "the level is kept, and all of its delay served again"
        await refused(auth, "locked", password=CHOSEN)
    clock.step(8)
    await auth.login("console", "owner", CHOSEN)
    clock, auth = device(nvs)
    assert auth.left("console/owner") == 0, "nothing is left of it after the right password"


async def test_the_level_is_on_flash_before_a_password_is_evaluated():
    from gatehouse import cbor

    nvs = provisioned()
    _clock, auth = device(nvs)

    async def power_goes(store, user, text):
        raise KeyboardInterrupt

    staying().evaluate = power_goes
    for expected in (1, 2, 3):
        with raises(KeyboardInterrupt):
            await auth.login("console", "owner", CHOSEN)
        assert cbor.loads(nvs.values["locks"]) == {"console/owner": expected}


async def test_what_was_not_evaluated_for_want_of_memory_is_no_strike():
    from gatehouse import cbor

    nvs = provisioned()
    clock, auth = device(nvs)
    passwords = staying()
    real = passwords.evaluate

    async def no_room(store, user, text):
        raise MemoryError

    for level in range(6):
        passwords.evaluate = no_room
        await refused(auth, "memory")
        assert auth.lockouts() == ({"console/owner": [level, 0]} if level else {})
        assert cbor.loads(nvs.values["locks"] if level else b"\xa0") == ({"console/owner": level} if level else {})
        passwords.evaluate = real
        await refused(auth, "password")
        clock.step(auth.left("console/owner"))


async def test_no_two_are_evaluated_at_the_same_time():
    _clock, auth = device(provisioned())
    passwords = staying()
    real, running, most = passwords.evaluate, [], []

    async def counted(store, user, text):
        running.append(user)
        most.append(len(running))
        await asyncio.sleep_ms(2)
        found = await real(store, user, text)
        running.pop()
        return found

    passwords.evaluate = counted
    logins = [auth.login("https", user, "wrong password") for user in ("owner", "viewer", "operator", "service")]
    await asyncio.gather(*logins, return_exceptions=True)
    assert most == [1] * 4


async def test_the_delay_begins_after_the_evaluation_and_is_told():
    clock, auth = device(provisioned())
    told = []
    auth.on_change = lambda: told.append(auth.lockouts())

    async def slow(store, user, text):
        clock.step(5)
        return False, False

    staying().evaluate = slow
    for _ in range(4):
        assert not told
        await refused(auth, "password")
    assert auth.left("console/owner") == 2 and told == [{"console/owner": [4, 2]}]


async def test_two_at_once_are_not_more_tries_than_two():
    _clock, auth = device(provisioned())
    for _ in range(3):
        await refused(auth, "password")
    results = await asyncio.gather(
        *[auth.login("console", "owner", "wrong password") for _ in range(5)], return_exceptions=True
    )
    assert sorted(error.reason for error in results) == ["locked"] * 4 + ["password"]


async def test_interfaces_and_users_have_delays_of_their_own():
    _clock, auth = device(provisioned())
    for _ in range(4):
        await refused(auth, "password", "https")
    await refused(auth, "locked", "https", password=CHOSEN)
    await refused(auth, "password", "https", "viewer")
    await auth.login("console", "owner", CHOSEN)
    await refused(auth, "locked", "https", password=CHOSEN)


async def test_names_that_nobody_has_share_one_delay_and_take_no_room():
    _clock, auth = device(provisioned())
    for number in range(4):
        await refused(auth, "password", user="user%d" % number)
    await refused(auth, "locked", user="another")
    await refused(auth, "locked", user="?")
    assert list(auth.lockouts()) == ["console/?"]
    await auth.login("console", "owner", CHOSEN)


async def test_switched_off_by_the_policy():
    _clock, auth = device(provisioned(), lockout=(0, 2, 900, 0))
    for _ in range(20):
        await refused(auth, "password")
    assert "locks" not in auth.boot.store.values
    await auth.login("console", "owner", CHOSEN)
    _clock, auth = device(provisioned())
    for _ in range(4):
        await refused(auth, "password")
    await refused(auth, "locked", password=CHOSEN)
    auth.policy.lockout = [3, 2, 900, 0]
    await auth.login("console", "owner", CHOSEN)


async def test_unlock_ends_the_delays_of_one_user_everywhere():
    _clock, auth = device(provisioned())
    for interface in ("console", "https"):
        for user in ("owner", "viewer"):
            for _ in range(4):
                await refused(auth, "password", interface, user)
    assert auth.unlock("owner") and not auth.unlock("service")
    for interface in ("console", "https"):
        assert (await auth.login(interface, "owner", CHOSEN)).role == "owner"
        await refused(auth, "locked", interface, "viewer")
