"""The inventory of a product: one line of JSON for each device that was ever made, in the order in which they were.

Nothing in it is secret. It outlives the devices' folders, which move to where secrets are kept: an id that stands here
is never given again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import product
from .errors import GatehouseError

FILE = "inventory.jsonl"


def path(item: product.Product) -> Path:
    """Where it is: for version control, beside product.toml."""
    return item.root / FILE


def read(item: product.Product) -> list[dict[str, Any]]:
    """The records. A last line that a crash cut short counts as not there: add_missing() writes it again."""
    if not path(item).exists():
        return []
    whole, _, _ = product.read(path(item)).rpartition(b"\n")
    found = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            record = json.loads(line)
            if isinstance(record["id"], str):
                found.append(record)
                continue
        except (ValueError, KeyError, TypeError):
            pass  # told below
        raise GatehouseError(f"{path(item)}, line {number} is damaged: restore it, or an id may be given twice")
    return found


@contextlib.contextmanager
def locked(item: product.Product) -> Iterator[None]:
    """One at a time makes devices of a product; a second one waits."""
    folder = os.open(item.root, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def add_missing(item: product.Product) -> list[str]:
    """Add each device whose folder is there and whose line is not, as after a crash between the two. Returns their ids.

    Call it inside locked().
    """
    known = {record["id"] for record in read(item)}
    missing = [folder.name for folder in item.device_folders() if folder.name not in known]
    records = sorted((item.device_facts(name) for name in missing), key=lambda facts: str(facts.get("provisioned")))
    lines = b"".join(json.dumps(one, ensure_ascii=False, sort_keys=True).encode() + b"\n" for one in records)
    if not lines:
        return []
    try:
        with open(path(item), "a+b") as file:
            file.seek(0)
            before = file.read()
            file.truncate(before.rfind(b"\n") + 1)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise GatehouseError(f"{path(item)}: {error.strerror}; the devices are made, the next call adds them") from None
    return [str(one["id"]) for one in records]
