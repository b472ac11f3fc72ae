"""Releases of several components: firmware, configuration, roll back, no return; `gatehouse configure`.

What is signed is read again by publish's check and by inspect, which must take the honest and name what is wrong.
"""

import json
import pathlib

import cbor2
import pytest
import shop

from gatehouse_tools import core, identity, keys, pack, product, publish, releases, suit
from gatehouse_tools.errors import GatehouseError, UsageError
from gatehouse_tools.image import flash

SIZE = 3 * pack.BLOCK + 4096


@pytest.fixture
def item(tmp_path):
    """A product with release 1.0.0 and a device that left with it."""
    item = shop.make(tmp_path / "shop")
    shop.release(item, "1.0.0")
    wifi = identity.Credentials(*identity.SIMULATED_WIFI)
    identity.provision(item, item.board(), releases.load(item, item.board()), identity.Config(), wifi, "gh-1")
    return item


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "firmware.bin"
    path.write_bytes(flash.stand_in_app("two", SIZE))
    return path


def call(item, *arguments):
    return shop.run(*arguments, "--product", item.root)


def signed(item, *arguments):
    done = call(item, *arguments, "--json")
    assert done.code == 0, done.err
    return done.json, suit.parse(bytes_of(done.json["envelope"]))


def bytes_of(path):
    return pathlib.Path(path).read_bytes()


def judged(item, path):
    """The offer as publish judges it for gh-1; inspect has to agree on whether it is good."""
    offer = publish.check(item, path, [item.device_facts("gh-1")])
    found = call(item, "inspect", path, "--json")
    assert found.code == (1 if any(one.reason != "expired" for one in offer.problems) else 0), (
        offer.problems,
        found.out,
    )
    return offer, found.json


def firmware(item, image, *more):
    return signed(item, "release", "--firmware", image, "--firmware-version", "2.0.0", *more)


# Firmware.


def test_firmware_travels_with_the_application(item, image):
    facts, envelope = firmware(item, image, "--version", "1.1.0", "--firmware-core", "1.4.0")
    assert facts["components"] == ["firmware", "app"] and envelope.components == [[b"firmware"], [b"app"]]
    assert facts["envelope"].endswith("shop-1.1.0.suit")
    assert [path.rpartition("/")[2] for path in facts["packs"]] == ["shop-firmware-2.0.0.pack", "shop-1.1.0.pack"]
    assert suit.verify(bytes_of(facts["envelope"]), [item.signer("release").key])
    first, second = releases.parts(envelope)
    index, files = pack.unpack((item.dist / "shop-firmware-2.0.0.pack").read_bytes())
    assert files == {"firmware.bin": image.read_bytes()}
    assert (first["digest"], first["size"], first["uri"]) == (index.digest, len(index.data), "shop-firmware-2.0.0.pack")
    assert (second["name"], second["uri"]) == ("app", "shop-1.1.0.pack")
    fields = cbor2.loads(index.data)
    assert [fields[key] for key in range(1, 6)] == [1, "shop", "2.0.0", "1.4.0", 6]
    path, size, _, stored, encoding, blocks = fields[6][0]
    assert (path, size, stored, encoding, len(blocks)) == ("firmware.bin", SIZE, SIZE, 0, 4)
    assert envelope.text["en"][(b"firmware",)] == {6: "2.0.0"}
    assert envelope.text["en"][(b"app",)][6] == "1.1.0"
    # Every sequence says first whose commands these are, and each component is invoked.
    for name in ("shared", "install", "validate", "invoke"):
        assert envelope.sections[name][0] == suit.SET_COMPONENT_INDEX
    assert envelope.sections["invoke"].count(suit.INVOKE) >= 2
    offer, told = judged(item, facts["envelope"] and item.dist / "shop-1.1.0.suit")
    assert not offer.problems and told["components"] == ["firmware", "app"]


def test_firmware_alone(item, image):
    facts, envelope = firmware(item, image, "--no-app")
    assert facts["envelope"].endswith("shop-firmware-2.0.0.suit") and envelope.components == [[b"firmware"]]
    assert (facts["version"], facts["components"]) == ("2.0.0", ["firmware"])
    path = item.dist / "shop-firmware-2.0.0.suit"
    assert not judged(item, path)[0].problems
    shown = call(item, "inspect", path)
    assert "provides" in shown.out and f"core {core.version()}" in shown.out
    shown = call(item, "inspect", item.dist / "shop-firmware-2.0.0.pack")
    assert shown.code == 0 and "firmware.bin" in shown.out
    # A device does not leave the factory with it.
    assert releases.load(item, item.board()).index.version == "1.0.0"


