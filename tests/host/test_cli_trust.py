"""`gatehouse trust` and hybrid releases: rotation, revocation, what strands devices, what fits an envelope."""

import hashlib
import json

import cbor2
import pytest
import shop

from gatehouse_tools import build, ca, keys, lms_keys, product, publish, releases, suit, trust_store
from gatehouse_tools.errors import GatehouseError

ESP256, LMS = -9, -46


def call(item, *words):
    return shop.run("trust", *words, "--product", item.root)


def following(item, *words):
    """The next version, made by the command: its facts."""
    done = call(item, "next", *words, "--json")
    assert done.code == 0, done.err
    return done.json


def envelope(item, version):
    return (item.dist / f"trust-unix-{version}.suit").read_bytes()


def payload(item, version):
    return cbor2.loads(suit.parse(envelope(item, version)).payloads["#trust"])


def signed_by(item, version):
    """Names of the keys that signed a version, among all that there ever were."""
    known: dict[str, keys.PublicKey] = {}
    for store in trust_store.history(item):
        known |= store.named()
    signers = suit.verify(envelope(item, version), known.values())
    return sorted(name for name, key in known.items() if key in signers)


@pytest.fixture
def item(tmp_path):
    return shop.make(tmp_path / "shop")


@pytest.fixture
def hybrid(tmp_path):
    return shop.make(tmp_path / "shop", root="ecdsa lms", release="ecdsa lms")


# The store and its digest.


def test_the_first_store_is_the_keys_of_init(item):
    store = trust_store.current(item)
    assert [(entry.name, entry.roles, entry.file) for entry in store.entries] == [
        (role, (role,), f"keys/{role}.pem") for role in product.ROLES
    ]
    assert (store.version, store.required, store.keep) == (1, {}, ())
    assert store.tls == (ca.der(ca.load_certificate(item.ca / "ca.pem")),)
    assert not (item.root / "trust.json").exists()
    assert store.root_digest() == hashlib.sha256(item.signer("root").public).digest()


def test_root_digest():
    one, two = b"\x02" * 64, b"\x01" * 60
    needs = [(1, -9), (1, -46)]
    assert trust_store.root_digest([one]) == hashlib.sha256(one).digest()
    assert (
        trust_store.root_digest([one, two]) == trust_store.root_digest([two, one]) == hashlib.sha256(two + one).digest()
    )
    wanted = hashlib.sha256(two + one + bytes.fromhex("8282012882 01382d".replace(" ", ""))).digest()
    assert trust_store.root_digest([one, two], needs) == wanted
    assert trust_store.root_digest([one], []) == trust_store.root_digest([one], None)


def test_a_role_of_both_algorithms_requires_both(hybrid):
    store = trust_store.current(hybrid)
    assert list(store.named()) == ["root", "root-lms", "release", "release-lms", "operator"]
    both = {role: [(number, ESP256), (number, LMS)] for role, number in (("root", 1), ("release", 2))}
    assert store.required == {"trust": both["root"], "app": both["release"], "firmware": both["release"]}
    fields = cbor2.loads(store.payload())
    assert fields[3] == {"app": [[2, -9], [2, -46]], "firmware": [[2, -9], [2, -46]], "trust": [[1, -9], [1, -46]]}
    assert [len(row[3]) for row in fields[2]] == [64, 60, 64, 60, 64]
    assert trust_store.parse(store.payload()).payload() == store.payload()


def test_both_signers_and_one_signer(hybrid):
    store, held = trust_store.current(hybrid), hybrid.public_keys()
    assert store.chosen("app", [held["release"], held["release-lms"]])
    for too_few in ([held["release"]], [held["release-lms"]], [held["release"], held["root-lms"]], []):
        assert store.chosen("app", too_few) is None
    two = tuple(trust_store.Entry(str(n), keys.generate().key, ("release",)) for n in range(2))
    assert trust_store.Store(1, two, {"app": [(2, ESP256), (2, LMS)]}).chosen("app", [one.key for one in two]) is None
    assert trust_store.Store(1, two, {"app": [(2, ESP256), (2, 0)]}).chosen("app", [one.key for one in two])
    assert store.chosen("config", [held["operator"]]) and store.chosen("config", [held["root"]]) is None
    with pytest.raises(GatehouseError, match="nobody may write"):
        store.needs("bootloader")


