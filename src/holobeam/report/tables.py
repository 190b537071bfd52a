"""Tables: as HTML that a few lines of script can sort, and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

Cell = str | float | int

LONG = 42
"""Letters of a cell from which on its text is broken into lines."""


@dataclass(frozen=True)
class Value:
    """A cell that shows one thing and sorts by another.

    Attributes
    ----------
    text
        What is shown.
    key
        What it sorts by; NaN sorts last.
    strong
        Whether it is set in bold.
    """

    text: str
    key: float
    strong: bool = False


@dataclass(frozen=True)
class Markup:
    """A cell of HTML, made by the caller from escaped parts; sorts by its text."""

    html: str


@dataclass(frozen=True)
class Column:
    """Head of a column: its text, the group that it stands under, and a hint."""

    text: str
    group: str = ""
    hint: str = ""


def html_table(
    columns: Sequence[Column], rows: Iterable[Sequence[Value | Markup | Cell]], caption: str = ""
) -> str:
    """Make a sortable table that scrolls sideways on narrow screens.

    Parameters
    ----------
    columns
        Heads; neighbours of one group get a common head above.
    rows
        Cells; the first of each row names it.
    caption
        Plain text below the table.
    """
    kept = list(rows)
    body = "\n".join(_row(row) for row in kept)
    numeric = [not isinstance(cell, (str, Markup)) for cell in kept[0]] if kept else []
    heads = "".join(
        _head(column, numeric[place] if place < len(numeric) else False)
        for place, column in enumerate(columns)
    )
    note = f'<p class="note">{escape(caption)}</p>' if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table class="sortable"><thead>{_groups(columns)}'
        f'<tr class="heads">{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{note}"
    )


def _groups(columns: Sequence[Column]) -> str:
    if not any(column.group for column in columns):
        return ""
    cells: list[tuple[str, int]] = []
    for column in columns:
        if cells and cells[-1][0] == column.group:
            cells[-1] = (column.group, cells[-1][1] + 1)
        else:
            cells.append((column.group, 1))
    heads = (
        f'<th colspan="{span}" class="group">{escape(text)}</th>' if text else _blank(span)
        for text, span in cells
    )
    return f'<tr class="groups">{"".join(heads)}</tr>'


def _blank(span: int) -> str:
    return f'<td colspan="{span}"></td>'


def _head(column: Column, numeric: bool) -> str:
    hint = f' title="{escape(column.hint)}"' if column.hint else ""
    side = ' class="number"' if numeric else ""
    return f'<th scope="col"{side}{hint}><button type="button">{escape(column.text)}</button></th>'


def _row(row: Sequence[Value | Markup | Cell]) -> str:
    cells = []
    for place, cell in enumerate(row):
        tag = "th scope=row" if place == 0 else "td"
        if isinstance(cell, Value):
            text = f"<b>{escape(cell.text)}</b>" if cell.strong else escape(cell.text)
            cells.append(f'<{tag} class="number" data-key="{_key(cell.key)}">{text}</{tag[:2]}>')
        elif isinstance(cell, Markup):
            cells.append(f"<{tag}>{cell.html}</{tag[:2]}>")
        elif isinstance(cell, str):
            long = ' class="long"' if len(cell) > LONG else ""
            cells.append(f"<{tag}{long}>{escape(cell)}</{tag[:2]}>")
        else:
            cells.append(f'<{tag} class="number" data-key="{cell:.9g}">{cell:g}</{tag[:2]}>')
    return f"<tr>{''.join(cells)}</tr>"


def _key(number: float) -> str:
    """Number as the script of the page reads it."""
    return f"{number:.9g}".replace("inf", "Infinity")


def write_csv(path: Path, header: Sequence[Cell], rows: Iterable[Sequence[Cell]]) -> Path:
    """Write rows as CSV with full precision, so that a figure can be drawn again from it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
