"""The report that the core can make alone: what this device is, what it runs, and what happened to it.

An Entity Attestation Token (RFC 9711) in a CBOR Web Token with COSE_Mac0. docs/report.md explains it,
docs/report.cddl is its exact form. Only this module and the application's `report` write state. It must stay loaded:
one report key, counter and measurement for each boot.
"""

import gc
import os
import time

from micropython import const

import gatehouse
from gatehouse import cbor, mac, memory

PROFILE = "tag:gatehouse.example,2026:r1"

# Claims of RFC 8392 and RFC 9711.
_IAT = const(6)
_NONCE = const(10)
_UEID = const(256)
_OEMID = const(258)
_HWMODEL = const(259)
_HWVERSION = const(260)
_UPTIME = const(261)
_OEMBOOT = const(262)
DBGSTAT = const(263)
_EAT_PROFILE = const(265)
_BOOTCOUNT = const(267)
_BOOTSEED = const(268)
_SWNAME = const(270)
_SWVERSION = const(271)
_MANIFESTS = const(272)
_MEASUREMENTS = const(273)
_MEASRES = const(274)
_INTUSE = const(275)
PRIVATE = const(-70001)  # Gatehouse's own map; private use is what lies below -65536 (RFC 8392 section 9.1)

_RANDOM = b"\x01"  # the type byte of a random UEID, RFC 9711 section 4.2.1
_SEMVER = const(16384)  # version schemes, RFC 9393
_MEASURED_COMPONENT = const(295)  # content format application/measured-component+cbor, RFC 10013
_SUIT_REPORT = const(270)  # application/suit-report+cose
_COSWID = const(258)  # application/swid+cbor, RFC 9393
_GENERIC = const(1)  # intended use: no other of RFC 9711 section 4.3.3 is a state report's
_GOOD, _BAD = const(1), const(2)  # results of a comparison, RFC 9711 section 4.2.17
_NOT_RUN, _ABSENT = const(3), const(4)

# Keys of the private map. 32 and up belong to the application.
_SLOT = const(1)
_MODE = const(2)
_MANIFEST = const(3)
_SEQUENCE = const(4)
_RECORD = const(5)
_FLOORS = const(6)
_CAUSE = const(7)
_UPDATE = const(8)
_REFUSED = const(9)
_CONFIG = const(10)
_TRUST = const(11)
_CORE = const(12)
_HEAP = const(14)
_FLASH = const(15)
_COUNTER = const(16)
HEALTH = const(17)
_FAILURE = const(18)
_JOURNAL = const(19)
POLICY = const(20)
_FUSES = const(21)

_MAX_DETAIL = const(96)  # characters of a free text: a report stays within one TLS record of the link
_LEAST_NONCE, _MOST_NONCE = const(8), const(64)  # bytes, RFC 9711 section 4.1
_ASKED = const(4)  # verifiers that wait at once; who finds no room asks again
_AGAIN_MS = const(10000)  # a nonce has the slot measured anew, but a flood of them does not keep the device busy

_key = None
_core = None  # the measured component of the core; b"" where it is frozen
_component = None  # the measured component of the running slot
_tag = b""  # what its maker says of it, a CoSWID tag
_result = _GOOD  # of the last comparison of the slot with its index; boot made the first
_compared_ms = -_AGAIN_MS  # uptime at which a nonce had it compared anew
_fuses = None  # what measure.fuses() found
_outcome = None  # the SUIT Report of the last update, and what it was made of
_made_of = None
_asked = []  # nonces that no report has answered yet, oldest first
_sent = 0  # reports sealed in this boot
_uptime_ms = 0
_seen_ms = time.ticks_ms()


def uptime_ms():
    """Milliseconds since this module was loaded. Call it at least once in six days, or a wrap of the ticks is lost."""
    global _uptime_ms, _seen_ms
    now = time.ticks_ms()
    _uptime_ms += time.ticks_diff(now, _seen_ms)
    _seen_ms = now
    return _uptime_ms


def uptime():
    """The same in seconds."""
    return uptime_ms() // 1000


def ask(nonce):
    """Have a coming report answer a verifier's nonce (8 to 64 bytes, or it is none). Whether one will."""
    if not _LEAST_NONCE <= len(nonce) <= _MOST_NONCE:
        return False
    nonce = bytes(nonce)
    if nonce not in _asked and len(_asked) < _ASKED:
        _asked.append(nonce)
    return nonce in _asked


def asked():
    """The nonce that has waited longest for its answer, or None."""
    return _asked[0] if _asked else None


def answered(nonce):
    """The broker has the report that answers `nonce`. Whether another one waits."""
    if nonce in _asked:
        _asked.remove(nonce)
    return bool(_asked)


def forget_key():
    """Have the next report made under a new key: the owner epoch has moved."""
    global _key
    _key = None


def _report_key(boot):
    global _key
    if _key is None:
        _key = boot.store.derive("report")
    return _key


def _told(boot, state):
    """The SUIT Report of the last update, or None; made anew only when there is another one to tell."""
    global _outcome, _made_of
    about = _report_key(boot), state["state"], state["reason"], state["digest"], state.get("at")
    if _made_of != about:
        _outcome = memory.call("outcome", "report", about[0], boot.identity.id.encode(), state)
        _made_of = about
    return _outcome


