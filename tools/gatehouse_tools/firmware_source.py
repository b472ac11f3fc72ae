"""MicroPython's firmware for a board: from its own server, pinned by SHA-256 in the product's folder.

micropython/pins.json of a product has, for each file, the SHA-256 that it had when it was fetched first (or the one
that was given then); another one is refused ever after. It belongs under version control, the files do not.
"""

from __future__ import annotations

import hashlib
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from . import product, ui
from .boards import Board
from .errors import GatehouseError, UsageError
from .image import stock

SERVER = "https://micropython.org/resources/firmware/"  # where MicroPython's download pages point to
FOLDER, PINS = "micropython", "pins.json"
_MAX = 8 << 20  # bytes; the largest stock build for an ESP32 has less than 3 MB
_TIMEOUT_S = 20
_CHUNK = 1 << 16
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def file_name(board: Board) -> str:
    """The file of the board's stock build. GatehouseError when board.toml does not say which that is."""
    settings = board.data.get("micropython", {})
    try:
        return f"{settings['build']}-{settings['date']}-v{settings['version']}.bin"
    except KeyError as error:
        told = f"{board.folder / 'board.toml'}: [micropython] {error.args[0]} is missing"
        raise GatehouseError(f"{told}; give a firmware with --firmware FILE") from None


def get(item: product.Product, board: Board, sha256: str | None = None) -> Path:
    """The firmware file of a board: what was fetched before, else fetched now. Its SHA-256 is the pinned one.

    sha256: what it must be, to pin it at the first time. GatehouseError("digest") when it is another.
    """
    name = file_name(board)
    pins_path = item.root / FOLDER / PINS
    pins = product.read_json(pins_path) if pins_path.exists() else {}
    wanted = pins.get(name)
    if wanted is not None and not (isinstance(wanted, str) and _SHA256.fullmatch(wanted)):
        raise GatehouseError(f"{pins_path}: {name} has no SHA-256: restore it")
    if sha256 is not None:
        sha256 = sha256.lower()
        if not _SHA256.fullmatch(sha256):
            raise UsageError("--sha256 takes 64 hexadecimal digits")
        if wanted is not None and wanted != sha256:
            raise GatehouseError(
                f"{name} is pinned to sha256:{wanted} in {pins_path}, which is not the given one", "digest"
            )
    wanted = wanted or sha256
    path = item.root / FOLDER / name
    url = _address(item, name)
    if path.exists():
        data = product.read(path)
        if wanted is None or hashlib.sha256(data).hexdigest() != wanted:
            raise GatehouseError(f"{path} is not what was fetched: delete it, then it is fetched again", "digest")
    else:
        data = _download(url)
        found = hashlib.sha256(data).hexdigest()
        if wanted is not None and found != wanted:
            told = f"{url} has sha256:{found}, pinned is sha256:{wanted}: nothing is kept of it"
            raise GatehouseError(f"{told}; find out why before {pins_path} is changed", "digest")
        stock.split(data, board.chip, url)  # a portal's page, pinned, would keep the right file out ever after
        product.make_folder(path.parent)
        product.write(path, data)
        if name not in pins:
            product.write(pins_path, product.json_bytes({**pins, name: found}))
            ui.say(f"pinned from now on in {pins_path}; compare the SHA-256 with a second source", "yellow")
        wanted = found
    ui.say(f"{name}, sha256:{wanted}")
    return path


def _address(item: product.Product, name: str) -> str:
    table: Any = item.data.get("micropython", {})
    base = str(table.get("source", SERVER)) if isinstance(table, dict) else SERVER
    _check(base, product.FILE)
    return base.rstrip("/") + "/" + urllib.parse.quote(name)


def _check(url: str, what: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise GatehouseError(f"{what}: firmware is fetched over https only, not from {url}", "unsupported")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        _check(newurl, req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str) -> bytes:
    """What is at `url`, at most _MAX bytes. GatehouseError says what to do without network."""
    ui.say(f"fetching {url}")
    received = bytearray()
    try:
        with urllib.request.build_opener(_Redirects).open(url, timeout=_TIMEOUT_S) as answer:
            length = int(answer.headers.get("Content-Length") or 0)
            with ui.bar("fetching", length or None, in_bytes=True) as step:
                while chunk := answer.read(_CHUNK):
                    received += chunk
                    step(len(chunk))
                    if len(received) > _MAX:
                        raise GatehouseError(
                            f"{url} has more than {_MAX >> 20} MiB: no firmware of MicroPython", "size"
                        )
            if length and len(received) != length:
                raise GatehouseError(f"{url} ended after {len(received)} of {length} bytes: try again", "size")
    except (OSError, ValueError) as error:  # ValueError: an answer that is no HTTP
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        told = f"{url} cannot be fetched ({reason})"
        raise GatehouseError(f"{told}: fetch it where there is a network, and give it with --firmware FILE") from None
    return bytes(received)
