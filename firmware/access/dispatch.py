"""A call of Operations.call() from its admission to its journal entry. Loaded for the call."""

import sys

from access import catalogue
from gatehouse import Refused

_ONCE = ("mqtt", "home-assistant")  # whose sessions are made for one call


async def call(operations, session, name, arguments):
    """See Operations.call()."""
    try:
        if session.interface not in _ONCE and not operations.auth.touch(session):
            raise Refused("session", "this session has ended: log in again")
        row = catalogue.admit(session, name)
        catalogue.check(row, arguments)
        return await _do(operations, session, row, arguments)
    except Refused as error:
        _note(operations, session, name if catalogue.find(name) else "", error.reason)
        raise


async def _do(operations, session, row, arguments):
    if row.alone:
        if operations.busy:
            raise Refused("busy", "another operation is under way")
        operations.busy = True
    try:
        module = "access." + row.module
        __import__(module)
        result = await getattr(sys.modules[module], row.name.replace(".", "_"))(operations, session, arguments)
    finally:
        if row.alone:
            operations.busy = False
    if row.changes:
        operations.boot.note("did", session.interface, session.user, row.name)
    return result


def _note(operations, session, name, reason):
    """Journal a refusal. `name` is empty for what is no operation: nobody writes texts of his own into the journal."""
    operations.refusals.tell(operations.boot.note, "denied", session.interface, session.user, name, reason)
