"""Several cells: front-ends against power, precoders under limits per RF chain, size, feeding."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

import holobeam as hb
from benchmarks.table import Table
from holobeam.analog import coordinate_descent, scaling_law
from holobeam.digital.zero_forcing_cells import cell_zero_forcing, published_zero_forcing
from holobeam.solvers import available, make_state
from holobeam.solvers.alternating import annealing_schedule
from holobeam.studies import estimate, paired_difference, paired_ratio

CHANNELS = 12
MODEL = hb.channels.CellularDrops()
PLAIN: dict[str, Any] = {
    "begin": "random", "noise_schedule": (), "extrapolate": False, "max_iterations": 60,
}  # fmt: skip


def tables(full: bool) -> Iterator[Table]:
    yield _power((0.0, 10.0, 20.0, 30.0, 40.0) if full else (0.0, 20.0, 40.0))
    if full:
        yield _starts()
    yield _precoders()
    yield _bisection()
    yield _feeding()
    yield _one_cell()
    yield _size()
    yield _law()


def _frontends(model: hb.channels.CellularDrops = MODEL) -> dict[str, hb.frontends.Frontend]:
    feed = _feed(model)
    strips, elements = model.rf_chains, model.antennas
    return {
        "binary": hb.frontends.dma(feed, "binary"),
        "Lorentzian": hb.frontends.dma(feed),
        "hybrid": hb.frontends.phase_shifters(elements, strips, "sub"),
        "digital": hb.frontends.fully_digital(elements),
    }


def _feed(model: hb.channels.CellularDrops, feeding: str = "left", **options: Any) -> torch.Tensor:
    spacing = model.spacing * model.wavelength
    return hb.frontends.microstrips(
        model.rf_chains, model.elements, spacing, feeding, **options
    )  # fmt: skip


def _problem(h: torch.Tensor, frontend: hb.frontends.Frontend, dbm: float, streams: int = 1):
    # Every element may radiate what its chain spends: all arrays obey the same budget.
    limit = 10 ** (dbm / 10) / frontend.antennas
    return hb.MultiCell(h, frontend, power_per_rf_chain=limit, streams=streams)


def _contestants() -> list[tuple[str, str, str, dict[str, Any]]]:
    """Label, front-end, solver and its options; those that are not there yet are left out."""
    known = {entry.name for entry in available()}
    rows: list[tuple[str, str, str, dict[str, Any]]] = []
    for kind, names in (
        ("binary", ("wmmse-projection", "wmmse-hc", "wmmse-tabu")),
        ("Lorentzian", ("wmmse-projection", "wmmse-mm")),
    ):
        short = {"begin": "random", "max_iterations": 60}
        rows += [(f"{kind}, {name}", kind, name, short) for name in names if name in known]
        rows.append((f"{kind}, plain sweeps from a random start", kind, "wmmse-cd", PLAIN))
        rows.append((f"{kind}, wmmse-cd", kind, "wmmse-cd", {}))
    rows.append(("Lorentzian, vp", "Lorentzian", "vp", {"max_iterations": 60}))
    rows.append(("hybrid, plain sweeps from a random start", "hybrid", "wmmse-cd", PLAIN))
    rows.append(("hybrid, wmmse-cd", "hybrid", "wmmse-cd", {}))
    rows.append(("digital, wmmse-digital", "digital", "wmmse-digital", {}))
    return rows


def _power(powers: tuple[float, ...]) -> Table:
    table = Table(
        f"Three cells, two users each, two receive antennas, 32 elements: {CHANNELS} channels",
        ("method", *(f"{dbm:g} dBm" for dbm in powers), "ms/channel at 20 dBm"),
        "Sum rate of all cells, bits/s/Hz. Power per RF chain: P over the number of elements. "
        "Same channels in every row.",
    )
    h = MODEL.sample(CHANNELS, seed=0)
    hardware = _frontends()
    for label, kind, name, options in _contestants():
        cells, cost = [], 0.0
        for dbm in powers:
            problem = _problem(h, hardware[kind], dbm)
            begin = time.process_time()
            rates = estimate(hb.solve(problem, name, **options).sum_rate)
            cost = 1e3 * (time.process_time() - begin) / CHANNELS if dbm == 20.0 else cost
            cells.append(f"{rates.mean:.2f} ± {rates.standard_error:.2f}")
        table.add(label, *cells, f"{cost:.0f}")
    return table


def _best(problem: hb.MultiCell, names: tuple[str, ...]) -> torch.Tensor:
    """Best of ten random starts of 200 iterations, and of as many of each one's own."""
    rates = []
    for name in names:
        for begin in ({"begin": "random"}, {}):
            found = hb.solve(problem, name, starts=10, max_iterations=200, **begin)
            rates.append(found.sum_rate)
    return torch.stack(rates).amax(dim=0)