def test_a_key_of_two_roles_is_one_key():
    key = keys.generate().key
    twice = (trust_store.Entry("a", key, ("release",)), trust_store.Entry("b", key, ("release",)))
    store = trust_store.Store(1, twice, {"app": [(2, 0), (2, 0)]})
    assert store.chosen("app", [key]) is None
    other = trust_store.Entry("c", keys.generate().key, ("release",))
    assert trust_store.Store(1, (*twice, other), store.required).chosen("app", [key, other.key])


# A store for development.


def test_a_store_for_development(hybrid):
    assert following(hybrid, "--dev", "--new-key", "dev")["dev"] is True
    assert (payload(hybrid, 2)[6], payload(hybrid, 2)[2][-1][4]) == (True, [4])
    store = trust_store.current(hybrid)
    assert store.dev and trust_store.parse(store.payload()).payload() == store.payload()
    [dev] = [entry.key for entry in store.of_role("dev")]
    assert [entry.key for entry in store.chosen("app", [dev]) or []] == [dev]
    assert not any(store.chosen(component, [dev]) for component in ("firmware", "config", "trust"))
    assert store.chosen("app", [entry.key for entry in store.of_role("release")])
    assert following(hybrid, "--no-dev", "--revoke", "dev-2")["dev"] is False
    assert 6 not in payload(hybrid, 3)


def test_a_key_for_development_is_refused_where_it_would_sign_nothing(item):
    call(item, "next", "--new-key", "dev").refused(1, "signs nothing in a store that is not flagged dev", "strands")
    following(item, "--dev", "--new-key", "dev")
    told = ("signs nothing in a store that is not flagged dev", "--revoke dev-2", "strands")
    call(item, "next", "--no-dev").refused(1, *told)
    call(item, "next", "--dev").refused(2, "nothing would change")
    call(item, "next", "--require", "app=dev:any").refused(2, "roles root, release, operator")


# Hybrid products.


def test_a_hybrid_release_is_signed_by_both_and_fits(hybrid):
    made = shop.release(hybrid, "1.0.0")
    data = made.envelope.read_bytes()
    assert [key.alg for key in made.signers] == [ESP256, LMS]
    assert suit.verify(data, hybrid.public_keys().values()) == made.signers
    assert hybrid.releases()[0]["signers"] == [key.kid.hex() for key in made.signers]
    h10 = len(data) - shop.H5.signature_size + lms_keys.DEFAULT.signature_size
    assert h10 < 3200
    assert releases.load(hybrid, hybrid.board()).digest == made.digest
    done = shop.run("inspect", made.envelope, "--product", hybrid.root)
    assert done.code == 0, done.out
    assert "ESP256, key id" in done.out and "verified, by release\n" in done.out
    assert "HSS/LMS, key id" in done.out and "verified, by release-lms" in done.out


