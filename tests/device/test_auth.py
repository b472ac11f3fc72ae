"""Who comes in: the label password and its change, the rules of passwords, sessions and their ends."""

import fake_access as fake
from harness import raises

HEAP = "8M"  # compiled: modules come and go at each password
LABEL = "k7mq-x2pd-9wfh-rt4e"
CHOSEN = "correct horse battery"


def device(owner=CHOSEN, **config):
    """(clock, auth) of a device whose owner has chosen a password; owner=None: as it leaves the factory."""
    from access import auth, policy
    from gatehouse import cbor

    clock = fake.Clock()
    values = {"label": fake.label()}
    if owner:
        values["users"] = cbor.dumps({"owner": fake.verifier(owner)})
    boot = fake.Boot(fake.Nvs(values), **config)
    return clock, auth.Auth(boot, policy.Registry(boot))


def staying():
    """The modules of passwords, which from now on are not forgotten after each."""
    from access import passing, password

    passing.forget = lambda *names: None
    return password


# The label password.


async def test_at_birth_the_label_opens_to_nobody_but_the_owner():
    from gatehouse import Refused

    _clock, auth = device(None)
    assert auth.fresh()
    for user in ("viewer", "operator", "service", "root", "", "?", "Owner"):
        with raises(Refused, "password"):
            await auth.login("console", user, LABEL)
    session = await auth.login("console", "owner", LABEL)
    assert (session.role, session.user, session.interface, session.fresh) == ("owner", "owner", "console", True)


async def test_the_label_may_be_typed_without_hyphens_and_in_capitals():
    _clock, auth = device(None)
    for typed in (LABEL, LABEL.upper(), LABEL.replace("-", ""), LABEL.replace("-", " ")):
        assert (await auth.login("console", "owner", typed)).fresh
    from gatehouse import Refused

    for typed in (LABEL[:-1], LABEL + "e", LABEL.replace("k", "j"), ""):
        with raises(Refused, "password"):
            await auth.login("console", "owner", typed)


async def test_after_the_change_the_label_opens_nothing():
    from gatehouse import Refused

    _clock, auth = device(None)
    session = await auth.login("console", "owner", LABEL)
    await auth.change(session, LABEL, CHOSEN)
    assert not session.fresh and not auth.fresh()
    with raises(Refused, "password"):
        await auth.login("console", "owner", LABEL)
    again = await auth.login("console", "owner", CHOSEN)
    assert not again.fresh
    with raises(Refused, "password"):  # a chosen password is taken as it is
        await auth.login("console", "owner", CHOSEN.upper())


async def test_no_secret_is_kept_or_journaled():
    from gatehouse import Refused, cbor

    _clock, auth = device(None)
    session = await auth.login("console", "owner", LABEL)
    await auth.change(session, LABEL, CHOSEN)
    with raises(Refused, "password"):
        await auth.login("console", "owner", "wrong password")
    kept = repr(auth.boot.store.values) + repr(auth.boot.notes)
    for secret in (LABEL, LABEL.replace("-", ""), CHOSEN, "wrong password"):
        assert secret not in kept
    assert auth.boot.events("login") == [("console", "owner", 0)]
    assert auth.boot.events("password") == [("console", "owner", 0, 0)]
    salt, iterations, verifier = cbor.loads(auth.boot.store.values["users"])["owner"]
    assert (len(salt), iterations, len(verifier)) == (16, 10000, 32)
    assert verifier == fake.pbkdf2(CHOSEN.encode(), salt, iterations)


# Changing a password.


async def test_change_asks_for_the_old_password_and_the_third_wrong_one_ends_the_session():
    from gatehouse import Refused

    _clock, auth = device()
    session = await auth.login("https", "owner", CHOSEN)
    for _ in range(2):
        with raises(Refused, "password"):
            await auth.change(session, "not the old one", "another password")
    assert auth.touch(session)
    await auth.change(session, CHOSEN, "another password")
    for _ in range(3):
        assert auth.touch(session), "what was right has cleared the count"
        with raises(Refused, "password"):
            await auth.change(session, CHOSEN, "a third password")
    assert not auth.touch(session)
    assert (await auth.login("https", "owner", "another password")).role == "owner"


async def test_strangers_do_not_keep_an_open_session_from_its_password():
    from gatehouse import Refused

    _clock, auth = device(None)
    session = await auth.login("https", "owner", LABEL)
    for _ in range(4):
        with raises(Refused, "password"):
            await auth.login("https", "owner", "a guess")
    with raises(Refused, "locked"):
        await auth.login("https", "owner", LABEL)
    await auth.change(session, LABEL, CHOSEN)
    assert not session.fresh and not auth.fresh()


