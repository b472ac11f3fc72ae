"""The SUIT processor on honest input: authentication, the order and meaning of commands, the draft's own examples."""

from binascii import unhexlify

from fake_manifest import APP, IDENTITY, TWO, Device, Key, codes, drive, image, sequence, taken
from gatehouse import Refused, suit
from harness import cases, raises, shared

FETCH, MATCH = suit.FETCH, suit.IMAGE_MATCH


def release_device(case, clock=0):
    device = Device(clock or case["sequence"] + 60)
    device.vendor_id = unhexlify(case["vendor"])
    device.class_id = unhexlify(case["class"])
    device.device_id = unhexlify(case["device"])
    device.not_before = case["sequence"] - 1000
    return device


# Authentication


def test_release_is_authenticated_and_runs():
    case = cases("suit")
    envelope = suit.Envelope(unhexlify(case["release"]))
    key = Key(case["keys"]["release"])
    assert envelope.authenticate([Key(case["keys"]["operator"]), key]) == [key]
    manifest = envelope.manifest()
    assert manifest.sequence == case["sequence"]
    assert manifest.components == APP
    assert manifest.digest == envelope.digest
    done = drive(manifest, "payload-fetch", "install", "validate", device=release_device(case))
    assert codes(done) == [(FETCH, 0), (MATCH, 0), (MATCH, 0)]
    parameters = done[0][2]
    assert parameters[suit.URI] == "demo-1.1.0.pack"
    assert parameters[suit.IMAGE_SIZE] == len(unhexlify(case["index"]))
    assert len(parameters[suit.IMAGE_DIGEST]) == 32
    manifest.complete()


def test_boot_of_a_release():
    case = cases("suit")
    envelope = suit.Envelope(unhexlify(case["release"]))
    envelope.authenticate([Key(case["keys"]["release"])])
    manifest = envelope.manifest()
    # Long after use-before, and without a clock: neither is asked at boot.
    device = release_device(case)
    device.now = None
    done = drive(manifest, "validate", "load", "invoke", device=device)
    assert codes(done) == [(MATCH, 0), (suit.INVOKE, 0)]
    manifest.complete()


def test_integrated_payload():
    case = cases("suit")
    envelope = suit.Envelope(unhexlify(case["integrated"]))
    envelope.authenticate([Key(case["keys"]["operator"])])
    done = drive(envelope.manifest(), "install", device=release_device(case))
    assert envelope.payload(done[0][2][suit.URI]) == unhexlify(case["config"])
    for uri in ("#other", "", 2, 3, None, b"#config"):
        assert envelope.payload(uri) is None


def test_several_components_and_signers():
    case = cases("suit")
    envelope = suit.Envelope(unhexlify(case["two-components"]))
    keys = [Key(case["keys"][name]) for name in ("operator", "release")]
    assert set(envelope.authenticate(keys)) == set(keys)
    manifest = envelope.manifest()
    assert manifest.components == TWO
    done = drive(manifest, "install", "validate", "invoke", device=release_device(case))
    assert codes(done) == [(FETCH, 0), (MATCH, 0), (FETCH, 1), (MATCH, 1), (MATCH, 0), (MATCH, 1), (suit.INVOKE, 0)]
    manifest.complete()


def test_severed_members_may_be_there_or_not():
    case = cases("suit")
    digests = set()
    for name in ("present", "text-severed", "all-severed"):
        envelope = suit.Envelope(unhexlify(case["severed"][name]))
        envelope.authenticate([Key(case["keys"]["release"])])
        manifest = envelope.manifest()
        digests.add(manifest.digest)
        device = release_device(case)
        assert codes(drive(manifest, "validate", "invoke", device=device)) == [(MATCH, 0), (suit.INVOKE, 0)]
        if name == "all-severed":
            with raises(Refused, "format") as caught:
                drive(manifest, "install", device=device)
            assert "install" in caught.value.detail
        else:
            assert codes(drive(manifest, "install", device=device)) == [(FETCH, 0), (MATCH, 0)]
    assert len(digests) == 1


# The order and meaning of commands


def test_section_that_is_missing_does_nothing_but_the_shared_sequence():
    found = taken()
    for section in ("payload-fetch", "install", "validate", "load", "invoke"):
        assert drive(found, section) == []


def test_parameters_are_those_of_their_component():
    install = [12, 0, 20, {21: "a"}, 12, 1, 20, {21: "b"}, 21, 2, 12, 0, 21, 2]
    done = drive(taken(shared=[12, 0] + IDENTITY, components=TWO, install=install), "install")
    assert [(index, parameters[suit.URI]) for _, index, parameters in done] == [(1, "b"), (0, "a")]
    assert suit.SOURCE_COMPONENT not in done[0][2]


