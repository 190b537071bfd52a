"""Relations between contestants, decided with confidence: confirmed, refuted, or undecided.

Every mean is judged by a confidence interval on the paired channels. A relation over several points
is confirmed when every point confirms it, each at a level that keeps the whole at
:data:`CONFIDENCE`; it is refuted as soon as one point refutes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from holobeam.studies.plan import NOMINAL, Point, axis_paths, number, show
from holobeam.studies.results import OUTAGE, Floats, Results, Series, Timing
from holobeam.studies.spec import (
    Bound,
    Cheaper,
    Converges,
    Exponent,
    Faster,
    Monotone,
    Order,
    Relation,
    Steady,
)
from holobeam.studies.trainings import spent

CONFIDENCE = 0.99
"""Of the whole relation."""

NEGLIGIBLE = 1e-6
"""bits/s/Hz: margins below it are there for ties alone, and are not spelled out."""

RESAMPLES = 400
"""Draws of channels that the error of a quantile is taken from."""

QUANTITY_WORDS = {
    "sum_rate": "",
    "worst_user": " (worst user)",
    "outage_user": " (user rate at 5 % outage)",
    "snr_db": " (dB of SNR)",
    "decades": " (decades)",
    "outage_rate": " (sum rate at 5 % outage over errors)",
    "worst_rate": " (worst case over errors)",
}

FEASIBLE = 1e-6
"""Largest breach of a constraint, relative, that counts as rounding."""


class Decision(StrEnum):
    """What the data say of a relation."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    ABSENT = "not there"


@dataclass(frozen=True)
class Finding:
    """What the data say of one relation in one setting.

    Attributes
    ----------
    text
        The relation in words.
    setting
        Where it was looked at.
    decision
        What came out.
    margin
        Smallest distance from failing over the points, in standard errors (or as a logarithm of a
        factor, for times): what makes one setting closer to holding than another.
    detail
        The point that decided, with its numbers.
    """

    text: str
    setting: str
    decision: Decision
    margin: float
    detail: str


@dataclass(frozen=True)
class _Test:
    """One comparison: mean difference, its standard error, and where."""

    where: str
    mean: float
    error: float


def judge(relation: Relation, results: Results, setting: str = NOMINAL) -> Finding:
    """Decide a relation in a setting.

    Parameters
    ----------
    relation
        From the study file.
    results
        What was measured.
    setting
        Which points; the nominal ones by default.
    """
    decide = _JUDGES[type(relation)]
    return decide(relation, results, setting)


def _order(relation: Order, results: Results, setting: str) -> Finding:
    text = f"{relation.above} above {relation.below}"
    if relation.ratio is not None:
        text += f" by a factor {relation.ratio:g}"
    elif abs(relation.margin) > NEGLIGIBLE:
        text += f" by {relation.margin:+g}"
    text += QUANTITY_WORDS[relation.quantity]
    tests = []
    for point in results.points(relation.where, setting):
        pair = _pair(results, point, relation.above, relation.below, relation.quantity)
        if pair is None:
            continue
        above, below = pair
        factor = 1.0 if relation.ratio is None else relation.ratio
        if relation.quantity == "outage_user":
            tests.append(_outage_test(point.label, above, factor * below, relation.margin))
        else:
            tests.append(_test(point.label, above - factor * below - relation.margin))
    if relation.pooled and tests:
        tests = [_pooled(tests)]
    return _decide(text, setting, tests)


def _bound(relation: Bound, results: Results, setting: str) -> Finding:
    text = f"{relation.above} below {relation.below} on no channel"
    gaps = []
    for point in results.points(relation.where, setting):
        pair = _pair(results, point, relation.above, relation.below, "sum_rate")
        if pair is not None:
            gaps.append((float((pair[0] - pair[1]).min()), point.label))
    if not gaps:
        return Finding(text, setting, Decision.ABSENT, math.nan, "no paired channels")
    gap, where = min(gaps)
    decision = Decision.CONFIRMED if gap >= -relation.within else Decision.REFUTED
    detail = f"smallest difference {gap:+.2g} at {where}"
    return Finding(text, setting, decision, gap + relation.within, detail)


def _pooled(tests: Sequence[_Test]) -> _Test:
    mean = sum(t.mean for t in tests) / len(tests)
    # The same channels at every point: errors may move together, so they are not divided.
    error = sum(t.error for t in tests) / len(tests)
    return _Test("mean over the points", mean, error)


def _pair(
    results: Results, point: Point, first: str, second: str, quantity: str
) -> tuple[Floats, Floats] | None:
    """Numbers of two contestants on the channels that both have."""
    a, b = results.get(point, first), results.get(point, second)
    if a is None or b is None:
        return None
    _, left, right = np.intersect1d(a.channel, b.channel, return_indices=True)
    name = "rates" if quantity == "outage_user" else quantity
    one, two = getattr(a, name), getattr(b, name)
    if left.size < 2 or one is None or two is None:
        return None
    return one[left], two[right]


