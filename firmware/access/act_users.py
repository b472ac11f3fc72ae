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
    """The key that verifies this device's reports in this owner epoch: what a new owner gives to the own collector."""
    store = operations.boot.store
    return {"epoch": store.number("epoch"), "report_key": hexlify(store.derive("report")).decode()}
