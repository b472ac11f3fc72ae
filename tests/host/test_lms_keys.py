"""HSS/LMS keys on the host: parameter sets, files, and the state: no leaf signs twice, whatever happens."""

import json
import multiprocessing
import os
import pathlib
import queue
import random
import shutil
import stat

import pyhsslms
import pytest

from cases import lms as cases
from gatehouse_tools import cose, keys, lms_keys
from gatehouse_tools.errors import GatehouseError, UsageError

H5 = lms_keys.Parameters(5, 4)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """The user's counters, for this test alone."""
    monkeypatch.setenv(lms_keys.STATE_HOME, str(tmp_path / "state"))
    return tmp_path / "state" / "gatehouse" / "lms"


@pytest.fixture
def rng(seed):
    return random.Random(seed)


@pytest.fixture
def signer(tmp_path):
    (tmp_path / "keys").mkdir()
    return lms_keys.generate(tmp_path / "keys" / "root.lms", H5, tmp_path / "ledger")


def again(signer, ledger="ledger"):
    """The key, loaded as another call of the tools does."""
    return keys.load(signer.path, ledger and signer.path.parent.parent / ledger)


def leaf(signature):
    return int.from_bytes(signature[4:8], "big")


def refused(word, function, *arguments):
    with pytest.raises(GatehouseError, match=word) as caught:
        function(*arguments)
    assert caught.value.reason == "key"


# Parameter sets and verification.


def test_parameter_sets():
    for n in cases.LENGTHS:
        for height in cases.HEIGHTS:
            for width in cases.WIDTHS:
                found = lms_keys.Parameters.parse(f"h{height}/w{width}/m{n}")
                assert found == lms_keys.Parameters(height, width, n)
                assert found.types == b"".join(cases.types(n, height, width))
    assert lms_keys.Parameters.parse("H10/W4") == lms_keys.DEFAULT
    assert str(lms_keys.DEFAULT) == "LMS_SHA256_M32_H10/LMOTS_SHA256_N32_W4"
    for bad in ("", "H10", "H10/W3", "H25/W4", "H10/W4/M16", "H10/W4/", "10/4", "H10/W4/M32/x"):
        with pytest.raises(UsageError, match="H10/W4"):
            lms_keys.Parameters.parse(bad)


def test_sizes(rng):
    sizes = {}
    for n in cases.LENGTHS:
        for width in cases.WIDTHS:
            made = cases.Leaf(rng, n, 10, width, 3)
            parameters = lms_keys.Parameters.of(made.public)
            assert (len(made.sign(b"")), len(made.public)) == (parameters.signature_size, parameters.public_size)
            sizes[n, width] = parameters.signature_size
    assert (sizes[32, 4], sizes[32, 8], sizes[24, 4], sizes[24, 8]) == (2512, 1456, 1504, 904)  # docs/keys.md


def test_verification_is_the_devices(rng):
    for name in ("types", "leaves"):
        for _, public, message, signature, verdict in cases.make(rng)[name]:
            assert lms_keys.verify(public, message, signature) is verdict
            assert keys.PublicKey(keys.HSS_LMS, public).verify(message, signature) is verdict
            assert lms_keys.verify(public, message + b"x", signature) is False
    for name in ("neighbours", "wide"):
        for public, message, signature in cases.make(rng)[name]:
            assert lms_keys.verify(public, message, signature) is False


def test_every_header_byte_counts(rng):
    made = cases.Leaf(rng, 24, 5, 8, 3)
    message, signature = b"x", made.sign(b"x")
    path = len(signature) - 4 - 5 * 24
    assert lms_keys.verify(made.public, message, signature)
    for data in (made.public, signature):
        for at in [*range(12), *([path, path + 3] if data is signature else []), len(data) - 1]:
            bad = bytearray(data)
            bad[at] ^= 1
            both = (bytes(bad), signature) if data is made.public else (made.public, bytes(bad))
            assert not lms_keys.verify(both[0], message, both[1]), at
    for cut in (0, 3, 4, 12, -1):
        assert not lms_keys.verify(made.public, message, signature[:cut])
        assert not lms_keys.verify(made.public[:cut], message, signature)
    assert not lms_keys.verify(made.public, message, signature + b"\0")
    assert not lms_keys.verify(made.public + b"\0", message, signature)


