"""Starts and guards of solvers that serve many cells at once."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.cells import CellLink
from holobeam.digital.link import Link
from holobeam.digital.zero_forcing import regularised_zero_forcing, zero_forcing
from holobeam.problems.downlink import Downlink
from holobeam.problems.multicell import MultiCell
from holobeam.problems.problem import Problem

Visits = tuple[()] | tuple[int, float]
"""Most visits to the rows and their tolerance, or nothing where no rows are visited."""

ROW_VISITS: Visits = (30, 1e-4)
"""Visits to the rows of V at most, and the move, relative to V, below which they end."""


def row_visits(problem: Problem, visits: int | None = None) -> Visits:
    """What a digital step is to be told: how often to visit rows, where rows have limits.

    None: :data:`ROW_VISITS`, measured in docs/methods.md, section 15.
    """
    if not (isinstance(problem, MultiCell) and problem.power_at == "per_rf_chain"):
        return ()
    return ROW_VISITS if visits is None else (visits, 0.0)


def best_directions(
    channel: Complex[Tensor, "*batch receivers width"], streams: int
) -> Complex[Tensor, "*batch streams width"]:
    """Rows ``u^H H`` along the strongest receive directions u, strongest first."""
    wide = channel.to(torch.complex128)
    _, basis = torch.linalg.eigh(wide @ wide.mH)
    rows: Tensor = basis[..., -streams:].flip(-1).mH @ wide
    return rows.to(channel.dtype)


def cell_alone(problem: MultiCell, cell: int) -> Downlink:
    """One cell without the others: every stream is a single-antenna user of its own."""
    own = best_directions(problem.h[:, cell, cell], problem.streams).flatten(1, 2)
    frontend = problem.frontends[cell if len(problem.frontends) > 1 else 0]
    return Downlink(
        own,
        frontend,
        noise_power=problem.noise_power[:, cell].repeat_interleave(problem.streams, dim=1),
        power=problem.power[:, cell],
        power_at=problem.power_at,
    )


def cell_digital_start(
    problem: MultiCell, link: CellLink, *, equal_power: bool
) -> Complex[Tensor, "batch cells rf_chains streams"]:
    """RZF of every cell on its own users, every stream at the same power (or plain).

    Interference from other cells is left to the iterations. Every cell then spends its budget
    (its fullest chain, under per-chain limits).
    """
    alone = _own_link(problem, link)
    total = problem.power.sum(dim=2) if problem.power_at == "per_rf_chain" else problem.power
    ratio = problem.noise_power / total.unsqueeze(2)
    ratio = ratio.repeat_interleave(problem.streams, dim=2).flatten(0, 1)
    start = regularised_zero_forcing(alone, ratio, equal_power=equal_power)
    return _at_full_power(problem, link, start)


def cell_zero_forcing_start(
    problem: MultiCell, link: CellLink
) -> Complex[Tensor, "batch cells rf_chains streams"]:
    """Zero forcing of every cell on its own users' best directions, at its whole budget.

    Needs as many chains as a cell has streams.
    """
    return _at_full_power(problem, link, zero_forcing(_own_link(problem, link)))


def _own_link(problem: MultiCell, link: CellLink) -> Link:
    """Cells as batch entries, each alone with its own streams as single-antenna users."""
    batch, cells, _, receivers, chains = link.e.shape
    users = problem.users // cells
    blocks = link.e.view(batch, cells, cells, users, receivers, chains)
    own = blocks.diagonal(dim1=1, dim2=2).permute(0, 4, 1, 2, 3)
    rows = best_directions(own, problem.streams).reshape(batch * cells, 1, -1, chains)
    return Link(rows, None if link.g is None else link.g.flatten(0, 1).unsqueeze(1))


def _at_full_power(problem: MultiCell, link: CellLink, digital: Tensor) -> Tensor:
    digital = digital.view(problem.shapes["digital"])
    load = problem.load(link, digital)
    return digital * torch.where(load > 0, load, 1.0).rsqrt()[:, :, None, None]


def random_cell_control(
    problem: MultiCell, generator: torch.Generator
) -> Complex[Tensor, "batch cells antennas controls"]:
    """Controls drawn from the element set for each cell, the same for every channel."""
    shape = problem.shapes["control"]
    dtype, device = problem.h.dtype, problem.h.device
    one = problem.frontend.element_set.sample(shape[1:], generator, dtype).to(device)
    return one.expand(shape).clone()


def keep_what_gains(
    problem: MultiCell, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Accept an analog step that changes what is radiated only where the utility doesn't fall.

    The step of all cells together where it helps; otherwise that of one cell after the other.
    Source: docs/methods.md, section 15.
    """
    control, digital, utility = _judged(problem, *old)
    together = _judged(problem, *new)
    whole = together[2] >= utility
    if not bool(whole.all()):
        for cell in range(problem.cells):
            tried = control.clone(), digital.clone()
            tried[0][:, cell], tried[1][:, cell] = new[0][:, cell], new[1][:, cell]
            candidate = _judged(problem, *tried)
            gains = candidate[2] >= utility
            control = _where(gains, candidate[0], control)
            digital = _where(gains, candidate[1], digital)
            utility = torch.where(gains, candidate[2], utility)
    return _where(whole, together[0], control), _where(whole, together[1], digital)


def _judged(
    problem: MultiCell, control: Tensor, digital: Tensor
) -> tuple[Tensor, Tensor, Float[Tensor, " batch"]]:
    link = problem.link(control)
    digital = problem.rescale(link, digital)
    return control, digital, problem.utility(link, digital)


def _where(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask[:, None, None, None], yes, no)
