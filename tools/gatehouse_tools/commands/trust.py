"""`gatehouse trust`: which keys devices trust, and how that changes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from .. import ca, inspect_files, keys, lms_keys, product, suit, trust_store, ui
from ..errors import GatehouseError, UsageError

_ALGORITHMS = {"any": 0, "ecdsa": keys.ESP256, "lms": keys.HSS_LMS}


@click.group("trust")
def command() -> None:
    """The keys that devices trust: who may sign what. A new version reaches devices like a release does, signed by the
    root keys that they know; what it is for and what can go wrong: docs/keys.md.

    \b
    Example:
    $ gatehouse trust next --new-key release --revoke release
    $ gatehouse publish dist/trust-unix-2.suit --group all
    """


@command.command("show")
@click.option("--version", type=click.IntRange(1), metavar="N", help="An older version. Default: the newest.")
@ui.product_option
@ui.json_option
def show(version: int | None, product_dir: str | None) -> None:
    """Print the product's trust store: its keys, what each component requires, and what every version changed.

    \b
    Example:
    $ gatehouse trust show
    """
    item = product.find(product_dir)
    stores = trust_store.history(item)
    if version is not None and version > len(stores):
        raise UsageError(f"{item.name} has {len(stores)} version(s) of its trust store")
    store = stores[-1 if version is None else version - 1]
    _show(item, store)
    for one in stores:
        ui.rows([(f"version {one.version}", f"{one.created}: {'; '.join(one.changes)}")], "  ")
    ui.result(_facts(item, store, []))


@command.command("next")
@click.option(
    "--add-key",
    "added",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A key that is there, private or public; repeatable.",
)
@click.option(
    "--role",
    "roles",
    type=click.Choice(list(trust_store.ROLES)),
    multiple=True,
    help="Role of the --add-key at the same place.",
)
@click.option(
    "--new-key",
    "made",
    multiple=True,
    metavar="ROLE[:ALG]",
    help="Make a key: ecdsa or lms. Default: as the role has it.",
)
@click.option("--lms", "lms_set", default="H10/W4", show_default=True, metavar="SET", help="Of new HSS/LMS keys.")
@click.option(
    "--revoke", "revoked", multiple=True, metavar="KEYID", help="A key id, its start, or a key's name; repeatable."
)
@click.option(
    "--keep", "kept", multiple=True, metavar="DIGEST|FILE", help="A manifest that may go on running; repeatable."
)
@click.option(
    "--require",
    "required",
    multiple=True,
    metavar="COMPONENT=ROLE:ALG+...",
    help="What must have signed it; nothing behind the = for the default.",
)
@click.option(
    "--ca",
    "authorities",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="One more TLS authority.",
)
@click.option(
    "--since",
    type=click.IntRange(1),
    metavar="N",
    help="The oldest version that devices may still have. Default: the newest.",
)
@click.option("--dev/--no-dev", default=None, help="For development: a key with the role dev signs applications.")
@click.option("--force", is_flag=True, help="Make it although it strands devices.")
@ui.product_option
@ui.json_option
def next_(
    added: tuple[Path, ...],
    roles: tuple[str, ...],
    made: tuple[str, ...],
    lms_set: str,
    revoked: tuple[str, ...],
    kept: tuple[str, ...],
    required: tuple[str, ...],
    authorities: tuple[Path, ...],
    since: int | None,
    dev: bool | None,
    force: bool,
    product_dir: str | None,
) -> None:
    """Make the next version of the trust store and sign it for each board: dist/trust-BOARD-N.suit. The root keys that
    devices know sign it, and new root keys too. What would leave devices without a way on is refused.

    \b
    Example:
    $ gatehouse trust next --new-key release --revoke release --keep dist/shop-1.0.0.suit
    $ gatehouse trust next --new-key release:lms --require app=release:ecdsa+release:lms
    """
    item = product.find(product_dir)
    boards = [item.board(name) for name in item.boards]
    stores = trust_store.history(item)
    if len(added) != len(roles):
        raise UsageError("give one --role for each --add-key")
    plans = [_plan(stores[-1], text) for text in made]
    parameters = lms_keys.Parameters.parse(lms_set)
    changes: list[str] = []
    entries = _without(stores[-1], revoked, changes)
    for path, role in zip(added, roles, strict=True):
        entries.append(_added(item, stores, entries, path, role))
        changes.append(f"added {_words(entries[-1])}")
    needs = dict(stores[-1].required)
    for text in required:
        name, wanted = _requirement(text)
        needs.pop(name, None)
        needs |= {name: wanted} if wanted else {}
        changes.append(f"{name} requires {trust_store.needs_words(wanted) or 'one key of its role'}")
    keep, tls = [*stores[-1].keep], [*stores[-1].tls]
    for text in kept:
        digest = _digest(text)
        if digest not in keep:
            keep.append(digest)
            changes.append(f"kept {digest.hex()[:16]}")
    for path in authorities:
        der = ca.der(ca.load_certificate(path))
        if der not in tls:
            tls.append(der)
            changes.append(f"added the TLS authority in {path.name}")
    flag = stores[-1].dev if dev is None else dev
    if flag != stores[-1].dev:
        changes.append("flagged dev: production builds refuse it" if flag else "not flagged dev any more")
    if not changes and not plans:
        options = "--new-key, --add-key, --revoke, --keep, --require, --ca or --dev"
        raise UsageError(f"nothing would change; say what: {options}")
    # Keys that will be made count for what the store lacks, and are made when nothing stands in its way any more.
    stand_in = [
        trust_store.Entry(name, keys.PublicKey(alg, name.encode()), (role,))
        for role, alg, name in _named(item, stores, plans)
    ]
    draft = trust_store.new_version(
        stores[-1], entries=(*entries, *stand_in), required=needs, keep=tuple(keep), tls=tuple(tls), dev=flag
    )
    _judge(item, stores[-1], draft, since, force)
    # Whoever has to sign must be here before a key is made for nothing.
    signing = trust_store.signers_of(item, [*stores, draft], since)
    trust_store.held_signers(item, [entry for entry in signing if entry not in stand_in])
    for one in stand_in:
        entries.append(_new(item, one, parameters))
        changes.append(f"made {_words(entries[-1])}")
    store = trust_store.new_version(
        stores[-1],
        entries=tuple(entries),
        required=needs,
        keep=tuple(keep),
        tls=tuple(tls),
        changes=tuple(changes),
        dev=flag,
    )
    files = []
    for board in boards:
        data = trust_store.sign(item, board, [*stores, store], since)
        files.append(trust_store.envelope_path(item, board, store))
        ui.say(f"signed {files[-1]}, {len(data)} bytes")
    _show(item, store)
    ui.rows([("changed", text) for text in changes], "  ")
    ui.show()
    ui.show("Commit trust.json and ledger/, back up the new keys, then:")
    for path in files:
        ui.show(f"Next: gatehouse publish {ui.from_here(path)} --group all")
    ui.result(_facts(item, store, files))


def _judge(
    item: product.Product, before: trust_store.Store, store: trust_store.Store, since: int | None, force: bool
) -> None:
    """Tell what the store would do to devices. GatehouseError("strands") for what they could not come back from."""
    problems = store.problems()
    blocks = trust_store.signers_of(item, [*trust_store.history(item), store], since)
    if len(blocks) > suit.MAX_BLOCKS:
        problems.append(f"{len(blocks)} root keys would have to sign, and devices take {suit.MAX_BLOCKS} signatures")
    for board in item.boards:
        released = sorted(
            (one for one in item.releases() if one.get("board") == board and "app" in one.get("components", ["app"])),
            key=lambda one: one["sequence"],
        )
        if released and not _runs_on(before, store, released[-1]):
            newest = released[-1]
            told = f"the newest release, {newest['version']} for {board}, would no longer verify"
            problems.append(f"{told}: devices refuse the store; add --keep dist/{newest['file']}, or release a new one")
    signed_config = [entry for entry in before.of_role("operator") if entry not in store.entries]
    if signed_config:
        ui.warn(
            f"devices whose configuration {_words(signed_config[0])} signed refuse the store (that of the factory "
            "excepted): give them one by another operator key first, or add --keep"
        )
    for text in problems if force else problems[1:]:
        ui.warn(f"STRANDS DEVICES: {text}")
    if problems and not force:
        raise GatehouseError(f"{problems[0]}; nothing was made (--force makes it all the same)", "strands")


def _runs_on(before: trust_store.Store, store: trust_store.Store, released: dict[str, Any]) -> bool:
    """Whether a device that runs a release takes the store: its keys, as far as we know them, satisfy it."""
    if bytes.fromhex(str(released["digest"])) in store.keep:
        return True
    listed = released.get("signers")
    kids = listed if isinstance(listed, list) else [released.get("signer")]
    held = [entry.key for entry in before.entries if entry.key.kid.hex() in kids]
    return store.chosen("app", held) is not None


def _without(store: trust_store.Store, revoked: Sequence[str], changes: list[str]) -> list[trust_store.Entry]:
    entries = list(store.entries)
    for text in revoked:
        found = [
            entry
            for entry in entries
            if text == entry.name or (len(text) >= 4 and entry.key.kid.hex().startswith(text.lower()))
        ]
        if len(found) != 1:
            known = ", ".join(f"{entry.name} {entry.key.kid.hex()}" for entry in entries)
            raise UsageError(f"--revoke {text!r} names {len(found) or 'no'} key(s); keys: {known}")
        entries.remove(found[0])
        changes.append(f"revoked {_words(found[0])}")
    return entries


def _added(
    item: product.Product, stores: Sequence[trust_store.Store], entries: list[trust_store.Entry], path: Path, role: str
) -> trust_store.Entry:
    key = keys.load_public(path)
    if key in [entry.key for entry in entries]:
        raise UsageError(f"{path} is in the trust store already, as {key.kid.hex()}")
    taken = trust_store.names(stores) | {entry.name for entry in entries}
    stem = path.name.partition(".")[0]
    name = next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, 1000))) if name not in taken)
    data = keys.read(path)
    private = b"PRIVATE KEY" in data or lms_keys.is_private(data)
    inside = path.resolve().is_relative_to(item.root)
    file = (str(path.resolve().relative_to(item.root)) if inside else str(path.resolve())) if private else None
    return trust_store.Entry(name, key, (role,), file)


def _plan(store: trust_store.Store, text: str) -> tuple[str, int]:
    """Role and algorithm of --new-key."""
    role, _, named = text.partition(":")
    if role not in trust_store.ROLES or (named and named not in ("ecdsa", "lms")):
        raise UsageError(f"--new-key {text!r}: {', '.join(trust_store.ROLES)}, then perhaps :ecdsa or :lms")
    held = store.of_role(role)
    return role, _ALGORITHMS[named] if named else held[0].key.alg if held else keys.ESP256


def _named(
    item: product.Product, stores: Sequence[trust_store.Store], plans: Sequence[tuple[str, int]]
) -> list[tuple[str, int, str]]:
    """The plans with the names that the new keys will have: a number that no key and no file had."""
    taken, found = trust_store.names(stores), []
    for role, alg in plans:
        number = 2
        while f"{role}-{number}" in taken or any(item.keys.glob(f"{role}-{number}.*")):
            number += 1
        taken.add(f"{role}-{number}")
        found.append((role, alg, f"{role}-{number}"))
    return found


def _new(item: product.Product, wanted: trust_store.Entry, parameters: lms_keys.Parameters) -> trust_store.Entry:
    kind = "lms" if wanted.key.alg == keys.HSS_LMS else "ecdsa"
    product.make_folder(item.keys, secret=True)
    with ui.bar(f"making {wanted.name}", parameters.leaves) as step:
        path = product.new_key(item.root, wanted.name, kind, parameters, step)[0]
    return trust_store.Entry(wanted.name, keys.load_public(path), wanted.roles, str(path.relative_to(item.root)))


def _requirement(text: str) -> tuple[str, list[trust_store.Need]]:
    """--require COMPONENT=ROLE:ALG+ROLE:ALG, the needs empty where nothing stands behind the "="."""
    name, sign, wanted = text.partition("=")
    needs = []
    for part in wanted.split("+") if wanted else []:
        role, _, algorithm = part.partition(":")
        if role not in trust_store.GOVERNS or (algorithm or "any") not in _ALGORITHMS:
            sign = ""
            break
        needs.append((trust_store.ROLES[role], _ALGORITHMS[algorithm or "any"]))
    if not sign or name not in trust_store.RIGHTS:
        told = f"components {', '.join(trust_store.RIGHTS)}; roles {', '.join(trust_store.GOVERNS)}; ecdsa, lms or any"
        raise UsageError(f"--require {text!r}: such as app=release:ecdsa+release:lms; {told}")
    return name, needs


def _digest(text: str) -> bytes:
    """The manifest digest that --keep names, by itself or by an envelope."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"--keep {text!r} is neither 64 hexadecimal digits nor an envelope's file")
    return suit.parse(product.read(path)).digest


