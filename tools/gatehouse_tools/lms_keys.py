"""HSS/LMS keys of one level (RFC 8554, RFC 9858): files, signing, and the state that no signature may come before.

A leaf of the tree that signs twice gives the key away. So the number of the next leaf is written, synced and locked
before a signature exists, and kept in three places: beside the key, in the product's ledger/ and in the user's state
folder. A key whose own number is below the others is an old copy, and refuses to sign. docs/keys.md has what that
cannot see. The hash chains are pyhsslms's; its own key files are not used, since they make the whole tree at each load.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyhsslms

from . import keys
from .errors import GatehouseError, UsageError

PRIVATE, PUBLIC = "gatehouse-lms-private-key", "gatehouse-lms-public-key"
STATE_HOME = "XDG_STATE_HOME"
HEIGHTS, WIDTHS = (5, 10, 15, 20), (1, 2, 4, 8)
LOW = 10  # percent of the leaves: from here on every signature warns
_IDENTIFIER = 16  # bytes of I
_LMS_BASE, _OTS_BASE = {32: 4, 24: 9}, {32: 1, 24: 5}  # type = base + height / 5, and base + log2(w)
_CHUNK = 16  # leaves that a process makes at once
_PARALLEL = 256  # leaves from which on several processes pay


@dataclass(frozen=True)
class Parameters:
    """A set of LMS and LM-OTS with SHA-256: height of the tree, Winternitz width, bytes of a hash (32 or 24)."""

    height: int = 10
    width: int = 4
    length: int = 32

    @classmethod
    def parse(cls, text: str) -> Parameters:
        """The set in text such as "H10/W4" or "H5/W8/M24". UsageError says which there are."""
        found = re.fullmatch(r"H(\d+)/W(\d+)(?:/M(24|32))?", text.upper())
        if not found or int(found[1]) not in HEIGHTS or int(found[2]) not in WIDTHS:
            raise UsageError(
                f"LMS set {text!r}: H5, H10, H15 or H20, then W1, W2, W4 or W8, such as H10/W4 or H10/W8/M24"
            )
        return cls(int(found[1]), int(found[2]), int(found[3] or 32))

    @classmethod
    def of(cls, public: bytes) -> Parameters:
        """The set of an HSS public key. ValueError where it is none of one level with a set of ours."""
        for length in _LMS_BASE:
            for height in HEIGHTS:
                for width in WIDTHS:
                    found = cls(height, width, length)
                    if len(public) == found.public_size and public[:12] == bytes([0, 0, 0, 1]) + found.types:
                        return found
        raise ValueError("no HSS public key of one level")

    @property
    def types(self) -> bytes:
        """The type codes of LMS and LM-OTS, 8 bytes, as they begin an LMS public key."""
        codes = _LMS_BASE[self.length] + self.height // 5, _OTS_BASE[self.length] + self.width.bit_length() - 1
        return b"".join(code.to_bytes(4, "big") for code in codes)

    @property
    def leaves(self) -> int:
        """How many signatures a key has."""
        return 1 << self.height

    @property
    def public_size(self) -> int:
        """Bytes of an HSS public key."""
        return 12 + _IDENTIFIER + self.length

    @property
    def signature_size(self) -> int:
        """Bytes of an HSS signature."""
        chains = pyhsslms.pyhsslms.lmots_params[self.types[4:]][2]
        return 4 + 4 + 4 + self.length * (chains + 1) + 4 + self.length * self.height

    def __str__(self) -> str:
        return f"LMS_SHA256_M{self.length}_H{self.height}/LMOTS_SHA256_N{self.length}_W{self.width}"


DEFAULT = Parameters()  # 2,512 bytes a signature, verified in a tenth of the time of ECDSA


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """True when `signature` is an HSS signature of one level over `message`; by the rules of the device's lms.py."""
    try:
        parameters = Parameters.of(public)
        if len(signature) != parameters.signature_size or signature[:4] != bytes(4):
            return False
        if signature[8:12] != public[8:12]:  # pyhsslms compares only the LMS type
            return False
        return bool(pyhsslms.LmsPublicKey.deserialize(public[4:]).verify(message, signature[4:]))
    except ValueError:
        return False