def _starts() -> Table:
    table = Table(
        f"Few iterations against ten starts of 200, 20 dBm, {CHANNELS} fresh channels",
        ("solver", "start", "starts", "sum rate", "share of", "share", "asked", "ms/channel",
         "verdict"),
        "Thirty iterations from one start; of eight starts 60 (binary) and 120 (Lorentzian). "
        "Shares of mean rates, standard error of the paired difference. References are the best of "
        "ten starts of 200 iterations, random and own: of the published solver, or of any solver "
        "on that hardware. CPU time.",
    )  # fmt: skip
    h, hardware = MODEL.sample(CHANNELS, seed=123), _frontends()
    binary, circle = (_problem(h, hardware[kind], 20.0) for kind in ("binary", "Lorentzian"))
    best = {
        "wmmse-hc": _best(binary, ("wmmse-hc",)),
        "wmmse-mm": _best(circle, ("wmmse-mm",)),
    }
    best["any, binary"] = torch.maximum(best["wmmse-hc"], _best(binary, ("wmmse-tabu", "wmmse-cd")))
    best["any, Lorentzian"] = torch.maximum(best["wmmse-mm"], _best(circle, ("wmmse-cd",)))
    plain = {"begin": "random", "extrapolate": False, "noise_schedule": ()}
    annealed = {
        "noise_schedule": annealing_schedule(), "digital_sweeps": 1, "analog": coordinate_descent,
    }  # fmt: skip
    sweeps = partial(coordinate_descent, sweeps=50)
    rows = (
        ("wmmse-hc", "random", binary, {}, 1, "wmmse-hc", 0.88),
        ("wmmse-mm", "random", circle, {}, 1, "wmmse-mm", 0.88),
        ("wmmse-tabu", "random", binary, {**plain, "digital_sweeps": 1}, 1, "wmmse-hc", 0.92),
        ("wmmse-cd, one sweep, one visit", "random", circle,
         {**plain, "digital_sweeps": 1, "analog": coordinate_descent}, 1, "wmmse-mm", None),
        ("wmmse-cd, 50 sweeps, three visits", "random", circle,
         {**plain, "analog": sweeps, "digital_sweeps": 3}, 1, "wmmse-mm", 0.92),
        ("wmmse-cd, annealed, one sweep (before)", "matched", circle, annealed, 1, "wmmse-mm",
         None),
        ("wmmse-cd", "matched", circle, {}, 1, "wmmse-mm", 0.92),
        ("wmmse-cd", "relaxed", binary, {}, 1, "wmmse-hc", None),
        ("wmmse-tabu", "relaxed", binary, {}, 1, "wmmse-hc", 0.92),
        ("wmmse-tabu", "five relaxed, three random", binary, {"max_iterations": 60}, 8,
         "any, binary", 0.97),
        ("wmmse-cd", "matched, seven random", circle, {"max_iterations": 120}, 8,
         "any, Lorentzian", 0.98),
    )  # fmt: skip
    for name, start, problem, options, starts, against, asked in rows:
        begin = time.process_time()
        few = {"max_iterations": 30, **options}
        rate = hb.solve(problem, name.split(",")[0], starts=starts, **few).sum_rate
        spent = 1e3 * (time.process_time() - begin) / CHANNELS
        share = paired_ratio(rate, best[against])
        cells = (name, start, starts, f"{float(rate.mean()):.2f}", against,
                 f"{share.mean:.3f} ± {share.standard_error:.3f}",
                 "" if asked is None else f"{asked:.2f}", f"{spent:.0f}")  # fmt: skip
        if asked is None:
            table.add(*cells, "")
        else:
            table.check(share.mean >= asked, *cells)
    return table


