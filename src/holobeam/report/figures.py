"""Plots of plain data: nothing here knows what a solver is.

Every colour of text, axes and series comes from :data:`PALETTE`, so that a page can swap them for
those of its theme (see :func:`holobeam.report.html.inline_svg`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from holobeam.report.tables import Cell, write_csv

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
    "grey": "#8a8f99",
}
"""Colours by name, told apart also by readers with a colour deficiency (with the line styles)."""

STYLE = Path(__file__).with_name("style.mplstyle")

MARGIN = 1.035
"""Where the column of end labels begins, in widths of the axes."""

Row = tuple[Cell, ...]


@contextmanager
def style() -> Iterator[None]:
    """Draw in the house style; nothing outside the block changes."""
    with matplotlib.rc_context(fname=STYLE):
        yield


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes
    ----------
    label
        What is written at its end.
    x, y
        Data.
    colour
        Name in :data:`PALETTE`.
    error
        Half width of the band around it.
    dashed, width, alpha, marker, zorder
        How it is drawn.
    anchor, side
        Where its label goes if not to its end, in data coordinates, and on which side of there.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    error: Sequence[float] | None = None
    dashed: bool = False
    width: float = 2.2
    alpha: float = 1.0
    marker: str = ""
    zorder: float = 3.0
    anchor: tuple[float, float] | None = None
    side: str = "right"


@dataclass(frozen=True)
class Axis:
    """One axis: its label, whether it is logarithmic, its limits and its ticks."""

    label: str
    log: bool = False
    limits: tuple[float | None, float | None] = (None, None)
    ticks: Sequence[float] = ()


@dataclass(frozen=True)
class Plot:
    """One set of axes.

    Attributes
    ----------
    title
        Above the axes.
    lines
        Curves.
    x, y
        Axes.
    labels
        ``margin``: end labels in a column at the right; ``point``: beside each end or anchor.
    levels
        Dotted horizontal lines, each with a text.
    """

    title: str
    lines: Sequence[Line]
    x: Axis
    y: Axis
    labels: str = "margin"
    levels: Sequence[tuple[float, str]] = field(default=())


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with the numbers that it shows.

    Attributes
    ----------
    name
        Stem of its files.
    figure
        What is drawn.
    header, rows
        The data, for CSV.
    alt
        What it shows, for those who can't see it.
    """

    name: str
    figure: Figure
    header: Row
    rows: Sequence[Row]
    alt: str

    def save(self, folder: Path) -> str:
        """Write PNG, SVG and CSV into a folder; returns the SVG text."""
        text = io.StringIO()
        with style(), matplotlib.rc_context({"svg.hashsalt": self.name}):
            # Laid out once, not once per file.
            self.figure.draw_without_rendering()
            self.figure.set_layout_engine("none")
            self.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
            self.figure.savefig(folder / f"{self.name}.png", metadata={"Software": None})
        (folder / f"{self.name}.svg").write_text(text.getvalue(), encoding="utf-8")
        write_csv(folder / f"{self.name}.csv", self.header, self.rows)
        return text.getvalue()


def line_picture(name: str, plots: Sequence[Plot], size: tuple[float, float], alt: str) -> Picture:
    """Draw curves on one or more axes side by side, labelled at their ends.

    Parameters
    ----------
    name
        Stem of the files.
    plots
        What goes on each axes.
    size
        Inches.
    alt
        Description for those who can't see it.
    """
    rows: list[Row] = []
    with style():
        figure = Figure(figsize=size)
        drawn: list[tuple[Axes, Plot, list[Annotation]]] = []
        axes = figure.subplots(1, len(plots), squeeze=False)[0]
        for ax, plot in zip(axes, plots, strict=True):
            _draw(ax, plot)
            drawn.append((ax, plot, [_end_label(ax, line, plot.labels) for line in plot.lines]))
            rows += _rows(plot)
        # Two passes: labels claim their room first, and only then is the height in points known.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for ax, plot, labels in drawn:
            _spread(ax, plot, labels)
    return Picture(name, figure, ("panel", "series", "x", "y", "error"), rows, alt)


def _rows(plot: Plot) -> list[Row]:
    rows: list[Row] = []
    for line in plot.lines:
        errors = line.error if line.error is not None else [float("nan")] * len(line.x)
        for x, y, error in zip(line.x, line.y, errors, strict=True):
            rows.append((plot.title, line.label, float(x), float(y), float(error)))
    return rows


