"""What the SUIT processor needs: import, authenticate, parse and run in a small heap, whatever the payloads weigh.

Without es256, which has a test of its own, and without the harness, which would not fit.
"""

HEAPS = {"test_release_in_a_small_heap": "44K", "test_payload_is_not_copied": "96K"}


class Key:
    kid = b"any key."
    alg = -9
    public = bytes(64)

    def verify(self, message, signature):
        return True


class Device:
    vendor_id = class_id = device_id = bytes(16)
    not_before = 1

    def now(self):
        return 2


def envelope(payload):
    """A release as the host writes it, with an integrated payload."""
    import hashlib

    from gatehouse import cbor

    dumps = cbor.dumps
    shared = dumps([12, 0, 20, {1: bytes(16), 2: bytes(16), 3: dumps([-16, bytes(32)]), 14: 700}, 1, 15, 2, 15])
    manifest = dumps(
        {
            1: 1,
            2: 1795473000,
            3: dumps({2: [[b"app"]], 4: shared}),
            7: dumps([12, 0, 3, 15]),
            9: dumps([12, 0, 23, 2]),
            20: dumps([12, 0, 20, {4: 1800000000, 21: "demo-1.1.0.pack"}, 4, 15, 21, 2, 3, 15]),
        }
    )
    digest = dumps([-16, hashlib.sha256(dumps(manifest)).digest()])
    block = dumps(cbor.Tag(18, [b"\xa1\x01\x28", {4: Key.kid}, None, bytes(64)]))
    # Put together by hand, so that making it is not the peak.
    head = b"\xd8\x6b\xa3\x02" + dumps(dumps([digest, block])) + b"\x03" + dumps(manifest) + dumps("#payload")
    data = bytearray(len(head) + 3 + payload)
    data[: len(head)] = head
    data[len(head) : len(head) + 3] = b"\x59" + payload.to_bytes(2, "big")
    return bytes(data)


def install(data):
    from gatehouse import suit

    found = suit.Envelope(data)
    found.authenticate([Key()])
    manifest = found.manifest()
    answer = None
    commands = []
    for section in ("install", "validate"):
        run = manifest.run(section, Device())
        answer = None
        while True:
            try:
                code, _, _ = run.send(answer)
            except StopIteration:
                break
            commands.append(code)
            answer = True
    manifest.complete()
    assert commands == [suit.FETCH, suit.IMAGE_MATCH, suit.IMAGE_MATCH]
    return found


def test_release_in_a_small_heap():
    install(envelope(256))


def allocated(payload):
    """Bytes that are allocated, freed or not, to install an envelope with a payload of that size."""
    import gc

    data = envelope(payload)
    gc.collect()
    gc.disable()
    before = gc.mem_free()
    install(data)
    after = gc.mem_free()
    gc.enable()
    return before - after


def test_payload_is_not_copied():
    allocated(1000)  # everything is imported
    small, large = allocated(1000), allocated(7000)
    assert large - small < 200, (small, large)
