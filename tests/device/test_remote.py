"""MQTT commands: what takes effect, and what does not. Each refusal has its twin, the same but for the attack."""

import asyncio
import hashlib

import fake_boot
import fake_chip as chip
import fake_remote
from fake_remote import Client
from harness import raises

TOPIC = "gatehouse/gh-1/reply"

HEAP = "4M"  # NVS is in RAM here, and each of the hundreds of runs leaves garbage


class Device:
    """A Remote on a new chip, or on the one that is there. Its clock stands still; pass_ms() moves it."""

    def __init__(self, new=True, key=fake_boot.DEVICE_KEY):
        from access import remote
        from gatehouse import budget

        if new:
            chip.install()
        self.now = 1000
        budget.ticks_ms = lambda: self.now
        self.boot = fake_remote.Boot(key)
        self.operations = fake_remote.Operations()
        self.remote = remote.Remote(self.boot, self.operations)
        self.replies = []
        self.followed = []

    async def serve(self, *messages):
        """Take these messages as one burst of the link, and do all that follows."""
        task = asyncio.create_task(self.remote.run(self))
        for message in messages:
            self.remote.received(memoryview(message))
        for _ in range(200):
            await asyncio.sleep_ms(0)
        if task.done():
            await task  # tells why it ended
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    # The link.

    def publish(self, topic, payload):
        self.replies.append((topic, payload))

    def follow(self, topic, wanted):
        self.followed.append((topic, wanted))

    def take(self, *messages):
        """The replies to messages, sent one after the other."""
        before = len(self.replies)
        for message in messages:
            asyncio.run(self.serve(message))
        return [reply for _, reply in self.replies[before:]]

    def pass_ms(self, ms):
        self.now += ms

    @property
    def count(self):
        return len(self.operations.called)


def refused(device, reason, *messages):
    """These messages have no effect, get no reply, and are journaled."""
    before, notes = device.count, len(device.boot.notes)
    nvs = dict(device.boot.store._nvs.values)
    assert device.take(*messages) == []
    assert device.count == before and device.boot.store._nvs.values == nvs
    found = device.boot.notes[notes:]
    assert [note[:3] for note in found] == [("denied", "mqtt", reason)] * len(messages), found


def answered(device, client, reason, message):
    """A message of one who holds a key has no effect and is journaled; the reply says why. It is returned."""
    before, notes = device.count, len(device.boot.notes)
    [reply] = device.take(message)
    assert device.count == before
    assert [note[:4] for note in device.boot.notes[notes:]] == [("denied", "mqtt", reason, client.kid.decode())]
    found = client.opened(reply)
    assert found[1] == hashlib.sha256(message).digest() and found[3][0] == reason and 2 not in found
    return found


def changed(fields, key, value):
    found = dict(fields)
    found[key] = value
    return found


# What takes effect.


def test_command_is_done_by_its_role_and_answered():
    device, client = Device(), Client()
    message = client.command("identify", {"seconds": 5})
    [reply] = device.take(message)
    assert device.operations.called == [("operator", "desk", "mqtt", False, "identify", {"seconds": 5})]
    assert client.opened(reply) == {1: hashlib.sha256(message).digest(), 2: {"did": "identify"}}
    assert device.replies[0][0] == TOPIC and device.boot.notes == []
    assert device.followed == [("gatehouse/gh-1/command", True), ("gatehouse/gh-1/command", False)]


def test_each_role_is_its_own():
    device = Device()
    for role in ("viewer", "operator", "owner", "service"):
        device.take(Client(role).command())
    assert [call[0] for call in device.operations.called] == ["viewer", "operator", "owner", "service"]


def test_commands_of_several_clients_and_with_gaps():
    device, desk, phone = Device(), Client(), Client(name="phone")
    assert len(device.take(desk.command(), phone.command(), desk.command(counter=500), phone.command())) == 4
    assert device.count == 4


def test_refusal_of_the_operation_is_told():
    from gatehouse import Refused

    device, client = Device(), Client("viewer")

    def act(session, name, arguments):
        raise Refused("denied", "x" * 200)

    device.operations.act = act
    [reply] = device.take(client.command("reboot"))
    assert client.opened(reply)[3] == ["denied", "x" * 96] and device.count == 1


def test_operation_with_a_mistake_does_not_end_the_device():
    device, client = Device(), Client()
    for error, reason in ((ZeroDivisionError(), "state"), (OSError(5), "state"), (MemoryError(), "memory")):

        def act(session, name, arguments, error=error):
            raise error

        device.operations.act = act
        [reply] = device.take(client.command())
        assert client.opened(reply)[3][0] == reason
    device.operations.act = None
    assert 2 in client.opened(device.take(client.command())[0])


