"""`gatehouse dev` on the host: what is sent, for whom it is signed, what is said. Devices: tests/system/test_dev.py."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import pty
import tty

import pytest
import serial
import shop

from gatehouse_tools import build, cable, devloop, pack, releases, suit, trust_store
from gatehouse_tools.errors import GatehouseError


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    """A product whose newest trust anchors are flagged dev, with release 1.0.0."""
    item = shop.make(tmp_path_factory.mktemp("product") / "shop")
    shop.release(item, "1.0.0")
    told = shop.run("trust", "next", "--dev", "--new-key", "dev", "--product", item.root)
    assert told.code == 0, told.err
    return item


def device(item, **changes):
    """What a device of the product says of itself."""
    index = build.build(item.firmware, item.name, "1.0.0").index
    found = {
        "id": "gh-1", "model": item.board().model, "vendor": item.vendor_id.bytes, "device": bytes(16),
        "mode": "active", "version": "1.0.0", "dev": True, "clock": 1_900_000_000, "index": index,
    }  # fmt: skip
    return devloop.Device(**(found | changes))


def changed(item, tmp_path):
    files = shop.APPLICATION | {"data/words.txt": "four five six\n" * 50}
    return build.build(shop.source(tmp_path / "copy", files), item.name, "1.0.0-dev.1")


def test_only_the_index_and_what_changed_is_sent(item, tmp_path):
    built = changed(item, tmp_path)
    offer = devloop.prepare(item, device(item), built)
    whole = bytearray(len(built.pack))
    for at, data in offer.missing:
        whole[at : at + len(data)] = data
    entry = next(entry for entry in built.index.entries if entry.path == "data/words.txt")
    assert len(offer.missing) == 2 and offer.size == 4 + len(built.index.data) + entry.stored
    assert pack.body(bytes(whole), entry, built.index) == b"four five six\n" * 50
    everything = devloop.missing(built, None)
    assert b"".join(data for _, data in everything) == built.pack


def test_a_build_is_for_this_device_and_this_hour(item, tmp_path):
    offer = devloop.prepare(item, device(item, device=b"D" * 16), changed(item, tmp_path))
    envelope = suit.parse(offer.envelope)
    (part,) = releases.parts(envelope)
    assert part["use_before"] == envelope.sequence + devloop.VALID_S
    (key,) = suit.verify(offer.envelope, item.public_keys().values())
    assert [entry.key for entry in trust_store.current(item).of_role("dev")] == [key]
    shared = dict(zip(envelope.sections["shared"][::2], envelope.sections["shared"][1::2], strict=False))
    assert any(b"D" * 16 in value.values() for value in shared.values() if isinstance(value, dict))
    assert not [one for one in item.releases() if "dev" in one["version"]] and not list(item.dist.glob("*dev.*"))


def test_version_is_a_pre_release_of_the_last(item):
    version = devloop.version(item)
    assert version.startswith("1.0.0-dev.") and len(version) <= 32


def test_somebody_elses_device_is_named(item):
    assert devloop.board_of(item, device(item)) == item.board()
    with pytest.raises(GatehouseError, match="another vendor id"):
        devloop.board_of(item, device(item, vendor=bytes(16)))
    with pytest.raises(GatehouseError, match="gh-1 is a ESP32_OTHER, and shop has no such board"):
        devloop.board_of(item, device(item, model="ESP32_OTHER"))


def test_product_without_the_flag_is_told_before_a_board_is_touched(tmp_path):
    item = shop.make(tmp_path / "shop")
    told = shop.run("dev", "--port", "/dev/null/none", "--product", item.root)
    told.refused(1, "take no developer's key", "gatehouse trust next --dev --new-key dev")


def test_port_that_is_not_there_or_busy(item):
    told = shop.run("dev", "--port", "/dev/there-is-none", "--product", item.root, "--json")
    assert told.code == 1 and told.json["reason"] == "port"
    assert "/dev/there-is-none cannot be opened" in told.json["error"]
    master, slave = pty.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    with serial.Serial(name, exclusive=True), pytest.raises(GatehouseError, match="no other program"):
        cable.Cable(name)
    with cable.Cable(name) as free:
        assert free.port == name
    os.close(master)
    os.close(slave)


class Board(cable.Cable):
    """In place of a cable: answers what it is told to."""

    def __init__(self, *answers):
        self.port = "/dev/ttyX"
        self.answers = list(answers)
        self.asked = []

    def run(self, code, shown=None):
        self.asked.append(code)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if shown:
            for byte in answer.encode():
                shown(bytes([byte]))
        return answer

    def put(self, name, offset, data, after=""):
        self.asked.append((name, offset, data, after))


def facts(**changes):
    found = {
        "id": "gh-1", "model": "UNIX_SIM", "vendor": "00" * 16, "device": "11" * 16, "mode": "active", "failure": "",
        "version": "1.0.0", "dev": True, "clock": None, "index": "",
    }  # fmt: skip
    return "gatehouse: boot 3 active 1.0.0\n\x1e" + json.dumps(found | changes) + "\r\n"


def test_board_without_a_device_is_named():
    found = devloop.greet(Board("", facts()))
    assert (found.id, found.device, found.index) == ("gh-1", b"\x11" * 16, None)
    with pytest.raises(GatehouseError, match=r"no identity \(state: no key\): gatehouse flash"):
        devloop.greet(Board("", facts(id=None, vendor="", device="", failure="state: no key")))
    nothing = GatehouseError("the board at /dev/ttyX says: ImportError: no module named 'gatehouse'", "state")
    with pytest.raises(GatehouseError, match=r"no device on this board yet: gatehouse flash"):
        devloop.greet(Board(nothing))
    lost = GatehouseError("gone", "port")
    with pytest.raises(GatehouseError, match=r"^gone$"):
        devloop.greet(Board(lost))


@pytest.mark.parametrize("answer", ["", "nothing marked", '{"id": null}', "\x1e", "\x1enot json", "\x1e[1]"])
def test_answer_that_is_none_is_an_error(answer):
    with pytest.raises(GatehouseError, match="did not answer as expected"):
        devloop.greet(Board("", answer))


def test_clock_is_set_only_where_there_is_none(item):
    board = Board("")
    assert devloop.set_clock(board, device(item, clock=None)) and "RTC().datetime((20" in board.asked[0]
    assert not devloop.set_clock(Board(), device(item))


def test_refusal_of_the_installer_is_what_is_told(item, tmp_path):
    offer = devloop.prepare(item, device(item), changed(item, tmp_path))
    steps = []
    told = devloop.Outcome(False, "refused", "key", "no block by a known key")
    board = Board("", "..\x1e" + json.dumps(dataclasses.asdict(told)))
    outcome = devloop.bring(board, offer, steps.append, lambda _: None)
    assert outcome == told and sum(steps) == offer.size
    assert base64.b64encode(offer.envelope).decode() in board.asked[-1]
    assert [one[1:3] for one in board.asked if isinstance(one, tuple)] == offer.missing
    assert all("boot.feed()" in one[3] for one in board.asked if isinstance(one, tuple)), "the watchdog is armed"
