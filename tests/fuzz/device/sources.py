"""What is fuzzed, by name: each target makes mutants of real seeds and checks what becomes of them."""

import hashlib
from binascii import unhexlify
from io import BytesIO
from random import choice, getrandbits, randrange

import fake_manifest as fake
import mutate
from gatehouse import Refused, cbor, suit
from run_fuzz import Broken, hexed

_SECTIONS = ("payload-fetch", "install", "validate", "load", "invoke")
_MAX_YIELDS = 256 * 2 * len(_SECTIONS)  # steps of one run, for the shared sequence and its own


def target(name, seeds):
    """The target of that name with its seeds, JSON as seeds.py made them."""
    if name in ("pack", "repack", "offer"):
        import packs as module
    elif name == "image":
        import images as module
    elif name == "rotate":
        import rotation as module
    elif name == "command":
        import commands as module
    else:
        import sources as module
    return getattr(module, name[0].upper() + name[1:])(name, seeds)


class Target:
    """A target: honest() runs every seed as it is, make() one mutant, check() judges it."""

    def __init__(self, name, seeds):
        self.name = name
        self.seeds = self.read(seeds.get(name, []))
        self.all = seeds

    def read(self, seeds):
        """The seeds from JSON."""
        return [unhexlify(seed) for seed in seeds]

    def honest(self):
        """Every seed is taken: only then does a refusal say something. Loads what is loaded late, too."""
        for seed in self.seeds:
            self.check(seed)
            self.after()

    def make(self):
        """A mutant. Chance is seeded."""
        return mutate.mutate(choice(self.seeds), choice(self.seeds))

    def after(self):
        """Bring everything back to where it was."""

    def shown(self, mutant):
        """The mutant as JSON can hold it."""
        if isinstance(mutant, tuple):
            return [self.shown(part) for part in mutant]
        return hexed(mutant) if isinstance(mutant, bytes) else mutant


class Cbor(Target):
    """cbor.loads() takes only what cbor.dumps() writes."""

    def check(self, mutant):
        try:
            value = cbor.loads(mutant)
        except ValueError:
            return "refused"
        if cbor.dumps(value) != mutant:
            raise Broken("loads() takes what dumps() would not write")
        return "accepted"


def drive(manifest, device, answer):
    """Run every section: [(code, index, parameters)], within the steps that are allowed."""
    done = []

    def act(code, index, parameters):
        done.append((code, index, dict(parameters.items())))
        if len(done) > _MAX_YIELDS:
            raise Broken("more than %d commands" % _MAX_YIELDS)
        return answer(code, index, parameters)

    suit.drive(manifest, _SECTIONS, device, act)
    manifest.complete()
    return done


def outside(data, items):
    """The items of an envelope that are not in its manifest: a change in there only shows that its digest counts."""
    for key, value in enumerate(mutate.children(items, 1)):
        if key & 1 and items[value][1] - items[value][0] and data[items[value - 1][0]] == 3:
            start, end = items[value][0], items[value][2]
            return [at for at, item in enumerate(items) if item[0] < start or item[0] >= end]
    return range(len(items))