def test_result_that_cannot_be_told():
    device, client = Device(), Client()
    for result, reason in (({"x": object()}, "state"), ({"x": b"x" * 2048}, "size"), ({"x": b"x" * 1900}, None)):
        device.operations.act = lambda session, name, arguments, result=result: result
        found = client.opened(device.take(client.command())[0])
        assert found.get(3, [None])[0] == reason and (2 in found) == (reason is None)


def test_largest_command():
    device, client = Device(), Client()
    room = 512 - len(client.command("x", {"a": b"x" * 256})) + 256
    message = client.command("x", {"a": b"x" * room})
    assert len(message) == 512
    assert len(device.take(message)) == 1
    refused(device, "size", client.command("x", {"a": b"x" * (room + 1)}), client.command("x", {"a": b"x" * 9000}))


# What does not.


def test_replay():
    device, client = Device(), Client()
    message = client.command("reboot")
    device.take(message)
    for _ in range(2):
        assert answered(device, client, "counter", message)[4] == 1
    again = Device(new=False)  # after a restart, too
    assert answered(again, client, "counter", message)[4] == 1
    assert 2 in client.opened(again.take(client.command("reboot"))[0]) and again.count == 1


def test_reordered():
    device, client = Device(), Client()
    first, second = client.command("first"), client.command("second")
    device.take(second)
    assert answered(device, client, "counter", first)[4] == 2
    assert [call[4] for call in device.operations.called] == ["second"]
    assert len(device.take(client.command("third"))) == 1 and device.count == 2


def test_each_altered_byte():
    device, client = Device(), Client()
    message = client.command()
    for at in range(len(message)):
        for bit in (1, 128):
            changed = bytearray(message)
            changed[at] ^= bit
            device.pass_ms(600000)
            found = len(device.boot.notes)
            assert device.take(changed) == [] and len(device.boot.notes) == found + 1, at
            reason = device.boot.notes[-1][2]
            assert reason in ("format", "key", "signature"), (at, reason)
    for end in (0, 1, len(message) - 1):
        device.pass_ms(600000)
        refused(device, "format", message[:end])
    refused(device, "format", message + b"\0")
    assert device.count == 0
    assert len(device.take(message)) == 1 and device.count == 1


def test_other_device():
    device = Device(key=b"another device's key, 32 bytes!!")
    refused(device, "signature", Client().command())
    assert len(device.take(Client(key=b"another device's key, 32 bytes!!").command())) == 1
    # Were two devices made with one key, it would still be meant for one of them.
    twin = Client(device="gh-2")
    device = Device()
    answered(device, twin, "device", twin.command())
    assert len(device.take(Client().command())) == 1


def test_other_role():
    device = Device()
    thief = Client("viewer")
    thief.kid = b"owner/desk"
    refused(device, "signature", thief.command())
    thief.kid = b"viewer/phone"
    refused(device, "signature", thief.command())
    thief.kid = b"viewer/desk"
    assert len(device.take(thief.command())) == 1 and device.operations.called[0][0] == "viewer"


def test_keys_that_nobody_has():
    from gatehouse import cbor, mac

    device = Device()
    for kid in (b"", b"owner", b"owner/", b"/desk", b"admin/desk", b"owner/" + b"x" * 17, b"owner/a b", b"owner/a/b",
                b"owner/\xff", b"Owner/desk"):  # fmt: skip
        device.pass_ms(600000)
        refused(device, "key", mac.mac0(b"", kid, cbor.dumps({})))
    longest = Client("operator", "x" * 16)
    assert len(device.take(longest.command())) == 1


def test_old_owner_epoch():
    device, former = Device(), Client("owner")
    device.take(former.command())
    assert device.count == 1
    device.boot.store.put_number("epoch", 1)
    refused(device, "signature", former.command())
    owner = Client("owner", epoch=1)
    assert len(device.take(owner.command())) == 1 and device.count == 2  # its counters begin anew
    answered(device, owner, "counter", owner.command(counter=1))