def generate(
    path: Path,
    parameters: Parameters = DEFAULT,
    ledger: Path | None = None,
    step: Callable[[int], None] = lambda leaves: None,
) -> LmsSigner:
    """Make a key: the private file `path` (mode 0600, never changed again), PATH.state and PATH.pub beside it.

    A file that is there is never overwritten. `step(n)` is called after each n leaves of the tree.
    """
    for place in (path, state_path(path), public_path(path)):
        if place.exists():
            raise GatehouseError(f"{place} exists already, and a key is never overwritten: choose another place")
    identifier, seed = secrets.token_bytes(_IDENTIFIER), secrets.token_bytes(parameters.length)
    leaves = _make_leaves(identifier, seed, parameters, step)
    public = bytes([0, 0, 0, 1]) + parameters.types + identifier + _nodes(identifier, leaves, parameters)[1]
    told = {"parameters": str(parameters), "public": public.hex()}
    secret = {"format": PRIVATE, **told, "seed": seed.hex(), "leaves": base64.b64encode(b"".join(leaves)).decode()}
    keys.write_secret(path, _json(secret))
    write_synced(state_path(path), _json({"key": keys.key_id(public).hex(), "next": 0}))
    with open(public_path(path), "xb") as file:
        file.write(_json({"format": PUBLIC, **told}))
    signer = LmsSigner(path, ledger)
    signer.note(0)
    return signer


def state_path(path: Path) -> Path:
    """The file with the number of the next leaf, beside the private key."""
    return path.with_name(path.name + ".state")


def public_path(path: Path) -> Path:
    """The public half, beside the private key."""
    return path.with_name(path.name + ".pub")


def is_private(data: bytes) -> bool:
    """Whether a file's bytes are a private key of ours."""
    return data.lstrip()[:1] == b"{" and PRIVATE.encode() in data[:200]


def is_public(data: bytes) -> bool:
    """Whether a file's bytes are a public key of ours."""
    return data.lstrip()[:1] == b"{" and PUBLIC.encode() in data[:200]


def public_of(data: bytes, path: Path) -> keys.PublicKey:
    """The public key in a private or public key file. GatehouseError("key") where it is damaged."""
    try:
        found = json.loads(data)
        public = bytes.fromhex(found["public"])
        if str(Parameters.of(public)) == found["parameters"]:
            return keys.PublicKey(keys.HSS_LMS, public)
    except (ValueError, KeyError, TypeError):
        pass  # told below
    raise GatehouseError(f"{path} is a damaged HSS/LMS key: restore it", "key")