class Envelope(Target):
    """Real envelopes under real keys, not signed again: what is taken is what was signed."""

    def __init__(self, name, seeds):
        from gatehouse import trust

        super().__init__(name, seeds)
        found = seeds["keys"]
        self.keys = [trust.Key(*[unhexlify(key[0]), key[1], unhexlify(key[2]), key[3]]) for key in found["keys"]]
        self.store, self.strict = trust.Trust(), trust.Trust()
        self.strict.required = found["required"]
        self.hybrid = unhexlify(found["hybrid"])  # the manifest that two keys must have signed
        self.device = fake.Device(found["now"])
        self.device.vendor_id = unhexlify(found["vendor"])
        self.device.class_id = unhexlify(found["class"])
        self.device.device_id = unhexlify(found["device"])
        self.device.not_before = found["now"] - 1000
        self.signed = {}  # digest of the manifest -> what running it comes to
        self.severed = {}  # the same -> members

    def run(self, data):
        from gatehouse import trust

        envelope = suit.Envelope(data)
        signers = envelope.authenticate(self.keys)
        manifest = envelope.manifest()
        names = trust.names(manifest)
        for name in names:
            trust.check_right(self.strict if envelope.digest == self.hybrid else self.store, name, signers)
        used = {}

        def answer(code, index, parameters):
            if code == suit.FETCH:
                used[index] = envelope.payload(parameters[suit.URI])
                if used[index] is None and names[index] in ("config", "trust"):
                    raise Refused("unsupported", "it travels inside the envelope")
            elif code == suit.IMAGE_MATCH and used.get(index) is not None:
                return hashlib.sha256(used[index]).digest() == parameters[suit.IMAGE_DIGEST]
            return True

        done = drive(manifest, self.device, answer)
        members = [envelope.member(label) for label in (16, 20, 23)]
        return envelope.digest, (manifest.sequence, names, done), members, signers

    def honest(self):
        for seed in self.seeds:
            digest, outcome, members, signers = self.run(seed)
            kept = self.severed.get(digest)
            self.severed[digest] = [new or old for new, old in zip(members, kept)] if kept else members
            self.signed[digest] = (outcome, [key.public for key in signers])

    def make(self):
        if randrange(3):
            mutant = choice(self.seeds)
            for _ in range(choice((1, 1, 2))):
                mutant = mutate.aware(mutant, choice(self.seeds), outside)
            return mutant
        return super().make()

    def check(self, mutant):
        digest, outcome, members, signers = self.run(mutant)
        if digest not in self.signed:
            raise Broken("a manifest is taken that nobody signed")
        wanted, publics = self.signed[digest]
        if outcome != wanted:
            raise Broken("a signed manifest comes to something else")
        for mine, theirs in zip(members, self.severed[digest]):
            if mine is not None and mine != theirs:
                raise Broken("a severed member is taken that is not the one that was signed")
        for key in signers:
            if key.public not in publics:
                raise Broken("somebody counts as signer who did not sign")
        return "unchanged" if mutant in self.seeds else "accepted"