def test_one_signature_of_two_is_refused_on_the_way_out(hybrid, monkeypatch):
    good = shop.release(hybrid, "1.0.0")
    assert publish.check(hybrid, good.envelope, []).problems == []
    done = shop.run("release", "--version", "1.1.0", "--key", hybrid.keys / "release.pem", "--product", hybrid.root)
    assert done.code == 0 and "devices ask for release:ecdsa+release:lms and will refuse" in done.err
    for problem in publish.check(hybrid, hybrid.dist / "shop-1.1.0.suit", []).problems:
        assert (problem.reason, "release:ecdsa+release:lms" in str(problem)) == ("right", True)
    assert publish.check(hybrid, hybrid.dist / "shop-1.1.0.suit", []).problems
    with pytest.raises(GatehouseError, match="release:ecdsa\\+release:lms"):
        releases.load(hybrid, hybrid.board())
    inspected = shop.run("inspect", hybrid.dist / "shop-1.1.0.suit", "--product", hybrid.root)
    assert inspected.code == 1 and "takes all of release:ecdsa+release:lms" in inspected.err + inspected.out
    both = ("--key", hybrid.keys / "release.pem", "--key", hybrid.keys / "release.lms")
    done = shop.run("release", "--version", "1.2.0", *both, "--product", hybrid.root)
    assert (done.code, done.err) == (0, "") and publish.check(
        hybrid, hybrid.dist / "shop-1.2.0.suit", []
    ).problems == []


def test_a_device_of_a_hybrid_product(hybrid):
    shop.release(hybrid, "1.0.0")
    done = shop.run("provision", "--id", "gh-1", "--product", hybrid.root)
    assert done.code == 0, done.err
    facts = json.loads((hybrid.devices / "gh-1" / "device.json").read_text())
    store = trust_store.current(hybrid)
    assert facts["root_keys"] == [entry.key.kid.hex() for entry in store.of_role("root")]
    assert facts["trust_version"] == 1 and signed_by(hybrid, 1) == ["root", "root-lms"]
    done = shop.run("inspect", hybrid.devices / "gh-1" / "flash.bin", "--product", hybrid.root)
    assert done.code == 0, done.out + done.err
    assert "requires" in done.out and "trust: root:ecdsa+root:lms" in done.out


def test_a_device_whose_store_one_root_signed(hybrid):
    """inspect judges the files of a device by what its trust store requires."""
    from gatehouse_tools import inspect_files, inspect_flash

    shop.release(hybrid, "1.0.0")
    data = trust_store.signed(hybrid, hybrid.board())
    store = trust_store.current(hybrid)
    kind = hybrid.class_id(hybrid.board()).bytes
    component = suit.Component("trust", payload=store.payload())
    one = suit.build_envelope(9, [component], hybrid.vendor_id.bytes, kind, [hybrid.signer("root")])
    found = inspect_files.Finding("flash image")
    digest = store.root_digest()
    for pinned in (digest, bytes(32) + digest, digest + bytes(32)):
        opened = inspect_flash._anchors(found, {"/state/trust.suit": data}, {"root": pinned})
        assert opened.payload() == store.payload()
    for envelope, pinned, reason in ((one, digest, "right"), (data, bytes(32), "key"), (data, bytes(64), "key")):
        with pytest.raises(GatehouseError) as caught:
            inspect_flash._anchors(found, {"/state/trust.suit": envelope}, {"root": pinned})
        assert caught.value.reason == reason
    app = suit.Component("app", bytes(32), 9, "x.pack")
    for signers, good in ((hybrid.signers("release"), True), (hybrid.signers("release")[:1], False)):
        release = suit.build_envelope(9, [app], hybrid.vendor_id.bytes, kind, signers)
        if good:
            inspect_flash._signed(release, opened, "app")
        else:
            with pytest.raises(GatehouseError, match="release:ecdsa"):
                inspect_flash._signed(release, opened, "app")


def test_the_signed_store_is_kept(hybrid):
    """One leaf a board, not one a device."""
    shop.release(hybrid, "1.0.0")
    before = hybrid.signers("root")[1].remaining()
    for number in range(3):
        assert shop.run("provision", "--id", f"gh-{number}", "--product", hybrid.root).code == 0
    assert hybrid.signers("root")[1].remaining() == before - 1