class LmsSigner(keys.Signer):
    """An HSS/LMS private key. `warnings`: what whoever signed should be told, after each signature."""

    def __init__(self, path: Path, ledger: Path | None = None) -> None:
        """Read a key file and check it against its root. `ledger` is the product's folder of counters, if there is one.

        GatehouseError("key") where it is not readable or not intact.
        """
        self.path = path.resolve()  # a link into a stick or a vault: the state lies there, beside the key
        data = keys.read(self.path)
        self.key = public_of(data, path)
        self.alg, self.kid, self.public = self.key.alg, self.key.kid, self.key.public
        self.parameters = Parameters.of(self.public)
        self.warnings: list[str] = []
        self._identifier = self.public[12 : 12 + _IDENTIFIER]
        try:
            fields = json.loads(data)
            self._seed = bytes.fromhex(fields["seed"])
            joined, n = base64.b64decode(fields["leaves"], validate=True), self.parameters.length
            leaves = [joined[at : at + n] for at in range(0, len(joined), n)]
            self._tree = _nodes(self._identifier, leaves, self.parameters)
            intact = len(self._seed) == n and self._tree[1] == self.public[12 + _IDENTIFIER :]
        except (ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise GatehouseError(f"{path} is a damaged HSS/LMS key: restore it", "key")
        self._counters = [folder / f"{self.kid.hex()}.json" for folder in (ledger, state_home()) if folder is not None]

    def remaining(self) -> int:
        """How many signatures are left."""
        with self._alone():
            return self.parameters.leaves - self._next()

    def sign(self, message: bytes) -> bytes:
        """The HSS signature over `message`. It uses up one leaf, also where something fails after that.

        GatehouseError("key") when no leaf is left, or when this is an old copy of the key.
        """
        leaf = self._take()
        key = pyhsslms.LmotsPrivateKey(self._identifier, leaf.to_bytes(4, "big"), self._seed, self.public[8:12])
        path, node = b"", leaf + self.parameters.leaves
        while node > 1:
            path += self._tree[node ^ 1]
            node //= 2
        signature = bytes(4) + leaf.to_bytes(4, "big") + key.sign(message) + self.public[4:8] + path
        if not verify(self.public, message, signature):  # a fault here would give away chains of this leaf
            raise GatehouseError(f"{self.path} does not match its public key: restore it", "key")
        return signature

    def _take(self) -> int:
        """The number of the next leaf, which is marked as used on the disk before this returns."""
        with self._alone():
            leaf = self._next()
            total = self.parameters.leaves
            if leaf >= total:
                told = f"{self.path}: all {total} signatures of this key are used"
                raise GatehouseError(f"{told}; make its successor, signed by another root key: docs/keys.md", "key")
            write_synced(state_path(self.path), _json({"key": self.kid.hex(), "next": leaf + 1}))
            self.note(leaf + 1)
        left = total - leaf - 1
        if left * 100 < total * LOW:
            told = f"{self.path.name} has {left} of {total} signatures left"
            self.warnings.append(
                f"{told}: make its successor now, while it can sign it: gatehouse trust next --new-key ROLE"
            )
        return leaf

    def _next(self) -> int:
        """The state's number. GatehouseError("key") where it is missing, damaged, or older than what was used."""
        place = state_path(self.path)
        if not place.exists():
            told = f"{place} is missing: without it a leaf could sign twice, which gives the key away"
            raise GatehouseError(f"{told}; restore it only if it is the newest copy, else revoke this key", "key")
        found, used = self._number(place), max((self._number(one) for one in self._counters), default=0)
        if found < used:
            told = f"{place} is an old copy: it says {found} signatures, and {used} were made"
            raise GatehouseError(f"{told}; never sign with it: bring the newest copy, or revoke this key", "key")
        return found

    def note(self, number: int) -> None:
        """Write down in the ledgers that so many leaves are used."""
        for place in self._counters:
            make_private(place.parent)
            write_synced(place, _json({"key": self.kid.hex(), "next": number}))

    def _number(self, path: Path) -> int:
        if not path.exists():
            return 0
        try:
            found = json.loads(keys.read(path))
            if found["key"] == self.kid.hex() and type(found["next"]) is int and found["next"] >= 0:
                return int(found["next"])
        except (ValueError, KeyError, TypeError):
            pass  # told below
        raise GatehouseError(f"{path} is not the state of this key, or damaged: bring the newest copy", "key")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process that uses this key file, or a copy of it as this user, is between these lines."""
        make_private(state_home())
        places = [self.path, state_home() / f"{self.kid.hex()}.lock"]
        with contextlib.ExitStack() as stack:
            for place in places:
                try:
                    handle = os.open(place, os.O_RDONLY if place == self.path else os.O_RDWR | os.O_CREAT, 0o600)
                except OSError as error:
                    raise GatehouseError(f"{place}: {error.strerror}", "key") from None
                stack.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def state_home() -> Path:
    """Where this user's counters lie, outside of every product: $XDG_STATE_HOME/gatehouse/lms."""
    base = os.environ.get(STATE_HOME) or os.path.expanduser("~/.local/state")
    return Path(base) / "gatehouse" / "lms"


def _nodes(identifier: bytes, leaves: list[bytes], parameters: Parameters) -> list[bytes]:
    """All nodes of the tree by their number, the root being 1 (RFC 8554 section 5.3). ValueError for a wrong count."""
    n, total = parameters.length, parameters.leaves
    if len(leaves) != total:
        raise ValueError("leaves")

    def node(number: int, *parts: bytes) -> bytes:
        return hashlib.sha256(b"".join((identifier, number.to_bytes(4, "big"), *parts))).digest()[:n]

    tree = [b""] * total + [node(total + q, b"\x82\x82", leaf) for q, leaf in enumerate(leaves)]
    for number in range(total - 1, 0, -1):
        tree[number] = node(number, b"\x83\x83", tree[2 * number], tree[2 * number + 1])
    return tree


def _make_leaves(identifier: bytes, seed: bytes, parameters: Parameters, step: Callable[[int], None]) -> list[bytes]:
    """The one-time public keys, in all processors where there are many."""
    starts = range(0, parameters.leaves, _CHUNK)
    jobs = [(identifier, seed, parameters.types[4:], start) for start in starts]
    found: list[bytes] = []

    def collect(parts: Iterable[list[bytes]]) -> None:
        for part in parts:
            found.extend(part)
            step(len(part))

    if parameters.leaves < _PARALLEL:
        collect(map(_some_leaves, jobs))
    else:
        with concurrent.futures.ProcessPoolExecutor() as pool:
            collect(pool.map(_some_leaves, jobs))
    return found


def _some_leaves(job: tuple[bytes, bytes, bytes, int]) -> list[bytes]:
    identifier, seed, ots, start = job
    made = []
    for q in range(start, start + _CHUNK):
        made.append(pyhsslms.LmotsPrivateKey(identifier, q.to_bytes(4, "big"), seed, ots).publicKey().K)
    return made


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def make_private(folder: Path) -> None:
    """Make a folder of counters that is the user's own."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise GatehouseError(f"{folder}: {error.strerror}; counters are kept there") from None


def write_synced(path: Path, data: bytes, failed: str = "nothing was signed") -> None:
    """Write or replace a file so that it is on the disk when this returns: new file, sync, rename, sync the folder."""
    new = path.with_name(path.name + ".new")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(new, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise GatehouseError(f"{path}: {error.strerror}; {failed}", "key") from None
