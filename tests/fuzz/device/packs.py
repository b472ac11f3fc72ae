"""Packs, by themselves and with an envelope through the whole installer, on LittleFS in RAM."""

import asyncio
import hashlib
from io import BytesIO
from random import choice, getrandbits, randrange

import deflate

import fake_chip as chip
import fake_device
import fake_manifest as fake
import mutate
from gatehouse import Refused, cbor
from run_fuzz import Broken
from sources import Target, safe

_BLOCKS = 64  # of 4 KB: what the core leaves free, the seeds' trees, and as much again
_MOST = 65536  # bytes that a changed deflate stream is followed to


class Source(fake_device.MemoryPack):
    """A pack that counts, and that may go on for ever after its end."""

    def __init__(self, data, endless=False):
        super().__init__(data)
        self.endless = endless
        self.most = 2 * len(data) + 8192
        self.opened = 0

    async def open(self, start, end=None):
        self.opened += 1
        if self.opened > 300:
            raise Broken("more than 300 requests")
        await super().open(start, end)
        if self.endless:
            self.end = end or 1 << 40

    async def readinto(self, view):
        left = len(self.data) - self.at
        count = min(len(view), self.end - self.at, 700)
        if left > 0:
            count = min(count, left)
            view[:count] = self.data[self.at : self.at + count]
        elif self.endless:
            view[:count] = bytes(count)
        else:
            count = 0
        self.at += count
        self.fetched += count
        if self.fetched > self.most:
            raise Broken("%d bytes are fetched for a pack of %d" % (self.fetched, len(self.data)))
        return count


class Flash(Target):
    """Shared by what writes to flash: a chip as it was, and what may not have changed on it."""

    slot = "/slots/b"

    def read(self, seeds):
        return [] if isinstance(seeds, dict) else super().read(seeds)

    def start(self):
        """Keep what is on the chip now as what each mutant begins with."""
        self.saved = chip.snapshot()
        self.others = self.outside()

    def outside(self):
        """All files but those of the slot."""
        found = {}
        for root in ("/slots", "/state"):
            for path, data in chip.tree_of(root).items():
                if not (root + "/" + path).startswith(self.slot + "/"):
                    found[root + "/" + path] = data
        return found

    def inside(self):
        """The files of the slot but its index."""
        found = chip.tree_of(self.slot)
        return found.pop("index.cbor", None), found

    def after(self):
        try:
            if self.outside() != self.others:
                raise Broken("something outside of the slot has changed")
        finally:
            chip.restore(self.saved)

    def bounded(self, entries):
        """No file of the slot is larger than its entry says, and none is there without an entry."""
        sizes = {entry[0]: entry[1] for entry in entries}
        sizes["index.new"] = 65536
        for path, data in self.inside()[1].items():
            if len(data) > sizes.get(path, -1):
                raise Broken("%s has %d bytes, signed are %s" % (path, len(data), sizes.get(path)))


class Pack(Flash):
    """Packs that are not those that were signed: what fills a slot is the signed tree or nothing."""

    def __init__(self, name, seeds):
        super().__init__(name, {name: []})
        self.packs = self.read(seeds["packs"])
        self.trees = [_tree(pack) for pack in self.packs]

    def honest(self):
        chip.install(blocks=_BLOCKS)
        for path in ("/slots/outside.txt", "/slots/a/app.mpy", "/state/boot.cbor"):
            fake_device.write(path, path.encode())
        self.start()
        for number, pack in enumerate(self.packs):
            if self.check((number, pack, False)) != "unchanged":
                raise Broken("an honest pack is refused")
            self.after()

    def make(self):
        number = randrange(len(self.packs))
        pack = self.packs[number]
        if randrange(4):
            return number, mutate.blind(pack, choice(self.packs)), not randrange(4)
        size = len(self.trees[number][0])
        index = mutate.aware(pack[4 : 4 + size], choice(self.packs)[4:])
        return number, len(index).to_bytes(4, "big") + index + pack[4 + size :], not randrange(4)

    def fill(self, pack, index, endless):
        from gatehouse import tree, unpack

        digest = hashlib.sha256(index).digest()
        source = Source(pack, endless)
        source.most += 2 * sum(max(0, entry[3]) for entry in _entries(index) if isinstance(entry[3], int))
        asyncio.run(unpack.fill(source, self.slot, None, digest, len(index), lambda done, total: None))
        tree.verify(self.slot, digest, len(index))

    def check(self, mutant):
        number, pack, endless = mutant
        index, files = self.trees[number]
        try:
            self.fill(pack, index, endless)
        except Refused:
            self.bounded(cbor.loads(index)[6])
            raise
        if self.inside() != (index, files):
            raise Broken("a slot verifies that does not hold what was signed")
        return "unchanged" if pack == self.packs[number] else "accepted"


