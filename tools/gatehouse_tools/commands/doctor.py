"""`gatehouse doctor`: is all there that the tools need?"""

from __future__ import annotations

import dataclasses

import rich_click as click

from .. import doctor, product, ui
from ..errors import UsageError

_MARKS = {doctor.GOOD: ("ok", "green"), doctor.NOTE: ("note", "yellow"), doctor.WRONG: ("WRONG", "red")}


@click.command("doctor")
@ui.product_option
@ui.json_option
def command(product_dir: str | None) -> int:
    """Check this machine and, inside one, the product's folder: programs, packages, keys, certificates, releases. Says
    what to do about what it finds, changes nothing, asks no network. Exit code 1 when something is wrong.

    \b
    Example:
    $ gatehouse doctor
    """
    parts = {"This machine": list(doctor.machine())}
    try:
        item = product.find(product_dir)
        parts[f"Product {item.name} in {item.root}"] = list(doctor.folder(item))
    except UsageError:
        if product_dir:
            raise
        ui.say("no product here: only the machine was checked")
    for title, checks in parts.items():
        ui.show(title, "bold")
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark, style = _MARKS[check.state]
            ui.show(f"  {mark:<6} {check.name:<{width}}  {check.told}", "" if check.state == doctor.GOOD else style)
            if check.todo:
                ui.show(f"  {'':<6} {'':<{width}}  -> {check.todo}")
        ui.show()
    for name in doctor.environment():
        ui.show(f"{name} is set")
    found = [check for checks in parts.values() for check in checks]
    wrong = sum(check.state == doctor.WRONG for check in found)
    ui.show(
        f"{wrong} of {len(found)} checks found something wrong" if wrong else "nothing wrong found",
        "red" if wrong else "green",
    )
    ui.result({"ok": not wrong, "checks": [dataclasses.asdict(check) for check in found]})
    return 1 if wrong else 0
