"""Where the names of curves go: to their ends, or into a legend below the axes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from holobeam.report.style import PALETTE

if TYPE_CHECKING:
    from holobeam.report.figures import Line, Plot

MARGIN = 1.035
"""Where the column of end labels begins, in widths of the axes."""

DASHES = (0, (3.5, 2.2))
DOTS = (0, (1, 2))

Side = tuple[float, float, Literal["left", "center", "right"]]

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
    if plot.labels == "beside":
        _place_beside(ax, plot.lines, labels)
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


def _place_beside(ax: Axes, lines: Sequence[Line], labels: Sequence[Annotation]) -> None:
    """Put the name of each curve to the free side of its last point."""
    reach = 4.0 * ax.figure.dpi / 72.0
    taken = [box for line in lines for box in _boxes(ax, line, reach)]
    inside = ax.get_window_extent()

    def cost(label: Annotation, side: Side) -> float:
        _move(label, side)
        box = label.get_window_extent()
        hits = float(sum(box.overlaps(other) for other in taken))
        outside = bool(box.x0 < inside.x0 or box.x1 > inside.x1 or box.y1 > inside.y1)
        return hits + 3.0 * outside

    for label in labels:
        label.set_fontsize(9)
        label.set_fontweight("normal")
        _move(label, min(SIDES, key=partial(cost, label)))
        taken.append(label.get_window_extent())


def _boxes(ax: Axes, line: Line, reach: float) -> list[Bbox]:
    """Pixels around the marks of a curve, or along its stairs."""
    points = ax.transData.transform(np.column_stack([line.x, line.y]))
    if not line.stairs:
        return [Bbox([point - reach, point + reach]) for point in points]
    flat = [Bbox([a - 1.0, (b[0], a[1] + 1.0)]) for a, b in pairwise(points)]
    steep = [Bbox([(b[0] - 1.0, a[1]), (b[0] + 1.0, b[1])]) for a, b in pairwise(points)]
    return [*flat, *steep]


SIDES: tuple[Side, ...] = (
    (7, 0, "left"),
    (-7, 0, "right"),
    (7, 9, "left"),
    (7, -9, "left"),
    (-7, 9, "right"),
    (-7, -9, "right"),
    (0, 12, "center"),
    (0, -12, "center"),
    (7, 19, "left"),
    (7, -19, "left"),
    (-7, 19, "right"),
    (-7, -19, "right"),
    (0, 24, "center"),
    (0, -24, "center"),
    (7, -31, "left"),
    (-7, -31, "right"),
)
"""Where a name may stand, in points from its mark, the best place first."""


def _move(label: Annotation, side: Side) -> None:
    right, up, align = side
    label.set_position((right, up))
    label.set_horizontalalignment(align)


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
