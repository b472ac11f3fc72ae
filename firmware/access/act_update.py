"""Operations on updates. None brings one: they say when an offer that waits, and that is signed, may be taken."""

from gatehouse import Refused, status


async def update_check(operations, session, values):
    """Have what waits looked at again: the state of the update."""
    operations.application.offers.soon()
    return _told(operations)


async def update_install(operations, session, values):
    """Allow what the policy holds back; ends a postponement."""
    application = operations.application
    if not application.installer.approve("install"):
        raise Refused("state", "no update waits here")
    application.postpone(0)
    return _told(operations)


async def update_postpone(operations, session, values):
    """Take no update for so many hours, or until the next start."""
    operations.application.postpone(values["hours"] * 3600)
    return {"until": status.uptime() + values["hours"] * 3600}


async def update_rollback(operations, session, values):
    """Allow the signed roll back that waits here under this sequence number. By itself nothing old has a way in."""
    application = operations.application
    state = application.installer.state
    waits = state["state"] in ("available", "downloaded") and state["sequence"] == values["sequence"]
    if not waits or not application.installer.approve("install"):
        raise Refused("state", "no signed roll back with this sequence number waits here")
    application.postpone(0)
    return _told(operations)


def _told(operations):
    state = operations.application.installer.state
    return {name: state[name] for name in ("state", "reason", "detail", "sequence", "done", "total")}
