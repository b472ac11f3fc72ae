"""The MUD file is what RFC 8520's YANG modules want, and names what a device needs and no more."""

from __future__ import annotations

import datetime
import json
import pathlib
import sysconfig

import pytest
import shop
import yangson
from yangson.exceptions import YangsonException

from gatehouse_tools import identity, mud, product
from gatehouse_tools.errors import GatehouseError

NOW = datetime.datetime(2026, 11, 26, 10, tzinfo=datetime.UTC)
MODULES = pathlib.Path(sysconfig.get_path("data")) / "share" / "yang" / "modules" / "ietf"  # pyang brings them


def module(name: str, revision: str, conformance: str = "implement", *features: str) -> dict:
    return {
        "name": name,
        "revision": revision,
        "namespace": f"urn:ietf:params:xml:ns:yang:{name}",
        "conformance-type": conformance,
        **({"feature": list(features)} if features else {}),
    }


def revision(name: str) -> str:
    """The newest revision that a module's file states."""
    lines = (MODULES / f"{name}.yang").read_text().splitlines()
    return next(line.split()[1].strip('"{') for line in lines if line.strip().startswith("revision "))


@pytest.fixture(scope="module")
def model() -> yangson.DataModel:
    """The data model of a MUD file: RFC 8520, RFC 8519 and what they import."""
    features = ("match-on-ipv4", "match-on-tcp", "match-on-udp", "ipv4")
    modules = [
        module("ietf-mud", revision("ietf-mud")),
        module("ietf-acldns", revision("ietf-acldns")),
        module("ietf-interfaces", revision("ietf-interfaces")),
        module("ietf-access-control-list", revision("ietf-access-control-list"), "implement", *features),
        *(
            module(name, revision(name), "import")
            for name in (
                "ietf-packet-fields",
                "ietf-ethertypes",
                "ietf-interfaces",
                "ietf-yang-types",
                "ietf-inet-types",
            )
        ),
    ]
    library = {"ietf-yang-library:modules-state": {"module-set-id": "mud", "module": modules}}
    return yangson.DataModel(json.dumps(library), [str(MODULES)])


def check(model: yangson.DataModel, data: dict) -> None:
    """YangsonException where the data is not valid."""
    model.from_raw(data).validate(ctype=yangson.enumerations.ContentType.all)


@pytest.fixture
def item(tmp_path: pathlib.Path) -> product.Product:
    found = shop.make(tmp_path / "shop")
    path = found.root / "product.toml"
    text = path.read_text()
    for before, after in (
        ('broker = "localhost"', 'broker = "broker.example.com"'),
        ('base_url = "http://localhost:8080/"', 'base_url = "https://packs.example.com/shop"'),
        ('ntp = "pool.ntp.org"', 'ntp = "192.0.2.7"'),
    ):
        assert before in text
        text = text.replace(before, after)
    path.write_text(text)
    return product.Product(found.root)


def make(item: product.Product, **settings: object) -> dict:
    return mud.make(item, item.board(), identity.change_config(mud.config(item), settings, "test"), NOW)


def aces(made: dict, n: int) -> dict[str, dict]:
    return {one["name"]: one["matches"] for one in made["ietf-access-control-list:acls"]["acl"][n]["aces"]["ace"]}


def test_it_is_what_rfc_8520_has(item: product.Product, model: yangson.DataModel) -> None:
    made = make(item, interfaces=["uart", "https"])
    check(model, made)
    told = made["ietf-mud:mud"]
    assert (told["mud-version"], told["is-supported"]) == (1, True)
    assert told["mud-url"] == "https://example.com/shop.mud.json"
    assert told["last-update"] == "2026-11-26T10:00:00+00:00"
    assert len(told["systeminfo"]) <= 60


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("ietf-mud:mud", "mud-url"), None),
        (("ietf-mud:mud", "cache-validity"), 169),
        (("ietf-mud:mud", "last-update"), "yesterday"),
        (("ietf-mud:mud", "favourite-colour"), "blue"),
        (("ietf-mud:mud", "to-device-policy", "access-lists", "access-list", 0, "name"), "another list"),
        (("ietf-access-control-list:acls", "acl", 0, "type"), "no-type"),
        (
            ("ietf-access-control-list:acls", "acl", 0, "aces", "ace", 0, "matches", "tcp", "destination-port", "port"),
            70000,
        ),
        (("ietf-access-control-list:acls", "acl", 0, "aces", "ace", 0, "actions", "forwarding"), "maybe"),
    ],
)
def test_the_validator_notices(item: product.Product, model: yangson.DataModel, path: tuple, value: object) -> None:
    made = make(item)
    place = made
    for name in path[:-1]:
        place = place[name]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(YangsonException):
        check(model, made)


