"""`gatehouse build` and `gatehouse release`."""

import json
import os
import shlex
import time

import pytest
import shop

from gatehouse_tools import keys, pack, suit


@pytest.fixture
def item(tmp_path):
    return shop.make(tmp_path / "shop")


def call(item, *arguments):
    return shop.run(*arguments, "--product", item.root)


def test_build_tells_sizes_and_writes_the_pack(item):
    done = call(item, "build", "--version", "1.2.0")
    assert (done.code, done.err) == (0, "")
    index, _ = pack.unpack((item.dist / "shop-1.2.0.pack").read_bytes())
    assert (item.dist / "shop-1.2.0.index.cbor").read_bytes() == index.data
    for entry in index.entries:
        line = next(line for line in done.out.splitlines() if entry.path in line)
        assert str(entry.size) in line and str(entry.stored) in line and pack.ENCODINGS[entry.encoding] in line
    assert index.digest.hex() in done.out


def test_build_for_programs_and_the_same_again(item):
    first = call(item, "build", "--json").json
    before = (item.dist / "shop-0.0.0.pack").read_bytes()
    second = call(item, "build", "--json").json
    assert first == second and first["ok"] and first["version"] == "0.0.0"
    assert (item.dist / "shop-0.0.0.pack").read_bytes() == before
    assert [one["path"] for one in first["files"]] == ["access/policy.mpy", "app.coswid", "app.mpy", "data/words.txt"]
    assert first["pack_size"] == len(before)
    raw = call(item, "build", "--json", "--raw").json
    assert raw["pack_size"] > first["pack_size"]


def test_build_takes_another_source(item, tmp_path):
    folder = shop.source(tmp_path / "other", {"app.py": "def run(boot):\n    pass\n"})
    facts = call(item, "build", "--source", folder, "--json").json
    assert [one["path"] for one in facts["files"]] == ["app.coswid", "app.mpy"]


def test_the_reference_application_is_the_default(item):
    path = item.root / "product.toml"
    path.write_text(path.read_text().replace('firmware = "application"', ""))
    facts = call(item, "build", "--json").json
    assert facts["ok"], facts
    assert "app.mpy" in {one["path"] for one in facts["files"]}


def test_release_tells_what_was_signed(item):
    done = call(item, "release", "--version", "1.0.0", "--expires", "30", "--description", "The first")
    assert (done.code, done.err) == (0, "")
    data = (item.dist / "shop-1.0.0.suit").read_bytes()
    envelope = suit.parse(data)
    for word in (str(envelope.sequence), envelope.digest.hex(), item.signer("release").kid.hex(), "UNIX_SIM", "Next:"):
        assert word in done.out
    assert envelope.text["en"][1] == "The first"
    assert time.strftime("%Y-%m-%d", time.gmtime(time.time() + 30 * 86400)) in done.out


def test_the_next_command_finds_the_release_from_where_one_is(item, monkeypatch):
    (item.root / "my notes").mkdir()
    monkeypatch.chdir(item.root / "my notes")
    done = call(item, "release", "--version", "1.0.0")
    assert "Next: gatehouse publish ../dist/shop-1.0.0.suit --device ID" in done.out
    monkeypatch.chdir(item.root.parent.parent)
    done = call(item, "release", "--version", "1.1.0")
    [words] = [line for line in done.out.splitlines() if line.startswith("Next: ")]
    assert os.path.samefile(shlex.split(words)[3], item.dist / "shop-1.1.0.suit")


def test_release_for_programs(item):
    facts = call(item, "release", "--version", "1.0.0", "--json").json
    envelope = suit.parse((item.dist / "shop-1.0.0.suit").read_bytes())
    assert facts["digest"] == envelope.digest.hex()
    assert facts["sequence"] == envelope.sequence
    assert facts["envelope"].endswith("shop-1.0.0.suit") and facts["pack"].endswith("shop-1.0.0.pack")
    assert facts["use_before"] is None
    again = call(item, "release", "--version", "1.0.1", "--json").json
    assert again["sequence"] > facts["sequence"]


def test_a_strangers_key_signs_but_is_warned_about(item, tmp_path):
    keys.save(keys.generate(), tmp_path / "stranger.pem")
    done = call(item, "release", "--version", "1.0.0", "--key", tmp_path / "stranger.pem")
    assert done.code == 0
    assert done.err.startswith("warning: ") and "will refuse" in done.err
    copy = call(item, "release", "--version", "1.0.1", "--key", item.keys / "release.pem")
    assert (copy.code, copy.err) == (0, "")


def remove_key(item):
    (item.keys / "release.pem").unlink()


def damage_key(item):
    (item.keys / "release.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def add(path, text=""):
    return lambda item: shop.source(item.firmware, {path: text})


def dist_is_a_file(item):
    item.dist.rmdir()
    item.dist.write_text("x")


def released(item):
    shop.release(item, "1.0.0")


V = ["--version", "1.0.0"]
BAD = {
    "no version": (None, [], 2, "--version"),
    "version of two numbers": (None, ["--version", "1.0"], 2, "version '1.0' is not three numbers"),
    "version with a path": (None, ["--version", "../1.0.0"], 2, "is not three numbers"),
    "unknown board": (None, [*V, "--board", "esp99"], 2, "no board 'esp99'"),
    "sequence zero": (None, [*V, "--sequence", "0"], 2, "--sequence"),
    "sequence too far": (None, [*V, "--sequence", "99999999999"], 1, "day ahead of the clock"),
    "expiry in the past": (None, [*V, "--expires", "-1"], 2, "--expires"),
    "no key": (remove_key, V, 1, "release.pem"),
    "damaged key": (damage_key, V, 1, "not a private key"),
    "key that is a folder": (None, [*V, "--key", "{root}"], 1, "Is a directory"),
    "key that is not there": (None, [*V, "--key", "{root}/x.pem"], 1, "x.pem"),
    "source that is not there": (None, [*V, "--source", "{root}/none"], 2, "not a folder"),
    "source without app.py": (None, [*V, "--source", "{root}/dist"], 1, "no app.py"),
    "syntax error": (add("bad.py", "def ("), V, 1, "bad.py, line 1: SyntaxError"),
    "name of a module of the system": (add("json.py"), V, 1, "json.py: would shadow a module"),
    "path that the index must not hold": (add("a b.py"), V, 1, "character not allowed"),
    "dist that cannot be written": (dist_is_a_file, V, 1, "dist"),
    "released before": (released, V, 1, "give the next version"),
}


@pytest.mark.parametrize("name", BAD)
def test_release_refuses_and_signs_nothing(item, name):
    prepare, arguments, code, word = BAD[name]
    if prepare:
        prepare(item)
    before = sorted(item.root.rglob("*.suit"))
    arguments = [one.format(root=item.root) for one in arguments]
    call(item, "release", *arguments).refused(code, word)
    assert sorted(item.root.rglob("*.suit")) == before
    assert len(item.releases()) == len(before)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(item):
    item.dist.chmod(0o500)
    call(item, "build").refused(1, "Permission denied")


def test_errors_for_programs(item):
    shop.release(item, "1.0.0")
    done = call(item, "release", "--version", "1.0.1", "--sequence", "1", "--json")
    assert done.code == 1
    assert json.loads(done.out) == {"ok": False, "error": json.loads(done.out)["error"], "reason": "sequence"}
