"""Numbers of studies as figures and tables want them: estimates, pairs, panels of points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from holobeam.report.study_words import at_words
from holobeam.studies.plan import NOMINAL, Point, axis_paths, show
from holobeam.studies.results import OUTAGE, Floats, Results, Series
from holobeam.studies.spec import FigureTable, Spent
from holobeam.studies.statistics import Estimate, estimate, outage, paired_ratio
from holobeam.studies.trainings import spent
from holobeam.studies.verdicts import nominal_value

SPENT: tuple[str, ...] = get_args(Spent)
"""Quantities that trainings take."""


@dataclass(frozen=True)
class Spot:
    """A point of the sweep and its value on the axis that is drawn along."""

    value: Any
    point: Point


@dataclass(frozen=True)
class Panel:
    """Points that share one set of axes."""

    title: str
    spots: tuple[Spot, ...]


def tensor(sample: Floats) -> Tensor:
    """Sample for the functions of :mod:`holobeam.studies.statistics`."""
    return torch.from_numpy(np.ascontiguousarray(sample, dtype=np.float64))


def per_channel(series: Series, quantity: str) -> Floats | None:
    """``(B,)`` numbers of a quantity, one per channel; None if it has none per channel."""
    found: Floats | None = None
    match quantity:
        case "history" if series.history is not None:
            found = series.history[:, -1]
        case "sum_rate":
            found = series.sum_rate
        case "worst_user":
            found = series.worst_user
        case "snr_db":
            found = series.snr_db
        case "outage_rate":
            found = series.outage_rate
        case "worst_rate":
            found = series.worst_rate
        case "rate_per_user":
            found = series.rates.mean(axis=1)
        case "iterations":
            found = series.iterations.astype(np.float64)
        case "dc_watts":
            found = series.dc_power / 1e3
    return found


def measure(
    results: Results, point: Point, label: str, quantity: str, batch: int = 1
) -> Estimate | None:
    """Estimate of a quantity; None if nothing is there.

    Times are medians over repeats, outages quantiles over users and channels, medians those over
    channels: all come without a standard error.
    """
    if quantity == "milliseconds":
        timing = results.timing(point, label, batch)
        return None if timing is None else Estimate(timing.milliseconds, math.nan, 1)
    if quantity in SPENT:
        record = results.training(point, label)
        return None if record is None else Estimate(spent(record, quantity), math.nan, 1)
    series = results.get(point, label)
    if series is None:
        return None
    if quantity == "outage_user":
        return Estimate(outage(tensor(series.rates), OUTAGE), math.nan, len(series))
    if quantity == "median":
        return Estimate(float(np.median(series.sum_rate)), math.nan, len(series))
    sample = per_channel(series, quantity)
    return None if sample is None else estimate(tensor(sample))


def relative(
    results: Results, point: Point, labels: tuple[str, str], quantity: str, batch: int = 1
) -> Estimate | None:
    """Quantity of the first label as percent of the second's, paired where it can be."""
    first, second = (results.get(point, label) for label in labels)
    if (
        quantity not in {"milliseconds", "outage_user", "median", *SPENT}
        and first is not None
        and second is not None
    ):
        pair = paired(first, second, quantity)
        if pair is not None:
            found = paired_ratio(*pair)
            return Estimate(100.0 * found.mean, 100.0 * found.standard_error, found.count)
    a, b = (measure(results, point, label, quantity, batch) for label in labels)
    if a is None or b is None or b.mean == 0.0:
        return None
    return Estimate(100.0 * a.mean / b.mean, math.nan, min(a.count, b.count))


def paired(
    first: Series, second: Series, quantity: str = "sum_rate"
) -> tuple[Tensor, Tensor] | None:
    """Numbers of two contestants on the channels that both have; None if there are none."""
    a, b = per_channel(first, quantity), per_channel(second, quantity)
    _, left, right = np.intersect1d(first.channel, second.channel, return_indices=True)
    if a is None or b is None or not left.size:
        return None
    return tensor(a[left]), tensor(b[right])


def spots(results: Results, figure: FigureTable, axis: str) -> list[Spot]:
    """Points of a figure with their values on an axis of the sweep, or on a varied setting."""
    swept = any(axis == name or axis in axis_paths(name) for name in results.study.sweep)
    if swept or axis not in results.study.variations:
        return [Spot(point.at(axis), point) for point in results.points(figure.where)]
    values = results.study.variations[axis]
    nominal = nominal_value(results, axis)
    found = []
    if nominal is not None and show(nominal) not in map(show, values):
        found = [Spot(nominal, point) for point in results.points(figure.where, NOMINAL)]
    for value in values:
        points = results.points(figure.where, f"{axis}={show(value)}")
        found += [Spot(value, point) for point in points]
    return found


def panels(found: Sequence[Spot], along: str, split: str = "", every: bool = True) -> list[Panel]:
    """Group spots that are drawn on common axes.

    Parameters
    ----------
    found
        Spots in order.
    along
        Axis that is drawn along.
    split
        Path whose values get axes of their own.
    every
        Whether all other axes of the sweep do as well.
    """
    groups: dict[str, list[Spot]] = {}
    titles: dict[str, list[tuple[str, Any]]] = {}
    for spot in found:
        rest = [
            (axis, value)
            for axis, value in spot.point.coordinates
            if not _is(axis, along) and (every or (split and _is(axis, split)))
        ]
        key = "|".join(show(value) for _, value in rest)
        groups.setdefault(key, []).append(spot)
        titles[key] = rest
    alike = {
        axis
        for axis, _ in next(iter(titles.values()), [])
        if len({show(v) for rest in titles.values() for a, v in rest if a == axis}) == 1
    }
    return [
        Panel(", ".join(at_words(a, v) for a, v in titles[key] if a not in alike), tuple(group))
        for key, group in groups.items()
    ]


def _is(axis: str, path: str) -> bool:
    return axis == path or path in axis_paths(axis)
