"""What can be done to a device by a button of the page: the one list that page, server, tests and documents follow."""

from __future__ import annotations

from dataclasses import dataclass

from . import intrusions, scenes
from .scenes import Scene


@dataclass(frozen=True)
class Button:
    """`name` is what the page sends; `title` and `hint` stand on it. kind: "update" or "attack"."""

    name: str
    kind: str
    title: str
    hint: str
    scene: Scene


BUTTONS = (
    Button("update", "update", "Good update", "a new release, signed by the vendor", scenes.good_update),
    Button("rollback", "update", "Authorised roll back", "the release before, signed again", scenes.roll_back),
    Button("tampered", "attack", "Tampered pack", "one bit flipped on the server", scenes.tampered_pack),
    Button("stranger", "attack", "Stranger's key", "a good manifest, signed by somebody else", scenes.stranger),
    Button("board", "attack", "Wrong board", "rightly signed, for another kind of device", scenes.other_board),
    Button("downgrade", "attack", "Downgrade", "an old release, with its old good signature", scenes.older),
    Button("freeze", "attack", "Freeze", "an offer held back until it has expired", scenes.freeze),
    Button("power", "attack", "Cut the power now", "at any time, in an update too", intrusions.power_cut_now),
    Button("crash", "attack", "Crash release", "signed, but it fails at its start", scenes.bad_release),
    Button("password", "attack", "Guess the password", "eight guesses on its web interface", intrusions.brute_force),
    Button("replay", "attack", "Replay a command", "recorded on the network, sent again", intrusions.replayed_command),
    Button("forge", "attack", "Forge a report", "published in the device's name", intrusions.forged_report),
)
BY_NAME = {button.name: button for button in BUTTONS}
POWER = "power"  # the one that is done at once, while another is under way