class Repack(Pack):
    """Packs whose index is changed and signed again, or whose bodies are changed and their digests made right."""

    def make(self):
        number = randrange(len(self.packs))
        pack = self.packs[number]
        index = self.trees[number][0]
        bodies = pack[4 + len(index) :]
        kind = randrange(3)
        if kind == 0:
            index = mutate.mutate(index, choice(self.trees)[0])
        else:
            fields = cbor.loads(index)
            entries = fields[6]
            at = randrange(len(entries))
            if kind == 1 or entries[at][4] == 0:
                self.edited(entries, at)
            else:
                start = sum(entry[3] for entry in entries[:at])
                entry = entries[at]
                body = mutate.blind(bodies[start : start + entry[3]], choice(self.packs))[:_MOST]
                bodies = bodies[:start] + body + bodies[start + entry[3] :]
                plain = _inflated(body)
                entry[1:4] = [len(plain), hashlib.sha256(plain).digest(), len(body)]
            index = cbor.dumps(fields)
        return index, bodies, not randrange(4)

    def edited(self, entries, at):
        """One well-formed but wrong or strange entry."""
        entry = entries[at]
        kind = randrange(7)
        if kind < 2:
            entry[choice((1, 3))] = mutate.number_near(entry[1])
        elif kind == 2:
            entry[1] = entry[3] = mutate.number_near(entry[3])
        elif kind == 3:
            entry[4] = choice((0, 1, 2))
        elif kind == 4:
            entry[0] = choice(mutate.PATHS + (entries[at - 1][0],))
        elif kind == 5:
            entries.insert(at + 1, [entry[0] + "/x"] + entry[1:])
        else:
            entry[2] = bytes(getrandbits(8) for _ in range(choice((0, 31, 32, 33))))
        if randrange(2):
            entries.sort(key=lambda item: item[0])

    def honest(self):
        chip.install(blocks=_BLOCKS)
        for path in ("/slots/outside.txt", "/slots/a/app.mpy", "/state/boot.cbor"):
            fake_device.write(path, path.encode())
        self.start()
        for pack, (index, _) in zip(self.packs, self.trees):
            self.check((index, pack[4 + len(index) :], False))
            self.after()

    def check(self, mutant):
        index, bodies, endless = mutant
        try:
            self.fill(len(index).to_bytes(4, "big") + index + bodies, index, endless)
        except OSError as error:
            # An index that the signer made so may name a file and a folder alike; unpack.fill() says OSError then.
            if error.errno not in (1, 17, 20, 21, 22, 28, 39):
                raise
            self.bounded(_entries(index))
            return "OSError"
        except Refused:
            self.bounded(_entries(index))
            raise
        found, files = self.inside()
        entries = _entries(index)
        if found != index or len(files) != len(entries):
            raise Broken("a slot verifies whose files are not those of its index")
        for entry in entries:
            data = files.get(entry[0])
            if data is None or len(data) != entry[1] or hashlib.sha256(data).digest() != entry[2] or not safe(entry[0]):
                raise Broken("a slot verifies with %r otherwise than its index says" % entry[0])
        return "accepted"


def _entries(index):
    """The well-formed entries of an index, by the general decoder."""
    try:
        fields = cbor.loads(index)
        return [e for e in fields[6] if isinstance(e, list) and len(e) > 4 and isinstance(e[0], str)]
    except (ValueError, LookupError, TypeError):
        return _first_entries(index)


def _first_entries(index):
    """The same of an index that goes wrong later on: those that a reader can have seen until then."""
    from gatehouse import tree

    found = []
    try:
        for entry in tree.Index(BytesIO(index)):
            found.append(entry)
    except Refused:
        pass
    return found


def _inflated(body):
    """What a deflate stream comes to, up to _MOST bytes; what does not inflate comes to nothing."""
    plain = bytearray()
    stream = deflate.DeflateIO(BytesIO(body), deflate.RAW, 10)
    piece = bytearray(256)
    try:
        while len(plain) < _MOST:
            count = stream.readinto(piece)
            if not count:
                break
            plain.extend(memoryview(piece)[:count])
    except (OSError, EOFError):
        pass
    return bytes(plain)


