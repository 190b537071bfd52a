"""Where the names of curves go: to their ends, or into a legend below the axes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from holobeam.report.style import PALETTE

if TYPE_CHECKING:
    from holobeam.report.figures import Line, Plot

MARGIN = 1.035
"""Where the column of end labels begins, in widths of the axes."""

DASHES = (0, (3.5, 2.2))
DOTS = (0, (1, 2))

LETTER = 5.6
"""Mean width of a letter of a legend, points."""


def legend(figure: Figure, plots: Sequence[Plot]) -> None:
    """Put one legend for all axes below them, each name once."""
    lines = {line.label: line for plot in plots for line in plot.lines if not line.quiet}
    handles = [_handle(line) for line in lines.values()]
    # Names that begin with an underscore would be left out by matplotlib.
    names = [f" {name}" if name.startswith("_") else name for name in lines]
    columns = legend_columns(names, figure.get_figwidth())
    figure.legend(
        handles, names, loc="outside lower left", ncols=columns, fontsize=10, handlelength=2.4
    )


def legend_columns(names: Sequence[str], width: float) -> int:
    """Columns of a legend that is as wide as a figure of some inches."""
    widest = LETTER * max(map(len, names), default=1) + 46.0
    return max(1, min(len(names), int(72.0 * width / widest)))


def _handle(line: Line) -> Line2D:
    return Line2D(
        [],
        [],
        color=PALETTE[line.colour],
        lw=line.width if line.joined else 0.0,
        ls=DASHES if line.dashed else "-",
        alpha=line.alpha,
        marker=line.marker or None,
    )


def end_label(ax: Axes, line: Line, where: str) -> Annotation:
    """Write the name of a curve where it ends, or beside its anchor."""
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


def place_labels(ax: Axes, plot: Plot, labels: Sequence[Annotation]) -> None:
    """Move end labels up and down until none touches another; leaders show where they belong."""
    named = [line for line in plot.lines if not line.quiet]
    at_end = [place for place, line in enumerate(named) if line.anchor is None]
    if plot.labels != "margin" or not at_end:
        return
    lines = [named[place] for place in at_end]
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
