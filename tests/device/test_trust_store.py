"""Trust stores and hybrid releases as the host makes them: the device reads and judges them as the host says."""

from binascii import unhexlify

from fake_manifest import Device
from gatehouse import Refused, cbor, suit, trust
from harness import cases, raises

GOOD = ("one ECDSA root", "one LMS root", "two roots, one signs", "three roots", "hybrid release", "hybrid root")
REFUSED = {"hybrid root, ECDSA alone": "right", "hybrid root, LMS alone": "right", "by the release keys": "right"}


def device():
    found = Device()
    found.vendor_id = data(cases("trust_store")["vendor"])
    found.class_id = data(cases("trust_store")["class"])
    return found


def data(text):
    return unhexlify(text[4:])  # after "hex:"


def stores():
    for name, row in cases("trust_store")["stores"].items():
        yield name, data(row["payload"]), data(row["root"]), data(row["envelope"])


def test_root_digests_are_the_hosts():
    seen = []
    for name, payload, root, _ in stores():
        assert trust.root_digest(trust.parse(payload)) == root, name
        seen.append(root)
    assert len(set(seen)) == 5  # other roots, or another requirement for them, are another digest


def test_stores_open_under_their_own_root():
    for name, _, root, envelope in stores():
        if name in GOOD:
            assert trust.open_store(suit.Envelope(envelope), root, device()).version == 1, name
            with raises(Refused, "key"):
                trust.open_store(suit.Envelope(envelope), bytes(32), device())
        else:
            with raises(Refused, REFUSED[name]):
                trust.open_store(suit.Envelope(envelope), root, device())


def test_an_update_by_one_algorithm_is_refused_where_both_are_required():
    store = trust.parse(data(cases("trust_store")["stores"]["hybrid release"]["payload"]))
    for name, text in cases("trust_store")["apps"].items():
        signers = suit.Envelope(data(text)).authenticate(trust.keys(store))
        if name.startswith("both"):
            trust.check_right(store, "app", signers)
        else:
            with raises(Refused, "right"):
                trust.check_right(store, "app", signers)


def test_store_under_the_signature_of_another_is_refused():
    for name, payload, root, envelope in stores():
        if name not in GOOD:
            continue
        fields = cbor.loads(payload)
        fields[4] = fields.get(4, []) + [bytes(32)]  # the same roots, and a release that nobody signed may stay
        whole = cbor.loads(envelope)
        assert whole.value["#trust"] == payload
        whole.value["#trust"] = cbor.dumps(fields)
        assert trust.root_digest(trust.parse(whole.value["#trust"])) == root
        with raises(Refused, "digest"):
            trust.open_store(suit.Envelope(cbor.dumps(whole)), root, device())
        whole.value["#trust"] = payload
        assert trust.open_store(suit.Envelope(cbor.dumps(whole)), root, device()).version == 1