def _fastest(work: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """Result and least time of several runs."""
    spent, result = [], None
    for _ in range(repeats):
        begin = time.perf_counter()
        result = work()
        spent.append(time.perf_counter() - begin)
    return result, min(spent)


def _precoders() -> Table:
    table = Table(
        "Zero forcing under limits per RF chain: Newton on the dual against CVXPY with Clarabel",
        (
            "streams", "P, dBm", "Newton, ms/cell", "CVXPY, ms/cell", "ratio",
            "largest excess of Newton", "verdict",
        ),
        "One digital step of 36 cells, receivers and weights after four iterations of wmmse-cd. "
        "Excess: relative, of the objective; negative where Newton is the more exact. Asked: >= 5 "
        "times faster, excess <= 1e-6.",
    )  # fmt: skip
    h = MODEL.sample(CHANNELS, seed=0)
    for streams in (1, 2):
        for dbm in (20.0, 40.0):
            problem = _problem(h, _frontends()["Lorentzian"], dbm, streams)
            begin = hb.solve(problem, "wmmse-cd", max_iterations=4)
            link = problem.link(begin.control)
            weights = problem.weights(link, begin.digital)
            parts = link, weights, problem.power
            mine, fast = _fastest(lambda p=parts: cell_zero_forcing(*p), 5)
            judge, slow = _fastest(lambda p=parts: published_zero_forcing(*p), 2)
            rows, wanted = weights.whitened(link.e), weights.wanted(3)
            a, b = (
                (rows @ v - wanted).abs().square().sum(dim=(2, 3)).flatten() for v in (mine, judge)
            )
            excess = float(((a - b) / b).max())
            table.check(
                slow > 5 * fast and excess <= 1e-6,
                streams, f"{dbm:g}", f"{1e3 * fast / len(a):.2f}", f"{1e3 * slow / len(a):.1f}",
                f"{slow / fast:.0f}x", f"{excess:.0e}",
            )  # fmt: skip
    return table


def _bisection() -> Table:
    table = Table(
        "Closed-form rows against zero forcing, and against a common budget by bisection",
        ("streams", "precoder", "budget", "sum rate", "behind rows (paired)", "ms/channel"),
        f"Lorentzian, 20 dBm, {CHANNELS} channels, 60 iterations of plain sweeps from the same "
        "random start. The common budget of a cell is the sum of its chains' and so the weaker "
        "constraint.",
    )
    h = MODEL.sample(CHANNELS, seed=0)
    dma = _frontends()["Lorentzian"]
    for streams in (1, 2):
        chains = _problem(h, dma, 20.0, streams)
        cell = hb.MultiCell(h, dma, power=4 * 100.0 / 32, streams=streams)
        few = {"max_iterations": 60}
        published = {"max_iterations": 12, "precoder": "cvxpy"}
        cases = (
            ("rows in closed form", "per chain", chains, "wmmse-cd", PLAIN),
            ("rows, one visit", "per chain", chains, "wmmse-cd", {**PLAIN, "digital_sweeps": 1}),
            ("zero forcing, Newton", "per chain", chains, "zf-cd", few),
            ("zero forcing, CVXPY, 12 iterations", "per chain", chains, "zf-cd", published),
            ("multiplier by search", "per cell", cell, "wmmse-cd", PLAIN),
        )
        first: torch.Tensor | None = None
        for label, budget, problem, name, options in cases:
            solution, spent = _fastest(
                lambda p=problem, n=name, o=options: hb.solve(p, n, **o),
                1 if "precoder" in options else 2,
            )  # fmt: skip
            first = solution.sum_rate if first is None else first
            mean, gap = estimate(solution.sum_rate), paired_difference(solution.sum_rate, first)
            table.add(
                streams, label, budget, f"{mean.mean:.2f} ± {mean.standard_error:.2f}",
                f"{gap.mean:+.2f} ± {gap.standard_error:.2f}", f"{1e3 * spent / CHANNELS:.0f}",
            )  # fmt: skip
    return table


def _feeding() -> Table:
    table = Table(
        "Feeding the strips at the left or at the centre, 20 dBm, 24 channels",
        ("elements a strip", "control", "left", "centre - left, unsplit", "centre - left, split"),
        "Sum rates of wmmse-cd, paired. Unsplit, a centre feed puts the full wave into both halves "
        "(twice the power); split, 1/sqrt(2) into each.",
    )
    for elements in (10, 40):
        model = replace(MODEL, elements=elements, element_area=0.4)
        h = model.sample(24, seed=0)
        feeds = (
            _feed(model), _feed(model, "centre"), _feed(model, "centre", split_power=True),
        )  # fmt: skip
        for control in ("binary", "lorentzian"):
            left, unsplit, split = (
                hb.solve(_problem(h, hb.frontends.dma(feed, control), 20.0), "wmmse-cd").sum_rate
                for feed in feeds
            )
            gaps = (paired_difference(rate, left) for rate in (unsplit, split))
            table.add(
                elements, control, f"{float(left.mean()):.2f}",
                *(f"{gap.mean:+.2f} ± {gap.standard_error:.2f}" for gap in gaps),
            )  # fmt: skip
    return table


def _carried_on(digital: hb.MultiCell, precoder: torch.Tensor) -> torch.Tensor:
    """Rates of the digital array that goes on from another front-end's precoder."""
    ones = torch.ones(*precoder.shape[:3], 1).to(precoder)
    start = make_state(digital, ones, precoder)
    return hb.solve(digital, "wmmse-digital", max_iterations=100, start=start).sum_rate


def _one_cell() -> Table:
    table = Table(
        "MU-MIMO: one cell, two users with two antennas each, 20 dBm radiated, 12 channels",
        ("front-end", "streams a user", "solver", "sum rate", "to wmmse-digital, paired",
         "largest excess of a channel", "excess over digital carried on", "verdict"),
        "Digital: wmmse-digital. Carried on: 100 iterations from the front-end's own precoder. "
        "Asked: nobody above the better of the two.",
    )  # fmt: skip
    h = replace(MODEL, cells=1).sample(12, seed=0)
    hardware = _frontends()
    hardware["phase shifters"] = hb.frontends.phase_shifters(MODEL.antennas, MODEL.rf_chains)
    for streams in (1, 2):
        budget = {"power": 100.0, "power_at": "radiated", "streams": streams}
        digital = hb.MultiCell(h, hardware["digital"], **budget)
        most = hb.solve(digital, "wmmse-digital").sum_rate
        mean = estimate(most)
        table.add(
            "digital", streams, "wmmse-digital", f"{mean.mean:.2f} ± {mean.standard_error:.2f}",
            "", "", "", "",
        )  # fmt: skip
        for kind, frontend in hardware.items():
            problem = hb.MultiCell(h, frontend, **budget)
            for name in ("wmmse-cd", "vp", "wmmse-mo"):
                if kind == "digital" or hb.solver(name).supports(problem) is not None:
                    continue
                found = hb.solve(problem, name)
                rate = found.sum_rate
                bound = torch.maximum(most, _carried_on(digital, found.precoder))
                mean, gap = estimate(rate), paired_difference(rate, most)
                excess = float((rate - bound).max())
                table.check(
                    excess <= 1e-9, kind, streams, name,
                    f"{mean.mean:.2f} ± {mean.standard_error:.2f}",
                    f"{gap.mean:+.2f} ± {gap.standard_error:.2f}",
                    f"{float((rate - most).max()):+.3f}", f"{excess:+.3f}",
                )  # fmt: skip
    return table


def _size() -> Table:
    table = Table(
        "Three cells with large strips: wmmse-cd on Lorentzian elements, one channel, 20 dBm",
        (
            "elements", "ms/iteration", "iterations to 99 %", "to 99.9 % of the best of 600",
            "seconds to 99 %", "to 99.9 %", "gain below 1e-3: iterations", "seconds", "share there",
            "verdict",
        ),
        "Four strips a cell, two users a cell. CPU times, least of two runs. Asked of 1024: 1e-3 "
        "short of the end within 5 s on two cores.",
    )  # fmt: skip
    for antennas in (64, 256, 1024):
        model = replace(MODEL, elements=antennas // 4)
        feed = hb.frontends.dma(_feed(model))
        problem = _problem(model.sample(1, seed=0), feed, 20.0)
        runs = []
        for _ in range(2):
            begin = time.process_time()
            solution = hb.solve(
                problem, "wmmse-cd", max_iterations=600, tolerance=0.0, history=True
            )
            runs.append((time.process_time() - begin) / 600)
        history, each = solution.history[0], min(runs)
        best = float(history[-1])
        marks = [int((history >= share * best).nonzero()[0]) for share in (0.99, 0.999)]
        early = hb.solve(problem, "wmmse-cd", max_iterations=600, tolerance=1e-3)
        stopped = int(early.iterations[0])
        cells = (
            antennas, f"{1e3 * each:.1f}", *marks, *(f"{mark * each:.2f}" for mark in marks),
            stopped, f"{stopped * each:.2f}", f"{float(early.sum_rate[0]) / best:.3f}",
        )  # fmt: skip
        if antennas == 1024:
            table.check(marks[1] * each <= 5.0, *cells)
        else:
            table.add(*cells, "")
    return table


def _law() -> Table:
    sizes = (16, 64, 256, 1024, 4096)
    table = Table(
        "SNR of one strip in units of one lossless element, a fifth of a wavelength, 41 angles",
        ("control", "reading", *(f"N = {n}" for n in sizes)),
        "Mean of the exact optima over the limit of a lossless strip, N times the coefficient. "
        f"Attenuation 0.6/m; growth ends at {_peak():.0f} elements (fed at the left).",
    )
    for control in ("lorentzian", "binary"):
        for reading in ("fixed", "radiated"):
            cells = []
            for count in sizes:
                if reading == "radiated" and count > 256:
                    cells.append("-")
                    continue
                wave = _waves(count, 41 if reading == "fixed" else 7)
                gain = float(scaling_law.best_gain(wave, control, reading).gain.mean())
                cells.append(
                    f"{gain / count / scaling_law.limit_coefficient(control, reading):.3f}"
                )
            table.add(control, reading, *cells)
    return table


def _peak() -> float:
    return scaling_law.peak_elements(0.6, MODEL.spacing * MODEL.wavelength)


def _waves(elements: int, angles: int) -> torch.Tensor:
    feed = hb.frontends.microstrips(1, elements, MODEL.spacing * MODEL.wavelength)[:, 0]
    sine = torch.linspace(-0.95, 0.95, angles, dtype=torch.float64)
    ramp = torch.arange(elements) * 2 * torch.pi * MODEL.spacing * sine[:, None]
    return feed * torch.polar(torch.ones_like(ramp), ramp)