def _tree(pack):
    """(index, {path: bytes}) of an honest pack."""
    size = int.from_bytes(pack[:4], "big")
    index = pack[4 : 4 + size]
    at = 4 + size
    files = {}
    for entry in cbor.loads(index)[6]:
        body = pack[at : at + entry[3]]
        files[entry[0]] = _inflated(body) if entry[4] else body
        at += entry[3]
    return index, files


class Offer(Flash):
    """Envelope and pack through the installer of a provisioned device: signed by nobody, or with every check passed."""

    def device(self):
        """The device with its release 1.0.0, as it is before each mutant."""
        self.case = case = fake_device.decode(self.all["offer"])
        fake_device.provision(case)
        self.boot = fake_device.boot()
        fake_device.clock(case["now"])
        if self.boot.mode != "active":
            raise Broken("the device does not start: %s" % self.boot.failure)
        self.floors = cbor.dumps(self.boot.record.floors)
        self.record = self.boot.record.dumps()
        self.release = case["releases"]["2.0.0"]
        self.start()
        from gatehouse import trust

        for key in trust.keys(self.boot.trust):
            if trust.RELEASE in key.roles:
                fake.AnyKey.kid = key.kid

    def honest(self):
        self.device()
        for resigned in (False, True):
            if self.check((self.release["envelope"], self.release["pack"], resigned)) != "pending-reboot":
                raise Broken("the honest release is not installed: %s" % self.found.refused)
            self.after()

    def outside(self):
        found = super().outside()
        found.pop("/state/boot.cbor", None)  # judged by itself
        for name in list(found):
            if name.startswith("/state/journal"):
                del found[name]
        return found

    def make(self):
        envelope, pack = self.release["envelope"], self.release["pack"]
        kind = randrange(4)
        if kind == 0:
            return mutate.mutate(envelope, self.case["trust"]), pack, False
        if kind == 1:
            return envelope, mutate.blind(pack, pack), False
        if kind == 2:  # the manifest changed and signed again
            items = mutate.tree(envelope)
            manifest = envelope[items[self._manifest(envelope, items)][1] :][: self._size(envelope, items)]
            return fake.envelope(mutate.mutate(manifest, envelope)), pack, True
        index = self.release["index"]
        changed = mutate.mutate(index, index)
        old, new = hashlib.sha256(index).digest(), hashlib.sha256(changed).digest()
        size = cbor.dumps({14: len(index)})[1:], cbor.dumps({14: len(changed)})[1:]
        items = mutate.tree(envelope)
        manifest = envelope[items[self._manifest(envelope, items)][1] :][: self._size(envelope, items)]
        manifest = manifest.replace(old, new)
        if len(size[0]) == len(size[1]):
            manifest = manifest.replace(*size)
        return fake.envelope(manifest), len(changed).to_bytes(4, "big") + changed + pack[4 + len(index) :], True

    def _manifest(self, envelope, items):
        """The number of the manifest among the items: the value of key 3 of the map in the tag."""
        for number in mutate.children(items, 1):
            if envelope[items[number][0]] == 3:
                return number + 1
        raise ValueError("no manifest")

    def _size(self, envelope, items):
        _, body, end, _, _ = items[self._manifest(envelope, items)]
        return end - body

    def check(self, mutant):
        from gatehouse import installer, trust

        envelope, pack, resigned = mutant
        original = trust.Key.verify
        if resigned:
            trust.Key.verify = lambda key, message, signature: True
        try:
            self.found, _ = fake_device.offer(
                self.boot, {"envelope": envelope}, Source(pack), installer.Installer(self.boot)
            )
        finally:
            trust.Key.verify = original
        state = self.found.state
        if self.found.due:
            if not resigned and self.boot.record.trial.digest != self.release["manifest"]:
                raise Broken("another manifest is installed")
            index, files = self.inside()
            files.pop("manifest.suit")
            if not resigned and files != self.release["files"]:
                raise Broken("other files are installed")
            for entry in cbor.loads(index)[6]:
                if hashlib.sha256(files[entry[0]]).digest() != entry[2]:
                    raise Broken("%s is installed otherwise than its index says" % entry[0])
            return state["state"]
        if self.boot.record.trial:
            raise Broken("a trial is on record that is not due")
        if self.found.refused:
            return self.found.refused["reason"]
        return "nothing"

    def after(self):
        from gatehouse import record

        try:
            if cbor.dumps(self.boot.record.floors) != self.floors:
                raise Broken("the floors have moved")
            super().after()
        finally:
            self.boot.record = record.Record(self.record)
            self.boot.store._nvs.values = chip.NVS.store["gatehouse"]  # which the chip has new
