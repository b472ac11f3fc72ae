"""The CoSWID tag of an application: its vendor makes it at the build, devices pass it on, verifiers read it."""

import uuid

import cbor2
import pytest
import shop
from test_reports import DEVICES, refused

from cases.report import claims, sealed
from gatehouse_tools import build, core, coswid, pack, reports
from gatehouse_tools.errors import GatehouseError

FILES = {"app.mpy": b"M\x06", "data/words.txt": b"words"}


def made(name="example", version="1.0.0", files=FILES, domain="shop.example"):
    return coswid.make(domain, name, version, files)


def told(tag):
    """A report that passes `tag` on."""
    return sealed(claims(c272=[[258, tag]]))


def test_tag_is_what_rfc_9393_asks_for():
    """Read without our own code: labels of RFC 9393, sections 2.3 to 2.9."""
    tag = cbor2.loads(made())
    number = uuid.UUID(bytes=tag.pop(0))
    assert number.version == 5 and number.variant == uuid.RFC_4122
    assert tag == {
        1: "example", 2: {31: "shop.example", 33: [1, 2]}, 6: {16: {24: "app"}}, 12: 0, 13: "1.0.0", 14: 16384,
    }  # fmt: skip


def test_other_software_has_another_tag():
    tags = [
        made(), made(version="1.0.1"), made(name="other"), made(domain="other.example"),
        made(files=FILES | {"app.mpy": b"M\x06\x00"}), made(files={"app.mpy": b"M\x06", "data/words2.txt": b"words"}),
    ]  # fmt: skip
    assert len({cbor2.loads(tag)[0] for tag in tags}) == len(tags)
    assert made() == made()


def test_build_puts_it_into_the_tree_that_is_signed(tmp_path):
    item = shop.make(tmp_path / "shop")
    plain = build.build(item.firmware, item.name, "1.0.0")
    tagged = build.build(item.firmware, item.name, "1.0.0", domain=item.domain)
    paths = [entry.path for entry in tagged.index.entries]
    assert paths == sorted([entry.path for entry in plain.index.entries] + ["app.coswid"])
    assert [source.target for source in tagged.sources] == paths
    found = next(source.data for source in tagged.sources if source.target == "app.coswid")
    assert coswid.read(found, item.name, "1.0.0")["entity"] == item.domain
    assert tagged.source_size == plain.source_size


def test_tree_with_a_tag_of_its_own_keeps_it_and_a_stale_one_is_refused(tmp_path):
    item = shop.make(tmp_path / "shop")
    theirs = made(name=item.name, domain="their.own.example")
    (item.firmware / "app.coswid").write_bytes(theirs)
    again = build.build(item.firmware, item.name, "1.0.0", domain=item.domain)
    assert [source.data for source in again.sources if source.target == "app.coswid"] == [theirs]
    assert pack.unpack(again.pack)[1]["app.coswid"] == theirs
    with pytest.raises(GatehouseError, match=r"app\.coswid") as caught:
        build.build(item.firmware, item.name, "1.0.1", domain=item.domain)
    assert caught.value.reason == "format"


def test_domain_that_is_too_long_for_a_report():
    assert len(made(name="n" * 16, domain="d" * 60)) <= core.module("measure").MAX_TAG
    with pytest.raises(GatehouseError) as caught:
        made(domain="d" * 120)
    assert caught.value.reason == "size"


def test_report_tells_it():
    found = reports.verify(told(made()), DEVICES).claims
    number = uuid.UUID(bytes=cbor2.loads(made())[0])
    assert found["tag"] == {"tag_id": str(number), "tag_version": 0, "entity": "shop.example"}
    assert "manifests" not in found and "tag" not in reports.verify(sealed(claims()), DEVICES).claims


def changed(**fields):
    tag = cbor2.loads(made())
    for label, value in fields.items():
        tag[int(label[1:])] = value
    return cbor2.dumps({label: value for label, value in tag.items() if value is not None}, canonical=True)


BAD = {
    "of another name": made(name="other"),
    "of another version": made(version="1.0.1"),
    "nothing": b"",
    "an empty map": b"\xa0",
    "cut off": made()[:-1],
    "a short id": changed(t0=b"short"),
    "an id that is text": changed(t0="text"),
    "a vendor that drives the terminal": changed(t2={31: "a\x1b[2J", 33: [1, 2]}),
    "no role": changed(t2={31: "shop.example"}),
    "an evidence tag": changed(t6=None, t3={}),  # RFC 9711 wants a payload tag here
    "a negative tag version": changed(t12=-1),
    "a tag version that is a truth value": changed(t12=True),
}


@pytest.mark.parametrize("name", BAD)
def test_tag_that_is_none_or_of_other_software(name):
    """The maker's mistake, not the device's: it is told in place of the tag, and the report holds."""
    found = reports.verify(told(BAD[name]), DEVICES).claims
    assert list(found["tag"]) == ["wrong"] and found["tag"]["wrong"].isprintable()
    assert "tag_id" in reports.verify(told(changed()), DEVICES).claims["tag"]


@pytest.mark.parametrize("value", [[], [[258]], [[60, made()]], [[258, made()], [258, made()]], made()])
def test_manifests_that_are_no_list_of_one_tag(value):
    assert "manifests" in refused("format", sealed(claims(c272=value)), DEVICES)


def test_tag_where_nothing_runs_is_of_nothing():
    found = claims(c270=None, c271=None, c272=[[258, made()]], c273=claims()[273][1:])
    assert "wrong" in reports.verify(sealed(found), DEVICES).claims["tag"]
