"""What the SUIT processor refuses: one test an attack, each with the honest manifest that it was made from.

`refused()` means refused before anything runs; where the attack shows only in the run, `drive()` does.
"""

from binascii import unhexlify

import fake_manifest
from fake_manifest import (
    APP,
    CLASS,
    IDENTITY,
    TWO,
    VENDOR,
    AnyKey,
    Device,
    Key,
    codes,
    drive,
    envelope,
    image,
    manifest,
    refused,
    sequence,
    taken,
)
from gatehouse import Refused, cbor, suit
from harness import cases, raises, seed


def authenticated(name, *keys):
    """The keys that signed case `name`, of those known: by default the release's and the operator's."""
    case = cases("suit")
    known = [Key(case["keys"][key]) for key in keys or ("release", "operator")]
    found = suit.Envelope(unhexlify(case["blocks"][name])).authenticate(known)
    return [key for key in ("release", "operator") for signer in found if signer.public.hex() == case["keys"][key]]


def not_authenticated(reason, name, *keys):
    with raises(Refused, reason):
        authenticated(name, *keys)


# Signatures


def test_manifest_is_not_parsed_before_authentication():
    case = cases("suit")["blocks"]
    with raises(Refused, "signature"):
        suit.Envelope(unhexlify(case["good"])).manifest()
    # A broken manifest is only found broken once its signature holds.
    not_authenticated("key", "broken-manifest-by-stranger")
    found = suit.Envelope(unhexlify(case["broken-manifest"]))
    found.authenticate([Key(cases("suit")["keys"]["release"])])
    with raises(Refused, "format"):
        found.manifest()
    # A refusal is no authentication.
    found = suit.Envelope(unhexlify(case["stranger"]))
    with raises(Refused, "key"):
        found.authenticate([Key(cases("suit")["keys"]["release"])])
    with raises(Refused, "signature"):
        found.manifest()


def test_unsigned():
    not_authenticated("key", "none")
    assert authenticated("good") == ["release"]


def test_signed_by_a_stranger():
    not_authenticated("key", "stranger")
    not_authenticated("key", "stranger-without-kid")
    not_authenticated("key", "good", "operator")  # a key that this device does not know
    assert authenticated("stranger-and-good") == ["release"]
    assert authenticated("without-kid") == ["release"]


def test_failing_block_of_a_known_key_refuses_the_envelope():
    not_authenticated("signature", "flipped")
    not_authenticated("signature", "stolen-kid")
    not_authenticated("signature", "good-and-flipped")  # the operator's good block does not help
    assert authenticated("two-signers") == ["release", "operator"]


def test_signature_over_something_else():
    not_authenticated("signature", "other-digest")
    not_authenticated("signature", "signs-the-manifest")
    not_authenticated("digest", "other-wrapper-digest")
    not_authenticated("unsupported", "sha-512-digest")


def test_algorithm_confusion():
    # The algorithm belongs to the key: a block cannot choose another.
    not_authenticated("signature", "hss-label")
    not_authenticated("signature", "eddsa-label")
    assert authenticated("es256-label") == ["release"]


def test_one_key_counts_once():
    assert authenticated("same-signer-twice") == ["release"]
    assert authenticated("good", "release", "release") == ["release"]


def test_five_blocks():
    not_authenticated("format", "five-blocks")
    assert authenticated("four-blocks") == ["release"]


def test_blocks_that_are_no_detached_sign1():
    for name, reason in (
        ("attached", "unsupported"),
        ("mac", "format"),
        ("untagged", "format"),
        ("not-cose", "format"),
        ("extra-header", "unsupported"),
    ):
        not_authenticated(reason, name)


def test_signature_checks_are_bounded():
    class Other(AnyKey):
        checked = 0

        def verify(self, message, signature):
            Other.checked += 1
            return False

    data = manifest()
    block = cbor.dumps(cbor.Tag(18, [b"\xa1\x01\x28", {}, None, bytes(64)]))
    wrapper = cbor.dumps([cbor.dumps(fake_manifest.digest(data))] + [block] * 4)
    found = suit.Envelope(cbor.dumps(cbor.Tag(107, {2: wrapper, 3: data})))
    with raises(Refused, "key"):
        found.authenticate([Other() for _ in range(8)])
    assert Other.checked == 8
    found.authenticate([Other(), AnyKey()])  # four blocks, two keys


