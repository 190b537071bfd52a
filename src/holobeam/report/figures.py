"""Plots of plain data: nothing here knows what a solver is.

Every colour of text, axes and series comes from the palette of :mod:`holobeam.report.style`, so
that a page can swap them for those of its theme (see :func:`holobeam.report.html.inline_svg`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)

from holobeam.report.labels import DASHES, DOTS, end_label, legend, place_labels, spread
from holobeam.report.style import PALETTE, style
from holobeam.report.tables import Cell, write_csv

__all__ = [
    "PALETTE",
    "Axis",
    "Line",
    "Picture",
    "Plot",
    "Row",
    "line_picture",
    "spread",
    "style",
]

Row = tuple[Cell, ...]

TITLE_LETTER, TICK_ROOM = 7.0, 45.0
"""Mean width of a letter of the title of axes, and of what stands left of them, points."""

FEW_LINES = 8
"""Curves up to which their bands are drawn strongly."""

THIN = 1.5
"""Width of a curve up to which its markers are small, too."""

FEW_DECADES = 300.0
"""Ratio of the ends of a logarithmic axis up to which there are ticks between the decades."""


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
    joined
        Whether points are joined; where not, errors are bars instead of a band.
    stairs
        Whether it stays at a height until the next point.
    hollow
        Points whose markers are left open.
    quiet
        Whether it goes without a name.
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
    joined: bool = True
    stairs: bool = False
    hollow: Sequence[bool] = ()
    quiet: bool = False


@dataclass(frozen=True)
class Axis:
    """One axis: its label, whether it is logarithmic, its limits, its ticks and their names."""

    label: str
    log: bool = False
    limits: tuple[float | None, float | None] = (None, None)
    ticks: Sequence[float] = ()
    names: Sequence[str] = ()


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
        ``margin``: end labels in a column at the right; ``point``: at the right of each end, or
        beside its anchor; ``beside``: on the free side of each end; ``legend``: below the axes.
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


def line_picture(
    name: str,
    plots: Sequence[Plot],
    size: tuple[float, float],
    alt: str,
    *,
    columns: int | None = None,
    title: str = "",
) -> Picture:
    """Draw curves on one or more axes, labelled at their ends or by a legend below.

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
    columns
        Axes in a row; all of them by default.
    title
        Above all axes.
    """
    with style():
        figure = Figure(figsize=size)
        across = min(columns or len(plots), len(plots))
        grid = figure.subplots(math.ceil(len(plots) / across), across, squeeze=False).flatten()
        for ax in grid[len(plots) :]:
            ax.remove()
        if title:
            figure.suptitle(title, x=0.008, ha="left", fontsize=13, fontweight="bold")
        drawn: list[tuple[Axes, Plot, list[Annotation]]] = []
        letters = max(12, int((72.0 * size[0] / across - TICK_ROOM) / TITLE_LETTER))
        for ax, plot in zip(grid, plots, strict=False):
            _draw(ax, plot)
            ax.set_title(fill(plot.title, letters))
            named = [line for line in plot.lines if not line.quiet and plot.labels != "legend"]
            drawn.append((ax, plot, [end_label(ax, line, plot.labels) for line in named]))
        if any(plot.labels == "legend" for plot in plots):
            legend(figure, plots)
        # Two passes: labels claim their room first, and only then is the height in points known.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for ax, plot, labels in drawn:
            place_labels(ax, plot, labels)
    rows = [row for plot in plots for row in _rows(plot)]
    return Picture(name, figure, ("panel", "series", "x", "y", "error"), rows, alt)


def _rows(plot: Plot) -> list[Row]:
    rows: list[Row] = []
    for line in plot.lines:
        errors = line.error if line.error is not None else [float("nan")] * len(line.x)
        for x, y, error in zip(line.x, line.y, errors, strict=True):
            rows.append((plot.title, line.label, float(x), float(y), float(error)))
    return rows


def _draw(ax: Axes, plot: Plot) -> None:
    many = len(plot.lines) > FEW_LINES
    for line in plot.lines:
        _draw_line(ax, line, 0.06 if many else 0.16)
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
    _set_axis(ax, "x", plot.x)
    _set_axis(ax, "y", plot.y)


def _draw_line(ax: Axes, line: Line, band: float) -> None:
    colour = PALETTE[line.colour]
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    if line.error is not None:
        half = np.nan_to_num(np.asarray(line.error, float))
        if line.joined and len(x) > 1:
            ax.fill_between(x, y - half, y + half, color=colour, alpha=band, lw=0, zorder=2)
        else:
            ax.vlines(x, y - half, y + half, color=colour, lw=1.6, alpha=0.7, zorder=2)
    dots = DOTS if line.quiet else DASHES
    ax.plot(
        x,
        y,
        color=colour,
        lw=line.width if line.joined else 0.0,
        alpha=line.alpha,
        ls=dots if line.dashed else "-",
        marker=line.marker or None,
        ms=7.0 if not line.joined else None if line.width > THIN else 3.4,
        zorder=line.zorder,
        drawstyle="steps-post" if line.stairs else "default",
        label=line.label,
    )
    if any(line.hollow):
        open_ones = np.asarray(line.hollow, bool)
        # Drawn over the filled ones, which show through nowhere.
        ax.plot(
            x[open_ones],
            y[open_ones],
            marker=line.marker or "o",
            mfc=PALETTE["card"],
            mec=colour,
            mew=1.6,
            lw=0.0,
            zorder=line.zorder + 0.1,
        )


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
    if axis.names:
        side.set_major_formatter(FixedFormatter(list(axis.names)))
    if which == "x":
        ax.set_xlim(*axis.limits)
        low, high = ax.get_xlim()
    else:
        ax.set_ylim(*axis.limits)
        low, high = ax.get_ylim()
    if axis.log and not len(axis.ticks) and high < FEW_DECADES * low:
        side.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