def _words(entry: trust_store.Entry) -> str:
    return f"{'/'.join(entry.roles)} key {entry.name} ({entry.key.kid.hex()}, {keys.NAMES[entry.key.alg]})"


def _show(item: product.Product, store: trust_store.Store) -> None:
    ui.show(f"Trust store of {item.name}, version {store.version}", "bold")
    rows = []
    for entry in store.entries:
        here = entry.file if entry.file and (item.root / entry.file).exists() else "its private half is not here"
        words = f"{entry.key.kid.hex()}, {keys.NAMES[entry.key.alg]}, for {', '.join(entry.roles)}: {here}"
        rows.append((f"key {entry.name}", words))
    if store.dev:
        rows.append(("dev", "flagged: one key with the role dev signs applications, production builds refuse it"))
    for component in trust_store.RIGHTS:
        rows.append((component, f"takes {trust_store.needs_words(store.needs(component))}"))
    told = inspect_files.trust_rows({4: list(store.keep), 5: list(store.tls)})
    rows += [row for row in told if row[0] in ("keeps", "TLS authority")]
    ui.rows([*rows, ("root digest", store.root_digest().hex())], "  ")


def _facts(item: product.Product, store: trust_store.Store, files: Sequence[Path]) -> dict[str, object]:
    return {
        "ok": True,
        "version": store.version,
        "keys": [
            {
                "name": entry.name,
                "kid": entry.key.kid.hex(),
                "algorithm": keys.NAMES[entry.key.alg],
                "roles": list(entry.roles),
                "here": bool(entry.file) and (item.root / str(entry.file)).exists(),
            }
            for entry in store.entries
        ],
        "required": {name: trust_store.needs_words(needs) for name, needs in store.required.items()},
        "keep": [digest.hex() for digest in store.keep],
        "tls_sha256": [suit.hashlib.sha256(der).hexdigest() for der in store.tls],
        "root_digest": store.root_digest().hex(),
        "dev": store.dev,
        "changes": list(store.changes),
        "files": [str(path) for path in files],
    }
