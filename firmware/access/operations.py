"""The one dispatcher: whatever asks this device to do something comes through Operations.call().

Small, because it stays in memory; the declarations (catalogue.py) and what they do (act_*.py) come and go.
"""

import gc

from access import passing
from gatehouse import Refused, status
from gatehouse.budget import Notes

_ACTS = ("catalogue", "act_look", "act_policy", "act_users", "act_update", "act_upload", "act_device", "dispatch")


class Operations:
    """Operations on one device, for sessions of any interface."""

    def __init__(self, boot, application, auth, policy):
        self.boot = boot
        self.application = application
        self.auth = auth
        self.policy = policy
        self.busy = False  # an operation that changes something runs
        self.refusals = Notes()
        self.task = None  # what goes on after its answer: a restart,
        self.light = None  # or a light that blinks
        self.repl_until = 0  # uptime at which the window of the REPL closes; 0 while there is none

    def repl_left(self):
        """Seconds for which the window of the REPL is open; 0 while it is closed."""
        return max(0, self.repl_until - status.uptime())

    async def call(self, session, name, arguments):
        """Do an operation: the result, a dict of plain values that JSON and CBOR can carry.

        `arguments` is a dict of plain values. Refused: "session" (it has ended), "operation" (unknown, or not on this
        interface), "denied" (role), "fresh" (the label password is not changed yet), "argument" (which, and its
        limits), "busy", or what the operation itself refuses.
        """
        from access import dispatch

        try:
            return await dispatch.call(self, session, name, arguments)
        except MemoryError:
            # Said as it is, and to the one who asked: it must not end the adapter, and with it the device.
            gc.collect()
            raise Refused("memory", "the heap has no room for this now")
        finally:
            del dispatch
            passing.forget(*_ACTS)


def table():
    """Every operation: (name, least role, interfaces, arguments as text). The text is described in catalogue.py."""
    return _ask("table")


def allowed(role, interface):
    """What a session of this role may call on this interface: [(name, arguments as text)]."""
    return _ask("allowed", role, interface)


def from_words(name, words):
    """The arguments of an operation from the words of a command line, in their declared order: a dict for call()."""
    return _ask("words", name, words)


def _ask(name, *arguments):
    from access import catalogue

    try:
        return getattr(catalogue, name)(*arguments)
    finally:
        del catalogue
        passing.forget("catalogue")