def test_wrapper_that_is_no_list_of_byte_strings():
    data = manifest()
    digest = cbor.dumps(fake_manifest.digest(data))
    for reason, wrapper in (
        ("format", cbor.dumps([])),
        ("format", cbor.dumps({1: 2})),
        ("format", cbor.dumps([digest, "text"])),
        ("format", cbor.dumps([digest, 5])),
        ("format", cbor.dumps([cbor.loads(digest)])),
        ("format", cbor.dumps([digest]) + b"\x00"),
        ("format", cbor.dumps([cbor.dumps([-16])])),
        ("format", cbor.dumps([cbor.dumps([-16, b"short"])])),
        ("format", cbor.dumps([cbor.dumps([-16, bytes(32), 1])])),
        ("key", cbor.dumps([digest])),
    ):
        found = suit.Envelope(cbor.dumps(cbor.Tag(107, {2: wrapper, 3: data})))
        with raises(Refused, reason):
            found.authenticate([AnyKey()])


# The envelope's bytes


def not_split(reason, data):
    with raises(Refused, reason):
        suit.Envelope(data)


def test_every_truncation_and_trailing_bytes():
    data = unhexlify(cases("suit")["release"])
    for size in range(len(data)):
        not_split("format", data[:size])
    not_split("format", data + b"\x00")
    suit.Envelope(data)


def test_every_flipped_bit_is_refused():
    case = cases("suit")
    data = unhexlify(case["release"])
    key = Key(case["keys"]["release"])
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        try:
            found = suit.Envelope(damaged)
            found.authenticate([key])
            found.manifest()
        except Refused:
            continue
        raise AssertionError("bit %d of byte %d was not noticed" % (at % 8, at))
    found = suit.Envelope(data)
    found.authenticate([key])
    found.manifest()


def test_untagged_or_otherwise_tagged_envelope():
    honest = envelope(manifest())
    suit.Envelope(honest)
    not_split("format", honest[2:])
    not_split("format", b"\xd9\x04\x2e" + honest[2:])  # 1070, a bare manifest
    not_split("format", b"\xd8\x6b\x81\x00")
    not_split("format", b"")


def member(label, data):
    return cbor.dumps(label) + cbor.dumps(data)


def test_envelope_members_in_order_and_once():
    wrapper, data = member(2, b"wrapper"), member(3, b"manifest")
    suit.Envelope(b"\xd8\x6b\xa2" + wrapper + data)
    not_split("format", b"\xd8\x6b\xa2" + data + wrapper)
    not_split("format", b"\xd8\x6b\xa2" + wrapper + wrapper)
    not_split("format", b"\xd8\x6b\xa3" + wrapper + data + data)
    not_split("format", b"\xd8\x6b\xa1" + wrapper)
    not_split("format", b"\xd8\x6b\xa1" + data)
    not_split("format", b"\xd8\x6b\xa0")


def test_encodings_that_are_not_the_shortest():
    wrapper, data = member(2, b"wrapper"), member(3, b"manifest")
    not_split("format", b"\xd8\x6b\xbf" + wrapper + data + b"\xff")  # indefinite map
    not_split("format", b"\xd9\x00\x6b\xa2" + wrapper + data)  # long tag
    not_split("format", b"\xd8\x6b\xb8\x02" + wrapper + data)  # long count
    not_split("format", b"\xd8\x6b\xa2\x18\x02" + wrapper[1:] + data)  # long label
    not_split("format", b"\xd8\x6b\xa2\x02\x58\x07wrapper" + data)  # long length
    not_split("format", b"\xd8\x6b\xa2\x02\x5f\x47wrapper\xff" + data)  # indefinite string
    not_split("format", b"\xd8\x6b\xa2\x02\x5a\x7f\xff\xff\xffwrapper" + data)  # longer than everything
    not_split("format", b"\xd8\x6b\xa2\x02\x67wrapper" + data)  # text
    suit.Envelope(b"\xd8\x6b\xa2" + wrapper + data)


