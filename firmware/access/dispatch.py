"""A call of Operations.call() from its admission to its journal entry. Loaded for the call."""

import sys

from access import catalogue
from gatehouse import Refused

_NOTES = 8  # refusals in a boot that are journaled one by one, then every sixteenth: a flood must not push others out
_EVERY = 16


async def call(operations, session, name, arguments):
    """See Operations.call()."""
    try:
        if session.interface != "mqtt" and not operations.auth.touch(session):
            raise Refused("session", "this session has ended: log in again")
        row = catalogue.admit(session, name)
        catalogue.check(row, arguments)
        return await _do(operations, session, row, arguments)
    except Refused as error:
        _note(operations, session, name if catalogue.find(name) else "", error.reason)
        raise


async def _do(operations, session, row, arguments):
    if row.changes:
        if operations.busy:
            raise Refused("busy", "another operation is under way")
        operations.busy = True
    try:
        module = "access." + row.module
        __import__(module)
        result = await getattr(sys.modules[module], row.name.replace(".", "_"))(operations, session, arguments)
    finally:
        if row.changes:
            operations.busy = False
    if row.changes:
        operations.boot.note("did", session.interface, session.user, row.name)
    return result


def _note(operations, session, name, reason):
    """Journal a refusal. `name` is empty for what is no operation: nobody writes texts of his own into the journal."""
    operations.refusals += 1
    if operations.refusals <= _NOTES or operations.refusals % _EVERY == 0:
        operations.boot.note("denied", session.interface, session.user, name, reason, operations.refusals)
