"""The command line: `gatehouse COMMAND ...`. Commands load when they are called, so that --help is quick.

Exit codes: 0 success, 1 the answer is no, 2 wrong usage. Every error is one line that says what to do next.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import rich_click as click

from . import __version__, ui
from .errors import GatehouseError

# name: what its one line in --help says. The module commands/NAME.py holds `command`; a "-" is a "_" there.
COMMANDS = {
    "init": "Make a new product: signing keys, certificate authority, product.toml.",
    "build": "Compile the application and write its index and pack.",
    "release": "Build and sign a release.",
    "configure": "Sign a configuration for devices that are out there.",
    "trust": "Show the trust store, or make its next version: rotate, add and revoke keys.",
    "provision": "Make a device: its identity and its flash image.",
    "flash": "Write a device and MicroPython onto a board, or into one image.",
    "dev": "Put the working copy on a board at a cable, run it, show its log.",
    "serve": "Serve packs over HTTP, with ranges.",
    "publish": "Offer a release to a device or a group.",
    "inspect": "Print an envelope, pack, report or flash image in words, and verify it.",
    "sim": "Run simulated devices.",
    "send": "Ask a device to do something, over MQTT.",
    "journal": "Show the event log of a device, and verify its chain.",
    "command-key": "Write the key of one role and client of a device.",
    "verifier-kit": "Write what somebody needs who may see reports, and command nothing.",
    "broker-config": "Write the configuration of a Mosquitto for the product.",
    "certificate": "Issue the broker's or the host tools' certificate anew.",
    "home-assistant": "Make Home Assistant's certificate for the product's broker.",
    "watch": "Watch the fleet live, every report verified.",
    "collect": "Keep verified reports, journals and summaries in a database.",
    "demo": "The whole story on this machine.",
    "statement": "Write the security statement for customers, and security.txt.",
    "mud": "Write what network the devices need, for routers (RFC 8520).",
    "conformance": "Show what standards ask for, and the tests that show it.",
    "doctor": "Check this machine and the product, and say what to do.",
    "completion": "Print the shell's completion script.",
}
DEBUG = "GATEHOUSE_DEBUG"  # set it to see the traceback of an internal error

click.rich_click.STYLE_HELPTEXT = ""
click.rich_click.PADDING_HELPTEXT_FIRST_LINE = (0, 0, 1, 0)
click.rich_click.TEXT_PARAGRAPH_LINEBREAKS = "\n\n"
click.rich_click.COMMANDS_BEFORE_OPTIONS = True
click.rich_click.OPTIONS_TABLE_COLUMN_TYPES = ["required", "opt_short", "opt_long", "metavar", "help"]


class Group(click.RichGroup):
    """The group of all commands: knows their names, imports the one that is called, turns every error into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which a product needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A placeholder for help and completion; resolve_command() loads the real one."""
        return click.Command(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called, imported now."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run and exit: 0, 1 or 2."""
        extra.pop("standalone_mode", None)
        ui.set_json(False)
        sys.exit(self._run(args, prog_name or "gatehouse", **extra))

    def _run(self, args: Sequence[str] | None, prog_name: str, **extra: Any) -> int:
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except GatehouseError as error:
            ui.error(str(error), error.reason)
            return error.exit_code
        except click.ClickException as error:
            if "--json" in (sys.argv[1:] if args is None else args):  # the option's own callback did not come to it
                ui.set_json(True)
            context = getattr(error, "ctx", None)
            path = context.command_path if context else prog_name
            ui.error(f"{error.format_message().rstrip('.')}; see {path} --help")
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            ui.error("stopped")
            return 1
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read us has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 1
            if os.environ.get(DEBUG):
                raise
            where = f"{error.filename}: " if error.filename else ""
            ui.error(f"{where}{error.strerror or error}")
            return 1
        except Exception as error:  # the last resort: a traceback helps nobody who did not write this
            if os.environ.get(DEBUG):
                raise
            ui.error(f"internal error, {type(error).__name__}: {error}; please report it; {DEBUG}=1 shows where")
            return 1


def load(name: str) -> click.Command:
    """The command of commands/NAME.py. GatehouseError when this installation does not have it."""
    module = f"{__package__}.commands.{name.replace('-', '_')}"
    try:
        return importlib.import_module(module).command
    except ModuleNotFoundError as error:
        told = f"'{name}' is not part of this installation ({module} is missing)"
        if error.name != module:
            told = f"'{name}' needs the Python package {error.name}: pip install -e . in the checkout"
        raise GatehouseError(told) from None


@click.group("gatehouse", cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="gatehouse")
def main() -> None:
    """Gatehouse: signed updates, controlled access and signed state reports for MicroPython devices.

    \b
    Start:
    $ gatehouse init shop --domain example.com && cd shop
    $ gatehouse release --version 1.0.0
    $ gatehouse provision
    """


if __name__ == "__main__":
    main()
