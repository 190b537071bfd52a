"""The closed-form precoder under limits per RF chain against other ways to make it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

import holobeam as hb
from benchmarks.bisection import bisected, bisected_in_numpy, scaled_into
from benchmarks.multicell import CHANNELS, MODEL, PLAIN, _fastest, _feed, _frontends, _problem
from benchmarks.table import Table
from holobeam.digital.zero_forcing_cells import published_zero_forcing
from holobeam.solvers.cells import ROW_VISITS

PRECISION = 1e-6
"""Relative slack of the power at which a bisection ends."""


def tables(_full: bool) -> Iterator[Table]:
    torch.set_num_threads(1)
    yield _step()
    yield _visits()
    yield _larger()


class Scaled(hb.MultiCell):
    """Many cells whose digital step solves for the sum of a cell's limits, then cuts its rows."""

    def digital_step(
        self, link: Any, weights: Any, digital: torch.Tensor, visits: int = 1, tolerance: float = 0
    ) -> torch.Tensor:
        """Bisection, rows above their limits scaled down to them."""
        budget = self.power.sum(dim=2)
        return scaled_into(bisected(link, weights, budget, PRECISION, spectrum=True), self.power)


def _step() -> Table:
    visits, still = ROW_VISITS
    table = Table(
        "One digital step under limits per RF chain: rows in closed form against other ways",
        ("streams", "P, dBm", "method", "us/cell", "over rows", "rate", "over rows", "asked", ""),
        "Three cells of 12 channels, Lorentzian, four chains. Time: of one step for all 36 cells, "
        "receivers and weights after four iterations, the least of several runs, methods in turn. "
        f"Rows: `wmmse-cd`'s step, up to {visits} visits to each row, until V moves by less than "
        f"{still:g}. Clarabel: the same programme to its optimum, cone data assembled outside the "
        "clock. Zero forcing with CVXPY: as published. Bisection: WMMSE's textbook step with the "
        f"sum of a cell's limits as one budget, held to {PRECISION:g}: in NumPy cell by cell, in "
        "torch for all cells at once (Newton on the multiplier), compiled on the same normal "
        "equations as rows (the faster of solving anew and of one eigendecomposition). *Cut*: rows "
        "above their limits are then scaled down to them, which makes it feasible here; without "
        "it its constraint is the weaker one. "
        "Rate: after 60 iterations of plain sweeps with such steps (2000 visits in place of "
        "Clarabel, Newton in place of CVXPY), bits/s/Hz. Asked: so many times the time of rows, at "
        "a rate of at most 1/0.99 of theirs.",
    )
    h = MODEL.sample(CHANNELS, seed=0)
    dma = _frontends()["Lorentzian"]
    for streams in (1, 2):
        for dbm in (20.0, 40.0):
            _rows(table, h, dma, streams, dbm)
    return table


def _rows(
    table: Table, h: torch.Tensor, dma: hb.frontends.Frontend, streams: int, dbm: float
) -> None:
    problem = _problem(h, dma, dbm, streams)
    cells = hb.MultiCell(h, dma, power=4 * 10 ** (dbm / 10) / dma.antennas, streams=streams)
    cut = Scaled(h, dma, power_per_rf_chain=10 ** (dbm / 10) / dma.antennas, streams=streams)
    begin = hb.solve(problem, "wmmse-cd", max_iterations=4)
    link = problem.link(begin.control)
    weights = problem.weights(link, begin.digital)
    programmes = _programmes(problem, link, weights)
    _check(problem, link, weights, begin.digital, programmes)
    seconds = _times(problem, cells, begin, programmes)
    whole = _loop(problem, "wmmse-cd", PLAIN)
    converged = _loop(problem, "wmmse-cd", {**PLAIN, "digital_sweeps": 2000})
    zero_forced = _loop(problem, "zf-cd", {"max_iterations": 60})
    weaker, feasible = _loop(cells, "wmmse-cd", PLAIN), _loop(cut, "wmmse-cd", PLAIN)
    rates = {
        "one visit": (_loop(problem, "wmmse-cd", {**PLAIN, "digital_sweeps": 1}), None),
        "Clarabel, data entered directly": (converged, 10),
        "zero forcing, CVXPY": (zero_forced, 50),
        "bisection and cut, NumPy": (feasible, 10),
        "bisection and cut, torch": (feasible, 10),
        "bisection and cut, compiled": (feasible, 10),
        "bisection, weaker constraint, compiled": (weaker, 10),
    }
    count, fast = len(h) * problem.cells, seconds["rows"]
    start = (streams, f"{dbm:g}")
    table.add(*start, "rows in closed form", f"{1e6 * fast / count:.1f}", "", f"{whole:.2f}", "",
              "", "")  # fmt: skip
    for label, (rate, asked) in rates.items():
        ratio, share = seconds[label] / fast, rate / whole
        cells_of_row = (
            *start, label, f"{1e6 * seconds[label] / count:.1f}", f"{ratio:.2g}x"
            if ratio < 100 else f"{ratio:.0f}x", f"{rate:.2f}", f"{share:.3f}",
            "" if asked is None else f">= {asked}x",
        )  # fmt: skip
        if asked is None:
            table.add(*cells_of_row, "")
        else:
            table.check(ratio >= asked and share <= 1 / 0.99, *cells_of_row)


