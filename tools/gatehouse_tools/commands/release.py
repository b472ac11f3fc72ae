"""`gatehouse release`: build and sign."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from .. import build, core, identity, keys, pack, product, trust_store, ui
from ..errors import UsageError
from . import build as build_command


@click.command("release")
@click.option("--version", metavar="X.Y.Z", help="The application's version; each is signed once.")
@click.option("--sequence", type=click.IntRange(1), metavar="N", help="Sequence number. Default: now, in Unix seconds.")
@click.option("--expires", type=click.FloatRange(0, min_open=True), metavar="DAYS", help="No device installs it later.")
@click.option("--board", metavar="NAME", help="The board it is for. Default: the product's first.")
@click.option(
    "--key", "paths", type=click.Path(path_type=Path), multiple=True, metavar="PATH",
    help="Signing key in place of every release key that is here; repeatable.",
)  # fmt: skip
@click.option("--description", metavar="TEXT", help="A sentence for people, in the manifest's text.")
@click.option("--source", type=click.Path(path_type=Path), metavar="DIR", help="Other source than the product's.")
@click.option("--firmware", type=click.Path(path_type=Path), metavar="FILE", help="An ESP32 application image as well.")
@click.option("--firmware-version", metavar="X.Y.Z", help="The image's version.")
@click.option("--firmware-core", metavar="X.Y.Z", help="The core that is frozen inside it. Default: this checkout's.")
@click.option(
    "--firmware-mpy", type=click.IntRange(1, 255), metavar="N", default=pack.MPY_VERSION, show_default=True,
    help="The .mpy version that it runs.",
)  # fmt: skip
@click.option("--no-app", is_flag=True, help="Leave the application out.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML: a configuration as well.")
@click.option("--rollback-to", metavar="X.Y.Z", help="Sign this older release again, so that devices go back to it.")
@click.option("--no-return", is_flag=True, help="Once confirmed, devices never run the release before again.")
@ui.product_option
@ui.json_option
def command(
    version: str | None,
    sequence: int | None,
    expires: float | None,
    board: str | None,
    paths: tuple[Path, ...],
    description: str | None,
    source: Path | None,
    firmware: Path | None,
    firmware_version: str | None,
    firmware_core: str | None,
    firmware_mpy: int,
    no_app: bool,
    config: Path | None,
    rollback_to: str | None,
    no_return: bool,
    product_dir: str | None,
) -> None:
    """Build the application and sign it: dist/NAME-X.Y.Z.suit, the manifest that devices are offered, and the pack
    beside it, which any HTTP server can hold. The sequence number only grows: devices go no other way. Firmware and
    configuration can go into the same manifest: devices take all of it or nothing.

    \b
    Example:
    $ gatehouse release --version 1.1.0 --expires 90 --description "Fixes the frost alarm"
    $ gatehouse release --no-app --firmware build/micropython.bin --firmware-version 2.0.0
    $ gatehouse release --rollback-to 1.0.0
    """
    item = product.find(product_dir)
    if rollback_to:
        others = (version, source, firmware, firmware_version, firmware_core, no_app, config, no_return)
        if any(others):
            raise UsageError("--rollback-to signs a release as it was: leave the other options of its content out")
        product.check_version(rollback_to)
    elif no_app:
        if version or source or no_return:
            raise UsageError("--version, --source and --no-return are of the application, which --no-app leaves out")
        if not firmware:
            raise UsageError("--no-app leaves nothing: give --firmware (a configuration alone: gatehouse configure)")
    elif not version:
        raise UsageError("say which version it is: --version X.Y.Z")
    else:
        product.check_version(version)
    if bool(firmware) != bool(firmware_version) or (firmware_core and not firmware):
        raise UsageError("--firmware FILE and --firmware-version X.Y.Z go together")
    chosen = item.board(board)
    signers = [keys.load(path, item.ledger) for path in paths] or item.signers("release")
    _warn(item, signers)
    signing = {"board": chosen, "sequence": sequence, "expires_days": expires, "signers": signers}
    if rollback_to:
        made = build.roll_back(item, rollback_to, description=description, **signing)  # type: ignore[arg-type]
    else:
        image = None
        if firmware and firmware_version:
            has_core = product.check_version(firmware_core or core.version())
            product.check_version(firmware_version)
            image = build.firmware(item, chosen, firmware, firmware_version, has_core, firmware_mpy)
        made = build.release(
            item,
            build_command.run(item, version, source) if version else None,
            version,
            image=image,
            config=identity.load_config(config).payload() if config else None,
            no_return=no_return,
            description=description,
            **signing,  # type: ignore[arg-type]
        )
    for text in (text for signer in signers for text in signer.warnings):
        ui.warn(text)
    show(item, made)


def show(item: product.Product, made: build.Release) -> None:
    """What was signed, for people and for programs."""
    if made.built:
        build_command.show(made.built, made.pack)
        ui.show()
    ui.show(f"Signed {made.envelope}", "bold")
    ui.rows(
        [
            ("components", ", ".join(made.components)),
            *([("description", made.description)] if made.description else []),
            ("sequence", f"{made.sequence} ({ui.when(made.sequence)})"),
            ("manifest", f"sha-256:{made.digest.hex()}"),
            *(("signer", f"key id {key.kid.hex()}, {keys.NAMES[key.alg]}") for key in made.signers),
            *(("pack", str(path)) for path in made.packs),
            *([("SBOM", str(made.sbom))] if made.sbom else []),
            ("board", f"{made.board.model}, class id {item.class_id(made.board)}"),
            ("use before", ui.when(made.until) if made.until else "no limit"),
        ],
        "  ",
    )
    ui.show()
    ui.show(f"Next: gatehouse publish {ui.from_here(made.envelope)} --device ID")
    ui.result(
        {
            "ok": True,
            "envelope": str(made.envelope),
            "pack": str(made.pack) if made.packs else None,
            "packs": [str(path) for path in made.packs],
            "sbom": str(made.sbom) if made.sbom else None,
            "components": made.components,
            "version": made.version,
            "sequence": made.sequence,
            "digest": made.digest.hex(),
            "signers": [key.kid.hex() for key in made.signers],
            "board": made.board.name,
            "class_id": str(item.class_id(made.board)),
            "use_before": made.until,
            **(build_command.facts(made.built) if made.built else {}),
        }
    )


def _warn(item: product.Product, signers: list[keys.Signer]) -> None:
    """What devices will refuse is signed all the same: that it is refused is worth trying."""
    store = trust_store.current(item)
    held = [signer.key for signer in signers]
    for key in held:
        if key not in item.public_keys().values():
            ui.warn(f"key {key.kid.hex()} is no key of {item.name}: its devices will refuse this release")
    if store.chosen("app", held) is None:
        wanted = trust_store.needs_words(store.needs("app"))
        ui.warn(f"devices ask for {wanted} and will refuse this release")
