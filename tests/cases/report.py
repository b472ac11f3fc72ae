"""What the host expects of a device's reports, made with cbor2 and cryptography alone."""

import hashlib

import cbor2
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DEVICE_KEY = bytes(range(32))
FILES = {"cbor.mpy": b"M\x06" * 700, "__init__.mpy": b"", "Z.py": b"x = 1\n", "b\u00fc.mpy": b"\x00"}


def report_key(epoch):
    info = cbor2.dumps(["gatehouse/1", "report", "", "", epoch], canonical=True)
    return HKDF(hashes.SHA256(), 32, None, info).derive(DEVICE_KEY)


def sealed(claims, kid, epoch):
    payload = cbor2.dumps(claims, canonical=True)
    state = hmac.HMAC(report_key(epoch), hashes.SHA256())
    state.update(cbor2.dumps(["MAC0", b"\xa1\x01\x05", b"", payload]))
    message = cbor2.CBORTag(17, [b"\xa1\x01\x05", {4: kid}, payload, state.finalize()])
    return cbor2.dumps(cbor2.CBORTag(61, message))


def core_digest(files):
    """docs/report.md, "The digest of the core", written a second time."""
    state = hashlib.sha256()
    for name in sorted(files, key=str.encode):
        state.update(cbor2.dumps([name, len(files[name])]) + files[name])
    return state.digest()


def make():
    claims = {-70001: {16: [7, 1]}, 265: "tag:gatehouse.example,2026:report-1"}
    return {
        "device_key": DEVICE_KEY,
        "report_key": report_key(0),
        "sealed": [sealed(claims, b"gh-1", epoch) for epoch in (0, 3)],
        "files": FILES,
        "core_digest": core_digest(FILES),
    }