def test_it_names_what_the_device_needs_and_no_more(item: product.Product) -> None:
    made = make(item)
    out = aces(made, 0)
    assert set(out) == {"to-broker", "to-time", "to-packs", "to-dns-udp", "to-dns-tcp"}
    assert out["to-broker"] == {
        "ipv4": {"protocol": 6, "ietf-acldns:dst-dnsname": "broker.example.com"},
        "tcp": {"ietf-mud:direction-initiated": "from-device", "destination-port": {"operator": "eq", "port": 8883}},
    }
    assert out["to-time"] == {
        "ipv4": {"protocol": 17, "destination-ipv4-network": "192.0.2.7/32"},
        "udp": {"destination-port": {"operator": "eq", "port": 123}},
    }
    assert out["to-packs"]["tcp"]["destination-port"]["port"] == 443
    into = aces(made, 1)
    assert set(into) == {name.replace("to-", "from-") for name in out}
    assert into["from-broker"]["tcp"] == {
        "ietf-mud:direction-initiated": "from-device",
        "source-port": {"operator": "eq", "port": 8883},
    }
    # Nobody opens a connection to the device.
    assert all(one["tcp"]["ietf-mud:direction-initiated"] == "from-device" for one in into.values() if "tcp" in one)
    assert all(
        one["actions"] == {"forwarding": "accept"}
        for acl in made["ietf-access-control-list:acls"]["acl"]
        for one in acl["aces"]["ace"]
    )


def test_its_own_page_is_for_the_local_network_and_only_where_it_is_open(item: product.Product) -> None:
    assert "https-calls" not in aces(make(item), 1)
    found = aces(make(item, interfaces=["https"]), 1)["https-calls"]
    assert found["ietf-mud:mud"] == {"local-networks": [None]}
    assert found["tcp"]["ietf-mud:direction-initiated"] == "to-device"


def test_packs_over_the_broker_need_no_other_server(item: product.Product, model: yangson.DataModel) -> None:
    made = make(item, base_url="mqtt:")
    check(model, made)
    assert "to-packs" not in aces(made, 0)


def test_addresses_need_no_resolver(item: product.Product, model: yangson.DataModel) -> None:
    made = make(item, broker="192.0.2.1", base_url="http://192.0.2.2:8080/")
    check(model, made)
    assert set(aces(made, 0)) == {"to-broker", "to-time", "to-packs"}


def test_what_is_not_filled_in_yet_is_not_published(item: product.Product) -> None:
    item.statement["product"] = "FILL IN: what it is, in one sentence"
    assert make(item)["ietf-mud:mud"]["systeminfo"] == "shop on UNIX_SIM"
    item.statement["product"] = "A valve."
    assert make(item)["ietf-mud:mud"]["systeminfo"] == "A valve."


def test_support_that_has_ended_is_told(item: product.Product) -> None:
    late = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
    assert mud.make(item, item.board(), mud.config(item), late)["ietf-mud:mud"]["is-supported"] is False


@pytest.mark.parametrize("broker", ["2001:db8::1", "broker..example.com"])
def test_what_it_cannot_say_is_refused(item: product.Product, broker: str) -> None:
    with pytest.raises(GatehouseError, match="neither a name nor an IPv4 address"):
        make(item, broker=broker)


def test_the_command_writes_it(item: product.Product, model: yangson.DataModel, tmp_path: pathlib.Path) -> None:
    done = shop.run("mud", "--json", "--product", item.root)
    assert done.code == 0, done.err
    assert "warning" not in done.err
    check(model, json.loads((item.dist / "shop.mud.json").read_text()))
    other = tmp_path / "other.toml"
    other.write_text('broker = "localhost"\n')
    done = shop.run("mud", "--config", other, "--output", tmp_path / "m.json", "--product", item.root)
    assert done.code == 0
    assert "broker on localhost" in done.err
    text = (item.root / "product.toml").read_text()
    (item.root / "product.toml").write_text(text.replace('# mud_url = "https', 'mud_url = "http'))
    shop.run("mud", "--product", item.root).refused(1, "mud_url", "https://")
