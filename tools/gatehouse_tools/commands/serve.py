"""`gatehouse serve`: the packs of a product, or any folder, over HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import Any

import rich_click as click

from .. import ca, house, product, ui
from ..errors import UsageError
from ..serve import Request, StaticServer


@click.command("serve")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one. Default: that of product.toml.")
@click.option("--tls", is_flag=True, help="HTTPS, with a certificate of the product's authority (ca/server.pem).")
@click.option(
    "--name", "names", metavar="HOST", multiple=True, help="A name of this machine in the certificate; repeatable."
)
@ui.product_option
@click.option(
    "--json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda _context, _parameter, value: ui.set_json(value),
    help="Print one JSON object per request on stdout, as they come.",
)
def command(
    folder: Path | None, host: str, port: int | None, tls: bool, names: tuple[str, ...], product_dir: str | None
) -> None:
    """Serve the files of DIR, by default the product's dist/, until Ctrl-C: with byte ranges, so that a device fetches
    only what it does not have. There is no listing. Every byte of a pack is checked against its signature, with or
    without --tls, which hides what is fetched.

    \b
    Example:
    $ gatehouse serve
    $ gatehouse serve dist --host 0.0.0.0 --port 8000
    $ gatehouse serve --host 0.0.0.0 --port 8443 --tls --name packs.example.com
    """
    context = None
    if names and not tls:
        raise UsageError("--name is for the certificate of --tls")
    if tls:
        listens = [] if host in ("0.0.0.0", "::") else [host]  # noqa: S104 compared, not bound
        context = ca.server_context(product.find(product_dir).ca, [*listens, *names])
    if folder is None or port is None:
        item = product.find(product_dir)
        folder = folder or item.dist
        if port is None:
            url = urllib.parse.urlsplit(str(item.device.get("base_url", product.BASE_URL)))
            port = url.port or 80
    with (
        contextlib.suppress(KeyboardInterrupt),
        house.ended_by_signals(),
        StaticServer(folder, host, port, _tell, context) as server,
    ):
        ui.show(f"serving {folder} at {server.url}")
        _print({"event": "serving", "url": server.url, "folder": str(folder)})
        threading.Event().wait()


def _tell(request: Request) -> None:
    span = f" {request.span[0]}-{request.span[1] - 1}" if request.span else ""
    ui.show(f"{request.client}  {request.method} {request.path}{span}  {request.status}  {request.body} bytes")
    _print({"event": "request", **dataclasses.asdict(request)})


def _print(event: dict[str, Any]) -> None:
    if ui.json_mode():
        sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
        sys.stdout.flush()
