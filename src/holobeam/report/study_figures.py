"""Figures of studies: results and a figure's table in, a picture out.

A kind of figure is one function in :data:`DRAWERS`. Curves are told apart by what the table says of
``x``: any ``x`` that is not there is an axis of the sweep. They make plots and are wrapped by
:func:`curves`; any other kind makes its picture itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from holobeam.report.figures import Axis, Line, Picture, Plot, line_picture
from holobeam.report.labels import legend_columns
from holobeam.report.study_data import SPENT, Panel, Spot, measure, panels, relative, spots, tensor
from holobeam.report.study_fields import beam_pictures
from holobeam.report.study_words import (
    QUANTITIES,
    Look,
    axis_label,
    looks,
    quantity_words,
    value_words,
)
from holobeam.studies.plan import number
from holobeam.studies.results import Results
from holobeam.studies.spec import FigureTable
from holobeam.studies.statistics import Estimate, estimate

END_LABELS = 8
"""Curves that are named at their ends; more of them get a legend."""

WIDTH = 9.2
"""Inches: drawn at this width on a page, letters have the size of the page's small ones."""

BESIDE_LABELS = 16
"""Marks that are named beside themselves."""

LONGEST_END_LABEL = 44
"""Letters of a name that still fits beside the axes."""

CURVE_POINTS = 400
"""Points that a distribution is drawn with."""

Plotter = Callable[[FigureTable, Results], list[Plot]]
"""Makes the plots of a figure; plots without lines are left out."""

Drawer = Callable[[FigureTable, Results, str], Picture | None]
"""Draws a figure under a name; None if there are no results for it."""


def figures_of(results: Results) -> list[FigureTable]:
    """Figures that a study asks for; one of our choice if it asks for none."""
    study = results.study
    if study.figures:
        return list(study.figures)
    long_axes = [axis for axis, values in study.sweep.items() if len(values) > 1]
    axis = next(iter([*reversed(long_axes), *study.variations]), "user_rate")
    return [FigureTable(title=study.title, x=axis)]


def draw(figure: FigureTable, results: Results, name: str) -> Picture | None:
    """Draw a figure; None if there are no results for it.

    Parameters
    ----------
    figure
        From the study file.
    results
        What was measured.
    name
        Stem of its files.
    """
    kind = figure.x if figure.kind == "curves" else figure.kind
    return DRAWERS.get(kind, curves(along_axis))(figure, results, name)


def curves(plotter: Plotter) -> Drawer:
    """Make a kind of figure out of a function that makes its plots."""
    return partial(_draw_curves, plotter)


def _draw_curves(
    plotter: Plotter, figure: FigureTable, results: Results, name: str
) -> Picture | None:
    plots = [plot for plot in plotter(figure, results) if plot.lines]
    if not plots:
        return None
    many = len(plots) > 1
    lines = [line for plot in plots for line in plot.lines if not line.quiet]
    names = list(dict.fromkeys(line.label for line in lines))
    labels = _labels_of(plots, names)
    below = labels == "legend"
    plots = [
        replace(plot, title=plot.title if many else figure.title, labels=labels) for plot in plots
    ]
    alt = f"{figure.title}: {plots[0].y.label} against {plots[0].x.label} of {', '.join(names)}"
    columns = 2 if len(plots) in {2, 4} else min(3, len(plots))
    if columns > 2:
        plots = [replace(plot, lines=[_thin(line) for line in plot.lines]) for plot in plots]
    size = _size(len(plots), columns, names if below else [])
    return line_picture(name, plots, size, alt, columns=columns, title=figure.title if many else "")


def _labels_of(plots: Sequence[Plot], names: Sequence[str]) -> str:
    """Where names go: where the plot wants them, if there is room for them."""
    wanted = plots[0].labels
    most = BESIDE_LABELS if wanted == "beside" else END_LABELS
    longest = max(map(len, names))
    room = len(plots) == 1 and len(names) <= most and longest <= LONGEST_END_LABEL
    return wanted if room else "legend"