def test_unknown_envelope_members():
    data = manifest()
    for label in (0, 1, 4, 14, 15, 24, -1, b"x"):
        members = {2: b"wrapper", 3: data, label: b"x"}
        not_split("unsupported", cbor.dumps(cbor.Tag(107, members)))
    for label in (b"\xf5", b"\xf6", b"\xf9\x40\x00"):  # true, null, 2.0
        not_split("unsupported", b"\xd8\x6b\xa3" + member(2, b"w") + member(3, data) + label + b"\x41x")
    not_split("format", b"\xd8\x6b\xa3" + member(2, b"w") + member(3, data) + b"\x81\x01\x41x")
    suit.Envelope(envelope(data, {"#payload": b"x", "another": b""}))


def test_too_many_members():
    suit.Envelope(envelope(manifest(), {"#%d" % number: b"" for number in range(10)}))
    not_split("format", envelope(manifest(), {"#%d" % number: b"" for number in range(11)}))


def test_envelope_over_the_size_limit():
    room = suit.MAX_ENVELOPE - len(envelope(manifest(), {"#x": bytes(1000)})) + 1000
    honest = envelope(manifest(), {"#x": bytes(room)})
    assert len(honest) == suit.MAX_ENVELOPE
    suit.Envelope(honest)
    not_split("format", envelope(manifest(), {"#x": bytes(room + 1)}))


def test_payload_cannot_be_switched_between_check_and_use():
    data = bytearray(envelope(manifest(), {"#x": b"honest"}))
    found = suit.Envelope(data)
    at = bytes(data).index(b"honest")
    data[at : at + 6] = b"hacked"
    assert found.payload("#x") == b"honest"


# The manifest


def test_manifest_version():
    for version in (0, 2, -1, "1", True, None):
        refused("unsupported", version=version)
    taken(version=1)


def test_sequence_number():
    for number in (-1, "1", b"1", None, True, [1], 1 << 64):
        refused("format", number=number)
    for number in (0, 1, (1 << 64) - 1):
        assert taken(number=number).sequence == number


def test_manifest_members_outside_the_subset():
    for label in (0, 5, 6, 14, 15, 18, 24, 25, 99, -1, "x", b"x"):
        refused("unsupported", extra={label: b""})
    taken(uri="https://maker.example/manifest")
    refused("format", uri=b"x")


def test_manifest_that_is_not_deterministic():
    def sealed(data):
        found = suit.Envelope(envelope(data))
        found.authenticate([AnyKey()])
        return found.manifest()

    honest = manifest()
    sealed(honest)
    assert honest[:5] == b"\xa3\x01\x01\x02\x01"
    for data in (
        honest + b"\x00",  # trailing
        honest[:-1],
        b"\xa3\x02\x01\x01\x01" + honest[5:],  # out of order
        b"\xa3\x01\x01\x01\x01" + honest[5:],  # twice
        b"\xa3\x01\x18\x01\x02\x01" + honest[5:],  # long integer
        b"\xbf" + honest[1:] + b"\xff",  # indefinite
        b"\x80",
        b"\xd9\x04\x2e" + honest,  # tagged
        b"",
    ):
        with raises(Refused, "format"):
            sealed(data)


def test_common_part():
    taken(common=cbor.dumps({2: APP}))
    refused("format", common=cbor.dumps({}))
    refused("format", common=cbor.dumps([]))
    refused("format", common="text")
    refused("format", common={2: APP})
    refused("unsupported", common=cbor.dumps({1: {}, 2: APP}))  # dependencies
    refused("unsupported", common=cbor.dumps({2: APP, 5: b""}))
    refused("format", common=cbor.dumps({2: APP, 4: [14, 15]}))  # a sequence that is no byte string


