"""`gatehouse send`: ask a device to do something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click

from .. import identity, product, publish, remote, ui
from ..errors import GatehouseError, UsageError

TIMEOUT_S = 10.0


@click.command("send")
@click.argument("device", metavar="ID")
@click.argument("operation", metavar="OPERATION")
@click.argument("arguments", metavar="[NAME=VALUE ...]", nargs=-1)
@click.option(
    "--role",
    type=click.Choice(remote.ROLES),
    help="The role to act in: what it may not do, the device refuses. Default: operator.",
)
@click.option("--client", metavar="NAME", help="Whose counter to use; each computer has a name. Default: host.")
@click.option("--epoch", type=click.IntRange(0), metavar="N", help="The device's owner epoch. Default: its image's.")
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path), metavar="FILE", help="A key of command-key instead."
)
@click.option("--broker", metavar="HOST[:PORT]", help="The MQTT broker. Default: product.toml.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@ui.product_option
@ui.json_option
def command(
    device: str,
    operation: str,
    arguments: tuple[str, ...],
    role: str | None,
    client: str | None,
    epoch: int | None,
    key_file: Path | None,
    broker: str | None,
    timeout: float,
    product_dir: str | None,
) -> None:
    """Send one command to the device ID over MQTT, and print what it answered. The device takes it from whoever holds a
    key of the role, once; only an answer that it MACed for this very request is shown. `help` lists what a role may do.

    Without --key the key is derived from the device key in devices/ID/flash.bin. VALUE is read as TOML, else as text.

    \b
    Example:
    $ gatehouse send gh-1f3a90c2 state
    $ gatehouse send gh-1f3a90c2 reboot
    $ gatehouse send gh-1f3a90c2 journal count=8 --role owner --json
    $ gatehouse send gh-1f3a90c2 identify seconds=10 --key anna.json
    """
    given: dict[str, Any] = {}
    for text in arguments:
        name, value = identity.setting(text)
        if name in given:
            raise UsageError(f"argument {name} is given twice")
        if not isinstance(value, (str, int, bool, list)):
            raise UsageError(f"argument {name}: a text, a whole number, true, false, or a list of them")
        given[name] = value
    item = product.find(product_dir)
    host, port = publish.broker_address(item, broker)
    if key_file:
        if role or client or epoch is not None:
            raise UsageError("--key has a role, a client and an epoch of its own: leave out the options for them")
        key = remote.load_key(key_file)
        if key.device != device:
            raise UsageError(f"{key_file} is a key for {key.device}, not for {device}")
    else:
        key = remote.derive(item, device, role or "operator", client or "host", epoch)
    counter, answer = remote.send(item, host, port, key, operation, given, timeout)
    if answer.result is None:
        why = f": {answer.detail}" if answer.detail else ""
        raise GatehouseError(f"{device} refuses {operation} as {key.role}{why}", answer.reason)
    result = _plain(answer.result)
    ui.rows([(str(name), _words(value)) for name, value in result.items()] or [(operation, "done")])
    told = {"device": device, "operation": operation, "role": key.role, "client": key.client, "counter": counter}
    ui.result({"ok": True, **told, "result": result})


def _plain(value: Any) -> Any:
    """A value of CBOR as JSON has it: byte strings in hex, keys as texts."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key.hex() if isinstance(key, bytes) else str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, float)) or value is None else str(value)


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
