"""New trust anchors offered to a whole device, signed by any root: a device never takes a store that strands it."""

import hashlib
from random import choice, getrandbits, randrange

import fake_chip as chip
import fake_device
import fake_manifest as fake
import mutate
from gatehouse import cbor
from packs import Offer
from run_fuzz import Broken


class Rotate(Offer):
    """Trust stores of a higher version. What is taken lets the device start its release and configuration again."""

    def honest(self):
        self.device()
        envelope = cbor.loads(self.case["trust"]).value
        fields = cbor.loads(envelope["#trust"])
        fields[5] = [b"an authority"]  # its configuration asks for TLS
        self.store = cbor.dumps(fields)
        fields[1] += 1
        if self.check(cbor.dumps(fields)) != "rotated":
            raise Broken("an honest store is refused: %s" % self.found.refused)
        self.after()

    def make(self):
        fields = cbor.loads(self.store)
        fields[1] += choice((0, 1, 1, 1, 1, 5, 1 << 40))
        for _ in range(randrange(3)):
            self.edit(fields)
        data = cbor.dumps(fields)
        return data if randrange(3) else mutate.mutate(data, self.store)

    def edit(self, fields):
        """One well-formed change: keys come, go and change what they may, sets are required, digests kept."""
        keys = fields[2]
        kind = randrange(7)
        if kind == 0:
            del keys[randrange(len(keys))]
            if not keys:
                keys.append({})
        elif kind == 1:
            public = bytes(getrandbits(8) for _ in range(choice((64, 64, 60, 48))))
            alg = -9 if len(public) == 64 else -46
            kid = hashlib.sha256(public).digest()[:8]
            made = {1: kid, 2: alg, 3: public, 4: [choice((1, 2, 3))]}
            keys[randrange(len(keys))] = made
        elif kind == 2:
            choice(keys)[4] = choice(([1], [2], [3], [1, 2, 3], [], [4], [2, 2]))
        elif kind == 3:
            names = ("app", "config", "trust", "firmware")
            fields[3] = {choice(names): [[choice((1, 2, 3)), choice((0, -9, -46))] for _ in range(randrange(1, 4))]}
        elif kind == 4:
            fields[4] = choice(([], [bytes(32)], [self.case["releases"]["1.0.0"]["manifest"]]))
        elif kind == 5:
            fields[5] = choice(([], [b"an authority"], [b""]))
        else:
            keys.append(choice(keys))

    def check(self, mutant):
        from gatehouse import installer, trust

        original = trust.Key.verify
        trust.Key.verify = _by_any_root(original)
        try:
            release = {"envelope": self.signed(mutant)}
            self.found, _ = fake_device.offer(self.boot, release, _NoPack(), installer.Installer(self.boot))
        finally:
            trust.Key.verify = original
        self.rotated = self.found.due
        if not self.rotated:
            return self.found.refused["reason"] if self.found.refused else "nothing"
        chip.forget()
        from gatehouse import slots
        from gatehouse import trust as fresh

        fresh.Key.verify = _by_any_root(fresh.Key.verify)
        boot = slots.boot()
        if boot.mode != "active" or boot.failure:
            raise Broken("a store is taken that strands the device: %s %s" % (boot.mode, boot.failure))
        if boot.generation != self.boot.generation or boot.config.broker != self.boot.config.broker:
            raise Broken("a store is taken under which the configuration does not hold")
        for component in ("app", "config", "trust"):
            fresh.check_right(boot.trust, component, fresh.keys(boot.trust))
        return "rotated"

    def signed(self, store):
        """An envelope with the store, by whichever key the device knows first: the block has no key id."""
        manifest = fake.manifest(
            shared=[20, {1: self.boot.vendor_id, 2: self.boot.class_id}, 1, 15, 2, 15, 20, fake.image(store)],
            components=[[b"trust"]],
            number=self.case["now"],
            install=[20, {21: "#trust"}, 21, 2, 3, 15],
            validate=[3, 15],
        )
        block = cbor.dumps(cbor.Tag(18, [b"\xa1\x01\x28", {}, None, bytes(64)]))
        wrapper = cbor.dumps([cbor.dumps(fake.digest(manifest)), block])
        return cbor.dumps(cbor.Tag(107, {2: wrapper, 3: manifest, "#trust": store}))

    def outside(self):
        found = super().outside()
        found.pop("/state/trust.suit", None)
        return found

    def after(self):
        if not self.rotated:
            super().after()
            return
        chip.restore(self.saved)
        self.boot = fake_device.boot()
        fake_device.clock(self.case["now"])
        self.rotated = False

    rotated = False


def _by_any_root(verify):
    """Key.verify() for one who holds every root key, old and new, and no other."""
    return lambda key, message, signature: 1 in key.roles or verify(key, message, signature)


class _NoPack:
    """A trust store brings no pack."""

    async def close(self):
        pass