def test_components():
    start = [12, True] + IDENTITY
    limit = suit.MAX_COMPONENTS
    assert len(taken(components=[[b"%d" % number] for number in range(limit)], shared=start).components) == limit
    refused("component", components=[[b"%d" % number] for number in range(limit + 1)], shared=start)
    for components in ([], [[]], ["app"], [[1]], [["app"]], [b"app"], {}, b"app", None):
        refused("format", components=components)
    refused("format", components=APP + APP, shared=start)
    assert taken(components=[[b"app", b"part"]]).components == [[b"app", b"part"]]


def test_unknown_component_index():
    taken(install=[12, 0, 14, 15])
    refused("component", install=[12, 1, 14, 15])
    taken(components=TWO, shared=[12, [0, 1]] + IDENTITY)
    refused("component", components=TWO, shared=[12, [0, 2]] + IDENTITY)
    refused("component", components=TWO, shared=[12, 2] + IDENTITY)
    for index in (-1, False, None, "0", [], [0, 0], [True], [[0]], 0.0):
        refused("format", install=[12, index, 14, 15])
    refused("component", install=[12, 0, 20, {22: 1}])
    taken(components=TWO, shared=[12, 0] + IDENTITY, install=[12, 0, 20, {22: 1}])


def test_several_components_and_no_index_first():
    whole = {"components": TWO, "shared": [12, True] + IDENTITY}
    taken(install=[12, 0, 14, 15], **whole)
    refused("format", install=[14, 15], **whole)
    refused("format", install=[14, 15, 12, 0], **whole)
    refused("format", components=TWO, shared=IDENTITY)
    taken(install=[14, 15])  # one component needs none
    # What is nested inherits the index.
    taken(install=[12, 0, 32, sequence(14, 15)], **whole)


def test_unknown_commands():
    for code in (0, 6, 7, 8, 11, 13, 16, 17, 19, 25, 26, 27, 28, 29, 30, 31, 33, 34, 35, 99, -1, -256, -300):
        refused("unsupported", install=[code, 15])
    for code in (True, None, "21", b"", [21], 21.0):
        refused("unsupported", install=[code, 15])
    taken(install=[20, {21: "x"}, 21, 15])


def test_command_that_is_no_number():
    for code in (cbor.Tag(1, 2), cbor.undefined, "21", b"\x15", [21], {21: 1}, None, 21.0):
        refused("unsupported", install=[20, {21: "x"}, code, 2])
    taken(install=[20, {21: "x"}, 21, 2])


def test_unknown_command_after_a_known_one_is_refused_before_anything_runs():
    refused("unsupported", install=[20, {21: "x"}, 21, 15, 99, 15])
    refused("unsupported", install=[15, [sequence(14, 15), sequence(99, 15)]])
    refused("unsupported", install=[32, sequence(32, sequence(99, 15))])
    taken(install=[32, sequence(32, sequence(14, 15))])


def test_unknown_parameters():
    for label in (0, 6, 12, 19, 23, 25, 26, 30, 99, -1, -300, "uri", b""):
        refused("unsupported", install=[20, {label: 1}])
    taken(install=[20, {21: "x"}])


def test_parameters_of_the_wrong_type():
    honest = {1: VENDOR, 2: CLASS, 24: bytes(16), 3: image()[3], 4: 1, 5: 0, 14: 1, 18: b"", 21: "", 22: 0}
    taken(install=[20, honest])
    wrong = {
        1: (b"short", bytes(17), "x" * 16, cbor.Tag(112, b"\x01")),  # 112: a private enterprise number
        2: (b"", 1, None),
        24: (bytes(15), True),
        3: (bytes(32), [-16, bytes(32)], b"", cbor.dumps([-16]), cbor.dumps([-16, bytes(31)]), cbor.dumps({})),
        4: (-1, True, "1", 1.0, 1 << 64),
        5: (-1, False, b""),
        14: (-1, True, None, 0.5),
        18: ("text", 1, None),
        21: (b"bytes", 1, cbor.Tag(32, "x")),
        22: (-1, True, "0"),
    }
    for label, values in wrong.items():
        for value in values:
            refused("format", install=[20, {label: value}])
    for digest in ([-16.0, bytes(32)], ["-16", bytes(32)], [-16, "x" * 32], [-16, None]):
        refused("format", install=[20, {3: cbor.dumps(digest)}])
    refused("unsupported", install=[20, {3: cbor.dumps([-44, bytes(64)])}])
    refused("unsupported", install=[20, {3: cbor.dumps([1, bytes(32)])}])
    for argument in ({}, [], None, 15, b""):
        refused("format", install=[20, argument])


