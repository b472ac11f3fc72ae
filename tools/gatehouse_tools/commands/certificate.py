"""`gatehouse certificate`: the certificate of the broker or of the host tools, issued anew."""

from __future__ import annotations

import rich_click as click

from .. import ca, product, ui
from ..errors import UsageError


@click.command("certificate")
@click.argument("whose", type=click.Choice(["broker", "host"]))
@click.option("--broker-host", multiple=True, metavar="HOST", help="One more name or address of the broker; repeat.")
@ui.product_option
@ui.json_option
def command(whose: str, broker_host: tuple[str, ...], product_dir: str | None) -> None:
    """Issue ca/broker.pem or ca/host.pem anew, with a new key, before it ends or for one more name of the broker. It
    keeps the names that it has. The pair that was there stays beside it. Devices and verifiers go on: they trust the
    authority, which stays.

    \b
    Example:
    $ gatehouse certificate broker --broker-host broker.example.com
    """
    if broker_host and whose != "broker":
        raise UsageError("--broker-host is for the broker's certificate; the host tools' has no host names")
    item = product.find(product_dir)
    made = ca.renew(item.ca, whose, broker_host)
    until = made.certificate.not_valid_after_utc
    ui.show(f"{made.path}, valid until {until.date()}{', for ' + ', '.join(made.names) if made.names else ''}")
    if made.before:
        ui.say(f"The pair before: {', '.join(one.name for one in made.before)}. Remove it once nothing uses it.")
    if whose == "broker":
        ui.say("A broker that runs takes the new one when it starts again.")
    ui.result(
        {
            "ok": True,
            "file": str(made.path),
            "valid_until": until.isoformat(),
            "names": made.names,
            "before": [str(one) for one in made.before],
        }
    )
