"""Operations on passwords and keys."""

from binascii import hexlify


async def password_change(operations, session, values):
    """Change one's own password; the other sessions of this user end."""
    await operations.auth.change(session, values["old"], values["new"])
    operations.application.changed.set()
    return {}


async def user_password(operations, session, values):
    """Set the password of another user, who can come in from now on."""
    await operations.auth.set_password(values["user"], values["new"])
    return {}


async def user_unlock(operations, session, values):
    """End the delays of a user."""
    ended = operations.auth.unlock(values["user"])
    operations.application.changed.set()
    return {"unlocked": ended}


async def keys(operations, session, values):
    """What verifies reports and journal in this owner epoch: a new owner gives it to the own collector."""
    store = operations.boot.store
    found = {"epoch": store.number("epoch")}
    for purpose in ("report", "journal"):
        found[purpose + "_key"] = hexlify(store.derive(purpose)).decode()
    return found
