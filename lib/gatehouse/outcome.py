"""What became of the last update as a SUIT Report (draft-ietf-suit-report-22): a member of a report's `measurements`.

Needed when there is a new outcome to tell; unloaded in between. docs/report.md says what stands in it.
"""

from micropython import const

from gatehouse import cbor, mac

# Labels of the draft's SUIT_Report.
_RECORDS = const(3)
_RESULT = const(4)
_CODE = const(5)
_RECORD = const(6)
_REASON = const(7)
_REFERENCE = const(99)

_SHA256 = const(-16)  # COSE algorithm
_FAILED = const(11)  # "a command failed": also what a code that is not below would be
_PENDING = const(12)  # an invocation whose outcome nobody knows yet
_FAILURES = ("refused", "failed", "rolled-back")

# A code of gatehouse/reasons.py and the draft's reason for it: 1 parser, 4 signature, 5 command, 6 component unknown,
# 7 component not for this signer, 10 condition, 11 operation. In the order of reasons.py: its place is the result code.
# fmt: off
REASONS = (
    ("format", 1), ("unsupported", 5), ("key", 4), ("signature", 4), ("right", 7), ("sequence", 10), ("vendor", 10),
    ("class", 10), ("device", 10), ("digest", 10), ("size", 10), ("expired", 10), ("clock", 10), ("slot", 10),
    ("condition", 10), ("component", 6), ("path", 11), ("module", 11), ("extraneous", 11), ("core", 10), ("mpy", 10),
    ("full", 11), ("http", 11), ("timeout", 11), ("network", 11), ("tls", 11), ("memory", 11), ("strands", 10),
    ("dev", 10), ("disabled", 10), ("health", 11), ("failed-before", 10), ("busy", 11), ("state", 11),
)
# fmt: on

# Where a command of a manifest stands: the key of its sequence, of `common` for the shared one.
SECTIONS = {"shared": 3, "validate": 7, "load": 8, "invoke": 9, "payload-fetch": 16, "install": 20}


def report(key, kid, state):
    """The COSE_Mac0 around the SUIT Report of `state`, Installer.state, as bytes; None where there is nothing to tell.

    No report: no update is over or about to be invoked, or its envelope could not be read, so that it has no digest.
    It has no nonce: it travels inside a report that has one. The reference's URI is "" as releases have none.
    """
    name, digest = state["state"], state["digest"]
    if name == "confirmed":
        result = True
    elif name in ("pending-reboot", "trial"):
        result = _map(0, None, _PENDING)
    elif name in _FAILURES:
        result = _failure(state["reason"], state.get("at"))
    else:
        return None
    if not digest:
        return None
    return mac.mac0(key, kid, cbor.dumps({_REFERENCE: ["", [_SHA256, digest]], _RECORDS: [], _RESULT: result}))


def _failure(reason, at):
    for place, (code, found) in enumerate(REASONS):
        if code == reason:
            return _map(place + 1, at, found)
    return _map(0, at, _FAILED)


def _map(code, at, reason):
    """A result that is no success. `at`: Manifest.where(), or None where no command was running.

    The draft wants a record in any case. Section 0 is none ("unset" in SUIT's registry): the rest of it means nothing.
    """
    section, offset, index = at or (None, 0, 0)
    return {_CODE: code, _RECORD: [[], SECTIONS.get(section, 0), offset, index, {}], _REASON: reason}