def test_parameter_that_is_used_before_it_is_set():
    for commands, needed in (
        ([21, 15], {21: "x"}),
        ([22, 15], {22: 0}),
        ([18, 15], {18: b"x"}),
        ([3, 15], image()),
        ([5, 15], {5: 0}),
        ([4, 15], {4: 9999}),
        ([24, 15], {24: Device.device_id}),
    ):
        drive(taken(install=[20, needed] + commands), "install")
        with raises(Refused, "format"):
            drive(taken(install=commands), "install")
        # Not softened by try-each either: such a manifest is wrong in itself.
        with raises(Refused, "format"):
            drive(taken(install=[15, [sequence(*commands), sequence(20, {14: 1})]]), "install")
    for code in (1, 2):
        with raises(Refused, "format"):
            drive(taken(shared=[code, 15]), "validate")
    # What the driver needs beyond that is refused where it asks for it.
    with raises(Refused, "format"):
        drive(identified(), "install", answer=lambda code, index, parameters: parameters[suit.IMAGE_SIZE])


def test_reporting_policies():
    for policy in (16, -1, None, True, "x", [], 15.0):
        refused("format", install=[14, policy])
        refused("format", install=[20, {21: "x"}, 21, policy])
    for policy in (0, 15):
        taken(install=[14, policy])


def test_sequences_that_are_none():
    for commands in ([], [14], [14, 15, 14]):
        refused("format", install=commands)
    for commands in (b"", b"\x82\x0e", b"\x9f\x0e\x0f\xff", cbor.dumps({14: 15}), "text", 5):
        refused("format", install=commands)
    taken(install=cbor.dumps([14, 15]))


# Where a command may stand


def test_shared_sequence_only_prepares():
    for commands in ([21, 2], [22, 2], [18, 2], [23, 2], [4, 15], [-300, 15], [31, 15]):
        refused("unsupported", shared=[20, {4: 9999, 18: b"", 21: "x", 22: 0}] + IDENTITY + commands)
        refused("unsupported", shared=IDENTITY + [32, sequence(*commands)])
    nested = [15, [sequence(20, {5: 0}, 5, 15), sequence(20, {5: 1}, 5, 15)], 32, sequence(24, 15), 5, 15]
    taken(shared=IDENTITY + [12, 0, 20, {24: bytes(16)}] + nested)


def test_vendor_and_class_stand_at_the_top_of_the_shared_sequence():
    taken(shared=IDENTITY)
    for code in (1, 2):
        refused("unsupported", shared=IDENTITY + [32, sequence(code, 15)])
        refused("unsupported", shared=IDENTITY + [15, [sequence(code, 15), sequence(14, 15)]])
        for section in ("fetch", "install", "validate", "load", "invoke"):
            refused("unsupported", **{section: [code, 15]})


def test_use_before_stands_in_payload_fetch_and_install():
    commands = [20, {4: 9999}, 4, 15]
    for section in ("fetch", "install"):
        taken(**{section: commands})
        taken(**{section: [32, sequence(*commands)]})
    for section in ("validate", "load", "invoke"):
        refused("unsupported", **{section: commands})
        refused("unsupported", **{section: [32, sequence(*commands)]})


def test_directives_stand_where_they_belong():
    parameters = [20, {18: b"", 21: "x", 22: 0}]
    bring, change = ("fetch", "install"), ("fetch", "install", "load")
    allowed = {21: bring, 22: change, 18: change, 23: ("invoke",)}
    for code, sections in allowed.items():
        for section in ("fetch", "install", "validate", "load", "invoke"):
            if section in sections:
                taken(**{section: parameters + [code, 2]})
            else:
                refused("unsupported", **{section: parameters + [code, 2]})


# Flow


