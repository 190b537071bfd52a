"""Numbers for tables and captions, all taken from the runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from holobeam.demo.hologram import directivity_dbi, far_field
from holobeam.demo.maps import received_dbm
from holobeam.demo.runs import ENTRANTS, Fairness, Outcome, lossless_mismatch
from holobeam.demo.scenario import POSTER_DROP
from holobeam.report.tables import Cell, Column, Value
from holobeam.solvers import Solution
from holobeam.studies import Estimate, Row, compare, estimate, outage, starved_share

Cells = list[Value | Cell]


def plus_minus(value: Estimate, digits: int = 2, sign: bool = False) -> str:
    """Mean with the half width of its 95 % confidence interval, where there is one."""
    mean = f"{value.mean:+.{digits}f}" if sign else f"{value.mean:.{digits}f}"
    mean = mean.replace("-", "\N{MINUS SIGN}")
    if not math.isfinite(value.half_width):
        return mean
    return f"{mean} ± {value.half_width:.{digits}f}"


def percent(share: float, digits: int = 0) -> str:
    """Share as text."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%".replace("-", "\N{MINUS SIGN}")


def mean_rate(outcome: Outcome, key: str, power: float) -> float:
    """Mean sum rate of an entrant."""
    return float(outcome.runs[key].at(power).sum_rate.mean())


def starved(outcome: Outcome, key: str, power: float) -> float:
    """Share of users that an entrant leaves without service."""
    return starved_share(outcome.runs[key].at(power).rates)


def milliseconds(outcome: Outcome, key: str) -> float:
    """Time per channel of an entrant."""
    return 1e3 * outcome.runs[key].results[0].seconds


def dc_watts_at(outcome: Outcome, key: str, power: float) -> float:
    """DC power of an entrant, W, without insertion loss."""
    return float(outcome.runs[key].at(power).dc_power.mean()) / 1e3


def extra_power_db(outcome: Outcome, weak: str, strong: str) -> float | None:
    """Radiated power that one entrant needs beyond another for the same rate, dB.

    Taken at the highest rate of the weaker one; None if the stronger one is above it throughout.
    """
    powers = outcome.runs[strong].powers
    rates = [mean_rate(outcome, strong, power) for power in powers]
    wanted = mean_rate(outcome, weak, powers[-1])
    if not rates[0] <= wanted <= rates[-1]:
        return None
    return powers[-1] - float(np.interp(wanted, rates, powers))


def worst_mismatch(outcome: Outcome) -> float:
    """Largest difference of DC and radiated power on lossless hardware, over all entrants."""
    return max(lossless_mismatch(run) for run in outcome.runs.values())


def headline(outcome: Outcome) -> tuple[list[Column], list[Cells]]:
    """Table of all entrants at a few powers."""
    powers = outcome.plan.table
    columns = [Column("front-end"), Column("solver")]
    for power in powers:
        group = f"{power:g} dBm"
        columns += [
            Column("bit/s/Hz", group, "mean sum rate with its 95 % confidence interval"),
            Column("Δ best", group, "paired difference to the best solver of this front-end"),
            Column("starved", group, "share of users below 0.1 bit/s/Hz"),
        ]
    columns += [
        Column("ms", "cost", "wall-clock time per channel, all powers solved as one batch"),
        Column("breach", "cost", "largest breach of a constraint"),
    ]
    rows_at = _rows_by_frontend(outcome, powers)
    body = []
    for entrant in ENTRANTS:
        results = outcome.runs[entrant.key].results
        worst = max(result.violation for result in results)
        cells: Cells = [entrant.hardware, entrant.method]
        for power in powers:
            cells += _cells(rows_at[entrant.frontend, entrant.method, power])
        cells.append(Value(f"{1e3 * results[0].seconds:.1f}", results[0].seconds))
        cells.append(Value(f"{worst:.0e}" if worst > 0 else "0", worst))
        body.append(cells)
    return columns, body