def test_parameters_do_not_outlive_their_section():
    found = taken(install=[20, {21: "a"}, 21, 2], fetch=[21, 2])
    assert codes(drive(found, "install")) == [(FETCH, 0)]
    with raises(Refused, "format"):
        drive(found, "payload-fetch")


def test_later_override_wins():
    done = drive(taken(install=[20, {21: "a", 14: 1}, 20, {21: "b"}, 21, 2]), "install")
    assert (done[0][2][suit.URI], done[0][2][suit.IMAGE_SIZE]) == ("b", 1)


def test_component_index_true_and_list():
    whole = {"components": [[b"a"], [b"b"], [b"c"]], "shared": [12, True] + IDENTITY}
    for index, indices in ((True, (0, 1, 2)), ([2, 0], (2, 0)), ([1], (1,)), (1, (1,))):
        done = drive(taken(install=[12, index, 20, {21: "x"}, 21, 2], **whole), "install")
        assert codes(done) == [(FETCH, at) for at in indices]


def test_nested_sequences_run_once_for_each_component():
    # Section 6.5: the whole sequence for one component, then for the next.
    inner = sequence(20, {21: "x"}, 21, 2, 3, 15)
    shared = [12, True] + IDENTITY + [20, image()]
    done = drive(taken(shared=shared, components=TWO, install=[12, True, 32, inner]), "install")
    assert codes(done) == [(FETCH, 0), (MATCH, 0), (FETCH, 1), (MATCH, 1)]


def test_component_index_of_a_nested_sequence_ends_with_it():
    install = [12, 0, 20, {21: "x"}, 32, sequence(12, 1, 20, {21: "y"}, 21, 2), 21, 2]
    done = drive(taken(shared=[12, True] + IDENTITY, components=TWO, install=install), "install")
    assert codes(done) == [(FETCH, 1), (FETCH, 0)]


def test_copy_write_and_load():
    install = [12, 0, 20, {18: b"content"}, 18, 2, 12, 1, 20, {22: 0}, 22, 2]
    load = [12, 1, 20, {22: 0}, 22, 2]
    found = taken(shared=[12, True] + IDENTITY, components=TWO, install=install, load=load)
    done = drive(found, "install", "load")
    assert codes(done) == [(suit.WRITE, 0), (suit.COPY, 1), (suit.COPY, 1)]
    assert done[0][2][suit.CONTENT] == b"content"
    assert done[1][2][suit.SOURCE_COMPONENT] == 0


def in_slot(number, asked=None):
    """The answers of a driver whose component is in slot `number`; what it was asked goes to the list `asked`."""

    def answer(code, index, parameters):
        if code != suit.COMPONENT_SLOT:
            return True
        if asked is not None:
            asked.append(parameters[suit.SLOT])
        return parameters[suit.SLOT] == number

    return answer


def test_try_each_takes_the_first_that_holds():
    alternatives = [sequence(20, {5: slot}, 5, 15, 20, {21: "slot %d" % slot}) for slot in range(3)]
    found = taken(install=[15, alternatives, 21, 2])
    for slot in range(3):
        asked = []
        done = drive(found, "install", answer=in_slot(slot, asked))
        assert done[-1][2][suit.URI] == "slot %d" % slot
        assert asked == list(range(slot + 1))


def test_try_each_with_nil_goes_on():
    install = [20, {21: "default"}, 15, [sequence(14, 15), sequence(14, 15), None], 21, 2]
    assert drive(taken(install=install), "install")[0][2][suit.URI] == "default"


def test_run_sequence_with_soft_failure_only_ends_itself():
    inner = sequence(20, {13: True, 21: "inner"}, 14, 15, 20, {21: "not reached"})
    done = drive(taken(install=[32, inner, 21, 2]), "install")
    assert done[0][2][suit.URI] == "inner"


def test_soft_failure_ends_with_its_sequence():
    # Set in the first run-sequence; the second begins hard again.
    found = taken(install=[32, sequence(20, {13: True}, 14, 15), 32, sequence(14, 15)])
    with raises(Refused, "condition"):
        drive(found, "install")
    # Not inherited by what is nested in it either.
    found = taken(install=[32, sequence(20, {13: True}, 32, sequence(14, 15))])
    with raises(Refused, "condition"):
        drive(found, "install")


def test_hard_failure_inside_try_each():
    hard = [15, [sequence(20, {13: False}, 14, 15), sequence(20, {21: "x"})], 21, 2]
    with raises(Refused, "condition"):
        drive(taken(install=[20, {21: "x"}] + hard), "install")
    soft = [15, [sequence(20, {13: True}, 14, 15), sequence(20, {21: "x"})], 21, 2]
    assert codes(drive(taken(install=soft), "install")) == [(FETCH, 0)]