async def test_strangers_do_not_lock_a_browser_out_that_has_been_here():
    from gatehouse import Refused

    clock, auth = device()
    for _ in range(20):
        with raises(Refused, "password"):
            await auth.login("https", "owner", "a guess")
        clock.step(auth.left("https/owner"))
    with raises(Refused, "password"):
        await auth.login("https", "owner", "a guess")
    with raises(Refused, "locked"):
        await auth.login("https", "owner", CHOSEN)
    session = await auth.login("https", "owner", CHOSEN, True)
    assert session.interface == "https"
    for _ in range(4):  # it has delays of its own
        with raises(Refused, "password"):
            await auth.login("https", "owner", "a guess", True)
    with raises(Refused, "locked"):
        await auth.login("https", "owner", CHOSEN, True)
    assert sorted(auth.lockouts()) == ["https-known/owner", "https/owner"]
    assert auth.unlock("owner") and auth.lockouts() == {}


async def test_a_change_ends_the_other_sessions_of_the_user():
    _clock, auth = device()
    mine, other = await auth.login("console", "owner", CHOSEN), await auth.login("https", "owner", CHOSEN)
    await auth.set_password("viewer", "a viewer's password")
    viewer = await auth.login("https", "viewer", "a viewer's password")
    await auth.change(mine, CHOSEN, "another password")
    assert auth.touch(mine) and auth.touch(viewer) and not auth.touch(other)
    await auth.set_password("viewer", "a viewer's new password")
    assert auth.touch(mine) and not auth.touch(viewer)


GOOD = (
    "12345678x",
    "correct horse battery staple",
    "aaaaaaab",
    "ÄÖÜäöüßé",
    "x" * 63 + "y",
    "8 spaces",
    "owner and more",
)
BAD = ("", "1234567", "x" * 63 + "yz", "password", "PassWord1", "aaaaaaaa", "12345678", "87654321", "abcdefghij",
       "1234567890", "my owner", "gatehouse", LABEL, LABEL.upper(), "k7mqx2pd9wfhrt4e", None, 12345678)  # fmt: skip


async def test_rules_of_a_new_password():
    from gatehouse import Refused

    _clock, auth = device()
    session = await auth.login("console", "owner", CHOSEN)
    before = CHOSEN
    for new in BAD:
        with raises(Refused, "argument"):
            await auth.change(session, before, new)
    for new in GOOD:
        await auth.change(session, before, new)
        before = new
    assert (await auth.login("console", "owner", before)).role == "owner"


async def test_a_user_without_a_password_takes_as_long_as_one_with():
    from gatehouse import Refused, cbor

    _clock, auth = device()
    await auth.set_password("viewer", "a viewer's password")
    passwords = staying()
    spent = []
    real = passwords.pbkdf2.derive

    async def counted(password, salt, iterations):
        spent.append(iterations)
        return await real(password, salt, iterations)

    passwords.pbkdf2.derive = counted
    for user in ("viewer", "operator", "nobody"):
        with raises(Refused, "password") as caught:
            await auth.login("console", user, "wrong password")
        assert caught.value.detail == "wrong user or password"
    assert spent == [10000] * 3
    assert set(cbor.loads(auth.boot.store.values["users"])) == {"owner", "viewer"}


async def test_verifiers_are_compared_in_constant_time():
    from gatehouse import mac

    _clock, auth = device()
    compared = []
    real, mac.equal = mac.equal, lambda a, b: compared.append(len(a)) or real(a, b)
    await auth.login("console", "owner", CHOSEN)
    assert compared == [32]


async def test_the_count_of_an_older_verifier_still_holds():
    from gatehouse import cbor

    _clock, auth = device()
    for iterations in (1, 7, 1000):
        auth.boot.store.values["users"] = cbor.dumps({"owner": fake.verifier("another password", iterations)})
        assert (await auth.login("console", "owner", "another password")).role == "owner"


async def test_damaged_passwords_open_nothing():
    from gatehouse import Refused

    _clock, auth = device()
    for damage in (b"\xa1\x65owner", b"\x80", b"\xff"):
        auth.boot.store.values["users"] = damage
        with raises(Refused, "state"):  # never back to the label by itself
            await auth.login("console", "owner", LABEL)
        auth.unlock("owner")


async def test_a_heap_without_room_is_told_and_lets_nobody_in():
    from gatehouse import Refused

    _clock, auth = device()

    async def no_room(*arguments):
        raise MemoryError

    passwords = staying()
    real, passwords.evaluate = passwords.evaluate, no_room
    with raises(Refused, "memory"):
        await auth.login("console", "owner", CHOSEN)
    assert not auth.sessions()
    passwords.evaluate = real
    await auth.login("console", "owner", CHOSEN)


