"""`gatehouse publish`: offer a release."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from .. import product, publish, topics, ui
from ..errors import GatehouseError, UsageError


@click.command("publish")
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option("--device", "devices", metavar="ID", multiple=True, help="A device; repeatable.")
@click.option("--group", "groups", metavar="NAME", multiple=True, help="A group; repeatable.")
@click.option("--broker", metavar="HOST[:PORT]", help="The MQTT broker. Default: product.toml.")
@click.option(
    "--over",
    type=click.Choice(["http", "mqtt"]),
    default="http",
    show_default=True,
    help="How the pack travels: from a server, or as retained blocks on the broker, which are sent before the offer.",
)
@click.option("--clear", is_flag=True, help="Remove the offer; with FILE and --over mqtt its blocks too.")
@click.option("--force", is_flag=True, help="Offer it although devices would refuse it.")
@ui.product_option
@ui.json_option
def command(
    file: Path | None,
    devices: tuple[str, ...],
    groups: tuple[str, ...],
    broker: str | None,
    over: str,
    clear: bool,
    force: bool,
    product_dir: str | None,
) -> None:
    """Offer the release in FILE, a .suit envelope with its pack beside it, to devices or groups: retained on the
    broker, so that a device that is offline now finds it later. What the devices would refuse is not sent.

    \b
    Example:
    $ gatehouse publish dist/shop-1.1.0.suit --group all
    $ gatehouse publish dist/shop-1.1.0.suit --group all --over mqtt
    $ gatehouse publish --clear --device gh-1f3a90c2
    """
    if not devices and not groups:
        raise UsageError("say who is to get it: --device ID or --group NAME")
    if (file is None) != clear and not (clear and over == "mqtt"):
        raise UsageError("give either the FILE to offer, or --clear; the FILE and --clear only with --over mqtt")
    if file is None and over == "mqtt":
        raise UsageError("to remove the blocks of a pack, name its FILE as well")
    item = product.find(product_dir)
    host, port = publish.broker_address(item, broker)
    targets, where = _targets(item, devices, groups, force)
    offer = publish.Offer(b"") if file is None else publish.check(item, file, [] if clear else targets)
    if not clear:
        publish.check_way(offer, over, targets)
    for warning in offer.warnings:
        ui.warn(warning)
    if offer.problems and not force and (not clear or not offer.packs):
        raise offer.problems[0]
    for problem in () if clear else offer.problems:
        ui.warn(f"sent all the same: {problem}")
    blocks = [one for packed in offer.packs for one in publish.block_messages(*packed)] if over == "mqtt" else []
    messages = blocks + [(topic, offer.data) for topic in where]  # a device that gets the offer finds the blocks there
    if clear:
        messages = [(topic, b"") for topic, _ in reversed(messages)]
    with ui.bar("clearing" if clear else "publishing", len(messages)) as step:
        publish.send(item, host, port, messages, step)
    if blocks:
        sent = sum(len(payload) for _, payload in blocks)
        ui.show(f"{'cleared' if clear else 'sent'}  {len(blocks)} blocks, {ui.size(sent)}")
    for topic in where:
        ui.show(f"{'cleared' if clear else 'offered'}  {topic}  (acknowledged by {host}:{port})")
    digest = offer.digest.hex() if offer.digest else None
    if digest:
        ui.show(f"manifest sha-256:{digest}, sequence {offer.sequence}")
    for note in offer.notes:
        ui.show(note)
    told = {"blocks": len(blocks), "digest": digest, "sequence": offer.sequence, "notes": offer.notes}
    ui.result({"ok": True, "cleared": clear, "topics": where, **told})


def _targets(
    item: product.Product, devices: tuple[str, ...], groups: tuple[str, ...], force: bool
) -> tuple[list[dict[str, object]], list[str]]:
    """(device.json of each target, the topics); a device or a group that is not known is an error without --force."""
    found, where = [], []
    for name in devices:
        try:
            found.append(item.device_facts(name))
        except GatehouseError:
            if not force or not topics.is_device_id(name):
                raise
        where.append(topics.topic("offer", id=name))
    for name in groups:
        if not name or any(character in name for character in "/+#"):
            raise UsageError(f"group {name!r}: no '/', '+' or '#'")
        members = publish.in_group(item, name)
        if not members and not force:
            raise GatehouseError(f"no device of {item.name} is in group {name!r}; --force offers it all the same")
        found += members
        where.append(topics.topic("group-offer", group=name))
    return found, where
