"""`gatehouse build`: compile the application."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import rich_click as click

from .. import build, pack, product, sbom_reference, ui


@click.command("build")
@click.option("--version", default=build.UNRELEASED, show_default=True, metavar="X.Y.Z", help="Version in the index.")
@click.option("--source", type=click.Path(path_type=Path), metavar="DIR", help="Other source than the product's.")
@click.option("--raw", is_flag=True, help="Store every file as it is, without deflate.")
@ui.product_option
@ui.json_option
def command(version: str, source: Path | None, raw: bool, product_dir: str | None) -> None:
    """Compile the application with mpy-cross and write its index, its pack and its SBOM to dist/. The same source
    gives the same pack. What a device would refuse (a path, a module's name, a size) is refused here.

    \b
    Example:
    $ gatehouse build --version 1.1.0
    """
    item = product.find(product_dir)
    built = run(item, product.check_version(version), source, raw)
    path = build.save(item, built, version)
    bill = _bill(item, built, version)
    show(built, path)
    if bill:
        ui.show(f"SBOM   {bill}")
    ui.result({"ok": True, "pack": str(path), "sbom": str(bill) if bill else None, **facts(built)})


def _bill(item: product.Product, built: build.Built, version: str) -> Path | None:
    """The bill of materials of a build, unless that version was released: then the one that was signed stays."""
    if any(one["version"] == version for one in item.releases()):
        return None
    path = item.dist / f"{item.name}-{version}{sbom_reference.SUFFIX}"
    from .. import sbom  # its library is large: only who writes one waits for it

    product.write(path, sbom.make(item, item.board(), int(time.time()), built, None))
    return path


def run(item: product.Product, version: str, source: Path | None = None, raw: bool = False) -> build.Built:
    """Build with a progress bar."""
    folder = source or item.firmware
    total = sum(path.stat().st_size for path, _ in build.sources(folder) if path.is_file())
    with ui.bar("compiling", total, in_bytes=True) as step:
        return build.build(folder, item.name, version, item.needs_core, not raw, step, item.domain)


def show(built: build.Built, path: Path) -> None:
    """The files and sizes of a build, for people."""
    index = built.index
    width = max(len(entry.path) for entry in index.entries)
    ui.show(f"{index.name} {index.version}, core {index.core} or later, .mpy version {index.mpy}", "bold")
    ui.show(f"  {'file'.ljust(width)}    source  compiled    stored")
    for source, entry in zip(built.sources, index.entries, strict=True):
        stored = f"{entry.stored:>8}  {pack.ENCODINGS[entry.encoding]}"
        ui.show(f"  {entry.path.ljust(width)}  {source.size:>8}  {entry.size:>8}  {stored}")
    compiled, total = sum(entry.size for entry in index.entries), len(built.pack)
    label = f"{len(index.entries)} files".ljust(width)
    ui.show(f"  {label}  {built.source_size:>8}  {compiled:>8}  {total:>8}  the pack")
    ui.show(f"pack   {path}: {ui.size(total)}, {total / max(1, built.source_size):.0%} of the source")
    ui.show(f"index  {ui.size(len(index.data))}, sha-256:{index.digest.hex()}")


def facts(built: build.Built) -> dict[str, Any]:
    """The same for programs."""
    index = built.index
    return {
        "name": index.name,
        "version": index.version,
        "core": index.core,
        "mpy": index.mpy,
        "index_sha256": index.digest.hex(),
        "index_size": len(index.data),
        "pack_size": len(built.pack),
        "source_size": built.source_size,
        "files": [
            {
                "path": entry.path,
                "source_size": source.size,
                "size": entry.size,
                "stored": entry.stored,
                "encoding": pack.ENCODINGS[entry.encoding],
                "sha256": entry.digest.hex(),
            }
            for source, entry in zip(built.sources, index.entries, strict=True)
        ],
    }
