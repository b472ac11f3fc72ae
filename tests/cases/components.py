"""Updates of configuration and trust anchors, and what else may travel with them."""

import random
from typing import Any

from cases import device, unpack
from gatehouse_tools import cbor, keys, suit

SEQUENCE, NOW = device.SEQUENCE + 1000, device.NOW


def store(version: int, entries: list[tuple[keys.Signer, list[int]]], **more: Any) -> bytes:
    """The payload of a trust store; more: _3 required, _4 keep, _5 TLS authorities, _6 dev."""
    rows = [{1: key.kid, 2: key.alg, 3: key.public, 4: roles} for key, roles in entries]
    return cbor.dumps({1: version, 2: rows, 5: [b"ca"]} | {int(name[1:]): value for name, value in more.items()})


def make(rng: random.Random) -> dict[str, Any]:
    product, new = device.Product(), device.Product()
    root, release, operator = product.root, product.release, product.operator
    files = device.tree(rng, "1.1.0")
    made = unpack.of_files(files)

    def app(**more: Any) -> suit.Component:
        return suit.Component("app", made["digest"], made["size"], "demo.pack", **more)

    def config(fields: dict[int, Any], sequence: int = SEQUENCE, *signers: keys.Signer, **more: Any) -> dict[str, Any]:
        component = suit.Component("config", payload=cbor.dumps(fields), **more)
        return envelope(product.sign(sequence, component, *(signers or (operator,))), sequence)

    def envelope(data: bytes, sequence: int) -> dict[str, Any]:
        return {
            "envelope": data,
            "sequence": sequence,
            "manifest": suit.parse(data).digest,
        }

    def trust(payload: bytes, *signers: keys.Signer, sequence: int = SEQUENCE) -> dict[str, Any]:
        component = suit.Component("trust", payload=payload)
        return envelope(product.sign(sequence, component, *(signers or (root,))), sequence)

    def both(fields: dict[int, Any], *signers: keys.Signer, sequence: int = SEQUENCE) -> dict[str, Any]:
        components = [app(), suit.Component("config", payload=cbor.dumps(fields))]
        data = suit.build_envelope(sequence, components, device.VENDOR, device.CLASS, signers or (release, operator))
        return envelope(data, sequence)

    first = product.app(device.tree(rng, "1.0.0"), device.SEQUENCE)
    factory = product.config({10: 77, 4: "http://factory.example/"})
    running = [(root, [1]), (release, [2]), (operator, [3])]
    changed = [(root, [1]), (new.release, [2]), (operator, [3])]
    rooted = [(new.root, [1]), (release, [2]), (operator, [3])]
    kept = [first["manifest"]]

    no_return = suit.release_manifest(SEQUENCE, [app()], device.VENDOR, device.CLASS)
    shared = list(no_return.shared or [])
    shared[3] = shared[3] | {-256: True}
    no_return.shared = shared
    alone = suit.release_manifest(
        SEQUENCE,
        [suit.Component("trust", payload=store(2, running)), suit.Component("config", payload=cbor.dumps({10: 5}))],
        device.VENDOR,
        device.CLASS,
    )
    offers = {
        "config": config({10: 88, 4: "http://new.example/"}),
        "config 2": config({10: 99, 4: "http://newer.example/"}, SEQUENCE + 10),
        "config out of bounds": config({10: 1}),
        "config unknown field": config({99: 1}),
        "config by the release key": config({10: 88}, SEQUENCE, release),
        "config by a stranger": config({10: 88}, SEQUENCE, new.operator),
        "config older": config({10: 88}, device.SEQUENCE - 1),
        "config that is the factory's age": config({10: 88}, device.SEQUENCE),
        "config with another payload": config({10: 88}, digest=bytes(32)),
        "both": both({10: 88}),
        "both, configuration out of bounds": both({10: 1}),
        "both by the release key": both({10: 88}, release),
        "both by the operator": both({10: 88}, operator),
        "app": envelope(product.sign(SEQUENCE, app(), release), SEQUENCE),
        "app, no return": envelope(suit.wrap(no_return.encode(), [release], members=no_return.members()), SEQUENCE),
        "app by the new key": envelope(product.sign(SEQUENCE + 50, app(), new.release), SEQUENCE + 50),
        "app by the old key, later": envelope(product.sign(SEQUENCE + 60, app(), release), SEQUENCE + 60),
        "app for another class": envelope(
            suit.build_envelope(SEQUENCE + 80, [app()], device.VENDOR, bytes(16), [release]), SEQUENCE + 80
        ),
        "app, expired": envelope(product.sign(SEQUENCE, app(use_before=NOW - 1), release), SEQUENCE),
        "app, expires": envelope(product.sign(SEQUENCE, app(use_before=NOW + 10), release), SEQUENCE),
        "app ahead of the clock": envelope(product.sign(NOW + 90000, app(), release), NOW + 90000),
        "trust: expires": envelope(
            product.sign(
                SEQUENCE,
                suit.Component("trust", payload=store(2, running), use_before=NOW + 10),
                root,
            ),
            SEQUENCE,
        ),
        "config that expires": config({10: 88}, SEQUENCE, use_before=NOW + 10),
        "updates off": config({13: False}, SEQUENCE + 1),
        "updates on": config({13: True}, SEQUENCE + 2),
        "manual": config({14: False, 15: False}, SEQUENCE + 1),
        "manual, not told": config({14: False, 16: False}, SEQUENCE + 1),
        "window": config({17: [(NOW // 60 + 10) % 1440, 5]}, SEQUENCE + 1),
        "trust: new release key": trust(store(2, changed, _4=kept)),
        "trust: new release key, strands": trust(store(2, changed)),
        "trust: another keep list": trust(store(2, changed, _4=[bytes(32)])),
        "trust: same version": trust(store(1, changed, _4=kept)),
        "trust: by the release key": trust(store(2, changed, _4=kept), release),
        "trust: by a stranger": trust(store(2, changed, _4=kept), new.root),
        "trust: new root, old signature only": trust(store(2, rooted)),
        "trust: new root, new signature only": trust(store(2, rooted), new.root),
        "trust: new root": trust(store(2, rooted), root, new.root),
        "trust: third, by the new root": trust(store(3, rooted), new.root, sequence=SEQUENCE + 5),
        "trust: third, by the old root": trust(store(3, running), root, sequence=SEQUENCE + 5),
        "trust: no operator": trust(store(2, running[:2])),
        "trust: no release key": trust(store(2, [running[0], running[2]], _4=kept)),
        "trust: a set that nobody can sign": trust(store(2, running, _3={"app": [[2, -9], [2, -46]]}, _4=kept)),
        "trust: no authority": trust(store(2, running, _5=[])),
        "trust: malformed": trust(cbor.dumps({1: 2, 2: []})),
        "trust: dev": trust(store(2, [*running, (new.release, [4])], _6=True)),
        "trust: dev key, not flagged": trust(store(2, [*running, (new.release, [4])])),
        "trust: new operator": trust(store(2, [(root, [1]), (release, [2]), (new.operator, [3])])),
        "trust with config": envelope(suit.wrap(alone.encode(), [root, operator], payloads={}), SEQUENCE),
    }
    return device.hexed(
        {
            "now": NOW,
            "pack": made["pack"],  # of every application here
            "nvs": device.nvs(product) | {"factory": suit.parse(factory).digest},
            "trust": product.trust(),
            "config": factory,
            "releases": {"1.0.0": first},
            "offers": offers,
        }
    )