def test_init_makes_what_it_is_told(tmp_path):
    done = shop.run("init", tmp_path / "a", "--root", "both", "--release", "lms", "--lms", "h5/w8/m24", "--json")
    assert list(done.json["keys"]) == ["root", "root-lms", "release", "operator"]
    item = product.Product(tmp_path / "a")
    assert [signer.alg for signer in item.signers("root")] == [ESP256, LMS]
    assert [(signer.alg, len(signer.public)) for signer in item.signers("release")] == [(LMS, 52)]
    assert item.signer("operator").alg == ESP256
    shop.run("init", tmp_path / "b", "--lms", "H9/W4").refused(2, "LMS set 'H9/W4'")
    shop.run("init", tmp_path / "b", "--root", "rsa").refused(2, "--root")
    assert not (tmp_path / "b").exists()


# The next version.


def test_a_release_key_is_rotated(item):
    shop.release(item, "1.0.0")
    old = item.signer("release")
    facts = following(item, "--new-key", "release", "--revoke", "release", "--keep", item.dist / "shop-1.0.0.suit")
    assert facts["version"] == 2 and signed_by(item, 2) == ["root"]
    new = item.signer("release")
    assert new.public != old.public and (item.keys / "release-2.pem").exists()
    store = payload(item, 2)
    assert (store[1], store[4]) == (2, [bytes.fromhex(item.releases()[0]["digest"])])
    assert old.public not in [row[3] for row in store[2]] and new.public in [row[3] for row in store[2]]
    made = shop.release(item, "1.1.0")
    assert made.signers == [new.key]
    assert publish.check(item, made.envelope, []).problems == []
    stolen = build.release(item, made.built, "1.1.1", signers=[old])
    assert [error.reason for error in publish.check(item, stolen.envelope, []).problems] == ["key"]


def test_a_root_key_is_rotated_and_both_sign(tmp_path):
    item = shop.make(tmp_path / "shop", root="lms")
    following(item, "--new-key", "root", "--lms", "H5/W4", "--revoke", "root")
    assert signed_by(item, 2) == ["root", "root-2"]
    assert item.signer("root").alg == LMS and len(payload(item, 2)[2]) == 3
    # The next one needs the new root alone, and the private half of the old one can be gone.
    (item.keys / "root.lms").unlink()
    following(item, "--require", "config=operator:ecdsa")
    assert signed_by(item, 3) == ["root-2"]
    assert payload(item, 3)[3] == {"config": [[3, -9]]}
    for version in (1, 2, 3):
        if version > 1:
            assert publish.check(item, item.dist / f"trust-unix-{version}.suit", []).problems == []


def test_a_hybrid_root_is_rotated_within_an_envelope(hybrid):
    following(
        hybrid,
        *("--new-key", "root:ecdsa", "--new-key", "root:lms", "--revoke", "root", "--revoke", "root-lms"),
        "--lms",
        "H5/W4",
    )
    assert signed_by(hybrid, 2) == ["root", "root-2", "root-3", "root-lms"]
    data = envelope(hybrid, 2)
    grown = len(data) + 2 * (lms_keys.DEFAULT.signature_size - shop.H5.signature_size)
    assert grown < publish.MAX_ENVELOPE  # with the default set H10/W4


def test_four_lms_blocks_need_short_signatures(tmp_path):
    for name, width, code in (("a", "W4", 1), ("b", "W8", 0)):
        item = shop.make(tmp_path / name)
        two = ("--new-key", "root:lms", "--new-key", "root:lms", "--lms", f"H5/{width}")
        following(item, *two, "--revoke", "root", "--require", "trust=root:lms+root:lms")
        done = call(item, "next", *two, "--revoke", "root-2", "--revoke", "root-3")
        assert done.code == code, done.err
        if code:
            done.refused(1, "larger than the 8192 bytes", "W8")
            assert len(trust_store.history(item)) == 2
        else:
            assert len(envelope(item, 3)) < publish.MAX_ENVELOPE and len(signed_by(item, 3)) == 4


def test_more_than_four_blocks_are_refused(item):
    following(item, "--new-key", "root", "--new-key", "root", "--require", "trust=root:any+root:any+root:any")
    call(item, "next", "--new-key", "root", "--new-key", "root").refused(1, "5 root keys would have to sign", "strands")
    assert len(trust_store.history(item)) == 2
    following(item, "--new-key", "root")