def _thin(line: Line) -> Line:
    """Curve for small axes."""
    return replace(line, width=0.6 * line.width)


def _size(plots: int, columns: int, names: Sequence[str]) -> tuple[float, float]:
    rows = math.ceil(plots / columns)
    legend_rows = math.ceil(len(names) / legend_columns(names, WIDTH)) if names else 0
    height = {1: 4.8, 2: 3.7, 3: 3.1}[columns]
    return WIDTH, rows * height + 0.4 + 0.22 * legend_rows


def _line(label: str, look: Look, x: Sequence[float], y: Sequence[float]) -> Line:
    return Line(
        label,
        x,
        y,
        look.colour,
        dashed=look.dashed,
        width=look.width,
        alpha=look.alpha,
        marker=look.marker,
        zorder=2.5 if look.alpha < 1 else 3.0,
    )


def _who(figure: FigureTable, results: Results) -> list[str]:
    labels = figure.solvers or results.labels()
    return [label for label in labels if label in results.labels() and label != figure.relative_to]


def along_axis(figure: FigureTable, results: Results) -> list[Plot]:
    """A quantity along an axis of the sweep: curves over numbers, points over words."""
    found = spots(results, figure, figure.x)
    worded = any(number(spot.value) is None for spot in found)
    words = list(dict.fromkeys(value_words(spot.value) for spot in found)) if worded else []
    known, who = looks(results.study), _who(figure, results)
    plots = []
    groups = panels(found, figure.x, figure.panels)
    for panel in groups:
        lines = []
        for place, label in enumerate(who):
            shift = 0.6 * ((place + 0.5) / len(who) - 0.5) if worded else 0.0
            line = _axis_line(
                figure, results, panel, (label, known[label]), words if worded else []
            )
            if line is not None:
                moved = [x + shift for x in line.x]
                if worded:
                    line = replace(line, joined=False, marker=line.marker or "o", alpha=1.0)
                lines.append(replace(line, x=moved))
        x = _words_axis(figure, words) if worded else _numbers_axis(figure, found, len(groups))
        levels = [(100.0, figure.relative_to)] if figure.relative_to else []
        y, labels = _value_axis(results, figure, lines), "legend" if worded else "margin"
        plots.append(Plot(panel.title, lines, x, y, labels, levels))
    return plots


def _axis_line(
    figure: FigureTable,
    results: Results,
    panel: Panel,
    who: tuple[str, Look],
    words: Sequence[str],
) -> Line | None:
    label, look = who
    marks: list[tuple[float, Estimate, bool]] = []
    for spot in panel.spots:
        value = _estimate(figure, results, spot, label)
        if value is None or not math.isfinite(value.mean):
            continue
        place = words.index(value_words(spot.value)) if words else number(spot.value)
        timing = results.timing(spot.point, label, figure.batch)
        busy = figure.y == "milliseconds" and timing is not None and timing.contended
        marks.append((float(place or 0.0), value, busy))
    if not marks:
        return None
    marks.sort(key=lambda mark: mark[0])
    line = _line(label, look, [m[0] for m in marks], [m[1].mean for m in marks])
    return replace(
        line,
        error=[m[1].half_width for m in marks],
        hollow=[m[2] for m in marks],
        # A curve of one point is seen by its marker alone.
        marker=line.marker or ("o" if len(marks) == 1 else ""),
    )


def _estimate(figure: FigureTable, results: Results, spot: Spot, label: str) -> Estimate | None:
    if figure.relative_to:
        labels = (label, figure.relative_to)
        return relative(results, spot.point, labels, figure.y, figure.batch)
    return measure(results, spot.point, label, figure.y, figure.batch)