def test_image_match_is_the_drivers_answer():
    found = taken(shared=IDENTITY + [20, image()], install=[20, {21: "x"}, 21, 2, 3, 15])
    drive(found, "install")
    found.complete()
    with raises(Refused, "digest"):
        drive(found, "install", answer=lambda code, index, parameters: code != MATCH)


def test_image_match_may_fail_softly():
    # "If the image is there already, do not fetch it."
    install = [15, [sequence(3, 15), sequence(20, {21: "x"}, 21, 2, 3, 15)]]
    found = taken(shared=IDENTITY + [20, image()], install=install)
    assert codes(drive(found, "install")) == [(MATCH, 0)]
    answers = [False, True, True]
    assert codes(drive(found, "install", answer=lambda *_: answers.pop(0))) == [(MATCH, 0), (FETCH, 0), (MATCH, 0)]


def test_what_the_driver_raises_ends_the_run():
    def answer(code, index, parameters):
        raise OSError(28)

    with raises(OSError):
        drive(taken(install=[15, [sequence(20, {21: "x"}, 21, 2), sequence(20, {21: "y"})]]), "install", answer=answer)


# Appendix B of the draft

EXAMPLES = "suit-manifest/draft-37/"


def draft_key():
    from binascii import a2b_base64

    lines = shared(EXAMPLES + "public_key.pem").split("\n")
    return Key(a2b_base64("".join(line for line in lines if "-" not in line))[-64:].hex())


def example(name):
    return unhexlify(shared(EXAMPLES + name + ".hex").strip())


def draft_device():
    device = Device()
    device.vendor_id = unhexlify("fa6b4a53d5ad5fdfbe9de663e4d41ffe")
    device.class_id = unhexlify("1492af1425695e48bf429b2d51f2ab45")
    return device


def draft_manifest(name):
    envelope = suit.Envelope(example(name))
    envelope.authenticate([draft_key()])
    return envelope.manifest()


def test_appendix_b_every_envelope_authenticates_or_is_unsigned():
    key = draft_key()
    for item in shared(EXAMPLES + "index.json"):
        envelope = suit.Envelope(example(item["file"].split("/")[1].split(".")[0]))
        if item.get("sig"):
            assert envelope.authenticate([key]) == [key]
            assert envelope.manifest().sequence == item["seq"]
        else:
            with raises(Refused, "key"):
                envelope.authenticate([key])
            with raises(Refused, "signature"):
                envelope.manifest()
    flipped = bytearray(example("example1_1"))
    flipped[-1] ^= 1
    with raises(Refused, "digest"):
        suit.Envelope(flipped).authenticate([key])


def test_appendix_b_0_secure_boot():
    manifest = draft_manifest("example0_1")
    done = drive(manifest, "validate", "load", "invoke", device=draft_device())
    assert codes(done) == [(MATCH, 0), (suit.INVOKE, 0)]
    assert done[0][2][suit.IMAGE_SIZE] == 34768
    manifest.complete()
    with raises(Refused, "vendor"):
        drive(manifest, "validate")


def test_appendix_b_1_download_and_install():
    manifest = draft_manifest("example1_1")
    done = drive(manifest, "payload-fetch", "install", "validate", device=draft_device())
    assert codes(done) == [(FETCH, 0), (MATCH, 0), (MATCH, 0)]
    assert done[0][2][suit.URI] == "http://example.com/file.bin"
    manifest.complete()


def test_appendix_b_2_severed_fields():
    whole, severed = draft_manifest("example2_2"), draft_manifest("example2_1")
    assert whole.digest == severed.digest
    assert codes(drive(whole, "install", "validate", device=draft_device())) == [(FETCH, 0), (MATCH, 0), (MATCH, 0)]
    whole.complete()
    assert codes(drive(severed, "validate", "invoke", device=draft_device())) == [(MATCH, 0), (suit.INVOKE, 0)]
    severed.complete()
    with raises(Refused, "format"):
        drive(severed, "install", device=draft_device())


def test_appendix_b_3_two_slots():
    manifest = draft_manifest("example3_1")
    for slot, size in ((0, 34768), (1, 76834)):
        done = drive(manifest, "install", "validate", device=draft_device(), answer=in_slot(slot))
        fetch = next(parameters for code, _, parameters in done if code == FETCH)
        assert fetch[suit.URI] == "http://example.com/file%d.bin" % (slot + 1)
        assert fetch[suit.IMAGE_SIZE] == size
        manifest.complete()


def test_appendix_b_4_and_5_do_not_identify_every_component():
    # They run, but the device's vendor and class are checked for the first component only: not for Gatehouse.
    for name, fetched in (("example4_1", [1]), ("example5_1", [0, 1])):
        manifest = draft_manifest(name)
        done = drive(manifest, "payload-fetch", "install", "validate", "load", "invoke", device=draft_device())
        assert [index for code, index in codes(done) if code == FETCH] == fetched
        with raises(Refused, "condition"):
            manifest.complete()