def test_other_forms_of_message():
    from gatehouse import cbor, mac

    device, client = Device(), Client()
    good = cbor.loads(client.command())
    protected, unprotected, payload, tag = good.value
    for value in (
        cbor.Tag(18, good.value),
        cbor.Tag(61, good),
        good.value,
        cbor.Tag(17, [protected, unprotected, payload]),
        cbor.Tag(17, [protected, unprotected, payload, tag, b""]),
        cbor.Tag(17, [protected, {}, payload, tag]),
        cbor.Tag(17, [protected, {4: client.kid, 5: b""}, payload, tag]),
        cbor.Tag(17, [protected, {4: client.kid.decode()}, payload, tag]),
        cbor.Tag(17, [protected, unprotected, None, tag]),
        cbor.Tag(17, [protected, unprotected, payload, tag[:31]]),
        cbor.Tag(17, [protected, unprotected, payload, None]),
        cbor.Tag(17, [b"\xa1\x01\x04", unprotected, payload, tag]),
        cbor.Tag(17, 5),
        {},
        None,
    ):
        device.pass_ms(600000)
        refused(device, "format", cbor.dumps(value))
    # Text and bytes of the same letters differ under the MAC, too: the payload must be what it says.
    text = cbor.Tag(17, [protected, unprotected, "x", mac.hmac_sha256(client.key, cbor.dumps(
        ["MAC0", protected, b"gatehouse/1 command", "x"]))])  # fmt: skip
    refused(device, "format", cbor.dumps(text))
    assert len(device.take(cbor.dumps(good))) == 1


def test_other_direction():
    device, client = Device(), Client()
    [reply] = device.take(client.command())
    refused(device, "signature", reply)
    device.pass_ms(600000)
    payload = {1: "gh-1", 2: 9, 3: b"N" * 8, 4: "reboot", 5: {}}
    for external in (b"gatehouse/1 reply", b""):
        refused(device, "signature", client.seal(payload, external))
    assert len(device.take(client.seal(payload))) == 1


def test_authentic_but_no_command():
    from gatehouse import cbor, mac

    device, client = Device(), Client()
    good = {1: "gh-1", 2: 1, 3: b"N" * 8, 4: "identify", 5: {}}
    wrong = [changed(good, key, value) for key, value in (
        (2, 0), (2, -1), (2, "1"), (2, True), (2, 1.0), (2, 2**53), (3, b"N" * 7), (3, b"N" * 9), (3, "NNNNNNNN"),
        (4, b"identify"), (4, 1), (5, []), (5, None), (5, {"a": {"b": [[]]}}), (6, 0))]  # fmt: skip
    wrong += [{key: value for key, value in good.items() if key != left} for left in good]
    wrong += [[], 1, None, "identify"]
    for payload in wrong:
        device.pass_ms(600000)
        answered(device, client, "format", client.seal(payload))
    device.pass_ms(600000)
    answered(device, client, "format", mac.mac0(client.key, client.kid, b"\xff", b"gatehouse/1 command"))
    assert len(device.take(client.seal(good))) == 1 and device.count == 1
    assert cbor.loads(device.boot.store.blob("seen-operator")) == [0, 0, {"desk": 1}]
    device.take(client.seal(changed(good, 2, 2**53 - 1)))
    assert device.count == 2


# The counter on flash.


def test_counter_is_on_flash_before_anything_is_done():
    """Power is cut at each NVS operation of a command; whatever was left, no message is done twice."""
    taken = 0
    for cut in range(1, 20):
        device, client = Device(), Client()
        device.take(client.command())
        message = client.command("reboot")
        chip.power.on(cut)
        try:
            device.take(message)
            ended = True
        except chip.PowerCut:
            ended = False
        done = device.count - 1
        chip.power.on()
        chip.forget()
        again = Device(new=False)
        again.take(message)
        assert done + again.count <= 1, cut
        if ended:
            assert done == 1 and again.count == 0
            break
        assert done == 0, "done before its counter was on flash"
        taken += again.count
        assert 2 in client.opened(again.take(client.command())[0])
    assert cut > 1, "the sweep cut nothing"


def test_power_cut_while_it_is_done():
    device, client = Device(), Client()
    message = client.command("reboot")

    def act(session, name, arguments):
        raise chip.PowerCut

    device.operations.act = act
    with raises(chip.PowerCut):
        device.take(message)
    again = Device(new=False)
    answered(again, client, "counter", message)


