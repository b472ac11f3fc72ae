"""`gatehouse completion`: completion for a shell."""

from __future__ import annotations

import os
from pathlib import Path

import rich_click as click
from click.shell_completion import get_completion_class

from .. import ui
from ..errors import GatehouseError

SHELLS = {
    "bash": 'eval "$(gatehouse completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(gatehouse completion zsh)"   in ~/.zshrc',
    "fish": "gatehouse completion fish | source   in ~/.config/fish/config.fish",
}
_VARIABLE = "_GATEHOUSE_COMPLETE"  # click's, from the program's name


@click.command("completion")
@click.argument("shell", metavar="[bash|zsh|fish]", type=click.Choice(list(SHELLS)), required=False)
@ui.json_option
def command(shell: str | None) -> None:
    """Print the script that completes commands and options in a shell, by default the one that runs.

    \b
    Example:
    $ eval "$(gatehouse completion bash)"
    """
    from .. import cli

    name = shell or Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(name)
    if name not in SHELLS or kind is None:
        raise GatehouseError(f"which shell? gatehouse completion {'|'.join(SHELLS)}")
    script = kind(cli.main, {}, "gatehouse", _VARIABLE).source()
    if not ui.json_mode():
        click.echo(script)
        if ui.out().is_terminal:  # not where a shell evaluates it
            ui.say(f"to have it always: {SHELLS[name]}")
    ui.result({"ok": True, "shell": name, "script": script})
