"""A product: one folder with its settings, keys, certificates, releases and devices."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import tomllib
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import core, keys, lms_keys, suit
from .boards import Board
from .boards import load as load_board
from .errors import GatehouseError, UsageError
from .statement_fields import template as statement_template

FILE = "product.toml"
SESSION_KEY = "session-key"  # in the folder `ca`
ENVIRONMENT = "GATEHOUSE_PRODUCT"
ROLES = ("root", "release", "operator")
BASE_URL = "http://localhost:8080/"
BROKER_PORT = 8883
MAX_FILE = 64 << 20  # bytes; the largest file of ours is a flash image, of 16 MiB at most

MAX_NAME = 24  # characters of a product's name: it leads file names and goes into the index, whose limit is 32

_NAME = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{MAX_NAME - 1}}}")
_DOMAIN = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")
_SUPPORT_YEARS = 5  # the least that the EU Cyber Resilience Act asks for

_TEMPLATE = """\
# A Gatehouse product. Nothing here is secret: keep this file under version control.

[product]
name = {name}
domain = {domain}  # the vendor's; with a board's model it makes vendor id and class id, so never change it
boards = {boards}  # folders of boards/; the first is the default
hardware = "1"  # hardware version that devices report
support_from = {today}
support_until = {until}  # until when security updates are promised; publish it
security_contact = {contact}
# mud_url = "https://example.com/device.mud.json"  # where routers find the MUD file; below the domain when left out
# firmware = "../firmware"  # the application's source, relative to this file; the reference application when left out

[release]
core = {core}  # least version of the trusted core that the application needs

{statement}
[device]  # what `gatehouse provision` writes into new devices
broker = "localhost"
port = {port}
base_url = {base_url}  # where the packs of dist/ are served
ntp = "pool.ntp.org"
groups = ["all"]
# sensor = "ds18b20"  # or "dht22": on a wire, in place of the board's own (docs/new-board.md)
"""

_IGNORE = """\
# Secrets: private keys, and devices with theirs. What is signed for the public is in dist/.
# A file under a name of your own (--out, --image, --wifi, --dir) is yours to keep out.
/keys/
*-key.pem
session-key
secrets.json
/devices/*/label.*
/devices/*/production/
*.bin
/wifi*.toml
/*-viewer-*.json
/*-operator-*.json
/*-owner-*.json
/*-service-*.json
/reports.db*
/dist/
"""


class Product:
    """An existing product folder. Attributes are the settings of product.toml."""

    def __init__(self, root: Path) -> None:
        """Read the folder's product.toml. GatehouseError names the setting that is wrong."""
        self.root = root
        self.data = _toml(root / FILE)
        product = _table(self.data, "product", root / FILE)
        self.device = _table(self.data, "device", root / FILE)
        self.statement = _table(self.data, "statement", root / FILE)
        self.name = check_name(_text(product, "name", root / FILE))
        self.domain = check_domain(_text(product, "domain", root / FILE))
        self.hardware = str(product.get("hardware", "1"))
        boards = product.get("boards")
        if not isinstance(boards, list) or not boards or not all(isinstance(item, str) for item in boards):
            raise GatehouseError(f'{root / FILE}: boards must be a list of names such as ["unix"]')
        self.boards: list[str] = boards
        self.needs_core = str(_table(self.data, "release", root / FILE).get("core", core.version()))
        self.firmware = (root / product["firmware"]).resolve() if "firmware" in product else core.source("firmware")
        self.keys, self.ca = root / "keys", root / "ca"
        self.dist, self.devices = root / "dist", root / "devices"

    @property
    def vendor_id(self) -> uuid.UUID:
        """The vendor id: from the vendor's domain."""
        return suit.vendor_uuid(self.domain)

    def class_id(self, board: Board) -> uuid.UUID:
        """The class id of one board: from the vendor id and the board's model."""
        return suit.class_uuid(self.domain, board.model)

    def board(self, name: str | None = None) -> Board:
        """One of the product's boards, the first when no name is given. UsageError for one that it does not have."""
        name = name or self.boards[0]
        if name not in self.boards:
            raise UsageError(
                f"{self.name} has no board {name!r}; boards in {FILE}: {', '.join(self.boards)}."
                " A folder of boards/ can be added there, and gets releases by `gatehouse release --board`"
            )
        return load_board(name, self.root)

    @property
    def ledger(self) -> Path:
        """Where the use of HSS/LMS keys is written down, outside of keys/: not secret, for version control."""
        return self.root / "ledger"

    def signer(self, role: str) -> keys.Signer:
        """The first private key of a role: root, release or operator. GatehouseError("key") when it is not there."""
        from . import trust_store

        return trust_store.signers(self, trust_store.current(self), role)[0]

    def signers(self, role: str) -> list[keys.Signer]:
        """The private keys of a role that are on this machine. GatehouseError("key") where none is."""
        from . import trust_store

        return trust_store.signers(self, trust_store.current(self), role)

    def public_keys(self) -> dict[str, keys.PublicKey]:
        """The keys of the newest trust store by their names, such as "root", "release", "release-lms", "operator"."""
        from . import trust_store

        return trust_store.current(self).named()

    def device_folders(self) -> list[Path]:
        """The folder of each provisioned device, by name."""
        return sorted(path.parent for path in self.devices.glob("*/device.json"))

    def device_facts(self, device: str) -> dict[str, Any]:
        """device.json of one device. GatehouseError says which devices there are, or that it is damaged."""
        path = self.devices / device / "device.json"
        if not path.is_file():
            known = [folder.name for folder in self.device_folders()]
            told = f"known: {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}" if known else "there is none yet"
            raise GatehouseError(f"{self.name} has no device {device!r} ({told}); `gatehouse provision` makes one")
        facts = read_json(path)
        try:
            for name in ("uuid", "vendor_id", "class_id"):
                uuid.UUID(facts[name])
            if facts["id"] == device and int(facts["release"]["sequence"]) >= 0 and isinstance(facts["groups"], list):
                return facts
        except (AttributeError, KeyError, TypeError, ValueError):
            pass  # told below
        raise GatehouseError(f"{path} is damaged: restore it, or provision another device")

    def releases(self) -> list[dict[str, Any]]:
        """What was signed here, oldest first: version, sequence, digest, board, file."""
        path = self.root / "releases.json"
        found = read_json(path).get("releases") if path.exists() else []
        if not isinstance(found, list) or not all(
            isinstance(item, dict) and isinstance(item.get("sequence"), int) for item in found
        ):
            raise GatehouseError(f"{path} is damaged: restore it, or the next sequence number may be one that was used")
        return found

    def last_sequence(self) -> int:
        """The highest sequence number signed here, 0 before the first."""
        return max((item["sequence"] for item in self.releases()), default=0)

    def record_release(self, facts: dict[str, Any]) -> None:
        """Remember a release, before anyone can have it."""
        write(self.root / "releases.json", json_bytes({"releases": [*self.releases(), facts]}))


