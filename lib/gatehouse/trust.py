"""Trust anchors: which key may write which component.

The store is the payload of the ["trust"] component, deterministic CBOR:
{1: version, 2: [key...], 3: {component: [[role, algorithm or 0]...]}, 4: [digests to keep], 5: [TLS CA...], 6: dev}
key = {1: kid, 2: algorithm, 3: public key, 4: [role...]}.
"""

import hashlib

from micropython import const

from gatehouse import Refused, cbor

ROOT = const(1)
RELEASE = const(2)
OPERATOR = const(3)

ES256 = const(-9)  # ESP256 of RFC 9864: ECDSA on P-256 with SHA-256
HSS_LMS = const(-46)

_MAX_KEYS = const(8)
_ROLES = {"app": RELEASE, "firmware": RELEASE, "config": OPERATOR, "trust": ROOT}


class Trust:
    """A trust store: version, keys as (kid, algorithm, public, roles), required, keep, tls (authorities in DER), dev.

    Without methods, so that this module can be unloaded while the store lives on.
    """

    version = 0
    keys = keep = tls = []
    required = {}
    dev = False


class Key:
    """A public key and what it may sign. `alg` is fixed here, so that nobody who sends a signature can choose it."""

    def __init__(self, kid, alg, public, roles):
        self.kid = kid
        self.alg = alg
        self.public = public
        self.roles = roles

    def verify(self, message, signature):
        """True when `signature` over `message` is by this key. Never raises on bad input."""
        if self.alg == ES256:
            from gatehouse import es256

            return es256.verify(self.public, message, signature)
        return False  # HSS/LMS: not in this core yet, so nothing signed with it is taken


def parse(data):
    """The Trust in the payload of a ["trust"] component. Refused("format") on anything else than the format above."""
    found = Trust()
    try:
        fields = cbor.loads(data)
        found.version = fields[1]
        found.keys = [_key(item) for item in fields[2]]
        found.required = fields.get(3, {})
        found.keep = fields.get(4, [])
        found.tls = fields.get(5, [])
        found.dev = fields.get(6, False)
        good = isinstance(found.version, int) and 0 < len(found.keys) <= _MAX_KEYS
        for needs in found.required.values():
            good = good and len(needs) > 0 and all(len(need) == 2 for need in needs)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refused("format", "trust store: %s" % error)
    if not good:
        raise Refused("format", "trust store")
    return found


def _key(fields):
    kid, alg, public, roles = fields[1], fields[2], fields[3], fields[4]
    if kid != hashlib.sha256(public).digest()[:8] or not isinstance(roles, list):
        raise ValueError("key id")
    if (alg == ES256 and len(public) != 64) or alg not in (ES256, HSS_LMS):
        raise ValueError("key algorithm")
    return kid, alg, public, roles


def keys(store):
    """The Key objects of a store, for suit.Envelope.authenticate()."""
    return [Key(*fields) for fields in store.keys]


def check_right(store, component, signers):
    """Refused("right") unless `signers` (Keys whose signature held) satisfy what `component` (a name) requires.

    Each requirement takes a key of its own, told apart by its public bytes.
    """
    needs = store.required.get(component)
    if not needs:
        if component not in _ROLES:
            raise Refused("component", "nobody may write %s" % component)
        needs = [[_ROLES[component], 0]]
    if not _satisfied(needs, list(signers)):
        raise Refused("right", "%s is not signed by the keys it requires" % component)


def _satisfied(needs, keys):
    if not needs:
        return True
    role, algorithm = needs[0]
    for key in keys:
        if role in key.roles and algorithm in (0, key.alg):
            if _satisfied(needs[1:], [other for other in keys if other.public != key.public]):
                return True
    return False


def component_name(component):
    """The name of a component id of one text part, e.g. [b"app"] -> "app"."""
    if len(component) != 1:
        raise Refused("component", "component id of %d parts" % len(component))
    try:
        return str(component[0], "utf-8")
    except (UnicodeError, ValueError):
        raise Refused("component", "component id that is not text")


def signed_payload(envelope, known, component, device, rights=None):
    """The payload of a small component (`config` or `trust`) from its whole envelope, a suit.Envelope.

    Authenticates it with the Keys `known`, asks `rights` (a Trust) whether the signers may write `component`, runs the
    manifest against the payload inside the envelope. Returns (manifest, payload bytes). Raises Refused.
    """
    from gatehouse import suit

    signers = envelope.authenticate(known)
    manifest = envelope.manifest()
    if [component_name(item) for item in manifest.components] != [component]:
        raise Refused("component", "not a manifest for %s" % component)
    if rights:
        check_right(rights, component, signers)
    payload = None
    for section in ("install", "validate"):
        commands = manifest.run(section, device)
        answer = None
        while True:
            try:
                command, _, parameters = commands.send(answer)
            except StopIteration:
                break
            answer = True
            if command == suit.FETCH:
                payload = envelope.payload(parameters[suit.URI])
                if payload is None:
                    raise Refused("unsupported", "the payload of %s travels inside the envelope" % component)
            elif command == suit.WRITE:
                payload = parameters[suit.CONTENT]
            elif command == suit.IMAGE_MATCH:
                answer = (
                    payload is not None
                    and len(payload) == parameters.get(suit.IMAGE_SIZE, len(payload))
                    and hashlib.sha256(payload).digest() == parameters[suit.IMAGE_DIGEST]
                )
            else:
                raise Refused("unsupported", "command %d for %s" % (command, component))
    manifest.complete()
    return manifest, payload


def open_store(data, root, device):
    """The Trust in the signed envelope `data`. `root` is SHA-256 of the root's public key, from NVS.

    The root key itself lies in the store: it counts only because its digest is the one that the factory wrote.
    """
    from gatehouse import suit

    envelope = suit.Envelope(data)
    payload = envelope.payload("#trust")
    if payload is None:
        raise Refused("format", "trust store without its payload")
    roots = [key for key in keys(parse(payload)) if ROOT in key.roles and hashlib.sha256(key.public).digest() == root]
    _, payload = signed_payload(envelope, roots, "trust", device)
    return parse(payload)
