"""`gatehouse inspect`: every kind of file in words; of a damaged one what is wrong and where, never a traceback."""

import hashlib
import json
import random
import uuid
from typing import Any

import cbor2
import pytest
import shop

from cases import report as reports_made
from gatehouse_tools import bootrecord, cbor, identity, inspect_files, keys, product, releases, suit
from gatehouse_tools.errors import GatehouseError
from gatehouse_tools.image import flash, littlefs, nvs, partitions


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    item = shop.make(tmp_path_factory.mktemp("product") / "shop")
    shop.release(item, "1.0.0", description="The first", expires_days=30)
    provision(item, "gh-1")
    return item


def provision(item, name):
    wifi = identity.Credentials("home", "very secret word")
    release = releases.load(item, item.board())
    return identity.provision(item, item.board(), release, identity.Config(trial_seconds=60), wifi, name)


def call(item, path, *arguments):
    where = ["--product", item.root] if item else []
    return shop.run("inspect", path, *where, *arguments)


@pytest.fixture
def wrong(item, tmp_path):
    """Inspect bytes in a file of their own; assert that something is wrong, with this reason and these words."""

    def check(data, reason, *words, name="x.bin", product_=item):
        path = tmp_path / name
        path.write_bytes(data)
        done = call(product_, path, "--json")
        assert done.code == 1, done.out
        told = json.loads(done.out)
        problems = told.get("problems") or [{"error": told["error"], "reason": told["reason"]}]
        assert not told["ok"]
        assert reason in [one["reason"] for one in problems], problems
        everything = " | ".join(one["error"] for one in problems)
        for word in words:
            assert word in everything, everything
        assert "Traceback" not in done.err and "internal error" not in done.err
        return problems

    return check


def flipped(data, at, bit=0):
    bad = bytearray(data)
    bad[at] ^= 1 << bit
    return bytes(bad)


# Releases.


def test_a_release_in_words(item):
    path = item.dist / "shop-1.0.0.suit"
    done = call(item, path)
    assert (done.code, done.err) == (0, "")
    envelope = suit.parse(path.read_bytes())
    facts = releases.facts(envelope)
    for word in (
        envelope.digest.hex(), str(envelope.sequence), "verified, by release", "component 0", "app", "The first",
        str(item.vendor_id), str(item.class_id(item.board())), facts["digest"].hex(), "use-before", "shop-1.0.0.pack",
        "condition-vendor-identifier", "directive-invoke", "shop 1.0.0", "core 1.0.0 or later", "nothing wrong found",
    ):  # fmt: skip
        assert word in done.out, word
    for name, data in releases.load(item, item.board()).files.items():
        line = next(line for line in done.out.splitlines() if line.strip().startswith(name))
        assert "ok" in line and str(len(data)) in line and hashlib.sha256(data).hexdigest() in line


def test_a_release_for_programs(item):
    told = call(item, item.dist / "shop-1.0.0.suit", "--json").json
    assert (
        told["ok"] and told["kind"] == "envelope" and told["components"] == ["app"] and told["signers"] == ["release"]
    )
    assert {one["path"] for one in told["files"]} == {"app.coswid", "app.mpy", "access/policy.mpy", "data/words.txt"}
    assert told["problems"] == told["notes"] == []


def test_without_a_product_the_signature_is_not_checked_and_it_says_so(item, tmp_path, monkeypatch):
    apart = tmp_path / "apart"
    apart.mkdir()
    monkeypatch.chdir(apart)
    # Inside a product's folder the file leads to its product.
    assert "signature not checked" not in call(None, item.dist / "shop-1.0.0.suit").out
    for name in ("shop-1.0.0.suit", "shop-1.0.0.pack"):
        (apart / name).write_bytes((item.dist / name).read_bytes())
    done = call(None, apart / "shop-1.0.0.suit")
    assert done.code == 0
    assert "signature not checked: no product" in done.out
    assert "verified" not in done.out
    monkeypatch.chdir(item.keys)
    assert "verified, by release" in call(None, item.dist / "shop-1.0.0.suit").out
    shop.run("inspect", item.dist / "shop-1.0.0.suit", "--product", tmp_path).refused(2, "not a product folder")


def test_a_release_of_a_stranger(item, wrong, tmp_path):
    other = shop.make(tmp_path / "other")
    data = shop.release(other, "1.0.0").envelope.read_bytes()
    wrong(data, "key", "known key")


def test_a_release_by_a_key_without_the_right(item, wrong):
    app = suit.Component("app", b"x" * 32, 1, "x.pack")
    kind = item.class_id(item.board()).bytes
    for role in ("operator", "root"):
        data = suit.build_envelope(7, [app], item.vendor_id.bytes, kind, [item.signer(role)])
        wrong(data, "right", f"signed by {role}, but app takes the release key")