def test_full_nvs_does_nothing():
    device, client = Device(), Client()
    put = device.boot.store.put

    def full(key, data):
        raise OSError(-0x1105, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")

    device.boot.store.put = full
    message = client.command()
    answered(device, client, "state", message)
    device.boot.store.put = put
    assert len(device.take(message)) == 1 and device.count == 1


def test_damaged_counters_open_nothing():
    from gatehouse import cbor

    client = Client()
    for data in (b"\xff", cbor.dumps([0, 0]), cbor.dumps([0, "0", {}]), cbor.dumps([0, 0, {"desk": "0"}]), b"\xa0"):
        device = Device()
        device.boot.store.put("seen-operator", data)
        answered(device, client, "state", client.command(counter=5))
        assert device.boot.store.blob("seen-operator") == data
    device.boot.store.put("seen-operator", cbor.dumps([0, 0, {}]))
    assert len(device.take(client.command(counter=5))) == 1


def test_forgotten_client_cannot_be_replayed():
    from gatehouse import cbor

    device = Device()
    clients = [Client(name="c%d" % number) for number in range(9)]
    old = [client.command("old", counter=100 + 10 * number) for number, client in enumerate(clients)]
    device.take(*old[:8])
    assert device.count == 8
    # The ninth has to be above who makes room: otherwise it would come and go, and nobody else would.
    answered(device, clients[8], "counter", clients[8].command(counter=100))
    assert cbor.loads(device.boot.store.blob("seen-operator"))[1] == 0
    device.take(old[8])
    [_, floor, seen] = cbor.loads(device.boot.store.blob("seen-operator"))
    assert device.count == 9 and floor == 100 and len(seen) == 8 and "c0" not in seen
    for message, client in zip(old, clients):
        device.pass_ms(600000)
        answered(device, client, "counter", message)
    # It comes back by a counter above the floor, and what it sent before stays dead.
    found = answered(device, clients[0], "counter", clients[0].command(counter=101))
    assert found[4] == 110  # it would displace c1
    device.take(clients[0].command(counter=found[4] + 1))
    assert device.count == 10
    device.pass_ms(600000)
    answered(device, clients[0], "counter", old[0])
    answered(device, clients[1], "counter", old[1])
    # Another role has room and a floor of its own.
    assert 2 in Client("viewer").opened(device.take(Client("viewer").command())[0])


def test_highest_counter_does_not_shut_others_out():
    device = Device()
    device.take(Client(name="rogue").command(counter=2**53 - 1))
    for number in range(20):
        device.pass_ms(600000)
        device.take(Client(name="c%d" % number).command(counter=1000 + number))
    assert device.count == 21


# Floods.


def test_flood_of_bogus_commands_is_bounded():
    from gatehouse import mac

    device, client = Device(), Client()
    checked = []
    equal = mac.equal
    mac.equal = lambda a, b: checked.append(1) or equal(a, b)
    try:
        bogus = bytearray(client.command())
        bogus[-1] ^= 1
        for _ in range(50):
            device.take(bogus, bogus, bogus, bogus)
        assert len(checked) == 16 and device.remote.ignored == 180  # four wait
        assert len(device.boot.notes) == 4, "the journal is full of it"
        good = client.command()
        assert device.take(good) == [] and device.count == 0
        device.pass_ms(1000)  # four more: the three that were left of the flood, and what came behind it
        asyncio.run(device.serve())
        assert device.count == 1 and len(device.replies) == 1
        device.pass_ms(600000)
        device.take(bogus)
        assert device.boot.notes[-1] == ("denied", "mqtt", "signature", "operator/desk", 15)
    finally:
        mac.equal = equal


def test_burst_keeps_the_newest():
    device, client = Device(), Client()
    messages = [client.command("c%d" % number) for number in range(6)]
    asyncio.run(device.serve(*messages))
    assert [call[4] for call in device.operations.called] == ["c2", "c3", "c4", "c5"]
    assert device.remote.ignored == 2


def test_one_at_a_time():
    device, client = Device(), Client()
    running = []

    async def call(session, name, arguments):
        running.append(1)
        assert len(running) == 1
        for _ in range(5):
            await asyncio.sleep_ms(0)
        running.pop()
        device.operations.called.append(name)
        return {}

    device.operations.call = call
    asyncio.run(device.serve(client.command(), client.command(), client.command()))
    assert device.count == 3 and len(device.replies) == 3


def test_holder_of_a_key_does_not_wear_out_the_flash():
    device, client = Device(), Client()
    for _ in range(16):
        device.pass_ms(250)
        device.take(client.command())
    # 16 at once, and by now one more each 3 seconds.
    device.take(client.command())
    assert device.count == 17
    device.pass_ms(250)
    turned = []
    for _ in range(4):  # these are told so, and their counters written
        turned.append(client.command())
        answered(device, client, "busy", turned[-1])
    writes = dict(device.boot.store._nvs.values)
    unheard = client.command()
    assert device.take(unheard) == [] and device.count == 17 and device.boot.store._nvs.values == writes
    for message in turned:  # what its sender was told is not done must not be done by who replays it
        device.pass_ms(600000)
        answered(device, client, "counter", message)
    assert len(device.take(unheard)) == 1 and device.count == 18


def test_no_memory_for_a_command_is_no_reset():
    device, client = Device(), Client()
    derive = device.boot.store.derive

    def short(*_):
        raise MemoryError

    device.boot.store.derive = short
    assert device.take(client.command()) == [] and device.remote.ignored == 1
    device.boot.store.derive = derive
    assert len(device.take(client.command())) == 1