def _draw(ax: Axes, plot: Plot) -> None:
    for line in plot.lines:
        colour = PALETTE[line.colour]
        x, y = np.asarray(line.x, float), np.asarray(line.y, float)
        if line.error is not None:
            half = np.nan_to_num(np.asarray(line.error, float))
            ax.fill_between(x, y - half, y + half, color=colour, alpha=0.16, lw=0, zorder=2)
        ax.plot(
            x,
            y,
            color=colour,
            lw=line.width,
            alpha=line.alpha,
            ls=(0, (3.5, 2.2)) if line.dashed else "-",
            marker=line.marker or None,
            zorder=line.zorder,
            label=line.label,
        )
    for value, text in plot.levels:
        ax.axhline(value, color=PALETTE["muted"], lw=1, ls=(0, (1, 2.5)), zorder=1)
        ax.annotate(
            text,
            (0.012, value),
            (0, 4),
            ("axes fraction", "data"),
            textcoords="offset points",
            color=PALETTE["muted"],
            fontsize=9,
        )
    ax.set_title(plot.title)
    _set_axis(ax, "x", plot.x)
    _set_axis(ax, "y", plot.y)


def _set_axis(ax: Axes, which: str, axis: Axis) -> None:
    getattr(ax, f"set_{which}label")(axis.label)
    side = ax.xaxis if which == "x" else ax.yaxis
    if axis.log:
        getattr(ax, f"set_{which}scale")("log")
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        side.set_minor_formatter(NullFormatter())
    if len(axis.ticks):
        side.set_major_locator(FixedLocator(list(axis.ticks)))
        side.set_minor_locator(NullLocator())
    low, high = axis.limits
    if which == "x":
        ax.set_xlim(low, high)
    else:
        ax.set_ylim(low, high)


def _end_label(ax: Axes, line: Line, where: str) -> Annotation:
    margin = where == "margin" and line.anchor is None
    x, y = line.anchor or (float(line.x[-1]), float(line.y[-1]))
    right = line.side == "right"
    return ax.annotate(
        line.label,
        (x, y),
        xytext=(MARGIN, 0.5) if margin else (7 if right else -7, 0),
        textcoords="axes fraction" if margin else "offset points",
        color=PALETTE[line.colour],
        fontsize=10,
        fontweight="normal" if line.dashed else "bold",
        ha="left" if right else "right",
        va="center",
        annotation_clip=False,
        in_layout=margin,
        zorder=6,
    )


def _spread(ax: Axes, plot: Plot, labels: Sequence[Annotation]) -> None:
    """Move end labels up and down until none touches another; leaders show where they belong."""
    at_end = [place for place, line in enumerate(plot.lines) if line.anchor is None]
    if plot.labels != "margin" or not at_end:
        return
    lines = [plot.lines[place] for place in at_end]
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = np.array([to_axes.transform((line.x[-1], line.y[-1])) for line in lines])
    height = ax.get_window_extent().height * 72.0 / ax.figure.dpi
    places = spread(ends[:, 1], gap=13.5 / height)
    for place, (x, y), line, index in zip(places, ends, lines, at_end, strict=True):
        labels[index].set_position((MARGIN, place))
        ax.plot(
            [x + 0.006, MARGIN - 0.004],
            [y, place],
            transform=ax.transAxes,
            color=PALETTE[line.colour],
            lw=0.8,
            alpha=0.55,
            clip_on=False,
            zorder=2,
        )


def spread(heights: Sequence[float] | np.ndarray, gap: float) -> np.ndarray:
    """Move heights apart, as little as possible, until none is within ``gap`` of another."""
    place = np.asarray(heights, float).copy()
    # Ties are broken by order, so that equal heights move apart at all.
    place += 1e-9 * np.arange(len(place))
    for _ in range(400):
        order = np.argsort(place)
        moved = False
        for lower, upper in pairwise(order):
            lack = gap - (place[upper] - place[lower])
            if lack > 1e-6:
                place[upper] += lack / 2 + 1e-7
                place[lower] -= lack / 2 + 1e-7
                moved = True
        if not moved:
            break
    return place