def _outage_test(where: str, above: Floats, below: Floats, margin: float) -> _Test:
    """Difference of the rates that 5 % of users are below; error by drawing channels again."""
    picks = np.random.default_rng(0).integers(0, len(above), (RESAMPLES, len(above)))

    def low(rates: Floats) -> float:
        return float(np.quantile(rates, OUTAGE))

    again = [low(above[rows]) - low(below[rows]) for rows in picks]
    return _Test(where, low(above) - low(below) - margin, float(np.std(again, ddof=1)))


def _test(where: str, sample: Floats) -> _Test:
    return _Test(where, float(sample.mean()), float(sample.std(ddof=1) / math.sqrt(sample.size)))


def _decide(text: str, setting: str, tests: Sequence[_Test]) -> Finding:
    if not tests:
        return Finding(text, setting, Decision.ABSENT, math.nan, "no paired channels")
    quantile = NormalDist().inv_cdf(1.0 - (1.0 - CONFIDENCE) / len(tests))
    worst = min(tests, key=_standing)
    margin = _standing(worst)
    if margin > quantile:
        decision = Decision.CONFIRMED
    elif margin < -quantile:
        decision = Decision.REFUTED
    else:
        decision = Decision.UNDECIDED
    detail = f"{worst.mean:+.3f} ± {1.96 * worst.error:.3f} at {worst.where}"
    return Finding(text, setting, decision, margin, detail)


def _standing(test: _Test) -> float:
    """Mean in standard errors; differences that are exactly the same on all channels have none."""
    if test.error <= 1e-12:
        return math.copysign(math.inf, test.mean) if abs(test.mean) > 1e-9 else 0.0
    return test.mean / test.error


def _monotone(relation: Monotone, results: Results, setting: str) -> Finding:
    who = relation.solvers or results.labels()
    text = f"{', '.join(relation.solvers) or 'every solver'} {relation.direction} with "
    text += relation.along.split(".")[-1]
    sign = 1.0 if relation.direction == "up" else -1.0
    tests = []
    for label in who:
        for line in _lines(relation.along, results.points(relation.where, setting)):
            steps = [(line[0], line[-1])] if relation.ends else list(pairwise(line))
            for low, high in steps:
                a, b = results.get(low, label), results.get(high, label)
                if a is None or b is None:
                    continue
                where = f"{label}: {low.label} -> {show(high.at(relation.along))}"
                tests.append(_step(where, a, b, sign, relation.margin))
    return _decide(text, setting, tests)


def _step(where: str, low: Series, high: Series, sign: float, margin: float) -> _Test:
    """Difference of two points: paired where they have the same users on the same channels."""
    same = low.channel.size == high.channel.size and (low.channel == high.channel).all()
    if same and low.rates.shape == high.rates.shape:
        return _test(where, sign * (high.sum_rate - low.sum_rate) - margin)
    mean = sign * float(high.sum_rate.mean() - low.sum_rate.mean()) - margin
    variance = sum(float(s.sum_rate.var(ddof=1)) / len(s) for s in (low, high))
    return _Test(where, mean, math.sqrt(variance))