def test_since_satisfies_older_versions(item):
    following(item, "--new-key", "root", "--revoke", "root")
    following(item, "--new-key", "root", "--revoke", "root-2")
    following(item, "--new-key", "operator", "--since", "1")
    assert signed_by(item, 4) == ["root", "root-2", "root-3"]
    following(item, "--new-key", "operator")
    assert signed_by(item, 5) == ["root-3"]


def test_keys_from_elsewhere(item, tmp_path):
    lms_keys.generate(tmp_path / "vault.lms", shop.H5)
    keys.save(keys.generate(), tmp_path / "second.pem")
    public = lms_keys.public_path(tmp_path / "vault.lms")
    # A new root has to sign itself: its public half alone does not do.
    call(item, "next", "--add-key", public, "--role", "root").refused(1, "is not known here", "key")
    facts = following(
        item,
        "--add-key",
        tmp_path / "vault.lms",
        "--role",
        "root",
        "--add-key",
        tmp_path / "second.pem",
        "--role",
        "operator",
    )
    assert [one["name"] for one in facts["keys"]] == ["root", "release", "operator", "vault", "second"]
    assert signed_by(item, 2) == ["root", "vault"]
    call(item, "next", "--add-key", tmp_path / "vault.lms", "--role", "root").refused(2, "in the trust store already")
    # A release key whose private half never comes here.
    lms_keys.generate(tmp_path / "line.lms", shop.H5)
    facts = following(item, "--add-key", lms_keys.public_path(tmp_path / "line.lms"), "--role", "release")
    assert facts["keys"][-1]["here"] is False
    assert [signer.alg for signer in item.signers("release")] == [ESP256]


def test_authorities(item, tmp_path):
    other = shop.make(tmp_path / "other")
    following(item, "--ca", other.ca / "ca.pem")
    assert payload(item, 2)[5] == [ca.der(ca.load_certificate(one.ca / "ca.pem")) for one in (item, other)]
    call(item, "next", "--ca", other.ca / "ca.pem").refused(2, "nothing would change")


def test_a_new_device_starts_with_the_newest_store(tmp_path):
    item = shop.make(tmp_path / "shop", root="lms")
    shop.release(item, "1.0.0")
    following(item, "--new-key", "root:ecdsa", "--revoke", "root")
    assert shop.run("provision", "--id", "gh-1", "--product", item.root).code == 0
    facts = json.loads((item.devices / "gh-1" / "device.json").read_text())
    assert (facts["trust_version"], facts["root_keys"]) == (2, [item.signer("root").kid.hex()])
    assert shop.run("inspect", item.devices / "gh-1" / "flash.bin", "--product", item.root).code == 0
    # dist/ is lost, and the old root with it: new devices need the new one alone, old ones must not be offered that.
    (item.dist / "trust-unix-2.suit").unlink()
    (item.keys / "root.lms").unlink()
    assert shop.run("provision", "--id", "gh-2", "--product", item.root).code == 0
    assert signed_by(item, 2) == ["root-2"]
    problems = publish.check(item, item.dist / "trust-unix-2.suit", []).problems
    assert [error.reason for error in problems] == ["key"]


def test_what_lies_in_dist_is_checked(hybrid):
    shop.release(hybrid, "1.0.0")
    path = hybrid.dist / "trust-unix-1.suit"
    good = trust_store.signed(hybrid, hybrid.board())
    assert path.read_bytes() == good == trust_store.signed(hybrid, hybrid.board())
    kind = hybrid.class_id(hybrid.board()).bytes
    other = trust_store.new_version(trust_store.current(hybrid)).payload()
    roots = hybrid.signers("root")
    for payload, signers in ((other, roots), (trust_store.current(hybrid).payload(), roots[:1])):
        component = suit.Component("trust", payload=payload)
        path.write_bytes(suit.build_envelope(9, [component], hybrid.vendor_id.bytes, kind, signers))
        trust_store.signed(hybrid, hybrid.board())
        assert signed_by(hybrid, 1) == ["root", "root-lms"]
        assert suit.parse(path.read_bytes()).payloads["#trust"] == trust_store.current(hybrid).payload()
    path.write_bytes(good[:-20])
    trust_store.signed(hybrid, hybrid.board())
    assert signed_by(hybrid, 1) == ["root", "root-lms"]


