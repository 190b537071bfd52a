"""The curves of the demonstration: plain data out of the runs, into the plots of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from holobeam.demo.runs import (
    ASSUMED_LOSS_DB,
    FRONT_RUNNERS,
    Outcome,
    Run,
    Wideband,
    on_hardware,
)
from holobeam.demo.scenario import USERS_PER_DROP
from holobeam.studies import estimate
from holobeam.studies.statistics import STARVED

if TYPE_CHECKING:
    from holobeam.report.figures import Line, Picture

BITS_OF_REAL_MODULATION = 10.0
"""bits/s/Hz of a user: 1024-QAM carries no more, whatever Shannon promises."""

CONVERGING = ("ps", "rhs", "binary", "mmse", "wmmse-hbf", "zf-hbf")
DISTRIBUTIONS = ("digital", "ps", "dma", "rhs", "mmse")
LABEL_AT = {
    "digital": (0.40, "right"),
    "ps": (0.55, "left"),
    "dma": (0.85, "right"),
    "rhs": (0.62, "left"),
    "mmse": (0.0, "right"),
}
"""Share at which a distribution is labelled, and on which side."""

TIMED = ("digital", "ps", "dma", "rhs", "learned", "binary", "mmse", "wmmse-hbf", "zf-hbf")


def rate_power(outcome: Outcome) -> Picture:
    """Rate against radiated power."""
    from holobeam.report.figures import Axis, Plot, line_picture

    powers = list(outcome.plan.powers)
    top = max(float(run.results[-1].sum_rate.mean()) for run in outcome.runs.values())
    cap = BITS_OF_REAL_MODULATION * USERS_PER_DROP
    levels = [(cap, "10 bit per user: real modulations end here")] if top > 0.9 * cap else []
    plot = Plot(
        "Sum rate against radiated power",
        [_sweep_line(run) for run in outcome.runs.values()],
        Axis("radiated power (dBm)", ticks=powers, limits=(powers[0], powers[-1])),
        Axis(f"sum rate of {USERS_PER_DROP} users (bit/s/Hz)", limits=(0.0, None)),
        levels=levels,
    )
    alt = "Sum rate against radiated power for every solver"
    return line_picture("rate-radiated", [plot], (10.5, 6.4), alt)


def _sweep_line(run: Run) -> Line:
    from holobeam.report.figures import Line

    estimates = [estimate(result.sum_rate) for result in run.results]
    # Digital and phase shifters nearly coincide: the bound is a broad pale line below the other.
    bound = run.entrant.key == "digital"
    return Line(
        run.entrant.label,
        run.powers,
        [e.mean for e in estimates],
        run.entrant.colour,
        [e.standard_error for e in estimates],
        dashed=run.entrant.baseline,
        width=6.5 if bound else 1.7 if run.entrant.baseline else 2.4,
        alpha=0.45 if bound else 1.0,
        marker="" if bound else "o",
        zorder=2.5 if bound else 3.0,
    )


def rate_dc(outcome: Outcome) -> Picture:
    """Rate against DC power, without and with losses between amplifier and air."""
    from holobeam.report.figures import Axis, Plot, line_picture

    y = Axis("sum rate (bit/s/Hz)", limits=(0.0, None))
    ticks = (0.5, 1, 2, 5, 10, 20, 50, 100, 200)
    x = Axis("DC power of the transmitter (W)", log=True, limits=(1.0, 200.0), ticks=ticks)
    plots = [
        Plot("No insertion loss", _dc_lines(outcome, False), x, y, labels="point"),
        Plot("With assumed insertion losses", _dc_lines(outcome, True), x, y, labels="point"),
    ]
    alt = "Sum rate against DC power for four front-ends, without and with insertion losses"
    return line_picture("rate-dc", plots, (12.5, 5.6), alt)


def _dc_lines(outcome: Outcome, losses: bool) -> list[Line]:
    from holobeam.report.figures import Line

    lines = []
    watts = {key: dc_watts(outcome, outcome.runs[key], losses) for key in FRONT_RUNNERS}
    farthest = max(watts, key=lambda key: watts[key][-1])
    for key in FRONT_RUNNERS:
        run = outcome.runs[key]
        estimates = [estimate(result.sum_rate) for result in run.results]
        # Of the two steep neighbours at the right, the nearer one is labelled on its free side.
        steep = key in {"digital", "ps"} and key != farthest
        lines.append(
            Line(
                run.entrant.hardware,
                watts[key],
                [e.mean for e in estimates],
                run.entrant.colour,
                [e.standard_error for e in estimates],
                marker="o",
                side="left" if steep else "right",
            )
        )
    return lines


def dc_watts(outcome: Outcome, run: Run, losses: bool) -> list[float]:
    """Mean DC power at each radiated power, W."""
    solution = run.solution
    if losses:
        frontend = outcome.scenario.frontends[run.entrant.frontend]
        loss = ASSUMED_LOSS_DB[run.entrant.frontend]
        lossy = frontend.with_power_model(frontend.power_model, insertion_loss_db=loss)
        solution = on_hardware(solution, lossy)
    by_power = solution.dc_power.reshape(len(run.results), -1).mean(dim=1)
    return [float(mw) / 1e3 for mw in by_power]


def rate_time(outcome: Outcome) -> Picture:
    """Rate against computing time: one point per iteration."""
    from holobeam.report.figures import Axis, Line, Plot, line_picture

    lines = []
    for key in TIMED:
        run = outcome.runs[key]
        mean = run.history(outcome.plan.focus).mean(dim=0)
        clock = run.clock
        # The start is made before the first stamp, so that curves begin at the first iteration.
        late = slice(1, None)
        lines.append(
            Line(
                run.entrant.label,
                clock[late].tolist(),
                mean[late].tolist(),
                run.entrant.colour,
                dashed=run.entrant.baseline,
                marker="." if not run.entrant.baseline else "",
            )
        )
    batch = outcome.runs["rhs"].solution.problem.batch
    plot = Plot(
        f"Best sum rate so far against time, {outcome.plan.focus:g} dBm",
        lines,
        Axis(f"time per channel (ms), {batch} channels solved as one batch", log=True),
        Axis("sum rate (bit/s/Hz)", limits=(0.0, None)),
        labels="margin",
    )
    return line_picture(
        "rate-time", [plot], (10.5, 5.8), "Sum rate against computing time per channel"
    )


def rate_cdf(outcome: Outcome) -> Picture:
    """Distribution of the rates of single users."""
    from holobeam.report.figures import Axis, Line, Plot, line_picture

    lines = []
    for key in DISTRIBUTIONS:
        run = outcome.runs[key]
        rates = run.at(outcome.plan.focus).rates.flatten().sort().values
        share = torch.arange(1, rates.numel() + 1, dtype=torch.float64) / rates.numel()
        bound = key == "digital"
        level, side = LABEL_AT[key]
        level = max(level, float(share[(rates < STARVED).sum()]) + 0.035)
        anchor = (float(torch.quantile(rates, min(level, 1.0))), level)
        lines.append(
            Line(
                run.entrant.label,
                [0.0, *rates.tolist()],
                [0.0, *share.tolist()],
                run.entrant.colour,
                dashed=run.entrant.baseline,
                width=6.0 if bound else 2.2,
                alpha=0.45 if bound else 1.0,
                anchor=anchor if level > 0.5 or bound else (0.0, level),
                side=side,
            )
        )
    plot = Plot(
        f"Rates of single users, {outcome.plan.focus:g} dBm",
        lines,
        Axis("rate of a user (bit/s/Hz)", limits=(-0.1, None)),
        Axis("share of users below", limits=(0.0, 1.01), ticks=(0, 0.25, 0.5, 0.75, 1)),
        labels="point",
    )
    return line_picture("rate-cdf", [plot], (10.5, 5.4), "Distribution of user rates")


def convergence(outcome: Outcome) -> Picture:
    """Best rate so far against iterations, at two powers."""
    from holobeam.report.figures import Axis, Line, Plot, line_picture

    plots = []
    for power in sorted({outcome.plan.focus, outcome.plan.powers[-1]}):
        lines = []
        for key in CONVERGING:
            run = outcome.runs[key]
            mean = run.history(power).mean(dim=0)
            # A logarithmic axis has no 0, so the start is counted as 1.
            steps = torch.arange(mean.numel(), dtype=torch.float64) + 1
            lines.append(
                Line(
                    run.entrant.label,
                    steps.tolist(),
                    mean.tolist(),
                    run.entrant.colour,
                    dashed=run.entrant.baseline,
                )
            )
        x = Axis("iteration (1: the start)", log=True, ticks=(1, 2, 5, 10, 20, 50, 100))
        y = Axis("best sum rate so far (bit/s/Hz)", limits=(0.0, None))
        plots.append(Plot(f"{power:g} dBm", lines, x, y))
    return line_picture("convergence", plots, (12.5, 5.4), "Convergence of the solvers")


def wideband(outcome: Outcome) -> Picture:
    """Narrow band against wide band, front-end by front-end."""
    from matplotlib.figure import Figure

    from holobeam.report.figures import PALETTE, Picture, style

    rows = []
    with style():
        figure = Figure(figsize=(10.5, 3.4))
        ax = figure.subplots()
        for place, band in enumerate(outcome.wideband):
            narrow, wide = _means(band)
            colour = PALETTE[band.entrant.colour]
            ax.plot([wide, narrow], [place, place], color=colour, lw=5, alpha=0.3)
            ax.plot(narrow, place, "o", ms=11, mfc=PALETTE["card"], mec=colour, mew=2.2)
            ax.plot(wide, place, "o", ms=11, color=colour)
            for value, side, align in ((wide, -12, "right"), (narrow, 12, "left")):
                ax.annotate(
                    f"{value:.1f}",
                    (value, place),
                    (side, 0),
                    textcoords="offset points",
                    ha=align,
                    va="center",
                    color=PALETTE["muted"],
                )
            rows.append((band.entrant.hardware, narrow, wide))
        ax.set_yticks(range(len(rows)), [str(row[0]) for row in rows])
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlim(0, None)
        ax.margins(x=0.1)
        ax.grid(visible=False, axis="y")
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0, labelsize=11)
        ax.set_xlabel(f"sum rate (bit/s/Hz), {outcome.plan.focus:g} dBm")
        ax.set_title("One carrier (open) against the whole band (filled)")
    header = ("front-end", "narrowband", "wideband")
    return Picture("wideband", figure, header, list(rows), "Narrowband and wideband sum rates")


def _means(band: Wideband) -> tuple[float, float]:
    return float(band.narrow.mean()), float(band.wide.mean())