def test_the_core_inside_is_this_checkouts_unless_it_is_given(item, image):
    _, envelope = firmware(item, image, "--no-app", "--firmware-mpy", "7")
    index, _ = pack.unpack(releases.read_pack(item.dist / "x.suit", envelope))
    assert (index.core, index.mpy) == (core.version(), 7)


def test_a_firmware_pack_that_was_signed_does_not_change(item, image):
    firmware(item, image, "--no-app")
    image.write_bytes(flash.stand_in_app("three", SIZE))
    call(
        item, "release", "--version", "1.1.0", "--firmware", image, "--firmware-version", "2.0.0"
    ).refused(1, "shop-firmware-2.0.0.pack belongs to a signed release")  # fmt: skip
    assert not (item.dist / "shop-1.1.0.suit").exists()


def changed(at, value=None):
    def change(data):
        data = bytearray(data)
        data[at] = data[at] ^ 1 if value is None else value
        return bytes(data)

    return change


IMAGES = {
    "no image": (lambda data: b"text" + data[4:], 1, "does not begin with 0xE9", "[format]"),
    "damaged": (changed(5000), 1, "checksum", "[digest]"),
    "damaged in its header": (changed(9), 1, "SHA-256", "[digest]"),
    "cut": (lambda data: data[:-20], 1, "ends before its checksum", "[size]"),
    "cut in a segment": (lambda data: data[:5000], 1, "ends inside its segments", "[size]"),
    "more segments than there are": (changed(1, 2), 1, "", "["),
    "too small": (lambda data: flash.stand_in_app("x", 512), 1, "takes images of 4096 to 1572864", "[size]"),
    "too large": (lambda data: flash.stand_in_app("x", 0x180010), 1, "takes images of", "[size]"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_what_the_bootloader_would_not_start_is_not_signed(item, image, name):
    damage, code, *words = IMAGES[name]
    image.write_bytes(damage(image.read_bytes()))
    before = len(item.releases())
    call(item, "release", "--no-app", "--firmware", image, "--firmware-version", "2.0.0").refused(code, *words)
    assert len(item.releases()) == before and not list(item.dist.glob("*firmware*"))


def test_an_image_with_a_signature_behind_it(item, image):
    image.write_bytes(image.read_bytes() + bytes(4096))
    firmware(item, image, "--no-app")


def test_a_board_without_a_second_partition_gets_no_firmware(item, image):
    folder = item.root / "boards" / "small"
    folder.mkdir(parents=True)
    (folder / "board.toml").write_text(shop.BARE_BOARD + 'model = "SMALL"\nflash_size = 0x400000\n')
    rows = core.source("boards", "unix", "partitions.csv").read_text().splitlines()
    (folder / "partitions.csv").write_text("\n".join(row for row in rows if not row.startswith("ota_1")))
    path = item.root / "product.toml"
    path.write_text(path.read_text().replace('boards = ["unix"]', 'boards = ["unix", "small"]'))
    arguments = ("release", "--no-app", "--firmware", image, "--firmware-version", "2.0.0", "--board")
    call(item, *arguments, "small").refused(1, "small has no second application partition", "[component]")
    assert call(item, *arguments, "unix").code == 0


@pytest.mark.parametrize(
    ("option", "value", "reason"), [("core", "0.9.0", "core"), ("core", "2.0.0", "core"), ("mpy", "7", "mpy")]
)
def test_an_application_that_the_firmware_could_not_run(item, image, option, value, reason):
    arguments = ("release", "--version", "1.1.0", "--firmware", image, "--firmware-version", "2.0.0")
    call(item, *arguments, f"--firmware-{option}", value).refused(1, f"[{reason}]")
    assert len(item.releases()) == 1
    assert call(item, *arguments).code == 0


def test_packs_that_were_exchanged(item, image):
    """Each is whole and signed, but not as what it is."""
    app = pack.unpack((item.dist / "shop-1.0.0.pack").read_bytes())[0]
    component = suit.Component("firmware", app.digest, len(app.data), "shop-1.0.0.pack")
    path = item.dist / "exchanged.suit"
    kind = item.class_id(item.board()).bytes
    signer = item.signer("release")
    path.write_bytes(suit.build_envelope(item.last_sequence(), [component], item.vendor_id.bytes, kind, [signer]))
    offer, told = judged(item, path)
    assert [one.reason for one in offer.problems] == ["component"]
    assert "is of app, but signed as firmware" in told["problems"][0]["error"]


def test_a_damaged_firmware_pack_is_found(item, image):
    firmware(item, image, "--version", "1.1.0")
    path = item.dist / "shop-firmware-2.0.0.pack"
    data = path.read_bytes()
    path.write_bytes(changed(-5000)(data))
    offer, _ = judged(item, item.dist / "shop-1.1.0.suit")
    assert [one.reason for one in offer.problems] == ["digest"]
    path.unlink()
    offer = publish.check(item, item.dist / "shop-1.1.0.suit", [])
    assert "shop-firmware-2.0.0.pack" in str(offer.problems[0])
    path.write_bytes(data)
    assert not judged(item, item.dist / "shop-1.1.0.suit")[0].problems


# Configuration.


WINTER = 'broker = "10.0.0.9"\nport = 1883\ngroups = ["all"]\nupdates = false\nnotify = true\nwindow = [120, 60]\n'


@pytest.fixture
def winter(tmp_path):
    path = tmp_path / "winter.toml"
    path.write_text(WINTER)
    return path


def test_configure_signs_by_the_operators_key(item, winter):
    facts, envelope = signed(item, "configure", winter)
    path = item.dist / f"shop-config-{facts['sequence']}.suit"
    assert facts["envelope"] == str(path) and facts["components"] == ["config"] and facts["packs"] == []
    assert suit.verify(path.read_bytes(), [item.signer("operator").key])
    assert cbor2.loads(envelope.payloads["#config"]) == {
        1: "10.0.0.9", 2: 1883, 7: ["all"], 13: False, 16: True, 17: [120, 60],
    }  # fmt: skip
    assert "invoke" not in envelope.sections
    assert not judged(item, path)[0].problems
    again, _ = signed(item, "configure", winter)
    assert again["sequence"] > facts["sequence"] == item.releases()[1]["sequence"]
    shown = call(item, "inspect", path)
    assert "window" in shown.out and "[120, 60]" in shown.out


def test_a_configuration_without_a_broker_is_warned_about(item, winter):
    winter.write_text("updates = false\n")
    done = call(item, "configure", winter)
    assert done.code == 0 and done.err.startswith("warning: ") and "names no broker" in done.err


BAD_CONFIG = {
    "unknown": ("colour = 1", "unknown setting 'colour'"),
    "too small": ("report_seconds = 1", "report_seconds must be within 5..86400"),
    "another type": ('updates = "no"', "updates"),
    "number for a switch": ("notify = 1", "notify"),
    "window of one": ("window = [5]", "window"),
    "window at no minute of a day": ("window = [1440, 5]", "window"),
    "window of no minute": ("window = [0, 0]", "window"),
    "window of more than a day": ("window = [0, 1441]", "window"),
    "window of texts": ('window = ["a", "b"]', "window"),
    "unknown interface": ('interfaces = ["telnet"]', "interfaces"),
    "interface that is always open": ('interfaces = ["update"]', "interfaces"),
    "lockout of three": ("lockout = [3, 2, 900]", "lockout"),
    "lockout with a delay of a week": ("lockout = [3, 2, 604800, 1]", "lockout"),
    "lockout without a first delay": ("lockout = [3, 0, 900, 1]", "lockout"),
    "session of a second": ("session = [1, 3600, 4]", "session"),
    "no session at all": ("session = [300, 3600, 0]", "session"),
    "REPL for a day": ("repl_seconds = 86400", "repl_seconds"),
    "bounds of an unknown field": ("bounds = {port = [[1], [2]]}", "bounds"),
    "bounds beyond the device's": ("bounds = {lockout = [[0, 1, 1, 0], [21, 3600, 86400, 1]]}", "bounds"),
    "bounds of one": ("bounds = {session = [[30, 60, 1]]}", "bounds"),
    "bounds of no interface": ('bounds = {interfaces = ["telnet"]}', "bounds"),
    "no TOML": ("broker =", "winter.toml"),
}


@pytest.mark.parametrize("name", BAD_CONFIG)
def test_a_bad_configuration_is_one_line(item, winter, name):
    text, word = BAD_CONFIG[name]
    winter.write_text(text)
    call(item, "configure", winter).refused(2, "winter.toml", word)
    call(item, "release", "--version", "1.1.0", "--config", winter).refused(2, "winter.toml", word)
    assert len(item.releases()) == 1


GOOD_POLICY = (
    "interfaces = []",
    'interfaces = ["uart", "https", "mqtt-commands", "reset-button"]',
    "lockout = [0, 1, 1, 0]",
    "lockout = [20, 3600, 86400, 1]",
    "session = [30, 60, 1]",
    "session = [3600, 86400, 8]",
    "repl_seconds = 3600",
    "bounds = {}",
    'bounds = {interfaces = ["https"]}',
    "bounds = {lockout = [[0, 1, 1, 0], [20, 3600, 86400, 1]], session = [[30, 60, 1], [30, 60, 8]]}",
)


@pytest.mark.parametrize("text", GOOD_POLICY)
def test_policies_that_are_good(item, winter, text):
    winter.write_text(f"broker = 'x'\n{text}")
    assert call(item, "configure", winter).code == 0


@pytest.mark.parametrize("window", ([], [0, 1440], [1439, 1]))
def test_windows_that_are_good(item, winter, window):
    winter.write_text(f"broker = 'x'\nwindow = {window}")
    assert call(item, "configure", winter).code == 0


def test_configure_needs_the_file_and_the_key(item, winter, tmp_path):
    call(item, "configure", tmp_path / "none.toml").refused(1, "none.toml")
    (item.keys / "operator.pem").unlink()
    call(item, "configure", winter).refused(1, "operator.pem")


def test_a_release_with_a_configuration_is_signed_by_both(item, image, winter):
    facts, envelope = firmware(item, image, "--version", "1.1.0", "--config", winter, "--expires", "30")
    assert facts["components"] == ["firmware", "app", "config"]
    kids = [item.signer(role).kid.hex() for role in ("release", "operator")]
    assert facts["signers"] == kids and [block.kid.hex() for block in envelope.blocks] == kids
    assert {part["use_before"] for part in releases.parts(envelope)} == {facts["use_before"]}
    assert envelope.sections["invoke"].count(suit.SET_COMPONENT_INDEX) == 2, "a configuration is not invoked"
    assert not judged(item, item.dist / "shop-1.1.0.suit")[0].problems


def test_a_payload_that_is_not_the_signed_one(item, winter):
    facts, _ = signed(item, "configure", winter)
    path = item.dist / "other.suit"
    path.write_bytes(bytes_of(facts["envelope"]).replace(b"10.0.0.9", b"10.0.0.8"))
    offer, _ = judged(item, path)
    assert [one.reason for one in offer.problems] == ["digest"]
    kind, operator = item.class_id(item.board()).bytes, item.signer("operator")
    bad = suit.Component("config", payload=cbor2.dumps({8: 1}))
    path.write_bytes(suit.build_envelope(item.last_sequence(), [bad], item.vendor_id.bytes, kind, [operator]))
    offer, _ = judged(item, path)
    assert [one.reason for one in offer.problems] == ["format"]


def test_a_payload_that_is_not_there(item):
    config = suit.Component("config", payload=cbor2.dumps({1: "x"}))
    ids = item.vendor_id.bytes, item.class_id(item.board()).bytes
    path = item.dist / "without.suit"
    for payloads in ({config.uri: config.payload}, {}):
        manifest = suit.release_manifest(item.last_sequence(), [config], *ids)
        path.write_bytes(suit.wrap(manifest.encode(), [item.signer("operator")], payloads=payloads))
        offer, _ = judged(item, path)
        assert [one.reason for one in offer.problems] == ([] if payloads else ["format"])
        assert payloads or "is not in the envelope" in str(offer.problems[0])


def test_trust_anchors_can_be_inspected_and_offered(item):
    path = item.dist / "trust-unix-1.suit"
    offer, told = judged(item, path)
    assert not offer.problems and told["components"] == ["trust"]


# Roll back, and no return.


def test_an_authorised_roll_back(item, image):
    facts, before = firmware(item, image, "--version", "0.9.0")
    shop.release(item, "1.2.0")
    made, envelope = signed(item, "release", "--rollback-to", "0.9.0")
    assert made["sequence"] > item.releases()[-2]["sequence"]
    assert made["envelope"].endswith(f"shop-0.9.0-rollback-{made['sequence']}.suit")
    assert made["components"] == ["firmware", "app"] and made["digest"] != facts["digest"]
    keep = ("name", "digest", "size", "uri")
    old, new = ([[part[name] for name in keep] for part in releases.parts(one)] for one in (before, envelope))
    assert new == old
    assert envelope.text["en"][1] == "Authorised roll back from 1.2.0 to 0.9.0"
    assert suit.verify(bytes_of(made["envelope"]), [item.signer("release").key])
    path = item.dist / made["envelope"].rpartition("/")[2]
    offer, told = judged(item, path)
    assert not offer.problems and offer.notes == ["rolls devices back from 1.2.0 to 0.9.0"]
    assert "sequence number higher, version lower (1.2.0 to 0.9.0)" in told["notes"][0]
    # What goes forward says nothing of the kind.
    assert judged(item, item.dist / "shop-1.2.0.suit")[0].notes == []
    # It can be rolled back once more, and forward.
    assert call(item, "release", "--rollback-to", "1.0.0", "--description", "Because").code == 0
    assert call(item, "release", "--rollback-to", "1.2.0").code == 0


def test_a_roll_back_brings_no_configuration_back(item, winter):
    signed(item, "release", "--version", "1.1.0", "--config", winter)
    shop.release(item, "1.2.0")
    made, _ = signed(item, "release", "--rollback-to", "1.1.0")
    assert made["components"] == ["app"]


def without(name):
    return lambda item: (item.dist / name).unlink()


def with_another_envelope(item):
    (item.dist / "shop-1.0.0.suit").write_bytes((item.dist / "shop-1.1.0.suit").read_bytes())


def with_damaged_pack(item):
    path = item.dist / "shop-1.0.0.pack"
    path.write_bytes(changed(-3)(path.read_bytes()))


ROLLBACKS = {
    "unknown": (None, "3.0.0", 1, "has no release 3.0.0"),
    "the newest": (None, "1.1.0", 1, "nothing to roll back"),
    "no version": (None, "1.0", 2, "is not three numbers"),
    "envelope gone": (without("shop-1.0.0.suit"), "1.0.0", 1, "shop-1.0.0.suit"),
    "pack gone": (without("shop-1.0.0.pack"), "1.0.0", 1, "shop-1.0.0.pack"),
    "another envelope": (with_another_envelope, "1.0.0", 1, "[digest]"),
    "damaged pack": (with_damaged_pack, "1.0.0", 1, "[digest]"),
}


@pytest.mark.parametrize("name", ROLLBACKS)
def test_roll_backs_that_are_not_signed(item, name):
    prepare, version, code, word = ROLLBACKS[name]
    shop.release(item, "1.1.0")
    if prepare:
        prepare(item)
    call(item, "release", "--rollback-to", version).refused(code, word)
    assert len(item.releases()) == 2 and not list(item.dist.glob("*rollback*"))


def test_no_return(item):
    facts, envelope = signed(item, "release", "--version", "1.1.0", "--no-return")
    assert releases.parts(envelope)[0]["no_return"] is True
    parameters = envelope.sections["shared"][3]
    assert parameters[-256] is True
    _, told = judged(item, item.dist / "shop-1.1.0.suit")
    assert "must not run again" in told["notes"][0]
    assert "no-return" in call(item, "inspect", facts["envelope"]).out
    assert releases.parts(signed(item, "release", "--version", "1.2.0")[1])[0]["no_return"] is False


def test_the_device_has_the_same_label():
    assert core.module("suit_commands").NO_RETURN == suit.NO_RETURN


F = ["--firmware", "{image}"]
FV = [*F, "--firmware-version", "2.0.0"]
CALLS = {
    "no version": ([], "--version X.Y.Z"),
    "nothing at all": (["--no-app"], "leaves nothing"),
    "version without application": (["--no-app", *FV, "--version", "1.1.0"], "which --no-app leaves out"),
    "no return of what is not there": (["--no-app", *FV, "--no-return"], "which --no-app leaves out"),
    "firmware without its version": (["--no-app", *F], "go together"),
    "a version of no firmware": (["--version", "1.1.0", "--firmware-version", "1.0.0"], "go together"),
    "a core of no firmware": (["--version", "1.1.0", "--firmware-core", "1.0.0"], "go together"),
    "firmware version": (["--no-app", *F, "--firmware-version", "2"], "is not three numbers"),
    "firmware core": (["--no-app", *FV, "--firmware-core", "2"], "is not three numbers"),
    "roll back and more": (["--rollback-to", "1.0.0", "--version", "1.1.0"], "leave the other options"),
    "roll back with firmware": (["--rollback-to", "1.0.0", *FV], "leave the other options"),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls(item, image, name):
    arguments, word = CALLS[name]
    call(item, "release", *[one.format(image=image) for one in arguments]).refused(2, word)


# What a provisioned device gets.


def test_provision_takes_any_setting(item):
    done = call(
        item, "provision", "--id", "gh-2", "--set", "updates=false", "--set", "window=[60, 30]",
        "--set", "ntp=time.example", "--set", 'groups=["a", "b"]',
    )  # fmt: skip
    assert done.code == 0, done.err
    config = identity.change_config(identity.Config(), dict(map(identity.setting, ("updates=false",))), "x")
    assert config.updates is False
    for text, word in (("colour=1", "colour"), ("updates=1", "updates"), ("updates", "NAME=VALUE"), ("=1", "NAME")):
        call(item, "provision", "--id", "gh-3", "--set", text).refused(2, word)


def test_product_toml_can_hold_the_policy(item):
    path = item.root / "product.toml"
    path.write_text(path.read_text() + "auto_install = false\nwindow = [0, 60]\n")
    assert call(item, "provision", "--id", "gh-2").code == 0
    path.write_text(path.read_text().replace("window = [0, 60]", "window = [0]"))
    call(item, "provision", "--id", "gh-3").refused(2, "product.toml", "window")


def test_settings_of_a_command_line():
    assert identity.setting("port=1") == ("port", 1)
    assert identity.setting("broker=10.0.0.1") == ("broker", "10.0.0.1")
    assert identity.setting('broker="a=b"') == ("broker", "a=b")
    with pytest.raises(UsageError):
        identity.setting("port")


# Stand-in images.


@pytest.mark.parametrize("size", (416, 4096, 65536, 1 << 20))
def test_a_stand_in_of_any_size_is_an_image(size):
    data = flash.stand_in_app("x", size)
    assert len(data) == size
    flash.check_app(data, "x")
    assert data != flash.stand_in_app("y", size)
    blocks = {data[at : at + 4096] for at in range(0, size, 4096)}
    assert len(blocks) == -(-size // 4096), "no two sectors are the same"


@pytest.mark.parametrize("size", (100, 4100))
def test_a_stand_in_of_no_images_size(size):
    with pytest.raises(ValueError, match="size"):
        flash.stand_in_app("x", size)


def test_indexes_of_images_that_lie_are_refused():
    good = pack.build_firmware(flash.stand_in_app("x", SIZE), "shop", "1.0.0", "1.0.0")[0]
    assert good.component == "firmware"
    fields = cbor2.loads(good.data)
    for change in ({6: [fields[6][0][:5]]}, {6: [[*fields[6][0][:4], 1, fields[6][0][5]]]}):
        with pytest.raises(GatehouseError) as caught:
            pack.parse_index(cbor2.dumps(fields | change))
        assert caught.value.reason == "format"
    assert json.dumps(product.numbers("1.2.3")) == "[1, 2, 3]" and product.numbers("x") is None


def test_keys_of_the_operator_cannot_sign_an_application(item, image):
    """inspect says so; devices refuse it."""
    path = item.dist / "operator.suit"
    facts = releases.facts(suit.parse((item.dist / "shop-1.0.0.suit").read_bytes()))
    app = suit.Component("app", facts["digest"], facts["size"], facts["uri"])
    kind = item.class_id(item.board()).bytes
    signers: list[keys.Signer] = [item.signer("operator")]
    path.write_bytes(suit.build_envelope(item.last_sequence(), [app], item.vendor_id.bytes, kind, signers))
    assert call(item, "inspect", path).code == 1