def test_a_kept_release_goes_into_new_devices(item):
    shop.release(item, "1.0.0")
    following(item, "--new-key", "release", "--revoke", "release", "--keep", item.dist / "shop-1.0.0.suit")
    assert shop.run("provision", "--id", "gh-1", "--product", item.root).code == 0
    assert shop.run("inspect", item.devices / "gh-1" / "flash.bin", "--product", item.root).code == 0


# What would strand devices.


STRANDS = {
    "no release key": (["--revoke", "release"], "no keys could ever sign app again"),
    "no operator key": (["--revoke", "operator"], "no keys could ever sign config again"),
    "the last root": (["--revoke", "root"], "no keys could ever sign trust again"),
    "a requirement nobody meets": (["--require", "trust=root:ecdsa+root:lms"], "no keys could ever sign trust again"),
    "the newest release": (["--revoke", "release", "--new-key", "release"], "--keep dist/shop-1.0.0.suit"),
    "a new requirement": (
        ["--require", "app=release:lms", "--new-key", "release:lms", "--lms", "H5/W4"],
        "--keep dist/",
    ),
    "nine keys": (["--new-key", "operator"] * 6, "9 keys, and a device takes 8"),
}


@pytest.mark.parametrize("name", STRANDS)
def test_what_strands_devices_is_refused(item, name):
    shop.release(item, "1.0.0")
    before = sorted(item.keys.iterdir())
    words, told = STRANDS[name]
    done = call(item, "next", *words)
    assert done.code == 1 and told in done.err and "[strands]" in done.err, done.err
    assert sorted(item.keys.iterdir()) == before and len(trust_store.history(item)) == 1
    assert not list(item.dist.glob("trust-*"))


def test_a_revoked_operator_key_is_warned_about(item):
    done = call(item, "next", "--new-key", "operator", "--revoke", "operator")
    assert done.code == 0 and "warning: devices whose configuration operator key operator" in done.err
    assert "warning" not in call(item, "next", "--new-key", "operator").err


def test_force_makes_it_and_says_so(item):
    shop.release(item, "1.0.0")
    done = call(item, "next", "--revoke", "release", "--new-key", "release", "--force")
    assert done.code == 0 and "STRANDS DEVICES: the newest release" in done.err
    assert payload(item, 2)[1] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing would change"),
        (["--revoke", "nobody"], "names no key(s); keys: root "),
        (["--revoke", ""], "names no key(s)"),
        (["--new-key", "boss"], "--new-key 'boss'"),
        (["--new-key", "root:rsa"], "--new-key 'root:rsa'"),
        (["--keep", "00"], "neither 64 hexadecimal digits"),
        (["--require", "app"], "--require 'app'"),
        (["--require", "app=boss:lms"], "--require"),
        (["--require", "app=release:rsa"], "--require"),
        (["--require", "boot=release:lms"], "--require"),
        (["--add-key", "x.pem"], "one --role for each"),
        (["--new-key", "root", "--lms", "H1/W1"], "LMS set"),
    ],
)
def test_wrong_calls(item, words, told):
    call(item, "next", *words).refused(2, told)
    assert not (item.root / "trust.json").exists()


def test_the_old_root_must_be_here(item):
    following(item, "--new-key", "operator")
    (item.keys / "root.pem").unlink()
    before = sorted(item.keys.iterdir())
    call(item, "next", "--new-key", "root", "--revoke", "root").refused(1, "root.pem", "[key]")
    assert sorted(item.keys.iterdir()) == before and len(trust_store.history(item)) == 2