def _lines(along: str, points: Sequence[Point]) -> list[list[Point]]:
    """Points in groups that differ along one axis only, each in ascending order."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        rest = [
            show(value)
            for axis, value in point.coordinates
            if axis != along and along not in axis_paths(axis)
        ]
        groups.setdefault("|".join(rest), []).append(point)

    def place(point: Point) -> float:
        value = number(point.at(along))
        return 0.0 if value is None else value

    return [sorted(group, key=place) for group in groups.values() if len(group) > 1]


def _steady(relation: Steady, results: Results, setting: str) -> Finding:
    text = f"{', '.join(relation.solvers)} never fall from one iteration to the next"
    worst, where = 0.0, ""
    seen = False
    for point in results.points(relation.where, setting):
        for label in relation.solvers:
            found = results.get(point, label)
            if found is None or found.history is None:
                continue
            seen = True
            fall = float(-np.diff(found.history, axis=1).min(initial=0.0))
            if fall > worst:
                worst, where = fall, f"{label} at {point.label}"
    if not seen:
        return Finding(text, setting, Decision.ABSENT, math.nan, "no history was kept")
    holds = worst <= relation.within
    decision = Decision.CONFIRMED if holds else Decision.REFUTED
    detail = f"largest fall {worst:.1e} {where}".strip()
    return Finding(text, setting, decision, relation.within - worst, detail)


def _converges(relation: Converges, results: Results, setting: str) -> Finding:
    text = f"{relation.solver} reaches {relation.share:.0%} of its end by iteration "
    text += f"{relation.iterations}"
    tests = []
    for point in results.points(relation.where, setting):
        found = results.get(point, relation.solver)
        if found is None or found.history is None:
            continue
        at = min(relation.iterations, found.history.shape[1] - 1)
        end = found.history[:, -1]
        tests.append(_test(point.label, found.history[:, at] - relation.share * end))
    return _decide(text, setting, tests)


def _exponent(relation: Exponent, results: Results, setting: str) -> Finding:
    text = f"time of {relation.solver} grows with {relation.along.split('.')[-1]} to a power "
    text += f"in [{relation.low:g}, {relation.high:g}]"
    found, seen = [], []
    for line in _lines(relation.along, results.points(relation.where, setting)):
        times = [(p, results.timing(p, relation.solver, relation.batch)) for p in line]
        known = [
            (x, t.milliseconds)
            for p, t in times
            if t is not None and (x := number(p.at(relation.along)))
        ]
        seen += [t for _, t in times if t is not None]
        if len(known) > 2:
            found.append((fit_exponent(known), line[0].label))
    if not found:
        return Finding(text, setting, Decision.ABSENT, math.nan, "too few times")
    margins = [min(e - relation.low, relation.high - e) for e, _ in found]
    margin = min(margins)
    exponent, where = found[margins.index(margin)]
    return _timed(text, setting, margin, f"exponent {exponent:.2f} from {where} on", seen)


def _timed(text: str, setting: str, margin: float, detail: str, times: Sequence[Timing]) -> Finding:
    """Decide by times, unless other work ran beside them: such times decide nothing."""
    contended = sum(time.contended for time in times)
    if contended:
        detail = f"{detail}; {contended} of {len(times)} times are contended"
        return Finding(text, setting, Decision.UNDECIDED, margin, detail)
    decision = Decision.CONFIRMED if margin >= 0 else Decision.REFUTED
    return Finding(text, setting, decision, margin, detail)


def fit_exponent(points: Sequence[tuple[float, float]]) -> float:
    """Slope of a line through logarithms."""
    x, y = np.log(np.asarray(points, dtype=np.float64)).T
    return float(np.polyfit(x, y, 1)[0])


def _faster(relation: Faster, results: Results, setting: str) -> Finding:
    text = f"{relation.solver} at least {relation.factor:g} times as fast as {relation.than}"
    ratios, seen = [], []
    for point in results.points(relation.where, setting):
        a = results.timing(point, relation.solver, relation.batch)
        b = results.timing(point, relation.than, relation.batch)
        if a is not None and b is not None:
            ratios.append((b.milliseconds / a.milliseconds, point.label))
            seen += [a, b]
    if not ratios:
        return Finding(text, setting, Decision.ABSENT, math.nan, "no times")
    ratio, where = min(ratios)
    margin = math.log(ratio / relation.factor)
    return _timed(text, setting, margin, f"{ratio:.1f} times at {where}", seen)


def _cheaper(relation: Cheaper, results: Results, setting: str) -> Finding:
    what = relation.quantity.replace("_", " ")
    text = f"{relation.solver} takes no more {what} than {relation.than}"
    if relation.factor != 1.0:
        text += f" over {relation.factor:g}"
    found = []
    for point in results.points(relation.where, setting):
        one = results.training(point, relation.solver)
        two = results.training(point, relation.than)
        if one is None or two is None:
            continue
        ratio = spent(two, relation.quantity) / spent(one, relation.quantity)
        # Who did not come where it was to come has not shown what it takes.
        shown = one.came_through or relation.quantity == "parameters"
        found.append((ratio if shown else 0.0, point.label, shown))
    if not found:
        return Finding(text, setting, Decision.ABSENT, math.nan, "no trainings")
    ratio, where, reached = min(found)
    detail = f"{ratio:.2f} times at {where}"
    if not reached:
        detail = f"{relation.solver} does not reach what it was to reach at {where}"
    margin = math.log(ratio / relation.factor) if ratio > 0 else -math.inf
    decision = Decision.CONFIRMED if margin >= 0 else Decision.REFUTED
    return Finding(text, setting, decision, margin, detail)


_JUDGES: dict[type, Callable[[Any, Results, str], Finding]] = {
    Order: _order,
    Bound: _bound,
    Monotone: _monotone,
    Steady: _steady,
    Converges: _converges,
    Exponent: _exponent,
    Faster: _faster,
    Cheaper: _cheaper,
}


def infeasible(results: Results) -> list[str]:
    """One line for each series that breaks a constraint: always an error of ours."""
    return [
        f"{s.label} at {s.point.label}: violation {float(s.violation.max()):.1e}"
        for s in results.series.values()
        if len(s) and float(s.violation.max()) > FEASIBLE
    ]