# Files.


def test_files(signer):
    private, pub = signer.path, lms_keys.public_path(signer.path)
    assert stat.S_IMODE(private.stat().st_mode) == stat.S_IMODE(lms_keys.state_path(private).stat().st_mode) == 0o600
    assert keys.load_public(private) == keys.load_public(pub) == signer.key == again(signer).key
    assert json.loads(private.read_text())["seed"] not in pub.read_text()
    assert lms_keys.is_public(pub.read_bytes()) and not lms_keys.is_private(pub.read_bytes())
    assert (signer.alg, len(signer.public), signer.kid) == (-46, 60, keys.key_id(signer.public))
    refused("not a private key", keys.load, pub)


@pytest.mark.parametrize("name", ["root.lms", "root.lms.state", "root.lms.pub"])
def test_a_key_is_never_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(GatehouseError, match="never overwritten"):
        lms_keys.generate(tmp_path / "root.lms", H5)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"


def test_damaged_keys(signer):
    good = json.loads(signer.path.read_text())
    leaves = good["leaves"]
    for bad in (
        {"seed": good["seed"][2:]},
        {"seed": "x"},
        {"leaves": leaves[:-4]},
        {"leaves": "AAAA" + leaves[4:]},
        {"public": good["public"][:-2] + f"{int(good['public'][-2:], 16) ^ 1:02x}"},
        {"public": "01" + good["public"][2:]},
        {"parameters": "LMS_SHA256_M32_H10/LMOTS_SHA256_N32_W4"},
        {"public": None},
    ):
        signer.path.write_text(json.dumps(good | bad))
        refused("damaged", keys.load, signer.path)
    signer.path.write_text(json.dumps(good | {"seed": "00" * 32}))
    refused("does not match its public key", again(signer).sign, b"x")
    signer.path.write_text(json.dumps(good))
    assert leaf(again(signer).sign(b"x")) == 1


def test_a_large_tree_is_made_by_several_processes(tmp_path):
    steps: list[int] = []
    made = lms_keys.generate(tmp_path / "root.lms", lms_keys.Parameters(10, 1, 24), None, steps.append)
    assert sum(steps) == 1024
    signature = made.sign(b"x")
    assert pyhsslms.HssPublicKey.deserialize(made.public).verify(b"x", signature)


# Signing.


def test_signatures_are_pyhsslmss_too(signer):
    for number in range(3):
        signature = signer.sign(b"message")
        assert leaf(signature) == number
        assert pyhsslms.HssPublicKey.deserialize(signer.public).verify(b"message", signature)
        assert signer.key.verify(b"message", signature) and not signer.key.verify(b"messagf", signature)


def test_cose(signer):
    block = cose.parse_sign1(cose.sign1_detached(signer, b"payload"))
    assert (block.protected, block.kid) == (b"\xa1\x01\x38\x2d", signer.kid)  # RFC 8778: {1: -46}
    assert block.signed_by([keys.generate().key, signer.key], b"payload") == signer.key
    assert block.signed_by([signer.key], b"other") is None
    assert block.signed_by([keys.generate().key], b"payload") is None


def test_each_call_goes_on_where_the_last_one_ended(signer):
    assert [leaf(again(signer).sign(b"x")) for _ in range(4)] == [0, 1, 2, 3]
    assert again(signer).remaining() == 28


def test_a_link_leads_to_the_state_beside_the_key(signer, tmp_path):
    link = tmp_path / "root.lms"
    link.symlink_to(signer.path)
    assert leaf(keys.load(link).sign(b"x")) == 0
    assert leaf(again(signer).sign(b"x")) == 1
    assert not lms_keys.state_path(link).exists()