def test_soft_failure_outside_try_each_and_run_sequence():
    for value in (True, False):
        refused("format", install=[20, {13: value}])
        refused("format", shared=IDENTITY + [20, {13: value}])
        taken(install=[32, sequence(20, {13: value})])
        taken(install=[15, [sequence(20, {13: value}), sequence(20, {13: value})]])
    refused("format", install=[32, sequence(20, {13: 1})])


def test_try_each_that_is_exhausted():
    fails = [sequence(14, 15), sequence(14, 15)]
    with raises(Refused, "condition"):
        drive(taken(install=[15, fails]), "install")
    drive(taken(install=[15, fails + [None]]), "install")
    # The reason is the last condition's; an enclosing soft failure does not soften it: try-each is a directive.
    slots = [sequence(20, {5: 0}, 5, 15), sequence(20, {5: 1}, 5, 15)]
    no = lambda *_: False  # noqa: E731
    with raises(Refused, "slot"):
        drive(taken(install=[15, slots]), "install", answer=no)
    with raises(Refused, "slot"):
        drive(taken(install=[15, [sequence(15, slots), sequence(20, {21: "x"})]]), "install", answer=no)


def test_try_each_argument():
    one = sequence(14, 15)
    taken(install=[15, [one, one]])
    taken(install=[15, [one, one, None]])
    for argument in ([], [one], [one, None], [None], [None, one, one], [one, None, one], [one, None, None]):
        refused("format", install=[15, argument])
    for argument in (one, None, 15):
        refused("format", install=[15, argument])
    refused("format", install=[15, [one, [14, 15]]])
    refused("format", install=[15, [one, b""]])
    refused("format", install=[32, [14, 15]])


def nested(depth):
    commands = [14, 15]
    for _ in range(depth):
        commands = [32, sequence(*commands)]
    return commands


def test_nesting_too_deep():
    taken(install=nested(4))
    refused("format", install=nested(5))
    refused("format", install=nested(100))


def test_sequence_too_long():
    def commands(size):
        return [20, {18: bytes(size)}]

    spare = len(sequence(*commands(2000))) - 2000
    taken(install=commands(2048 - spare))
    refused("format", install=commands(2049 - spare))
    refused("format", install=[32, sequence(*commands(2049 - spare))])


def test_commands_that_multiply():
    # "For all components: for all components: ...": few bytes, many commands.
    components = [[b"%d" % number] for number in range(4)]
    shared = [12, True, 20, {24: Device.device_id}] + IDENTITY
    commands = [24, 15]
    for _ in range(3):
        commands = [12, True, 32, sequence(*commands)]
    found = taken(components=components, shared=shared, install=commands)
    for _ in range(5):
        drive(found, "install")  # each run has its own count
    commands = [12, True, 32, sequence(*commands)]
    with raises(Refused, "format"):
        drive(taken(components=components, shared=shared, install=commands), "install")


# Severed members


def test_severed_member_that_is_not_the_signed_one():
    case = cases("suit")

    def parsed(name):
        found = suit.Envelope(unhexlify(case["severed"][name]))
        found.authenticate([Key(case["keys"]["release"])])
        return found.manifest()

    parsed("present")
    for name in ("other-install", "other-text"):
        with raises(Refused, "digest"):
            parsed(name)
    with raises(Refused, "format"):
        parsed("unknown-payload-fetch")


def test_severed_member_is_checked_like_any_other():
    good, bad = sequence(14, 15), sequence(99, 15)
    taken({20: good}, install=fake_manifest.digest(good))
    refused("unsupported", {20: bad}, install=fake_manifest.digest(bad))
    refused("digest", {20: bad}, install=fake_manifest.digest(good))


def test_member_both_in_the_manifest_and_in_the_envelope():
    commands = sequence(14, 15)
    taken(install=commands)
    refused("format", {20: commands}, install=commands)
    refused("format", {23: b"\xa0"}, text=b"\xa0")
    refused("format", {23: b"\xa0"})


