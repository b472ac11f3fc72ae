"""The end of an owner: passwords back to the label, and with a new owner epoch the end of every key that was derived.

Loaded when it happens. Firmware, trust anchors, device key and certificate stay as they are.
"""

from gatehouse import status

_OWNERS = ("users", "locks", "tuned")  # NVS: passwords and thresholds
_CLIENTS = ("seen-viewer", "seen-operator", "seen-owner", "seen-service")  # names and counters of MQTT clients
_NETWORKS = ("wifi", "broker")  # NVS: credentials


def end(boot, why, networks=False):
    """Return to the label password and advance the owner epoch; with `networks` forget their credentials too.

    Each step can be repeated: who finds the old owner's password in force after a power cut does it again. The epoch
    goes first, because a key that is known elsewhere is worse than a password that has to be typed here.
    """
    store = boot.store
    boot.note(why)
    _turn(boot)
    store.put_number("epoch", store.number("epoch") + 1)
    status.forget_key()
    for key in _OWNERS + _CLIENTS + (_NETWORKS if networks else ()):
        store.remove(key)
    from access import passing, scrub

    scrub.scrub()
    del scrub
    passing.forget("scrub")
    boot.note("owner-epoch", store.number("epoch"))


def _turn(boot):
    """The journal's key changes too: a new segment begins, or the next boot would find its chain broken."""
    from gatehouse import journal, memory

    try:
        journal.turn(boot)
    except OSError as error:
        print("gatehouse: journal:", error)
    finally:
        del journal
        memory.unload("journal")