def test_the_state_is_on_the_disk_before_the_leaf_signs(signer, monkeypatch):
    events = []

    def traced(module, name, note):
        real = getattr(module, name)

        def call(*arguments):
            events.append(note(*arguments))
            return real(*arguments)

        monkeypatch.setattr(module, name, call)

    traced(os, "fsync", lambda handle: ("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
    traced(os, "replace", lambda old, new: ("rename", pathlib.Path(new).name))
    traced(pyhsslms.LmotsPrivateKey, "sign", lambda *_: ("sign", ""))
    again(signer).sign(b"x")
    ledger = f"{signer.kid.hex()}.json"
    assert events == [
        ("sync", "root.lms.state.new"), ("rename", "root.lms.state"), ("sync", "keys"),
        ("sync", f"{ledger}.new"), ("rename", ledger), ("sync", "ledger"),
        ("sync", f"{ledger}.new"), ("rename", ledger), ("sync", "lms"),
        ("sign", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("writes", range(4))
def test_a_crash_wastes_a_leaf_at_most(signer, monkeypatch, writes):
    """A crash after so many of the three writes: the next signature has a leaf that was never used."""
    real = lms_keys.write_synced
    done: list[pathlib.Path] = []

    def crash(path, data):
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        real(path, data)

    def never(*_):
        raise KeyboardInterrupt

    used = leaf(signer.sign(b"first"))
    with monkeypatch.context() as patch:
        patch.setattr(lms_keys, "write_synced", crash)
        patch.setattr(pyhsslms.LmotsPrivateKey, "sign", never)
        with pytest.raises(KeyboardInterrupt):
            signer.sign(b"second")
    assert len(done) == min(writes, 3)
    assert leaf(again(signer).sign(b"third")) == used + (1 if writes == 0 else 2)


def test_what_cannot_be_written_signs_nothing(signer, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    def never(*_):
        raise AssertionError("signed")

    monkeypatch.setattr(pyhsslms.LmotsPrivateKey, "sign", never)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        refused("No space left", signer.sign, b"x")
    shutil.rmtree(signer.path.parent.parent / "ledger")
    (signer.path.parent.parent / "ledger").write_text("in the way")
    with pytest.raises(GatehouseError, match="ledger"):
        signer.sign(b"x")


def test_a_signature_that_does_not_verify_stays_inside(signer, monkeypatch):
    monkeypatch.setattr(pyhsslms.LmotsPrivateKey, "sign", lambda self, message: bytes(2180))
    refused("does not match", signer.sign, b"x")


def _sign_some(path, ledger, count, answers):
    signer = keys.load(path, ledger)
    answers.put([signer.sign(b"x").hex() for _ in range(count)])


def test_processes_never_share_a_leaf(signer):
    answers: multiprocessing.Queue = multiprocessing.Queue()
    arguments = (signer.path, signer.path.parent.parent / "ledger", 5, answers)
    processes = [multiprocessing.Process(target=_sign_some, args=arguments, daemon=True) for _ in range(4)]
    for process in processes:
        process.start()
    found = [bytes.fromhex(text) for _ in processes for text in answers.get(timeout=60)]
    for process in processes:
        process.join()
    assert sorted(map(leaf, found)) == list(range(20))
    assert all(signer.key.verify(b"x", signature) for signature in found)


def test_a_copied_key_and_its_original_do_not_share_a_leaf(signer, tmp_path):
    """One user, one machine: the second to sign finds that the first has."""
    copy = tmp_path / "copy"
    shutil.copytree(signer.path.parent, copy / "keys")
    other = keys.load(copy / "keys" / "root.lms")
    assert leaf(signer.sign(b"x")) == 0
    refused("old copy", other.sign, b"x")
    refused("old copy", keys.load(copy / "keys" / "root.lms").sign, b"x")
    assert leaf(signer.sign(b"x")) == 1


def test_two_copies_at_once(signer, tmp_path):
    copies = [signer.path]
    for number in range(3):
        shutil.copytree(signer.path.parent, tmp_path / f"copy{number}" / "keys")
        copies.append(tmp_path / f"copy{number}" / "keys" / "root.lms")
    answers: multiprocessing.Queue = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=_sign_one, args=(path, answers), daemon=True) for path in copies]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(found) == [-1, -1, -1, 0]


def test_two_copies_at_once_wait_for_each_other(signer, tmp_path):
    shutil.copytree(signer.path.parent, tmp_path / "copy")
    spawned = multiprocessing.get_context("spawn")  # a forked process would hold our lock itself
    answers = spawned.Queue()
    process = spawned.Process(target=_sign_one, args=(tmp_path / "copy" / "root.lms", answers), daemon=True)
    with signer._alone():
        process.start()
        with pytest.raises(queue.Empty):
            answers.get(timeout=2)
    assert answers.get(timeout=30) == 0
    process.join()


def _sign_one(path, answers):
    try:
        answers.put(leaf(keys.load(path).sign(b"x")))
    except GatehouseError:
        answers.put(-1)


def restored(signer):
    """keys/ as it was before two signatures."""
    folder = signer.path.parent
    shutil.copytree(folder, folder.with_name("backup"))
    for _ in range(2):
        signer.sign(b"x")
    shutil.rmtree(folder)
    folder.with_name("backup").rename(folder)


def test_a_restored_state_is_refused_by_the_users_counter(signer):
    restored(signer)
    refused("says 0 signatures, and 2 were made", again(signer, None).sign, b"x")


def test_a_restored_state_is_refused_by_the_products_ledger(signer, state):
    restored(signer)
    shutil.rmtree(state)
    refused("says 0 signatures, and 2 were made", again(signer).sign, b"x")


def test_a_restored_state_without_any_counter_is_not_seen(signer, state):
    """What docs/keys.md says cannot be detected."""
    restored(signer)
    shutil.rmtree(state)
    assert leaf(again(signer, None).sign(b"x")) == 0


def test_the_newest_copy_goes_on_elsewhere(signer, state, tmp_path):
    signer.sign(b"x")
    shutil.rmtree(state)
    signer.path.parent.rename(tmp_path / "moved")
    assert leaf(keys.load(tmp_path / "moved" / "root.lms").sign(b"x")) == 1
    assert json.loads((state / f"{signer.kid.hex()}.json").read_text())["next"] == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "00", "next": 0}', '{"next": 0}'])
def test_a_damaged_state_signs_nothing(signer, state, text):
    places = [lms_keys.state_path(signer.path), state / f"{signer.kid.hex()}.json"]
    for place in places:
        good = place.read_text()
        place.write_text(text)
        refused("not the state of this key", again(signer).sign, b"x")
        for number in ('"0"', "-1", "true", "0.0"):
            place.write_text(f'{{"key": "{signer.kid.hex()}", "next": {number}}}')
            refused("not the state of this key", again(signer).sign, b"x")
        place.write_text(good)
    assert leaf(again(signer).sign(b"x")) == 0


def test_a_missing_state_signs_nothing(signer):
    lms_keys.state_path(signer.path).unlink()
    refused("root.lms.state is missing", again(signer).sign, b"x")


def test_the_end_of_a_key(signer):
    warned = []
    for number in range(32):
        one = again(signer)
        assert leaf(one.sign(b"x")) == number
        warned.append(len(one.warnings))
    assert warned == [0] * 28 + [1] * 4  # fewer than a tenth of 32 are left
    assert "root.lms has 0 of 32 signatures left" in one.warnings[0] and "gatehouse trust next" in one.warnings[0]
    assert again(signer).remaining() == 0
    refused("all 32 signatures of this key are used; make its successor", again(signer).sign, b"x")
    refused("all 32 signatures", signer.sign, b"x")