def _measure_again(boot, installer):
    """Compare the running slot with its index now, unless that was just done or an update needs the memory."""
    global _component, _result, _compared_ms
    if installer and installer.state["state"] in ("downloading", "installing"):
        return
    now = uptime_ms()
    if now - _compared_ms >= _AGAIN_MS:
        _compared_ms = now
        try:
            _result, _component = memory.call("measure", "again", boot.release, boot.feed, _component)
        except MemoryError:
            _result = _BAD if _result == _BAD else _NOT_RUN  # a later one may find room


def claims(boot, installer=None, nonce=None):
    """The claims of a report, {label: value} as in docs/report.cddl, by slots.current with an identity.

    `nonce`: 8 to 64 bytes that a verifier sent. OSError when the running slot cannot be read.
    """
    global _core, _component, _fuses, _tag
    identity = boot.identity
    found = {
        _UEID: _RANDOM + identity.device_id,
        _OEMID: identity.vendor_id,
        _HWMODEL: identity.model.encode(),
        _HWVERSION: [identity.hardware],
        _UPTIME: uptime(),
        _EAT_PROFILE: PROFILE,
        _BOOTCOUNT: boot.boot_count,
        _BOOTSEED: boot.seed,
        _INTUSE: _GENERIC,
    }
    now = boot.now()
    if now is not None:
        found[_IAT] = now
    if nonce is not None:
        found[_NONCE] = nonce
    release = boot.release
    if release:
        if _component is None:
            _component, _tag = memory.call("measure", "component", release), memory.call("measure", "tag", release)
        if nonce is not None:
            _measure_again(boot, installer)
        found[_SWNAME] = release.name
        found[_SWVERSION] = [release.version, _SEMVER]
        if _tag:
            found[_MANIFESTS] = [[_COSWID, _tag]]
    found[_MEASRES] = [["gatehouse", [["app", _result if release else _ABSENT]]]]
    if _fuses is None:
        _core, _fuses = memory.call("measure", "core"), memory.call("measure", "fuses", identity.fuses)
    measured = [[_MEASURED_COMPONENT, item] for item in (release and _component, _core) if item]
    told = installer and _told(boot, installer.state)
    measured += [[_SUIT_REPORT, told]] if told else []
    if measured:
        found[_MEASUREMENTS] = measured
    if _fuses[1] is not None:
        found[_OEMBOOT] = _fuses[1] and not _core  # what lies in the file system is not what secure boot has checked
    if _fuses[2] is not None and _fuses[3] is not None:
        found[DBGSTAT] = 0 if _fuses[2] or _fuses[3] else 1
    found[PRIVATE] = _private(boot, installer, now)
    return found


def _private(boot, installer, now):
    release, record = boot.release, boot.record
    health = []
    if boot.mode == "recovery":
        health.append("recovery")
    if boot.failure:
        health.append("boot:" + boot.failure.reason)
    if now is None:
        health.append("clock")
    if boot.trust and boot.trust.dev:
        health.append("dev")
    if release and _result == _BAD:
        health.append("slot")
    install, lowest = record.floors[1], record.floors[2]
    floors = {name: [install.get(name, (0,))[0], lowest.get(name, 0)] for name in set(install) | set(lowest)}
    gc.collect()
    space = os.statvfs("/")
    found = {
        _SLOT: release and release.slot,
        _MODE: boot.mode,
        _MANIFEST: release and release.digest,
        _SEQUENCE: release and release.sequence,
        _RECORD: [record.tries, record.quiet],
        _FLOORS: floors,
        _CAUSE: boot.cause,
        _CONFIG: [release.config if release else 1],
        _TRUST: boot.trust and boot.trust.version,
        _CORE: gatehouse.VERSION,
        _HEAP: gc.mem_free(),
        _FLASH: space[0] * space[3],
        HEALTH: health,
        POLICY: boot.config and _policy(boot.config),
        _FUSES: {1: _fuses[0], 2: _fuses[1], 3: _fuses[2], 4: _fuses[3]},
    }
    if boot.journal:  # as journal.py keeps it: number and tag of the last entry, and the number that is acknowledged
        found[_JOURNAL] = [boot.journal[2], boot.journal[3], boot.journal[5]]
    if boot.failure:
        found[_FAILURE] = str(boot.failure)[:_MAX_DETAIL]
    if installer:
        found[_UPDATE] = _update(installer.state)
        if installer.refused:
            found[_REFUSED] = _refusal(installer.refused)
    return found


def _policy(config):
    found = {1: config.updates, 2: config.auto_download, 3: config.auto_install, 4: config.notify}
    if config.window:
        found[5] = list(config.window)
    return found


def _update(state):
    found = {1: state["state"]}
    if state["reason"]:
        found[2] = state["reason"]
    if state["digest"]:
        found[3] = state["digest"]
        found[4] = state["sequence"]
    if state["detail"]:
        found[5] = state["detail"][:_MAX_DETAIL]
    if state["total"]:
        found[6] = [state["done"], state["total"]]
    return found


def _refusal(refused):
    found = {1: refused["reason"], 3: refused["digest"], 4: refused["sequence"], 6: refused["count"]}
    if refused["detail"]:
        found[5] = refused["detail"][:_MAX_DETAIL]
    return found


def seal(boot, found):
    """A report from its claims: CWT (tag 61) around COSE_Mac0, `bytes`. Its key is for reports only.

    Sets the counter: [boot count, number in this boot]; the boot count was stored before this boot did anything.
    """
    global _sent
    _sent += 1
    found[PRIVATE][_COUNTER] = [boot.boot_count, _sent]
    return mac.CWT + mac.mac0(_report_key(boot), boot.identity.id.encode(), cbor.dumps(found))
