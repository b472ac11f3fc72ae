"""Trust stores of the host's own making, some with HSS/LMS roots, and what the host says of them."""

import pathlib
import tempfile
from typing import Any

from cases import device
from gatehouse_tools import keys, lms_keys, suit, trust_store

H5 = lms_keys.Parameters(5, 4)


def make() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        lms = [lms_keys.generate(pathlib.Path(folder) / f"{n}.lms", H5) for n in range(2)]
        return device.hexed(_make(keys.generate(), keys.generate(), keys.generate(), keys.generate(), *lms))


def _make(
    root: keys.Signer,
    other: keys.Signer,
    release: keys.Signer,
    operator: keys.Signer,
    lms: keys.Signer,
    release_lms: keys.Signer,
) -> dict[str, Any]:
    both = {"app": [(2, -9), (2, -46)], "firmware": [(2, -9), (2, -46)]}
    hybrid = both | {"trust": [(1, -9), (1, -46)]}

    def store(*roots: keys.Signer, required: dict[str, Any] | None = None) -> trust_store.Store:
        roles = [
            *(("root", key) for key in roots),
            ("release", release),
            ("release", release_lms),
            ("operator", operator),
        ]
        entries = tuple(trust_store.Entry(str(n), key.key, (role,)) for n, (role, key) in enumerate(roles))
        return trust_store.Store(1, entries, required or {}, (b"k" * 32,), (b"ca",))

    stores = {
        "one ECDSA root": (store(root), [root]),
        "one LMS root": (store(lms), [lms]),
        "two roots, one signs": (store(root, lms), [lms]),
        "three roots": (store(other, root, lms), [root]),
        "hybrid release": (store(lms, required=both), [lms]),
        "hybrid root": (store(root, lms, required=hybrid), [lms, root]),
        "hybrid root, ECDSA alone": (store(root, lms, required=hybrid), [root]),
        "hybrid root, LMS alone": (store(root, lms, required=hybrid), [lms]),
        "by the release keys": (store(root, lms), [release, release_lms]),
    }
    rows = {}
    for name, (made, signers) in stores.items():
        component = suit.Component("trust", payload=made.payload())
        data = suit.build_envelope(device.SEQUENCE, [component], device.VENDOR, device.CLASS, signers)
        rows[name] = {"payload": made.payload(), "root": made.root_digest(), "envelope": data}
    app = suit.Component("app", bytes(32), 9, "x.pack")
    apps = {}
    for name, signers in (
        ("both", [release, release_lms]),
        ("both, the other way round", [release_lms, release]),
        ("ECDSA alone", [release]),
        ("LMS alone", [release_lms]),
        ("ECDSA and an LMS root", [release, lms]),
        ("ECDSA twice", [release, release]),
    ):
        apps[name] = suit.build_envelope(device.SEQUENCE, [app], device.VENDOR, device.CLASS, signers)
    return {"stores": rows, "apps": apps, "vendor": device.VENDOR, "class": device.CLASS}
