"""Operations that show something and change nothing. Each is a function of its name, with "_" for "."."""

from binascii import hexlify

from access import operations as dispatcher
from gatehouse import cbor, status


async def help(operations, session, values):
    """What this session may do here: {name: arguments}."""
    return {"operations": dict(dispatcher.allowed(session.role, session.interface))}


async def logout(operations, session, values):
    """End the session."""
    operations.auth.logout(session)
    return {}


async def state(operations, session, values):
    """What the device is, runs and lacks."""
    return operations.application.reporter.facts()


async def sensor(operations, session, values):
    """The last reading."""
    return operations.application.reporter.measured()


async def interfaces(operations, session, values):
    """Every interface: what is wanted, what is active (None: cannot be asked), whether they agree."""
    return {
        row[0]: {"wanted": row[1], "active": row[2], "agrees": row[3], "detail": row[4]}
        for row in operations.policy.rows()
    }


async def update_status(operations, session, values):
    """How far an update is, and what became of the last one."""
    state = operations.application.installer.state
    return {name: state[name] for name in ("state", "reason", "detail", "sequence", "done", "total")}


async def config_show(operations, session, values):
    """The configuration in force, and what was tuned within it. It holds no secrets."""
    found = {}
    for name, value in operations.boot.config.__dict__.items():
        found[name] = list(value) if isinstance(value, tuple) else value
    for name in ("interfaces", "lockout", "session"):
        found[name] = list(getattr(operations.policy, name))
    found["generation"] = operations.boot.generation
    return found


async def journal(operations, session, values):
    """Entries from a number on, the newest ones by default: [number, time, boot, event, details..., tag]."""
    from gatehouse import journal as log
    from gatehouse import memory

    count, first = values.get("count", 8), values.get("from")
    found = []
    try:
        for segment in log.segments():
            for entry, tag, _ in log.entries(segment):
                item = cbor.loads(entry)
                if first is not None and item[0] < first:
                    continue
                if len(found) == count:
                    if first is not None:
                        return {"entries": found}
                    found.pop(0)
                found.append([hexlify(one).decode() if isinstance(one, bytes) else one for one in item + [tag]])
    finally:
        del log
        memory.unload("journal")
    return {"entries": found, "uptime": status.uptime()}
