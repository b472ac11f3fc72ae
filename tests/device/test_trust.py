"""Trust stores and configuration: what is refused, each with its honest twin."""

import hashlib

from gatehouse import Refused, cbor, config, trust
from harness import raises


def key(public, roles, alg=-9, kid=None):
    return {1: kid or hashlib.sha256(public).digest()[:8], 2: alg, 3: public, 4: roles}


ROOT, RELEASE, SECOND, OPERATOR = (bytes([number]) * 64 for number in range(1, 5))
KEYS = [key(ROOT, [1]), key(RELEASE, [2]), key(SECOND, [2]), key(OPERATOR, [3])]

MANY = [key(bytes([number]) * 64, [1]) for number in range(1, 10)]


def store(**changes):
    fields = {1: 1, 2: KEYS}
    for name, value in changes.items():
        fields[int(name[1:])] = value
    return trust.parse(cbor.dumps(fields))


def signers(found, *publics):
    return [item for item in trust.keys(found) if item.public in publics]


def test_store_is_read():
    found = store(_5=[b"der"], _6=True)
    assert (found.version, len(found.keys), found.tls, found.dev) == (1, 4, [b"der"], True)


def test_malformed_stores_are_refused():
    store(_2=MANY[:8], _3={"app": [[2, 0], [2, -9]]}, _4=[b"digest"] * 16, _5=[b"der"] * 4)
    for changes in (
        {"_1": "1"},
        {"_2": []},
        {"_2": MANY},
        {"_2": KEYS + KEYS[1:2]},  # or one key would stand for two
        {"_2": [key(ROOT, [1], kid=b"12345678")]},  # a key id that is not the key's
        {"_2": [key(ROOT[:63], [1])]},
        {"_2": [key(ROOT, [1], alg=-7)]},
        {"_2": [key(ROOT, 1)]},
        {"_2": [{1: b"x"}]},
        {"_2": 7},
        {"_3": {"app": []}},  # an empty list is nobody's right, and must not read as everybody's
        {"_3": {"app": [[2]]}},
        {"_3": {"app": [[4, 0]]}},
        {"_3": {"app": [[2, 5]]}},
        {"_4": [b"digest"] * 17},
        {"_5": [b"der"] * 5},
        {"_7": 1},
    ):
        with raises(Refused, "format"):
            store(**changes)
    for data in (b"", b"\xa0", b"\x80", b"\xff", cbor.dumps({1: 1, 2: KEYS})[:-1]):
        with raises(Refused, "format"):
            trust.parse(data)


def test_default_rights():
    found = store()
    allowed = {"app": RELEASE, "firmware": RELEASE, "config": OPERATOR, "trust": ROOT}
    for component, right in allowed.items():
        for public in (ROOT, RELEASE, OPERATOR):
            if public == right:
                trust.check_right(found, component, signers(found, public))
            else:
                with raises(Refused, "right"):
                    trust.check_right(found, component, signers(found, public))
        with raises(Refused, "right"):
            trust.check_right(found, component, [])
        trust.check_right(found, component, signers(found, ROOT, RELEASE, OPERATOR))
    with raises(Refused, "component"):
        trust.check_right(found, "bootloader", signers(found, ROOT, RELEASE))


def test_two_keys_must_be_two_keys():
    found = store(_3={"app": [[2, -9], [2, 0]]})
    trust.check_right(found, "app", signers(found, RELEASE, SECOND))
    for publics in ((RELEASE,), (SECOND,), (RELEASE, OPERATOR)):
        with raises(Refused, "right"):
            trust.check_right(found, "app", signers(found, *publics))
    twice = signers(found, RELEASE) * 2
    with raises(Refused, "right"):
        trust.check_right(found, "app", twice)


def test_key_of_a_developer_counts_only_where_the_store_says_so():
    dev = bytes([9]) * 64
    for required in ({}, {"app": [[2, -9], [2, 0]]}):
        found = store(_2=KEYS + [key(dev, [4])], _3=required, _6=True)
        trust.check_right(found, "app", signers(found, dev))
        for component in ("firmware", "config", "trust"):
            with raises(Refused, "right"):
                trust.check_right(found, component, signers(found, dev))
        found.dev = False
        with raises(Refused, "right"):
            trust.check_right(found, "app", signers(found, dev))
    found = store(_6=True)
    with raises(Refused, "right"):
        trust.check_right(found, "app", signers(found, OPERATOR))


def test_algorithm_of_a_required_key():
    found = store(_3={"app": [[2, -46]]})
    with raises(Refused, "right"):
        trust.check_right(found, "app", signers(found, RELEASE, SECOND))
    found = store(_3={"app": [[2, -9]]})
    trust.check_right(found, "app", signers(found, RELEASE))


class Named:
    """A manifest, as far as its components go."""

    def __init__(self, *components):
        self.components = list(components)


def test_component_names():
    assert trust.names(Named([b"firmware"], [b"app"], [b"config"])) == ["firmware", "app", "config"]
    assert trust.names(Named([b"trust"])) == ["trust"]
    for bad in (Named([]), Named([b"app", b"x"]), Named([b"\xff\xfe"]), Named([b"trust"], [b"app"])):
        with raises(Refused, "component"):
            trust.names(bad)


def test_configuration_bounds():
    found = config.parse(cbor.dumps({1: "broker.example", 2: 8883, 3: False, 7: ["all"], 10: 60}))
    assert (found.broker, found.port, found.tls, found.groups, found.trial_s) == (
        "broker.example",
        8883,
        False,
        ["all"],
        60,
    )
    assert config.parse().watchdog_ms == 30000
    for fields in (
        {2: 0},
        {2: 65536},
        {2: True},
        {3: 1},
        {1: ""},
        {1: "x" * 129},
        {1: b"bytes"},
        {7: ["a/b"]},
        {7: ["#"]},
        {7: [""]},
        {7: ["a"] * 5},
        {7: "all"},
        {8: 4},
        {10: 4},
        {11: 100},
        {99: 1},
        {"broker": "x"},
    ):
        with raises(Refused, "format"):
            config.parse(cbor.dumps(fields))
    for data in (b"", b"\x80", b"\xa0\x00"):
        with raises(Refused, "format"):
            config.parse(data)