def result_rows(outcome: Outcome) -> tuple[list[Cell], list[list[Cell]]]:
    """Head and rows of the file of results: every entrant at every power."""
    header: list[Cell] = [
        "power_dbm", "frontend", "solver", "sum_rate", "half_width_95", "behind_best",
        "behind_best_half_width_95", "starved", "milliseconds", "violation", "dc_power_w",
    ]  # fmt: skip
    rows_at = _rows_by_frontend(outcome, outcome.plan.powers)
    body: list[list[Cell]] = []
    for power in outcome.plan.powers:
        for entrant in ENTRANTS:
            row = rows_at[entrant.frontend, entrant.method, power]
            body.append([
                power, entrant.frontend, entrant.method, row.rate.mean, row.rate.half_width,
                row.behind_best.mean, row.behind_best.half_width, row.starved, row.milliseconds,
                row.violation, dc_watts_at(outcome, entrant.key, power),
            ])  # fmt: skip
    return header, body


def _rows_by_frontend(
    outcome: Outcome, powers: Sequence[float]
) -> dict[tuple[str, str, float], Row]:
    """Comparisons among the entrants of one front-end."""
    found = {}
    for frontend in {entrant.frontend for entrant in ENTRANTS}:
        mates = [e for e in ENTRANTS if e.frontend == frontend]
        results = [outcome.runs[e.key].at(power) for e in mates for power in powers]
        for row in compare.table(results):
            found[frontend, row.solver, row.point] = row
    return found


def _cells(row: Row) -> Cells:
    best = row.behind_best.mean == 0
    behind = "best" if best else plus_minus(row.behind_best, sign=True)
    return [
        Value(plus_minus(row.rate), row.rate.mean, strong=best),
        Value(behind, row.behind_best.mean),
        Value(percent(row.starved), row.starved),
    ]


def fairness_table(outcome: Outcome) -> tuple[list[Column], list[Cells]]:
    """Table of the two objectives on each front-end."""
    columns = [
        Column("front-end"),
        Column("objective"),
        Column("sum rate"),
        Column("worst user of a drop", hint="mean over drops"),
        Column("5 % user", hint="5 % of all users get less"),
        Column("starved"),
    ]
    body: list[Cells] = []
    for part in outcome.fairness:
        for name, rates in objectives(part):
            worst = estimate(rates.min(dim=1).values)
            body.append(
                [
                    part.entrant.hardware,
                    name,
                    Value(plus_minus(estimate(rates.sum(dim=1))), float(rates.sum(dim=1).mean())),
                    Value(plus_minus(worst), worst.mean),
                    Value(f"{outage(rates):.2f}", outage(rates)),
                    Value(percent(starved_share(rates), 1), starved_share(rates)),
                ]
            )
    return columns, body


def objectives(part: Fairness) -> tuple[tuple[str, Tensor], ...]:
    """Rates under the two objectives, with their names."""
    return ("sum rate", part.sum_rate), ("proportional fairness", part.fair)


def isolation_db(outcome: Outcome) -> float:
    """Weakest signal over strongest interference on the poster's drop, dB."""
    power = received_dbm(outcome.scenario, outcome.poster["rhs"])[list(POSTER_DROP)]
    own = torch.eye(len(power), dtype=torch.bool)
    return float((power.diagonal().unsqueeze(1) - power.masked_fill(own, -math.inf)).min())


def user_gains_dbi(outcome: Outcome, solution: Solution) -> list[float]:
    """Gain of all beams together towards the strongest path of each user, dBi."""
    directions = outcome.scenario.strongest_direction(torch.tensor(POSTER_DROP))
    gains = directivity_dbi(outcome.scenario.panel, solution.precoder[0, 0], directions)
    return [float(gain) for gain in gains]


def power_into(outcome: Outcome, solution: Solution, lowest: float, highest: float) -> float:
    """Share of the power in sight that leaves between two direction cosines v."""
    cosine, decibels = far_field(outcome.scenario.panel, solution.precoder[0, 0])
    v, u = torch.meshgrid(cosine, cosine, indexing="ij")
    ahead = (1.0 - u**2 - v**2).clamp(min=0.0).sqrt()
    seen = ahead > 0.02
    gain = decibels.nan_to_num(nan=-120.0)
    # A patch du dv of the hemisphere spans a solid angle du dv / cos.
    flux = torch.where(seen, 10.0 ** (gain / 10.0) / ahead.clamp(min=0.02), 0.0)
    inside = (v >= lowest) & (v <= highest)
    return float((flux * inside).sum() / flux.sum())
