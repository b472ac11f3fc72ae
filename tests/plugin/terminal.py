"""A terminal that a test can read."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from gatehouse_tools import ui


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """A terminal in place of stderr; calling it gives what was drawn on it so far, colours left out."""
    drawn = io.StringIO()
    monkeypatch.setattr(
        ui, "err", lambda: Console(file=drawn, force_terminal=True, no_color=True, width=120, soft_wrap=True)
    )
    return drawn.getvalue
