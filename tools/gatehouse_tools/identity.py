"""Make a device: identity, keys, signed anchors and configuration, and the flash image that holds it all.

What the device keeps secret is in its flash image and nowhere else; of the device key only what verifiers of reports
and journals need is kept, derived from it. The label's password is kept to be printed: the device itself holds its
verifier.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import re
import secrets
import shutil
import time
import tomllib
import uuid
from pathlib import Path
from typing import Any

from . import (
    boards,
    bootrecord,
    ca,
    cbor,
    core,
    cose,
    device_image,
    inventory,
    keys,
    label,
    label_print,
    product,
    releases,
    suit,
    topics,
    trust_store,
)
from .errors import GatehouseError, UsageError

SIMULATED = device_image.SIMULATED
SIMULATED_WIFI = ("gatehouse-sim", "simulated")  # no radio checks it
FUSES = ("flash_encryption", "secure_boot", "download_mode", "jtag")  # of boards/fuses.toml, in the report's order
_MAX_SSID, _MIN_WPA, _MAX_WPA = 32, 8, 63


@dataclasses.dataclass(frozen=True)
class Config:
    """A configuration: the fields of the component ["config"], in its order, None for the device's own default.

    window: [first minute of the UTC day, minutes] in which updates are installed, [] for any time. interfaces: those
    that are open beside Wi-Fi station and update. lockout: [free tries, first delay s, longest delay s, enabled].
    session: [idle s, absolute s, at once]. bounds: what operations may change (docs/access.md).
    """

    broker: str | None = None
    port: int | None = None
    tls: bool | None = None
    base_url: str | None = None
    ntp: str | None = None
    ntp_port: int | None = None
    groups: list[str] | None = None
    report_seconds: int | None = None
    sensor_seconds: int | None = None
    trial_seconds: int | None = None
    watchdog_ms: int | None = None
    keepalive_seconds: int | None = None
    updates: bool | None = None
    auto_download: bool | None = None
    auto_install: bool | None = None
    notify: bool | None = None
    window: list[int] | None = None
    interfaces: list[str] | None = None
    lockout: list[int] | None = None
    session: list[int] | None = None
    repl_seconds: int | None = None
    bounds: dict[str, Any] | None = None

    def payload(self) -> bytes:
        """The component's payload. GatehouseError("format") names the first field that a device would not take."""
        given = enumerate((getattr(self, item.name) for item in dataclasses.fields(self)), 1)
        fields = {key: value for key, value in given if value is not None}
        core.check_config(fields)
        return cbor.dumps(fields)


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What a device needs to join: the Wi-Fi network, and a broker's user where certificates do not do."""

    ssid: str
    password: str
    broker_user: str | None = None
    broker_password: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.ssid.encode()) <= _MAX_SSID:
            raise UsageError(f"a Wi-Fi name has 1 to {_MAX_SSID} bytes")
        if self.password and not _MIN_WPA <= len(self.password) <= _MAX_WPA:
            raise UsageError(f"a Wi-Fi password has {_MIN_WPA} to {_MAX_WPA} characters, or none on an open network")


@dataclasses.dataclass(frozen=True)
class Device:
    """A provisioned device: its folder with flash.bin, device.json and secrets.json, and what device.json says."""

    folder: Path
    facts: dict[str, Any]

    @property
    def id(self) -> str:
        """Its id, the last part of its topics' prefix and the common name of its certificate."""
        return str(self.facts["id"])


def load_credentials(path: Path) -> Credentials:
    """Credentials of a TOML file: ssid, password, and perhaps broker_user, broker_password."""
    try:
        values = tomllib.loads(product.read(path).decode())
        return Credentials(**values)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, AttributeError):
        raise UsageError(f'{path}: expected TOML with ssid = "...", password = "..." and no other names') from None


