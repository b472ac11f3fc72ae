"""URIs of packs, and the source that is a local file. HTTP itself: tests/host/test_source.py."""

from gatehouse import Refused, filesource, source, uri
from harness import raises

# RFC 3986 section 5.4: references seen at this base; those that no pack needs are left out.
BASE = "http://a/b/c/d;p?q"
RESOLVED = {
    "g": "http://a/b/c/g",
    "./g": "http://a/b/c/g",
    "g/": "http://a/b/c/g/",
    "/g": "http://a/g",
    "g?y": "http://a/b/c/g?y",
    ";x": "http://a/b/c/;x",
    "g;x": "http://a/b/c/g;x",
    ".": "http://a/b/c/",
    "./": "http://a/b/c/",
    "..": "http://a/b/",
    "../g": "http://a/b/g",
    "../..": "http://a/",
    "../../g": "http://a/g",
    "../../../../g": "http://a/g",
    "/./g": "http://a/g",
    "/../g": "http://a/g",
    "g.": "http://a/b/c/g.",
    "..g": "http://a/b/c/..g",
    "./../g": "http://a/b/g",
    "./g/.": "http://a/b/c/g/",
    "g/../h": "http://a/b/c/h",
    "g?y/../x": "http://a/b/c/g?y/../x",
    "g?u=http://h/": "http://a/b/c/g?u=http://h/",
    "http://h:8080/x": "http://h:8080/x",
    "HTTP://h": "HTTP://h/",
}


def test_references_resolve_as_rfc_3986_says():
    for reference, expected in RESOLVED.items():
        found = uri.resolve(reference, BASE)
        assert found == expected, (reference, found)
    assert uri.resolve("g", "http://a") == "http://a/g"
    assert uri.resolve("demo-1.1.0.pack", "http://10.0.0.1:8000/packs/") == "http://10.0.0.1:8000/packs/demo-1.1.0.pack"


def test_parts():
    assert uri.split("http://h/x?y") == ("h", 80, "/x?y", False)
    assert uri.split("http://h-1.example:8080") == ("h-1.example", 8080, "", False)
    assert uri.split("HTTPS://h/x") == ("h", 443, "/x", True)
    assert uri.split("https://h:8443") == ("h", 8443, "", True)


def test_blocks_over_mqtt_are_a_base_without_places():
    assert uri.resolve("demo-1.1.0.pack", "mqtt:") == uri.resolve("mqtt:", BASE) == uri.resolve("mqtt:") == "mqtt:"
    assert uri.resolve("https://h/x", "mqtt:") == "https://h/x"
    for reference, base in (
        ("mqtt://h/x", BASE),
        ("mqtt:x", BASE),
        ("g", "mqtt://h/"),
        ("", "mqtt:"),
        ("//h", "mqtt:"),
    ):
        with raises(Refused):
            uri.resolve(reference, base)


def test_what_is_no_uri_of_a_pack_is_refused():
    for reference, base, reason in (
        ("https://user:secret@a/g", BASE, "unsupported"),
        ("ftp://a/g", BASE, "unsupported"),
        ("//b/g", BASE, "unsupported"),
        ("?y", BASE, "unsupported"),
        ("", BASE, "unsupported"),
        ("http://user:secret@a/g", BASE, "unsupported"),
        ("http://user@a/g", BASE, "unsupported"),
        ("http://[::1]/g", BASE, "unsupported"),
        ("http:///g", BASE, "format"),
        ("http://a:/g", BASE, "format"),
        ("http://a:0/g", BASE, "format"),
        ("http://a:65536/g", BASE, "format"),
        ("http://a:8_0/g", BASE, "format"),
        ("http://a:+80/g", BASE, "format"),
        ("mailto:a@b", BASE, "format"),
        ("g", "", "format"),
        ("g", "/b/c", "format"),
        ("#config", BASE, "format"),
        ("g h", BASE, "format"),
        ("g\r\nHost: b", BASE, "format"),
        ("caf\u00e9", BASE, "format"),
        ("g\x00", BASE, "format"),
        ("g" * 513, BASE, "format"),
        ("g", "http://a/" + "b" * 505 + "/", "format"),
        ("g", "coap://a/", "unsupported"),
    ):
        with raises(Refused, reason):
            uri.resolve(reference, base)
        with raises(Refused, reason):
            source.open_source(reference, base)


def write(data):
    with open("pack", "wb") as file:
        file.write(data)


async def read(pack, size=10):
    view = memoryview(bytearray(size))
    found = b""
    while True:
        count = await pack.readinto(view)
        if not count:
            return found
        found += bytes(view[:count])


async def test_file_source():
    write(bytes(range(100)))
    pack = filesource.FileSource("pack")
    await pack.open(0)
    assert await read(pack) == bytes(range(100))
    await pack.open(10, 33)
    await pack.skip(3)
    assert await read(pack) == bytes(range(13, 33))
    await pack.open(100)
    assert await read(pack) == b""
    await pack.close()
    await pack.close()


async def test_file_source_refuses_what_is_not_there():
    write(bytes(100))
    pack = filesource.FileSource("pack")
    for start, end in ((0, 101), (101, None)):
        with raises(Refused, "size"):
            await pack.open(start, end)
    await pack.open(90)
    with raises(Refused, "size"):
        await pack.skip(11)
    await pack.close()
    with raises(Refused, "network"):
        await filesource.FileSource("other").open(0)


async def test_file_that_shrinks_while_it_is_read():
    write(bytes(5000))
    pack = filesource.FileSource("pack")
    await pack.open(0)
    write(bytes(10))
    with raises(Refused, "network"):
        await read(pack)
    await pack.close()


async def test_blocks_without_a_broker():
    pack = source.open_source("x.pack", "mqtt:", (), None, bytes(32))
    await pack.open(0, 10)
    with raises(Refused, "network"):
        await pack.readinto(memoryview(bytearray(10)))
    with raises(ValueError):
        await pack.open(5, 5)
