"""The rules of an application tree: paths, index, and the check of a slot."""

import hashlib
import io
import os

import fake_chip as chip
from gatehouse import Refused, cbor, tree


def refused(reason, function, *arguments):
    try:
        function(*arguments)
    except Refused as error:
        assert error.reason == reason, "refused as %s, not %s" % (error, reason)
        return
    raise AssertionError("accepted: %r" % (arguments,))


def digest(data):
    return hashlib.sha256(data).digest()


def entry(path, data=b"x"):
    return [path, len(data), digest(data), len(data), 0]


def index(entries, core="1.0.0", mpy=6):
    return cbor.dumps({1: 1, 2: "demo", 3: "1.0.0", 4: core, 5: mpy, 6: entries})


def read(data):
    found = tree.Index(io.BytesIO(data))
    return found, list(found)


def test_path_traversal_and_its_honest_twins():
    for good in ("app.mpy", "access/policy.mpy", "a/b/c/d.mpy", "data-1_2.json", "x" * 64):
        tree.check_path(good)
    bad = '"" /app ../app.mpy a/../b.mpy a//b a/ ./a .hidden '
    bad += "a/.b a\\b caf\u00e9 a\x00b a/b/c/d/e C:x manifest.suit index.new"
    for path in bad.replace('""', "").split(" ") + ["a b", "x" * 65, "index.cbor", "a.new"]:
        refused("path", tree.check_path, path)


def test_names_of_the_system_are_refused():
    for name in (
        "gatehouse/x.mpy",
        "gatehouse.mpy",
        "boot.py",
        "main.py",
        "os.mpy",
        "machine.py",
        "hashlib.mpy",
        "umqtt/simple.mpy",
        "tls.mpy",
    ):
        refused("module", tree.check_path, name)
    tree.check_path("machines.mpy")
    tree.check_path("lib/os.mpy")


def test_index_is_read():
    found, entries = read(index([entry("a.mpy"), entry("b/c.mpy", b"")]))
    assert (found.name, found.version, found.count) == ("demo", "1.0.0", 2)
    assert [item[0] for item in entries] == ["a.mpy", "b/c.mpy"]
    data = index([entry("a.mpy")])
    found, _ = read(data)
    assert found.digest() == digest(data)


def test_index_over_many_windows():
    names = ["f%03d.mpy" % number for number in range(200)]
    _, entries = read(index([entry(name) for name in names]))
    assert [item[0] for item in entries] == names


def test_malformed_index_is_refused():
    good = entry("a.mpy")
    bad = [
        ("format", index([entry("b.mpy"), entry("a.mpy")])),  # not sorted
        ("format", index([good, good])),  # twice
        ("size", index([])),
        ("size", index([entry("f%04d" % number) for number in range(257)])),
        ("format", index([["a.mpy", 1, b"short", 1, 0]])),
        ("format", index([["a.mpy", 1, digest(b""), 2, 0]])),  # raw, but another stored size
        ("format", index([["a.mpy", 1, digest(b""), 1, 7]])),  # unknown encoding
        ("format", index([["a.mpy", 5, digest(b""), 5, 1]])),  # deflated and no smaller
        ("format", index([["a.mpy", 0, digest(b""), 0, 1]])),
        ("format", index([["a.mpy", -1, digest(b""), 1, 0]])),
        ("format", index([["a.mpy", 65537, digest(b""), 65537, 0]])),  # over a block and no blocks
        ("format", index([["a.mpy", 65537, digest(b""), 65537, 0, [digest(b"")]]])),  # too few blocks
        ("format", index([["a.mpy", 1, digest(b""), 1, 0, [digest(b"")]]])),  # blocks of a small file
        ("format", index([["a.mpy", 1310720, digest(b""), 1310720, 0, [digest(b"")] * 20]])),  # longer than the window
        ("size", index([["a.mpy", 1048577, digest(b""), 1048577, 0, [digest(b"")] * 17]])),
        ("path", index([entry("../a.mpy")])),
        ("module", index([entry("os.mpy")])),
        ("format", index([good]) + b"\x00"),
        ("format", index([good])[:-1]),
        ("format", cbor.dumps([1, 2, 3])),
        ("format", cbor.dumps({1: 2, 2: "a", 3: "b", 4: "1.0.0", 5: 6, 6: [good]})),
        ("format", b""),
    ]
    for reason, data in bad:
        refused(reason, read, data)
    read(index([["a.mpy", 65537, digest(b""), 65537, 0, [digest(b"")] * 2]]))


def test_every_truncation_of_an_index_is_refused():
    data = index([entry("a.mpy"), entry("b.mpy")])
    for size in range(len(data)):
        refused("format", read, data[:size])


def test_needs_of_core_and_mpy():
    def needs(**fields):
        read(index([entry("a.mpy")], **fields))[0].check_needs(("1.4.2", 6))

    needs(core="1.4.2")
    needs(core="1.0.9")
    for core in ("1.4.3", "2.0.0", "0.9.0"):
        refused("core", lambda core=core: needs(core=core))
    refused("mpy", lambda: needs(mpy=5))
    refused("format", lambda: needs(core="one"))


FILES = {"app.mpy": b"app" * 700, "pkg/mod.mpy": b"mod", "empty.txt": b""}


def slot():
    chip.install()
    os.mkdir("/slots/a/pkg")
    for path, data in FILES.items():
        put(path, data)
    data = index([entry(path, FILES[path]) for path in sorted(FILES)])
    put("index.cbor", data)
    put("manifest.suit", b"any")
    return data


def put(path, data):
    with open("/slots/a/" + path, "wb") as file:
        file.write(data)


def verify(data):
    return tree.verify("/slots/a", digest(data), len(data))


def test_slot_is_just_the_index():
    data = slot()
    assert verify(data) == ("demo", "1.0.0")
    put("app.mpy", b"app" * 699 + b"apq")
    refused("digest", verify, data)
    put("app.mpy", b"app" * 701)
    refused("digest", verify, data)
    put("app.mpy", FILES["app.mpy"])
    verify(data)
    os.remove("/slots/a/empty.txt")
    refused("digest", verify, data)
    put("empty.txt", b"")
    put("pkg/extra.mpy", b"")
    refused("extraneous", verify, data)
    os.remove("/slots/a/pkg/extra.mpy")
    os.mkdir("/slots/a/json")
    refused("extraneous", verify, data)
    os.rmdir("/slots/a/json")
    verify(data)


def test_index_that_is_not_the_signed_one():
    data = slot()
    verify(data)
    put("app.mpy", b"evil")
    other = index([entry("app.mpy", b"evil")] + [entry(path, FILES[path]) for path in ("empty.txt", "pkg/mod.mpy")])
    put("index.cbor", other)
    refused("digest", lambda: tree.verify("/slots/a", digest(data), len(other)))
    refused("size", lambda: tree.verify("/slots/a", digest(data), len(other) + 1))
    tree.verify("/slots/a", digest(other), len(other))
    os.remove("/slots/a/index.cbor")
    refused("state", verify, data)
