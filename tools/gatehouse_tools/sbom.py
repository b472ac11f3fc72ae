"""The bill of materials of a release: CycloneDX 1.6 in JSON, its digest in the signed manifest's text.

A device does not read it. What the manifest says of it is in sbom_reference.py, so that only who writes one waits
for the library that does.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import re
import uuid
from typing import TYPE_CHECKING

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from . import __version__, core, pack, product
from .errors import GatehouseError
from .image import stock

if TYPE_CHECKING:
    from .build import Built, Firmware

_PROPERTY = "gatehouse:"  # our names in properties
_CLIENT = "micropython-umqtt.simple"  # frozen into MicroPython's builds for the ESP32; the core imports it


def make(
    item: product.Product, board: product.Board, sequence: int, built: Built | None, image: Firmware | None
) -> bytes:
    """The bill of materials of a release, signed at `sequence` (Unix seconds). The same input gives the same bytes."""
    index = built.index if built else image.index if image else None
    if index is None:
        raise GatehouseError("neither application nor firmware: there is nothing to list", "component")
    vendor = OrganizationalEntity(name=item.domain)
    root = Component(
        name=item.name,
        version=index.version,
        type=ComponentType.FIRMWARE,
        bom_ref="release",
        supplier=vendor,
        description=f"Release for board {board.model}",
        properties=_properties(sequence=sequence, class_id=item.class_id(board), vendor_id=item.vendor_id),
    )
    parts = [*_application(built), *_firmware(image), *_core(built), *_platform(board, image)]
    bom = Bom(
        serial_number=uuid.uuid5(item.vendor_id, f"{index.digest.hex()} {sequence}"),
        metadata=BomMetaData(
            component=root,
            supplier=vendor,
            timestamp=datetime.datetime.fromtimestamp(sequence, datetime.UTC),
            tools=ToolRepository(components=_tools()),
        ),
        components=parts,
    )
    bom.register_dependency(root, parts)
    return (JsonV1Dot6(bom).output_as_string(indent=2) + "\n").encode()


def _application(built: Built | None) -> list[Component]:
    """The application as one component that holds its files, and the third-party modules among them."""
    if built is None:
        return []
    from .build import THIRD_PARTY

    files = [_file("app", entry.path, entry.size, entry.digest) for entry in built.index.entries]
    application = Component(
        name=built.index.name,
        version=built.index.version,
        type=ComponentType.APPLICATION,
        bom_ref="app",
        scope=ComponentScope.REQUIRED,
        hashes=[_hash(built.index.digest)],
        properties=_properties(digest_of="index.cbor", core=built.index.core, mpy=built.index.mpy),
        components=files,
    )
    modules = [
        _library(source.path.stem, _pinned(source.path.stem), "application tree", hashlib.sha256(source.data).digest())
        for source in built.sources
        if source.path.suffix == ".py" and source.path.is_relative_to(THIRD_PARTY)
    ]
    return [application, *modules]


def _firmware(image: Firmware | None) -> list[Component]:
    if image is None:
        return []
    return [
        Component(
            name=f"{image.index.name}-firmware",
            version=image.index.version,
            type=ComponentType.FIRMWARE,
            bom_ref="firmware",
            scope=ComponentScope.REQUIRED,
            hashes=[_hash(image.index.entries[0].digest)],
            properties=_properties(core=image.index.core, mpy=image.index.mpy),
        )
    ]


def _core(built: Built | None) -> list[Component]:
    """The trusted core of this checkout: not in the release, but what it runs on."""
    from .build import core_files

    files = [_file("core", path, len(data), hashlib.sha256(data).digest()) for path, data in core_files().items()]
    needs = {"needed": built.index.core} if built else {}
    return [
        Component(
            name="gatehouse-core",
            version=core.version(),
            type=ComponentType.FIRMWARE,
            bom_ref="core",
            scope=ComponentScope.REQUIRED,
            licenses=[DisjunctiveLicense(id="MIT")],
            properties=_properties(delivered_by="flash image or firmware image", **needs),
            components=files,
        )
    ]


def _platform(board: product.Board, image: Firmware | None) -> list[Component]:
    """MicroPython, and the frozen module of its build that the core uses. A version only where it is known."""
    found = None
    if image:
        _, files = pack.unpack(image.pack, "the firmware's pack")
        found = stock.VERSION.search(files[pack.FIRMWARE])
    simulated = board.data.get("chip") == "unix"
    interpreter = Component(
        name="micropython",
        version=found[1].decode() if found else None,
        type=ComponentType.PLATFORM,
        bom_ref="micropython",
        scope=ComponentScope.REQUIRED,
        licenses=[DisjunctiveLicense(id="MIT")],
        properties=_properties(
            mpy=pack.MPY_VERSION, version_known="in the image" if found else "to who built the image"
        ),
    )
    version = _pinned("umqtt") if simulated else None
    return [interpreter, _library(_CLIENT, version, "frozen into the MicroPython build")]


def _library(name: str, version: str | None, where: str, digest: bytes | None = None) -> Component:
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"library/{name}",
        scope=ComponentScope.REQUIRED,
        purl=PackageURL("pypi", name=name, version=version),
        licenses=[DisjunctiveLicense(id="MIT")],
        hashes=[_hash(digest)] if digest else [],
        properties=_properties(where=where),
    )


def _pinned(module: str) -> str | None:
    """The version of a third-party module that set-up fetches; None for one that it does not know."""
    path = core.SOURCE / "tools" / "setup" / f"{module}_sdist.py"
    found = re.search(r'^VERSION = "([^"]+)"', path.read_text(), re.MULTILINE) if path.is_file() else None
    return found[1] if found else None


def _file(part: str, path: str, size: int, digest: bytes) -> Component:
    return Component(
        name=path,
        type=ComponentType.FILE,
        bom_ref=f"{part}/{path.lstrip('/')}",
        hashes=[_hash(digest)],
        properties=_properties(size=size),
    )


def _tools() -> list[Component]:
    """The host tools, and every package that they are made of, as installed here."""
    found = {"gatehouse": __version__}
    waiting = ["gatehouse"]
    while waiting:
        try:
            needs = importlib.metadata.requires(waiting.pop()) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in needs:
            name = re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", line, maxsplit=1)[0]).lower()
            if "extra ==" in line or name in found:
                continue
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:  # for another Python or system
                continue
            waiting.append(name)
    return [
        Component(
            name=name,
            version=version,
            type=ComponentType.APPLICATION if name == "gatehouse" else ComponentType.LIBRARY,
            bom_ref=f"tool/{name}",
            purl=None if name == "gatehouse" else PackageURL("pypi", name=name, version=version),
        )
        for name, version in sorted(found.items())
    ]


def _hash(digest: bytes) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest.hex())


def _properties(**values: object) -> list[Property]:
    return [Property(name=_PROPERTY + name.replace("_", "-"), value=str(value)) for name, value in values.items()]