class Manifest(Target):
    """Manifests under a key that takes every signature, every digest right: the parser of manifests, the interpreter.

    A seed is a manifest and its severed members; see seeds.py.
    """

    def __init__(self, name, seeds):
        super().__init__(name, seeds)
        self.flat = [manifest for manifest, _ in self.seeds]
        found = seeds["keys"]
        self.vendor, self.cls = unhexlify(found["vendor"]), unhexlify(found["class"])
        self.device = fake.Device(found["now"])
        self.device.device_id = unhexlify(found["device"])
        self.device.not_before = found["now"] - 1000

    def read(self, seeds):
        found = []
        for manifest, members in seeds:
            found.append((unhexlify(manifest), {int(label): unhexlify(data) for label, data in members.items()}))
        return found

    def honest(self):
        for manifest, members in self.seeds:
            if self.check((fake.envelope(manifest, members), b"\xff" * 32)) != "accepted":
                raise Broken("an honest manifest is refused")

    def make(self):
        if not randrange(3):
            return fake.envelope(self.written()), bytes(getrandbits(8) | getrandbits(8) for _ in range(32))
        manifest, members = choice(self.seeds)
        members = dict(members)
        for label in members:
            if randrange(2):  # and its digest in the manifest is made right
                old = members[label]
                members[label] = mutate.mutate(old, choice(self.flat))
                manifest = manifest.replace(_digest(old), _digest(members[label]))
        if not members or randrange(4):
            manifest = mutate.mutate(manifest, choice(self.flat))
        return fake.envelope(manifest, members), bytes(getrandbits(8) | getrandbits(8) for _ in range(32))

    def written(self):
        """A manifest of commands that fit together more often than by mutation."""
        count = randrange(1, 5)
        shared = [12, True] if count > 1 or randrange(2) else []
        shared += [20, {1: self.vendor, 2: self.cls}, 1, 15, 2, 15] if randrange(8) else []
        parts = {name: self.commands(3) for name in ("fetch", "install", "validate", "load", "invoke") if randrange(2)}
        components = [[bytes((97 + at,))] for at in range(count)]
        return fake.manifest(shared + self.commands(2) if randrange(2) else shared or [14, 0], components, **parts)

    def commands(self, depth):
        made = [12, choice((True, 0, [0], [1, 0], 1, []))] if randrange(2) else []
        for _ in range(choice((1, 2, 3, 5, 9))):
            code = choice((1, 2, 3, 4, 5, 12, 14, 15, 18, 20, 20, 20, 21, 21, 22, 23, 24, 32, 33))
            if code == 12:
                argument = choice((True, 0, 1, 2, 3, [0, 1], [3, 2, 1, 0]))
            elif code == 15 and depth:
                argument = [cbor.dumps(self.commands(depth - 1)) for _ in range(choice((1, 2, 2, 3)))]
                argument += [None] if randrange(2) else []
            elif code == 32 and depth:
                argument = cbor.dumps(self.commands(depth - 1))
            elif code == 20:
                argument = self.parameters()
            else:
                argument = choice((0, 2, 15, 15, 16))
            made += [code, argument]
        return made

    def parameters(self):
        values = {
            1: self.vendor, 2: self.cls, 3: fake.image()[3], 4: 1 << 40, 5: randrange(3), 13: bool(randrange(2)),
            14: randrange(100), 18: b"content", 21: "#a", 22: randrange(4), 24: self.device.device_id,
        }  # fmt: skip
        labels = list(values)
        return {label: values[label] for label in [choice(labels) for _ in range(randrange(1, 5))]}

    def check(self, mutant):
        data, answers = mutant
        envelope = suit.Envelope(data)
        envelope.authenticate([fake.AnyKey()])
        outcome = None
        # Another maker's device first, which may never come to its end, then the right one.
        for right in (False, True):
            manifest = envelope.manifest()
            self.device.vendor_id = self.vendor if right else b"another vendor.."
            self.device.class_id = self.cls if right else b"another class..."
            outcome = self.run(manifest, answers)
            if not right and not isinstance(outcome, Refused):
                raise Broken("a manifest that is not for this vendor and class is complete")
        if isinstance(outcome, Refused):
            raise outcome
        return "accepted"

    def run(self, manifest, answers):
        matched = {}
        asked = []

        def answer(code, index, parameters):
            asked.append(code)
            bit = len(asked) % 256
            said = bool(answers[bit >> 3] >> (bit & 7) & 1)
            if code == suit.IMAGE_MATCH:
                matched[index] = said or matched.get(index, False)
                parameters[suit.IMAGE_DIGEST]
            elif code in (suit.FETCH, suit.COPY, suit.WRITE):
                matched[index] = False
                parameters[{suit.FETCH: suit.URI, suit.COPY: suit.SOURCE_COMPONENT, suit.WRITE: suit.CONTENT}[code]]
            return said

        try:
            drive(manifest, self.device, answer)
        except Refused as error:
            return error
        if [matched.get(index) for index in range(len(manifest.components))] != [True] * len(manifest.components):
            raise Broken("a manifest is complete whose components were not all matched after their last write")
        return None


def _digest(data):
    return hashlib.sha256(cbor.dumps(data)).digest()