def test_only_severable_members_are_severed():
    digest = fake_manifest.digest(sequence(14, 15))
    taken(install=digest)
    taken(fetch=digest)
    taken(text=digest)
    for section in ("validate", "load", "invoke"):
        refused("format", **{section: digest})
    for value in ([-16], [-16, b"short"], [-16, bytes(32), 0]):
        refused("format", {20: b""}, install=value)
    with raises(Refused, "unsupported"):
        taken({20: b""}, extra={20: [-44, bytes(64)]})


# Conditions


def identified(vendor=VENDOR, cls=CLASS, device=None):
    parameters = {1: vendor, 2: cls}
    if device:
        parameters[24] = device
    return taken(shared=[20, parameters, 1, 15, 2, 15] + ([24, 15] if device else []), install=[20, {21: "x"}, 21, 2])


def test_wrong_vendor():
    drive(identified(), "install")
    with raises(Refused, "vendor"):
        drive(identified(vendor=bytes(16)), "install")


def test_wrong_class():
    drive(identified(), "install")
    with raises(Refused, "class"):
        drive(identified(cls=bytes(16)), "install")


def test_wrong_device():
    drive(identified(device=Device.device_id), "install")
    with raises(Refused, "device"):
        drive(identified(device=bytes(16)), "install")
    case = cases("suit")
    for name, reason in (("for-one-device", None), ("for-another-device", "device")):
        found = suit.Envelope(unhexlify(case[name]))
        found.authenticate([Key(case["keys"]["release"])])
        device = Device()
        device.vendor_id, device.class_id = unhexlify(case["vendor"]), unhexlify(case["class"])
        device.device_id = unhexlify(case["device"])
        if reason:
            with raises(Refused, reason):
                drive(found.manifest(), "validate", device=device)
        else:
            drive(found.manifest(), "validate", device=device)


def test_identity_fails_before_anything_is_fetched():
    asked = []
    with raises(Refused, "vendor"):
        drive(identified(vendor=bytes(16)), "install", answer=lambda *command: asked.append(command))
    assert asked == []


def test_use_before():
    found = taken(install=[20, {4: 3000, 21: "x"}, 4, 15, 21, 2])
    for clock in (1000, 2000, 2999):  # 1000 is not_before
        assert codes(drive(found, "install", device=Device(clock))) == [(suit.FETCH, 0)]
    for clock in (3000, 3001, 999, 0, None):  # past, a clock set back, unset
        with raises(Refused, "expired"):
            drive(found, "install", device=Device(clock))


def test_abort():
    with raises(Refused, "condition"):
        drive(taken(install=[14, 15]), "install")
    assert drive(taken(install=[20, {21: "x"}]), "install") == []


def test_condition_that_the_driver_denies():
    for code, reason, parameters in ((3, "digest", image()), (5, "slot", {5: 1})):
        found = taken(install=[20, parameters, code, 15])
        drive(found, "install")
        for answers in ([False], [None], [0]):
            with raises(Refused, reason):
                drive(found, "install", answer=lambda *_, answers=answers: answers[0])


def test_directive_that_fails_is_hard():
    whole = [20, {21: "x"}, 15, [sequence(21, 2), sequence(20, {14: 1})]]
    drive(taken(install=whole), "install")
    with raises(Refused, "condition"):
        drive(taken(install=whole), "install", answer=lambda *_: False)
    with raises(Refused, "condition"):
        drive(taken(install=whole), "install", answer=lambda *_: None)


# complete()


def done(shared=IDENTITY, **parts):
    found = taken(shared=shared, **parts)
    drive(found, "payload-fetch", "install", "validate")
    return found


def incomplete(**parts):
    found = done(**parts)
    with raises(Refused, "condition"):
        found.complete()


MATCHED = {"validate": [20, image(), 3, 15]}


def test_manifest_without_vendor_or_class():
    done(**MATCHED).complete()
    incomplete(shared=[20, {1: VENDOR, 2: CLASS}, 1, 15], **MATCHED)
    incomplete(shared=[20, {1: VENDOR, 2: CLASS}, 2, 15], **MATCHED)
    incomplete(common=cbor.dumps({2: APP}), **MATCHED)


