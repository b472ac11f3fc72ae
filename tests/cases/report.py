"""What the host expects of a device's reports, made with cbor2 and cryptography alone."""

import ast
import hashlib
import re
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DEVICE_KEY = bytes(range(32))
FILES = {"cbor.mpy": b"M\x06" * 700, "__init__.mpy": b"", "Z.py": b"x = 1\n", "b\u00fc.mpy": b"\x00"}


def report_key(epoch):
    info = cbor2.dumps(["gatehouse/1", "report", "", "", epoch], canonical=True)
    return HKDF(hashes.SHA256(), 32, None, info).derive(DEVICE_KEY)


# The table of lib/gatehouse/outcome.py: reason -> (result code, the draft's reason).
_SOURCE = (Path(__file__).resolve().parents[2] / "lib" / "gatehouse" / "outcome.py").read_text()
_TABLE = re.findall(r"^REASONS = (\(.*?^\))", _SOURCE, re.MULTILINE | re.DOTALL)[0]
REASONS = {name: (place + 1, reason) for place, (name, reason) in enumerate(ast.literal_eval(_TABLE))}


def component(name, version, digest):
    return [295, cbor2.dumps({1: [name, [version, 16384]], 2: [1, digest]})]


def suit_report(update, kid=b"gh-1", key=None, **changes):
    """The bytes of the SUIT Report that belongs to `update` (private claim 8), or None. `changes`: r4=True, r99=..."""
    state, digest = update.get(1), update.get(3)
    code, reason = REASONS.get(update.get(2), (0, 11))
    if state in ("pending-reboot", "trial"):
        code, reason = 0, 12
    elif state not in ("confirmed", "refused", "failed", "rolled-back"):
        digest = None
    if not digest:
        return None
    result = True if state == "confirmed" else {5: code, 6: [[], 0, 0, 0, {}], 7: reason}
    found = {3: [], 4: result, 99: ["", [-16, digest]], **{int(name[1:]): value for name, value in changes.items()}}
    return mac0({label: value for label, value in found.items() if value is not None}, kid, key)


def mac0(content, kid=b"gh-1", key=None):
    payload = cbor2.dumps(content, canonical=True)
    state = hmac.HMAC(report_key(0) if key is None else key, hashes.SHA256())
    state.update(cbor2.dumps(["MAC0", b"\xa1\x01\x05", b"", payload]))
    return cbor2.dumps(cbor2.CBORTag(17, [b"\xa1\x01\x05", {4: kid}, payload, state.finalize()]))


def claims(number=1, boots=7, **changes):
    """Good claims of a device; `changes` are labels, such as c265="x" or p16=[1, 2], with None to leave one out."""
    private = {
        1: "a", 2: "active", 3: b"M" * 32, 4: 1000, 5: [0, 0], 6: {"app": [1000, 0]}, 7: 1, 8: {1: "idle"}, 10: [1],
        11: 1, 12: "1.0.0", 14: 50000, 15: 900000, 16: [boots, number], 17: [],
    }  # fmt: skip
    found = {
        6: 1_800_000_000, 256: b"\x01" + b"D" * 16, 258: b"V" * 16, 259: b"UNIX", 260: ["1"], 261: 12,
        265: "tag:gatehouse.example,2026:r1", 267: boots, 268: b"S" * 16, 270: "example",
        271: ["1.0.0", 16384], -70001: private,
        273: [component("example", "1.0.0", b"I" * 32), component("gatehouse", "1.0.0", b"C" * 32)],
    }  # fmt: skip
    for name, value in changes.items():
        target = found if name[0] == "c" else private
        if value is None:
            del target[int(name[1:])]
        else:
            target[int(name[1:])] = value
    return found


def sealed(claims, kid=b"gh-1", key=None, inner=None):
    """A report of these claims, with the SUIT Report of its update, or with `inner` in its place (b"": with none)."""
    if isinstance(claims, dict) and 273 in claims:
        told = suit_report(claims.get(-70001, {}).get(8) or {}, kid, key) if inner is None else inner
        if told:
            claims = claims | {273: claims[273] + [[270, told]]}
    return b"\xd8\x3d" + mac0(claims, kid, key)


def core_digest(files):
    """docs/report.md, "The digest of the core", written a second time."""
    state = hashlib.sha256()
    for name in sorted(files, key=str.encode):
        state.update(cbor2.dumps([name, len(files[name])]) + files[name])
    return state.digest()


def make():
    few = {-70001: {16: [7, 1]}, 265: "tag:gatehouse.example,2026:r1"}
    return {
        "device_key": DEVICE_KEY,
        "report_key": report_key(0),
        "sealed": [sealed(few, key=report_key(epoch)) for epoch in (0, 3)],
        "files": FILES,
        "core_digest": core_digest(FILES),
    }