def _words_axis(figure: FigureTable, words: Sequence[str]) -> Axis:
    ticks = [float(place) for place in range(len(words))]
    return Axis(axis_label(figure.x), limits=(-0.5, len(words) - 0.5), ticks=ticks, names=words)


def _numbers_axis(figure: FigureTable, found: Sequence[Spot], groups: int) -> Axis:
    """Axis with ticks at the values of the sweep where there is room for them."""
    names = {number(spot.value) or 0.0: value_words(spot.value) for spot in found}
    places = sorted(names)
    log = figure.log_x and places[0] > 0
    shown = np.log(places) if log else np.asarray(places)
    gaps = np.diff(shown) / max(float(np.ptp(shown)), 1e-12)
    room = 0.045 * min(groups, 3) * max(1.0, max(map(len, names.values())) / 3)
    if len(places) > 1 and float(gaps.min()) < room:
        return Axis(axis_label(figure.x), log)
    return Axis(axis_label(figure.x), log, ticks=places, names=[names[p] for p in places])


def _value_axis(results: Results, figure: FigureTable, lines: Sequence[Line]) -> Axis:
    label = quantity_words(results.study, figure.y)
    if figure.relative_to:
        label = f"{label.split(' (')[0]}, % of {figure.relative_to}"
    values = [value for line in lines for value in line.y]
    log = figure.log_y and bool(values) and min(values) > 0
    near = not values or min(values) > 0.5 * max(values) or min(values) < 0
    return Axis(label, log, (None if log or near or figure.relative_to else 0.0, None))


def over_iterations(figure: FigureTable, results: Results) -> list[Plot]:
    """Mean of the best objective so far after each iteration."""
    known = looks(results.study)
    plots = []
    shift = 1 if figure.log_x else 0
    for panel in _fixed(figure, results):
        lines = []
        for label in _who(figure, results):
            series = results.get(panel.spots[0].point, label)
            if series is None or series.history is None:
                continue
            scale = _scale(figure, results, panel)
            steps = [estimate(tensor(column)) for column in series.history.T]
            mean = [scale * step.mean for step in steps]
            line = _line(label, known[label], [float(i + shift) for i in range(len(mean))], mean)
            error = [scale * step.half_width for step in steps]
            lines.append(replace(line, error=error, marker="" if len(mean) > 1 else "o"))
        name = "iteration (1: the start)" if shift else "iteration"
        y = _value_axis(results, figure.model_copy(update={"y": "history"}), lines)
        plots.append(Plot(panel.title, lines, Axis(name, log=bool(shift)), y))
    return plots


def _scale(figure: FigureTable, results: Results, panel: Panel) -> float:
    """Percent of where the contestant that others are relative to ends."""
    if not figure.relative_to:
        return 1.0
    point = panel.spots[0].point
    end = measure(results, point, figure.relative_to, "history") or measure(
        results, point, figure.relative_to, "sum_rate"
    )
    return math.nan if end is None or end.mean == 0.0 else 100.0 / end.mean


def distribution(figure: FigureTable, results: Results) -> list[Plot]:
    """Share of users below a rate, over all channels."""
    known = looks(results.study)
    plots = []
    for panel in _fixed(figure, results):
        lines = []
        for label in _who(figure, results):
            series = results.get(panel.spots[0].point, label)
            if series is None:
                continue
            rates = np.sort(series.rates.reshape(-1))
            share = np.arange(1, rates.size + 1) / rates.size
            some = np.unique(np.linspace(0, rates.size - 1, CURVE_POINTS).astype(int))
            line = _line(label, known[label], rates[some].tolist(), share[some].tolist())
            lines.append(replace(line, marker=""))
        x = Axis("rate of a user (bit/s/Hz)", limits=(0.0, None))
        y = Axis("share of users below", limits=(0.0, 1.01), ticks=(0, 0.25, 0.5, 0.75, 1))
        # All curves end at 1: there is no telling them apart there.
        plots.append(Plot(panel.title, lines, x, y, "legend"))
    return plots


