"""An offer that the application leaves to the core alone, and what is remembered when that could not install it."""

from micropython import const

from gatehouse import Refused, record, status

_AGAIN_S = const(3600)  # the application runs so long before the core alone tries again what it could not install


def leave(boot, data, digest, sequence, passing):
    """Leave an admitted envelope with this manifest digest and sequence number to the next boot. Whether that was done.

    passing: the reasons that may pass with time. Not done where the core alone has tried this manifest: what was its
    own fault, or does not even fit alone, stays so; the rest is tried again once the application has had its time.
    """
    state, reason, known = (boot.record.outcome or ("", None, b""))[:3]
    if boot.mode != "active":
        return False
    if known == digest and state in ("failed", "refused"):
        if reason == "memory" or reason not in passing or status.uptime() < _AGAIN_S:
            return False
    kept = boot.record.outcome, boot.record.quiet
    try:
        record.save(record.OFFER, data)
        # That holds until the core alone says otherwise: should it crash, it must not be left to it again at once.
        boot.record.outcome = ["failed", "state", digest, sequence]
        boot.record.quiet = 0  # it reached the broker, and the boot that installs runs no release to show health
        boot.record.save()
    except (MemoryError, OSError, Refused):
        boot.record.outcome, boot.record.quiet = kept
        return False
    return True


def give_up(boot, state, reason, digest, sequence):
    """Remember that the core alone could not install a manifest: the next boot must not leave it to it at once."""
    boot.record.outcome = [state, reason, digest, sequence]
    try:
        boot.record.save()
    except (MemoryError, OSError, Refused) as error:
        print("gatehouse: boot record:", error)
