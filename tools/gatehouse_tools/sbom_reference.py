"""What a signed manifest says of its bill of materials (sbom.py): file name and SHA-256.

Whoever has the release can tell whether a bill of materials is the one that its maker signed: reference() is what the
manifest says of it (component text 5, description), reference_in() reads that back.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from . import product, suit
from .errors import GatehouseError

SUFFIX = ".cdx.json"
DESCRIPTION = 5  # SUIT_Text_Component_Keys: component description
_REFERENCE = re.compile(r"CycloneDX SBOM ([\w.+-]{1,100}\.cdx\.json) sha-256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Reference:
    """What a manifest says of its bill of materials: file name and SHA-256."""

    name: str
    digest: bytes

    def __str__(self) -> str:
        return f"CycloneDX SBOM {self.name} sha-256:{self.digest.hex()}"

    def check(self, folder: Path) -> bytes | None:
        """The file in `folder`, None where there is none. GatehouseError("digest") where it is not the signed one."""
        path = folder / self.name
        if not path.exists():
            return None
        data = product.read(path)
        if hashlib.sha256(data).digest() != self.digest:
            raise GatehouseError(
                f"{self.name} is not the bill of materials that was signed: its digest differs", "digest"
            )
        return data


def reference(name: str, data: bytes) -> Reference:
    """What the manifest is to say of the bill of materials `data` in the file `name`."""
    return Reference(name, hashlib.sha256(data).digest())


def reference_in(envelope: suit.Envelope) -> Reference | None:
    """What an envelope's text says of its bill of materials; None where it says nothing."""
    for texts in envelope.text.values():
        for told in texts.values():
            found = _REFERENCE.fullmatch(str(told.get(DESCRIPTION))) if isinstance(told, dict) else None
            if found:
                return Reference(found[1], bytes.fromhex(found[2]))
    return None
