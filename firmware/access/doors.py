"""Opens the interfaces that the policy wants, closes the others, and keeps it so."""

import asyncio
import gc
import sys
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from access import auth as auths
from access import operations as dispatcher
from access import passing, policy
from gatehouse.memory import spare

_LOOK_MS = const(10000)  # between looks at what is really active
_START_MS = const(50)  # the station comes up in the first turns of the loop: no disagreement to be told
# Bytes that must be free: 10 KB stay, 56 KB serve a request. An open door that is deaf helps nobody.
_HTTPS = const(67584)
_ROOM_MS = const(10000)  # before a door is tried again that found no room: it asks for that before it takes any
_REST_MS = const(60000)  # before one that gave up: it has loaded all that it needs, and thrown it away
_SETTLE_MS = const(1000)  # after a change of the policy: its answer goes out before its interface closes


class Access:
    """What an application has of it: `registry`, `auth`, `operations`.

    `remote` and `home` are there while MQTT commands and Home Assistant are served.
    """

    def __init__(self, boot, application):
        self.registry = policy.Registry(boot)
        self.auth = auths.Auth(boot, self.registry, application.changed.set)
        self.operations = dispatcher.Operations(boot, application, self.auth, self.registry)
        self.remote = self.home = None


def _able(boot):
    """The interfaces that this firmware can serve on this board. Each adapter adds its own."""
    able = {"uart", "mqtt-commands", "home-assistant", "https"}
    if boot.identity.button is not None:
        able.add("reset-button")
    return able


async def _serve(name, boot, application, access, opened):
    """Serve one interface; for ever. The adapter is imported here, only when it is wanted. opened() is called once."""
    if name != "https":
        opened()
    if name == "uart":
        from access import knock

        await knock.serve(access)
    elif name == "https":
        spare(_HTTPS)  # before anything of it is loaded: what is left after a failed try is missing elsewhere
        from access import http

        await http.run(boot, access.operations, access.auth, application, opened)
    elif name == "reset-button":
        from access import presence

        await presence.watch(boot, access.auth)
        presence = None
        passing.forget("presence")
        await asyncio.Event().wait()  # open, and nothing more to be done until the next start
    elif name == "mqtt-commands":
        from access import remote

        access.remote = remote.Remote(boot, access.operations)
        try:
            await access.remote.run(application.link)
        finally:
            access.remote = None
    elif name == "home-assistant":
        import homeassistant

        access.home = homeassistant.Home(boot, application)
        try:
            await access.home.run()
        finally:
            access.home = None


async def _retired(boot, application):
    """Whether nothing is left at the broker of a Home Assistant that the policy no longer opens."""
    import announce

    try:
        return await announce.retire(boot, application.link)
    finally:
        del announce
        sys.modules.pop("announce", None)


async def _watched(name, boot, application, access):
    """Serve one interface; its end is looked at at once. Returns for how long (ms) it stays closed, where it has to."""
    registry = access.registry

    def opened():
        if name not in registry.serving:
            registry.serving.add(name)
            registry.changed.set()

    try:
        await _serve(name, boot, application, access, opened)
    except MemoryError:
        print("gatehouse: no room in the heap for", name)
        gc.collect()
        return _ROOM_MS
    finally:
        registry.changed.set()
    return _REST_MS


async def run(boot, application):
    """Serve what the policy wants, switch off what it does not; for ever. An error in an adapter ends it."""
    access = application.access
    registry = access.registry
    registry.able = _able(boot)
    tasks, rests = {}, {}
    failed = set()  # doors that the next try may not open either: not said to be open before they are
    retired = not boot.store.number("ha")  # of announce.py: most devices never met a Home Assistant
    await asyncio.sleep_ms(_START_MS)
    while True:
        for name in registry.able:
            if name in rests and (not registry.wants(name) or ticks_diff(ticks_ms(), rests[name]) >= 0):
                del rests[name]
            if not registry.wants(name):
                failed.discard(name)
            if registry.wants(name) and name not in tasks and name not in rests:
                tasks[name] = asyncio.create_task(_watched(name, boot, application, access))
                if name not in failed:
                    registry.serving.add(name)
            elif name in tasks and not registry.wants(name):
                tasks.pop(name).cancel()
                registry.serving.discard(name)
        if registry.wants("home-assistant"):
            retired = False
        elif not retired:  # closed by a configuration, which restarts, or by an operation
            retired = await _retired(boot, application)
        if registry.enforce():
            application.changed.set()
        changed = await _wait(registry.changed)
        for name in list(tasks):
            if tasks[name].done():
                rest = await tasks.pop(name)  # raises what ended it: a part that died silently would look healthy
                rests[name] = ticks_add(ticks_ms(), rest)
                registry.serving.discard(name)
                failed.add(name)
        if changed:
            await asyncio.sleep_ms(_SETTLE_MS)


async def _wait(event):
    """Wait for a change, at most until the next look. Whether there was one."""
    try:
        await asyncio.wait_for_ms(event.wait(), _LOOK_MS)
    except asyncio.TimeoutError:
        return False
    event.clear()
    return True
