"""Trust anchors: which key may write which component.

The store is the payload of the ["trust"] component, deterministic CBOR:
{1: version, 2: [key...], 3: {component: [[role, algorithm or 0]...]}, 4: [digests to keep], 5: [TLS CA...], 6: dev}
key = {1: kid, 2: algorithm, 3: public key, 4: [role...]}.
"""

import hashlib

from micropython import const

from gatehouse import Refused, cbor, memory

ROOT = const(1)
RELEASE = const(2)
OPERATOR = const(3)
DEV = const(4)  # signs applications where the store is flagged dev, and nothing anywhere else

ES256 = const(-9)  # ESP256 of RFC 9864: ECDSA on P-256 with SHA-256
HSS_LMS = const(-46)

_SIZES = {ES256: (64,), HSS_LMS: (52, 60)}  # bytes of a public key: x and y; HSS with 192 or 256 bits

_MAX_KEYS = const(8)  # two roots, two release keys, an operator, and the next of some of them
_MAX_KEEP = const(16)  # digests: a fleet runs few releases at once
_MAX_TLS = const(4)  # authorities; each takes half a kilobyte of the envelope
_MAX_NEEDS = const(4)  # signatures for one component, as many as an envelope has blocks
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

            return memory.busily(es256.verify, self.public, message, signature)
        from gatehouse import lms

        return memory.busily(lms.verify, self.public, message, signature)


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
        good = type(found.version) is int and found.version > 0 and 0 < len(found.keys) <= _MAX_KEYS
        good = good and len({key[2] for key in found.keys}) == len(found.keys)
        good = good and isinstance(found.required, dict) and isinstance(found.dev, bool)
        for items, most in ((found.keep, _MAX_KEEP), (found.tls, _MAX_TLS)):
            good = good and isinstance(items, list) and len(items) <= most
            good = good and all(isinstance(item, bytes) for item in items)
        for component, needs in found.required.items():
            good = good and component in _ROLES and isinstance(needs, list) and 0 < len(needs) <= _MAX_NEEDS
            for role, algorithm in needs:
                good = good and role in (ROOT, RELEASE, OPERATOR) and algorithm in (0, ES256, HSS_LMS)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refused("format", "trust store: %s" % error)
    if not good or set(fields) - {1, 2, 3, 4, 5, 6}:
        raise Refused("format", "trust store")
    return found


def _key(fields):
    kid, alg, public, roles = fields[1], fields[2], fields[3], fields[4]
    if len(fields) != 4 or kid != hashlib.sha256(public).digest()[:8] or not isinstance(roles, list):
        raise ValueError("key id")
    if alg not in _SIZES or len(public) not in _SIZES[alg]:
        raise ValueError("key algorithm")
    return kid, alg, public, roles


def keys(store):
    """The Key objects of a store, for suit.Envelope.authenticate()."""
    return [Key(*fields) for fields in store.keys]


def needs(store, component):
    """Who must sign for a component: a list of [role, algorithm or 0]. Refused("component") where nobody may."""
    if component not in _ROLES:
        raise Refused("component", "nobody may write %s" % component)
    return store.required.get(component) or [[_ROLES[component], 0]]


def check_right(store, component, signers):
    """Refused("right") unless `signers` (Keys whose signature held) satisfy what `component` (a name) requires.

    Each requirement takes a key of its own, told apart by its public bytes. In a store flagged dev one key with the
    role dev is enough for an application.
    """
    if store.dev and component == "app" and [key for key in signers if DEV in key.roles]:
        return
    if not _satisfied(needs(store, component), list(signers)):
        raise Refused("right", "%s is not signed by the keys it requires" % component)


def check_build(store, identity):
    """Refused("dev") where a store is flagged dev and this is a production build: core frozen, or secure boot on."""
    if not store.dev:
        return
    from gatehouse import measure

    if measure.frozen() or measure.fuses(identity.fuses)[1]:
        raise Refused("dev", "a production build takes no trust anchors for development")


def _satisfied(needs, keys):
    if not needs:
        return True
    role, algorithm = needs[0]
    for key in keys:
        if role in key.roles and algorithm in (0, key.alg):
            if _satisfied(needs[1:], [other for other in keys if other.public != key.public]):
                return True
    return False