def find(option: str | Path | None = None, file: Path | None = None) -> Product:
    """The product of --product, else of GATEHOUSE_PRODUCT, else of the nearest folder upwards from here or from `file`.

    UsageError if there is none.
    """
    named = option or os.environ.get(ENVIRONMENT)
    if named:
        root = Path(named)
        if not (root / FILE).is_file():
            told = f"{root}{'' if option else f' (from {ENVIRONMENT})'} is not a product folder: it has no {FILE}"
            raise UsageError(f"{told}; make one: gatehouse init {root}")
        return Product(root.resolve())
    here = Path.cwd()
    for root in (here, *here.parents, *(file.resolve().parents if file else ())):
        if (root / FILE).is_file():
            return Product(root)
    raise UsageError(f"no {FILE} here or above {here}: give --product DIR, or make a product: gatehouse init DIR")


def create(
    root: Path,
    name: str,
    domain: str,
    boards: list[str],
    contact: str | None = None,
    kinds: Mapping[str, Sequence[str]] | None = None,
    parameters: lms_keys.Parameters = lms_keys.DEFAULT,
    step: Callable[[int], None] = lambda leaves: None,
) -> list[Path]:
    """Make the folder of a new product: settings and signing keys. Returns what was written, in order.

    kinds: role -> "ecdsa", "lms" or both; ECDSA for a role that is left out. `step` as in lms_keys.generate().
    GatehouseError when the folder is not empty or cannot be written; what is there is never touched.
    """
    check_name(name)
    check_domain(domain)
    for board in boards:
        load_board(board, root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise GatehouseError(f"{root} is not an empty folder: a product is never made over something; choose another")
    today = datetime.datetime.now(datetime.UTC).date()
    settings = _TEMPLATE.format(
        name=json.dumps(name),
        domain=json.dumps(domain),
        boards=json.dumps(boards),
        today=json.dumps(today.isoformat()),
        until=json.dumps(f"{today.year + _SUPPORT_YEARS}-{today.month:02}"),
        contact=json.dumps(contact or f"security@{domain}"),
        core=json.dumps(core.version()),
        port=BROKER_PORT,
        base_url=json.dumps(BASE_URL),
        statement=statement_template(domain),
    )
    made = [root / FILE, root / ".gitignore"]
    make_folder(root)
    write_new(made[0], settings.encode())
    write_new(made[1], _IGNORE.encode())
    make_folder(root / "keys", secret=True)
    for role in ROLES:
        for kind in (kinds or {}).get(role, ("ecdsa",)):
            made += new_key(root, role, kind, parameters, step)
    for folder in ("dist", "devices"):
        make_folder(root / folder)
    return made


def new_key(
    root: Path,
    name: str,
    kind: str,
    parameters: lms_keys.Parameters = lms_keys.DEFAULT,
    step: Callable[[int], None] = lambda leaves: None,
) -> list[Path]:
    """Make the signing key keys/NAME.pem ("ecdsa") or keys/NAME.lms ("lms"). Returns its files, the private first."""
    if kind == "ecdsa":
        path = root / "keys" / f"{name}.pem"
        keys.save(keys.generate(), path)
        return [path]
    path = root / "keys" / f"{name}.lms"
    lms_keys.generate(path, parameters, root / "ledger", step)
    return [path, lms_keys.state_path(path), lms_keys.public_path(path)]


def check_name(name: str) -> str:
    """`name` when it can be a product's. UsageError otherwise."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"product name {name!r}: lower-case letters, digits and '-', at most {MAX_NAME} characters")
    return name


def check_domain(domain: str) -> str:
    """`domain` when it is a domain name. UsageError otherwise."""
    if not _DOMAIN.fullmatch(domain):
        raise UsageError(f"vendor domain {domain!r} is not a domain name such as example.com")
    return domain


def check_version(version: str) -> str:
    """`version` when it is X.Y.Z. UsageError otherwise."""
    if not _VERSION.fullmatch(version):
        raise UsageError(f"version {version!r} is not three numbers such as 1.2.0, none with a leading zero")
    return version


def numbers(version: str) -> tuple[int, ...] | None:
    """X.Y.Z as numbers, to compare with; None for anything else."""
    return tuple(int(part) for part in version.split(".")) if _VERSION.fullmatch(version) else None


def make_folder(path: Path, secret: bool = False) -> None:
    """Make a folder and those above it. GatehouseError when that cannot be done."""
    try:
        path.mkdir(mode=0o700 if secret else 0o777, parents=True, exist_ok=True)
    except OSError as error:
        raise GatehouseError(f"{path}: {error.strerror}; choose a place that can be written") from None


def write_new(path: Path, data: bytes, secret: bool = False) -> None:
    """Write a file that is not there yet; `secret` keeps others from reading it. GatehouseError if it is there."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o666)
        with open(handle, "wb") as file:
            file.write(data)
    except FileExistsError:
        raise GatehouseError(f"{path} exists already, and is not overwritten") from None
    except OSError as error:
        raise GatehouseError(f"{path}: {error.strerror}") from None


def write(path: Path, data: bytes) -> None:
    """Write or replace a file in one step: after a crash it is the old or the new one."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_bytes(data)
        new.replace(path)
    except OSError as error:
        raise GatehouseError(f"{path}: {error.strerror}") from None


def read(path: Path, what: str = "") -> bytes:
    """A file's bytes. GatehouseError when it cannot be read or is larger than anything of ours."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except IsADirectoryError:
        raise GatehouseError(f"{path} is a folder; give a file") from None
    except OSError as error:
        raise GatehouseError(f"{path}: {error.strerror}{what and f'; {what}'}") from None
    except ValueError:  # a NUL in the name
        raise GatehouseError(f"{str(path)!r} is no path of a file") from None
    if len(data) > MAX_FILE:
        raise GatehouseError(f"{path} is over {MAX_FILE >> 20} MiB: no file of a product is", "size")
    return data


def json_bytes(value: Any) -> bytes:
    """`value` as JSON for people and programs, one setting a line."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object."""
    try:
        value = json.loads(read(path))
    except ValueError:
        raise GatehouseError(f"{path} is not readable JSON: restore it") from None
    if not isinstance(value, dict):
        raise GatehouseError(f"{path} is not a JSON object: restore it")
    return value


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GatehouseError(f"{path}: {error}") from None


def _table(data: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, dict):
        raise GatehouseError(f"{path}: [{name}] must be a table")
    return table


def _text(table: dict[str, Any], name: str, path: Path) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise GatehouseError(f"{path}: {name} is missing, or not a text")
    return value


def session_secret(ca: Path) -> bytes:
    """What makes the client ids of collectors unknown to others: 16 bytes in `ca`/session-key, made if need be.

    Whoever knows a client id ends its session at the broker, with all that waits there (MQTT 5, section 3.1.4).
    """
    path = ca / SESSION_KEY
    if not path.exists():
        new = path.with_name(f"{SESSION_KEY}.{os.getpid()}")
        write_new(new, os.urandom(16).hex().encode() + b"\n", secret=True)
        with contextlib.suppress(FileExistsError):  # two at once: the first one's
            os.link(new, path)
        new.unlink()
    try:
        found = bytes.fromhex(read(path).decode())
    except ValueError:
        found = b""
    if len(found) != 16:
        raise GatehouseError(f"{path} is damaged: restore it from the product or another kit of it")
    return found