def test_vendor_and_class_of_every_component():
    match = {"validate": [12, True, 20, image(), 3, 15]}
    done(components=TWO, shared=[12, True] + IDENTITY, **match).complete()
    done(components=TWO, shared=[12, 0] + IDENTITY + [12, 1] + IDENTITY, **match).complete()
    incomplete(components=TWO, shared=[12, 0] + IDENTITY, **match)
    incomplete(components=TWO, shared=[12, 1] + IDENTITY, **match)


def test_manifest_that_was_not_run():
    with raises(Refused, "condition"):
        taken(**MATCHED).complete()


def test_image_match_is_missing():
    done(**MATCHED).complete()
    incomplete()
    incomplete(install=[20, {21: "x"}, 21, 2])
    incomplete(components=TWO, shared=[12, True] + IDENTITY, validate=[12, 0, 20, image(), 3, 15])
    # Softly failed is not matched.
    found = taken(install=[20, image(), 15, [sequence(3, 15), sequence(20, {14: 1})]])
    drive(found, "install", answer=lambda *_: False)
    with raises(Refused, "condition"):
        found.complete()


def test_image_match_before_the_last_write():
    parameters = [20, image(), 20, {18: b"x", 21: "x", 22: 0}]
    for code in (21, 22, 18):
        done(install=parameters + [code, 2, 3, 15]).complete()
        incomplete(install=parameters + [3, 15, code, 2])
        incomplete(install=parameters + [code, 2, 3, 15, code, 2])
    # A write to another component does not count against this one.
    shared = [12, True] + IDENTITY + parameters
    done(components=TWO, shared=shared, install=[12, 0, 21, 2, 3, 15, 12, 1, 21, 2, 3, 15]).complete()
    incomplete(components=TWO, shared=shared, install=[12, 0, 21, 2, 3, 15, 12, 1, 21, 2, 3, 15, 12, 0, 21, 2])


# Robustness


def test_memory_error_passes_through():
    class Full(AnyKey):
        def verify(self, message, signature):
            raise MemoryError

    data = envelope(manifest(**MATCHED))
    found = suit.Envelope(data)
    with raises(MemoryError):
        found.authenticate([Full()])
    found.authenticate([AnyKey()])
    parsed = found.manifest()

    def full(*_):
        raise MemoryError

    with raises(MemoryError):
        drive(parsed, "validate", answer=full)
    honest = cbor.loads
    cbor.loads = full
    try:
        with raises(MemoryError):
            found.manifest()
        with raises(MemoryError):
            found.authenticate([AnyKey()])
        with raises(MemoryError):
            drive(parsed, "validate")
    finally:
        cbor.loads = honest
    drive(found.manifest(), "validate")


def test_random_damage_under_a_good_signature():
    """Even the holder of a key cannot make the processor do anything but run or refuse."""
    import random

    random.seed(seed())
    alternatives = [15, [sequence(20, {5: 0, 13: True}, 5, 15), sequence(20, {5: 1}, 5, 15), None]]
    honest = manifest(
        components=TWO,
        shared=[12, True] + IDENTITY + [20, image()],
        fetch=[12, [1, 0], 20, {21: "x", 4: 3000}, 4, 15] + alternatives,
        install=[12, 0, 20, {21: "x", 18: b"y"}, 21, 2, 18, 2, 3, 15, 12, 1, 20, {22: 0}, 22, 2, 32, sequence(3, 15)],
        validate=[12, True, 3, 15],
        invoke=[12, 0, 23, 2],
    )
    ran = 0
    for _ in range(600):
        damaged = bytearray(honest)
        for _ in range(random.randint(0, 2)):
            damaged[random.randrange(len(damaged))] = random.choice(b"\x00\x01\x0c\x0f\x15\x20\x80\xf5\xf6\xff")
        try:
            found = suit.Envelope(envelope(bytes(damaged)))
            found.authenticate([AnyKey()])
            parsed = found.manifest()
            drive(parsed, "payload-fetch", "install", "validate", "invoke", answer=lambda *_: random.random() < 0.95)
            parsed.complete()
            ran += 1
        except Refused:
            pass
    assert 0 < ran < 600
