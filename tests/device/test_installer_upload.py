"""Packs that were uploaded with their envelope: read from the flash, checked like any other, and gone afterwards."""

import hashlib
import os

import fake_chip as chip
import fake_device as device
from harness import cases

HEAP = "8M"  # the flash is in RAM here


def start():
    case = device.decode(cases("installer"))
    device.provision(case)
    boot = device.boot()
    device.clock(case["now"])
    return case, boot


def upload(item, pack=None):
    """Put the pack of an offer where an upload puts it."""
    from gatehouse import record

    path = record.upload_path(hashlib.sha256(item["envelope"]).digest())
    device.write(path, item["pack"] if pack is None else pack)
    return path


def uploads():
    return [name for name in os.listdir("/state") if name.startswith("upload")]


def test_uploaded_pack_is_installed_without_a_server():
    case, boot = start()
    item = case["twins"]["honest"]
    upload(item)
    installer, network = device.offer(boot, item)
    assert installer.due and not network.ranges, installer.state
    assert uploads() == []
    assert device.boot().mode == "trial"


def test_tampered_pack_is_refused_and_the_same_offer_over_the_network_taken():
    case, boot = start()
    item = case["twins"]["honest"]
    running = chip.tree_of("/slots/a")
    for at in (5, len(item["pack"]) - 1):
        bad = bytearray(item["pack"])
        bad[at] ^= 1
        upload(item, bad)
        installer, network = device.offer(boot, item)
        assert not installer.due and installer.refused["reason"] == "digest", installer.state
        assert not network.ranges and uploads() == [] and chip.tree_of("/slots/a") == running
    upload(item, item["pack"][:-1])
    found, _ = device.offer(boot, item, found=installer)
    assert not found.due and found.refused["reason"] == "size" and uploads() == []
    found, network = device.offer(boot, item, found=installer)
    assert found.due and network.ranges, installer.state


def test_pack_of_another_envelope_is_not_taken_for_it():
    case, boot = start()
    item = case["twins"]["honest"]
    other = {"envelope": b"another", "pack": item["pack"]}
    upload(other)
    installer, network = device.offer(boot, item)
    assert installer.due and network.ranges
    assert len(uploads()) == 1


def test_forged_envelope_takes_its_pack_with_it():
    case, boot = start()
    for name in ("stranger", "flipped signature"):
        item = case["offers"][name]
        upload(item, b"x" * 100)
        installer, _ = device.offer(boot, item)
        assert installer.refused["reason"] == item["reason"] and uploads() == []
    upload({"envelope": b"no envelope"}, b"x" * 100)
    installer, _ = device.offer(boot, {"envelope": b"no envelope", "pack": b""})
    assert installer.refused["reason"] == "format" and uploads() == []


def test_pack_stays_while_the_policy_holds_the_offer_back():
    case, boot = start()
    boot.config.auto_install = False
    item = case["twins"]["honest"]
    upload(item)
    installer, network = device.offer(boot, item)
    assert not installer.due and installer.state["state"] == "downloaded" and len(uploads()) == 1
    assert installer.approve("install")
    found, network = device.offer(boot, item, found=installer)
    assert found.due and not network.ranges and uploads() == []


def test_pack_is_there_for_the_core_alone():
    from gatehouse import cbor

    case = device.decode(cases("components"), "pack")
    identity = cbor.loads(case["nvs"]["identity"])
    identity[8] = True  # a heap that never holds application and update at once
    case["nvs"]["identity"] = cbor.dumps(identity)
    device.provision(case)
    boot = device.boot()
    device.clock(case["now"])
    item = case["offers"]["app"]
    upload(item)
    installer, _ = device.offer(boot, item)
    assert installer.due and len(uploads()) == 1
    boot = device.boot()
    device.clock(case["now"])
    assert boot.mode == "install"
    installer, network = device.offer(boot, {"envelope": boot.pending, "pack": item["pack"]})
    assert installer.due and not network.ranges and uploads() == []
