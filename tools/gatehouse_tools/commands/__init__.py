"""One module for each command of the CLI; each holds a click command called `command`, which cli.py loads when called.

A command's errors are GatehouseError (exit 1) and UsageError (exit 2); ui.py has --json, --product and the printing.
"""