def test_the_pack_beside_it(item, tmp_path, wrong):
    path = tmp_path / "shop-1.0.0.suit"
    path.write_bytes((item.dist / "shop-1.0.0.suit").read_bytes())
    done = call(item, path)
    assert done.code == 0 and "files not checked: the pack shop-1.0.0.pack is not beside" in done.out
    pack = (item.dist / "shop-1.0.0.pack").read_bytes()
    beside = tmp_path / "shop-1.0.0.pack"
    for data, reason, word in (
        (flipped(pack, -1), "digest", "data/words.txt"),
        (flipped(pack, 30), "", "shop-1.0.0.pack"),
        (pack[:-1], "size", "its index says"),
        (pack + b"x", "size", "its index says"),
        (b"", "size", "ends inside its index"),
    ):
        beside.write_bytes(data)
        done = call(item, path)
        assert done.code == 1
        line = next(line for line in done.out.splitlines() if line.startswith("WRONG: "))
        assert word in line and f"[{reason}" in line, line
    beside.write_bytes(pack)
    assert call(item, path).code == 0


def test_every_bad_file_of_a_pack_is_named(item, wrong):
    pack = bytearray((item.dist / "shop-1.0.0.pack").read_bytes())
    index = inspect_files.pack.split(bytes(pack))
    for entry in (index.entries[0], index.entries[2]):
        pack[4 + len(index.data) + entry.offset + entry.stored // 2] ^= 1
    problems = wrong(bytes(pack), "digest", index.entries[0].path, index.entries[2].path)
    assert len(problems) == 2


@pytest.mark.parametrize("name", ["shop-1.0.0.suit", "trust-unix-1.suit"])
def test_every_flipped_bit_of_an_envelope_is_noticed(item, tmp_path, seed, name):
    data = (item.dist / name).read_bytes()
    chance = random.Random(seed)
    path = tmp_path / "x.suit"
    for _ in range(400):
        at, bit = chance.randrange(len(data)), chance.randrange(8)
        path.write_bytes(flipped(data, at, bit))
        try:
            found = inspect_files.inspect(path, item)
            assert found.problems, (at, bit)
        except GatehouseError:
            pass  # not even recognised


def test_every_cut_of_an_envelope_is_noticed(item, tmp_path):
    data = (item.dist / "shop-1.0.0.suit").read_bytes()
    path = tmp_path / "x.suit"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            assert inspect_files.inspect(path, item).problems, length
        except GatehouseError:
            assert length < 2


# The small components.


def test_trust_anchors_and_configuration_in_words(item, wrong, tmp_path):
    done = call(item, item.dist / "trust-unix-1.suit")
    assert done.code == 0 and "verified, by root" in done.out
    for role in product.ROLES:
        assert f"{item.signer(role).kid.hex()}, ESP256, for {role}" in done.out
    kind, operator = item.class_id(item.board()).bytes, item.signer("operator")

    def config(fields, signer=operator):
        component = suit.Component("config", payload=cbor.dumps(fields))
        return suit.build_envelope(7, [component], item.vendor_id.bytes, kind, [signer])

    (tmp_path / "config.suit").write_bytes(config({1: "broker.example.com", 10: 60}))
    done = call(item, tmp_path / "config.suit")
    assert done.code == 0 and "broker.example.com" in done.out and "trial_s" in done.out
    wrong(config({10: 1}), "format", "trial_s must be within 5..3600")
    wrong(config({99: 1}), "format", "unknown field 99")
    wrong(config([]), "format", "configuration")
    wrong(config({1: "x"}, item.signer("release")), "right", "operator")
    signed = config({1: "broker.example.com"})
    wrong(signed.replace(b"broker.example", b"brokes.example"), "digest", "#config is not the one that is signed")


def test_a_payload_of_another_form(item, wrong):
    kind, root = item.class_id(item.board()).bytes, item.signer("root")
    for payload in (b"\xff", b"\x01", cbor.dumps({2: [7]}), cbor.dumps({2: [{1: 1}]}), cbor.dumps({3: 1})):
        component = suit.Component("trust", payload=payload)
        data = suit.build_envelope(7, [component], item.vendor_id.bytes, kind, [root])
        wrong(data, "format", "trust anchors")


# Index, boot record, NVS, reports.


def test_an_index_and_a_boot_record(item, wrong, tmp_path):
    index = (item.dist / "shop-1.0.0.index.cbor").read_bytes()
    done = call(item, item.dist / "shop-1.0.0.index.cbor")
    assert done.code == 0 and hashlib.sha256(index).hexdigest() in done.out
    wrong(index[:-1], "format", "the index is damaged")
    wrong(index + b"\0", "format", "1 bytes after its end")
    record = bootrecord.factory(b"d" * 32, 1234)
    (tmp_path / "boot.cbor").write_bytes(record)
    done = call(item, tmp_path / "boot.cbor")
    assert done.code == 0 and "slot a, sequence 1234" in done.out and (b"d" * 32).hex() in done.out
    wrong(flipped(record, 20), "state", "checksum")


def test_nvs_shows_no_secret(item, wrong, tmp_path):
    parts = flash.take_apart((item.devices / "gh-1" / "flash.bin").read_bytes())
    (tmp_path / "nvs.bin").write_bytes(parts["nvs"][1])
    done = call(item, tmp_path / "nvs.bin")
    assert done.code == 0 and "gh-1" in done.out
    values: dict[str, Any] = nvs.read_nvs(parts["nvs"][1])["gatehouse"]
    for name in ("device_key", "tls_key", "wifi"):
        assert values[name].hex() not in done.out
        assert f"{len(values[name])} bytes, secret" in done.out
    assert "very secret word" not in done.out
    at = parts["nvs"][1].index(b"device_key")
    wrong(flipped(parts["nvs"][1], at), "state", "device_key is missing or damaged")


def test_a_report(item, wrong, tmp_path, monkeypatch):
    facts = item.device_facts("gh-1")
    key = bytes.fromhex(json.loads((item.devices / "gh-1" / "secrets.json").read_text())["report_key"])
    claims = reports_made.claims(c256=b"\x01" + uuid.UUID(facts["uuid"]).bytes)
    honest = reports_made.sealed(claims, b"gh-1", key)
    path = tmp_path / "report.cbor"
    path.write_bytes(honest)
    done = call(item, path)
    assert done.code == 0 and "verified, by its report key" in done.out and "gh-1" in done.out
    wrong(reports_made.sealed(claims, b"gh-1", b"k" * 32), "signature", "gh-1")
    wrong(reports_made.sealed(claims, b"gh-9", key), "key", "gh-9")
    wrong(honest[:-1], "format")
    path.write_bytes(reports_made.sealed(claims, b"gh-1", b"k" * 32))
    told = call(item, path)
    assert "NOT VERIFIED: nothing below is proved" in told.out
    monkeypatch.chdir(tmp_path)
    path.write_bytes(honest)
    done = call(None, path)
    assert done.code == 0 and "MAC not checked: no product" in done.out and "NOT VERIFIED" in done.out


# Flash images.


def test_a_flash_image_in_words(item):
    done = call(item, item.devices / "gh-1" / "flash.bin")
    assert (done.code, done.err) == (0, "")
    facts = item.device_facts("gh-1")
    for word in (
        "ota_0     app, ota_0     0x010000 to 0x190000", "gh-1", facts["uuid"], "UNIX_SIM", "/lib/gatehouse/slots.mpy",
        item.signer("root").kid.hex(), "trial_s", facts["release"]["digest"], "shop 1.0.0", "verified", "nothing wrong",
        "none yet: the first starts",
    ):  # fmt: skip
        assert word in done.out, word
    assert "very secret word" not in done.out
    told = call(item, item.devices / "gh-1" / "flash.bin", "--json").json
    assert told["slots"]["a"]["verified"] and told["slots"]["a"]["version"] == "1.0.0"
    assert told["identity"]["id"] == "gh-1"


def test_a_flash_image_proves_itself_without_a_product(item, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(None, item.devices / "gh-1" / "flash.bin")
    assert done.code == 0 and "verified" in done.out
    other = shop.make(tmp_path / "other")
    done = call(other, item.devices / "gh-1" / "flash.bin")
    assert done.code == 1 and "root key is not the one of this product" in done.out


def rebuilt(item, change):
    """The device's flash image with its file system changed by `change(files)`."""
    image = (item.devices / "gh-1" / "flash.bin").read_bytes()
    table = item.board().partitions()
    files, folders = littlefs.read(flash.take_apart(image)["vfs"][1])
    change(files)
    vfs = partitions.find(table, "vfs")
    return image[: vfs.offset] + littlefs.build(files, folders, vfs.size)


def put(path, data):
    return lambda files: files.update({path: data})


def damage(path):
    return lambda files: files.update({path: flipped(files[path], len(files[path]) // 2)})


def other_record(files):
    files["/state/boot.cbor"] = bootrecord.factory(b"d" * 32, 1)


def forged_trust(files):
    """Anchors that a thief made: well signed, but by a root of his own."""
    stranger = keys.generate()
    row = {1: stranger.kid, 2: -9, 3: stranger.public, 4: [1, 2, 3]}
    component = suit.Component("trust", payload=cbor2.dumps({1: 1, 2: [row]}))
    files["/state/trust.suit"] = suit.build_envelope(7, [component], b"v" * 16, b"c" * 16, [stranger])


def other_index(files):
    index = cbor2.loads(files["/slots/a/index.cbor"])
    index[3] = "9.9.9"
    files["/slots/a/index.cbor"] = cbor2.dumps(index)


def other_manifest(files):
    files["/slots/a/manifest.suit"] = files["/state/config-1.suit"]


FILES = {
    "a byte of a file": (damage("/slots/a/data/words.txt"), "digest", "data/words.txt is not what was signed"),
    "a file too many": (put("/slots/a/extra.mpy", b"x"), "extraneous", "extra.mpy is not in the index"),
    "a file too few": (lambda files: files.pop("/slots/a/app.mpy"), "digest", "app.mpy is not what was signed"),
    "a byte of the manifest": (damage("/slots/a/manifest.suit"), "digest", "slot"),
    "another manifest": (other_manifest, "component", "slot a"),
    "another index": (other_index, "digest", "index.cbor is not the one that is signed"),
    "anchors of a thief": (forged_trust, "key", "/state/trust.suit"),
    "no anchors": (lambda files: files.pop("/state/trust.suit"), "state", "provision this device"),
    "a configuration by nobody": (damage("/state/config-1.suit"), "digest", "/state/config-1.suit"),
    "no record": (lambda files: files.pop("/state/boot.cbor"), "state", "rebuilds it from NVS"),
    "a damaged record": (damage("/state/boot.cbor"), "state", "checksum"),
    "a record of another release": (other_record, "state", "is not in slot a"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_wrong_in_a_file_system_is_told(item, wrong, name):
    change, reason, word = FILES[name]
    wrong(rebuilt(item, change), reason, word)


def test_the_unchanged_file_system_is_its_honest_twin(item, tmp_path):
    (tmp_path / "flash.bin").write_bytes(rebuilt(item, lambda files: None))
    assert call(item, tmp_path / "flash.bin").code == 0


def test_an_unfinished_update_is_no_damage(item, tmp_path):
    (tmp_path / "flash.bin").write_bytes(rebuilt(item, put("/slots/b/app.mpy", b"half")))
    done = call(item, tmp_path / "flash.bin")
    assert done.code == 0 and "incomplete: no manifest.suit" in done.out


def test_what_is_wrong_in_the_rest_of_a_flash_image(item, wrong):
    image = (item.devices / "gh-1" / "flash.bin").read_bytes()
    wrong(flipped(image, 0x8010), "digest", "MD5")
    wrong(image[:0x200000], "size", "ota_1")
    wrong(image[:0x310000] + b"\xff" * 0xF0000, "format", "not a readable LittleFS")
    wrong(image[:0x9000] + b"\xff" * 0x4000 + image[0xD000:], "state", "identity is missing")


# Anything else.


def test_what_is_nothing_of_ours(item, wrong, tmp_path):
    wrong(b"", "format", "is empty")
    wrong(b"hello", "format", "68656c6c6f")
    wrong(b"\xa6\x01", "format")
    wrong(b"\xd8\x6b", "format")
    wrong(b"\xd8\x3d\x00", "format")
    wrong(b"\0\0\0\2\xa6\x01", "format")
    call(item, tmp_path / "none").refused(1, "No such file")
    call(item, tmp_path).refused(1, "is a folder")
    call(item, "/dev/zero").refused(1, "is over 64 MiB", "[size]")


def test_damage_anywhere_is_never_a_traceback(item, tmp_path, seed):
    """Bits flipped, bytes cut and put in, in every kind of file: an answer, or one clean refusal."""
    chance = random.Random(seed)
    path = tmp_path / "x.suit"
    (tmp_path / "shop-1.0.0.pack").write_bytes((item.dist / "shop-1.0.0.pack").read_bytes())
    image = (item.devices / "gh-1" / "flash.bin").read_bytes()
    kinds = [(one.read_bytes(), 150) for one in item.dist.iterdir()] + [
        (bootrecord.factory(b"d" * 32, 5), 150),
        (image, 15),
    ]
    for data, count in kinds:
        for _ in range(count):
            bad = bytearray(data)
            first = 0x8000 if len(data) == len(image) else 0
            for _ in range(chance.randrange(1, 6)):
                bad[chance.randrange(first, min(len(bad), first + 0x8000))] = chance.randrange(256)
            if chance.random() < 0.2:
                del bad[chance.randrange(len(bad)) :]
            path.write_bytes(bad)
            try:
                inspect_files.inspect(path, item)
            except GatehouseError as error:
                assert error.reason