def _times(
    problem: hb.MultiCell, cells: hb.MultiCell, begin: Any, programmes: list[Any]
) -> dict[str, float]:
    """Least seconds of each way to make the step, taken in turn."""
    link, shared = problem.link(begin.control), cells.link(begin.control)
    weights, at = problem.weights(link, begin.digital), begin.digital
    budget, limit = cells.power, problem.power

    def compiled(spectrum: bool) -> torch.Tensor:
        return bisected(link, weights, budget, PRECISION, spectrum=spectrum)

    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "rows": (lambda: problem.digital_step(link, weights, at, *ROW_VISITS), 9),
        "one visit": (lambda: problem.digital_step(link, weights, at), 9),
        "solve": (lambda: compiled(False), 9),
        "spectrum": (lambda: compiled(True), 9),
        "bisection and cut, compiled": (lambda: scaled_into(compiled(True), limit), 9),
        "bisection and cut, torch": (lambda: cells.digital_step(shared, weights, at), 9),
        "bisection and cut, NumPy": (
            lambda: bisected_in_numpy(link, weights, budget, PRECISION),
            2,
        ),
        "Clarabel, data entered directly": (lambda: [_clarabel(*p) for p in programmes], 3),
        "zero forcing, CVXPY": (lambda: published_zero_forcing(link, weights, limit), 1),
    }
    found = dict.fromkeys(ways, float("inf"))
    for turn in range(5):
        for name, (work, repeats) in ways.items():
            if turn < repeats:
                found[name] = min(found[name], _fastest(work, max(1, repeats // 3))[1])
    found["bisection, weaker constraint, compiled"] = min(found["solve"], found["spectrum"])
    return found


def _check(
    problem: hb.MultiCell, link: Any, weights: Any, digital: torch.Tensor, programmes: list[Any]
) -> None:
    """Clarabel and many visits end at the same objective."""
    chains, total = problem.power.shape[2], problem.columns
    exact = torch.stack([_precoder(_clarabel(*data), chains, total) for data in programmes])
    visited = problem.digital_step(link, weights, digital, 20_000, 1e-9)
    rows, wanted = weights.whitened(link.e), weights.wanted(problem.cells)
    ours, theirs = (
        float((rows @ v - wanted).abs().square().sum()) for v in (visited, exact.view_as(visited))
    )
    assert abs(theirs / ours - 1) < 1e-2, f"Clarabel ends at {theirs:g}, rows at {ours:g}"


def _visits() -> Table:
    counts = (1, 3, 10, 30, 100, 2000)
    table = Table(
        "Visits to the rows in each iteration: rate and time of a step",
        (
            "streams",
            "P, dBm",
            *("1 visit" if n == 1 else f"{n} visits" for n in counts),
            "us/cell, 1 visit",
            "each further",
        ),
        "Rates of 60 iterations of plain sweeps, bits/s/Hz, as above; no early end.",
    )
    h = MODEL.sample(CHANNELS, seed=0)
    dma = _frontends()["Lorentzian"]
    for streams in (1, 2):
        for dbm in (20.0, 40.0):
            problem = _problem(h, dma, dbm, streams)
            rates = [_loop(problem, "wmmse-cd", {**PLAIN, "digital_sweeps": n}) for n in counts]
            begin = hb.solve(problem, "wmmse-cd", max_iterations=4)
            link = problem.link(begin.control)
            weights = problem.weights(link, begin.digital)
            one, many = (
                1e6 / len(h) / problem.cells
                * _fastest(partial(problem.digital_step, link, weights, begin.digital, n), 15)[1]
                for n in (1, 101)
            )  # fmt: skip
            table.add(
                streams, f"{dbm:g}", *(f"{rate:.2f}" for rate in rates), f"{one:.2f}",
                f"{(many - one) / 100:.3f}",
            )  # fmt: skip
    return table


def _larger() -> Table:
    table = Table(
        "More chains and users: one visit and the usual visits against a compiled bisection",
        ("chains", "users a cell", "one visit, us/cell", "usual visits", "bisection", "over one",
         "over usual"),
        "Three cells, 12 channels, strips of eight elements, 20 dBm, receivers and weights after "
        "four iterations. Bisection as above, the faster of two ways, its rows not cut.",
    )  # fmt: skip
    for chains, users in ((4, 2), (8, 4), (16, 8)):
        model = replace(MODEL, rf_chains=chains, users_per_cell=users)
        h = model.sample(CHANNELS, seed=0)
        dma = hb.frontends.dma(_feed(model))
        problem = _problem(h, dma, 20.0)
        begin = hb.solve(problem, "wmmse-cd", max_iterations=4)
        link = problem.link(begin.control)
        parts = link, problem.weights(link, begin.digital)
        budget, scale = problem.power.sum(dim=2), 1e6 / len(h) / problem.cells
        one, usual, *both = (
            scale * _fastest(work, 9)[1]
            for work in (
                lambda p=parts, q=problem, v=begin.digital: q.digital_step(*p, v),
                lambda p=parts, q=problem, v=begin.digital: q.digital_step(*p, v, *ROW_VISITS),
                lambda p=parts, b=budget: bisected(*p, b, PRECISION, spectrum=True),
                lambda p=parts, b=budget: bisected(*p, b, PRECISION, spectrum=False),
            )
        )
        best = min(both)
        table.add(chains, users, f"{one:.1f}", f"{usual:.1f}", f"{best:.1f}", f"{best / one:.1f}x",
                  f"{best / usual:.1f}x")  # fmt: skip
    return table


def _loop(problem: hb.MultiCell, name: str, options: dict[str, object]) -> float:
    return float(hb.solve(problem, name, **options).sum_rate.mean())


def _programmes(problem: hb.MultiCell, link: object, weights: object) -> list[tuple[object, ...]]:
    """Cone data of every cell: minimise the weighted error with every row in its ball."""
    import clarabel
    from scipy import sparse

    rows = weights.whitened(link.e).to(torch.complex128).flatten(0, 1)  # type: ignore[attr-defined]
    wanted = weights.wanted(problem.cells).to(torch.complex128).flatten(0, 1)  # type: ignore[attr-defined]
    limits = problem.power.flatten(0, 1).sqrt()
    found = []
    for a, t, bound in zip(rows, wanted, limits, strict=True):
        form, right = (a.mH @ a).numpy(), (a.mH @ t).numpy()
        chains, streams = right.shape
        block = 2 * np.block([[form.real, -form.imag], [form.imag, form.real]])
        quadratic = sparse.triu(sparse.kron(sparse.eye(streams), block), format="csc")
        linear = -2 * np.concatenate([np.r_[c.real, c.imag] for c in right.T])
        lines, right_side, cones = [], [], []
        for r in range(chains):
            lines.append(np.zeros(len(linear)))
            right_side.append(float(bound[r]))
            for s in range(streams):
                for part in range(2):
                    line = np.zeros(len(linear))
                    line[s * 2 * chains + part * chains + r] = -1.0
                    lines.append(line)
                    right_side.append(0.0)
            cones.append(clarabel.SecondOrderConeT(1 + 2 * streams))
        matrix = sparse.csc_matrix(np.array(lines))
        found.append((quadratic, linear, matrix, np.array(right_side), cones))
    return found


def _clarabel(*data: object) -> np.ndarray:
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    return np.array(clarabel.DefaultSolver(*data, settings).solve().x)


def _precoder(x: np.ndarray, chains: int, streams: int) -> torch.Tensor:
    parts = x.reshape(streams, 2, chains)
    return torch.from_numpy((parts[:, 0] + 1j * parts[:, 1]).T.copy())
