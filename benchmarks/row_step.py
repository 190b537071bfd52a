"""The closed-form precoder under limits per RF chain against other ways to make it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import holobeam as hb
from benchmarks.multicell import CHANNELS, MODEL, PLAIN, _fastest, _frontends, _problem
from benchmarks.table import Table
from holobeam.digital.zero_forcing_cells import published_zero_forcing


def tables(_full: bool) -> Iterator[Table]:
    torch.set_num_threads(1)
    yield _step()


def _step() -> Table:
    table = Table(
        "One digital step under limits per RF chain: rows in closed form against other ways",
        ("streams", "P, dBm", "method", "ms/cell", "time over rows", "rate over rows", "asked", ""),
        "Three cells of 12 channels, Lorentzian. Time: of one step, receivers and weights after "
        "four iterations, CPU, the least of several runs. Rows: one visit to each. Clarabel: the "
        "same programme to its optimum, cone data assembled outside the clock. Zero forcing with "
        "CVXPY: as published. Common budget: the sum of a cell's limits, its multiplier by search "
        "(a weaker constraint). Rate: after 60 iterations of plain sweeps with such steps (30 "
        "visits in place of Clarabel, whose error they come within 2 % of; Newton in place of "
        "CVXPY). Asked of the rate: rows reach 0.99 of the others.",
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
    begin = hb.solve(problem, "wmmse-cd", max_iterations=4)
    link = problem.link(begin.control)
    weights = problem.weights(link, begin.digital)
    shared = cells.link(begin.control)
    count = len(h) * problem.cells
    mine, fast = _fastest(lambda: problem.digital_step(link, weights, begin.digital), 9)
    programmes = _programmes(problem, link, weights)
    cone, slow = _fastest(lambda: [_clarabel(*data) for data in programmes], 3)
    _, published = _fastest(lambda: published_zero_forcing(link, weights, problem.power), 1)
    _, search = _fastest(lambda: cells.digital_step(shared, weights, begin.digital), 9)
    start = f"{dbm:g}"
    table.add(streams, start, "rows in closed form", f"{1e3 * fast / count:.3f}", "", "", "", "")
    chains, total = problem.power.shape[2], streams * problem.users // problem.cells
    exact = torch.stack([_precoder(x, chains, total) for x in cone]).view_as(mine)
    visited = mine
    for _ in range(200):
        visited = problem.digital_step(link, weights, visited)
    rows, wanted = weights.whitened(link.e), weights.wanted(problem.cells)
    ours, theirs = (float((rows @ v - wanted).abs().square().sum()) for v in (visited, exact))
    assert theirs < ours * (1 + 1e-6), f"Clarabel ends at {theirs:g}, rows at {ours:g}"
    whole = _loop(problem, "wmmse-cd", PLAIN)
    for label, seconds, rate, asked in (
        (
            "Clarabel, data entered directly",
            slow,
            _loop(problem, "wmmse-cd", {**PLAIN, "digital_sweeps": 30}),
            10,
        ),
        ("zero forcing, CVXPY", published, _loop(problem, "zf-cd", {"max_iterations": 60}), 50),
        ("common budget, multiplier by search", search, _loop(cells, "wmmse-cd", PLAIN), 10),
    ):
        ratio, share = seconds / fast, rate / whole
        table.check(
            ratio >= asked and share <= 1 / 0.99,
            streams,
            start,
            label,
            f"{1e3 * seconds / count:.3f}",
            f"{ratio:.0f}x",
            f"{share:.3f}",
            f">= {asked}x",
        )


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