# Sessions.


async def test_session_ends_when_it_is_idle():
    clock, auth = device()
    session = await auth.login("console", "owner", CHOSEN)
    for _ in range(5):
        clock.step(299)
        assert auth.touch(session)
    clock.step(300)
    assert not auth.touch(session) and not auth.sessions()


async def test_session_ends_after_its_absolute_time_however_busy():
    clock, auth = device()
    session = await auth.login("console", "owner", CHOSEN)
    for _ in range(3599 // 100):
        clock.step(100)
        assert auth.touch(session)
    clock.step(99)
    assert auth.touch(session)
    clock.step(1)
    assert not auth.touch(session)


async def test_at_most_so_many_sessions_and_a_user_pushes_out_the_own_ones_first():
    clock, auth = device()
    await auth.set_password("viewer", "a viewer's password")
    owner = await auth.login("https", "owner", CHOSEN)
    viewers = []
    for _ in range(6):
        clock.step(1)
        viewers.append(await auth.login("https", "viewer", "a viewer's password"))
        assert len(auth.sessions()) <= 4
    assert auth.touch(owner), "logging in again and again ends nobody else's session"
    assert [auth.touch(one) for one in viewers] == [False] * 3 + [True] * 3
    for _ in range(4):
        clock.step(1)
        await auth.login("https", "owner", CHOSEN)
    assert auth.touch(viewers[-1]), "nor does the owner, who has one of his own to end"


async def test_a_full_house_lets_the_owner_in():
    _clock, auth = device(session=(300, 3600, 1))
    await auth.set_password("viewer", "a viewer's password")
    viewer = await auth.login("https", "viewer", "a viewer's password")
    owner = await auth.login("console", "owner", CHOSEN)
    assert auth.touch(owner) and not auth.touch(viewer)


async def test_nobody_is_put_out_for_a_lesser_user():
    from gatehouse import Refused

    _clock, auth = device(session=(300, 3600, 1))
    await auth.set_password("viewer", "a viewer's password")
    owner = await auth.login("console", "owner", CHOSEN)
    with raises(Refused, "busy"):
        await auth.login("https", "viewer", "a viewer's password")
    assert auth.touch(owner) and auth.lockouts() == {}
    auth.logout(owner)
    assert (await auth.login("https", "viewer", "a viewer's password")).role == "viewer"


def work(name, auth, session):
    """Something that takes a while."""
    if name == "change":
        return auth.change(session, CHOSEN, "the former owner's")
    if name == "set_password":
        return auth.set_password("operator", "the former owner's")
    return auth.login("https", "owner", CHOSEN)


async def slow():
    """(auth, an open session of its owner), where each password takes many turns of the loop."""
    from gatehouse import cbor

    _clock, auth = device()
    auth.boot.store.values["users"] = cbor.dumps({"owner": fake.verifier(CHOSEN, 3000)})
    return auth, await auth.login("https", "owner", CHOSEN)


async def test_what_is_under_way_when_an_ownership_ends_leaves_nothing_in_the_next():
    import asyncio

    from gatehouse import Refused

    for name in ("login", "change", "set_password", "two logins"):
        auth, session = await slow()
        tasks = [asyncio.create_task(work(name, auth, session)) for _ in range(2 if name == "two logins" else 1)]
        for _ in range(3):
            await asyncio.sleep_ms(0)
        assert not tasks[-1].done()
        auth.reset()
        auth.boot.store.remove("users")
        for task in tasks:
            with raises(Refused, "session"):
                await task
        assert auth.boot.store.blob("users") is None and not auth.sessions(), name
        with raises(Refused, "session"):  # until the restart, which comes at once
            await auth.login("console", "owner", LABEL)
        auth, session = await slow()  # the same without an end
        await work(name, auth, session)


async def test_after_the_end_of_an_ownership_no_password_is_evaluated():
    from gatehouse import Refused

    evaluated = []
    passwords = staying()
    real = passwords.evaluate

    async def counted(*arguments):
        evaluated.append(arguments)
        return await real(*arguments)

    passwords.evaluate = counted
    _clock, auth = device()
    await auth.login("console", "owner", CHOSEN)
    assert len(evaluated) == 1
    auth.reset()
    with raises(Refused, "session"):
        await auth.login("console", "owner", CHOSEN)
    assert len(evaluated) == 1


async def test_logout_and_sessions_that_nobody_made():
    from access.auth import Session

    _clock, auth = device()
    session = await auth.login("console", "owner", CHOSEN)
    assert auth.touch(session)
    auth.logout(session)
    auth.logout(session)
    assert not auth.touch(session)
    assert not auth.touch(Session("owner", "owner", "console"))