def names(manifest):
    """The names of a manifest's components, e.g. ["firmware", "app"], in its order. Refused("component") for others.

    Trust anchors travel alone: they hold from now on, and everything else only once it has proved itself.
    """
    found = []
    for item in manifest.components:
        if len(item) != 1:
            raise Refused("component", "component id of %d parts" % len(item))
        try:
            found.append(str(item[0], "utf-8"))
        except (UnicodeError, ValueError):
            raise Refused("component", "component id that is not text")
    if "trust" in found and len(found) > 1:
        raise Refused("component", "trust anchors travel alone")
    return found


def admitted(store, envelope, component, keep=None):
    """The Manifest of an envelope that lies on this device, where `component` is one of its components.

    Signed by keys with the right to write it, or named by its digest in `keep` (default: the store's own list), which
    only lets stay what is there already. Raises Refused.
    """
    kept = envelope.pin(store.keep if keep is None else keep)
    signers = [] if kept else envelope.authenticate(keys(store))
    manifest = envelope.manifest()
    if component not in names(manifest):
        raise Refused("component", "not a manifest for %s" % component)
    if not kept:
        check_right(store, component, signers)
    return manifest


class Undated:
    """A device as manifests ask it whose content lies here already: that was fresh once, and no date may undo it."""

    not_before = 0

    def __init__(self, boot):
        self.vendor_id, self.class_id, self.device_id = boot.vendor_id, boot.class_id, boot.device_id

    def now(self):
        """Earlier than any use-before."""
        return 0


def payload(envelope, manifest, component, device):
    """The payload (bytes) of a small component, `config` or `trust`, out of its envelope, a suit.Envelope.

    Runs the manifest against it; other components of the same manifest are passed over. Raises Refused.
    """
    from gatehouse import suit

    mine = names(manifest).index(component)
    found = []

    def act(command, index, parameters):
        if index != mine:
            return True
        if command == suit.FETCH:
            found.append(envelope.payload(parameters[suit.URI]))
            if found[-1] is None:
                raise Refused("unsupported", "the payload of %s travels inside the envelope" % component)
        elif command == suit.WRITE:
            found.append(parameters[suit.CONTENT])
        elif command == suit.IMAGE_MATCH:
            return bool(found) and matches(found[-1], parameters)
        else:
            raise Refused("unsupported", "command %d for %s" % (command, component))
        return True

    suit.drive(manifest, ("payload-fetch", "install", "validate"), device, act)
    manifest.complete()
    return found[-1]


def matches(data, parameters):
    """Whether bytes in memory are the image of a component's Parameters: digest, and size where there is one."""
    from gatehouse import suit_commands as suit

    size = parameters.get(suit.IMAGE_SIZE)
    return size in (None, len(data)) and hashlib.sha256(data).digest() == parameters[suit.IMAGE_DIGEST]


def root_digest(store):
    """32 bytes that say who the roots of a store are, and how many of them must sign: what NVS pins.

    SHA-256 over the public keys with the role root, sorted, and the CBOR of what ["trust"] requires where it does.
    """
    hasher = hashlib.sha256()
    for public in sorted(key[2] for key in store.keys if ROOT in key[3]):
        hasher.update(public)
    if "trust" in store.required:
        hasher.update(cbor.dumps(store.required["trust"]))
    return hasher.digest()


def open_store(envelope, root, device):
    """The Trust in a signed envelope (suit.Envelope). `root`: its root_digest(), or two of them, from NVS.

    The root keys themselves lie in the store: they count only because their digest is the one that the factory wrote,
    or the one before or after a rotation that the power cut short.
    """
    data = envelope.payload("#trust")
    if data is None:
        raise Refused("format", "trust store without its payload")
    store = parse(data)
    digest = root_digest(store)
    if digest not in (root[:32], root[32:]):
        raise Refused("key", "the roots of the trust store are not this device's")
    manifest = admitted(store, envelope, "trust", ())
    if payload(envelope, manifest, "trust", device) != data:
        raise Refused("format", "trust store with a second payload")
    return store
