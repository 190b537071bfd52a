"""Colours and the house style of figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib

PALETTE = {
    "ink": "#1f2430",
    "muted": "#5c667a",
    "axis": "#98a1b3",
    "grid": "#e1e5ec",
    "card": "#ffffff",
    "slate": "#3b4252",
    "blue": "#0072b2",
    "teal": "#009e83",
    "red": "#cc3311",
    "pink": "#d6499a",
    "orange": "#e58606",
    "brown": "#94651e",
    "violet": "#7a5bb5",
    "green": "#5f9e2f",
    "grey": "#8a8f99",
}
"""Colours by name, told apart also by readers with a colour deficiency (with the line styles)."""

STYLE = Path(__file__).with_name("style.mplstyle")


@contextmanager
def style() -> Iterator[None]:
    """Draw in the house style; nothing outside the block changes."""
    with matplotlib.rc_context(fname=STYLE):
        yield