def _fixed(figure: FigureTable, results: Results) -> list[Panel]:
    """One panel for each point: what is drawn lies within a point."""
    found = [Spot(None, point) for point in results.points(figure.where)]
    return panels(found, "", figure.panels)


def against_time(figure: FigureTable, results: Results) -> list[Plot]:
    """A quantity against solve time, and the frontier: what no other reaches sooner."""

    def place(spot: Spot, label: str) -> tuple[float, bool] | None:
        timing = results.timing(spot.point, label, figure.batch)
        return None if timing is None else (timing.milliseconds, timing.contended)

    text = "one channel at a time" if figure.batch == 1 else f"{figure.batch} channels at once"
    return _against(figure, results, place, f"time per channel (ms), {text}")


def against_dc_power(figure: FigureTable, results: Results) -> list[Plot]:
    """A quantity against the mean DC power of the transmitter, and the frontier."""

    def place(spot: Spot, label: str) -> tuple[float, bool] | None:
        watts = measure(results, spot.point, label, "dc_watts")
        return None if watts is None else (watts.mean, False)

    return _against(figure, results, place, "DC power of the transmitter (W)")


def against_training(quantity: str, figure: FigureTable, results: Results) -> list[Plot]:
    """A quantity against what training took, and the frontier."""

    def place(spot: Spot, label: str) -> tuple[float, bool] | None:
        found = measure(results, spot.point, label, quantity)
        return None if found is None else (found.mean, False)

    return _against(figure, results, place, QUANTITIES[quantity])


Placing = Callable[[Spot, str], tuple[float, bool] | None]
"""Where a contestant stands at a spot, and whether its mark is left open."""


def _against(figure: FigureTable, results: Results, place: Placing, name: str) -> list[Plot]:
    known = looks(results.study)
    found = [Spot(None, point) for point in results.points(figure.where)]
    plots = []
    for panel in panels(found, "", figure.panels, every=False):
        lines = []
        for label in _who(figure, results):
            line = _placed_line(figure, results, panel, (label, known[label]), place)
            if line is not None:
                lines.append(line)
        if len(lines) > 1:
            lines.append(_frontier(lines))
        x = Axis(name, log=figure.log_x)
        plots.append(Plot(panel.title, lines, x, _value_axis(results, figure, lines), "beside"))
    return plots


def _placed_line(
    figure: FigureTable, results: Results, panel: Panel, who: tuple[str, Look], place: Placing
) -> Line | None:
    label, look = who
    marks = set()
    for spot in panel.spots:
        at, value = place(spot, label), _estimate(figure, results, spot, label)
        if at is not None and value is not None:
            marks.add((at[0], value.mean, at[1]))
    if not marks:
        return None
    ordered = sorted(marks)
    line = _line(label, look, [m[0] for m in ordered], [m[1] for m in ordered])
    return replace(line, marker=look.marker or "o", hollow=[m[2] for m in ordered], width=1.6)


def _frontier(lines: Sequence[Line]) -> Line:
    marks = sorted((x, -y) for line in lines for x, y in zip(line.x, line.y, strict=True))
    end = marks[-1][0]
    x: list[float] = []
    y: list[float] = []
    for time, height in marks:
        if not y or -height > y[-1]:
            x.append(time)
            y.append(-height)
    line = Line("frontier", [*x, end], [*y, y[-1]], "muted", dashed=True, width=1.4)
    return replace(line, stairs=True, quiet=True, zorder=1.5)


DRAWERS: dict[str, Drawer] = {
    "iteration": curves(over_iterations),
    "user_rate": curves(distribution),
    "milliseconds": curves(against_time),
    "dc_watts": curves(against_dc_power),
    "field": beam_pictures,
    **{quantity: curves(partial(against_training, quantity)) for quantity in SPENT},
}
"""Kinds of figures by ``kind``, those that are curves by ``x``."""
