"""Tables of studies: results, findings, settings, each sortable; and all results as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from holobeam.report.html import badge
from holobeam.report.study_data import SPENT, measure, paired, tensor
from holobeam.report.study_words import (
    TONES,
    axis_label,
    quantity_words,
    sample_words,
    setting_words,
    sort_key,
    value_words,
)
from holobeam.report.tables import Cell, Column, Markup, Value
from holobeam.solvers.solution import Status
from holobeam.studies.checks import Decision, Finding
from holobeam.studies.plan import NOMINAL, Point, show
from holobeam.studies.results import OUTAGE, Results, Series
from holobeam.studies.statistics import (
    Estimate,
    Share,
    estimate,
    outage,
    paired_difference,
    starved_share,
    win_rate,
)
from holobeam.studies.verdicts import Judgement

TableRow = list[Value | Markup | Cell]
Rows = list[TableRow]
NOTHING = "\N{EN DASH}"
CONTENDED_HINT = "≤: other work ran beside, so that the time is an upper bound"


@dataclass(frozen=True)
class ResultRow:
    """A contestant at a point, in numbers.

    Attributes
    ----------
    rate
        Sum rate, bits/s/Hz.
    behind, wins
        Against the best mean of the point, on the same channels; None for the best itself.
    outage
        Rate that 5 % of users are below.
    starved
        Share of users below 0.1 bits/s/Hz.
    milliseconds
        By batch: time a channel, and whether other work ran beside.
    """

    point: Point
    label: str
    rate: Estimate
    behind: Estimate | None
    wins: Share | None
    outage: float
    starved: float
    iterations: float
    milliseconds: dict[int, tuple[float, bool]]
    violation: float
    asked: int


def result_rows(results: Results, setting: str = NOMINAL) -> list[ResultRow]:
    """Rows of all contestants that have numbers, the best of each point first."""
    rows = []
    for point in results.points(setting=setting):
        here = [s for label in results.labels() if (s := results.get(point, label)) is not None]
        here.sort(key=lambda series: -float(series.sum_rate.mean()))
        rows += [_result_row(results, series, here[0]) for series in here]
    return rows


def _result_row(results: Results, series: Series, best: Series) -> ResultRow:
    pair = None if series is best else paired(series, best)
    rates = tensor(series.rates)
    batches = results.study.timing.batches if results.study.timing else []
    times = {batch: results.timing(series.point, series.label, batch) for batch in batches}
    return ResultRow(
        series.point,
        series.label,
        estimate(tensor(series.sum_rate)),
        None if pair is None else paired_difference(*pair),
        None if pair is None else win_rate(*pair),
        outage(rates, OUTAGE),
        starved_share(rates),
        float(series.iterations.mean()),
        {b: (t.milliseconds, t.contended) for b, t in times.items() if t is not None},
        float(series.violation.max()),
        results.study.count,
    )


def computed_table(results: Results) -> tuple[list[Column], Rows]:
    """Numbers of a computed study at the nominal setting."""
    axes, what = _long_axes(results), quantity_words(results.study, "sum_rate")
    columns = [
        Column("method"),
        *(Column(axis_label(axis)) for axis in axes),
        Column("mean ± 95 %", what),
        Column("median", what),
        Column("largest", what),
        Column("not finished", "", "ended by a budget; counted as far as it reached"),
        Column(sample_words(results.study)),
    ]
    rows: Rows = []
    for point in results.points():
        for label in results.labels():
            series = results.get(point, label)
            if series is None:
                continue
            mean, values = estimate(tensor(series.sum_rate)), series.sum_rate
            middle, top = float(np.median(values)), float(values.max())
            open_ended = int((series.status != int(Status.CONVERGED)).sum())
            row: TableRow = [label, *(_axis_cell(point.at(axis)) for axis in axes)]
            row += [Value(_plus_minus(mean), mean.mean), Value(f"{middle:.4g}", middle)]
            row += [Value(f"{top:.4g}", top), Value(str(open_ended), open_ended)]
            rows.append([*row, Value(str(len(series)), len(series))])
    return columns, rows


def _long_axes(results: Results) -> list[str]:
    return [axis for axis, values in results.study.sweep.items() if len(values) > 1]


def result_table(results: Results) -> tuple[list[Column], Rows]:
    """Results at the nominal setting."""
    found = result_rows(results)
    axes = _long_axes(results)
    batches = sorted({batch for row in found for batch in row.milliseconds})
    columns = [
        Column("solver"),
        *(Column(axis_label(axis)) for axis in axes),
        Column("mean ± 95 %", "sum rate (bit/s/Hz)", "mean over channels"),
        Column("to the best", "sum rate (bit/s/Hz)", "paired difference to the best mean, ± 95 %"),
        Column("wins", "sum rate (bit/s/Hz)", "share of channels above the best mean's; Wilson"),
        Column("5 %", "user rate", "rate that 5 % of users are below, bit/s/Hz"),
        Column("starved", "user rate", "share of users below 0.1 bit/s/Hz"),
        Column("iterations", "", "mean over channels"),
        *(Column(f"batch {b}", "ms a channel", CONTENDED_HINT) for b in batches),
        Column("violation", "", "largest breach of a constraint, relative"),
        Column("channels"),
    ]
    return columns, [_cells(row, axes, batches) for row in found]


def _cells(row: ResultRow, axes: Sequence[str], batches: Sequence[int]) -> TableRow:
    where = [_axis_cell(row.point.at(axis)) for axis in axes]
    best = row.behind is None
    count = f"{row.rate.count}" + (f" of {row.asked}" if row.rate.count < row.asked else "")
    return [
        row.label,
        *where,
        Value(_plus_minus(row.rate), row.rate.mean, strong=best),
        Value("best", 0.0) if row.behind is None else _difference(row.behind),
        Value(NOTHING, math.nan) if row.wins is None else _share(row.wins),
        Value(f"{row.outage:.2f}", row.outage),
        Value(f"{row.starved:.1%}", row.starved),
        Value(f"{row.iterations:.1f}", row.iterations),
        *(_time(row.milliseconds.get(batch)) for batch in batches),
        Value(f"{row.violation:.0e}" if row.violation > 0 else "0", row.violation),
        Value(count, row.rate.count),
    ]


def _axis_cell(value: Any) -> Value | Cell:
    place = sort_key(value)
    return value_words(value) if math.isnan(place) else Value(value_words(value), place)


def _plus_minus(found: Estimate) -> str:
    error = "" if math.isnan(found.half_width) else f" ± {found.half_width:.2f}"
    return f"{found.mean:.2f}{error}"


def _difference(found: Estimate) -> Value:
    error = "" if math.isnan(found.half_width) else f" ± {found.half_width:.3f}"
    return Value(f"{found.mean:+.3f}{error}", found.mean)


def _share(found: Share) -> Value:
    return Value(f"{found.share:.0%} ({found.low:.0%} to {found.high:.0%})", found.share)


def training_table(results: Results) -> tuple[list[Column], Rows]:
    """What the weights of contestants took, at the nominal setting; empty where none are made."""
    axes = _long_axes(results)
    columns = [
        Column("solver"),
        *(Column(axis_label(axis)) for axis in axes),
        Column("batch 1", "ms a channel", CONTENDED_HINT),
        Column("channels", "training", "different ones"),
        Column("steps", "training"),
        Column("CPU s", "training", CONTENDED_HINT),
        Column("parameters"),
        Column("of the reference", "", "share of the exam's reference at the end of training"),
        Column("mean ± 95 %", "sum rate (bit/s/Hz)"),
    ]
    rows: Rows = []
    for point in results.points():
        for label in results.labels():
            record, series = results.training(point, label), results.get(point, label)
            if record is None or series is None:
                continue
            timing = results.timing(point, label, 1)
            time = None if timing is None else (timing.milliseconds, timing.contended)
            rate = estimate(tensor(series.sum_rate))
            busy = "≤ " if record.contended else ""
            share = NOTHING if math.isnan(record.share) else f"{record.share:.1%}"
            rows.append(
                [
                    label,
                    *(_axis_cell(point.at(axis)) for axis in axes),
                    _time(time),
                    Value(str(record.samples), record.samples),
                    Value(str(record.steps), record.steps),
                    Value(f"{busy}{record.cpu_seconds:.3g}", record.cpu_seconds),
                    Value(str(record.parameters), record.parameters),
                    Value(share, record.share, strong=record.reached),
                    Value(_plus_minus(rate), rate.mean),
                ]
            )
    return columns, rows


def _time(found: tuple[float, bool] | None) -> Value:
    if found is None:
        return Value(NOTHING, math.nan)
    milliseconds, contended = found
    return Value(f"{'≤ ' if contended else ''}{milliseconds:.3g}", milliseconds)


def result_csv(results: Results) -> tuple[list[Cell], list[list[Cell]]]:
    """Everything at every setting, with full precision."""
    axes = list(results.study.sweep)
    batches = sorted({batch for _, _, batch in results.timings})
    header: list[Cell] = ["setting", *axes, "solver", "channels", "sum_rate", "standard_error"]
    header += ["behind_best", "behind_best_standard_error", "win_rate", "win_low", "win_high"]
    if results.study.computed is not None:
        header[header.index("sum_rate")] = "value"
    header += ["outage_user_rate", "starved_share", "iterations", "violation"]
    header += [f"milliseconds_batch_{batch}" for batch in batches]
    trained = list(SPENT) if results.trainings else []
    header += trained
    lines: list[list[Cell]] = []
    for setting in results.settings():
        for row in result_rows(results, setting):
            behind = row.behind or Estimate(0.0, 0.0, row.rate.count)
            wins = row.wins or Share(math.nan, math.nan, math.nan, 0)
            line: list[Cell] = [setting, *(show(row.point.at(axis)) for axis in axes)]
            line += [row.label, row.rate.count, row.rate.mean, row.rate.standard_error]
            line += [behind.mean, behind.standard_error, wins.share, wins.low, wins.high]
            line += [row.outage, row.starved, row.iterations, row.violation]
            line += [row.milliseconds.get(batch, (math.nan, False))[0] for batch in batches]
            found = [measure(results, row.point, row.label, quantity) for quantity in trained]
            line += [math.nan if value is None else value.mean for value in found]
            lines.append(line)
    return header, lines


def finding_table(
    expectations: Sequence[Finding], claimed: Sequence[Finding]
) -> tuple[list[Column], Rows]:
    """What the data say of every relation, in every setting."""
    columns = [
        Column("relation"),
        Column("from", hint="our own expectation, or the paper's claim"),
        Column("setting"),
        Column("decision", hint="at 99 % confidence over all points together"),
        Column("margin", hint="distance from failing: standard errors, or a logarithm for times"),
        Column("decided at", hint="the point that comes closest to failing"),
    ]
    rows: Rows = []
    for kind, findings in (("claim", claimed), ("expected", expectations)):
        for f in findings:
            margin = NOTHING if math.isnan(f.margin) else f"{f.margin:+.3g}"
            decision = Markup(badge(f.decision, TONES[f.decision]))
            row: TableRow = [f.text, kind, setting_words(f.setting), decision]
            rows.append([*row, Value(margin, f.margin), f.detail])
    return columns, rows


def setting_table(results: Results, judgement: Judgement | None) -> tuple[list[Column], Rows]:
    """Mean sum rates over the points of every setting, and how the claim fares there."""
    columns = [Column("setting")]
    if judgement is not None:
        columns += [Column("claim", hint="relations confirmed"), Column("closest")]
    columns += [Column(label, "mean over the points") for label in results.labels()]
    rows: Rows = []
    for setting in results.settings():
        row: TableRow = [setting_words(setting)]
        if judgement is not None:
            here = [f for f in judgement.findings if f.setting == setting]
            good = sum(f.decision is Decision.CONFIRMED for f in here)
            closest = judgement.closest in {setting, "the nominal setting" if not setting else ""}
            row += [Value(f"{good} of {len(here)}", good), "closest" if closest else ""]
        rows.append([*row, *(_mean_rate(results, setting, label) for label in results.labels())])
    return columns, rows


def _mean_rate(results: Results, setting: str, label: str) -> Value:
    points = results.points(setting=setting)
    found = [results.get(point, label) for point in points]
    means = [float(series.sum_rate.mean()) for series in found if series is not None]
    if not means or len(means) < len(points):
        return Value(NOTHING, math.nan)
    mean = sum(means) / len(means)
    return Value(f"{mean:.2f}", mean)