class Trust(Target):
    """Trust stores inside an envelope by a key that takes everything: the parser, every question put to the store."""

    component = "trust"

    def make(self):
        return mutate.mutate(choice(self.seeds), choice(self.seeds))

    def enveloped(self, mutant):
        """The payload as it comes out of its envelope."""
        from gatehouse import trust

        name = self.component
        data = fake.envelope(
            fake.manifest(
                shared=[20, {1: fake.VENDOR, 2: fake.CLASS}, 1, 15, 2, 15, 20, fake.image(mutant)],
                components=[[name.encode()]],
                install=[20, {21: "#" + name}, 21, 2, 3, 15],
                validate=[3, 15],
            ),
            {"#" + name: mutant},
        )
        envelope = suit.Envelope(data)
        envelope.authenticate([fake.AnyKey()])
        return trust.payload(envelope, envelope.manifest(), name, fake.Device())

    def check(self, mutant):
        from gatehouse import trust

        store = trust.parse(self.enveloped(mutant))
        keys = trust.keys(store)
        if not 0 < len(keys) <= 8 or type(store.version) is not int:
            raise Broken("a store without keys or version is taken")
        for key in keys:
            if key.kid != hashlib.sha256(key.public).digest()[:8]:
                raise Broken("a key id is taken that is not its key's")
            if key.verify(b"message", bytes(64)):
                raise Broken("a key takes a signature of zeros")
        for name in ("app", "firmware", "config", "trust", "other"):
            for signers in ((), keys[:1], keys):
                try:
                    trust.check_right(store, name, signers)
                except Refused as error:
                    if error.reason not in ("right", "component"):
                        raise
                else:
                    if not signers:
                        raise Broken("nobody has the right to write %s" % name)
        return "accepted"


class Config(Trust):
    """Configurations inside an envelope by a key that takes everything."""

    component = "config"

    def check(self, mutant):
        from gatehouse import config

        found = config.parse(self.enveloped(mutant))
        for name, least, most, default in config._FIELDS.values():
            value = getattr(found, name)
            if type(value) is not type(default) and not isinstance(value, (list, tuple)):
                raise Broken("%s is a %s" % (name, type(value)))
            if isinstance(least, tuple):  # a list of numbers, each with bounds of its own
                if not all(low <= one <= high for one, low, high in zip(value, least, most)):
                    raise Broken("%s is out of its bounds" % name)
                continue
            size = value if isinstance(value, (int, bool)) else len(value)
            if not least <= size <= most:
                raise Broken("%s is out of its bounds" % name)
        return "accepted"


_PLAIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."


def safe(path):
    """Whether a path is one that a tree may hold, told by other code than the core's."""
    for part in path.split("/"):
        if part.strip(_PLAIN) or part[:1] in ("", "."):
            return False
    top = path.split("/")[0]
    return len(path) <= 64 and top not in ("gatehouse", "boot.py", "main.py") and not path.endswith(".new")


class Index(Target):
    """Indexes: what the reader takes is deterministic CBOR, sorted, bounded, with safe paths only."""

    def make(self):
        if randrange(4):
            return super().make()
        fields = cbor.loads(choice(self.seeds))
        entries = fields[6]
        choice(entries)[0] = choice(mutate.PATHS)
        entries.sort(key=lambda entry: entry[0])
        return cbor.dumps(fields)

    def check(self, mutant):
        from gatehouse import tree

        index = tree.Index(BytesIO(mutant))
        entries = list(index)
        if cbor.loads(mutant) != {1: 1, 2: index.name, 3: index.version, 4: index.core, 5: index.mpy, 6: entries}:
            raise Broken("an index reads otherwise than it is")
        if index.digest() != hashlib.sha256(mutant).digest():
            raise Broken("the digest of an index is not that of its bytes")
        last = ""
        for entry in entries:
            if not safe(entry[0]) or entry[0] <= last:
                raise Broken("the path %r is taken" % entry[0])
            if entry[1] > tree.MAX_FILE or entry[3] > entry[1] or len(entry[2]) != 32 or entry[4] not in (0, 1):
                raise Broken("the entry %r is taken" % entry)
            last = entry[0]
        index.check_needs()
        return "accepted"