@pytest.mark.parametrize("text", ["{", "[]", '{"versions": []}', '{"versions": [{}]}', '{"versions": 1}'])
def test_a_damaged_history_stops_everything(item, text):
    following(item, "--new-key", "operator")
    good = json.loads((item.root / "trust.json").read_text())
    (item.root / "trust.json").write_text(text)
    call(item, "next", "--new-key", "operator").refused(1, "trust.json", "restore it")
    good["versions"].pop(0)
    (item.root / "trust.json").write_text(json.dumps(good))
    call(item, "show").refused(1, "trust.json is damaged")


# Publishing and looking at it.


def test_a_store_is_published_by_the_rules_of_the_one_before(item, monkeypatch):
    sent = []
    monkeypatch.setattr(publish, "send", lambda *arguments: sent.append(arguments[3]))
    shop.release(item, "1.0.0")
    assert shop.run("provision", "--id", "gh-1", "--product", item.root).code == 0
    following(item, "--new-key", "root", "--revoke", "root")
    good = item.dist / "trust-unix-2.suit"
    done = shop.run("publish", good, "--group", "all", "--product", item.root)
    assert done.code == 0, done.err
    assert [data for _, data in sent[0]] == [good.read_bytes()]

    def signed(name, payload, *signers):
        kind = item.class_id(item.board()).bytes
        component = suit.Component("trust", payload=payload)
        path = item.dist / name
        path.write_bytes(
            suit.build_envelope(item.last_sequence() + 5, [component], item.vendor_id.bytes, kind, signers)
        )
        return path

    store = trust_store.current(item)
    old, new = keys.load(item.keys / "root.pem"), keys.load(item.keys / "root-2.pem")
    operator = keys.load(item.keys / "operator.pem")
    other = trust_store.new_version(store).payload()
    for path, reason in (
        (signed("old.suit", store.payload(), old), "key"),
        (signed("new.suit", store.payload(), new), "key"),
        (signed("operator.suit", store.payload(), operator), "key"),
        (signed("unknown.suit", other, old, new), "digest"),
        (signed("changed.suit", store.payload().replace(b"\x01\x02", b"\x01\x01", 1), old, new), "digest"),
    ):
        problems = publish.check(item, path, []).problems
        assert problems and problems[0].reason == reason, (path.name, problems)
        assert shop.run("inspect", path, "--product", item.root).code == 1
    assert publish.check(item, signed("both.suit", store.payload(), new, old), []).problems == []
    assert shop.run("inspect", good, "--product", item.root).code == 0


def test_the_requirement_of_the_old_store_counts(hybrid):
    following(hybrid, "--require", "trust=")
    assert signed_by(hybrid, 2) == ["root", "root-lms"]
    following(hybrid, "--new-key", "operator")
    assert len(signed_by(hybrid, 3)) == 1
    kind = hybrid.class_id(hybrid.board()).bytes
    component = suit.Component("trust", payload=trust_store.history(hybrid)[1].payload())
    path = hybrid.dist / "one.suit"
    path.write_bytes(suit.build_envelope(9, [component], hybrid.vendor_id.bytes, kind, [hybrid.signer("root")]))
    assert [error.reason for error in publish.check(hybrid, path, []).problems] == ["right"]


def test_show(item):
    shop.release(item, "1.0.0")
    following(item, "--new-key", "release:lms", "--lms", "H5/W4", "--keep", item.dist / "shop-1.0.0.suit")
    done = call(item, "show")
    for word in ("version 2", "HSS/LMS, for release: keys/release-2.lms", "takes release:any", "keeps", "version 1 "):
        assert word in done.out, done.out
    facts = call(item, "show", "--version", "1", "--json").json
    assert facts["version"] == 1 and len(facts["keys"]) == 3
    call(item, "show", "--version", "3").refused(2, "has 2 version(s)")