def load_config(path: Path) -> Config:
    """The Config in a TOML file whose keys are the names of its fields."""
    try:
        values = tomllib.loads(product.read(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    return change_config(Config(), values, str(path))


def change_config(config: Config, values: dict[str, Any], what: str) -> Config:
    """`config` with other values for the fields named in `values`. UsageError names what a device would not take."""
    names = [field.name for field in dataclasses.fields(Config)]
    for name, value in values.items():
        if name not in names:
            raise UsageError(f"{what}: unknown setting {name!r}; there are {', '.join(names)}")
        key = names.index(name) + 1
        try:
            core.check_config({key: value})
        except GatehouseError as error:
            told = str(error).replace(core.config_names()[key], name, 1)  # by the name that it has here
            raise UsageError(f"{what}: {told}") from None
    return dataclasses.replace(config, **values)


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE of a command line: the value as TOML has it, or else a text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"setting {text!r} is not NAME=VALUE")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def provision(
    item: product.Product,
    board: product.Board,
    release: releases.SlotRelease,
    config: Config,
    credentials: Credentials,
    device: str | None = None,
    production: bool = False,
) -> Device:
    """Make one device in devices/ID. Nothing that is there is overwritten, and a folder is complete or not there.

    device: its id, by default a new random one. production: the parts for a production build too, in production/.
    GatehouseError when the id is taken, or was ever given.
    """
    boards.check(board)
    with inventory.locked(item):
        inventory.add_missing(item)  # of a run that was cut between folder and line
        made = _provision(item, board, release, config, credentials, device, production)
        inventory.add_missing(item)
    return made


def _provision(
    item: product.Product,
    board: product.Board,
    release: releases.SlotRelease,
    config: Config,
    credentials: Credentials,
    device: str | None,
    production: bool,
) -> Device:
    name = new_id(item) if device is None else check_id(item, device)
    facts, values, private = _identity(item, board, release, name, credentials)
    anchors, factory = _trust(item, board), _config(item, board, config)
    signed = suit.parse(factory)
    others = {
        "config": (signed.sequence, signed.digest),
        "trust": (trust_store.current(item).version, suit.parse(anchors).digest),
    }
    values["factory"] = signed.digest  # stays usable when the key that signed it is revoked
    values["floors"] = bootrecord.floors(release.digest, release.sequence, others)
    state = {
        "/state/boot.cbor": bootrecord.factory(release.digest, release.sequence, others=others),
        "/state/trust.suit": anchors,
        "/state/config-1.suit": factory,
    }
    words = (item.name, board.model, name, private["label_password"])
    files = {
        "flash.bin": device_image.whole(board, values, state, release),
        "secrets.json": product.json_bytes(private),
        "label.svg": label_print.svg(*words),
        "label.png": label_print.png(*words),
    }
    if production:
        if trust_store.current(item).dev:
            told = f"the trust store of {item.name} is flagged dev, which a production build refuses"
            names = "".join(f" --revoke {entry.name}" for entry in trust_store.current(item).of_role("dev"))
            raise GatehouseError(f"{told}: gatehouse trust next --no-dev{names}", "dev")
        parts = device_image.production(board, values, state, release)
        files |= {f"production/{part}": data for part, data in parts.items()}
    facts["broker"] = f"{config.broker or 'localhost'}:{config.port or product.BROKER_PORT}"
    facts["base"] = config.base_url or ""
    facts["groups"] = config.groups or []
    folder, new = item.devices / name, item.devices / f".{name}.new"
    product.make_folder(item.devices)
    shutil.rmtree(new, ignore_errors=True)  # of a run that was interrupted
    try:
        new.mkdir(mode=0o700)
        for file, data in files.items():
            product.make_folder((new / file).parent, secret=True)
            product.write_new(new / file, data, secret=True)
        product.write_new(new / "device.json", product.json_bytes(facts))
        os.rename(new, folder)
    except OSError as error:
        raise GatehouseError(f"{folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return Device(folder, facts)


def new_id(item: product.Product) -> str:
    """An id that no device of the product has."""
    given = {record["id"] for record in inventory.read(item)}
    while True:
        name = f"gh-{secrets.token_hex(4)}"
        if name not in given and not (item.devices / name).exists():
            return name


def check_id(item: product.Product, name: str) -> str:
    """`name` when a new device can be called so. UsageError for a bad one, GatehouseError for one that is taken."""
    if not topics.is_device_id(name):
        raise UsageError(f"device id {name!r}: letters, digits, '-' and '_', at most 32, and no reserved word")
    if (item.devices / name).exists():
        raise GatehouseError(f"there is a device {name}: an id is never given twice; choose another")
    if any(record["id"] == name for record in inventory.read(item)):
        raise GatehouseError(f"{inventory.FILE} has a device {name}: an id is never given twice; choose another")
    return name


def _identity(
    item: product.Product, board: product.Board, release: releases.SlotRelease, name: str, credentials: Credentials
) -> tuple[dict[str, Any], dict[str, bytes | int], dict[str, Any]]:
    """device.json, the values of NVS and secrets.json of a new device."""
    number, device_key = uuid.uuid4(), secrets.token_bytes(32)
    # A client on the broker, and a server where the policy opens HTTPS: the same key, by the names it has there.
    issued = ca.Authority(item.ca).issue(name, (name, f"{name}.local"), server=True, client=True)
    vendor, kind = item.vendor_id, item.class_id(board)
    anchors = trust_store.current(item)
    told: dict[int, Any] = {
        1: name,
        2: vendor.bytes,
        3: kind.bytes,
        4: number.bytes,
        5: board.model,
        6: item.hardware,
        7: item.domain,
    }
    if board.data.get("install_alone"):
        told[8] = True
    for key, setting in ((9, "button"), (10, "led")):
        if (pin := board.pin(setting)) is not None:
            told[key] = pin
    wired = boards.wired(board, item.device)
    if wired:
        told[12] = list(wired)
    fuses = _fuses(board)
    if fuses:
        told[11] = fuses
    password = label.new()
    values: dict[str, bytes | int] = {
        "identity": cbor.dumps(told),
        "device_key": device_key,
        "label": label.verifier(password),
        "root": anchors.root_digest(),
        "tls_key": issued.key_der(),
        "tls_cert": issued.cert_der(),
        "wifi": cbor.dumps([credentials.ssid, credentials.password]),
    }
    if credentials.broker_user is not None:
        values["broker"] = cbor.dumps([credentials.broker_user, credentials.broker_password or ""])
    facts = {
        "id": name,
        "uuid": str(number),
        "vendor_id": str(vendor),
        "class_id": str(kind),
        "board": board.name,
        "model": board.model,
        "hardware": item.hardware,
        "root_keys": [entry.key.kid.hex() for entry in anchors.of_role("root")],
        "trust_version": anchors.version,
        "certificate_sha256": hashlib.sha256(values["tls_cert"]).hexdigest(),  # type: ignore[arg-type]
        "certificate_until": issued.certificate.not_valid_after_utc.date().isoformat(),
        "release": {
            "name": release.index.name,
            "version": release.index.version,
            "sequence": release.sequence,
            "digest": release.digest.hex(),
        },
        "provisioned": datetime.datetime.now(datetime.UTC).replace(microsecond=0).isoformat(),
    }
    private = {
        "report_key": cose.report_key(device_key).hex(),
        "journal_keys": {"0": cose.journal_key(device_key).hex()},  # by owner epoch
        "label_password": password,
    }
    return facts, values, private


def _fuses(board: product.Board) -> list[list[int]] | None:
    """Where the board's chip has its eFuses, as gatehouse.measure.fuses() takes it; None for a chip not looked up."""
    tables = tomllib.loads(core.source("boards", "fuses.toml").read_text())
    found = tables.get(str(board.data.get("chip")))
    return [found[name] for name in FUSES] if found else None


def _trust(item: product.Product, board: product.Board) -> bytes:
    """The signed trust anchors of one board: the newest version."""
    store = trust_store.current(item)
    for role in trust_store.GOVERNS:
        if not store.of_role(role):
            raise GatehouseError(f"{item.keys / role}.pem is missing: its public key belongs in every device", "key")
    return trust_store.signed(item, board)


def _config(item: product.Product, board: product.Board, config: Config) -> bytes:
    return _sign(item, board, suit.Component("config", payload=config.payload()), item.signer("operator"))


def _sign(item: product.Product, board: product.Board, component: suit.Component, signer: keys.Signer) -> bytes:
    kind = item.class_id(board).bytes
    return suit.build_envelope(int(time.time()), [component], item.vendor_id.bytes, kind, [signer])


def host_and_port(text: str, default: int, what: str) -> tuple[str, int]:
    """ "host", "host:port" or "[address]:port" in its two parts. UsageError names `what`."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(\d{1,5}))?", text)
    port = int(found[2] or default) if found else 0
    if not found or not 0 < port < 65536:
        raise UsageError(f"{what} {text!r} is not a host, or host:port")
    return found[1].strip("[]"), port


def folder_url(url: str) -> str:
    """`url` as the base of relative pack names, ending in "/", or `mqtt:`. UsageError where devices fetch no packs."""
    if url == core.mqtt_base():
        return url
    url = url if url.endswith("/") else url + "/"
    try:
        core.check_uri(url)
    except GatehouseError as error:
        raise UsageError(f"base URL {url!r}: {error}; devices take http://..., https://... or mqtt:") from None
    return url
