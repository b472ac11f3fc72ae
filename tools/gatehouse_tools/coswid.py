"""The CoSWID tag (RFC 9393) of an application: what its maker calls it, inside the tree that is signed.

`gatehouse build` makes it, a device passes it on unread in the claim `manifests` of its reports (RFC 9711).
"""

from __future__ import annotations

import functools
import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

from . import cbor, core, suit
from .errors import GatehouseError

PATH = "app.coswid"  # in the application tree
TAG_ID, NAME, ENTITY, PAYLOAD, TAG_VERSION, VERSION, SCHEME = 0, 1, 2, 6, 12, 13, 14  # RFC 9393, section 2.3
DIRECTORY, FS_NAME, ENTITY_NAME, ROLE = 16, 24, 31, 33
TAG_CREATOR, SOFTWARE_CREATOR = 1, 2
SEMVER = 16384


def make(domain: str, name: str, version: str, files: Mapping[str, bytes]) -> bytes:
    """The tag of the application `name` `version` that is made of `files` (path -> bytes), by the vendor of `domain`.

    Its id is a UUID of version 5 from the vendor id and the content: other files have another tag. GatehouseError where
    a device would not pass it on.
    """
    content = hashlib.sha256()
    for path in sorted(files, key=str.encode):
        content.update(cbor.dumps([path, hashlib.sha256(files[path]).digest()]))
    tag = {
        TAG_ID: uuid.uuid5(suit.vendor_uuid(domain), f"{name} {version} {content.hexdigest()}").bytes,
        NAME: name,
        ENTITY: {ENTITY_NAME: domain, ROLE: [TAG_CREATOR, SOFTWARE_CREATOR]},
        PAYLOAD: {DIRECTORY: {FS_NAME: "app"}},
        TAG_VERSION: 0,
        VERSION: version,
        SCHEME: SEMVER,
    }
    data = cbor.dumps(tag)
    most = core.module("measure").MAX_TAG
    if len(data) > most:
        raise GatehouseError(
            f"the CoSWID tag has {len(data)} bytes, devices pass on {most}: shorten the domain", "size"
        )
    return data


@functools.lru_cache(1024)  # a fleet runs few releases, and sends the same bytes each time
def read(data: bytes, name: str, version: str) -> dict[str, Any]:
    """A tag in words. ValueError unless it is one of the application `name` `version`, with what RFC 9393 requires."""
    try:
        tag = cbor.loads(data, "CoSWID")
    except GatehouseError as error:
        raise ValueError(str(error)) from None
    match tag:
        case {
            0: bytes() as number,
            1: str() as called,
            2: {31: str() as entity, 33: _},
            6: dict(),
            12: int() as revision,
        }:
            if called != name or tag.get(VERSION) != version:
                raise ValueError("the tag of other software")
            if len(number) == 16 and entity.isprintable() and type(revision) is int and 0 <= revision < 1 << 31:
                return {"tag_id": str(uuid.UUID(bytes=number)), "tag_version": revision, "entity": entity}
    raise ValueError("no CoSWID tag with payload")
